"""Sessions: random ids, bounded in number and time; and the cookie that carries one."""

from dataclasses import dataclass

import pytest

from llm_operator.admin.page.session import COOKIE, Sessions, cookie, id_of


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def entered(sessions: Sessions, name: str = "ada") -> str:
    return sessions.open(token=f"token-of-{name}", name=name, peer="10.0.0.1").id


def test_a_session_is_found_by_its_id_alone() -> None:
    sessions = Sessions(Clock())
    one, other = entered(sessions, "ada"), entered(sessions, "bob")
    assert one != other
    assert len(one) >= 40
    found = sessions.find(one)
    assert found is not None
    assert (found.name, found.token) == ("ada", "token-of-ada")
    assert sessions.find("") is None
    assert sessions.find(one[:-1]) is None


def test_neither_id_nor_token_is_in_its_repr() -> None:
    sessions = Sessions(Clock())
    session = sessions.open(token="secret", name="ada", peer="")
    assert "secret" not in repr(session)
    assert session.id not in repr(session)


def test_it_ends_when_nobody_did_anything_for_a_while() -> None:
    clock = Clock()
    sessions = Sessions(clock, idle=100)
    key = entered(sessions)
    clock.now = 90
    assert sessions.find(key) is not None
    clock.now = 180
    assert sessions.peek(key) is not None, "the act at 90 has prolonged it"
    clock.now = 191
    assert sessions.find(key) is None, "and the look at 180 has not"
    assert len(sessions) == 0


def test_one_too_many_ends_the_one_that_was_longest_without_an_act() -> None:
    clock = Clock()
    sessions = Sessions(clock, most=2)
    one, other = entered(sessions), entered(sessions)
    clock.now = 1
    sessions.find(one)
    third = entered(sessions)
    assert sessions.find(other) is None
    assert sessions.find(one) is not None
    assert sessions.find(third) is not None


def test_sessions_whose_time_is_over_do_not_count() -> None:
    clock = Clock()
    sessions = Sessions(clock, most=2, idle=10)
    entered(sessions)
    clock.now = 20
    kept = entered(sessions)
    entered(sessions)
    assert sessions.find(kept) is not None
    assert len(sessions) == 2


def test_an_ended_session_is_gone() -> None:
    sessions = Sessions(Clock())
    key = entered(sessions)
    session = sessions.find(key)
    assert session is not None
    sessions.end(session)
    assert sessions.find(key) is None


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        (f"{COOKIE}=abc", "abc"),
        (f'theirs="a b; {COOKIE}=abc', "abc"),
        (f"a=1; {COOKIE}=abc ; b=2", "abc"),
        (f"x{COOKIE}=abc", ""),
        (COOKIE, ""),
        ("", ""),
    ],
)
def test_the_id_is_read_from_among_other_cookies(cookies: str, expected: str) -> None:
    assert id_of(cookies) == expected


def test_no_script_and_no_other_site_gets_the_cookie() -> None:
    told = cookie("abc", secure=False)
    assert told == f"{COOKIE}=abc; Path=/; HttpOnly; SameSite=Strict"
    assert cookie("abc", secure=True).endswith("; Secure")
    assert "Max-Age=0" in cookie("", secure=False)
