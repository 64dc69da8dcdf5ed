"""What backends of one model did over a time, summed up by Postgres.

Statements only, each inside the transaction of the caller. Times and rates are of requests that the
first target asked has answered to the end: an answer that came after a failed attempt tells of that
attempt too. A request for which no target was asked belongs to no backend. A million records of a
model took three seconds of the five that a statement has, on two cores that were busy already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row, dict_row

from llm_operator.compare.model import Arm, Point
from llm_operator.record.overlong import bounded
from llm_operator.record.pool import Connection

#: What backends are told apart by: columns of the table.
KEYS = ("backend_type", "target")
#: Backends of one answer, those with the most requests.
MOST = 100
#: Requests of a backend from which percentiles are of a sample: every second, third and so on.
SAMPLE = 100_000

_OF = """
    FROM llmb.llm_usage
    WHERE model = %(model)s AND at >= %(since)s AND at < %(until)s
        AND (%(namespace)s::text IS NULL OR namespace = %(namespace)s) AND {key} <> ''
"""

_PROPER = "outcome = 'ok' AND coalesce(fallback_reason, '') = ''"
_FAILED = "outcome IN ('error', 'broken')"

# NB: two statements, because percentiles beside the rest would sort all rows by their backend.
_ARMS = f"""
    SELECT {{key}} AS key, count(*) AS requests,
        count(*) FILTER (WHERE {_FAILED}) AS errors,
        count(*) FILTER (WHERE fallback_reason <> '') AS fallbacks,
        count(*) FILTER (WHERE {_PROPER}) AS times,
        avg(total_seconds) FILTER (WHERE {_PROPER}) AS average_seconds,
        stddev_samp(total_seconds) FILTER (WHERE {_PROPER}) AS deviation_seconds,
        count(first_token_seconds) FILTER (WHERE {_PROPER}) AS first_tokens,
        avg(first_token_seconds) FILTER (WHERE {_PROPER}) AS average_first_token_seconds,
        count(decode_tokens_per_second) FILTER (WHERE {_PROPER}) AS speeds,
        avg(decode_tokens_per_second) FILTER (WHERE {_PROPER}) AS average_tokens_per_second,
        stddev_samp(decode_tokens_per_second) FILTER (WHERE {_PROPER})
            AS deviation_tokens_per_second
    {_OF} GROUP BY 1 ORDER BY requests DESC, key LIMIT {MOST}
"""

# NB: what the first statement may leave of a transaction's time.
_REST = "SELECT set_config('statement_timeout', '2500', true)"

_PERCENTILES = f"""
    SELECT {{key}} AS key, percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY total_seconds)
    FROM (
        SELECT {{key}}, total_seconds, hashtext(request_id) AS lot {_OF} AND {_PROPER}
    ) AS measured
    JOIN unnest(%(keys)s::text[], %(shares)s::integer[]) AS sampled (name, share)
        ON sampled.name = {{key}} AND lot %% share = 0
    GROUP BY 1
"""

_SERIES = f"""
    SELECT date_bin(make_interval(secs => %(step)s), at, %(since)s) AS at, {{key}} AS key,
        count(*) AS requests, count(*) FILTER (WHERE {_FAILED}) AS errors,
        avg(total_seconds) FILTER (WHERE {_PROPER}) AS average_seconds,
        avg(decode_tokens_per_second) FILTER (WHERE {_PROPER}) AS average_tokens_per_second
    {_OF} GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """Which records are summed up.

    Attributes:
        namespace: None for all.
        by: one of `KEYS`.
    """

    model: str
    namespace: str | None
    since: datetime
    until: datetime
    by: str


async def arms(connection: Connection, over: Over) -> Sequence[Arm]:
    """One for each backend, by its name.

    Raises:
        Overlong: there are too many records to sum up in a statement's time.
    """
    with bounded():
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(_named(_ARMS, over), _values(over))
            rows = sorted(await cursor.fetchall(), key=lambda row: row["key"])
        shares = {row["key"]: row["times"] // SAMPLE + 1 for row in rows}
        sampled = {"keys": list(shares), "shares": list(shares.values())}
        await connection.execute(_REST)
        found = await connection.execute(_named(_PERCENTILES, over), {**_values(over), **sampled})
        percentiles = {key: both async for key, both in found}
    return [_arm(row, percentiles.get(row["key"])) for row in rows]


async def series(connection: Connection, over: Over, *, step: int) -> Sequence[Point]:
    """One for each backend and step of so many seconds that has a request, in that order.

    Raises:
        Overlong: as `arms`.
    """
    async with connection.cursor(row_factory=class_row(Point)) as cursor:
        with bounded():
            await cursor.execute(_named(_SERIES, over), {**_values(over), "step": step})
            return await cursor.fetchall()


def _arm(row: Mapping[str, Any], percentiles: Sequence[float] | None) -> Arm:
    p50, p95 = percentiles or (None, None)
    return Arm(**row, p50_seconds=p50, p95_seconds=p95)


def _named(statement: str, over: Over) -> str:
    if over.by not in KEYS:
        raise ValueError(f"by: must be one of {', '.join(KEYS)}, is {over.by!r}")
    return statement.format(key=over.by)


def _values(over: Over) -> dict[str, object]:
    return {
        "model": over.model,
        "namespace": over.namespace,
        "since": over.since,
        "until": over.until,
    }
