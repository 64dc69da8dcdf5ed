"""The predecessor's metrics -> `llmb.llm_usage` and its hourly sums.

    record.predecessor.metrics -> measured.Batcher -> one transaction a batch: insert, sum up

Each record is stored once however often this runs, so after a failure it is run again from the
start. The hours of a batch are summed up in its own transaction, because the operator may sweep
records that are older than it keeps them at any moment after it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from typing import TypeVar

from llm_operator.predecessor.measured import Batch, Batcher, Passed
from llm_operator.reasons import DatabaseSynced
from llm_operator.record import partitions, predecessor, rollup, usage
from llm_operator.record.database import Database, Unserved
from llm_operator.record.pool import Connection
from llm_operator.record.upkeep import Keep

T = TypeVar("T")
Rows = AsyncIterator[list[tuple[predecessor.Row, int]]]

#: Records of one statement.
PIECE = 1000
#: Seconds for which a batch is tried again while the database is away.
PATIENCE = 60.0
#: Records between two lines of progress.
TOLD_EVERY = 10_000


class NotStored(Exception):
    """The database to write to is away or too old. The message says what to do."""


@dataclass(slots=True)
class Tally:
    """What became of the metrics.

    Attributes:
        count: rows in the table.
        records: usage records they gave so far.
        new: those that were not there.
        old: older than records are kept by default; their hourly sums stay.
        ancient: older than hourly sums are kept by default.
    """

    count: int = 0
    records: int = 0
    new: int = 0
    old: int = 0
    ancient: int = 0
    passed: Passed = field(default_factory=Passed)

    def add(self, batch: Batch, *, new: int, today: date) -> None:
        """One batch more."""
        self.records += len(batch.records)
        self.new += new
        self.old += _before(batch, today - timedelta(days=Keep().usage))
        self.ancient += _before(batch, today - timedelta(days=Keep().hourly))


def _before(batch: Batch, day: date) -> int:
    start = partitions.start(day).timestamp()
    return sum(record["at"] < start for record in batch.records)


async def backfill(
    source: str, to: str, *, namespace: str = "", say: Callable[[str], None]
) -> Tally:
    """Store all metrics.

    Args:
        source: URL of the predecessor's database.
        to: URL of the record.
        namespace: in which the predecessor's programs ran; "" where nobody knows.
        say: takes a line of progress.

    Raises:
        InvalidDatabaseURL: one of the two can't be used.
        Unreadable: the source has no metrics, or is away.
        NotStored: the record is away. What is stored stays; it can be run again.
    """
    async with (
        Database(to, application_name="llmb-import") as database,
        predecessor.metrics(source) as (count, rows),
    ):
        tally = Tally(count=count)
        today = await _do(database, partitions.today, patience=0.0)
        batcher = Batcher(tally.passed, until=partitions.start(today + timedelta(days=2)))
        async for batch in _batches(rows, batcher):
            new = await _do(database, partial(_store, batch=batch, namespace=namespace))
            told = tally.records // TOLD_EVERY
            tally.add(batch, new=new, today=today)
            if tally.records // TOLD_EVERY != told:
                say(f"{tally.records:,} of {count:,} metrics, {tally.new:,} of them new")
    return tally


async def _batches(rows: Rows, batcher: Batcher) -> AsyncIterator[Batch]:
    async for piece in rows:
        for row, position in piece:
            if batch := batcher.add(row, position):
                yield batch
    if batch := batcher.rest():
        yield batch


async def _store(connection: Connection, *, batch: Batch, namespace: str) -> int:
    """Returns how many records were new."""
    records, new = batch.records, 0
    for place in range(0, len(records), PIECE):
        new += await usage.insert(connection, records[place : place + PIECE], namespace=namespace)
    for hour in batch.hours:
        await rollup.roll_up(connection, hour)
    return new


async def _do(
    database: Database,
    work: Callable[[Connection], Awaitable[T]],
    *,
    patience: float = PATIENCE,
) -> T:
    until = time.monotonic() + patience
    while True:
        try:
            return await database.run("usage import", work)
        except Unserved as unserved:
            if unserved.reason is DatabaseSynced.SCHEMA_OUTDATED:
                raise NotStored("its schema is older than this release: run llmb migrate") from None
            if time.monotonic() + database.retry_after > until:
                raise NotStored(
                    "it does not answer or refuses the user; llmb migrate says why. What is stored "
                    "stays, and a second run stores nothing twice"
                ) from None
        await asyncio.sleep(database.retry_after)
