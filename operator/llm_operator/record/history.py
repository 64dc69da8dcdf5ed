"""Each generation of each resource, inside the transaction that writes the rows.

Statements only. It goes by the rows that stand, so what was missed is made up for at the next sync,
and a sync that finds nothing to do writes nothing.
"""

from collections.abc import Mapping, Sequence

from psycopg.types.json import Jsonb

from llm_operator.record.pool import Connection

#: What an entry takes from the row.
TAKEN = "uid, generation, namespace, name, model_name, enabled, spec"

_taken = ", ".join(f"live.{name}" for name in TAKEN.split(", "))

_REMEMBER = f"""
    INSERT INTO llmb.llm_backend_history ({TAKEN}, change, changed_by, changed_at)
    SELECT {_taken},
        CASE WHEN EXISTS (
            SELECT FROM llmb.llm_backend_history AS earlier WHERE earlier.uid = live.uid
        ) THEN 'changed' ELSE 'created' END,
        given.changed_by, coalesce(given.changed_at, now())
    FROM jsonb_to_recordset(%s)
        AS given (uid text, generation bigint, changed_by text, changed_at timestamptz)
    JOIN llmb.llm_backends AS live
        ON live.uid = given.uid AND live.generation = given.generation AND live.deleted_at IS NULL
    WHERE NOT EXISTS (
        SELECT FROM llmb.llm_backend_history AS known
        WHERE known.uid = live.uid AND known.generation = live.generation
        AND known.change <> 'deleted'
    )
    ORDER BY live.name
    ON CONFLICT DO NOTHING
"""


async def remember(connection: Connection, authors: Sequence[Mapping[str, object]]) -> None:
    """Enter the generation of each live row that has none yet.

    Args:
        authors: of `rows.author`; those whose row is at another generation are passed over.
    """
    if authors:
        await connection.execute(_REMEMBER, (Jsonb(list(authors)),))
