"""What the stores decide without asking anybody: names, owners, what is handed over, refusals."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llm_operator.admin.errors import AdminError, Away, Invalid, Missing
from llm_operator.admin.model import Backend, Owner
from llm_operator.admin.store import refusals
from llm_operator.admin.store.commit import commit_yaml
from llm_operator.admin.store.fields import handed_over
from llm_operator.admin.store.names import resource_name, who
from llm_operator.admin.store.objects import backend
from llm_operator.admin.store.owners import TRACKING, owner
from llm_operator.admin.store.shelf import Shelf
from llm_operator.ports import Gone, PortError, Refused, Said, Unavailable
from llm_operator.resource.model import CHANGED_BY

ME = "llm-backend-admin"
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("phi3:mini", "phi3-mini"),
        ("llama3.1:8b", "llama3-1-8b"),
        ("mlx-community/Phi-3-mini-4k-instruct-4bit", "mlx-community-phi-3-mini-4k-instruct-4bit"),
        ("Qwen/QwQ_32B@main+x", "qwen-qwq-32b-main-x"),
        (":::", "model"),
        ("", "model"),
        ("模型", "model"),
        ("modèle", "modele"),
        ("-a-", "a"),
        ("x" * 253, "x" * 63),
        ("x" * 62 + ":y", "x" * 62),
    ],
)
def test_a_name_made_of_a_model(model: str, name: str) -> None:
    assert resource_name(model) == name


def test_a_name_that_is_taken_gets_a_number() -> None:
    assert resource_name("phi3:mini", {"phi3-mini"}) == "phi3-mini-2"
    assert resource_name("phi3:mini", {"phi3-mini", "phi3-mini-2"}) == "phi3-mini-3"
    assert resource_name("x" * 80, {"x" * 63}) == "x" * 61 + "-2"


@given(st.text(max_size=80), st.integers(0, 3))
def test_a_name_is_a_label_and_unique(model: str, others: int) -> None:
    taken: set[str] = set()
    for _ in range(others + 1):
        name = resource_name(model, taken)
        assert LABEL.fullmatch(name)
        assert len(name) <= 63
        assert name not in taken
        taken.add(name)


@pytest.mark.parametrize(
    ("by", "told"),
    [
        ("system:serviceaccount:a:b", "system:serviceaccount:a:b"),
        (" a\nb\x00c ", "a b c"),
        ("é", "é"),
        ("x" * 300, "x" * 250 + "..."),
    ],
)
def test_who_asked_is_one_line(by: str, told: str) -> None:
    assert who(by) == told


# Owners.


def metadata(
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    managers: tuple[str, ...] = (),
    name: str = "phi",
) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "voice",
        "labels": labels,
        "annotations": annotations,
        "managedFields": [{"manager": manager} for manager in managers],
    }


ARGO_LABEL = {"app.kubernetes.io/instance": "models"}
FLUX_LABELS = {
    "kustomize.toolkit.fluxcd.io/name": "apps",
    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
}
HELM_LABELS = {"helm.toolkit.fluxcd.io/name": "models"}
TRACKED = "models:llm.athena.dev/LLMBackend:voice/phi"


@pytest.mark.parametrize(
    ("given_metadata", "found"),
    [
        (metadata(annotations={TRACKING: TRACKED}), Owner(tool="Argo CD", name="models")),
        (
            metadata(annotations={TRACKING: f"team_{TRACKED}"}),
            Owner(tool="Argo CD", name="team/models"),
        ),
        # Copied by hand: it names another.
        (metadata(annotations={TRACKING: TRACKED}, name="phi-2"), None),
        (metadata(annotations={TRACKING: "models"}), None),
        (
            metadata(labels=ARGO_LABEL, managers=("kubectl", "argocd-controller")),
            Owner(tool="Argo CD", name="models"),
        ),
        (
            metadata(
                labels=ARGO_LABEL | {"argocd.argoproj.io/instance": "own"},
                managers=("argocd-application-controller",),
            ),
            Owner(tool="Argo CD", name="own"),
        ),
        # A label of everybody's.
        (metadata(labels=ARGO_LABEL, managers=("helm",)), None),
        (
            metadata(labels=FLUX_LABELS, managers=("kustomize-controller",)),
            Owner(tool="Flux", name="flux-system/apps"),
        ),
        (
            metadata(labels=HELM_LABELS, managers=("helm-controller",)),
            Owner(tool="Flux", name="models"),
        ),
        # Copied by hand: another wrote it.
        (metadata(labels=FLUX_LABELS, managers=("kubectl-client-side-apply",)), None),
        (metadata(labels=FLUX_LABELS, managers=("helm-controller",)), None),
        (metadata(managers=("kustomize-controller",)), None),
        ({"name": "phi", "namespace": "voice"}, None),
        ({"name": "phi", "labels": 3, "annotations": [], "managedFields": "x"}, None),
    ],
)
def test_whose_it_is(given_metadata: dict[str, Any], found: Owner | None) -> None:
    assert owner(given_metadata) == found


def test_a_status_written_by_a_tool_is_no_mark() -> None:
    given_metadata = metadata(labels=FLUX_LABELS)
    given_metadata["managedFields"] = [
        {"manager": "kustomize-controller", "subresource": "status"},
    ]
    assert owner(given_metadata) is None


# What is committed.


def test_what_is_committed_has_nothing_of_servers_and_tools() -> None:
    manifest = {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {
            "name": "phi",
            "namespace": "voice",
            "uid": "u",
            "resourceVersion": "7",
            "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["llm.athena.dev/cleanup"],
            "labels": {"team": "on", **FLUX_LABELS, "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                CHANGED_BY: "someone",
                "llm.athena.dev/paused": "true",
                "kustomize.toolkit.fluxcd.io/prune": "disabled",
            },
        },
        "spec": {"modelName": "old"},
    }
    spec = {
        "priority": 5,
        "targets": [{"type": "mlx", "name": "a", "tier": 0}],
        "modelName": "phi3:mini",
        "description": "One.\nTwo.\n",
    }
    assert commit_yaml(manifest, spec) == (
        "apiVersion: llm.athena.dev/v1alpha1\n"
        "kind: LLMBackend\n"
        "metadata:\n"
        "  name: phi\n"
        "  namespace: voice\n"
        "  labels:\n"
        '    team: "on"\n'
        "  annotations:\n"
        '    llm.athena.dev/paused: "true"\n'
        "    kustomize.toolkit.fluxcd.io/prune: disabled\n"
        "spec:\n"
        "  modelName: phi3:mini\n"
        "  targets:\n"
        "    - name: a\n"
        "      type: mlx\n"
        "      tier: 0\n"
        "  priority: 5\n"
        "  description: |\n"
        "    One.\n"
        "    Two.\n"
    )


def test_the_label_of_an_application_is_left_out_and_that_of_others_kept() -> None:
    given_metadata = metadata(labels=ARGO_LABEL, managers=("argocd-controller",))
    spec = {"modelName": "a"}
    assert (
        "labels" not in yaml.safe_load(commit_yaml({"metadata": given_metadata}, spec))["metadata"]
    )
    kept = commit_yaml({"metadata": given_metadata | {"managedFields": []}}, spec)
    assert yaml.safe_load(kept)["metadata"]["labels"] == ARGO_LABEL


# What is handed over.

KUBECTL = {"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "v1alpha1"}
OWN = {"manager": ME, "operation": "Apply", "apiVersion": "llm.athena.dev/v1alpha1"}


def owned(*entries: Mapping[str, Any], spec: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}, "spec": dict(spec or {})}


def test_nothing_is_handed_over_when_nothing_of_others_goes() -> None:
    kubectl = KUBECTL | {"fieldsV1": {"f:spec": {".": {}, "f:modelName": {}, "f:enabled": {}}}}
    own = OWN | {"fieldsV1": {"f:spec": {"f:description": {}}}}
    assert handed_over(owned(kubectl, own), {"modelName": "b", "enabled": True}, manager=ME) is None


def test_what_goes_is_handed_over_and_nothing_else() -> None:
    targets = {
        'k:{"name":"a"}': {".": {}, "f:name": {}, "f:type": {}, "f:tier": {}},
        'k:{"name":"b"}': {".": {}, "f:name": {}, "f:type": {}},
    }
    fields = {
        "f:metadata": {"f:labels": {".": {}, "f:team": {}}},
        "f:spec": {
            ".": {},
            "f:modelName": {},
            "f:targets": targets,
            "f:aliases": {'v:"x"': {}, 'v:"y"': {}},
            "f:timeouts": {".": {}, "f:connectSeconds": {}},
        },
    }
    status = {"manager": "o", "subresource": "status", "fieldsV1": {"f:spec": {"f:x": {}}}}
    spec = {"modelName": "m", "targets": [{"name": "a", "type": "mlx"}], "aliases": ["y"]}
    found = handed_over(owned(KUBECTL | {"fieldsV1": fields}, status), spec, manager=ME)
    left = {
        ".": {},
        "f:modelName": {},
        "f:targets": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:type": {}}},
        "f:aliases": {'v:"y"': {}},
    }
    taken = {
        "f:targets": {
            'k:{"name":"a"}': {"f:tier": {}},
            'k:{"name":"b"}': targets['k:{"name":"b"}'],
        },
        "f:aliases": {'v:"x"': {}},
        "f:timeouts": {".": {}, "f:connectSeconds": {}},
    }
    assert found == [
        KUBECTL | {"fieldsV1": fields | {"f:spec": left}},
        status,
        OWN | {"fieldsType": "FieldsV1", "fieldsV1": {"f:spec": taken}},
    ]


def test_what_is_handed_over_joins_what_was_owned_and_an_empty_owner_goes() -> None:
    kubectl = KUBECTL | {"fieldsV1": {"f:spec": {"f:timeouts": {"f:connectSeconds": {}}}}}
    own = OWN | {"fieldsV1": {"f:metadata": {}, "f:spec": {"f:modelName": {}}}}
    assert handed_over(owned(own, kubectl), {"modelName": "m"}, manager=ME) == [
        OWN
        | {
            "fieldsV1": {
                "f:metadata": {},
                "f:spec": {"f:modelName": {}, "f:timeouts": {"f:connectSeconds": {}}},
            }
        }
    ]


def test_an_object_without_owners_is_taken_over() -> None:
    spec = {"modelName": "m", "aliases": ["x"], "targets": [{"name": "a", "tier": 1}]}
    found = handed_over(owned(spec=spec), {"modelName": "m"}, manager=ME)
    assert found is not None
    assert found[0]["fieldsV1"]["f:spec"] == {
        "f:aliases": {'v:"x"': {}},
        "f:targets": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:tier": {}}},
    }


# Refusals.


def said(code: int, message: str = "m", **more: Any) -> Said:
    return Said(code=code, message=message, **more)


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (
            Unavailable("GET /x: timed out"),
            Away,
            "the API server does not answer: GET /x: timed out",
        ),
        (
            Unavailable("x", said=said(503, "etcd is away")),
            Away,
            "the API server can't take it now: etcd is away",
        ),
        (
            Gone("x", said=said(404, reason="NotFound", kind="namespaces")),
            Missing,
            "there is no namespace ns",
        ),
        (Gone("x", said=said(404, reason="NotFound", kind="llmbackends")), Missing, "ns/a is gone"),
        (
            Gone("x", said=said(403, reason="Forbidden", kind="llmbackends")),
            Missing,
            "namespace ns is being deleted",
        ),
        (
            Gone("x", said=said(404, "404 page not found")),
            Away,
            "the API server does not know LLMBackends: 404 page not found",
        ),
        (
            Refused(
                "x",
                said=said(
                    403,
                    'x is forbidden: User "s:a" cannot patch resource "llmbackends" in API group',
                ),
            ),
            Away,
            "the admin may not patch llmbackends in namespace ns: "
            "give its service account that right",
        ),
        (Refused("x", said=said(403, "exceeded quota: q")), Invalid, "exceeded quota: q"),
        (
            Unavailable(
                "x",
                said=said(
                    500,
                    "failed to create typed patch object (ns/a; v1, Kind=K): .spec.foo: field not "
                    "declared in schema",
                ),
            ),
            Invalid,
            "spec.foo: field not declared in schema",
        ),
    ],
)
def test_what_a_failure_means(error: PortError, kind: type[AdminError], detail: str) -> None:
    told = refusals.refusal(error, what="ns/a")
    assert (type(told), told.detail) == (kind, detail)


def test_the_words_of_an_api_server_by_field() -> None:
    causes = (
        (
            "FieldValueInvalid",
            "spec.priority",
            "Invalid value: -1: spec.priority in body should be 0",
        ),
        ("FieldValueInvalid", "spec.endpointURL", 'Invalid value: "ftp://x": must be: "http"'),
        ("FieldValueInvalid", "<nil>", "Invalid value: null: some rules were not checked"),
        (
            "FieldValueInvalid",
            "spec.priority",
            "Invalid value: -1: spec.priority in body should be 0",
        ),
        ("FieldValueRequired", "spec.modelName", "Required value"),
    )
    told = refusals.refusal(Refused("x", said=said(422, causes=causes)), what="ns/a")
    assert isinstance(told, Invalid)
    assert told.more["errors"] == [
        {"field": "spec.priority", "message": "should be 0"},
        {"field": "spec.endpointURL", "message": 'must be: "http"'},
        {"field": "spec.modelName", "message": "Required value"},
    ]
    assert told.detail == (
        'spec.priority: should be 0; spec.endpointURL: must be: "http"; '
        "spec.modelName: Required value"
    )


# The shelf.


def made(
    name: str,
    *,
    version: str = "1",
    generation: int = 1,
    namespace: str = "ns",
    created: str = "2026-01-01T00:00:00Z",
    known: Backend | None = None,
    deleting: bool = False,
    status: dict[str, object] | None = None,
    **spec: Any,
) -> Backend:
    more = {"deletionTimestamp": "2026-01-02T00:00:00Z"} if deleting else {}
    return backend(
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-{namespace}-{name}",
                "generation": generation,
                "resourceVersion": version,
                "creationTimestamp": created,
                **more,
            },
            "spec": {"modelName": name, "backendType": "ollama"} | spec,
            "status": status,
        },
        known,
    )


def shelf(*backends: Backend) -> Shelf:
    kept = Shelf()
    kept.put(backends)
    kept.tell(fresh=True)
    return kept


def test_nothing_can_be_read_before_the_first_list() -> None:
    kept = Shelf()
    with pytest.raises(Away):
        kept.list()
    assert not kept.fresh
    kept.tell(fresh=True)
    assert (list(kept.list()), kept.fresh) == ([], True)
    kept.tell(fresh=False)
    assert (list(kept.list()), kept.fresh) == ([], False)


def test_all_in_order_and_the_order_is_kept() -> None:
    kept = shelf(
        made("b"),
        made("a"),
        made("c", priority=1),
        made("a", namespace="m"),
        made("d", priority=[]),
    )
    names = [str(one.resource.identity) for one in kept.list()]
    assert names == ["ns/c", "m/a", "ns/a", "ns/b", "ns/d"]
    assert kept.list() is kept.list()
    kept.put([made("c", priority=500, generation=2, version="9")], gone=["uid-m-a"])
    assert [one.resource.identity.name for one in kept.list()] == ["a", "b", "d", "c"]


@pytest.mark.parametrize(
    ("backends", "name"),
    [
        ([made("x", modelName="phi"), made("a", aliases=["phi"], priority=1)], "x"),
        ([made("a", aliases=["phi"])], "a"),
        ([made("b", modelName="phi"), made("a", modelName="phi", priority=101)], "b"),
        ([made("b", modelName="phi"), made("a", modelName="phi", created="2026-01-02")], "b"),
        ([made("b", modelName="phi"), made("a", modelName="phi")], "a"),
        ([made("b", modelName="phi"), made("a", modelName="phi", enabled=False)], "b"),
        ([made("b", modelName="phi"), made("a", modelName="phi", backendType="no")], "b"),
        ([made("b", modelName="phi"), made("a", modelName="phi", deleting=True)], "b"),
        ([made("b", modelName="phi", enabled=False)], "b"),
        ([made("b", modelName="phi", namespace="other")], None),
        ([made("b", modelName="phi4"), made("c", aliases="phi")], None),
    ],
)
def test_who_answers_to_a_model(backends: list[Backend], name: str | None) -> None:
    found = shelf(*backends).by_model("ns", "phi")
    assert (found.resource.identity.name if found else None) == name


def test_who_answers_follows_what_changes() -> None:
    first = made("a", aliases=["one", "a2"])
    kept = shelf(first)
    again = made("a", known=first, version="2", status={"summary": {}}, aliases=["one", "a2"])
    kept.put([again])
    assert kept.by_model(None, "one") is again
    assert again.spec is first.spec, "a status is no new spec"
    other = made("a", known=again, version="3", generation=2, aliases=["two"])
    kept.put([other])
    assert kept.by_model(None, "one") is None
    assert kept.by_model("ns", "two") is kept.by_model(None, "a") is other
    kept.put([], gone=[other.uid])
    assert kept.by_model(None, "two") is None
    assert kept.get(other.uid) is None


async def test_who_waits_is_woken() -> None:
    kept = shelf(made("a"))
    waiting = asyncio.create_task(
        kept.until("uid-ns-a", lambda one: one is not None and one.version == "3", within=20)
    )
    change = asyncio.create_task(kept.changed(within=20))
    await asyncio.sleep(0)
    kept.put([made("a", version="2")])
    await change
    assert not waiting.done()
    kept.put([made("a", version="3")])
    found = await waiting
    assert found is not None
    assert found.version == "3"
    gone = asyncio.create_task(kept.until("uid-ns-a", lambda one: one is None, within=20))
    await asyncio.sleep(0)
    kept.put([], gone=["uid-ns-a"])
    assert await gone is None


async def test_waiting_ends() -> None:
    kept = shelf(made("a"))
    await kept.changed(within=0.01)
    found = await kept.until("uid-ns-a", lambda one: one is None, within=0.01)
    assert found is not None


async def test_loss_of_the_server_is_a_change() -> None:
    kept = shelf()
    change = asyncio.create_task(kept.changed(within=20))
    await asyncio.sleep(0)
    kept.tell(fresh=False)
    await change


def test_what_is_the_same_wakes_nobody() -> None:
    one = made("a")
    kept = shelf(one)
    before = kept.list()
    kept.put([one], gone=["nobody"])
    assert kept.list() is before


def test_a_spec_is_judged_once_a_generation() -> None:
    first = made("a")
    again = made("a", known=first, version="2", deleting=True, status={"x": 1})
    assert again.resource.spec is first.resource.spec
    assert (again.resource.deleting, again.resource.status) == (True, {"x": 1})
    assert made("a", known=again, version="2") is again
