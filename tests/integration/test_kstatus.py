"""What GitOps tools make of live resources, by the library they use: kstatus, not ours.

The states are those of the table in docs/operator.md, which is compared with the ones here.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.kstatus import KStatus
from parts.operator import CONFIG_MAP, Backends, Operator

pytest_plugins = ["parts.kstatus"]
# NB: the first run compiles the library.
pytestmark = [pytest.mark.usefixtures("crd"), pytest.mark.timeout(400)]

DOCS = Path(__file__).resolve().parents[2] / "docs"

#: State -> what the library says of it.
EXPECTED = {
    "created, not seen yet": "InProgress",
    "ready": "Current",
    "disabled": "Current",
    "changed, not seen yet": "InProgress",
    "invalid": "Failed",
    "another one has its model name": "InProgress",
    "what it refers to is lacking": "InProgress",
    "the ConfigMap is somebody else's": "InProgress",
    "being deleted": "Terminating",
}

MakeOperator = Callable[..., Operator]


def test_each_state(
    make_operator: MakeOperator, control_plane: ControlPlane, namespace: str, kstatus: KStatus
) -> None:
    backends, seen = Backends(control_plane, namespace), dict[str, str]()

    def look(state: str, name: str) -> None:
        (seen[state],) = kstatus.of([backends.get(name)])

    backends.apply(backends.manifest("phi"))
    look("created, not seen yet", "phi")
    operator = make_operator()
    operator.start()
    secret = {"name": "away", "key": "token"}
    target = {"name": "host", "type": "openai", "endpointURL": "https://host.lan"}
    lacking = [target | {"auth": {"secretRef": secret}}]
    backends.apply(
        backends.manifest("off", enabled=False),
        backends.manifest("bad", backendType="mlx", endpointURL=None),
        backends.manifest("second", modelName="phi"),
        backends.manifest("lacking", backendType=None, endpointURL=None, targets=lacking),
    )
    eventually(lambda: backends.ready("phi") and backends.ready("off"), within=15)
    look("ready", "phi")
    look("disabled", "off")
    for state, name, reason in (
        ("invalid", "bad", "Invalid"),
        ("another one has its model name", "second", "ModelNameConflict"),
        ("what it refers to is lacking", "lacking", "SecretNotFound"),
    ):
        told = f"False/{reason}"
        eventually(lambda n=name, t=told: backends.conditions(n).get("Ready") == t, within=10)
        look(state, name)
    operator.kill()
    backends.patch("phi", {"spec": {"maxTokens": 5}})
    look("changed, not seen yet", "phi")
    backends.delete("phi", wait=False)
    look("being deleted", "phi")
    assert seen == {state: s for state, s in EXPECTED.items() if state != FOREIGN}


FOREIGN = "the ConfigMap is somebody else's"


def test_beside_a_foreign_configmap(
    make_operator: MakeOperator, control_plane: ControlPlane, namespace: str, kstatus: KStatus
) -> None:
    backends = Backends(control_plane, namespace)
    control_plane.kubectl(
        *("create", "configmap", CONFIG_MAP, "-n", namespace, "--from-literal=routing.json=theirs")
    )
    make_operator().start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.conditions("phi").get("Ready") == "False/NotOwned", within=10)
    assert kstatus.of([backends.get("phi")]) == [EXPECTED[FOREIGN]]


def test_the_documents_say_the_same() -> None:
    section = (
        (DOCS / "operator.md").read_text().split("## What kstatus says\n")[1].split("\n## ")[0]
    )
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert [tuple(row.strip("| ").split(" | ")) for row in rows] == list(EXPECTED.items())
