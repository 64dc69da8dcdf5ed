"""Keeps the tables in shape: partitions ahead, hourly sums, an end to what is old.

It works in small transactions that give up at once where others hold a lock, so that it never holds
up a sync or a delivery of usage; what could not be done is done the next time. Only the leader does
it, and may as well do it twice. Data flows `partitions`, `rollup`, `purge` -> here -> `database`.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import TypeVar

from llm_operator.record import partitions, purge, rollup
from llm_operator.record.database import Database, Unserved
from llm_operator.record.pool import Connection

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two rounds, and until the next one where something could not be done.
EVERY = 600.0
AGAIN = 60.0
#: Days ahead that have a partition.
AHEAD = 2
#: Pieces of one kind that a round deletes at most, and the rows of a piece.
PIECES = 100
PIECE = 5000

_LIMIT = "SELECT set_config('lock_timeout', '250', true)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Days for which things are kept.

    Attributes:
        usage: whole days of usage records before today.
        hourly: sums of an hour.
        gone: rows of resources that are gone, and entries of the history that are out of date.
    """

    usage: int = 30
    hourly: int = 400
    gone: int = 90


class Deposed(Exception):
    """Another leads, so nothing may be written."""


class Upkeep:
    """All rounds over one database."""

    def __init__(
        self,
        database: Database,
        *,
        leads: Callable[[Connection], Awaitable[bool]],
        keep: Keep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Start nothing yet.

        Args:
            leads: whether the transaction may write, until it ends.
            jitter: a number in [0, 1), new at each call.
        """
        self._database = database
        self._leads = leads
        self._keep = keep
        self._jitter = jitter

    async def run(self) -> None:
        """A round now, and then one every ten minutes or so. Never returns, never raises."""
        while True:
            pause = EVERY if await self.once() else AGAIN
            # NB: spread, so that several operators on one server don't come at one time.
            await asyncio.sleep(pause * (0.8 + 0.4 * self._jitter()))

    async def once(self) -> bool:
        """One round. Returns whether nothing was left undone."""
        done = True
        for step in (self._make, self._roll_up, self._drop, self._purge):
            try:
                done &= await step()
            except Deposed:
                return False
            except Unserved:
                done = False
            except Exception:
                logger.exception("upkeep_failed", extra={"step": step.__name__.strip("_")})
                done = False
            if self._database.up is False:
                return False
        return done

    async def _make(self) -> bool:
        today, there = await self._days()
        ahead = [today + timedelta(days=n) for n in range(AHEAD + 1)]
        lacking = [(day, partial(partitions.make, day=day)) for day in ahead if day not in there]
        made, done = await self._each("upkeep partitions", lacking)
        for day, attached in made:
            event = "usage_partition_made" if attached else "usage_partition_not_made"
            logger.info(event, extra={"day": str(day)})
        return done

    async def _roll_up(self) -> bool:
        since = await self._oldest()
        now, hours = await self._do("upkeep rollup", partial(rollup.due, since=since))
        if not hours:
            return True
        due = [(hour, partial(rollup.roll_up, hour=hour)) for hour in hours]
        _, done = await self._each("upkeep rollup", due)
        if done:
            await self._do("upkeep rollup", partial(rollup.done, now=now))
        return done

    async def _drop(self) -> bool:
        today, there = await self._days()
        oldest = today - timedelta(days=self._keep.usage)
        old = [(day, partial(partitions.drop, day=day)) for day in sorted(there) if day < oldest]
        dropped, done = await self._each("upkeep retention", old)
        for day, _ in dropped:
            logger.info("usage_partition_dropped", extra={"day": str(day)})
        sweep = partial(partitions.sweep, before=oldest, most=PIECE)
        return await self._empty("upkeep retention", sweep, PIECE) and done

    async def _purge(self) -> bool:
        work = (
            partial(purge.tombstones, days=self._keep.gone),
            partial(purge.history, days=self._keep.gone),
            partial(purge.hourly, days=self._keep.hourly),
        )
        done = [await self._empty("upkeep purge", each, purge.MOST) for each in work]
        return all(done)

    async def _days(self) -> tuple[date, frozenset[date]]:
        """Today, and the days that have a partition."""

        async def look(connection: Connection) -> tuple[date, frozenset[date]]:
            return await partitions.today(connection), await partitions.days(connection)

        return await self._do("upkeep partitions", look)

    async def _oldest(self) -> date:
        """The first day whose usage is kept."""
        today = await self._do("upkeep rollup", partitions.today)
        return today - timedelta(days=self._keep.usage)

    async def _each(
        self,
        subject: str,
        work: Iterable[tuple[date, Callable[[Connection], Awaitable[T]]]],
    ) -> tuple[list[tuple[date, T]], bool]:
        """Do each in a transaction of its own. Returns what came of them, and whether all went
        well; where one could not be done the others are.
        """
        made: list[tuple[date, T]] = []
        failed = False
        for of, each in work:
            try:
                made.append((of, await self._do(subject, each)))
            except Unserved:
                failed = True
                if self._database.up is False:
                    break
        return made, not failed

    async def _empty(
        self, subject: str, piece: Callable[[Connection], Awaitable[int]], most: int
    ) -> bool:
        """Delete piece by piece. Returns whether nothing was left."""
        for _ in range(PIECES):
            if await self._do(subject, piece) < most:
                return True
        return False

    async def _do(self, subject: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def led(connection: Connection) -> list[T]:
            await connection.execute(_LIMIT)
            return [await work(connection)] if await self._leads(connection) else []

        done = await self._database.run(subject, led)
        if not done:
            raise Deposed
        return done[0]
