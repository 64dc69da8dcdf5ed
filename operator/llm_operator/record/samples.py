"""Recorded requests, newest first, a page at a time inside the transaction of the caller.

Statements only. A page goes on below the place of the last one's end, so what comes in meanwhile
shifts nothing: each record that was there is on one page.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from psycopg.rows import dict_row

from llm_operator.record.overlong import bounded
from llm_operator.record.pool import Connection

#: Column of the table -> its name in a sample.
COLUMNS: Mapping[str, str] = {
    "request_id": "request_id",
    "model": "model",
    "backend_type": "backend",
    "target": "target",
    "outcome": "outcome",
    "total_seconds": "latency_seconds",
    "completion_tokens": "tokens",
    "prompt_tokens": "prompt_tokens",
    "decode_tokens_per_second": "tokens_per_second",
    "first_token_seconds": "first_token_seconds",
    "fallback_reason": "fallback_reason",
    "session": "session_id",
    "user": "user_id",
    "zone": "zone",
    "intent": "intent",
    "source": "source",
    "stage": "stage",
}
#: Of these what is not known is empty.
_EMPTY = frozenset({"backend_type", "target", "fallback_reason"})

_taken = ", ".join(
    f"""coalesce("{column}", '') AS {name}""" if column in _EMPTY else f'"{column}" AS {name}'
    for column, name in COLUMNS.items()
)

# NB: instants as numbers, because one of a record can be later than a datetime's latest; since
# 2000, as Postgres counts, because the last one is too long after 1970 to be exact; and whole days
# apart, because an interval is multiplied by a floating-point number.
_START = 946_684_800_000_000
_DAY = 86_400_000_000
_MICROSECONDS = "extract(epoch FROM at - timestamptz '2000-01-01 00:00:00+00') * 1000000"
_PLACE = """(
    (timestamp '2000-01-01' + make_interval(days => %(day)s) + %(rest)s * interval '1 microsecond')
    AT TIME ZONE 'UTC'
)"""

_SAMPLES = f"""
    SELECT {_MICROSECONDS} AS microseconds, {_taken} FROM llmb.llm_usage WHERE {{which}}
    ORDER BY at DESC, request_id COLLATE "C" DESC LIMIT %(limit)s
"""

#: Condition by what is given. NB: a comparison of two columns at once leaves no partition out.
_CONDITIONS = {
    "model": "model = %(model)s",
    "backend": "backend_type = %(backend)s",
    "day": f"""at <= {_PLACE} AND (at, request_id COLLATE "C") < ({_PLACE}, %(request_id)s)""",
}

#: The instants of Postgres, in microseconds since 2000.
_FIRST, _LAST = -211_813_488_000_000_000, 9_223_371_331_199_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a record stands among all.

    Attributes:
        microseconds: since the year 2000.
    """

    microseconds: int
    request_id: str

    @classmethod
    def read(cls, key: str) -> Self:
        """The place that a key is of.

        Raises:
            ValueError: it is no key.
        """
        plain = base64.b64decode(key + "=" * (-len(key) % 4), altchars=b"-_", validate=True)
        at, separator, request_id = plain.decode().partition(":")
        place = cls(microseconds=int(at), request_id=request_id)
        instant = _FIRST <= place.microseconds <= _LAST
        if place.key != key or not (separator and instant) or "\0" in request_id:
            raise ValueError("no record has this key")
        return place

    @property
    def key(self) -> str:
        """It as one word that fits into a URL."""
        plain = f"{self.microseconds}:{self.request_id}".encode()
        return base64.urlsafe_b64encode(plain).decode().rstrip("=")


async def samples(
    connection: Connection,
    *,
    model: str | None,
    backend: str | None,
    below: Place | None,
    limit: int,
) -> Sequence[Mapping[str, Any]]:
    """A page, each record under the names of `COLUMNS`, with its key and its start in seconds.

    Args:
        backend: a backend type.

    Raises:
        Overlong: what was asked for is too rare among the records to be found in time.
    """
    given: dict[str, object] = {"model": model, "backend": backend}
    if below is not None:
        day, rest = divmod(below.microseconds, _DAY)
        given |= {"day": day, "rest": rest, "request_id": below.request_id}
    given = {name: value for name, value in given.items() if value is not None}
    which = " AND ".join(_CONDITIONS[name] for name in _CONDITIONS if name in given) or "true"
    async with connection.cursor(row_factory=dict_row) as cursor:
        with bounded():
            await cursor.execute(_SAMPLES.format(which=which), {**given, "limit": limit})
            return [_sample(row) for row in await cursor.fetchall()]


def _sample(row: dict[str, Any]) -> Mapping[str, Any]:
    at = int(row.pop("microseconds"))
    place = Place(microseconds=at, request_id=row["request_id"])
    return {**row, "key": place.key, "at": (at + _START) / 1_000_000}
