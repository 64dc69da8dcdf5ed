"""Writes the statuses of one namespace that differ from what stands, a few at a time.

What to say is asked for at the moment of writing, so one write carries whatever is known by then.
What only the routers say is held back a little, because it may change often. It never raises for
one object; whoever calls it tries again when it returns False, and after `held`. Data flows facts
-> `conditions` -> writer.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llm_operator.ports import Gone, PortError, Status, StatusWriter, Teller, Unavailable
from llm_operator.resource.model import Resource
from llm_operator.status.conditions import Difference, Facts, describe, difference

logger = logging.getLogger(__name__)

#: Seconds between two writes to one resource that say no more than this.
PAUSES: Mapping[Difference, float] = {Difference.PLANE: 5.0, Difference.FIGURE: 60.0}

#: uid -> the resource and what is known of it; None when there is nothing to say.
Told = Callable[[str], tuple[Resource, Facts] | None]


#: Statuses that one worker compares before it lets others have the event loop.
TURN = 10


@dataclass(frozen=True, slots=True)
class _Due:
    """A write that is to be made: the status, the one it replaces, and what is new in it."""

    resource: Resource
    before: Status | None
    after: Status
    news: Difference


class Reporter:
    """One namespace's statuses.

    Attributes:
        held: seconds until the first of the writes is due that the last report held back; None
            when it held none back.
    """

    def __init__(
        self,
        writer: StatusWriter,
        *,
        now: Callable[[], str],
        slots: asyncio.Semaphore,
        width: int,
        namespace: str = "",
        tellers: Sequence[Teller] = (),
    ) -> None:
        """Write nothing yet.

        Args:
            writer: where statuses go.
            now: the time, RFC 3339.
            slots: what all namespaces share.
            width: statuses of this namespace written at once.
            namespace: whose statuses.
            tellers: who is told what was listed and what was written.
        """
        self.held: float | None = None
        self._namespace = namespace
        self._tellers = tellers
        self._writer = writer
        self._now = now
        self._slots = slots
        self._width = width
        #: uid -> what needed no write: the generation, whether paused, what was known, the status
        #: that stood.
        self._settled: dict[str, tuple[int, bool, Facts, Status | None]] = {}
        #: uid -> the status that stands, and since when on the loop's clock that is known.
        self._standing: dict[str, tuple[float, Status | None]] = {}
        #: uid -> when on the loop's clock what the routers say was written last for its own sake.
        self._observed: dict[str, float] = {}

    def take(self, listing: Sequence[Resource], *, begun: float) -> None:
        """Go by the statuses of this listing, but for those written after it was begun."""
        before = self._standing
        self._standing = {}
        listed = {resource.identity.uid for resource in listing}
        self._settled = {uid: seen for uid, seen in self._settled.items() if uid in listed}
        self._observed = {uid: at for uid, at in self._observed.items() if uid in listed}
        for resource in listing:
            uid = resource.identity.uid
            since, status = before.get(uid, (begun, resource.status))
            self._standing[uid] = (since, status) if since > begun else (begun, resource.status)
        for teller in self._tellers:
            teller.listed(self._namespace, listing)

    async def report(self, uids: Collection[str], told: Told) -> bool:
        """Write what differs. Returns False when something that should be written was not."""
        self.held = None
        left = iter(list(uids))
        failures: list[PortError] = []
        await asyncio.gather(*(self._work(left, told, failures) for _ in range(self._width)))
        if failures:
            logger.warning(
                "status_not_written", extra={"count": len(failures), "detail": str(failures[0])}
            )
        return not failures

    async def _work(self, left: Iterator[str], told: Told, failures: list[PortError]) -> None:
        for number, uid in enumerate(left, 1):
            if number % TURN == 0:
                await asyncio.sleep(0)
            due = self._due(uid, told)
            if due is None:
                continue
            waits = self._slots.locked()
            async with self._slots:
                if waits and (due := self._due(uid, told)) is None:
                    continue
                if not await self._write(uid, due, failures):
                    return

    async def _write(self, uid: str, due: _Due, failures: list[PortError]) -> bool:
        """Returns False when the others need not be tried."""
        try:
            await self._writer.write(due.resource, due.after)
        except Gone:
            return True
        except PortError as error:
            failures.append(error)
            # What is away is away for the others too, and they would wait for the same timeout.
            return not isinstance(error, Unavailable)
        self._written(uid, due)
        return True

    def _written(self, uid: str, due: _Due) -> None:
        at = asyncio.get_running_loop().time()
        self._standing[uid] = (at, due.after)
        if due.news in PAUSES:
            self._observed[uid] = at
        for teller in self._tellers:
            teller.told(due.resource, due.before, due.after)

    def _due(self, uid: str, told: Told) -> _Due | None:
        """What is to be written for a resource now; None when nothing is."""
        found = told(uid)
        if found is None:
            return None
        resource, facts = found
        _, standing = self._standing.get(uid, (0.0, resource.status))
        seen = (resource.identity.generation, resource.paused, facts, standing)
        if self._settled.get(uid) == seen:
            return None
        desired = describe(resource, facts, previous=standing, now=self._now())
        news = difference(standing, desired)
        if news is Difference.NONE:
            self._settled[uid] = seen
            return None
        return None if self._holds(uid, news) else _Due(resource, standing, desired, news)

    def _holds(self, uid: str, news: Difference) -> bool:
        """Whether a write has to wait because another one was made a moment ago."""
        last = self._observed.get(uid)
        if news not in PAUSES or last is None:
            return False
        left = last + PAUSES[news] - asyncio.get_running_loop().time()
        if left > 0:
            self.held = left if self.held is None else min(self.held, left)
        return left > 0
