"""The retry budget: a fifth of recent requests, and a few for a quiet router."""

import random

from llm_router.budget import MOST, Budget


def test_a_quiet_router_may_repeat_some_and_no_more() -> None:
    budget = Budget()
    assert [budget.spend() for _ in range(12)] == [True] * int(MOST) + [False] * 2
    assert budget.refused == 2


def test_five_requests_earn_one_repeat() -> None:
    budget = Budget()
    while budget.spend():
        pass
    for _ in range(4):
        budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_earning_has_an_end() -> None:
    budget = Budget()
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == MOST


def test_never_more_than_a_fifth_of_requests_is_repeated() -> None:
    draw, budget, earned, spent = random.Random(7), Budget(), 0, 0
    for _ in range(20_000):
        if draw.random() < 0.5:
            budget.earn()
            earned += 1
        elif budget.spend():
            spent += 1
        assert spent <= MOST + earned * 0.2 + 1e-6
    # Asked for as often as not, nearly all of the budget is given.
    assert spent > earned * 0.19
