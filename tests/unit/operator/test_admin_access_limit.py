"""How many wrong tokens are too many, and what a token looks like: decided on values."""

import base64
import json

import pytest

from llm_operator.admin.access import bearer
from llm_operator.admin.access.answers import Kept
from llm_operator.admin.access.limit import PEER, Policy, Tally, origin

POLICY = Policy(most=3, within=60, first=10, longest=35, calm=100)


def after(tally: Tally, *times: float, policy: Policy = POLICY) -> Tally:
    for time in times:
        tally = tally.counted(time, policy)
    return tally


class TestTally:
    def test_fewer_than_the_most_are_no_limit(self) -> None:
        assert after(Tally(), 0, 1).wait(1) == 0

    def test_the_last_of_too_many_begins_one(self) -> None:
        limited = after(Tally(), 0, 1, 2)
        assert limited.wait(2) == 10
        assert limited.wait(11.5) == 0.5
        assert limited.wait(12) == 0

    def test_only_those_within_the_time_count(self) -> None:
        assert after(Tally(), 0, 1, 59.5).wait(59.5) == 10
        assert after(Tally(), 0, 1, 61).wait(61) == 0
        assert after(Tally(), 0, 30, 61, 89.5).wait(89.5) == 10

    def test_a_limit_starts_the_count_over(self) -> None:
        assert after(Tally(), 0, 1, 2, 12, 13).wait(13) == 0

    def test_each_further_one_lasts_twice_as_long_up_to_the_longest(self) -> None:
        now, tally, waits = 0.0, Tally(), []
        for _ in range(5):
            tally = after(tally, now, now, now)
            waits.append(tally.wait(now))
            now += tally.wait(now)
        assert waits == [10, 20, 35, 35, 35]

    def test_years_of_it_overflow_nothing(self) -> None:
        assert after(Tally(limits=10**6, until=1), 5, 5, 5).wait(5) == 35

    def test_after_a_calm_time_the_next_is_a_first_one(self) -> None:
        limited = after(Tally(), 0, 0, 0)
        assert after(limited, 109, 109, 109).wait(109) == 20
        assert after(limited, 110, 110, 110).wait(110) == 10

    def test_what_was_on_its_way_makes_a_limit_no_longer(self) -> None:
        limited = after(Tally(), 0, 0, 0)
        assert after(limited, 1, 2, 3, 4) == limited

    def test_it_holds_no_more_than_it_needs(self) -> None:
        tally = after(Tally(), *(x * 0.01 for x in range(10_000)), policy=PEER)
        assert len(tally.times) < PEER.most


@pytest.mark.parametrize(
    ("peer", "whom"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_whom_an_address_stands_for(peer: str, whom: str) -> None:
    assert origin(peer) == whom


class TestBearer:
    @pytest.mark.parametrize("token", ["x", "a.b-c_d~e+f/g=", "~" * bearer.LONGEST])
    def test_has_the_form(self, token: str) -> None:
        assert bearer.fit(token)

    @pytest.mark.parametrize(
        "token",
        ["", " ", "a b", "a\n", "\na", "a\x00", "a\x7f", "käse", "\ud800", "x" * 8193],
    )
    def test_has_not(self, token: str) -> None:
        assert not bearer.fit(token)

    @pytest.mark.parametrize(
        ("ends", "seconds"), [(1000.0, 0), (900, 0), (1010.5, 10.5), (1030, 30), (9e9, 30)]
    )
    def test_is_taken_for_good_no_longer_than_it_says(self, ends: float, seconds: float) -> None:
        assert bearer.lifetime(jwt({"exp": ends}), most=30, now=1000) == seconds

    @pytest.mark.parametrize(
        "token",
        [
            "plain",
            "a.b.c",
            "..",
            "a.!!!!.c",
            *(f"a.{base64.urlsafe_b64encode(raw).decode()}.c" for raw in (b"[]", b"1", b"\xff")),
        ],
    )
    def test_without_an_end_it_is_for_as_long_as_allowed(self, token: str) -> None:
        assert bearer.lifetime(token, most=30, now=1000) == 30

    @pytest.mark.parametrize("ends", ["soon", None, [], {}, float("nan"), float("inf"), 10**400])
    def test_an_end_that_is_none_never_lengthens_it(self, ends: object) -> None:
        assert 0 <= bearer.lifetime(jwt({"exp": ends}), most=30, now=1000) <= 30


def jwt(claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"head.{middle}.signature"


class TestKept:
    def test_until_its_time(self) -> None:
        kept: Kept[str, int] = Kept(most=2)
        kept.put("a", 1, until=10)
        assert kept.get("a", 9.9) == 1
        assert kept.get("a", 10) is None
        assert len(kept) == 0

    def test_no_more_than_its_bound_and_the_oldest_goes(self) -> None:
        kept: Kept[str, int] = Kept(most=2)
        for number, key in enumerate("abac"):
            kept.put(key, number, until=10)
        assert [kept.get(key, 0) for key in "abc"] == [2, None, 3]

    def test_dropped(self) -> None:
        kept: Kept[str, int] = Kept(most=2)
        kept.put("a", 1, until=10)
        kept.drop("a")
        kept.drop("b")
        assert kept.get("a", 0) is None
