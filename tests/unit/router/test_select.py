"""Which target is asked: tiers, weights, stickiness, and what is against a target."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llm_contract import CHECKSUM_KEY, CONFIG_KEY, OnBusy, PassiveCheck, Target, TargetType
from llm_router import select
from llm_router.credentials import NONE
from llm_router.errors import Cause
from llm_router.exchange import Dialect, Exchange, Kind
from llm_router.mount import Published
from llm_router.select import FIRST, NEVER, Verdict, explain, judge, order
from llm_router.standing import Standings
from llm_router.table import Destination, Entry, Table
from parts.router import files, route

POLICY = PassiveCheck(failures=3, eject=10, max_eject=60)
NOW = 1000.0


@pytest.fixture(autouse=True)
def same_draws() -> Iterator[None]:
    """The draws of each test are always the same."""
    state = random.getstate()
    random.seed(20)
    yield
    random.setstate(state)


def target(name: str, kind: TargetType = TargetType.OLLAMA, **more: Any) -> Target:
    return Target(name=name, type=kind, url=f"http://{name}", model="m", **more)


def made(*targets: Target, standings: Standings | None = None) -> Entry:
    payload = files(route("m", *targets))
    published = Published(payload[CONFIG_KEY], payload[CHECKSUM_KEY].decode())
    return Table.build(published, standings or Standings(), NONE).entries["m"]


def named(destinations: Any) -> list[str]:
    return [destination.target.name for destination in destinations]


def by_name(found: Entry, name: str) -> Destination:
    return next(d for d in found.destinations if d.target.name == name)


def eject(destination: Destination, *, at: float = NOW) -> None:
    standing = destination.standing
    for _ in range(3):
        standing.failed(Cause.NO_REPLY, at, POLICY, why="it closed")
    standing.checked(at, POLICY, failure="no token")


def test_a_plain_route_is_asked_in_its_own_order_without_any_work() -> None:
    found = made(target("a"), target("b"))
    assert order(found, NOW) is found.destinations


def test_tiers_come_in_order_whatever_their_weights() -> None:
    found = made(target("c", tier=3), target("a", tier=1), target("b", tier=2, weight=1000))
    assert {tuple(named(order(found, NOW))) for _ in range(50)} == {("a", "b", "c")}


@pytest.mark.parametrize("weights", [(1, 1), (9, 1), (70, 20, 10), (1, 999)])
def test_weights_are_shares_of_a_tier(weights: tuple[int, ...]) -> None:
    """20,000 draws; a share may be off by five standard deviations of a fair draw."""
    found = made(*(target(f"t{i}", tier=0, weight=w) for i, w in enumerate(weights)))
    draws = 20_000
    counts = Counter(order(found, NOW)[0].target.name for _ in range(draws))
    for index, weight in enumerate(weights):
        share = weight / sum(weights)
        deviation = (draws * share * (1 - share)) ** 0.5
        assert abs(counts[f"t{index}"] - draws * share) < 5 * deviation


def test_the_second_place_is_drawn_by_weight_as_well() -> None:
    found = made(
        target("a", tier=0, weight=50),
        target("b", tier=0, weight=40),
        target("c", tier=0, weight=10),
    )
    second = Counter(o[1] for o in (named(order(found, NOW)) for _ in range(20_000)) if o[0] == "a")
    assert second["b"] / second.total() == pytest.approx(0.8, abs=0.03)


def test_weight_0_gets_nothing() -> None:
    found = made(target("a", tier=0, weight=0), target("b", tier=0))
    assert {tuple(named(order(found, NOW))) for _ in range(20)} == {("b",)}
    assert order(made(target("a", weight=0)), NOW) == []


def sessions(found: Entry, count: int = 3000) -> dict[bytes, str]:
    values = [f"session-{number}".encode() for number in range(count)]
    return {value: order(found, NOW, sticky=value)[0].target.name for value in values}


def test_a_session_stays_on_its_target() -> None:
    found = made(*(target(name, tier=0) for name in "abcd"))
    first = sessions(found)
    assert all(sessions(found) == first for _ in range(3))
    assert set(first.values()) == set("abcd")


def test_sessions_are_shared_by_weight() -> None:
    found = made(target("a", tier=0, weight=3), target("b", tier=0, weight=1))
    assert Counter(sessions(found).values())["a"] / 3000 == pytest.approx(0.75, abs=0.04)


def test_a_target_that_goes_moves_its_own_sessions_only() -> None:
    targets = [target(name, tier=0, weight=w) for name, w in (("a", 1), ("b", 2), ("c", 3))]
    before, after = sessions(made(*targets)), sessions(made(targets[0], targets[2]))
    stayed = {value: name for value, name in before.items() if name != "b"}
    assert all(after[value] == name for value, name in stayed.items())
    assert {after[value] for value in before.keys() - stayed.keys()} == {"a", "c"}


def test_a_target_that_comes_takes_sessions_and_moves_none_between_others() -> None:
    targets = [target(name, tier=0) for name in "abc"]
    before, after = sessions(made(*targets[:2])), sessions(made(*targets))
    assert all(after[value] in (name, "c") for value, name in before.items())
    assert "c" in after.values()


def test_an_ejected_target_s_sessions_come_back_to_it() -> None:
    found = made(*(target(name, tier=0) for name in "ab"))
    before = sessions(found, 200)
    eject(by_name(found, "a"))
    assert set(sessions(found, 200).values()) == {"b"}
    by_name(found, "a").standing.answered()
    assert sessions(found, 200) == before


def test_what_has_something_against_it_comes_last() -> None:
    found = made(target("a"), target("b"), target("c"))
    eject(by_name(found, "a"))
    assert named(order(found, NOW)) == ["b", "c", "a"]


def test_when_all_are_ejected_all_are_asked_in_their_order() -> None:
    found = made(target("a"), target("b"), target("c"))
    for destination in found.destinations:
        eject(destination)
    assert named(order(found, NOW)) == ["a", "b", "c"]


def test_a_half_open_target_gets_one_request_in_its_turn() -> None:
    found = made(target("a"), target("b"))
    first = by_name(found, "a")
    eject(first)
    later = NOW + 10
    assert judge(first, later) is Verdict.TRIAL
    assert named(order(found, later)) == ["a", "b"]
    number = first.standing.begun(later)
    assert judge(first, later) is Verdict.EJECTED
    assert {tuple(named(order(found, later))) for _ in range(20)} == {("b", "a")}
    first.standing.ended(number)
    assert named(order(found, later)) == ["a", "b"]


def test_a_full_target_is_passed_over_or_waited_for() -> None:
    spill = made(target("a", max_concurrent=1), target("b"))
    queue = made(target("a", max_concurrent=1, on_busy=OnBusy.QUEUE), target("b"))
    for found in (spill, queue):
        found.destinations[0].standing.begun(NOW)
        assert judge(found.destinations[0], NOW) is Verdict.BUSY
    assert named(order(spill, NOW)) == ["b", "a"]
    assert named(order(queue, NOW)) == ["a", "b"]
    spill.destinations[0].standing.ended()
    assert named(order(spill, NOW)) == ["a", "b"]


def test_two_routes_to_one_model_share_what_is_known_of_it() -> None:
    standings = Standings()
    one, other = made(target("a"), standings=standings), made(target("a"), standings=standings)
    eject(one.destinations[0])
    assert judge(other.destinations[0], NOW) is Verdict.EJECTED


def doubted(verdict: Verdict) -> Destination:
    """A target that stands so."""
    more: dict[str, Any] = {"max_concurrent": 1}
    found = made(target("a", weight=0 if verdict is Verdict.DRAINED else 1, **more)).destinations[0]
    standing = found.standing
    match verdict:
        case Verdict.HEALTHY:
            standing.host.probed(NOW, healthy=True)
        case Verdict.UNHEALTHY:
            standing.host.probed(NOW, healthy=False, reason="nobody listens")
        case Verdict.TRIAL:
            eject(found, at=NOW - 10)
        case Verdict.EJECTED:
            eject(found)
        case Verdict.MODEL_MISSING:
            standing.probed(NOW, missing=True, loaded=None)
        case Verdict.COOLING:
            standing.failed(Cause.BUSY, NOW, POLICY, why="it said 503")
        case Verdict.MISCONFIGURED:
            standing.failed(Cause.MISCONFIGURED, NOW, POLICY, why="it said 401")
        case Verdict.BUSY:
            standing.begun(NOW)
        case Verdict.UNUSABLE:
            return replace(found, unusable="its Secret has no key token")
    return found


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.INCAPABLE])
def test_every_verdict_has_its_place_and_its_words(verdict: Verdict) -> None:
    destination = doubted(verdict)
    assert judge(destination, NOW) is verdict
    found = replace(
        made(target("z")), destinations=(destination,), tiers=((destination,),), plain=False
    )
    [told] = explain(found, None, NOW)
    assert (told.verdict, told.place) == (verdict, 0 if verdict in NEVER else 1)
    assert told.why
    assert not (FIRST & NEVER)


def test_what_passes_is_over_when_its_time_is() -> None:
    for verdict in (Verdict.COOLING, Verdict.MISCONFIGURED):
        assert judge(doubted(verdict), NOW + 60) is Verdict.UNKNOWN


def test_a_known_bad_host_is_known_to_a_new_route() -> None:
    standings = Standings()
    standings.of("http://a", "other").host.probed(NOW, healthy=False, reason="nobody listens")
    found = made(target("a"), target("b"), standings=standings)
    assert named(order(found, NOW)) == ["b", "a"]


def embedding() -> Exchange:
    return Exchange(
        kind=Kind.EMBED,
        dialect=Dialect.OPENAI,
        body={},
        model="m",
        stream=False,
        messages=(),
        inputs=("hi",),
    )


def test_explains_what_a_kind_of_host_can_not_do() -> None:
    found = made(target("mac", TargetType.MLX), target("b"))
    told = explain(found, embedding(), NOW)
    assert [(one.destination.target.name, one.place) for one in told] == [("b", 1), ("mac", 0)]
    assert told[1].verdict is Verdict.INCAPABLE
    assert "embeddings" in told[1].why


def test_explains_in_the_order_in_which_requests_go() -> None:
    found = made(target("a", tier=0), target("b", tier=0), target("c", tier=1, weight=0))
    for number in range(100):
        value = str(number).encode()
        told = explain(found, None, NOW, sticky=value)
        assert [one.place for one in told] == [1, 2, 0]
        asked = [one.destination for one in told if one.place]
        assert asked == select.order(found, NOW, sticky=value)
