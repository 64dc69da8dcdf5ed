"""Student's t distribution: how far a mean of few measurements may be off. Pure."""

import math
from statistics import NormalDist

#: Degrees of freedom from which it is the normal distribution to seven digits.
NORMAL = 1e7
#: Terms of the continued fraction at most; some twenty are enough nearly everywhere.
TERMS = 10_000
TINY = 1e-300


def quantile(probability: float, freedom: float) -> float:
    """The t that is not exceeded with this probability.

    Args:
        probability: above 0 and below 1.
        freedom: degrees of freedom, above 0; they need not be whole.

    Raises:
        ValueError: a number outside of its range.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability must be above 0 and below 1, is {probability}")
    if not freedom > 0:
        raise ValueError(f"degrees of freedom must be above 0, are {freedom}")
    if freedom > NORMAL:
        return NormalDist().inv_cdf(probability)
    if probability < 0.5:
        return -quantile(1 - probability, freedom)
    wanted = 1 - probability
    low, high = 0.0, 1.0
    while tail(high, freedom) > wanted:
        low, high = high, 2 * high
    # NB: by halves, because it can't run away; some sixty steps to the last digit.
    while (middle := (low + high) / 2) not in (low, high):
        if tail(middle, freedom) > wanted:
            low = middle
        else:
            high = middle
    return high


def tail(t: float, freedom: float) -> float:
    """The probability of more than t, which is 0 or more."""
    return _beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    # NB: the fraction is quick below the mean only; above it the other tail is below its own.
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a
    return front / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """Its continued fraction 1 + d1 / (1 + d2 / (1 + ...)), evaluated forwards."""
    value = numerators = 1.0
    denominators = 0.0
    for term in range(1, TERMS):
        half = term // 2
        if term % 2:
            coefficient = -(a + half) * (a + b + half) / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            coefficient = half * (b - half) / ((a + 2 * half - 1) * (a + 2 * half))
        denominators = 1 / ((1 + coefficient * x * denominators) or TINY)
        numerators = (1 + coefficient * x / numerators) or TINY
        change = numerators * denominators
        value *= change
        if abs(change - 1) < 1e-16:
            break
    return value
