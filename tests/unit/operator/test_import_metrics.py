"""The predecessor's metrics -> usage records, and whole hours of them together."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.admin.traffic import METRIC
from llm_operator.predecessor.backfill import Tally
from llm_operator.predecessor.command import told
from llm_operator.predecessor.measured import (
    COUNTS,
    FULL,
    TEXTS,
    Batch,
    Batcher,
    NotARecord,
    Passed,
    record,
)
from llm_operator.record import usage

NOON = datetime(2025, 11, 15, 12, tzinfo=UTC).timestamp()
LATER = datetime(2025, 11, 16, tzinfo=UTC)

GOOD: dict[str, Any] = {
    "id": 7,
    "timestamp": NOON + 0.25,
    "model": "phi3:mini",
    "backend": "mlx",
    "latency_seconds": 3.0,
    "tokens_generated": 99,
    "prompt_tokens": 12,
    "tokens_per_second": 33.0,
    "request_id": "r-1",
    "session_id": "s",
    "user_id": "u",
    "zone": "kitchen",
    "intent": "weather",
    "source": "gateway",
    "stage": "classify",
}


def one(position: int = 1, **fields: Any) -> dict[str, Any]:
    return record(GOOD | fields, position, Passed())


def test_takes_all_over_but_the_rate() -> None:
    assert one() == {
        "request_id": "r-1",
        "at": NOON + 0.25,
        "model": "phi3:mini",
        "outcome": "ok",
        "stream": False,
        "total_seconds": 3.0,
        "backend_type": "mlx",
        "target": "mlx",
        "completion_tokens": 99,
        "prompt_tokens": 12,
        "session": "s",
        "user": "u",
        "zone": "kitchen",
        "intent": "weather",
        "source": "gateway",
        "stage": "classify",
    }
    assert set(one()) <= set(usage.FIELDS)


def test_its_fields_are_those_of_the_admin_api() -> None:
    assert {name: METRIC[name] for name in (*TEXTS, *COUNTS)} == {**TEXTS, **COUNTS}
    assert set(METRIC) - {*TEXTS, *COUNTS} == {
        *("timestamp", "model", "backend", "latency_seconds", "request_id"),
        "tokens",  # the API's name of the table's tokens_generated
    }


@pytest.mark.parametrize(
    "given",
    [
        NOON,
        str(NOON),
        "2025-11-15T12:00:00+00:00",
        "2025-11-15T13:00:00+01:00",
        "2025-11-15T12:00:00",
        "2025-11-15 12:00:00",
    ],
)
def test_a_time_comes_in_several_forms(given: object) -> None:
    assert one(timestamp=given)["at"] == NOON


def test_a_request_without_an_id_has_the_row_s() -> None:
    assert one(request_id=None)["request_id"] == "imported-7"
    assert one(request_id="")["request_id"] == "imported-7"
    assert one(request_id="x" * 600)["request_id"] == "imported-7"


def test_a_second_row_of_one_request_and_time_is_told_apart() -> None:
    assert one(position=2)["request_id"] == "r-1-imported-7"
    longest = "x" * (512 - len("-imported-7"))
    assert len(one(position=2, request_id=longest)["request_id"]) == 512


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("timestamp", None),
        ("timestamp", "soon"),
        ("timestamp", "infinity"),
        ("timestamp", -1),
        ("model", ""),
        ("model", "x" * 256),
        ("model", None),
        ("latency_seconds", None),
        ("latency_seconds", -0.1),
        ("latency_seconds", "NaN"),
        ("latency_seconds", True),
    ],
)
def test_what_is_no_record_says_which_column(column: str, value: object) -> None:
    with pytest.raises(NotARecord, match=rf"^{column}: "):
        one(**{column: value})


@pytest.mark.parametrize(
    ("column", "value", "field"),
    [
        ("tokens_generated", -1, "completion_tokens"),
        ("tokens_generated", 2**31, "completion_tokens"),
        ("prompt_tokens", 1.5, "prompt_tokens"),
        ("zone", "a\nb", "zone"),
        ("user_id", "x" * 257, "user"),
        ("backend", "x" * 256, "backend_type"),
    ],
)
def test_what_a_record_can_not_have_costs_it_that_alone(
    column: str, value: object, field: str
) -> None:
    passed = Passed()
    made = record(GOOD | {column: value}, 1, passed)
    assert field not in made
    ((why, number),) = passed.counts.items()
    assert why.startswith(f"{column}: ")
    assert number == 1
    assert passed.first[why] == ["7"]


def test_a_batch_ends_with_an_hour() -> None:
    batcher = Batcher(Passed(), until=LATER)
    hours = [0] * 3 + [1] * FULL + [2] * 5 + [3] * 2 * FULL + [4]
    made: list[Batch] = []
    for number, hour in enumerate(hours):
        batch = batcher.add(GOOD | {"id": number, "timestamp": NOON + 3600 * hour}, 1)
        made += [batch] if batch else []
    rest = batcher.rest()
    assert rest is not None
    assert [len(batch.records) for batch in (*made, rest)] == [3 + FULL, 5 + 2 * FULL, 1]
    at = [[hour.hour for hour in batch.hours] for batch in (*made, rest)]
    assert at == [[12, 13], [14, 15], [16]]
    assert batcher.rest() is None


@pytest.mark.parametrize("at", [LATER.timestamp(), NOON * 1000, 1e300])
def test_what_is_in_the_future_is_no_record(at: float) -> None:
    passed = Passed()
    batcher = Batcher(passed, until=LATER)
    assert batcher.add(GOOD | {"timestamp": at}, 1) is None
    assert batcher.rest() is None
    assert list(passed.counts.values()) == [1]


def test_the_end_says_what_was_left_out_and_what_will_go() -> None:
    tally = Tally(count=5, records=3, new=2, old=2, ancient=1)
    for number in range(5):
        tally.passed.add("model: is no text: the row is left out", {"id": number})
    lines = list(told(tally))
    assert lines[0].endswith("the row is left out (5 rows: 0, 1, 2, ...)")
    assert "2 are older than 30 days" in lines[1]
    assert "1 are older than 400 days" in lines[2]
    assert lines[3].startswith("5 metrics: 2 stored, 1 there already, 2 left out")


ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just([1])
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries({name: st.one_of(st.just(good), ANY) for name, good in GOOD.items()}),
    st.integers(min_value=1, max_value=3),
)
def test_any_row_is_a_record_within_its_bounds_or_none(row: dict[str, Any], position: int) -> None:
    try:
        made = record(row, position, Passed())
    except NotARecord:
        return
    assert set(made) <= set(usage.FIELDS)
    assert 1 <= len(made["request_id"].encode()) <= 512
    assert 0 <= made["total_seconds"] <= 1e9
    assert all("\x00" not in value for value in made.values() if isinstance(value, str))
