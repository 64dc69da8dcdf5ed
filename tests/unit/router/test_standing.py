"""What a router knows of hosts and models: whose fault a failure is, and when doubt ends."""

import random
from collections.abc import Callable

import pytest

from llm_contract import PassiveCheck
from llm_router.breaker import CLOSED, Phase
from llm_router.errors import Cause
from llm_router.standing import (
    COUNTED,
    MAX_COOL_SECONDS,
    MISSING_SECONDS,
    REFUSED_SECONDS,
    Standing,
    Standings,
)

POLICY = PassiveCheck(failures=3, eject=10, max_eject=60)
URL = "http://mac:11434"
#: Causes that a client can bring about by what it sends.
CLIENTS = (Cause.REJECTED, Cause.UNSUPPORTED, Cause.DEADLINE)


@pytest.fixture
def standings() -> Standings:
    return Standings()


@pytest.fixture
def standing(standings: Standings) -> Standing:
    return standings.of(URL, "phi3:mini")


def fail(standing: Standing, cause: Cause = Cause.NO_REPLY, *, at: float = 0.0) -> bool:
    return standing.failed(cause, at, POLICY, why=f"{cause} happened")


def eject(standing: Standing, *, at: float = 0.0) -> None:
    """Three failures, and the router's own check that failed too."""
    for _ in range(3):
        fail(standing, at=at)
    standing.checked(at, POLICY, failure="no token")
    assert standing.breaker.phase(at) is Phase.OPEN


def test_a_new_standing_has_nothing_against_it(standing: Standing) -> None:
    assert not standing.doubted
    assert standing.breaker == standing.host.breaker == CLOSED
    assert (standing.host.healthy, standing.loaded) == (None, None)


@pytest.mark.parametrize("cause", CLIENTS)
def test_what_a_client_does_is_no_failure(standing: Standing, cause: Cause) -> None:
    for _ in range(20):
        assert not fail(standing, cause)
    assert not standing.doubted


@pytest.mark.parametrize("cause", sorted(COUNTED))
def test_failures_ask_for_one_check_and_eject_nothing_by_themselves(
    standing: Standing, cause: Cause
) -> None:
    assert [fail(standing, cause) for _ in range(20)] == [True] + [False] * 19
    assert standing.breaker.phase(0) is Phase.CLOSED


def test_failures_eject_when_the_check_fails_as_well(standing: Standing) -> None:
    eject(standing)
    assert standing.why == "no token"


def test_a_check_that_fails_early_lets_later_failures_eject(standing: Standing) -> None:
    fail(standing)
    standing.checked(0, POLICY, failure="no token")
    assert standing.breaker.phase(0) is Phase.CLOSED
    assert not fail(standing)
    assert standing.breaker.phase(0) is Phase.CLOSED
    fail(standing)
    assert standing.breaker.phase(0) is Phase.OPEN


def test_poison_requests_never_eject_a_target_that_answers_its_check(standing: Standing) -> None:
    for second in range(1000):
        if fail(standing, at=second):
            standing.checked(second, POLICY, failure="")
        assert standing.breaker.phase(second) is Phase.CLOSED
    assert not standing.doubted


def test_an_answer_takes_everything_back(standing: Standing) -> None:
    eject(standing)
    for cause in (Cause.MODEL_MISSING, Cause.BUSY, Cause.MISCONFIGURED, Cause.CONNECT_FAILURE):
        fail(standing, cause)
    standing.host.probed(0, healthy=False, reason="down")
    standing.answered()
    assert (standing.doubted, standing.why, standing.proven) == (False, "", None)
    assert standing.breaker == standing.host.breaker == CLOSED
    assert standing.host.healthy is None


def test_refused_connections_eject_the_host_at_the_second(standings: Standings) -> None:
    one, other = standings.of(URL, "a"), standings.of(URL, "b")
    elsewhere = standings.of("http://other", "a")
    fail(one, Cause.CONNECT_FAILURE)
    assert one.host.breaker.phase(0) is Phase.CLOSED
    fail(other, Cause.CONNECT_FAILURE)
    assert one.host.breaker.phase(0) is Phase.OPEN
    assert one.host is other.host
    assert (one.doubted, other.doubted, elsewhere.doubted) == (True, True, False)
    assert one.breaker == CLOSED, "a host's fault is not its models'"


def test_a_broken_model_leaves_the_others_of_its_host_alone(standings: Standings) -> None:
    broken, fine = standings.of(URL, "a"), standings.of(URL, "b")
    eject(broken)
    assert not fine.doubted
    assert fine.host.breaker == CLOSED


@pytest.mark.parametrize(
    ("cause", "field", "seconds"),
    [
        (Cause.BUSY, "cooling_until", 1.0),
        (Cause.RATE_LIMITED, "cooling_until", 1.0),
        (Cause.MODEL_MISSING, "missing_until", MISSING_SECONDS),
        (Cause.MISCONFIGURED, "refused_until", REFUSED_SECONDS),
    ],
)
def test_what_passes_by_itself_has_a_time(
    standing: Standing, cause: Cause, field: str, seconds: float
) -> None:
    assert not fail(standing, cause, at=100)
    assert getattr(standing, field) == 100 + seconds
    standing.settle(100 + seconds - 0.01)
    assert standing.doubted
    standing.settle(100 + seconds)
    assert not standing.doubted


@pytest.mark.parametrize(("asked", "given"), [(0.0, 0.0), (7.0, 7.0), (9e9, MAX_COOL_SECONDS)])
def test_a_busy_host_is_left_alone_as_long_as_it_asks_within_reason(
    standing: Standing, asked: float, given: float
) -> None:
    standing.failed(Cause.BUSY, 5, POLICY, why="busy", retry_after=asked)
    assert standing.cooling_until == 5 + given


def test_answers_that_break_off_again_and_again_eject_when_the_check_fails(
    standing: Standing,
) -> None:
    for count in range(1, 4):
        standing.answered()
        assert standing.broke(0, POLICY, why="cut")
        assert standing.breaker.failures == count
    standing.checked(0, POLICY, failure="broke off the check too")
    assert standing.breaker.phase(0) is Phase.OPEN


def test_a_proper_end_forgets_those_that_broke(standing: Standing) -> None:
    for _ in range(2):
        standing.answered()
        standing.broke(0, POLICY, why="cut")
    standing.answered()
    standing.finished()
    standing.answered()
    standing.broke(0, POLICY, why="cut")
    assert standing.breaker.failures == 1


def test_exactly_one_of_many_is_the_trial(standing: Standing) -> None:
    eject(standing)
    numbers = [standing.begun(10) for _ in range(5)]
    assert standing.breaker.trial == numbers[0]
    assert not standing.breaker.admits(10)
    for number in numbers[1:]:
        standing.ended(number)
    assert not standing.breaker.admits(10), "the end of another is not the trial's"
    standing.ended(numbers[0])
    assert standing.breaker.admits(10)
    assert standing.active == 0


def test_the_end_of_a_request_of_before_does_not_end_the_trial(standing: Standing) -> None:
    early = standing.begun(0)
    eject(standing)
    trial = standing.begun(10)
    standing.ended(early)
    assert not standing.breaker.admits(10)
    standing.ended(trial)
    assert standing.breaker.admits(10)


def test_a_trial_that_fails_ejects_for_longer(standing: Standing) -> None:
    eject(standing)
    standing.ended(standing.begun(10))
    fail(standing, at=12)
    assert standing.breaker.until == 12 + 20


def test_a_late_failure_of_before_does_not(standing: Standing) -> None:
    eject(standing)
    standing.failed(Cause.FIRST_TOKEN_TIMEOUT, 12, POLICY, why="late", began=1)
    assert standing.breaker.phase(12) is Phase.HALF_OPEN


def test_a_trial_that_answers_closes(standing: Standing) -> None:
    eject(standing)
    trial = standing.begun(10)
    standing.answered()
    standing.ended(trial)
    assert standing.breaker == CLOSED
    assert not standing.doubted


def test_an_end_wakes_one_that_waits(standing: Standing) -> None:
    woken: list[int] = []
    wakes: list[Callable[[], None]] = [lambda n=n: woken.append(n) for n in (1, 2)]  # type: ignore[misc]
    begun = [standing.begun(0) for _ in range(3)]
    standing.queue.extend(wakes)
    standing.ended(begun[0])
    assert woken == [1]
    standing.ended(begun[1])
    assert woken == [1, 2]
    standing.ended(begun[2])
    assert (standing.active, woken) == (0, [1, 2])


def test_a_probe_says_whether_the_model_is_there_and_loaded(standing: Standing) -> None:
    standing.probed(0, missing=True, loaded=False)
    assert (standing.missing, standing.loaded, standing.doubted) == (True, False, True)
    standing.probed(15, missing=False, loaded=True)
    assert (standing.missing, standing.loaded, standing.doubted) == (False, True, False)


def test_a_list_is_newer_than_what_an_answer_said(standing: Standing) -> None:
    fail(standing, Cause.MODEL_MISSING)
    standing.probed(5, missing=False, loaded=None)
    assert (standing.missing_until, standing.doubted) == (0, False)


def test_a_probe_without_a_list_leaves_what_an_answer_said(standing: Standing) -> None:
    fail(standing, Cause.MODEL_MISSING)
    standing.seen(5, loaded=True, required=True)
    assert (standing.missing_until, standing.loaded) == (MISSING_SECONDS, True)


def test_a_model_that_is_no_longer_required_is_not_missing(standing: Standing) -> None:
    standing.probed(0, missing=True, loaded=None)
    standing.seen(5, loaded=None, required=True)
    assert standing.missing
    standing.seen(5, loaded=None, required=False)
    assert (standing.missing, standing.doubted) == (False, False)


def test_a_probe_does_not_settle_what_requests_have_found(standing: Standing) -> None:
    eject(standing)
    standing.host.probed(1, healthy=True)
    standing.probed(1, missing=False, loaded=True)
    assert standing.doubted
    assert standing.breaker.phase(1) is Phase.OPEN, "health is no proof of a token"


def test_an_unhealthy_host_casts_doubt_on_all_its_models(standings: Standings) -> None:
    one, other = standings.of(URL, "a"), standings.of(URL, "b")
    one.host.probed(0, healthy=False, reason="nobody listens")
    assert (one.doubted, other.doubted, other.why) == (True, True, "nobody listens")
    assert standings.of(URL, "new").doubted, "a model that is new there is no better off"
    one.host.probed(15, healthy=True)
    assert not any(standing.doubted for standing in one.host.standings)


def test_a_host_that_is_no_longer_probed_is_unknown(standing: Standing) -> None:
    standing.host.probed(0, healthy=False, reason="down")
    standing.probed(0, missing=True, loaded=True)
    standing.host.unprobed(1)
    assert (standing.host.healthy, standing.loaded) == (None, None)
    assert (standing.missing, standing.doubted) == (False, False)


def test_a_standing_is_one_for_each_url_and_model(standings: Standings) -> None:
    assert standings.of(URL, "a") is standings.of(URL, "a")
    assert standings.of(URL, "a") is not standings.of(URL, "b")
    assert standings.passing(URL, "a") is not standings.of(URL, "a")
    assert standings.passing(URL, "z").host is standings.of(URL, "a").host
    assert len(standings.hosts()) == 1


def test_keeps_what_is_used_and_what_is_busy(standings: Standings) -> None:
    used, unused, busy = (standings.of(url, "a") for url in ("http://a", "http://b", "http://c"))
    eject(used)
    busy.begun(0)
    standings.keep([used])
    assert standings.of("http://a", "a") is used
    assert standings.of("http://c", "a") is busy
    assert standings.host("http://b") is None
    assert standings.of("http://b", "a") is not unused
    busy.ended()
    standings.keep([used])
    assert {host.url for host in standings.hosts()} == {"http://a"}
    assert used.host.standings == [used]


def test_many_swaps_leave_nothing_behind(standings: Standings) -> None:
    for number in range(500):
        standings.keep([standings.of(f"http://h{number}", "a"), standings.of(URL, str(number % 3))])
    assert len(standings.hosts()) == 2
    assert sum(len(host.standings) for host in standings.hosts()) == 2


@pytest.mark.parametrize("seed", range(20))
def test_no_client_ejects_and_active_is_never_lost(seed: int) -> None:
    """Random lives of requests at a target that answers every check."""
    draw = random.Random(seed)
    standing = Standings().of(URL, "a")
    out: list[int] = []
    for step in range(2000):
        now = step * draw.random()
        if not out or draw.random() < 0.5:
            out.append(standing.begun(now))
        else:
            standing.ended(out.pop(draw.randrange(len(out))))
            if draw.random() < 0.7:
                cause = draw.choice((*sorted(COUNTED), *CLIENTS))
                if fail(standing, cause, at=now):
                    standing.checked(now, POLICY, failure="")
        assert standing.active == len(out)
        assert standing.breaker.phase(now) is Phase.CLOSED
