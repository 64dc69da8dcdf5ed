"""What a difference between two backends is worth: each one beside a baseline. Pure.

A speedup is the ratio of two means, the baseline's average time by the other's. Its 95 % interval
is that of the difference of their logarithms by the delta method, with Welch's degrees of freedom:
unlike Fieller's it is always of two positive ends, also for times that are spread as widely as
those of answers of any length. The interval of the difference in seconds is Welch's. Neither is
told of fewer than `ENOUGH` requests on either side, where a mean of so skewed times is not yet
normal. The verdict goes by the interval of the speedup.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from llm_operator.compare.model import Arm
from llm_operator.compare.student import quantile

#: Measured requests on each side from which a difference is told.
ENOUGH = 20
#: Of the intervals.
CONFIDENCE = 0.95
#: The baseline when none is chosen, if it is there.
USUAL = "ollama"

Interval = tuple[float, float]


class Verdict(StrEnum):
    """How a backend stands to the baseline."""

    BASELINE = "baseline"
    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no difference seen"
    UNKNOWN = "not enough data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """The average of some measurements.

    Attributes:
        deviation: sample standard deviation of one measurement.
    """

    count: int
    value: float
    deviation: float

    @property
    def error(self) -> float:
        """The standard error of the average."""
        return self.deviation / math.sqrt(self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One arm beside the baseline; what is not known is None.

    Attributes:
        measured: requests that the seconds are of: those that the first target asked has answered.
        speedup: the baseline's average time by this one's: above 1 is faster.
        difference_seconds: this average time less the baseline's: below 0 is faster.
        rate_ratio: this rate of tokens by the baseline's: above 1 is faster.
        note: why a number is missing; "" where none is.
    """

    backend: str
    requests: int
    errors: int
    fallbacks: int
    measured: int
    average_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    first_token_seconds: float | None
    tokens_per_second: float | None
    speedup: float | None
    speedup_interval: Interval | None
    difference_seconds: float | None
    difference_interval: Interval | None
    rate_ratio: float | None
    rate_ratio_interval: Interval | None
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All backends of one model, the baseline first, then the fastest.

    Attributes:
        baseline: its key; None when there is nothing to compare.
    """

    baseline: str | None
    backends: tuple[Backend, ...]


def compare(arms: Sequence[Arm], *, baseline: str | None = None) -> Comparison:
    """Each arm beside the baseline.

    Args:
        baseline: the key of an arm; None for Ollama, or else the slowest.

    Raises:
        ValueError: no arm has that key; the message names those there are.
    """
    if baseline is not None and all(arm.key != baseline for arm in arms):
        known = ", ".join(sorted(arm.key for arm in arms)) or "none"
        raise ValueError(f"nothing is recorded of {baseline!r} in that time; there is {known}")
    if not arms:
        return Comparison(baseline=None, backends=())
    base = _usual(arms) if baseline is None else next(a for a in arms if a.key == baseline)
    others = sorted((arm for arm in arms if arm is not base), key=_by_time)
    told = (_as_baseline(base), *(_beside(arm, base) for arm in others))
    return Comparison(baseline=base.key, backends=told)


def difference(one: Mean, other: Mean) -> tuple[float, Interval]:
    """One average less the other, and Welch's interval of that."""
    apart = one.value - other.value
    half = _half(one.error, one.count, other.error, other.count)
    return apart, (apart - half, apart + half)


def ratio(one: Mean, other: Mean) -> tuple[float, Interval]:
    """One average by the other, both above 0, and the interval of that."""
    value = one.value / other.value
    # The standard error of a mean's logarithm is that of the mean by the mean.
    half = _half(one.error / one.value, one.count, other.error / other.value, other.count)
    return value, (value * math.exp(-half), value * math.exp(half))


def _half(error: float, count: int, other_error: float, other_count: int) -> float:
    """Half the width of the interval of a difference, by the standard errors of both sides."""
    both = math.hypot(error, other_error)
    if both == 0:
        return 0.0
    # NB: in shares, because fourth powers of very small numbers vanish.
    share, other_share = (error / both) ** 2, (other_error / both) ** 2
    freedom = 1 / (share**2 / (count - 1) + other_share**2 / (other_count - 1))
    return quantile((1 + CONFIDENCE) / 2, freedom) * both


def _usual(arms: Sequence[Arm]) -> Arm:
    usual = [arm for arm in arms if arm.key == USUAL]
    return usual[0] if usual else max(arms, key=_slow)


def _slow(arm: Arm) -> tuple[bool, float, str]:
    # NB: one with too few requests would leave all others without a comparison.
    return arm.times >= ENOUGH, arm.average_seconds or 0.0, arm.key


def _by_time(arm: Arm) -> tuple[float, str]:
    return math.inf if arm.average_seconds is None else arm.average_seconds, arm.key


def _as_baseline(arm: Arm) -> Backend:
    speedup = None if _time(arm) is None else 1.0
    note = "" if speedup else _few([arm])
    return _backend(arm, verdict=Verdict.BASELINE, speedup=speedup, note=note)


def _beside(arm: Arm, base: Arm) -> Backend:
    mine, its = _time(arm), _time(base)
    rate, its_rate = _rate(arm), _rate(base)
    rates = ratio(rate, its_rate) if rate and its_rate else (None, None)
    if mine is None or its is None:
        note = _few([side for side in (arm, base) if _time(side) is None])
        return _backend(arm, verdict=Verdict.UNKNOWN, rates=rates, note=note)
    speedup, interval = ratio(its, mine)
    return _backend(
        arm,
        verdict=_judge(interval),
        speedup=speedup,
        speedup_interval=interval,
        differences=difference(mine, its),
        rates=rates,
        note="" if rates[0] else "tokens per second: too few requests tell them",
    )


def _judge(speedup: Interval) -> Verdict:
    low, high = speedup
    if low > 1:
        return Verdict.FASTER
    return Verdict.SLOWER if high < 1 else Verdict.SAME


def _few(arms: Sequence[Arm]) -> str:
    counts = ", ".join(f"{arm.times} of {arm.key}" for arm in arms)
    return f"{Verdict.UNKNOWN}: {counts} measured, at least {ENOUGH} are needed"


def _time(arm: Arm) -> Mean | None:
    return _mean(arm.times, arm.average_seconds, arm.deviation_seconds)


def _rate(arm: Arm) -> Mean | None:
    return _mean(arm.speeds, arm.average_tokens_per_second, arm.deviation_tokens_per_second)


def _mean(count: int, value: float | None, deviation: float | None) -> Mean | None:
    """None: too few to compare. NB: so is an average of 0, of which there is no ratio."""
    if count < ENOUGH or not value or deviation is None:
        return None
    return Mean(count=count, value=value, deviation=deviation)


def _backend(
    arm: Arm,
    *,
    verdict: Verdict,
    note: str,
    speedup: float | None = None,
    speedup_interval: Interval | None = None,
    differences: tuple[float | None, Interval | None] = (None, None),
    rates: tuple[float | None, Interval | None] = (None, None),
) -> Backend:
    return Backend(
        backend=arm.key,
        requests=arm.requests,
        errors=arm.errors,
        fallbacks=arm.fallbacks,
        measured=arm.times,
        average_seconds=arm.average_seconds,
        p50_seconds=arm.p50_seconds,
        p95_seconds=arm.p95_seconds,
        first_token_seconds=arm.average_first_token_seconds,
        tokens_per_second=arm.average_tokens_per_second,
        speedup=speedup,
        speedup_interval=speedup_interval,
        difference_seconds=differences[0],
        difference_interval=differences[1],
        rate_ratio=rates[0],
        rate_ratio_interval=rates[1],
        verdict=verdict,
        note=note,
    )
