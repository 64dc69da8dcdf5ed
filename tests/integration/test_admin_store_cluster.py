"""The admin's store on a real API server: what it writes, what it refuses, what it follows."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llm_operator.admin.errors import Away, Changed, Conflict, Invalid, Missing
from llm_operator.admin.model import Backend, Owner
from llm_operator.admin.store import refusals
from llm_operator.admin.store.cluster import MANAGER, VERBS, ClusterStore
from llm_operator.api import API
from llm_operator.ports import Gone, Refused
from llm_operator.resource.model import CHANGED_BY, CREATED_BY
from parts.access import User, expect
from parts.control_plane import ControlPlane
from parts.eventually import eventually, eventually_async
from parts.operator import Backends

pytestmark = [pytest.mark.usefixtures("crd"), pytest.mark.timeout(180)]

#: Seconds for what takes a moment on a machine that is not busy.
SOON = 20
MANY = 1000

RULES = [{"apiGroups": ["llm.athena.dev"], "resources": ["llmbackends"], "verbs": VERBS}]
SIMPLE = {"modelName": "phi3:mini", "backendType": "ollama", "endpointURL": "http://a:11434"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    return Backends(control_plane, namespace)


@pytest.fixture
def admin(control_plane: ControlPlane) -> User:
    return control_plane.create_user("admin", RULES)


@asynccontextmanager
async def opened(
    monkeypatch: pytest.MonkeyPatch, user: User, *namespaces: str
) -> AsyncIterator[ClusterStore]:
    """A store that follows, once it has its first copy."""
    monkeypatch.setenv("KUBECONFIG", str(user.kubeconfig))
    async with await API.connect() as api:
        store = ClusterStore(api, namespace="default", namespaces=frozenset(namespaces))
        following = asyncio.create_task(store.run())
        try:
            await eventually_async(lambda: store.fresh, within=SOON)
            yield store
            await eventually_async(lambda: store.fresh, within=SOON)
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


@pytest.fixture
async def store(
    monkeypatch: pytest.MonkeyPatch, admin: User, namespace: str
) -> AsyncIterator[ClusterStore]:
    async with opened(monkeypatch, admin, namespace) as opened_store:
        yield opened_store


async def seen(store: ClusterStore, namespace: str, name: str) -> Backend:
    """The backend, as soon as it is on the shelf."""

    def found() -> Backend | None:
        named = (one for one in store.held() if one.resource.identity.name == name)
        return next((one for one in named if one.resource.identity.namespace == namespace), None)

    return await eventually_async(found, within=SOON)


def manifest(backends: Backends, name: str, **metadata: Any) -> dict[str, Any]:
    """A resource with something at every kind of place."""
    return {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {
            "name": name,
            "namespace": backends.namespace,
            "labels": {"team": "voice"},
            "annotations": {"owner": "me"},
            **metadata,
        },
        "spec": {
            "modelName": name,
            "aliases": ["small", "fast"],
            "description": "made by hand",
            "timeouts": {"connectSeconds": 2, "streamIdleSeconds": 9},
            "targets": [
                {"name": "mac", "type": "mlx", "endpointURL": "http://mac:8080", "model": "m"},
                {"name": "pc", "type": "ollama", "endpointURL": "http://pc:11434"},
            ],
            "parameters": {"defaults": {"stop": ["a"], "deep": {"x": 1, "y": 2}}},
        },
    }


def written(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec without what the API server fills in."""
    filled = {"enabled", "priority", "timeoutSeconds", "onBusy"}
    return {
        key: [written(one) if isinstance(one, dict) else one for one in value]
        if isinstance(value, list)
        else value
        for key, value in spec.items()
        if key not in filled
    }


# Creating.


async def test_what_is_created_is_there_and_can_be_read_at_once(
    store: ClusterStore, backends: Backends
) -> None:
    made = await store.create(namespace=backends.namespace, name="", spec=SIMPLE, by="some\nbody")
    assert store.get(made.uid) is made
    assert list(store.list()) == [made]
    assert store.by_model(backends.namespace, "phi3:mini") is made
    assert made.resource.identity.name == "phi3-mini"
    assert made.resource.spec is not None
    assert made.owner is None
    item = backends.get("phi3-mini")
    assert (item["metadata"]["uid"], item["metadata"]["resourceVersion"]) == (
        made.uid,
        made.version,
    )
    annotations = {CREATED_BY: "some body", CHANGED_BY: "some body"}
    assert item["metadata"]["annotations"] == annotations
    assert written(item["spec"]) == SIMPLE
    (entry,) = item["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == (MANAGER, "Apply")


async def test_a_name_that_is_taken_changes_nothing(
    store: ClusterStore, backends: Backends
) -> None:
    backends.apply(backends.manifest("phi", description=None))
    before = backends.get("phi")
    more = before["spec"] | {"description": "added"}
    with pytest.raises(Conflict, match="exists already"):
        await store.create(namespace=backends.namespace, name="phi", spec=more, by="x")
    assert backends.get("phi") == before


async def test_a_name_that_was_made_is_made_unique(store: ClusterStore, backends: Backends) -> None:
    # NB: at once, so that none of them is on the shelf when the others look for a name.
    made = await asyncio.gather(
        *(
            store.create(namespace=backends.namespace, name="", spec=SIMPLE, by="x")
            for _ in range(4)
        )
    )
    names = {one.resource.identity.name for one in made}
    assert names == {"phi3-mini", "phi3-mini-2", "phi3-mini-3", "phi3-mini-4"}


async def test_what_the_rules_refuse_is_told_field_by_field(
    store: ClusterStore, backends: Backends
) -> None:
    spec = SIMPLE | {"endpointURL": "ftp://x", "priority": "1", "foo": 1, "modelName": 3}
    with pytest.raises(Invalid) as refused:
        await store.create(namespace=backends.namespace, name="A b/c", spec=spec, by="x")
    errors = refused.value.more["errors"]
    assert isinstance(errors, list)
    assert {error["field"] for error in errors} == {
        "metadata.name",
        "spec.modelName",
        "spec.endpointURL",
        "spec.priority",
        "spec.foo",
    }
    assert backends.items() == []


async def test_a_namespace_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, admin: User, store: ClusterStore
) -> None:
    async with opened(monkeypatch, admin) as everywhere:
        with pytest.raises(Missing, match="there is no namespace nowhere"):
            await everywhere.create(namespace="nowhere", name="a", spec=SIMPLE, by="x")
    with pytest.raises(Missing, match="namespace nowhere is not served"):
        await store.create(namespace="nowhere", name="a", spec=SIMPLE, by="x")


async def test_a_right_that_the_admin_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch,
    control_plane: ControlPlane,
    backends: Backends,
) -> None:
    rules = [RULES[0] | {"verbs": ["get", "list", "watch"]}]
    user = control_plane.create_user("reader", rules)
    backends.apply(backends.manifest("phi"))
    async with opened(monkeypatch, user, backends.namespace) as reader:
        phi = await seen(reader, backends.namespace, "phi")
        with pytest.raises(Away, match="may not patch llmbackends in namespace"):
            await reader.create(namespace=backends.namespace, name="a", spec=SIMPLE, by="x")
        with pytest.raises(Away, match="may not patch llmbackends in namespace"):
            await reader.replace(phi, SIMPLE, by="x")
        with pytest.raises(Away, match="may not delete llmbackends in namespace"):
            await reader.delete(phi)


async def test_what_can_not_be_watched_is_read_and_said_not_to_follow(
    monkeypatch: pytest.MonkeyPatch, control_plane: ControlPlane, backends: Backends
) -> None:
    user = control_plane.create_user("lister", [RULES[0] | {"verbs": ["list"]}])
    backends.apply(backends.manifest("phi"))
    monkeypatch.setenv("KUBECONFIG", str(user.kubeconfig))
    async with await API.connect() as api:
        namespaces = frozenset([backends.namespace])
        store = ClusterStore(api, namespace="default", namespaces=namespaces)
        following = asyncio.create_task(store.run())
        await seen(store, backends.namespace, "phi")
        assert len(store.list()) == 1
        assert not store.fresh
        # It goes on by lists alone.
        await asyncio.to_thread(backends.apply, backends.manifest("later"))
        await seen(store, backends.namespace, "later")
        assert not store.fresh
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


# Replacing.


def by_apply(plane: ControlPlane, document: str) -> None:
    plane.kubectl("apply", "-f", "-", stdin=document)


def by_server_side(plane: ControlPlane, document: str) -> None:
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=document)


def by_create(plane: ControlPlane, document: str) -> None:
    plane.kubectl("create", "-f", "-", stdin=document)


Make = Callable[[ControlPlane, str], None]


@pytest.mark.parametrize("make", [by_apply, by_server_side, by_create])
async def test_a_replaced_spec_is_that_spec_and_nothing_else(
    store: ClusterStore, backends: Backends, control_plane: ControlPlane, make: Make
) -> None:
    given = manifest(backends, "phi")
    make(control_plane, json.dumps(given))
    phi = await seen(store, backends.namespace, "phi")
    spec = {
        "modelName": "phi",
        "aliases": ["fast"],
        "timeouts": {"streamIdleSeconds": 9},
        "targets": [{"name": "pc", "type": "ollama", "endpointURL": "http://pc:1"}],
        "parameters": {"defaults": {"deep": {"y": 3}}},
    }
    after = await store.replace(phi, spec, by="somebody")
    assert after.resource.identity.generation == 2
    item = backends.get("phi")
    assert written(item["spec"]) == spec
    assert item["metadata"]["labels"] == {"team": "voice"}
    assert (
        item["metadata"]["annotations"].items() >= {"owner": "me", CHANGED_BY: "somebody"}.items()
    )
    assert store.get(phi.uid) == after
    # From the full form to the simple one: what has to go goes in the same step.
    last = await store.replace(after, SIMPLE, by="somebody")
    assert written(backends.get("phi")["spec"]) == SIMPLE
    # And with nothing of anybody's left: back again.
    await store.replace(last, given["spec"], by="somebody")
    assert written(backends.get("phi")["spec"]) == given["spec"]


async def test_its_author_goes_on_with_kubectl_apply(
    store: ClusterStore, backends: Backends, control_plane: ControlPlane
) -> None:
    given = manifest(backends, "phi")
    by_apply(control_plane, json.dumps(given))
    phi = await seen(store, backends.namespace, "phi")
    spec = given["spec"] | {"description": "by the admin", "maxTokens": 5, "aliases": ["big"]}
    del spec["timeouts"]
    await store.replace(phi, spec, by="x")
    assert written(backends.get("phi")["spec"]) == spec
    by_apply(control_plane, json.dumps(given))
    # What the manifest names is as it says again; what it never named stays as the admin left it.
    assert written(backends.get("phi")["spec"]) == given["spec"] | {"maxTokens": 5}


async def test_both_forms_at_once_is_what_no_kubectl_apply_can_make(
    store: ClusterStore, backends: Backends, control_plane: ControlPlane
) -> None:
    given = manifest(backends, "phi")
    by_apply(control_plane, json.dumps(given))
    phi = await seen(store, backends.namespace, "phi")
    await store.replace(phi, SIMPLE, by="x")
    # NB: kubectl merges the manifest, with its targets, into the simple form the admin made of it.
    both = control_plane.kubectl(*("apply", "-f", "-"), stdin=json.dumps(given), check=False)
    assert "each of targets has its own; remove it, or remove targets" in both.stderr
    assert written(backends.get("phi")["spec"]) == SIMPLE
    control_plane.kubectl("replace", "-f", "-", stdin=json.dumps(given))
    assert written(backends.get("phi")["spec"]) == given["spec"]


async def test_what_was_handed_over_belongs_to_the_admin(
    store: ClusterStore, backends: Backends, control_plane: ControlPlane
) -> None:
    by_apply(control_plane, json.dumps(manifest(backends, "phi")))
    phi = await seen(store, backends.namespace, "phi")
    await store.replace(phi, SIMPLE | {"modelName": "phi"}, by="x")
    entries = backends.get("phi")["metadata"]["managedFields"]
    spec_of = {
        (one["manager"], one["operation"]): sorted(set(one["fieldsV1"].get("f:spec", {})) - {"."})
        for one in entries
    }
    assert spec_of == {
        ("kubectl-client-side-apply", "Update"): ["f:modelName"],
        (MANAGER, "Apply"): ["f:backendType", "f:endpointURL", "f:modelName"],
    }


async def test_its_author_is_told_of_a_conflict_with_server_side_apply(
    store: ClusterStore, backends: Backends, control_plane: ControlPlane
) -> None:
    given = manifest(backends, "phi")
    by_server_side(control_plane, json.dumps(given))
    phi = await seen(store, backends.namespace, "phi")
    await store.replace(phi, given["spec"] | {"description": "by the admin"}, by="x")
    document = json.dumps(given)
    conflict = control_plane.kubectl(
        *("apply", "--server-side", "-f", "-"), stdin=document, check=False
    )
    assert f'conflict with "{MANAGER}": .spec.description' in conflict.stderr
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=document)
    assert written(backends.get("phi")["spec"]) == given["spec"]


async def test_a_field_that_another_applied_and_the_admin_took_away_stays_away(
    store: ClusterStore, backends: Backends
) -> None:
    with backends.control_plane.client() as client:
        for manager in ("one", "two", MANAGER):
            body = backends.manifest("phi", description="d", maxTokens=5)
            query = {"fieldManager": manager}
            path = f"{backends.path}/phi"
            expect(client.patch(path, json=body, params=query, headers=APPLY))
    phi = await seen(store, backends.namespace, "phi")
    spec = {key: value for key, value in phi.spec.items() if key != "maxTokens"}
    await store.replace(phi, spec, by="x")
    item = backends.get("phi")
    assert "maxTokens" not in item["spec"]
    assert "maxTokens" not in json.dumps(
        [one for one in item["metadata"]["managedFields"] if one["manager"] in ("one", "two")]
    )


async def test_an_object_whose_owners_were_wiped_away(
    store: ClusterStore, backends: Backends
) -> None:
    given = manifest(backends, "phi")
    backends.apply(given)
    backends.patch("phi", {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in backends.get("phi")["metadata"]
    phi = await seen(store, backends.namespace, "phi")
    await store.replace(phi, SIMPLE, by="x")
    assert written(backends.get("phi")["spec"]) == SIMPLE


async def test_nothing_is_replaced_that_was_changed_meanwhile(
    store: ClusterStore, backends: Backends
) -> None:
    backends.apply(backends.manifest("phi"))
    phi = await seen(store, backends.namespace, "phi")
    backends.patch("phi", {"spec": {"description": "meanwhile"}})
    with pytest.raises(Changed):
        await store.replace(phi, SIMPLE, by="x")
    with pytest.raises(Changed):
        await store.delete(phi)
    assert backends.get("phi")["spec"]["description"] == "meanwhile"
    # What came between can be read: it was just looked at.
    now = store.get(phi.uid)
    assert now is not None
    await store.replace(now, SIMPLE, by="x")


async def test_a_status_or_label_written_meanwhile_is_no_change(
    store: ClusterStore, backends: Backends
) -> None:
    backends.apply(backends.manifest("phi"))
    phi = await seen(store, backends.namespace, "phi")
    backends.patch("phi", {"status": {"observedGeneration": 1}}, subresource="/status")
    backends.patch("phi", {"metadata": {"labels": {"a": "b"}}})
    after = await store.replace(phi, SIMPLE, by="x")
    assert backends.get("phi")["metadata"]["labels"] == {"a": "b"}
    backends.patch("phi", {"status": {"observedGeneration": 2}}, subresource="/status")
    await store.delete(after)
    assert backends.items() == []


async def test_writes_get_through_while_statuses_are_written_all_the_time(
    store: ClusterStore, backends: Backends
) -> None:
    backends.apply(backends.manifest("phi"))
    backend = await seen(store, backends.namespace, "phi")
    pause = threading.Event()

    def busy() -> None:
        number = 0
        while not pause.is_set():
            number += 1
            status = {"observedGeneration": number}
            backends.patch("phi", {"status": status}, subresource="/status")
            pause.wait(0.02)

    writer = asyncio.create_task(asyncio.to_thread(busy))
    try:
        for priority in range(10):
            backend = await store.replace(backend, SIMPLE | {"priority": priority}, by="x")
    finally:
        pause.set()
        await writer
    assert backends.get("phi")["spec"]["priority"] == 9


async def test_what_is_gone_or_another_is_missing(store: ClusterStore, backends: Backends) -> None:
    backends.apply(backends.manifest("phi"))
    phi = await seen(store, backends.namespace, "phi")
    backends.delete("phi")
    for write in (store.replace(phi, SIMPLE, by="x"), store.delete(phi)):
        with pytest.raises(Missing):
            await write
    backends.apply(backends.manifest("phi"))
    for write in (store.replace(phi, SIMPLE, by="x"), store.delete(phi)):
        with pytest.raises(Missing):
            await write
    assert store.get(phi.uid) is None
    assert backends.get("phi")["metadata"]["generation"] == 1


# Deleting.


async def test_what_is_deleted_is_gone_at_once(store: ClusterStore, backends: Backends) -> None:
    made = await store.create(namespace=backends.namespace, name="a", spec=SIMPLE, by="x")
    await store.delete(made)
    assert list(store.list()) == []
    assert backends.items() == []
    again = await store.create(namespace=backends.namespace, name="a", spec=SIMPLE, by="x")
    assert again.uid != made.uid


async def test_what_something_holds_back_is_there_until_it_is_let_go(
    store: ClusterStore, backends: Backends
) -> None:
    backends.apply(backends.manifest("phi"))
    backends.patch("phi", {"metadata": {"finalizers": ["llm.athena.dev/cleanup"]}})
    phi = await seen(store, backends.namespace, "phi")
    await store.delete(phi)
    held = store.get(phi.uid)
    assert held is not None
    assert held.resource.deleting
    backends.patch("phi", {"metadata": {"finalizers": None}})
    assert await store.until(phi.uid, lambda one: one is None, within=SOON) is None


# What the API server says.


async def test_the_words_of_the_schema_by_field(
    monkeypatch: pytest.MonkeyPatch, admin: User, backends: Backends
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(admin.kubeconfig))
    body = backends.manifest("a", endpointURL="ftp://x?y", fallbackEndpointURL="http://b")
    async with await API.connect() as api:
        with pytest.raises(Refused) as refused:
            await api.apply(f"{backends.path}/a", body, manager="x", force=False)
        told = refusals.refusal(refused.value, what="ns/a")
        with pytest.raises(Gone) as gone:
            await api.get(f"{backends.path}/a")
    assert isinstance(told, Invalid)
    errors = told.more["errors"]
    assert isinstance(errors, list)
    assert sorted((error["field"], error["message"]) for error in errors) == [
        ("spec.endpointURL", "must not have a query, the part after ?"),
        ("spec.endpointURL", "must start with http:// or https://"),
        (
            "spec.fallbackEndpointURL",
            "only backendType auto has a fallback; remove it, or set backendType: auto",
        ),
    ]
    assert gone.value.said is not None
    assert (gone.value.said.code, gone.value.said.kind) == (404, "llmbackends")


async def test_what_another_policy_refuses_is_told_in_its_words(
    store: ClusterStore, backends: Backends, control_plane: ControlPlane
) -> None:
    name = backends.namespace
    group = "/apis/admissionregistration.k8s.io/v1"
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["llm.athena.dev"],
                        "apiVersions": ["*"],
                        "operations": ["CREATE"],
                        "resources": ["llmbackends"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            },
            "validations": [
                {"expression": "object.spec.priority < 7", "message": "not so low, please"}
            ],
        },
    }
    binding = {
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    with control_plane.client() as client:
        expect(client.post(f"{group}/validatingadmissionpolicies", json=policy))
        expect(client.post(f"{group}/validatingadmissionpolicybindings", json=binding))
    try:
        number = 0

        async def refused() -> str:
            nonlocal number
            number += 1
            spec = SIMPLE | {"priority": 8}
            try:
                await store.create(namespace=name, name=f"a{number}", spec=spec, by="x")
            except Invalid as error:
                return error.detail
            return ""

        # NB: the API server takes a moment to learn of a policy.
        assert "not so low, please" in await eventually_async(refused, within=60, every=0.3)
    finally:
        with control_plane.client() as client:
            client.delete(f"{group}/validatingadmissionpolicybindings/{name}")
            client.delete(f"{group}/validatingadmissionpolicies/{name}")


# Owners.


async def test_whose_a_resource_is(store: ClusterStore, backends: Backends) -> None:
    flux = {"kustomize.toolkit.fluxcd.io/name": "apps"}
    with backends.control_plane.client() as client:
        for name, manager in (("theirs", "kustomize-controller"), ("copied", "kubectl")):
            body = backends.manifest(name)
            body["metadata"]["labels"] = flux
            query = {"fieldManager": manager}
            path = f"{backends.path}/{name}"
            expect(client.patch(path, json=body, params=query, headers=APPLY))
    tracking = f"models:llm.athena.dev/LLMBackend:{backends.namespace}/tracked"
    tracked = backends.manifest("tracked")
    tracked["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": tracking}
    backends.apply(tracked)
    owners = {
        name: (await seen(store, backends.namespace, name)).owner
        for name in ("theirs", "copied", "tracked")
    }
    assert owners == {
        "theirs": Owner(tool="Flux", name="apps"),
        "copied": None,
        "tracked": Owner(tool="Argo CD", name="models"),
    }
    # An owner that comes later, without a new generation, is seen too.
    backends.patch(
        "tracked", {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": None}}}
    )
    await eventually_async(
        lambda: store.by_model(None, "tracked").owner is None,  # type: ignore[union-attr]
        within=SOON,
    )


# Following.


async def test_it_follows_what_others_do(store: ClusterStore, backends: Backends) -> None:
    backends.apply(backends.manifest("phi"))
    phi = await seen(store, backends.namespace, "phi")
    woken = asyncio.create_task(store.changed(within=60))
    backends.patch("phi", {"spec": {"modelName": "other"}})
    await woken

    def renamed() -> bool:
        found = store.by_model(backends.namespace, "other")
        return found is not None and found.uid == phi.uid

    await eventually_async(renamed, within=SOON)
    assert store.by_model(backends.namespace, "phi") is None
    backends.patch("phi", {"status": {"observedGeneration": 2}}, subresource="/status")
    settled = await store.until(
        phi.uid,
        lambda one: one is not None and (one.resource.status or {}).get("observedGeneration") == 2,
        within=SOON,
    )
    assert settled is not None
    assert settled.resource.status == {"observedGeneration": 2}
    assert "status" not in settled.manifest
    backends.delete("phi")
    assert await store.until(phi.uid, lambda one: one is None, within=SOON) is None


async def test_of_namespaces_that_are_not_served_it_knows_nothing(
    store: ClusterStore, backends: Backends, control_plane: ControlPlane
) -> None:
    other = backends.manifest("elsewhere")
    other["metadata"]["namespace"] = "default"
    try:
        by_apply(control_plane, json.dumps(other))
        backends.apply(backends.manifest("phi"))
        await seen(store, backends.namespace, "phi")
        assert [one.resource.identity.name for one in store.list()] == ["phi"]
    finally:
        control_plane.kubectl("delete", "llmb", "elsewhere", "-n", "default")


async def test_a_thousand(monkeypatch: pytest.MonkeyPatch, admin: User, backends: Backends) -> None:
    documents = [backends.manifest(f"m{number:04}", priority=number) for number in range(MANY)]
    backends.apply(*documents[: MANY // 2])
    async with opened(monkeypatch, admin, backends.namespace) as store:
        assert len(store.list()) == MANY // 2, "listed, in more than one page"
        await asyncio.to_thread(backends.apply, *documents[MANY // 2 :])
        await eventually_async(lambda: len(store.list()) == MANY, within=60)
        names = [one.resource.identity.name for one in store.list()]
        assert names == [f"m{number:04}" for number in range(MANY)]
        assert store.list() is store.list()
        before: Sequence[Backend] = store.list()
        backends.patch("m0500", {"spec": {"priority": 5000}})
        await eventually_async(lambda: store.list()[-1].model == "m0500", within=SOON)
        same = sum(one is store.get(one.uid) for one in before)
        assert same == MANY - 1, "what did not change was not read again"
    path = backends.path
    with backends.control_plane.client() as client:
        expect(client.delete(path))
    eventually(lambda: not backends.items(), within=SOON)
