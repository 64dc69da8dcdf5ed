"""The daily partitions of the usage table, and the one of all other days.

Statements only, each inside the transaction of the caller. No record is lost for want of a
partition: one of a day that has none goes to the default partition, and from there to its day when
that is made.
"""

from datetime import UTC, date, datetime, timedelta

from llm_operator.record.pool import Connection

#: A partition's name is this and its day.
PREFIX = "llm_usage_"

#: Records of the default partition that are moved to their day when it is made. A day that has more
#: stays there.
MOVED = 10_000

_TODAY = "SELECT (now() AT TIME ZONE 'UTC')::date"

_NAMES = """
    SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
    WHERE inhparent = 'llmb.llm_usage'::regclass
"""

_COUNT = """
    SELECT count(*) FROM (
        SELECT FROM llmb.llm_usage_default WHERE at >= %s AND at < %s LIMIT %s
    ) AS counted
"""

_SWEEP = """
    DELETE FROM llmb.llm_usage_default WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM llmb.llm_usage_default
        WHERE at < %(before)s OR received_at < %(before)s LIMIT %(most)s
    ))
"""


async def today(connection: Connection) -> date:
    """The day of UTC, by the database's clock."""
    row = await (await connection.execute(_TODAY)).fetchone()
    assert row is not None
    day: date = row[0]
    return day


async def days(connection: Connection) -> frozenset[date]:
    """The days that have a partition."""
    cursor = await connection.execute(_NAMES)
    found = {_day(name) async for (name,) in cursor}
    return frozenset(day for day in found if day is not None)


async def make(connection: Connection, day: date) -> bool:
    """Give a day its partition. False: too many of its records are in the default one.

    NB: made apart and attached: CREATE TABLE ... PARTITION OF would lock out every reader and
    writer of usage, ATTACH only those of the default partition.
    """
    since, until = start(day), start(day + timedelta(days=1))
    name = f"llmb.{PREFIX}{day:%Y%m%d}"
    counted = await (await connection.execute(_COUNT, (since, until, MOVED + 1))).fetchone()
    if counted is None or counted[0] > MOVED:
        return False
    await connection.execute(f"CREATE TABLE {name} (LIKE llmb.llm_usage INCLUDING ALL)")
    await connection.execute("LOCK TABLE llmb.llm_usage_default IN ACCESS EXCLUSIVE MODE")
    await connection.execute(
        "WITH moved AS (DELETE FROM llmb.llm_usage_default WHERE at >= %s AND at < %s RETURNING *)"
        f" INSERT INTO {name} SELECT * FROM moved",
        (since, until),
    )
    await connection.execute(
        f"ALTER TABLE llmb.llm_usage ATTACH PARTITION {name}"
        f" FOR VALUES FROM ('{since.isoformat()}') TO ('{until.isoformat()}')"
    )
    return True


async def drop(connection: Connection, day: date) -> None:
    """Drop a day's partition with its records. NB: locks the whole table for that moment."""
    await connection.execute(f"DROP TABLE IF EXISTS llmb.{PREFIX}{day:%Y%m%d}")


async def sweep(connection: Connection, before: date, *, most: int) -> int:
    """Delete records of the default partition that are of earlier days, or came then."""
    cursor = await connection.execute(_SWEEP, {"before": start(before), "most": most})
    return cursor.rowcount


def start(day: date) -> datetime:
    """When a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _day(name: str) -> date | None:
    try:
        return datetime.strptime(name, f"{PREFIX}%Y%m%d").date()
    except ValueError:
        return None
