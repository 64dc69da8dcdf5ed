"""Student's t quantile against the printed tables, and its own inverse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.compare.student import NORMAL, quantile, tail

#: A busy machine is no failure.
calm = settings(deadline=None)

#: Degrees of freedom, then t for 95 %, 97.5 % and 99.5 % on one side, as tables print them.
TABLE = [
    (1, 6.3138, 12.7062, 63.6567),
    (2, 2.9200, 4.3027, 9.9248),
    (3, 2.3534, 3.1824, 5.8409),
    (4, 2.1318, 2.7764, 4.6041),
    (5, 2.0150, 2.5706, 4.0321),
    (8, 1.8595, 2.3060, 3.3554),
    (10, 1.8125, 2.2281, 3.1693),
    (15, 1.7531, 2.1314, 2.9467),
    (19, 1.7291, 2.0930, 2.8609),
    (20, 1.7247, 2.0860, 2.8453),
    (25, 1.7081, 2.0595, 2.7874),
    (30, 1.6973, 2.0423, 2.7500),
    (40, 1.6839, 2.0211, 2.7045),
    (60, 1.6706, 2.0003, 2.6603),
    (120, 1.6577, 1.9799, 2.6174),
    (1000, 1.6464, 1.9623, 2.5808),
    (1e12, 1.6449, 1.9600, 2.5758),
]


@pytest.mark.parametrize(("freedom", "t95", "t975", "t995"), TABLE)
def test_is_what_the_tables_print(freedom: float, t95: float, t975: float, t995: float) -> None:
    found = [quantile(probability, freedom) for probability in (0.95, 0.975, 0.995)]
    assert [round(t, 4) for t in found] == [t95, t975, t995]


@calm
@given(st.floats(0.51, 0.9999), st.floats(1, 1e6))
def test_its_tail_is_what_was_asked_for(probability: float, freedom: float) -> None:
    assert tail(quantile(probability, freedom), freedom) == pytest.approx(1 - probability, rel=1e-6)


@calm
@given(st.floats(0.001, 0.999), st.floats(1, 1e9))
def test_is_as_far_below_as_above(probability: float, freedom: float) -> None:
    below, above = quantile(probability, freedom), quantile(1 - probability, freedom)
    assert below == pytest.approx(-above, rel=1e-6, abs=1e-9)


@calm
@given(st.floats(1, 1e6), st.floats(1.001, 2))
def test_more_degrees_of_freedom_make_it_smaller(freedom: float, factor: float) -> None:
    assert quantile(0.975, freedom * factor) < quantile(0.975, freedom)


def test_has_no_step_where_it_becomes_the_normal_distribution() -> None:
    assert quantile(0.975, NORMAL) == pytest.approx(quantile(0.975, NORMAL * 1.01), rel=1e-6)


@pytest.mark.parametrize(("probability", "freedom"), [(0, 5), (1, 5), (0.9, 0), (0.9, -1)])
def test_what_is_out_of_range_is_refused(probability: float, freedom: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        quantile(probability, freedom)
