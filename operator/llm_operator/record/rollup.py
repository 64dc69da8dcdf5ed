"""Usage records -> their sums for each hour, inside the transaction of the caller.

Statements only. An hour may be rolled up any number of times, by several at once too: its records
only grow in number until they are dropped, so sums over more requests replace those over fewer, and
never the other way round.
"""

from datetime import date, datetime

from llm_operator.record.fresh import OPEN
from llm_operator.record.partitions import start
from llm_operator.record.pool import Connection

#: What one row is of, beside its hour.
KEY = ("namespace", "route_uid", "model", "target", "backend_type", "outcome")

#: Column -> what it is over the records of a row.
SUMS = {
    "requests": "count(*)",
    "attempts": "coalesce(sum(attempts), 0)",
    "fallbacks": "count(*) FILTER (WHERE fallback_reason <> '')",
    "prompt_tokens": "coalesce(sum(prompt_tokens), 0)",
    "completion_tokens": "coalesce(sum(completion_tokens), 0)",
    "total_seconds": "sum(total_seconds)",
    "longest_seconds": "max(total_seconds)",
    "first_tokens": "count(first_token_seconds)",
    "first_token_seconds": "coalesce(sum(first_token_seconds), 0)",
    "prefills": "count(prefill_tokens_per_second)",
    "prefill_tokens_per_second": "coalesce(sum(prefill_tokens_per_second), 0)",
    "decodes": "count(decode_tokens_per_second)",
    "decode_tokens_per_second": "coalesce(sum(decode_tokens_per_second), 0)",
}

_DUE = f"""
    SELECT now(), ARRAY (
        SELECT hour FROM ({OPEN}) AS opened
        WHERE hour >= %s AND hour < date_trunc('hour', now(), 'UTC') ORDER BY hour
    )
"""

_key = ", ".join(KEY)
_key_of_made = ", ".join(f"made.{name}" for name in KEY)
_key_of_old = ", ".join(f"old.{name}" for name in KEY)
_sums = ", ".join(SUMS)

_ROLL_UP = f"""
    WITH made AS (
        SELECT {", ".join(f"coalesce({name}, '') AS {name}" for name in KEY)},
            {", ".join(f"{formula} AS {name}" for name, formula in SUMS.items())}
        FROM llmb.llm_usage WHERE at >= %(hour)s AND at < %(hour)s + interval '1 hour'
        GROUP BY {", ".join(str(place) for place, _ in enumerate(KEY, 1))}
    )
    INSERT INTO llmb.llm_usage_hourly AS stored (hour, {_key}, {_sums})
    SELECT %(hour)s, {_key_of_made}, {", ".join(f"made.{name}" for name in SUMS)}
    FROM made LEFT JOIN llmb.llm_usage_hourly AS old
        ON old.hour = %(hour)s AND ({_key_of_old}) = ({_key_of_made})
    WHERE old.hour IS NULL OR old.requests < made.requests
    ORDER BY {_key_of_made}
    ON CONFLICT (hour, {_key}) DO UPDATE
    SET {", ".join(f"{name} = EXCLUDED.{name}" for name in SUMS)}
    WHERE stored.requests < EXCLUDED.requests
"""

_DONE = """
    INSERT INTO llmb.llm_usage_rolled_up AS stored (until) VALUES (%s)
    ON CONFLICT (only_row) DO UPDATE
    SET until = EXCLUDED.until WHERE stored.until < EXCLUDED.until
"""


async def due(connection: Connection, since: date) -> tuple[datetime, tuple[datetime, ...]]:
    """Now, and the finished hours that have records which may not be summed up yet.

    Args:
        since: earlier records are not complete any more.
    """
    row = await (await connection.execute(_DUE, (start(since),))).fetchone()
    assert row is not None
    return row[0], tuple(row[1])


async def roll_up(connection: Connection, hour: datetime) -> int:
    """Sum one hour up. Returns the rows that changed."""
    return (await connection.execute(_ROLL_UP, {"hour": hour})).rowcount


async def done(connection: Connection, now: datetime) -> None:
    """All that was due at this time is summed up."""
    await connection.execute(_DONE, (now,))
