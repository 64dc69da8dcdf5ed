"""What recorded traffic says of each resource since it was first recorded, in one statement.

Statements only, inside the transaction of the caller. No record is left out and none counts twice,
at whatever point a roll-up is:

- Open hours (see `fresh`) are summed up here from their records, all others were by a roll-up.
- Of an open hour both may be there. Then the sum over more requests counts, for each key of the
  hourly sums by itself, which is the rule by which a roll-up replaces one by another: it has the
  records of the other, and more. Records that are gone again are in the stored sum alone.
- Being one statement it sees one moment, so an hour that is rolled up meanwhile changes nothing.
  NB: two statements under READ COMMITTED would not.

The one exception is a record that came when its day was no longer kept: it is never rolled up, and
counts for the few minutes until the next round.
"""

from collections.abc import Mapping
from typing import Any

from psycopg.rows import dict_row

from llm_operator.record.fresh import OPEN
from llm_operator.record.overlong import bounded
from llm_operator.record.pool import Connection
from llm_operator.record.rollup import KEY, SUMS

#: What of the sums is needed.
_NEEDED = ("requests", "fallbacks", "total_seconds", "decodes", "decode_tokens_per_second")

_key = ", ".join(KEY)
_needed = ", ".join(_NEEDED)

# NB: the open hours one by one, so that only theirs of the records are read; and as an array, since
# no plan for a list of unknown length fits one that is nearly always short.
_TOTALS = f"""
    WITH open AS MATERIALIZED (
        SELECT ARRAY ({OPEN}) AS hours
    ), made AS (
        SELECT opened.hour, summed.*
        FROM unnest((SELECT hours FROM open)) AS opened (hour) CROSS JOIN LATERAL (
            SELECT {", ".join(f"coalesce({name}, '') AS {name}" for name in KEY)},
                {", ".join(f"{SUMS[name]} AS {name}" for name in _NEEDED)}
            FROM llmb.llm_usage
            WHERE at >= opened.hour AND at < opened.hour + interval '1 hour'
            GROUP BY {", ".join(str(place) for place, _ in enumerate(KEY, 1))}
        ) AS summed
        UNION ALL
        SELECT hour, {_key}, {_needed} FROM llmb.llm_usage_hourly
        WHERE hour = ANY ((SELECT hours FROM open)::timestamptz[])
    ), counted AS (
        (
            SELECT DISTINCT ON (hour, {_key}) route_uid, outcome, {_needed} FROM made
            ORDER BY hour, {_key}, requests DESC
        )
        UNION ALL
        SELECT route_uid, outcome, {_needed} FROM llmb.llm_usage_hourly
        WHERE hour <> ALL ((SELECT hours FROM open)::timestamptz[])
    )
    SELECT route_uid AS uid, sum(requests)::bigint AS requests,
        coalesce(sum(requests) FILTER (WHERE outcome IN ('error', 'broken')), 0)::bigint AS errors,
        sum(fallbacks)::bigint AS fallbacks,
        sum(total_seconds) FILTER (WHERE outcome = 'ok')
            / sum(requests) FILTER (WHERE outcome = 'ok')::double precision AS average_seconds,
        sum(decode_tokens_per_second) FILTER (WHERE outcome = 'ok')
            / nullif(sum(decodes) FILTER (WHERE outcome = 'ok'), 0)::double precision
            AS average_tokens_per_second
    FROM counted WHERE route_uid <> '' GROUP BY route_uid
"""


async def totals(connection: Connection) -> Mapping[str, Mapping[str, Any]]:
    """By the resource's uid: requests, errors, fallbacks; average seconds and tokens per second of
    the requests with a proper end, None where there is none.

    Raises:
        Overlong: so much was never rolled up that it can't be read in a statement's time.
    """
    async with connection.cursor(row_factory=dict_row) as cursor:
        with bounded():
            await cursor.execute(_TOTALS)
            return {row.pop("uid"): row for row in await cursor.fetchall()}
