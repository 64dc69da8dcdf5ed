"""Routers' usage records -> rows of `llmb.llm_usage`, inside the transaction of the caller.

Any record may come any number of times: it is stored once. What Postgres can't store costs no other
record its place; it is counted in a log line that quotes none of it. It never reads.
"""

import logging
from collections.abc import Mapping, Sequence

from psycopg import DataError, IntegrityError
from psycopg.types.json import Jsonb

from llm_operator.record.pool import Connection

logger = logging.getLogger(__name__)

Usage = Mapping[str, object]

#: Field of a record -> its type; the column has the same name. Other fields are passed over.
FIELDS: Mapping[str, str] = {
    "request_id": "text",
    "at": "double precision",
    "route": "text",
    "route_uid": "text",
    "generation": "bigint",
    "model": "text",
    "target": "text",
    "backend_type": "text",
    "upstream_model": "text",
    "front": "text",
    "kind": "text",
    "stream": "boolean",
    "outcome": "text",
    "status": "integer",
    "error": "text",
    "attempts": "integer",
    "fallback_reason": "text",
    "failures": "jsonb",
    "prompt_tokens": "integer",
    "completion_tokens": "integer",
    "counted": "text",
    "load_seconds": "double precision",
    "first_token_seconds": "double precision",
    "total_seconds": "double precision",
    "prefill_tokens_per_second": "double precision",
    "decode_tokens_per_second": "double precision",
    "session": "text",
    "user": "text",
    "zone": "text",
    "intent": "text",
    "source": "text",
    "stage": "text",
    "trace_id": "text",
}

_names = ", ".join(f'"{name}"' for name in FIELDS)
_types = ", ".join(f'"{name}" {kind}' for name, kind in FIELDS.items())
_given = ", ".join(
    "to_timestamp(given.at)" if name == "at" else f'given."{name}"' for name in FIELDS
)

# Sorted, so that two batches with the same records wait for each other in one order.
_INSERT = f"""
    INSERT INTO llmb.llm_usage (namespace, {_names})
    SELECT nullif(%(namespace)s, ''), {_given}
    FROM jsonb_to_recordset(%(records)s) AS given ({_types})
    ORDER BY given.request_id, given.at
    ON CONFLICT DO NOTHING
"""


async def insert(connection: Connection, records: Sequence[Usage], *, namespace: str = "") -> int:
    """Store a batch; safe to do again.

    Args:
        records: as a router sends them, parsed.
        namespace: where the router runs, as its token says; a record has no say in it.

    Returns:
        How many were new.
    """
    stored, refused = await _insert(connection, records, namespace)
    if refused:
        states = sorted({error.sqlstate or "" for error in refused})
        logger.warning(
            "usage_refused",
            extra={"records": len(refused), "namespace": namespace, "sqlstates": states},
        )
    return stored


async def _insert(
    connection: Connection, records: Sequence[Usage], namespace: str
) -> tuple[int, list[DataError | IntegrityError]]:
    if not records:
        return 0, []
    try:
        return await _store(connection, records, namespace), []
    except (DataError, IntegrityError):
        if len(records) == 1:
            return await _once_more(connection, records, namespace)
    # One bad record fails the whole statement; halving finds it in a few.
    half = len(records) // 2
    stored, refused = await _insert(connection, records[:half], namespace)
    more, others = await _insert(connection, records[half:], namespace)
    return stored + more, refused + others


async def _once_more(
    connection: Connection, records: Sequence[Usage], namespace: str
) -> tuple[int, list[DataError | IntegrityError]]:
    # NB: a good record is refused by the default partition while its day gets one of its own; the
    # next try finds that.
    try:
        return await _store(connection, records, namespace), []
    except (DataError, IntegrityError) as error:
        return 0, [error]


async def _store(connection: Connection, records: Sequence[Usage], namespace: str) -> int:
    values = {"namespace": namespace, "records": Jsonb(list(records))}
    async with connection.transaction():
        return (await connection.execute(_INSERT, values)).rowcount
