"""Deadlines of many waits on one timer.

A request waits several times, and nearly every wait ends long before its deadline; a timer for each
costs more than parsing the response. Here a wait only writes down its deadline, and one look at all
of them every `TICK` finds those that passed: up to one tick late, never early. The timer runs only
while some wait has a deadline.
"""

import asyncio
import math
from collections.abc import Collection
from typing import Protocol

#: Seconds between two looks.
TICK = 0.05

#: No deadline.
NEVER = math.inf


class Watched(Protocol):
    """Something that waits. `deadline` is on the loop's clock, `NEVER` for none."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed; ends the wait, if there still is one."""


class Watch:
    """Looks at every member of a collection that others fill and empty."""

    __slots__ = ("_timer", "_watched")

    def __init__(self, watched: Collection[Watched]) -> None:
        self._watched = watched
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Looks from now on, until no member has a deadline."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._look)

    def stop(self) -> None:
        """Looks no more, until started again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        # NB: what expires may leave the collection.
        for member in [member for member in self._watched if member.deadline <= now]:
            member.deadline = NEVER
            member.expire()
        if any(member.deadline != NEVER for member in self._watched):
            self.start()
