"""A comparison <-> the JSON of GET /api/llm-backends/compare. Pure.

The admin API writes it and `llmb compare` reads it; the fields stand here once. Seconds are
seconds, times are of RFC 3339, an interval is a list of two numbers, what is not known is null.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llm_operator.compare.model import Point
from llm_operator.compare.statistics import Backend, Comparison, Verdict

_TEXTS = frozenset({"backend", "note"})
_COUNTS = frozenset({"requests", "errors", "fallbacks", "measured"})
_INTERVALS = frozenset({"speedup_interval", "difference_interval", "rate_ratio_interval"})

#: What each of `backends` has.
FIELDS = tuple(field.name for field in dataclasses.fields(Backend))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A comparison, what it is of, and the same over time where that was asked for.

    Attributes:
        by: `backend_type` or `target`.
        series: None when it was not asked for.
    """

    model: str
    since: datetime
    until: datetime
    by: str
    comparison: Comparison
    series: tuple[Point, ...] | None = None


def write(report: Report) -> dict[str, Any]:
    """The document."""
    document: dict[str, Any] = {
        "model": report.model,
        "since": _instant(report.since),
        "until": _instant(report.until),
        "by": report.by,
        "baseline": report.comparison.baseline,
        "backends": [_backend(backend) for backend in report.comparison.backends],
    }
    if report.series is not None:
        document["series"] = points(report.series)
    return document


def points(series: Sequence[Point]) -> list[dict[str, Any]]:
    """Points over time: `at`, where the step begins, `backend` and its figures."""
    return [
        {
            "at": _instant(point.at),
            "backend": point.key,
            "requests": point.requests,
            "errors": point.errors,
            "average_seconds": point.average_seconds,
            "tokens_per_second": point.average_tokens_per_second,
        }
        for point in series
    ]


def read(document: object) -> Report:
    """What `write` has written; fields of a later release are passed over.

    Raises:
        ValueError: it is something else; the message names the field.
    """
    whole = _mapping(document, "the answer")
    backends = _list(whole.get("backends"), "backends")
    comparison = Comparison(
        baseline=_maybe_text(whole.get("baseline"), "baseline"),
        backends=tuple(
            _read_backend(one, f"backends[{place}]") for place, one in enumerate(backends)
        ),
    )
    series = whole.get("series")
    return Report(
        model=_text(whole.get("model"), "model"),
        since=_time(whole.get("since"), "since"),
        until=_time(whole.get("until"), "until"),
        by=_text(whole.get("by"), "by"),
        comparison=comparison,
        series=None if series is None else _read_points(_list(series, "series")),
    )


def _backend(backend: Backend) -> dict[str, Any]:
    fields = {name: getattr(backend, name) for name in FIELDS}
    intervals = {name: fields[name] and list(fields[name]) for name in _INTERVALS}
    return {**fields, **intervals, "verdict": backend.verdict.value}


def _read_backend(one: object, at: str) -> Backend:
    given = _mapping(one, at)
    fields: dict[str, Any] = {}
    for name in FIELDS:
        value, where = given.get(name), f"{at}.{name}"
        if name in _TEXTS:
            fields[name] = _text(value, where)
        elif name in _COUNTS:
            fields[name] = _count(value, where)
        elif name in _INTERVALS:
            fields[name] = _interval(value, where)
        elif name == "verdict":
            fields[name] = _verdict(value, where)
        else:
            fields[name] = _maybe_number(value, where)
    return Backend(**fields)


def _read_points(series: list[Any]) -> tuple[Point, ...]:
    read = []
    for place, one in enumerate(series):
        at = f"series[{place}]"
        given = _mapping(one, at)
        read.append(
            Point(
                at=_time(given.get("at"), f"{at}.at"),
                key=_text(given.get("backend"), f"{at}.backend"),
                requests=_count(given.get("requests"), f"{at}.requests"),
                errors=_count(given.get("errors"), f"{at}.errors"),
                average_seconds=_maybe_number(
                    given.get("average_seconds"), f"{at}.average_seconds"
                ),
                average_tokens_per_second=_maybe_number(
                    given.get("tokens_per_second"), f"{at}.tokens_per_second"
                ),
            )
        )
    return tuple(read)


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _mapping(value: object, at: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{at}: must be an object")
    return value


def _list(value: object, at: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{at}: must be a list")
    return value


def _text(value: object, at: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{at}: must be text")
    return value


def _maybe_text(value: object, at: str) -> str | None:
    return None if value is None else _text(value, at)


def _count(value: object, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{at}: must be a whole number")
    return value


def _maybe_number(value: object, at: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{at}: must be a number or null")
    return float(value)


def _interval(value: object, at: str) -> tuple[float, float] | None:
    if value is None:
        return None
    ends = [_maybe_number(end, at) for end in _list(value, at)]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        raise ValueError(f"{at}: must be two numbers or null")
    return ends[0], ends[1]


def _verdict(value: object, at: str) -> Verdict:
    try:
        return Verdict(_text(value, at))
    except ValueError:
        known = ", ".join(verdict.value for verdict in Verdict)
        raise ValueError(f"{at}: must be one of {known}") from None


def _time(value: object, at: str) -> datetime:
    try:
        instant = datetime.fromisoformat(_text(value, at))
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError(f"{at}: must be a time with its zone") from None
    return instant
