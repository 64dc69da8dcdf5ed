"""The operator on a real API server and a real Postgres, as a process with the shipped rights."""

import asyncio
import copy
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import yaml

from llm_contract import (
    CHECKSUM_KEY,
    CONFIG_KEY,
    Defaults,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
    checksum,
    dump,
)
from llm_operator.api import API
from llm_operator.cluster import Cluster
from llm_operator.ports import Gone
from llm_operator.publish.configmap import ConfigMapSink
from llm_operator.publish.outcome import LIMIT, Standing
from llm_operator.run import serve
from llm_operator.settings import Settings
from parts.access import expect
from parts.control_plane import CRD_FILE, ControlPlane
from parts.eventually import eventually
from parts.operator import CONFIG_MAP, Backends, Operator, rows, rules
from parts.process import free_port

pytestmark = pytest.mark.usefixtures("crd")

#: Often enough that a test of a repair need not wait, seldom enough to tell a repair from a watch.
RESYNC = {"LLMB_RESYNC_SECONDS": "1"}
SELDOM = {"LLMB_RESYNC_SECONDS": "3600"}

MakeOperator = Callable[..., Operator]


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    return Backends(control_plane, namespace)


@pytest.mark.check(7)
@pytest.mark.check(12)
def test_applied_changed_and_deleted(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    make_operator().start()
    backends.apply(
        backends.manifest(
            "phi3-mini",
            modelName="phi3:mini",
            backendType="auto",
            endpointURL="http://mac.lan:8080/",
            fallbackEndpointURL="http://mac.lan:11434",
            temperature=0,
            maxTokens=2048,
            keepAliveSeconds=-1,
        )
    )
    eventually(lambda: backends.ready("phi3-mini"), within=10)

    uid = backends.get("phi3-mini")["metadata"]["uid"]
    golden = RoutingConfig(
        routes=(
            Route(
                model="phi3:mini",
                uid=uid,
                generation=1,
                name="phi3-mini",
                targets=(
                    Target(
                        name="mlx",
                        type=TargetType.MLX,
                        url="http://mac.lan:8080",
                        model="default_model",
                    ),
                    Target(
                        name="ollama",
                        type=TargetType.OLLAMA,
                        url="http://mac.lan:11434",
                        model="phi3:mini",
                    ),
                ),
                timeouts=Timeouts(total=60),
                defaults=Defaults(max_tokens=2048, temperature=0, keep_alive_seconds=-1),
            ),
        )
    )
    published = backends.configmap()
    assert published is not None
    assert published["data"] == {
        CONFIG_KEY: dump(golden).decode(),
        CHECKSUM_KEY: checksum(dump(golden)),
    }
    assert published["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "llm-backend-operator"
    }
    assert published["metadata"]["annotations"]["llm.athena.dev/checksum"] == checksum(dump(golden))
    assert "ownerReferences" not in published["metadata"]
    assert rows(migrated, backends.namespace) == {"phi3-mini": (1, True)}

    resource = backends.get("phi3-mini")
    assert resource["status"]["observedGeneration"] == 1
    assert resource["status"]["configChecksum"] == checksum(dump(golden))[:12]
    assert resource["metadata"]["finalizers"] == ["llm.athena.dev/cleanup"]

    backends.patch("phi3-mini", {"spec": {"endpointURL": "http://other.lan:8080"}})
    eventually(lambda: backends.ready("phi3-mini"), within=10)
    assert backends.urls() == {"phi3:mini": "http://other.lan:8080"}
    assert rows(migrated, backends.namespace) == {"phi3-mini": (2, True)}

    backends.delete("phi3-mini")
    assert backends.config() == RoutingConfig()
    assert rows(migrated, backends.namespace) == {"phi3-mini": (2, False)}


@pytest.mark.check(21)
def test_who_owns_which_field(make_operator: MakeOperator, backends: Backends) -> None:
    make_operator().start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    managers = {
        (each["manager"], each["operation"], each.get("subresource", "")): each["fieldsV1"]
        for each in backends.get("phi")["metadata"]["managedFields"]
    }
    ours = {key for key in managers if key[0].startswith("llm-backend-operator")}
    assert ours == {
        ("llm-backend-operator", "Update", ""),
        ("llm-backend-operator-status", "Apply", "status"),
    }
    assert set(managers["llm-backend-operator", "Update", ""]) == {"f:metadata"}
    published = backends.configmap()
    assert published is not None
    (field,) = published["metadata"]["managedFields"]
    assert (field["manager"], field["operation"]) == ("llm-backend-operator", "Apply")


@pytest.mark.check(37)
def test_only_the_rights_that_are_shipped(
    make_operator: MakeOperator, control_plane: ControlPlane, backends: Backends
) -> None:
    operator = make_operator()
    operator.start()
    label = ("label", "secret", "tok", "llm.athena.dev/credential=true")
    for command in (
        ("create", "secret", "generic", "tok", "--from-literal=token=x"),
        label,
        ("create", "configmap", "home-ca", "--from-literal=ca.crt=x"),
        ("create", "service", "externalname", "host", "--external-name=host.lan"),
    ):
        control_plane.kubectl(*command, "-n", backends.namespace)
    target = {
        "name": "host",
        "type": "openai",
        "serviceRef": {"name": "host", "port": 443, "scheme": "https"},
        "auth": {"secretRef": {"name": "tok", "key": "token"}},
        "tls": {"caRef": {"name": "home-ca"}},
    }
    backends.apply(backends.manifest("phi", backendType=None, endpointURL=None, targets=[target]))
    eventually(lambda: backends.ready("phi"), within=10)
    backends.delete("phi")
    control_plane.kubectl("delete", "service", "host", "-n", backends.namespace)
    assert operator.user is not None
    done = control_plane.audit(user=operator.user.name)
    assert [event for event in done if event.status in (401, 403)] == []
    used = {(e.verb, e.resource, e.subresource) for e in done if e.resource}
    reviews = ("create", "selfsubjectaccessreviews", "")
    assert used - {reviews} == {
        ("list", "llmbackends", ""),
        ("watch", "llmbackends", ""),
        ("patch", "llmbackends", ""),
        ("patch", "llmbackends", "status"),
        ("get", "configmaps", ""),
        ("list", "configmaps", ""),
        ("watch", "configmaps", ""),
        ("patch", "configmaps", ""),
        ("list", "secrets", ""),
        ("watch", "secrets", ""),
        ("patch", "secrets", ""),
        ("list", "services", ""),
        ("watch", "services", ""),
        ("list", "pods", ""),
        ("create", "events", ""),
    }


def test_server_side_apply_needs_create_too(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends
) -> None:
    """The right that no request of the audit log has as its verb."""
    less = copy.deepcopy([dict(rule) for rule in rules()])
    for rule in less:
        rule["verbs"] = [verb for verb in rule["verbs"] if verb != "create"]
    user = control_plane.create_user("less", less)
    with control_plane.client(user=user) as client:
        answer = client.patch(
            f"/api/v1/namespaces/{backends.namespace}/configmaps/{CONFIG_MAP}",
            params={"fieldManager": "test"},
            json={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
    assert (answer.status_code, "create" in answer.text) == (403, True)
    operator = make_operator(user=user)
    operator.start(ready=False)
    assert eventually(lambda: operator.logged("rights_missing"), within=20)[0]["rights"] == [
        "create configmaps in all namespaces",
        "create secrets in all namespaces",
    ]
    eventually(lambda: not operator.process.running, within=5)
    assert operator.process.popen.returncode == 1


def test_one_namespace_with_rights_in_it_alone(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends
) -> None:
    user = control_plane.create_user("role", rules(), namespace=backends.namespace)
    operator = make_operator(user=user, settings=RESYNC | {"LLMB_NAMESPACES": backends.namespace})
    operator.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    backends.delete("phi")
    refused = [e for e in control_plane.audit(user=user.name) if e.status == 403]
    assert refused == []


@pytest.mark.check(9)
def test_labels_change_nothing(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends
) -> None:
    operator = make_operator(settings=RESYNC)
    operator.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    writes = settled_writes(control_plane, operator)
    backends.patch("phi", {"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}})
    rounds = len(lists(control_plane, operator))
    eventually(lambda: len(lists(control_plane, operator)) > rounds + 4, within=20)
    assert settled_writes(control_plane, operator) == writes


@pytest.mark.check(10)
@pytest.mark.check(23)
def test_idle_is_quiet_and_so_is_a_restart(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends
) -> None:
    operator = make_operator(settings=RESYNC)
    operator.start()
    backends.apply(
        *(backends.manifest(f"m{number}") for number in range(20)),
        backends.manifest("off", enabled=False),
        backends.manifest("second", modelName="m0"),
    )
    eventually(lambda: backends.ready("off") and backends.ready("m19"), within=20)
    loser = {"Accepted": "False/ModelNameConflict", "DatabaseSynced": "True/Synced"}
    eventually(lambda: backends.conditions("second").items() >= loser.items(), within=10)
    writes = settled_writes(control_plane, operator)
    rounds = len(lists(control_plane, operator))
    eventually(lambda: len(lists(control_plane, operator)) > rounds + 6, within=20)
    assert settled_writes(control_plane, operator) == writes
    assert operator.end() == 0
    operator.start()
    rounds = len(lists(control_plane, operator))
    eventually(lambda: len(lists(control_plane, operator)) > rounds + 4, within=20)
    assert settled_writes(control_plane, operator) == writes


@pytest.mark.check(25)
def test_a_burst_is_a_few_configmap_writes(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends
) -> None:
    operator = make_operator()
    operator.start()
    backends.apply(*(backends.manifest(f"m{number:03}") for number in range(200)))
    eventually(lambda: backends.all_ready(200), within=60, every=0.3)
    assert len(backends.config().routes) == 200
    assert operator.user is not None
    writes = control_plane.audit(user=operator.user.name, verbs=("patch",))
    assert sum(event.resource == "configmaps" for event in writes) <= 12
    statuses = sum(event.subresource == "status" for event in writes)
    assert statuses <= 260, "more than a status for each, and a few corrections"


@pytest.mark.check(18)
def test_the_loser_of_a_name_takes_over(make_operator: MakeOperator, backends: Backends) -> None:
    make_operator().start()
    backends.apply(backends.manifest("first", modelName="phi3", priority=10))
    eventually(lambda: backends.ready("first"), within=10)
    backends.apply(backends.manifest("second", modelName="phi3"))
    eventually(
        lambda: backends.conditions("second").get("Ready") == "False/ModelNameConflict", within=10
    )
    assert "Stalled" not in backends.conditions("second")
    backends.delete("first")
    eventually(lambda: backends.ready("second"), within=10)
    assert backends.urls() == {"phi3": "http://second:11434"}


def test_disabled_is_ready_without_a_route(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    make_operator().start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    backends.patch("phi", {"spec": {"enabled": False}})
    eventually(lambda: backends.ready("phi"), within=10)
    assert backends.config() == RoutingConfig()
    assert rows(migrated, backends.namespace) == {"phi": (2, True)}
    messages = {c["type"]: c["message"] for c in backends.get("phi")["status"]["conditions"]}
    assert "isabled" in messages["ConfigPublished"]


def test_default_addresses(make_operator: MakeOperator, backends: Backends) -> None:
    operator = make_operator(
        settings=SELDOM | {"LLMB_DEFAULT_OLLAMA_URL": "http://ollama.models:11434"}
    )
    operator.start()
    backends.apply(backends.manifest("phi", endpointURL=None))
    eventually(lambda: backends.ready("phi"), within=10)
    assert backends.urls() == {"phi": "http://ollama.models:11434"}
    backends.apply(backends.manifest("mlx", backendType="mlx", endpointURL=None))
    eventually(lambda: backends.conditions("mlx").get("Stalled") == "True/Invalid", within=10)


# What happened while nobody looked.


@pytest.mark.check(13)
def test_deleted_while_the_operator_is_down(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    operator = make_operator()
    operator.start()
    backends.apply(backends.manifest("phi"), backends.manifest("llama"))
    eventually(lambda: backends.ready("phi") and backends.ready("llama"), within=10)
    assert operator.end() == 0
    backends.delete("phi", wait=False)
    operator.start()
    eventually(lambda: [i["metadata"]["name"] for i in backends.items()] == ["llama"], within=10)
    assert set(backends.urls()) == {"llama"}
    assert rows(migrated, backends.namespace) == {"phi": (1, False), "llama": (1, True)}


@pytest.mark.check(13)
def test_vanished_while_the_operator_is_down(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    """Without its finalizer an object goes at once: only a list can tell, of maps and of rows."""
    operator = make_operator()
    operator.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    operator.kill()
    backends.patch("phi", {"metadata": {"finalizers": None}})
    backends.delete("phi")
    operator.start()
    eventually(lambda: backends.config() == RoutingConfig(), within=10)
    eventually(lambda: rows(migrated, backends.namespace) == {"phi": (1, False)}, within=10)


def test_vanished_while_it_runs(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    make_operator(settings=RESYNC).start()
    backends.apply(backends.manifest("phi"), backends.manifest("llama"))
    eventually(lambda: backends.ready("phi") and backends.ready("llama"), within=10)
    backends.patch("phi", {"metadata": {"finalizers": None}})
    backends.delete("phi")
    eventually(lambda: set(backends.urls()) == {"llama"}, within=10)
    eventually(lambda: rows(migrated, backends.namespace)["phi"] == (1, False), within=10)


def test_changed_while_the_operator_is_down(
    make_operator: MakeOperator, backends: Backends
) -> None:
    operator = make_operator()
    operator.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    operator.kill()
    backends.patch("phi", {"spec": {"endpointURL": "http://new:1"}})
    operator.start()
    eventually(lambda: backends.ready("phi"), within=10)
    assert backends.urls() == {"phi": "http://new:1"}


@pytest.mark.check(15)
def test_recreated_under_the_same_name(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    make_operator().start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    exported = backends.get("phi")
    backends.delete("phi")
    restored = backends.manifest("phi")
    restored["metadata"]["annotations"] = exported["metadata"]["annotations"]
    backends.apply(restored)
    # NB: not by the resync, which is an hour away here.
    eventually(lambda: backends.ready("phi"), within=10)
    assert backends.config().routes[0].uid == backends.get("phi")["metadata"]["uid"]
    assert rows(migrated, backends.namespace) == {"phi": (1, True)}


# What somebody else did.


def patch_map(backends: Backends, patch: dict[str, Any]) -> None:
    with backends.control_plane.client() as client:
        expect(
            client.patch(
                f"/api/v1/namespaces/{backends.namespace}/configmaps/{CONFIG_MAP}",
                json=patch,
                headers={"Content-Type": "application/merge-patch+json"},
            )
        )


@pytest.mark.check(21)
@pytest.mark.parametrize(
    "patch",
    [
        {"data": {CONFIG_KEY: '{"schemaVersion":1,"routes":[]}'}},
        {"data": {CHECKSUM_KEY: "0" * 64}},
        {"data": None},
        {"metadata": {"annotations": {"llm.athena.dev/checksum": None}}},
    ],
    ids=["routes", "checksum", "all", "annotation"],
)
def test_an_edited_configmap_is_repaired(
    make_operator: MakeOperator, backends: Backends, patch: dict[str, Any]
) -> None:
    make_operator(settings=RESYNC).start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    foreign = {"labels": {"team": "a"}, "annotations": {"note": "b"}}
    patch_map(backends, {"metadata": foreign, "data": {"extra": "c"}})
    before = backends.configmap()
    assert before is not None
    patch_map(backends, patch)

    def repaired() -> bool:
        found = backends.configmap()
        assert found is not None
        metadata = found["metadata"]
        assert {k: found["data"][k] for k in (CONFIG_KEY, CHECKSUM_KEY)} == {
            k: before["data"][k] for k in (CONFIG_KEY, CHECKSUM_KEY)
        }
        assert metadata["labels"] == before["metadata"]["labels"]
        assert metadata["annotations"] == before["metadata"]["annotations"]
        return True

    eventually(repaired, within=10, retry=(KeyError, TypeError))
    assert backends.ready("phi")


@pytest.mark.check(22)
def test_a_deleted_configmap_comes_back(make_operator: MakeOperator, backends: Backends) -> None:
    make_operator(settings=RESYNC).start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    before = backends.configmap()
    assert before is not None
    backends.control_plane.kubectl("delete", "cm", CONFIG_MAP, "-n", backends.namespace)
    after = eventually(backends.configmap, within=10)
    assert after["data"] == before["data"]


@pytest.mark.check(26)
def test_a_foreign_configmap_is_never_overwritten(
    make_operator: MakeOperator, backends: Backends
) -> None:
    backends.control_plane.kubectl(
        *("create", "configmap", CONFIG_MAP, "-n", backends.namespace),
        "--from-literal=routing.json=theirs",
    )
    make_operator(settings=RESYNC).start()
    backends.apply(backends.manifest("phi"))
    eventually(
        lambda: backends.conditions("phi").get("ConfigPublished") == "False/NotOwned", within=10
    )
    assert backends.conditions("phi")["Ready"] == "False/NotOwned"
    assert backends.conditions("phi")["DatabaseSynced"] == "True/Synced"
    found = backends.configmap()
    assert found is not None
    assert found["data"] == {CONFIG_KEY: "theirs"}
    backends.control_plane.kubectl("delete", "cm", CONFIG_MAP, "-n", backends.namespace)
    eventually(lambda: backends.ready("phi"), within=10)


def test_an_edited_status_is_repaired(make_operator: MakeOperator, backends: Backends) -> None:
    make_operator(settings=RESYNC).start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    backends.patch("phi", {"status": {"conditions": []}}, subresource="/status")
    assert not backends.ready("phi")
    eventually(lambda: backends.ready("phi"), within=10)


def test_an_edited_row_is_repaired(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    make_operator(settings=RESYNC).start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("UPDATE llmb.llm_backends SET deleted_at = now()")
    assert rows(migrated, backends.namespace) == {"phi": (1, False)}
    eventually(lambda: rows(migrated, backends.namespace) == {"phi": (1, True)}, within=10)


@pytest.mark.check(4)
def test_conditions_of_others_stay(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends
) -> None:
    operator = make_operator(settings=RESYNC)
    operator.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    theirs = {
        "type": "example.com/Audited",
        "status": "True",
        "reason": "Fine",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    body = {k: v for k, v in backends.manifest("phi").items() if k != "spec"}
    body["metadata"] = {"name": "phi"}
    with control_plane.client() as client:
        expect(
            client.patch(
                f"{backends.path}/phi/status",
                params={"fieldManager": "auditor"},
                json=body | {"status": {"conditions": [theirs]}},
                headers={"Content-Type": "application/apply-patch+yaml"},
            )
        )
    writes = settled_writes(control_plane, operator)
    rounds = len(lists(control_plane, operator))
    eventually(lambda: len(lists(control_plane, operator)) > rounds + 4, within=20)
    assert settled_writes(control_plane, operator) == writes
    backends.patch("phi", {"spec": {"maxTokens": 5}})
    eventually(lambda: backends.ready("phi"), within=10)
    types = {c["type"] for c in backends.get("phi")["status"]["conditions"]}
    assert types >= {"example.com/Audited", "Ready"}


@pytest.mark.check(17)
def test_an_object_older_than_a_rule_keeps_its_route(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends
) -> None:
    make_operator().start()
    backends.apply(backends.manifest("phi"), backends.manifest("llama"))
    eventually(lambda: backends.ready("phi") and backends.ready("llama"), within=10)
    loose = yaml.safe_load(CRD_FILE.read_text())
    spec = loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["x-kubernetes-validations"]
    for field in spec["properties"].values():
        field.pop("x-kubernetes-validations", None)
    try:
        control_plane.kubectl(
            "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump(loose)
        )
        bad = {"spec": {"endpointURL": "http://169.254.169.254"}}
        eventually(
            lambda: (
                backends.patch("phi", bad) or backends.get("phi")["metadata"]["generation"] == 2
            ),
            within=20,
            every=0.5,
        )
    finally:
        control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", CRD_FILE)
    eventually(lambda: backends.conditions("phi").get("Stalled") == "True/Invalid", within=10)
    assert backends.conditions("phi")["ConfigPublished"] == "False/NotAccepted"
    assert backends.urls() == {"phi": "http://phi:11434", "llama": "http://llama:11434"}
    backends.patch("llama", {"spec": {"endpointURL": "http://new:1"}})
    eventually(lambda: backends.ready("llama"), within=10)
    assert backends.urls() == {"phi": "http://phi:11434", "llama": "http://new:1"}
    backends.patch("phi", {"spec": {"endpointURL": "http://mended:1"}})
    eventually(lambda: backends.ready("phi"), within=10)
    assert "Stalled" not in backends.conditions("phi")


def test_a_namespace_on_its_way_out_keeps_nothing(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends
) -> None:
    make_operator().start()
    backends.apply(backends.manifest("phi"), backends.manifest("llama"))
    eventually(lambda: backends.all_ready(2), within=10)
    control_plane.kubectl("delete", "namespace", backends.namespace, "--wait=false")
    control_plane.kubectl("delete", "cm", CONFIG_MAP, "-n", backends.namespace)
    for name in ("phi", "llama"):
        backends.delete(name, wait=False)
    eventually(lambda: backends.items() == [], within=15)
    assert backends.configmap() is None


async def test_the_status_of_an_object_that_is_gone(
    control_plane: ControlPlane, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends.apply(backends.manifest("phi"))
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    async with await API.connect() as api:
        cluster = Cluster(api)
        (resource,) = await cluster.list(backends.namespace)
        await cluster.write(resource, {"observedGeneration": 1})
        assert backends.get("phi")["status"] == {"observedGeneration": 1}
        backends.delete("phi")
        with pytest.raises(Gone):
            await cluster.write(resource, {"observedGeneration": 1})
        assert backends.items() == []


# The client hands aiohttp a text, and aiohttp would rather stream more than 1 MiB of it.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_the_largest_configuration_is_taken(
    control_plane: ControlPlane, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    raw = b'"' * LIMIT  # each byte is two in the request
    async with await API.connect() as api:
        sink = ConfigMapSink(Cluster(api))
        for _ in range(2):
            await sink.publish(backends.namespace, raw=raw, checksum=checksum(raw))
            assert await sink.current(backends.namespace) == Standing(
                raw=raw, checksum=checksum(raw)
            )
        assert backends.namespace in await sink.namespaces()


# The process.


@pytest.mark.check(36)
def test_health_and_an_end_on_a_signal(make_operator: MakeOperator, backends: Backends) -> None:
    operator = make_operator()
    operator.start()
    assert operator.ask("healthz").text == "ok\n"
    assert operator.ask("readyz").text == "ok\n"
    backends.apply(*(backends.manifest(f"m{number}") for number in range(50)))
    assert operator.end(within=8) == 0
    assert operator.logged("operator_ended")


async def test_in_process_beside_other_tasks(
    control_plane: ControlPlane,
    backends: Backends,
    migrated: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a thread with a loop of its own: no signals, ended by its event, nothing left running."""
    user = control_plane.create_user("operator", rules())
    monkeypatch.setenv("KUBECONFIG", str(user.kubeconfig))
    settings = Settings.from_environment(
        {
            "LLMB_DATABASE_URL": migrated,
            "LLMB_HEALTH_HOST": "127.0.0.1",
            "LLMB_HEALTH_PORT": str(free_port()),
        }
    )
    started, ended = threading.Event(), threading.Event()
    handle: dict[str, Any] = {}

    async def main() -> None:
        handle["loop"], handle["stop"] = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        handle["code"] = await serve(settings, stop=handle["stop"])
        handle["left"] = asyncio.all_tasks() - {asyncio.current_task()}
        ended.set()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert started.wait(5)
    await asyncio.to_thread(backends.apply, backends.manifest("phi"))
    await asyncio.to_thread(lambda: eventually(lambda: backends.ready("phi"), within=20))
    handle["loop"].call_soon_threadsafe(handle["stop"].set)
    assert await asyncio.to_thread(ended.wait, 10)
    thread.join(5)
    assert handle["code"] == 0
    assert handle["left"] == set()


def lists(control_plane: ControlPlane, operator: Operator) -> list[Any]:
    """The operator's lists of resources: two for each round and namespace."""
    assert operator.user is not None
    return control_plane.audit(user=operator.user.name, verbs=("list",), resource="llmbackends")


def settled_writes(control_plane: ControlPlane, operator: Operator) -> int:
    """How many writes the operator has made, once that number stands."""
    assert operator.user is not None
    user, seen = operator.user.name, [-1, -2, -3, -4]

    def standing() -> bool:
        writes = control_plane.audit(user=user, verbs=("create", "patch", "update", "delete"))
        seen.append(sum(e.resource != "selfsubjectaccessreviews" for e in writes))
        return len(set(seen[-4:])) == 1

    eventually(standing, within=20, every=0.3)
    return seen[-1]
