"""The part of a status that is about the data plane, and what it keeps while nobody tells."""

from dataclasses import replace
from typing import Any

import pytest

from llm_contract import Route, Target, TargetType, Timeouts
from llm_operator.plan import Verdict
from llm_operator.reasons import Accepted, ConfigPublished, DatabaseSynced
from llm_operator.resource.model import BackendType, Identity, Resource, Spec
from llm_operator.routers.report import RouteReport, Said, TargetReport
from llm_operator.status.conditions import Difference, Facts, Status, describe, difference

EARLIER, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z"

RESOURCE = Resource(
    identity=Identity(namespace="ns", name="phi", uid="u1", generation=2),
    spec=Spec(model_name="phi3:mini", backend_type=BackendType.AUTO),
)
MLX = Target(name="mlx", type=TargetType.MLX, url="http://m:1", model="default_model")
OLLAMA = Target(name="ollama", type=TargetType.OLLAMA, url="http://o:1", model="phi3:mini")
ROUTE = Route(
    model="phi3:mini",
    uid="u1",
    generation=2,
    name="phi",
    targets=(MLX, OLLAMA),
    timeouts=Timeouts(total=60),
)
FACTS = Facts(
    verdict=Verdict(reason=Accepted.VALID, message="Valid.", routed=True),
    planned=ROUTE,
    standing=ROUTE,
    checksum="c" * 64,
    published=ConfigPublished.PUBLISHED,
    recorded=DatabaseSynced.SYNCED,
)
DISABLED = replace(
    FACTS,
    verdict=Verdict(reason=Accepted.VALID, message="Disabled: it has no route."),
    planned=None,
    standing=None,
)
AWAY = Said(router="b", unreachable="no connection")


def says(router: str = "a", *, generation: int = 2, **states: str) -> Said:
    states = {"mlx": "Healthy", "ollama": "Healthy"} | states
    targets = tuple(
        TargetReport(name=name, state=state, since=1_700_000_000.0, speed=30.0, wait=0.12)
        for name, state in states.items()
    )
    return Said(router=router, route=RouteReport(generation=generation, targets=targets))


def status(
    *said: Said, of: Facts = FACTS, resource: Resource = RESOURCE, previous: Status | None = None
) -> Any:
    return describe(resource, replace(of, said=said), previous=previous, now=NOW)


def conditions(told: Any) -> dict[str, str]:
    return {one["type"]: f"{one['status']}/{one['reason']}" for one in told["conditions"]}


def states(told: Any) -> dict[str, str]:
    return {each["name"]: each.get("state") for each in told["targets"]}


def test_all_is_well() -> None:
    told = status(says())
    assert list(conditions(told)) == [
        "Accepted",
        "ResolvedRefs",
        "ConfigPublished",
        "DatabaseSynced",
        "Programmed",
        "Available",
        "Degraded",
        "Ready",
    ]
    assert conditions(told)["Programmed"] == "True/Programmed"
    assert told["summary"] == {
        "endpoint": "http://m:1",
        "type": "auto",
        "routers": "1/1",
        "targets": "2/2",
        "tokensPerSecond": "30.0",
        "latency": "120ms",
    }
    assert told["targets"][0] == {
        "name": "mlx",
        "type": "mlx",
        "url": "http://m:1",
        "model": "default_model",
        "state": "Healthy",
        "reason": "Healthy",
        "since": "2023-11-14T22:13:20Z",
    }


@pytest.mark.parametrize(
    "said",
    [(), (AWAY,), (says(generation=1),), (says(mlx="Ejected", ollama="Ejected"), AWAY)],
    ids=["none", "away", "behind", "down"],
)
def test_nothing_of_it_changes_ready(said: tuple[Said, ...]) -> None:
    assert conditions(status(*said))["Ready"] == "True/Ready"
    assert "Stalled" not in conditions(status(*said))
    assert "Reconciling" not in conditions(status(*said))


def test_before_anybody_asked_nothing_is_said() -> None:
    told: Any = describe(RESOURCE, FACTS, previous=None, now=NOW)
    assert not {"Programmed", "Available", "Degraded"} & conditions(told).keys()
    assert told["summary"] == {"endpoint": "http://m:1", "type": "auto"}
    assert states(told) == {"mlx": None, "ollama": None}


def test_a_fresh_operator_keeps_what_the_last_one_heard() -> None:
    before = status(says(mlx="Ejected"))
    assert describe(RESOURCE, FACTS, previous=before, now=NOW) == before


def test_a_fresh_operator_says_nothing_old_of_a_new_generation() -> None:
    before = status(says(mlx="Ejected"))
    newer = replace(RESOURCE, identity=replace(RESOURCE.identity, generation=3))
    told: Any = describe(newer, FACTS, previous=before, now=NOW)
    found = conditions(told)
    assert (found["Programmed"], found["Available"]) == ("Unknown/Pending", "Unknown/Unknown")
    assert "routers" not in told["summary"]


def test_a_router_that_is_about_to_read_it_takes_nothing_from_what_is_known() -> None:
    before = status(says(mlx="Ejected"))
    told = status(says(generation=1), previous=before)
    assert conditions(told)["Programmed"] == "False/Pending"
    assert states(told) == states(before)
    assert conditions(told)["Available"] == "True/TargetsHealthy"
    assert conditions(told)["Degraded"] == "True/TargetsDown"


def test_another_address_is_another_target() -> None:
    before = status(says())
    moved = replace(ROUTE, targets=(replace(MLX, url="http://other:1"), OLLAMA))
    facts = replace(FACTS, planned=moved, standing=moved)
    told = status(says(generation=1), of=facts, previous=before)
    assert states(told) == {"mlx": "Unknown", "ollama": "Healthy"}


@pytest.mark.parametrize("said", [(), (AWAY,)])
def test_when_no_router_answers_nothing_is_known_of_targets(said: tuple[Said, ...]) -> None:
    told = status(*said, previous=status(says()))
    assert states(told) == {"mlx": "Unknown", "ollama": "Unknown"}
    assert conditions(told)["Available"] == "Unknown/Unknown"
    assert conditions(told)["Degraded"] == "Unknown/Unknown"
    assert told["summary"]["targets"] == "0/2"
    assert "tokensPerSecond" not in told["summary"]


def test_since_is_when_the_state_changed() -> None:
    first = status(Said(router="a", route=RouteReport(generation=2, targets=())))
    assert {each["since"] for each in first["targets"]} == {NOW}
    healthy = status(says(), previous=first)
    assert {each["since"] for each in healthy["targets"]} == {"2023-11-14T22:13:20Z"}
    cooling: Any = describe(
        RESOURCE,
        replace(FACTS, said=(replace_since(says(mlx="Cooling")),)),
        previous=healthy,
        now="2026-01-01T00:01:00Z",
    )
    assert cooling["targets"][0]["reason"] == "Cooling"
    assert cooling["targets"][0]["since"] == "2023-11-14T22:13:20Z"


def replace_since(said: Said) -> Said:
    assert said.route is not None
    targets = tuple(replace(each, since=1_800_000_000.0) for each in said.route.targets)
    return replace(said, route=replace(said.route, targets=targets))


def test_disabled() -> None:
    off = replace(RESOURCE, spec=replace(RESOURCE.spec, enabled=False))  # type: ignore[type-var]
    told = status(Said(router="a"), of=DISABLED, resource=off)
    found = conditions(told)
    assert found["Programmed"] == "True/Programmed"
    assert (found["Available"], found["Degraded"]) == ("False/Disabled", "False/Disabled")
    assert told["summary"] == {"routers": "1/1", "type": "auto"}
    assert "targets" not in told
    behind = status(Said(router="a"), says("b"), of=DISABLED, resource=off)
    assert conditions(behind)["Programmed"] == "False/Pending"


def test_a_generation_that_is_not_published_runs_nowhere_and_the_kept_one_is_told_of() -> None:
    invalid = Verdict(reason=Accepted.INVALID, message="spec.modelName: must not be empty")
    kept = replace(ROUTE, generation=1)
    facts = replace(FACTS, verdict=invalid, planned=kept, standing=kept)
    told = status(says(generation=1), of=facts)
    assert conditions(told)["Programmed"] == "False/Pending"
    assert told["summary"]["routers"] == "0/1"
    assert states(told) == {"mlx": "Healthy", "ollama": "Healthy"}
    assert conditions(told)["Available"] == "True/TargetsHealthy"


def test_the_loser_of_a_name() -> None:
    loser = Verdict(reason=Accepted.MODEL_NAME_CONFLICT, message="It belongs to other.")
    told = status(Said(router="a"), of=replace(DISABLED, verdict=loser))
    found = conditions(told)
    assert (found["Programmed"], found["Available"]) == ("False/Pending", "Unknown/Unknown")


def test_reconciling_is_there_while_it_is_not_published() -> None:
    facts = replace(
        FACTS, planned=ROUTE, standing=None, published=ConfigPublished.PUBLISH_FAILED, trouble="No"
    )
    assert conditions(status(of=facts))["Reconciling"] == "True/Publishing"
    invalid = Verdict(reason=Accepted.INVALID, message="spec.modelName: must not be empty")
    assert "Reconciling" not in conditions(status(of=replace(facts, verdict=invalid)))
    assert "Reconciling" not in conditions(status(previous=status(of=facts)))


class TestPaused:
    def test_keeps_everything_and_says_so(self) -> None:
        before = status(says(mlx="Ejected"))
        edited = replace(RESOURCE, identity=replace(RESOURCE.identity, generation=3), paused=True)
        told = status(says("b"), resource=edited, previous=before)
        *kept, paused = told.pop("conditions")
        assert kept == before["conditions"]
        assert (paused["type"], paused["status"]) == ("Paused", "True")
        assert paused["reason"] == "ReconciliationPaused"
        assert "llm.athena.dev/paused" in paused["message"]
        assert told == {name: value for name, value in before.items() if name != "conditions"}

    def test_says_the_same_the_next_time(self) -> None:
        paused = replace(RESOURCE, paused=True)
        first = status(resource=paused, previous=status(says()))
        assert status(says(), resource=paused, previous=first) == first

    def test_ends_without_a_trace(self) -> None:
        before = status(says())
        paused = status(resource=replace(RESOURCE, paused=True), previous=before)
        assert status(says(), previous=paused) == before

    def test_may_be_all_there_is(self) -> None:
        told = status(resource=replace(RESOURCE, paused=True))
        assert list(conditions(told)) == ["Paused"]
        assert "observedGeneration" not in told


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (status(says()), Difference.NONE),
        (status(says(), AWAY), Difference.PLANE),
        (status(says(mlx="Cooling")), Difference.PLANE),
        (status(says(), of=replace(FACTS, recorded=None)), Difference.CONTROL),
    ],
)
def test_what_differs(after: Status, expected: Difference) -> None:
    assert difference(status(says()), after) is expected


@pytest.mark.parametrize("column", ["tokensPerSecond", "latency"])
def test_a_figure_differs_least(column: str) -> None:
    before = status(says())
    after = {**before, "summary": {**before["summary"], column: "99"}}
    assert difference(before, after) is Difference.FIGURE
    assert difference(None, after) is Difference.CONTROL


def test_targets_that_somebody_edited_are_put_right() -> None:
    before = status(says())
    edited = {**before, "targets": [{"name": "mlx", "state": "Great"}, *before["targets"][1:]]}
    assert difference(edited, status(says(), previous=edited)) is Difference.CONTROL
    odd = [{**before["targets"][0], "state": "Great", "reason": 3}, before["targets"][1]]
    told = status(says(generation=1), previous={**before, "targets": odd})
    assert conditions(told)["Available"] == "True/TargetsHealthy"
