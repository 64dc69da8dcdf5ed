"""The rows of one namespace -> equal to its resources, inside the transaction of the caller.

Statements only: no connections, no retries, no logging. A row that is right already is neither
written nor locked, so a resync that finds nothing to do leaves the table untouched.
"""

import zlib
from collections.abc import Collection, Mapping, Sequence

from psycopg import DataError, IntegrityError
from psycopg.types.json import Jsonb

from llm_operator.record.history import TAKEN
from llm_operator.record.pool import Connection
from llm_operator.record.rows import COLUMNS

Row = Mapping[str, object]

#: First key of the advisory lock that the one writer of a namespace holds.
LOCK = 0x6C6C6D62

_names = ", ".join(COLUMNS)
_given = ", ".join(f"given.{name}" for name in COLUMNS)
_old = ", ".join(f"old.{name}" for name in COLUMNS)
_types = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
_changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS if name != "uid")

_TOMBSTONE = f"""
    WITH gone AS (
        UPDATE llmb.llm_backends SET deleted_at = now(), updated_at = now()
        WHERE namespace = %(namespace)s AND deleted_at IS NULL AND epoch <= %(epoch)s
        AND uid <> ALL (%(keep)s)
        RETURNING {TAKEN}
    )
    INSERT INTO llmb.llm_backend_history ({TAKEN}, change, changed_by, changed_at)
    SELECT {TAKEN}, 'deleted', '', now() FROM gone ORDER BY name
    ON CONFLICT DO NOTHING
"""

# The guard stands twice: before the insert, so that a row that stays as it is isn't locked, and in
# DO UPDATE, for a writer that came in between. A name that a live row of another uid holds (a newer
# leader wrote it) is left out. What lives was not deleted, whatever the history says.
_UPSERT = f"""
    WITH written AS (
        INSERT INTO llmb.llm_backends AS stored ({_names}, epoch)
        SELECT {_given}, %(epoch)s
        FROM jsonb_to_recordset(%(rows)s) AS given ({_types})
        LEFT JOIN llmb.llm_backends AS old ON old.uid = given.uid
        WHERE (
            old.uid IS NULL
            OR old.generation <= given.generation AND old.epoch <= %(epoch)s
            AND (old.deleted_at IS NOT NULL OR ({_old}) IS DISTINCT FROM ({_given}))
        ) AND NOT EXISTS (
            SELECT FROM llmb.llm_backends AS other
            WHERE other.namespace = given.namespace AND other.name = given.name
            AND other.uid <> given.uid AND other.deleted_at IS NULL
        )
        ORDER BY given.name
        ON CONFLICT (uid) DO UPDATE
        SET {_changes}, epoch = EXCLUDED.epoch, updated_at = now(), deleted_at = NULL
        WHERE stored.generation <= EXCLUDED.generation AND stored.epoch <= EXCLUDED.epoch
        RETURNING uid
    )
    DELETE FROM llmb.llm_backend_history AS entry USING written
    WHERE entry.uid = written.uid AND entry.change = 'deleted'
"""

_LIVE = """
    SELECT uid, generation FROM llmb.llm_backends WHERE namespace = %s AND deleted_at IS NULL
"""

_NAMESPACES = "SELECT DISTINCT namespace FROM llmb.llm_backends WHERE deleted_at IS NULL"


async def claim(connection: Connection, namespace: str) -> None:
    """Be the only writer of a namespace until the transaction ends.

    Two at once could both insert one name, or wait for each other's rows in turn.
    """
    key = zlib.crc32(namespace.encode()) - 2**31
    await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK, key))


async def tombstone(
    connection: Connection, namespace: str, *, keep: Collection[str], epoch: int
) -> None:
    """Mark as deleted what lives under any other uid."""
    values = {"namespace": namespace, "keep": list(keep), "epoch": epoch}
    await connection.execute(_TOMBSTONE, values)


async def upsert(
    connection: Connection, rows: Sequence[Row], *, epoch: int
) -> dict[str, DataError | IntegrityError]:
    """Write the rows that differ, unless a newer generation or epoch stands there.

    Returns:
        By uid, what Postgres can't store at all, a NUL character in a text say. The other rows are
        written.
    """
    if not rows:
        return {}
    try:
        async with connection.transaction():
            await connection.execute(_UPSERT, {"rows": Jsonb(list(rows)), "epoch": epoch})
    except (DataError, IntegrityError) as error:
        if len(rows) == 1:
            return {str(rows[0]["uid"]): error}
        # One bad row fails the whole statement; halving finds it in a few.
        half = len(rows) // 2
        refused = await upsert(connection, rows[:half], epoch=epoch)
        return refused | await upsert(connection, rows[half:], epoch=epoch)
    return {}


async def live(connection: Connection, namespace: str) -> dict[str, int]:
    """The generation of each live row, by uid."""
    cursor = await connection.execute(_LIVE, (namespace,))
    return {uid: generation async for uid, generation in cursor}


async def namespaces(connection: Connection) -> frozenset[str]:
    """Where live rows are."""
    cursor = await connection.execute(_NAMESPACES)
    return frozenset([namespace async for (namespace,) in cursor])
