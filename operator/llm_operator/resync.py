"""Reconciles everything every so often, whatever the watch has or has not reported.

It repairs what drifted: a ConfigMap edited or deleted by hand, a row, a status, an object that
vanished unseen. Its namespaces come from own lists of resources, of published configurations and of
rows, so a namespace that lost its last resource is seen too. Any failure ends a round, never the
rounds.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Iterator

from llm_operator.engine import Engine
from llm_operator.namespace import Ports
from llm_operator.ports import PortError, Unavailable

logger = logging.getLogger(__name__)

#: Seconds at most until a round that had failures is repeated.
SOON = 10.0
#: Seconds that a step may take at least before it counts as stuck; requests have shorter timeouts.
STUCK = 60.0


class Resync:
    """Rounds through all namespaces.

    Attributes:
        succeeded: when a round last ended without a failure, in seconds since 1970; 0 before that.
    """

    def __init__(
        self,
        engine: Engine,
        ports: Ports,
        *,
        every: float,
        only: frozenset[str] = frozenset(),
        width: int = 4,
    ) -> None:
        """Run nothing yet.

        Args:
            engine: what reconciles.
            ports: where namespaces are looked for.
            every: seconds between two rounds at most.
            only: the namespaces served, which rows of others do not add to; empty for all.
            width: namespaces reconciled at once.
        """
        self._engine = engine
        self._ports = ports
        self._every = every
        self._only = only
        self._width = width
        #: When a step ended last on the loop's clock, well or not; None before the first round.
        self._beat: float | None = None
        self._clean = False
        self.succeeded = 0.0

    def stale(self) -> str:
        """Why nothing goes round any more; "" while it does. A round that fails is a round."""
        if self._beat is None:
            return ""
        since = asyncio.get_running_loop().time() - self._beat
        overdue = since > max(3 * self._every, STUCK)
        return f"no step of the resync has ended for {since:.0f} s" if overdue else ""

    def pending(self) -> str:
        """What is missing until everything was compared once; "" when nothing is."""
        return "" if self._clean else "the first resync is not done"

    async def run(self) -> None:
        """Go round for ever, at once at first."""
        while True:
            self._tick()
            try:
                failures = await self.round()
            except Exception:
                # NB: this task is what repairs everything else; no error may end it.
                logger.exception("resync_failed")
                failures = 1
            self._tick()
            self._clean = self._clean or not failures
            if not failures:
                self.succeeded = time.time()
            pause = min(self._every, SOON) if failures else self._every
            # Several operators started together must not list together for ever.
            await asyncio.sleep(pause * random.uniform(0.8, 1.0))

    async def round(self) -> int:
        """Reconcile every namespace once. Returns how many steps failed."""
        ports = self._ports
        found = await asyncio.gather(
            self._look("resources", self._listed()),
            self._look("configurations", ports.sink.namespaces()),
            self._look("rows", ports.recorder.namespaces()),
        )
        if found[0] is None:
            # Where resources can't be listed nothing can be reconciled either.
            return 1
        namespaces = frozenset[str]().union(*(names for names in found if names is not None))
        if None not in found:
            self._engine.keep(namespaces)
        # NB: in another order each time, so that no namespace is always the one not come to.
        due = iter(random.sample(sorted(namespaces), len(namespaces)))
        failures = await asyncio.gather(*(self._work(due) for _ in range(self._width)))
        return found.count(None) + sum(failures)

    async def _listed(self) -> frozenset[str]:
        resources = await self._ports.source.list(None)
        return frozenset(resource.identity.namespace for resource in resources)

    async def _look(self, where: str, names: Awaitable[frozenset[str]]) -> frozenset[str] | None:
        """The namespaces of one origin; None when it can't say, which hides no others."""
        try:
            seen = await names
        except PortError as error:
            logger.warning("resync_incomplete", extra={"where": where, "detail": str(error)})
            return None
        return seen & self._only if self._only else seen

    async def _work(self, due: Iterator[str]) -> int:
        failures = 0
        for namespace in due:
            try:
                await self._engine.reconcile(namespace)
            except Unavailable:
                # The others would wait for the same timeouts; the next round is soon.
                return failures + 1
            except PortError:
                failures += 1
            except Exception:
                failures += 1
                logger.exception("reconcile_failed", extra={"namespace": namespace})
            self._tick()
        return failures

    def _tick(self) -> None:
        self._beat = asyncio.get_running_loop().time()
