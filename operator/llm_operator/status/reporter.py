"""Writes the statuses of one namespace that differ from what stands, a few at a time.

What to say is asked for at the moment of writing, so one write carries whatever is known by then.
It never raises for one object; whoever calls it tries again when it returns False. Data flows facts
-> `conditions` -> writer.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Sequence

from llm_operator.ports import Gone, PortError, Status, StatusWriter, Unavailable
from llm_operator.resource.model import Resource
from llm_operator.status.conditions import Facts, describe, same

logger = logging.getLogger(__name__)

#: uid -> the resource and what is known of it; None when there is nothing to say.
Told = Callable[[str], tuple[Resource, Facts] | None]


class Reporter:
    """One namespace's statuses."""

    def __init__(
        self, writer: StatusWriter, *, now: Callable[[], str], slots: asyncio.Semaphore, width: int
    ) -> None:
        """Write nothing yet.

        Args:
            writer: where statuses go.
            now: the time, RFC 3339.
            slots: what all namespaces share.
            width: statuses of this namespace written at once.
        """
        self._writer = writer
        self._now = now
        self._slots = slots
        self._width = width
        #: uid -> what needed no write: the generation, what was known, the status that stood.
        self._settled: dict[str, tuple[int, Facts, Status | None]] = {}
        #: uid -> the status that stands, and since when on the loop's clock that is known.
        self._standing: dict[str, tuple[float, Status | None]] = {}

    def take(self, listing: Sequence[Resource], *, begun: float) -> None:
        """Go by the statuses of this listing, but for those written after it was begun."""
        before = self._standing
        self._standing = {}
        listed = {resource.identity.uid for resource in listing}
        self._settled = {uid: seen for uid, seen in self._settled.items() if uid in listed}
        for resource in listing:
            uid = resource.identity.uid
            since, status = before.get(uid, (begun, resource.status))
            self._standing[uid] = (since, status) if since > begun else (begun, resource.status)

    async def report(self, uids: Collection[str], told: Told) -> bool:
        """Write what differs. Returns False when something that should be written was not."""
        due = iter([uid for uid in uids if self._desired(uid, told) is not None])
        failures: list[PortError] = []
        await asyncio.gather(*(self._work(due, told, failures) for _ in range(self._width)))
        if failures:
            logger.warning(
                "status_not_written", extra={"count": len(failures), "detail": str(failures[0])}
            )
        return not failures

    async def _work(self, due: Iterator[str], told: Told, failures: list[PortError]) -> None:
        for uid in due:
            async with self._slots:
                desired = self._desired(uid, told)
                if desired is None:
                    continue
                try:
                    await self._writer.write(*desired)
                except Gone:
                    continue
                except PortError as error:
                    failures.append(error)
                    if isinstance(error, Unavailable):
                        # The others would only wait for the same timeout.
                        return
                    continue
                self._standing[uid] = (asyncio.get_running_loop().time(), desired[1])

    def _desired(self, uid: str, told: Told) -> tuple[Resource, Status] | None:
        """The resource and the status it lacks; None when it lacks none."""
        found = told(uid)
        if found is None:
            return None
        resource, facts = found
        _, standing = self._standing.get(uid, (0.0, resource.status))
        seen = (resource.identity.generation, facts, standing)
        if self._settled.get(uid) == seen:
            return None
        desired = describe(resource, facts, previous=standing, now=self._now())
        if not same(standing, desired):
            return resource, desired
        self._settled[uid] = seen
        return None
