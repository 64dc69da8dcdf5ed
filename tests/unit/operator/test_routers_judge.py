"""What is true in the data plane, by what each router says."""

from collections.abc import Sequence

import pytest

from llm_contract import Route, Target, TargetType, Timeouts
from llm_operator.reasons import Available, Degraded, Programmed, TargetReason, TargetState
from llm_operator.routers import judge
from llm_operator.routers.judge import Wanted
from llm_operator.routers.report import RouteReport, Said, TargetReport
from llm_router.select import Verdict

MLX = Target(name="mlx", type=TargetType.MLX, url="http://m:1", model="default_model")
OLLAMA = Target(name="ollama", type=TargetType.OLLAMA, url="http://o:1", model="phi3:mini")


def says(router: str = "a", *, generation: int = 2, **states: str) -> Said:
    """A router with the route, its targets in these states."""
    targets = tuple(TargetReport(name=name, state=state) for name, state in states.items())
    return Said(router=router, route=RouteReport(generation=generation, targets=targets))


LACKS = Said(router="b")
AWAY = Said(router="c", unreachable="no connection")
REJECTS = Said(router="d", rejected="checksum is wrong")


@pytest.mark.parametrize(
    ("said", "status", "reason", "counted"),
    [
        ([], "False", Programmed.NO_ROUTERS, "0/0"),
        ([says()], "True", Programmed.PROGRAMMED, "1/1"),
        ([says(), says("b")], "True", Programmed.PROGRAMMED, "2/2"),
        ([says(), LACKS], "False", Programmed.PENDING, "1/2"),
        ([says(generation=1)], "False", Programmed.PENDING, "0/1"),
        ([says(generation=3)], "False", Programmed.PENDING, "0/1"),
        ([says(), AWAY], "False", Programmed.ROUTER_UNREACHABLE, "1/2"),
        ([AWAY, LACKS], "False", Programmed.ROUTER_UNREACHABLE, "0/2"),
        ([says(), AWAY, REJECTS], "False", Programmed.REJECTED_KEPT_LAST_GOOD, "1/3"),
    ],
)
def test_programmed(said: Sequence[Said], status: str, reason: Programmed, counted: str) -> None:
    found, told = judge.programmed(said, generation=2, wanted=Wanted.ROUTE)
    assert (found.status, found.reason, told) == (status, reason, counted)
    assert found.message.endswith(".")


def test_a_rejection_is_no_matter_to_a_resource_that_the_router_has() -> None:
    has = Said(router="a", route=RouteReport(generation=2, targets=()), rejected="it is broken")
    found, counted = judge.programmed([has], generation=2, wanted=Wanted.ROUTE)
    assert (found.status, counted) == ("True", "1/1")


def test_a_disabled_resource_is_programmed_when_no_router_has_it() -> None:
    for said, status, counted in (
        ([LACKS], "True", "1/1"),
        ([LACKS, says()], "False", "1/2"),
        ([LACKS, AWAY], "False", "1/2"),
        ([], "False", "0/0"),
    ):
        found, told = judge.programmed(said, generation=2, wanted=Wanted.NO_ROUTE)
        assert (found.status, told) == (status, counted)


def test_what_is_not_published_no_router_can_run() -> None:
    said = [says(generation=1), LACKS]
    found, counted = judge.programmed(said, generation=2, wanted=Wanted.UNPUBLISHED)
    assert (found.status, found.reason, counted) == ("False", Programmed.PENDING, "0/2")
    assert "ConfigPublished" in found.message


def test_a_message_names_a_few_routers_and_counts_the_rest() -> None:
    said = [Said(router=f"r{n}", unreachable="no connection") for n in range(100)]
    found, _ = judge.programmed(said, generation=2, wanted=Wanted.ROUTE)
    assert found.message == (
        "Generation 2 is not in use by 100 of 100 routers: r0 can't be asked (no connection), "
        "r1 can't be asked (no connection), r2 can't be asked (no connection), 97 more."
    )


def test_every_word_of_a_router_is_known() -> None:
    assert set(judge.REASONS) == set(Verdict) - {Verdict.INCAPABLE}
    assert set(judge.STATES) == set(TargetReason)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("Healthy", (TargetState.HEALTHY, TargetReason.HEALTHY)),
        ("Busy", (TargetState.HEALTHY, TargetReason.HEALTHY)),
        ("Cooling", (TargetState.HEALTHY, TargetReason.COOLING)),
        ("Unknown", (TargetState.UNKNOWN, TargetReason.NOT_PROBED)),
        ("Drained", (TargetState.DRAINED, TargetReason.DRAINED)),
        ("Ejected", (TargetState.DOWN, TargetReason.EJECTED)),
        ("Trial", (TargetState.DOWN, TargetReason.EJECTED)),
        ("Unhealthy", (TargetState.DOWN, TargetReason.UNHEALTHY)),
        ("ModelMissing", (TargetState.DOWN, TargetReason.MODEL_MISSING)),
        ("Misconfigured", (TargetState.DOWN, TargetReason.MISCONFIGURED)),
        ("Unusable", (TargetState.DOWN, TargetReason.UNUSABLE)),
        ("SomethingNew", (TargetState.UNKNOWN, TargetReason.NOT_PROBED)),
    ],
)
def test_a_target(state: str, expected: tuple[TargetState, TargetReason]) -> None:
    found = judge.target(MLX, [says(mlx=state)], generation=2)
    assert found is not None
    assert (found.state, found.reason) == expected


def test_where_routers_differ_the_worst_counts() -> None:
    said = [says("a", mlx="Healthy"), says("b", mlx="Ejected"), says("c", mlx="Unknown")]
    found = judge.target(MLX, said, generation=2)
    assert found is not None
    assert found.reason is TargetReason.EJECTED


def test_a_router_that_has_not_probed_takes_nothing_from_one_that_has() -> None:
    said = [says("a", mlx="Unknown"), says("b", mlx="Healthy")]
    found = judge.target(MLX, said, generation=2)
    assert found is not None
    assert found.state is TargetState.HEALTHY


@pytest.mark.parametrize("said", [[], [AWAY], [LACKS], [says(generation=1, mlx="Healthy")]])
def test_a_target_that_no_router_tells_of(said: Sequence[Said]) -> None:
    assert judge.target(MLX, said, generation=2) is None


def test_what_is_against_a_target_and_since_when() -> None:
    reports = [
        TargetReport(name="mlx", state="Ejected", failure="no connection", since=1_700_000_060.0),
        TargetReport(name="mlx", state="Unhealthy", failure="no reply", since=1_700_000_000.9),
        TargetReport(name="mlx", state="Healthy", since=1_600_000_000.0),
    ]
    said = [
        Said(router=f"r{n}", route=RouteReport(generation=2, targets=(each,)))
        for n, each in enumerate(reports)
    ]
    found = judge.target(MLX, said, generation=2)
    assert found is not None
    assert (found.message, found.since) == ("No connection.", "2023-11-14T22:13:20Z")


def test_an_address_stays_as_it_is_written() -> None:
    failure = "http://h:1: Connection refused"
    report = TargetReport(name="mlx", state="Unhealthy", failure=failure)
    said = Said(router="a", route=RouteReport(generation=2, targets=(report,)))
    found = judge.target(MLX, [said], generation=2)
    assert found is not None
    assert found.message == "http://h:1: Connection refused."


def findings(**states: str) -> dict[str, judge.TargetFinding]:
    found = {}
    for name, state in states.items():
        told = judge.target(
            Target(name=name, type=TargetType.MLX, url="http://h", model="m"),
            [says(**{name: state})],
            generation=2,
        )
        assert told is not None
        found[name] = told
    return found


@pytest.mark.parametrize(
    ("states", "available", "degraded"),
    [
        ({"a": "Healthy", "b": "Healthy"}, "True/TargetsHealthy", "False/NoTargetDown"),
        ({"a": "Healthy", "b": "Ejected"}, "True/TargetsHealthy", "True/TargetsDown"),
        ({"a": "Healthy", "b": "Unknown"}, "True/TargetsHealthy", "Unknown/Unknown"),
        ({"a": "Healthy", "b": "Drained"}, "True/TargetsHealthy", "False/NoTargetDown"),
        ({"a": "Unknown", "b": "Ejected"}, "Unknown/Unknown", "True/TargetsDown"),
        ({"a": "Unhealthy", "b": "Ejected"}, "False/AllTargetsDown", "True/TargetsDown"),
        ({"a": "Drained", "b": "Ejected"}, "False/AllTargetsDown", "True/TargetsDown"),
        ({}, "Unknown/Unknown", "Unknown/Unknown"),
    ],
)
def test_available_and_degraded(states: dict[str, str], available: str, degraded: str) -> None:
    targets = findings(**states)
    one, other = judge.available(targets), judge.degraded(targets)
    assert f"{one.status}/{one.reason}" == available
    assert f"{other.status}/{other.reason}" == degraded
    assert one.reason in set(Available)
    assert other.reason in set(Degraded)


def route(*targets: Target) -> Route:
    return Route(
        model="m", uid="u", generation=2, name="m", targets=targets, timeouts=Timeouts(total=9)
    )


def fast(router: str = "a", *, state: str = "Healthy", **speeds: float | None) -> Said:
    targets = tuple(
        TargetReport(name=name, state=state, speed=speed) for name, speed in speeds.items()
    )
    return Said(router=router, route=RouteReport(generation=2, targets=targets))


class TestWait:
    def waits(self, **seconds: float | None) -> Said:
        targets = tuple(
            TargetReport(name=name, state="Healthy", wait=wait) for name, wait in seconds.items()
        )
        return Said(router="a", route=RouteReport(generation=2, targets=targets))

    def test_is_in_milliseconds_of_the_target_that_is_asked_first(self) -> None:
        said = [self.waits(mlx=0.1204, ollama=3)]
        assert judge.wait(route(MLX, OLLAMA), said, standing="") == "120ms"

    def test_stays_while_it_is_about_the_same(self) -> None:
        said = [self.waits(mlx=0.124)]
        assert judge.wait(route(MLX), said, standing="120ms") == "120ms"
        assert judge.wait(route(MLX), said, standing="100ms") == "124ms"
        assert judge.wait(route(MLX), [self.waits(mlx=None)], standing="120ms") == ""


class TestSpeed:
    def test_is_of_the_target_that_is_asked_first(self) -> None:
        assert judge.speed(route(MLX, OLLAMA), [fast(mlx=33.14, ollama=9)], standing="") == "33.1"

    def test_is_of_the_next_while_the_first_has_none(self) -> None:
        assert judge.speed(route(MLX, OLLAMA), [fast(mlx=None, ollama=9)], standing="") == "9.0"

    def test_is_not_of_a_target_that_is_down(self) -> None:
        said = [fast(state="Ejected", mlx=33)]
        assert judge.speed(route(MLX), said, standing="33.0") == ""

    def test_is_the_mean_of_the_routers_that_know_one(self) -> None:
        said = [fast("a", mlx=20), fast("b", mlx=30), fast("c", mlx=None), AWAY]
        assert judge.speed(route(MLX), said, standing="") == "25.0"

    def test_counts_the_targets_of_a_tier_by_their_weight(self) -> None:
        tier = {"type": TargetType.MLX, "url": "http://h", "model": "m", "tier": 0}
        arms = [
            Target(name="a", weight=9, **tier),
            Target(name="b", weight=1, **tier),
            Target(name="c", weight=0, **tier),
        ]
        assert judge.speed(route(*arms), [fast(a=10, b=20, c=999)], standing="") == "11.0"

    def test_stays_while_it_is_about_the_same(self) -> None:
        assert judge.speed(route(MLX), [fast(mlx=34)], standing="33.0") == "33.0"
        assert judge.speed(route(MLX), [fast(mlx=35)], standing="33.0") == "35.0"
        assert judge.speed(route(MLX), [fast(mlx=34)], standing="fast") == "34.0"

    def test_is_unknown_where_nobody_knows(self) -> None:
        assert judge.speed(route(MLX), [AWAY, LACKS], standing="33.0") == ""
