"""The history of one resource, read inside the transaction of the caller.

Statements only; `history` writes it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import dict_row

from llm_operator.record.pool import Connection

# NB: a deletion has the generation that it ended; with ties, so that no page ends between the two.
_PAST = """
    SELECT generation, change, changed_by, changed_at, recorded_at, name, namespace, spec
    FROM llmb.llm_backend_history
    WHERE uid = %(uid)s AND (%(before)s::bigint IS NULL OR generation < %(before)s)
    ORDER BY generation DESC FETCH FIRST %(limit)s ROWS WITH TIES
"""


async def past(
    connection: Connection, uid: str, *, before: int | None, limit: int
) -> Sequence[Mapping[str, Any]]:
    """Entries of a resource, newest first; one more than the limit where it ends in a deletion.

    Args:
        before: only those of a lower generation.
    """
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_PAST, {"uid": uid, "before": before, "limit": limit})
        entries = await cursor.fetchall()
    return sorted(entries, key=lambda entry: (-entry["generation"], entry["change"] != "deleted"))
