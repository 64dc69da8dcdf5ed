"""One replica's part in the election: takes the Lease when it is free, renews it, gives it back.

Whoever holds it and can't renew it in time ends the process before another may take it. That is
done by a thread, which no work on the event loop can delay, and without any farewell: an orderly
end would go on writing while another leads. Data flows API server -> `lease` -> `leading`, `epoch`.
"""

import asyncio
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from llm_operator.leader import lease
from llm_operator.leader.lease import Object, Sight, Step
from llm_operator.ports import Gone, PortError

logger = logging.getLogger(__name__)

#: Seconds at most between two looks at the clock by the thread. NB: it sleeps on a clock that
#: stands still while the machine does.
GLANCE = 1.0


class Requests(Protocol):
    """What is asked of the API server."""

    async def get(self, path: str) -> dict[str, Any]:
        """An object."""

    async def request(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The JSON that answers a request."""


def clock() -> float:
    """Seconds that go on in sleep, of the process or of the whole machine."""
    boot: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


def identity() -> str:
    """Who this process is, unlike any other; in a pod it begins with the pod's name."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}"


def ended() -> None:
    """End the process at once, so that nothing it had begun goes on."""
    os._exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often, in seconds.

    Attributes:
        lease: how long it is held without being renewed.
        deadline: how long the holder goes on without having renewed it; less than `lease`.
        retry: from one renewal to the next.
    """

    lease: int
    deadline: float
    retry: float

    @classmethod
    def of(cls, seconds: int) -> "Pace":
        """The usual proportions: 15, 10 and 2."""
        return cls(lease=seconds, deadline=seconds * 2 / 3, retry=seconds * 2 / 15)

    @property
    def look(self) -> float:
        """From one look of those that wait to the next; reading costs little, and they take over
        the sooner.
        """
        return self.retry / 2

    @property
    def attempt(self) -> float:
        """What one attempt may take, so that there is time for another."""
        return self.deadline / 2


class Election:
    """The candidacy of one replica, for one term.

    Attributes:
        epoch: of its term; 0 before it leads.
    """

    def __init__(
        self,
        api: Requests,
        *,
        namespace: str,
        name: str,
        pace: Pace,
        me: str = "",
        end: Callable[[], None] = ended,
        clock: Callable[[], float] = clock,
    ) -> None:
        """Ask nothing yet.

        Args:
            api: the API server. It should serve nobody else, so that no burst delays a renewal.
            namespace: of the Lease.
            name: of the Lease.
            pace: how often.
            me: the holder's name; must be nobody else's.
            end: ends the process without delay.
            clock: seconds, of this machine alone.
        """
        self.epoch = 0
        self._api = api
        self._place = (namespace, name)
        self._pace = pace
        self._me = me or identity()
        self._end = end
        self._clock = clock
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._leases}/{name}"
        self._sight: Sight | None = None
        #: As it was read or written last; not to be gone by after a write without an answer.
        self._object: Object | None = None
        self._doubt = False
        self._held = False
        self._until = 0.0
        self._over = threading.Event()
        self._renewing: asyncio.Task[None] | None = None
        self._told = ""

    @property
    def leading(self) -> bool:
        """Whether the Lease is held, and can't have been taken by another yet."""
        return self._held and self._clock() < self._until

    async def gained(self, stop: asyncio.Event) -> bool:
        """Wait for the Lease as long as it takes. Returns False when `stop` is set before that."""
        while not stop.is_set():
            if await self._attempted(self._take):
                threading.Thread(target=self._guard, name="lease", daemon=True).start()
                self._renewing = asyncio.create_task(self._keep(), name="renew the Lease")
                self._log("lease_gained", epoch=self.epoch)
                return True
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._pace.look * random.uniform(0.7, 1.0))
        return False

    async def release(self) -> None:
        """Give the Lease back, so that another may have it at once.

        Call it when nothing writes any more.
        """
        if not self._held:
            return
        self._held = False
        self._over.set()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        if await self._attempted(self._give_back):
            self._log("lease_released", epoch=self.epoch)

    # Each is one attempt: it says whether it got there, and may raise whatever it likes.

    async def _take(self) -> bool:
        sight = await self._look()
        if lease.decide(sight, me=self._me, leading=False, now=self._clock()) is Step.WAIT:
            holder = sight.lease.holder if sight.lease else "none"
            self._tell("lease_standby", holder)
            return False
        epoch = lease.epoch_of(sight.lease, me=self._me, at=datetime.now(UTC))
        await self._write(epoch)
        self.epoch, self._held = epoch, True
        return True

    async def _renew(self) -> bool:
        if self._doubt:
            sight = await self._look()
            if lease.decide(sight, me=self._me, leading=True, now=self._clock()) is Step.LOST:
                self._lose("another replica has taken the Lease")
                return True
        await self._write(self.epoch)
        self._told = ""
        return True

    async def _give_back(self) -> bool:
        sight = await self._look()
        if self._object is None or sight.lease is None or sight.lease.holder != self._me:
            return False
        body = lease.released(self._object, at=datetime.now(UTC))
        await self._api.request("PUT", self._path, body=body)
        return True

    async def _look(self) -> Sight:
        try:
            self._object = await self._api.get(self._path)
        except Gone:
            self._object = None
        found = self._object and lease.read(self._object, seconds=self._pace.lease)
        self._sight = lease.see(self._sight, found or None, me=self._me, now=self._clock())
        return self._sight

    async def _write(self, epoch: int) -> None:
        body = lease.held(
            self._object,
            place=self._place,
            me=self._me,
            seconds=self._pace.lease,
            epoch=epoch,
            at=datetime.now(UTC),
        )
        # NB: from before the request: when the API server took it, it is not known.
        begun, self._doubt = self._clock(), True
        method, path = ("POST", self._leases) if self._object is None else ("PUT", self._path)
        self._object = await self._api.request(method, path, body=body)
        self._until, self._doubt = begun + self._pace.deadline, False

    async def _attempted(self, attempt: Callable[[], Awaitable[bool]]) -> bool:
        try:
            async with asyncio.timeout(self._pace.attempt):
                return await attempt()
        except (PortError, TimeoutError) as error:
            told = str(error) or "no answer in time"
            self._tell("lease_unavailable", told, level=logging.WARNING)
        except Exception:
            # NB: nothing else would begin again.
            logger.exception("lease_broken", extra={"lease": "/".join(self._place)})
        return False

    async def _keep(self) -> None:
        while self._held:
            await asyncio.sleep(self._pace.retry * random.uniform(0.8, 1.0))
            await self._attempted(self._renew)

    def _guard(self) -> None:
        while not self._over.wait(min(max(0.0, self._until - self._clock()), GLANCE)):
            if self._clock() >= self._until:
                self._lose("the Lease could not be renewed in time")

    def _lose(self, why: str) -> None:
        # NB: first of all, because a log line can take its time.
        self._held = False
        self._over.set()
        logger.error("lease_lost", extra={"lease": "/".join(self._place), "detail": why})
        self._end()

    def _tell(self, event: str, detail: str, *, level: int = logging.INFO) -> None:
        """One line for each change, however often it is tried."""
        if (told := f"{event} {detail}") != self._told:
            self._told = told
            self._log(event, detail=detail, level=level)

    def _log(self, event: str, *, level: int = logging.INFO, **details: object) -> None:
        place = "/".join(self._place)
        logger.log(level, event, extra={"lease": place, "candidate": self._me, **details})
