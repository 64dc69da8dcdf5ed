"""Postgres as the admin side reads it: the statements of `record` behind the `Archive` port.

It holds no statement and decides nothing; it bounds what one caller can cost the others, and says
Away where the record says why not. Data flows `record` -> here -> values of `admin.model`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Self, TypeVar

from llm_operator.admin.errors import Away, Invalid
from llm_operator.admin.model import Generation, Sample, Totals
from llm_operator.compare.model import Arm, Point
from llm_operator.reasons import DatabaseSynced
from llm_operator.record import arms, ids, past, samples, totals, usage
from llm_operator.record.database import Database, Unserved
from llm_operator.record.overlong import Overlong
from llm_operator.record.pool import Connection
from llm_operator.record.shared import Shared

T = TypeVar("T")

#: Large questions at one time: some of the pool's connections are always left for usage.
LARGE = 2
#: Those that are under way or wait; one more is told to come again in so many seconds.
WAITING = 8
BUSY_SECONDS = 2.0

#: Seconds for which totals are good, at least and at most.
TOTALS_GOOD = 5.0
TOTALS_LONGEST = 60.0

#: The longest step of a series in seconds; a longer one holds no more.
LONGEST_STEP = 366 * 86_400
#: The highest generation there can be.
HIGHEST = 2**63 - 1

_RARE = "backend: it is too rare among the recorded requests to be found in time; name a model too"
_SHORTER = "since: there are too many records since then to sum them up at once; ask for less time"

_WHY: Mapping[DatabaseSynced, str] = {
    DatabaseSynced.DATABASE_UNAVAILABLE: "the database can't be used now",
    DatabaseSynced.SCHEMA_OUTDATED: "the database's schema is older than this release: "
    "run llmb migrate",
}


class Archive:
    """The `Archive` port over one database; an async context manager that opens without waiting
    for the server.
    """

    def __init__(self, dsn: str, *, application_name: str = "llmb-admin") -> None:
        """Check the URL; connect to nothing.

        Raises:
            record.InvalidDatabaseURL: the URL can't be used.
        """
        self._database = Database(dsn, application_name=application_name)
        self._large = asyncio.Semaphore(LARGE)
        self._waiting = 0
        self._totals = Shared(
            self._sum, good=TOTALS_GOOD, longest=TOTALS_LONGEST, clock=time.monotonic
        )

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._totals.close()
        await self._database.__aexit__()

    @property
    def up(self) -> bool | None:
        """Whether the database could be used when it was last tried; None before that."""
        return self._database.up

    async def ids(self) -> Mapping[str, int]:
        """The number of each live resource by its uid."""
        return await self._run("ids", ids.ids)

    async def totals(self) -> Mapping[str, Totals]:
        """What recorded traffic says, by the resource's uid; a few seconds old."""
        try:
            return await self._totals.get()
        except Unserved as unserved:
            raise self._away(unserved) from None
        except Overlong:
            detail = "too much usage was never summed up: see that an operator runs"
            raise Away(detail, retry_after=TOTALS_LONGEST) from None

    async def history(self, uid: str, *, before: int | None, limit: int) -> Sequence[Generation]:
        """Generations of a resource, newest first."""
        if not _storable(uid) or (before is not None and before < 1):
            return ()
        before = None if before is None else min(before, HIGHEST)

        async def read(connection: Connection) -> Sequence[Generation]:
            entries = await past.past(connection, uid, before=before, limit=limit)
            return [Generation(**entry) for entry in entries]

        return await self._run("history", read)

    async def samples(
        self, *, model: str | None, backend: str | None, before: str | None, limit: int
    ) -> Sequence[Sample]:
        """Recorded requests, newest first.

        Raises:
            Invalid: `before` is no key; or what is asked for is too rare to be found in time.
            Away: the database can't be used now, or others are asking as much.
        """
        try:
            below = None if before is None else samples.Place.read(before)
        except ValueError:
            raise Invalid("before: must be the key of a sample") from None
        if not _storable(model, backend):
            return ()

        async def read(connection: Connection) -> Sequence[Sample]:
            found = await samples.samples(
                connection, model=model, backend=backend, below=below, limit=limit
            )
            return [Sample(**one) for one in found]

        return await self._run_large("samples", read, overlong=_RARE)

    async def store(self, records: Sequence[Mapping[str, object]], *, namespace: str) -> int:
        """Store usage records, each once however often it comes. Returns how many were new."""

        async def write(connection: Connection) -> int:
            return await usage.insert(connection, records, namespace=namespace)

        return await self._run("usage", write)

    async def arms(
        self, *, model: str, namespace: str | None, since: datetime, until: datetime, by: str
    ) -> Sequence[Arm]:
        """What each backend of a model did.

        Raises:
            Invalid: there is more in that time than can be summed up at once.
            Away: the database can't be used now, or others are asking as much.
        """
        if not _storable(model, namespace):
            return ()
        over = arms.Over(model=model, namespace=namespace, since=since, until=until, by=by)

        async def read(connection: Connection) -> Sequence[Arm]:
            return await arms.arms(connection, over)

        return await self._run_large("comparison", read, overlong=_SHORTER)

    async def series(
        self,
        *,
        model: str,
        namespace: str | None,
        since: datetime,
        until: datetime,
        by: str,
        step: int,
    ) -> Sequence[Point]:
        """The same over time. Raises as `arms` does."""
        if not _storable(model, namespace):
            return ()
        over = arms.Over(model=model, namespace=namespace, since=since, until=until, by=by)

        async def read(connection: Connection) -> Sequence[Point]:
            return await arms.series(connection, over, step=min(step, LONGEST_STEP))

        return await self._run_large("series", read, overlong=_SHORTER)

    async def _sum(self) -> Mapping[str, Totals]:
        found = await self._database.run("totals", totals.totals)
        return {uid: Totals(**sums) for uid, sums in found.items()}

    async def _run(self, subject: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self._database.run(subject, work)
        except Unserved as unserved:
            raise self._away(unserved) from None

    async def _run_large(
        self, subject: str, work: Callable[[Connection], Awaitable[T]], *, overlong: str
    ) -> T:
        if self._waiting >= WAITING:
            detail = "too many questions of this size at once"
            raise Away(detail, retry_after=BUSY_SECONDS)
        self._waiting += 1
        try:
            async with self._large:
                return await self._run(subject, work)
        except Overlong:
            raise Invalid(overlong) from None
        finally:
            self._waiting -= 1

    def _away(self, unserved: Unserved) -> Away:
        return Away(_WHY[unserved.reason], retry_after=self._database.retry_after)


def _storable(*texts: str | None) -> bool:
    """Whether Postgres can hold each: nothing is recorded under what it can't. NB: asked for, it
    would be an error without a SQLSTATE, as that of a server that is away.
    """
    given = "".join(text or "" for text in texts)
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in given
