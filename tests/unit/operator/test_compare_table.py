"""Comparisons as a person reads them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from llm_operator.compare import table
from llm_operator.compare.document import FIELDS, Report
from llm_operator.compare.statistics import Backend, Comparison, Verdict

COUNTS = ("requests", "errors", "fallbacks", "measured")
SINCE, UNTIL = datetime(2026, 11, 27, 12, tzinfo=UTC), datetime(2026, 11, 28, 12, tzinfo=UTC)


def backend(name: str, **given: Any) -> Backend:
    nothing = dict.fromkeys(FIELDS) | dict.fromkeys(COUNTS, 0)
    return Backend(**{**nothing, "note": "", "verdict": Verdict.FASTER, "backend": name, **given})


def report(*backends: Backend, model: str = "phi3:mini") -> Report:
    baseline = backends[0].backend if backends else None
    comparison = Comparison(baseline=baseline, backends=backends)
    return Report(model=model, since=SINCE, until=UNTIL, by="backend_type", comparison=comparison)


def test_the_summary_is_the_predecessors_table() -> None:
    slow = backend("ollama", average_seconds=7.04, tokens_per_second=14.0, speedup=1.0)
    fast = backend("mlx", average_seconds=2.96, tokens_per_second=33.04, speedup=2.33)
    other = backend("ollama", average_seconds=15.0, tokens_per_second=6.7, speedup=1.0)
    assert table.summary([report(slow, fast), report(other, model="llama3.1:8b")]) == [
        "| Model       | Backend | Avg Time | Tokens/sec | Speedup |",
        "|-------------|---------|----------|------------|---------|",
        "| phi3:mini   | Ollama  | ~7s      | ~14 t/s    | 1.0x    |",
        "| phi3:mini   | MLX     | ~3s      | ~33 t/s    | 2.3x    |",
        "| llama3.1:8b | Ollama  | ~15s     | ~6.7 t/s   | 1.0x    |",
    ]


def test_the_summary_has_no_number_where_there_is_too_little() -> None:
    few = backend("mlx", verdict=Verdict.UNKNOWN)
    assert table.summary([report(few)])[2:] == [
        "| phi3:mini | MLX     | -        | -          | not enough data |"
    ]


def test_a_name_can_not_end_a_cell() -> None:
    (line,) = table.summary([report(backend("a|b\x1b[2J"), model="m|n")])[2:]
    assert line.startswith(r"| m\|n  | a\|b [2J | ")


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0, "~0s"),
        (0.043, "~0.04s"),
        (0.5, "~0.5s"),
        (0.949, "~0.95s"),
        (0.96, "~1s"),
        (1.25, "~1.2s"),
        (9.96, "~10s"),
        (16.7, "~16.7s"),
        (100.4, "~100s"),
        (1200.0, "~1200s"),
    ],
)
def test_numbers_are_as_long_as_they_are_good_for(seconds: float, written: str) -> None:
    (line,) = table.summary([report(backend("mlx", average_seconds=seconds))])[2:]
    assert line.split("|")[3].strip() == written


def test_the_full_one_has_all_that_is_known() -> None:
    slow = backend(
        "ollama",
        requests=30,
        errors=1,
        measured=29,
        average_seconds=7.0,
        p50_seconds=6.9,
        p95_seconds=9.5,
        first_token_seconds=0.25,
        tokens_per_second=14.0,
        speedup=1.0,
        verdict=Verdict.BASELINE,
    )
    fast = backend(
        "mlx", requests=200, fallbacks=3, measured=19, verdict=Verdict.UNKNOWN, note="too few"
    )
    assert [line.rstrip() for line in table.full(report(slow, fast))] == [
        "phi3:mini, 2026-11-27 12:00 to 2026-11-28 12:00 UTC",
        "BACKEND  REQUESTS  ERRORS  FALLBACKS  MEASURED  AVERAGE  P50     P95     FIRST TOKEN  "
        "TOKENS/S  SPEEDUP  95% INTERVAL  VERDICT",
        "ollama   30        1       0          29        7.00 s   6.90 s  9.50 s  0.25 s       "
        "14.00     1.00x    -             baseline",
        "mlx      200       0       3          19        -        -       -       -            "
        "-         -        -             not enough data",
        "mlx: too few",
    ]


def test_the_full_one_gives_the_interval() -> None:
    told = backend("mlx", speedup=2.333, speedup_interval=(2.1, 2.61))
    assert "2.33x    2.10 to 2.61  faster" in table.full(report(told))[2]


def test_of_nothing_it_says_so() -> None:
    assert table.full(report()) == [
        "phi3:mini, 2026-11-27 12:00 to 2026-11-28 12:00 UTC: nothing is recorded"
    ]
