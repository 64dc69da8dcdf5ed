"""Many resources in one namespace: what one change costs, what silence costs, what does not fit."""

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from llm_contract import Route
from llm_operator.publish.outcome import LIMIT
from parts.audit import Event
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.operator import Backends, Operator, conditions

# NB: a hundred resources take their time on a busy machine.
pytestmark = [pytest.mark.usefixtures("crd"), pytest.mark.timeout(300)]

#: Seconds without a write; several resyncs are in them.
SILENCE, RESYNC = 20, 4
#: Wide resources that are too many for one ConfigMap together.
FAT = 60
WRITES = ("create", "update", "patch", "delete")

MakeOperator = Callable[..., Operator]


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    return Backends(control_plane, namespace)


@pytest.mark.check(8)
@pytest.mark.check(10)
def test_one_change_among_a_hundred_and_then_silence(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    operator = make_operator(settings={"LLMB_RESYNC_SECONDS": str(RESYNC)})
    operator.start()
    backends.apply(*(backends.manifest(f"m{number:02}") for number in range(100)))
    eventually(lambda: backends.all_ready(100), within=60, every=0.3)
    settle(backends, operator)
    items, routes, stored = listed(backends), routes_of(backends), table(migrated)

    backends.patch("m42", {"spec": {"endpointURL": "http://elsewhere:1"}})
    eventually(lambda: backends.ready("m42"), within=10)
    settle(backends, operator)
    assert changed(routes, routes_of(backends)) == {"m42"}
    assert changed(stored, table(migrated)) == {"m42"}
    now = listed(backends)
    assert changed(items, now) == {"m42"}
    # What did not turn keeps its time, of the one that changed too.
    for before, after in zip(items["m42"][1], now["m42"][1], strict=True):
        assert before["type"] == after["type"]
        if before["status"] == after["status"]:
            assert before["lastTransitionTime"] == after["lastTransitionTime"]

    silent = len(writes(backends, operator))
    lists = len(rounds(backends, operator))
    until = time.monotonic() + SILENCE
    eventually(lambda: time.monotonic() > until, within=SILENCE + 5, every=1)
    assert len(rounds(backends, operator)) > lists + 1, "it looked meanwhile"
    assert [str(each.raw["requestURI"]) for each in writes(backends, operator)[silent:]] == []


@pytest.mark.check(24)
def test_what_does_not_fit_is_told_and_the_last_configuration_stays(
    make_operator: MakeOperator, backends: Backends
) -> None:
    operator = make_operator(settings={"LLMB_RESYNC_SECONDS": "1"})
    operator.start()
    backends.apply(backends.manifest("small"))
    eventually(lambda: backends.ready("small"), within=15)
    # NB: not all are seen at once, so that some of the first may still fit.
    fat = [wide(backends, f"fat-{number:02}") for number in range(FAT)]
    assert len(str(fat)) > LIMIT
    backends.apply(*fat)
    too_large = "False/TooLarge"
    eventually(
        lambda: backends.conditions(f"fat-{FAT - 1}").get("ConfigPublished") == too_large, within=30
    )
    settle(backends, operator)
    told = {item["metadata"]["name"]: conditions(item) for item in backends.items()}
    assert told["small"]["Ready"] == "True/Ready"
    assert {one["DatabaseSynced"] for one in told.values()} == {"True/Synced"}
    kept = {name for name, one in told.items() if one["ConfigPublished"] == "True/Published"}
    assert {route.name for route in backends.config().routes} == kept
    assert "small" in kept

    before = writes(backends, operator)
    lists = len(rounds(backends, operator))
    eventually(lambda: len(rounds(backends, operator)) > lists + 5, within=30, every=0.3)
    assert writes(backends, operator) == before, "it is not tried again and again"
    assert [each.status for each in before if each.status in (413, 422)] == []

    names = [f"fat-{number:02}" for number in range(FAT)]
    backends.control_plane.kubectl(
        "delete", "llmb", *names, "-n", backends.namespace, "--wait=false"
    )
    eventually(lambda: [i["metadata"]["name"] for i in backends.items()] == ["small"], within=60)
    eventually(lambda: {route.name for route in backends.config().routes} == {"small"}, within=10)


def wide(backends: Backends, name: str) -> dict[str, Any]:
    """A resource whose route takes some 16 KiB: eight hosts with long addresses."""
    path = "x" * 1900
    targets = [
        {"name": f"t{number}", "type": "openai", "endpointURL": f"https://h{number}/{path}"}
        for number in range(8)
    ]
    return backends.manifest(name, backendType=None, endpointURL=None, targets=targets)


def routes_of(backends: Backends) -> dict[str, Route]:
    return {route.name: route for route in backends.config().routes}


def listed(backends: Backends) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """Name -> the version it is at, and its conditions."""
    return {
        item["metadata"]["name"]: (
            item["metadata"]["resourceVersion"],
            item["status"]["conditions"],
        )
        for item in backends.items()
    }


def table(database: str) -> dict[str, Any]:
    """Name -> which transaction wrote its row last, and the row."""
    query = "SELECT name, xmin::text, t::text FROM llmb.llm_backends AS t"
    with psycopg.connect(database, connect_timeout=5) as connection:
        return {name: rest for name, *rest in connection.execute(query).fetchall()}


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def writes(backends: Backends, operator: Operator) -> list[Event]:
    """The operator's own so far, but for the Lease that a leader renews, and questions."""
    assert operator.user is not None
    done = backends.control_plane.audit(user=operator.user.name, verbs=WRITES)
    return [each for each in done if each.resource not in ("leases", "selfsubjectaccessreviews")]


def rounds(backends: Backends, operator: Operator) -> list[Event]:
    """The lists of this namespace: one or more for each resync."""
    assert operator.user is not None
    return backends.control_plane.audit(
        user=operator.user.name,
        verbs=("list",),
        resource="llmbackends",
        namespace=backends.namespace,
    )


def settle(backends: Backends, operator: Operator) -> None:
    """Wait until the operator has nothing more to write."""
    seen = [-1, -2, -3, -4]

    def standing() -> bool:
        seen.append(len(writes(backends, operator)))
        return len(set(seen[-4:])) == 1

    eventually(standing, within=30, every=0.5)
