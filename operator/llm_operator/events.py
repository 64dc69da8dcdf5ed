"""Kubernetes events: what `kubectl describe` tells of the past of a resource.

    reporter, publisher -> Events -> (a bounded queue, so many a second) -> API server

What nobody has room for is dropped and counted; no event is worth a delay of anything else, and
none is ever waited for. What happens again soon is counted into the event that is there. A message
is a condition's, which never holds a secret. Which changes give one stands in `transitions`.
"""

import asyncio
import logging
import random
import socket
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_operator.api import API, METADATA_EACH
from llm_operator.engine import utc_now
from llm_operator.ports import Gone, PortError, Status, Unavailable
from llm_operator.publish.configmap import NAME, OPERATOR
from llm_operator.resource.model import API_VERSION, KIND, Resource
from llm_operator.transitions import EventReason, EventType, Happening, happenings

logger = logging.getLogger(__name__)

#: Events a second in the long run, and at once after a rest.
RATE, BURST = 10.0, 100
#: Events that wait at most.
MOST = 1000
#: Seconds in which what happens again is counted into the event that is there, and how many of
#: those are remembered.
TOGETHER, REMEMBERED = 600.0, 4096
#: Attempts at one event. Seconds until the next attempt at any, at first and at most.
TRIES, AGAIN, AGAIN_LONGEST = 3, 1.0, 60.0
#: Characters of a message that the API server takes.
LONGEST = 1024

MERGE = "application/merge-patch+json"

DRIFT = Happening(
    reason=EventReason.DRIFT_REPAIRED,
    type=EventType.WARNING,
    message="Somebody else had changed it; it holds what the LLMBackends of its namespace say "
    "again. Change those.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Involved:
    """The object that an event is about; without a uid it is asked for when the event leaves."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(slots=True, kw_only=True)
class _Series:
    """One thing that happened to one object, so many times.

    Attributes:
        name: of the event.
        first, last: when, RFC 3339.
        at: the last time on the loop's clock.
        waits: it is in the queue.
        created: the event is there.
    """

    involved: Involved
    happening: Happening
    name: str
    first: str
    last: str = ""
    at: float = 0.0
    count: int = 0
    tries: int = 0
    waits: bool = False
    created: bool = False


@dataclass(slots=True)
class Bucket:
    """So many at once, and so many a second from then on."""

    rate: float
    burst: float
    clock: Callable[[], float]
    _tokens: float = field(init=False)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens, self._at = self.burst, self.clock()

    def take(self) -> float:
        """Take one. Returns the seconds to wait for it."""
        now = self.clock()
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate) - 1
        self._at = now
        return max(0.0, -self._tokens / self.rate)


class Events:
    """A `Teller`. What it is told leaves while `run` does."""

    def __init__(
        self,
        api: API,
        *,
        now: Callable[[], str] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._now = now
        self._clock = clock
        self._bucket = Bucket(RATE, BURST, clock)
        self._queues: Mapping[EventType, deque[_Series]] = {
            EventType.WARNING: deque(),
            EventType.NORMAL: deque(),
        }
        self._woken = asyncio.Event()
        #: What happened lately, the latest last.
        self._lately: OrderedDict[tuple[Involved, Happening], _Series] = OrderedDict()
        #: namespace -> uids of those that were well at first sight, which is told once.
        self._well: dict[str, set[str]] = {}
        self._counts = Counter(created=0, repeated=0, dropped=0, failed=0)
        self._failing = False

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of events so far, by result."""
        return self._counts

    # What it is told.

    def listed(self, namespace: str, resources: Sequence[Resource]) -> None:
        """These are all of a namespace."""
        well = self._well.pop(namespace, set()) & {one.identity.uid for one in resources}
        if well:
            self._well[namespace] = well

    def told(self, resource: Resource, before: Status | None, after: Status) -> None:
        """This status has just been written."""
        identity = resource.identity
        involved = Involved(
            api_version=API_VERSION,
            kind=KIND,
            namespace=identity.namespace,
            name=identity.name,
            uid=identity.uid,
        )
        for happening in happenings(before, after):
            if before is None and happening.reason is EventReason.READY:
                well = self._well.setdefault(identity.namespace, set())
                if identity.uid in well:
                    continue
                well.add(identity.uid)
            self._add(involved, happening)

    def repaired(self, namespace: str) -> None:
        """The ConfigMap is as it should be again."""
        involved = Involved(api_version="v1", kind="ConfigMap", namespace=namespace, name=NAME)
        self._add(involved, DRIFT)

    def _add(self, involved: Involved, happening: Happening) -> None:
        now, at = self._now(), self._clock()
        while self._lately and (
            len(self._lately) >= REMEMBERED or at - next(iter(self._lately.values())).at >= TOGETHER
        ):
            self._lately.popitem(last=False)
        series = self._lately.setdefault(
            (involved, happening),
            _Series(
                involved=involved,
                happening=happening,
                name=f"{involved.name[:200]}.{uuid.uuid4().hex[:16]}",
                first=now,
            ),
        )
        self._lately.move_to_end((involved, happening))
        series.count += 1
        series.last, series.at, series.tries = now, at, 0
        if not series.waits:
            self._queue(series)

    def _queue(self, series: _Series) -> None:
        """Let it wait for its turn; where there is no room, a warning takes that of another."""
        normal = self._queues[EventType.NORMAL]
        if sum(map(len, self._queues.values())) >= MOST:
            self._counts["dropped"] += 1
            if series.happening.type is EventType.NORMAL or not normal:
                return
            normal.popleft().waits = False
        series.waits = True
        self._queues[series.happening.type].append(series)
        self._woken.set()

    # What leaves.

    async def run(self) -> None:
        """Post what there is, for ever; no failure ends it."""
        pause = AGAIN
        while True:
            await self._woken.wait()
            await asyncio.sleep(self._bucket.take())
            series = self._next()
            try:
                await self._post(series)
                self._failing, pause = False, AGAIN
            except Gone:
                # The object, or its namespace, is going.
                self._counts["dropped"] += 1
            except Exception as error:
                self._failed(series, error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, AGAIN_LONGEST)

    def _next(self) -> _Series:
        """Warnings first."""
        queue = self._queues[EventType.WARNING] or self._queues[EventType.NORMAL]
        series = queue.popleft()
        series.waits = False
        if not any(self._queues.values()):
            self._woken.clear()
        return series

    def _failed(self, series: _Series, error: Exception) -> None:
        if not isinstance(error, PortError):
            logger.exception("event_broken")
        elif not self._failing:
            self._failing = True
            logger.warning("events_not_posted", extra={"detail": str(error)})
        series.tries += 1
        if isinstance(error, Unavailable) and series.tries < TRIES:
            if not series.waits:
                self._queue(series)
        else:
            self._counts["failed"] += 1

    async def _post(self, series: _Series) -> None:
        path = f"/api/v1/namespaces/{series.involved.namespace}/events"
        if series.created:
            try:
                body = {"count": series.count, "lastTimestamp": series.last}
                await self._api.request("PATCH", f"{path}/{series.name}", body=body, content=MERGE)
                self._counts["repeated"] += 1
                return
            except Gone:
                # The API server keeps events for an hour, or for less.
                series.created = False
        uid = series.involved.uid or await self._uid(series.involved)
        await self._api.request("POST", path, body=_manifest(series, uid))
        series.created = True
        self._counts["created"] += 1

    async def _uid(self, involved: Involved) -> str:
        """NB: without it `kubectl describe` does not show the event."""
        path = f"/api/v1/namespaces/{involved.namespace}/configmaps/{involved.name}"
        found = await self._api.get(path, accept=METADATA_EACH)
        return str(found["metadata"]["uid"])


def _manifest(series: _Series, uid: str) -> dict[str, Any]:
    involved, happening = series.involved, series.happening
    message = happening.message
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": series.name, "namespace": involved.namespace},
        "involvedObject": {
            "apiVersion": involved.api_version,
            "kind": involved.kind,
            "namespace": involved.namespace,
            "name": involved.name,
            "uid": uid,
        },
        "type": happening.type.value,
        "reason": happening.reason.value,
        "message": message if len(message) <= LONGEST else f"{message[: LONGEST - 3]}...",
        "firstTimestamp": series.first,
        "lastTimestamp": series.last,
        "count": series.count,
        # NB: kubectl shows this one, and the newer API the other two.
        "source": {"component": OPERATOR},
        "reportingComponent": OPERATOR,
        "reportingInstance": socket.gethostname(),
    }
