"""Whether the watch hears what happens: it compares what it brings with what lists show.

A watch can go deaf without an error: a connection that carries nothing any more, a task that ended
unseen. The resync goes on repairing, a minute late each time, and nobody notices. So a generation
that a list has shown and the watch has not brought for a while ends the process; Kubernetes starts
it anew. An object that is merely slow or stuck ends nothing. Data flows lists, watch -> `Watchdog`
-> an end.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llm_operator.ports import Source
from llm_operator.resource.model import Resource

logger = logging.getLogger(__name__)

#: Seconds that the watch may be behind the lists.
BEHIND = 30.0
#: Seconds between two looks.
EVERY = 1.0
#: Seconds that the process has for an orderly end once the watch is deaf.
GRACE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A generation that a list has shown and the watch has not brought.

    Attributes:
        since: when a list showed it first.
    """

    namespace: str
    name: str
    generation: int
    since: float


class Watchdog:
    """Of one watch, from its start to its end.

    Attributes:
        fault: why the watch is deaf; "" while it is not. Once set it stays.
        brought: when the watch last brought anything, in seconds since 1970; 0 before that.
    """

    def __init__(
        self,
        *,
        at_work: Callable[[str], bool],
        behind: float = BEHIND,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch nothing yet.

        Args:
            at_work: whether the object of a uid has been brought and is being worked on; then it is
                not the watch that is behind.
            behind: seconds that the watch may be behind the lists.
            clock: seconds.
        """
        self.fault = ""
        self.brought = 0.0
        self._at_work = at_work
        self._behind = behind
        self._clock = clock
        #: uid -> the generation that the watch brought last, and when.
        self._heard: dict[str, tuple[int, float]] = {}
        self._missed: dict[str, Missed] = {}

    def heard(self, uid: str, generation: int, *, gone: bool = False) -> None:
        """The watch has brought an object at this generation, or its end."""
        self.brought = time.time()
        if gone:
            self._heard.pop(uid, None)
            self._missed.pop(uid, None)
            return
        self._heard[uid] = (generation, self._clock())
        missed = self._missed.pop(uid, None)
        if missed is not None and missed.generation > generation:
            # It is behind, but it brings something.
            self._missed[uid] = replace(missed, since=self._clock())

    def listed(self, namespace: str | None, resources: Sequence[Resource], *, begun: float) -> None:
        """A list that was asked for at `begun` shows these.

        Args:
            namespace: whose they are; None for all namespaces served.
            resources: all there are.
            begun: on the clock of this object.
        """
        missed = {
            uid: one
            for uid, one in self._missed.items()
            if namespace is not None and one.namespace != namespace
        }
        for resource in resources:
            identity = resource.identity
            # NB: one that is being deleted may change with nobody watching: without our finalizer.
            if resource.deleting or self._has(identity.uid, identity.generation):
                continue
            before = self._missed.get(identity.uid)
            missed[identity.uid] = Missed(
                namespace=identity.namespace,
                name=identity.name,
                generation=identity.generation,
                since=before.since if before is not None else begun,
            )
        self._missed = missed
        if namespace is None:
            there = {resource.identity.uid for resource in resources}
            self._heard = {
                uid: heard
                for uid, heard in self._heard.items()
                if uid in there or heard[1] >= begun
            }

    def deaf(self) -> str:
        """Why the watch counts as deaf; "" while it does not."""
        if not self.fault:
            now = self._clock()
            for uid, missed in self._missed.items():
                if now - missed.since > self._behind and not self._at_work(uid):
                    self.fault = (
                        f"the watch has not brought generation {missed.generation} of "
                        f"{missed.namespace}/{missed.name}, listed {now - missed.since:.0f} s ago"
                    )
                    break
        return self.fault

    async def run(self, stop: asyncio.Event) -> None:
        """Look every second; once the watch is deaf set `stop`, and see to it that the process
        ends.
        """
        while True:
            await asyncio.sleep(EVERY)
            if self.deaf():
                break
        logger.error("watch_deaf", extra={"detail": self.fault})
        stop.set()
        await asyncio.sleep(GRACE)
        os._exit(1)

    def _has(self, uid: str, generation: int) -> bool:
        return uid in self._heard and self._heard[uid][0] >= generation


class Overheard:
    """A `Source` whose lists a watchdog sees."""

    def __init__(
        self,
        source: Source,
        watchdog: Watchdog,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._watchdog = watchdog
        self._clock = clock

    async def list(self, namespace: str | None) -> Sequence[Resource]:
        """What the source lists."""
        begun = self._clock()
        resources = await self._source.list(namespace)
        self._watchdog.listed(namespace, resources, begun=begun)
        return resources
