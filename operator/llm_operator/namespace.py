"""One namespace: keeps what is published, recorded and reported of it equal to its resources.

Three lanes that never wait for each other, so that a lost database delays no route and a slow
status no row:

    source.list -> publisher -> sink, vault   publishing, debounced
                 └-> ledger -> recorder       recording, again by itself while there is no database
                      └-> reporter -> writer  reporting, after either, and when routers say anything

Each writes only what differs from what stands, and none ever writes a spec.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llm_operator.lane import Lane
from llm_operator.ledger import Ledger
from llm_operator.plan import Addresses
from llm_operator.ports import (
    Finder,
    PortError,
    Recorder,
    Sink,
    Source,
    StatusWriter,
    Teller,
    Vault,
    Witness,
)
from llm_operator.publish.publisher import Publisher
from llm_operator.references.keeper import Keeper
from llm_operator.resource.model import Resource
from llm_operator.routers.lineage import Lineage
from llm_operator.status.conditions import Facts
from llm_operator.status.reporter import Reporter

logger = logging.getLogger(__name__)

#: Seconds a status waits, so that what publishing and recording find out goes into one write.
GATHER, GATHER_LONGEST = 0.05, 0.5
#: Seconds until statuses that could not be written are tried again: the first time, and at most.
AGAIN, AGAIN_LONGEST = 1.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast, and how much at once.

    Attributes:
        quiet: seconds without a request after which a namespace is published.
        longest: seconds after the first request at which it is published anyhow.
        publishing: namespaces listed and published at once.
        reporting: statuses written at once.
    """

    quiet: float = 0.1
    longest: float = 2.0
    publishing: int = 4
    reporting: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The adapters to work with.

    Attributes:
        vault: None where routers read themselves what `finder` finds.
        routers: None where nobody asks them.
        tellers: who is told what happened.
    """

    source: Source
    sink: Sink
    recorder: Recorder
    writer: StatusWriter
    finder: Finder
    vault: Vault | None = None
    routers: Witness | None = None
    tellers: Sequence[Teller] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all namespaces have in common; the semaphores bound what they do at once."""

    ports: Ports
    addresses: Addresses
    pace: Pace
    now: Callable[[], str]
    publishing: asyncio.Semaphore
    reporting: asyncio.Semaphore


class Namespace:
    """The lanes of one namespace and what they know of each other.

    Attributes:
        publishing: lists, plans and publishes; those who wait for a run get its PortError.
        recording: brings the rows in line.
        reporting: writes the statuses that differ.
    """

    def __init__(self, name: str, shared: Shared) -> None:
        self._name = name
        self._shared = shared
        ports, pace = shared.ports, shared.pace
        self._publisher = Publisher(
            name,
            ports.sink,
            keeper=Keeper(name, ports.finder, ports.vault),
            addresses=shared.addresses,
            tellers=ports.tellers,
        )
        self._ledger = Ledger(name, ports.recorder)
        self._reporter = Reporter(
            ports.writer,
            now=shared.now,
            slots=shared.reporting,
            width=pace.reporting,
            namespace=name,
            tellers=ports.tellers,
        )
        self._lineage = Lineage()
        self._unreported = 0
        self.publishing = Lane(
            self._publish, name=f"publish {name}", quiet=pace.quiet, longest=pace.longest
        )
        self.recording = Lane(self._record, name=f"record {name}")
        self.reporting = Lane(
            self._report, name=f"report {name}", quiet=GATHER, longest=GATHER_LONGEST
        )
        if ports.routers is not None:
            ports.routers.follow(name, self.reporting.nudge)

    @property
    def idle(self) -> bool:
        """Nothing is at work, and nothing is left to be done."""
        lanes = (self.publishing, self.recording, self.reporting)
        return self._ledger.empty and all(lane.idle for lane in lanes)

    def forgot(self, uid: str) -> bool:
        """Whether a resource that is being deleted has no row any more, as far as was asked."""
        return self._ledger.forgot(uid)

    async def close(self) -> None:
        """End all three lanes, and the questions to the routers."""
        if self._shared.ports.routers is not None:
            await self._shared.ports.routers.forget(self._name)
        for lane in (self.publishing, self.recording, self.reporting):
            await lane.close()

    async def _publish(self) -> None:
        async with self._shared.publishing:
            try:
                await self._pass()
            except PortError as error:
                logger.warning("pass_failed", extra={"namespace": self._name, "detail": str(error)})
                raise

    async def _pass(self) -> None:
        begun = asyncio.get_running_loop().time()
        listing = await self._shared.ports.source.list(self._name)
        self._ledger.take(listing)
        self._reporter.take(listing, begun=begun)
        try:
            await self._publisher.publish(listing)
        finally:
            self._observe()
            # Also after a failure: what is recorded does not hang on what is published.
            self.recording.nudge()
            self.reporting.nudge()

    def _observe(self) -> None:
        routers, view = self._shared.ports.routers, self._publisher.view
        if routers is not None and view.checksum:
            self._lineage.publish(view.checksum, view.standing)
            routers.published(self._name, view.checksum)

    async def _record(self) -> None:
        served = await self._ledger.record()
        if not served:
            self.recording.nudge_in(self._shared.ports.recorder.retry_after)
        self.reporting.nudge()

    async def _report(self) -> None:
        # What the record is about to answer goes into the same write, unless it takes its time.
        await self.recording.settled(within=GATHER_LONGEST)
        routers = self._shared.ports.routers
        if routers is not None and routers.seen(self._name) is None:
            await routers.settled(self._name, within=GATHER_LONGEST)
        done = await self._reporter.report(self._publisher.view.resources, self._told)
        if self._reporter.held is not None:
            self.reporting.nudge_in(self._reporter.held)
        if done:
            self._unreported = 0
            return
        longest = min(AGAIN_LONGEST, AGAIN * 2.0 ** min(self._unreported, 16))
        self._unreported += 1
        self.reporting.nudge_in(longest * random.uniform(0.5, 1.0))

    def _told(self, uid: str) -> tuple[Resource, Facts] | None:
        view = self._publisher.view
        if uid not in view.resources or view.outcome is None:
            return None
        resource = view.resources[uid]
        routers = self._shared.ports.routers
        seen = routers.seen(self._name) if routers is not None else None
        return resource, Facts(
            verdict=view.verdicts[uid],
            resolution=view.resolutions[uid],
            planned=view.planned.get(uid),
            standing=view.standing.get(uid),
            checksum=view.checksum,
            published=view.outcome.reason,
            trouble=view.outcome.message,
            recorded=self._ledger.answer(resource),
            said=None if seen is None else seen.of(uid, outdated=self._lineage.outdated(uid)),
        )
