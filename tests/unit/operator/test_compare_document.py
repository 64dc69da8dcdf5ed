"""A comparison as JSON and back."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.compare.document import FIELDS, Report, read, write
from llm_operator.compare.model import Point
from llm_operator.compare.statistics import Backend, Comparison, Verdict

SINCE = datetime(2026, 11, 27, 12, tzinfo=UTC)

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
finite = st.floats(allow_nan=False, allow_infinity=False)
intervals = st.none() | st.tuples(finite, finite)
counts = st.integers(0, 2**53)
backends = st.builds(
    Backend,
    backend=st.text(),
    note=st.text(),
    verdict=st.sampled_from(Verdict),
    **dict.fromkeys(("requests", "errors", "fallbacks", "measured"), counts),
    **{name: intervals for name in FIELDS if name.endswith("_interval")},
    **{
        name: numbers
        for name in FIELDS
        if name.endswith(("_seconds", "_second", "speedup", "ratio"))
    },
)
times = st.datetimes(
    min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1), timezones=st.just(UTC)
)
points = st.builds(
    Point,
    at=times,
    key=st.text(),
    requests=counts,
    errors=counts,
    average_seconds=numbers,
    average_tokens_per_second=numbers,
)

#: A busy machine is no failure.
calm = settings(deadline=None)
reports = st.builds(
    Report,
    model=st.text(),
    since=times,
    until=times,
    by=st.sampled_from(["backend_type", "target"]),
    comparison=st.builds(
        Comparison,
        baseline=st.none() | st.text(),
        backends=st.lists(backends, max_size=3).map(tuple),
    ),
    series=st.none() | st.lists(points, max_size=3).map(tuple),
)


def backend(**given: Any) -> Backend:
    nothing = dict.fromkeys(FIELDS) | dict.fromkeys(
        ("requests", "errors", "fallbacks", "measured"), 0
    )
    return Backend(**{**nothing, "note": "", "verdict": Verdict.FASTER, "backend": "mlx", **given})


def report(**given: Any) -> Report:
    fields: dict[str, Any] = {
        "model": "phi3:mini",
        "since": SINCE,
        "until": SINCE + timedelta(days=1),
        "by": "backend_type",
        "comparison": Comparison(baseline="ollama", backends=(backend(),)),
    }
    return Report(**(fields | given))


@calm
@given(reports)
def test_what_is_written_is_read(given: Report) -> None:
    assert read(json.loads(json.dumps(write(given)))) == given


def test_has_every_field_of_a_backend() -> None:
    told = backend(speedup=2.5, speedup_interval=(2.25, 2.75), requests=3)
    document = write(report(comparison=Comparison(baseline="ollama", backends=(told,))))
    (one,) = document.pop("backends")
    assert document == {
        "model": "phi3:mini",
        "since": "2026-11-27T12:00:00Z",
        "until": "2026-11-28T12:00:00Z",
        "by": "backend_type",
        "baseline": "ollama",
    }
    assert tuple(one) == FIELDS
    assert (one["speedup"], one["speedup_interval"], one["requests"]) == (2.5, [2.25, 2.75], 3)
    assert (one["verdict"], one["difference_interval"]) == ("faster", None)


def test_series_are_there_when_they_were_asked_for() -> None:
    point = Point(
        at=SINCE,
        key="mlx",
        requests=2,
        errors=1,
        average_seconds=0.5,
        average_tokens_per_second=None,
    )
    assert write(report(series=()))["series"] == []
    assert write(report(series=(point,)))["series"] == [
        {
            "at": "2026-11-27T12:00:00Z",
            "backend": "mlx",
            "requests": 2,
            "errors": 1,
            "average_seconds": 0.5,
            "tokens_per_second": None,
        }
    ]


def test_times_are_of_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert write(report(since=SINCE.astimezone(zone)))["since"] == "2026-11-27T12:00:00Z"


def test_fields_of_a_later_release_are_passed_over() -> None:
    document = write(report())
    document["more"] = 1
    document["backends"][0]["more"] = 1
    assert read(document) == report()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 1),
        ("since", "yesterday"),
        ("since", "2026-11-27T12:00:00"),
        ("until", None),
        ("by", None),
        ("baseline", 1),
        ("backends", {}),
        ("backends", ["x"]),
        ("series", {}),
        ("series", [{"at": 1}]),
    ],
)
def test_what_is_something_else_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}.*: must be "):
        read({**write(report()), field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backend", None),
        ("requests", 1.5),
        ("requests", True),
        ("speedup", "2x"),
        ("speedup", True),
        ("speedup_interval", [1]),
        ("speedup_interval", [1, None]),
        ("verdict", "quick"),
    ],
)
def test_so_is_a_field_of_a_backend(field: str, value: Any) -> None:
    document = write(report())
    document["backends"][0][field] = value
    with pytest.raises(ValueError, match=rf"^backends\[0\]\.{field}: must be "):
        read(document)


@pytest.mark.parametrize("value", [None, [], "x", {}])
def test_what_is_no_comparison_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=": must be "):
        read(value)
