"""What nobody asks for any more, deleted piece by piece inside the transaction of the caller.

Statements only. Rows that somebody else has locked are left for the next time.
"""

from llm_operator.record.pool import Connection

#: Rows of one piece.
MOST = 1000

_TOMBSTONES = f"""
    DELETE FROM llmb.llm_backends WHERE id = ANY (ARRAY (
        SELECT id FROM llmb.llm_backends WHERE deleted_at < now() - make_interval(days => %s)
        LIMIT {MOST} FOR UPDATE SKIP LOCKED
    ))
"""

# An entry has its age from when the next one took its place, so that the one that stands stays,
# however old it is.
_HISTORY = f"""
    DELETE FROM llmb.llm_backend_history WHERE id = ANY (ARRAY (
        SELECT id FROM llmb.llm_backend_history AS entry,
            (SELECT now() - make_interval(days => %s) AS before) AS kept
        WHERE entry.change = 'deleted' AND entry.recorded_at < kept.before OR EXISTS (
            SELECT FROM llmb.llm_backend_history AS next
            WHERE next.uid = entry.uid AND next.id > entry.id AND next.recorded_at < kept.before
        )
        LIMIT {MOST} FOR UPDATE OF entry SKIP LOCKED
    ))
"""

_HOURLY = f"""
    DELETE FROM llmb.llm_usage_hourly WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM llmb.llm_usage_hourly WHERE hour < now() - make_interval(days => %s)
        LIMIT {MOST} FOR UPDATE SKIP LOCKED
    ))
"""


async def tombstones(connection: Connection, days: int) -> int:
    """Rows of resources that are gone for so long."""
    return (await connection.execute(_TOMBSTONES, (days,))).rowcount


async def history(connection: Connection, days: int) -> int:
    """Entries that have been out of date for so long."""
    return (await connection.execute(_HISTORY, (days,))).rowcount


async def hourly(connection: Connection, days: int) -> int:
    """Sums of hours so long ago."""
    return (await connection.execute(_HOURLY, (days,))).rowcount
