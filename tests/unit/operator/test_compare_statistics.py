"""What a difference between two backends is worth: intervals, baselines, and too little to tell."""

import math
import random
import statistics as standard
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.compare.model import Arm
from llm_operator.compare.statistics import (
    ENOUGH,
    Backend,
    Mean,
    Verdict,
    compare,
    difference,
    ratio,
)

#: A busy machine is no failure.
calm = settings(deadline=None)


def arm(key: str, times: Sequence[float], rates: Sequence[float] = (), **given: Any) -> Arm:
    """An arm of these measurements, summed up as Postgres does."""
    fields: dict[str, Any] = {
        "requests": len(times),
        "errors": 0,
        "fallbacks": 0,
        "times": len(times),
        "average_seconds": standard.fmean(times) if times else None,
        "deviation_seconds": standard.stdev(times) if len(times) > 1 else None,
        "p50_seconds": standard.median(times) if times else None,
        "p95_seconds": max(times) if times else None,
        "first_tokens": 0,
        "average_first_token_seconds": None,
        "speeds": len(rates),
        "average_tokens_per_second": standard.fmean(rates) if rates else None,
        "deviation_tokens_per_second": standard.stdev(rates) if len(rates) > 1 else None,
    }
    return Arm(key=key, **(fields | given))


def mean(values: Sequence[float]) -> Mean:
    return Mean(count=len(values), value=standard.fmean(values), deviation=standard.stdev(values))


def by_name(arms: Sequence[Arm], baseline: str | None = None) -> dict[str, Backend]:
    return {one.backend: one for one in compare(arms, baseline=baseline).backends}


ABOUT_7 = [6.0, 7.0, 8.0] * 10
ABOUT_3 = [2.5, 3.0, 3.5] * 10


class TestIntervals:
    def test_of_a_difference_is_welchs(self) -> None:
        # By hand: means 7 and 3; variances of them 20/29/30 and 5/29/30, together 0.0287356;
        # 42.6 degrees of freedom, so t is 2.0172.
        apart, (low, high) = difference(mean(ABOUT_7), mean(ABOUT_3))
        assert apart == 4
        assert (low, high) == pytest.approx((4 - 0.34195, 4 + 0.34195), abs=1e-4)

    def test_of_a_ratio_is_as_wide_on_both_sides_of_it(self) -> None:
        value, (low, high) = ratio(mean(ABOUT_7), mean(ABOUT_3))
        assert value == pytest.approx(7 / 3)
        assert value / low == pytest.approx(high / value)
        # The relative errors are 0.021662 and 0.025273, together 0.033286; t is 2.0025 for 56.7.
        assert high / value == pytest.approx(math.exp(0.033286 * 2.0025), rel=1e-4)

    def test_of_what_does_not_vary_has_no_width(self) -> None:
        assert ratio(mean([2.0] * 20), mean([1.0] * 20)) == (2.0, (2.0, 2.0))
        assert difference(mean([2.0] * 20), mean([1.0] * 20)) == (1.0, (1.0, 1.0))

    def test_hold_the_truth_as_often_as_they_say(self) -> None:
        """Times are skewed, which costs a little of the 95 %."""
        chance = random.Random(20261128)
        rounds, held, apart = 400, 0, 0
        for _ in range(rounds):
            slow = mean([chance.lognormvariate(math.log(7), 0.5) for _ in range(40)])
            fast = mean([chance.lognormvariate(math.log(3), 0.5) for _ in range(40)])
            low, high = ratio(slow, fast)[1]
            held += low <= 7 / 3 <= high
            low, high = difference(slow, fast)[1]
            apart += low <= 4 * math.exp(0.125) <= high
        assert 0.93 < held / rounds < 0.97
        assert 0.92 < apart / rounds < 0.97


measured = st.lists(st.floats(1e-3, 1e3), min_size=ENOUGH, max_size=60)


class TestProperties:
    @calm
    @given(measured, measured)
    def test_an_interval_holds_its_estimate(self, one: list[float], other: list[float]) -> None:
        for estimate in (ratio, difference):
            value, (low, high) = estimate(mean(one), mean(other))
            assert low <= value <= high

    @calm
    @given(measured, measured)
    def test_the_other_way_round_it_is_the_inverse(
        self, one: list[float], other: list[float]
    ) -> None:
        value, (low, high) = ratio(mean(one), mean(other))
        inverse, ends = ratio(mean(other), mean(one))
        assert inverse == pytest.approx(1 / value)
        assert ends == pytest.approx((1 / high, 1 / low))

    @calm
    @given(measured, measured, st.floats(1e-6, 1e6))
    def test_the_unit_of_time_changes_no_ratio(
        self, one: list[float], other: list[float], unit: float
    ) -> None:
        scaled = [mean([value * unit for value in values]) for values in (one, other)]
        assert ratio(*scaled)[0] == pytest.approx(ratio(mean(one), mean(other))[0])
        assert ratio(*scaled)[1] == pytest.approx(ratio(mean(one), mean(other))[1], rel=1e-5)

    @calm
    @given(measured)
    def test_a_backend_is_no_faster_than_itself(self, values: list[float]) -> None:
        told = by_name([arm("mlx", values), arm("ollama", values)])
        assert told["mlx"].verdict is Verdict.SAME
        assert told["mlx"].speedup == pytest.approx(1)
        assert told["mlx"].difference_seconds == pytest.approx(0)

    @calm
    @given(measured, measured)
    def test_no_backend_is_faster_and_slower(self, one: list[float], other: list[float]) -> None:
        opposite = {
            Verdict.FASTER: Verdict.SLOWER,
            Verdict.SLOWER: Verdict.FASTER,
            Verdict.SAME: Verdict.SAME,
        }
        arms = [arm("a", one), arm("b", other)]
        there, back = by_name(arms, "a")["b"], by_name(arms, "b")["a"]
        assert back.verdict is opposite[there.verdict]
        low, high = there.speedup_interval or (0.0, 0.0)
        assert (there.verdict is Verdict.SAME) == (low <= 1 <= high)

    @calm
    @given(st.integers(0, ENOUGH - 1), measured)
    def test_too_few_on_either_side_give_no_number(self, few: int, many: list[float]) -> None:
        for arms in (
            [arm("mlx", many[:few]), arm("ollama", many)],
            [arm("mlx", many), arm("ollama", many[:few])],
        ):
            told = by_name(arms)["mlx"]
            assert told.verdict is Verdict.UNKNOWN
            assert (told.speedup, told.speedup_interval) == (None, None)
            assert (told.difference_seconds, told.difference_interval) == (None, None)
            assert told.note.startswith("not enough data: ")


class TestBaseline:
    def test_is_ollama_where_it_is(self) -> None:
        told = compare([arm("mlx", ABOUT_7), arm("ollama", ABOUT_3)])
        assert told.baseline == "ollama"
        assert [one.backend for one in told.backends] == ["ollama", "mlx"]

    def test_is_else_the_slowest(self) -> None:
        told = compare([arm("mlx", ABOUT_3), arm("openai", ABOUT_7)])
        assert told.baseline == "openai"

    def test_is_none_of_which_too_little_is_known(self) -> None:
        told = compare([arm("a", ABOUT_3), arm("b", ABOUT_7), arm("c", [60.0])])
        assert told.baseline == "b"

    def test_is_the_one_that_was_chosen(self) -> None:
        told = by_name([arm("mlx", ABOUT_3), arm("ollama", ABOUT_7)], "mlx")
        assert told["mlx"].verdict is Verdict.BASELINE
        assert told["mlx"].speedup == 1.0
        assert told["ollama"].verdict is Verdict.SLOWER
        assert told["ollama"].speedup == pytest.approx(3 / 7)

    def test_that_is_not_there_is_refused_by_name(self) -> None:
        with pytest.raises(ValueError, match="'vllm' in that time; there is mlx, ollama"):
            compare([arm("ollama", ABOUT_7), arm("mlx", ABOUT_3)], baseline="vllm")
        with pytest.raises(ValueError, match="there is none"):
            compare([], baseline="ollama")

    def test_of_nothing_is_none(self) -> None:
        told = compare([])
        assert (told.baseline, told.backends) == (None, ())

    def test_stands_with_nothing_measured(self) -> None:
        told = by_name([arm("ollama", [])])
        assert told["ollama"].speedup is None
        assert told["ollama"].note == (
            "not enough data: 0 of ollama measured, at least 20 are needed"
        )


class TestBackends:
    def test_come_by_their_speed_after_the_baseline(self) -> None:
        arms = [arm("a", [9.0] * 20), arm("b", []), arm("c", [2.0] * 20), arm("ollama", ABOUT_7)]
        told = compare(arms)
        assert [one.backend for one in told.backends] == ["ollama", "c", "a", "b"]

    def test_that_are_faster_and_slower(self) -> None:
        arms = [arm("mlx", ABOUT_3), arm("ollama", ABOUT_7), arm("z", [20.0, 22.0] * 10)]
        told = by_name(arms)
        assert told["mlx"].verdict is Verdict.FASTER
        assert told["mlx"].speedup == pytest.approx(7 / 3)
        assert told["mlx"].difference_seconds == -4
        assert told["z"].verdict is Verdict.SLOWER
        assert told["z"].note == "tokens per second: too few requests tell them"

    def test_are_told_apart_by_tokens_too(self) -> None:
        arms = [
            arm("mlx", ABOUT_3, [32.0, 33.0, 34.0] * 10),
            arm("ollama", ABOUT_7, [13.0, 14.0, 15.0] * 10),
        ]
        told = by_name(arms)["mlx"]
        assert told.rate_ratio == pytest.approx(33 / 14)
        assert told.rate_ratio_interval is not None
        assert told.rate_ratio_interval[0] < 33 / 14 < told.rate_ratio_interval[1]
        assert told.note == ""

    def test_keep_what_was_counted(self) -> None:
        given = arm("mlx", ABOUT_3, requests=40, errors=7, fallbacks=3)
        told = by_name([given])["mlx"]
        assert (told.requests, told.errors, told.fallbacks, told.measured) == (40, 7, 3, 30)

    def test_whose_average_is_nothing_have_no_ratio(self) -> None:
        told = by_name([arm("mlx", [0.0] * 30), arm("ollama", ABOUT_7)])["mlx"]
        assert told.verdict is Verdict.UNKNOWN
        assert told.speedup is None

    def test_with_times_near_nothing_do_not_overflow(self) -> None:
        told = by_name([arm("mlx", [1e-200, 3e-200] * 20), arm("ollama", ABOUT_7)])["mlx"]
        assert told.verdict is Verdict.FASTER
