"""Who may do what with the admin API, and what becomes of a write.

Tokens, RBAC and operator are the real ones.
"""

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml

from parts import admin as admins
from parts.access import User, expect
from parts.eventually import eventually
from parts.operator import Backends
from parts.service import Body, Cluster, Service, fresh, refused

#: The two routes that answer without a token, and those that a kubelet asks; they tell nothing.
PUBLIC = {("GET", "/api/llm-backends/public"), ("GET", "/api/llm-backends/model/{model_name}")}
PROBES = {("GET", "/healthz"), ("GET", "/readyz")}
#: A part of a path that stands for any.
PLACE = re.compile(r"{[^}]*}")
METHODS = ("get", "post", "put", "patch", "delete")


def new(model: str) -> Body:
    """A body that makes a backend."""
    return {
        "model_name": model,
        "backend_type": "ollama",
        "endpoint_url": "http://ollama.lan:11434",
    }


def writes(number: int) -> list[tuple[str, str, Body | None]]:
    """Each call that writes to backends: method, path, body."""
    return [
        ("POST", "", new(fresh())),
        ("PUT", f"/{number}", {"priority": 1}),
        ("POST", f"/{number}/toggle", None),
        ("POST", f"/{number}/restore", {"generation": 1}),
        ("DELETE", f"/{number}", None),
    ]


class TestTokens:
    def test_nothing_but_the_two_public_routes_answers_without_one(self, service: Service) -> None:
        with service.client() as known:
            document = known.get(f"{service.url}/openapi.json")
        assert document.status_code == 200
        operations = {
            (method.upper(), path)
            for path, item in document.json()["paths"].items()
            for method in item
            if method in METHODS
        }
        assert operations >= PUBLIC | PROBES
        assert len(operations) > 10
        with admins.client(service.url, "") as nobody:
            for method, path in sorted(operations):
                asked = service.url + PLACE.sub("1", path)
                answer = nobody.request(method, asked, json={})
                if (method, path) in PUBLIC:
                    assert answer.status_code in (200, 404), (method, path)
                elif (method, path) in PROBES:
                    assert answer.text == "ok\n"
                else:
                    assert answer.status_code == 401, (method, path)
                    assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_one_that_nobody_knows_is_slowed_and_then_refused_unread(
        self, service: Service
    ) -> None:
        with admins.client(service.url, uuid.uuid4().hex) as wrong:
            began = time.monotonic()
            refused(wrong.get(""), 401)
            # NB: no measure of speed: an answer that came at once would be no answer slowed.
            assert time.monotonic() - began >= 0.25

            def limited() -> bool:
                return wrong.get("").status_code == 429

            eventually(limited, within=60)
            answer = wrong.get("")
            refused(answer, 429)
            assert int(answer.headers["retry-after"]) >= 1
        with service.client() as known:
            assert known.get("").status_code == 200, "a token that is known is not held up"

    def test_one_that_has_ended_is_refused(self, cluster: Cluster) -> None:
        with cluster.admin.client(admins.expired(cluster.control_plane)) as ended:
            told = eventually(lambda: unlimited(ended.get("")), within=120, every=1.0)
            refused(told, 401)


def unlimited(answer: httpx.Response) -> httpx.Response | None:
    """An answer, unless it is that too many wrong tokens came before."""
    return None if answer.status_code == 429 else answer


class TestRights:
    @pytest.mark.parametrize("who", ["reader", "router", "stranger"])
    def test_who_may_not_write_gets_403_for_each_write_and_changes_nothing(
        self, cluster: Cluster, backend: Body, who: str
    ) -> None:
        user: User = getattr(cluster, who)
        with cluster.admin.client(user) as client:
            for method, path, body in writes(backend["id"]):
                told = refused(client.request(method, path, json=body), 403)
                assert user.name in told
                assert "llmbackends.llm.athena.dev" in told
        with cluster.client() as writer:
            now = writer.get(f"/{backend['id']}").json()
            assert now["generation"] == backend["generation"]

    def test_who_may_only_read_reads(self, cluster: Cluster, backend: Body) -> None:
        with cluster.admin.client(cluster.reader) as client:
            assert client.get(f"/{backend['id']}").status_code == 200
            assert backend["id"] in {one["id"] for one in client.get("").json()}
            assert client.get("/metrics").status_code == 200
            refused(client.post("/usage", json={"records": []}), 403)

    def test_a_stranger_may_not_even_read(self, cluster: Cluster, backend: Body) -> None:
        with cluster.admin.client(cluster.stranger) as client:
            for path in ("", f"/{backend['id']}", f"/{backend['id']}/history", "/metrics"):
                refused(client.get(path), 403)

    def test_a_router_sends_usage_and_no_more(self, cluster: Cluster) -> None:
        with cluster.admin.client(cluster.router) as client:
            record = {
                "request_id": uuid.uuid4().hex,
                "at": time.time(),
                "model": fresh(),
                "outcome": "ok",
                "total_seconds": 1.5,
            }
            assert client.post("/usage", json={"records": [record]}).is_success
            refused(client.get(""), 403)
        with cluster.client() as writer:
            [sample] = writer.get("/metrics", params={"model": record["model"]}).json()
            assert sample["request_id"] == record["request_id"]


@pytest.fixture
def backend(cluster: Cluster) -> Iterator[Body]:
    """One that is there."""
    with cluster.client() as client:
        made: Body = client.post("", json=new(fresh())).raise_for_status().json()
        yield made
        client.delete(f"/{made['id']}")


@pytest.fixture
def backends(cluster: Cluster) -> Backends:
    """What others do in the namespace."""
    return Backends(cluster.control_plane, cluster.namespace)


#: As each pipeline marks what it applies, and the field manager that it applies as.
ARGO = {
    "annotations": {
        "argocd.argoproj.io/tracking-id": "models:llm.athena.dev/LLMBackend:{namespace}/{name}"
    }
}
FLUX = {
    "labels": {
        "kustomize.toolkit.fluxcd.io/name": "models",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    }
}


class TestManaged:
    @pytest.mark.parametrize(
        ("marks", "manager", "owner"),
        [
            (ARGO, "argocd-controller", "Argo CD (models)"),
            (FLUX, "kustomize-controller", "Flux (flux-system/models)"),
        ],
    )
    def test_each_write_is_409_with_the_owner_and_the_yaml_to_commit(
        self,
        cluster: Cluster,
        backends: Backends,
        marks: dict[str, dict[str, str]],
        manager: str,
        owner: str,
    ) -> None:
        name = f"managed-{uuid.uuid4().hex[:8]}"
        manifest = backends.manifest(name)
        place = {"namespace": cluster.namespace, "name": name}
        manifest["metadata"] |= {
            kind: {key: value.format(**place) for key, value in given.items()}
            for kind, given in marks.items()
        }
        apply = ("apply", "--server-side", "--field-manager", manager, "-f", "-")
        cluster.control_plane.kubectl(*apply, stdin=yaml.safe_dump(manifest))
        eventually(lambda: backends.ready(name), within=30)
        uid = backends.get(name)["metadata"]["uid"]
        with cluster.client() as client:
            number = eventually(lambda: known(client, uid), within=20)
            told = client.put(f"/{number}", json={"priority": 5})
            assert owner in refused(told, 409)
            assert told.json()["managed_by"] == owner
            committed = yaml.safe_load(told.json()["yaml"])
            # NB: the API server has filled in defaults besides.
            assert (manifest["spec"] | {"priority": 5}).items() <= committed["spec"].items()
            assert committed["metadata"]["name"] == name
            told = client.post(f"/{number}/toggle")
            refused(told, 409)
            assert yaml.safe_load(told.json()["yaml"])["spec"]["enabled"] is False
            assert owner in refused(client.delete(f"/{number}"), 409)
        assert backends.get(name)["metadata"]["generation"] == 1
        backends.delete(name)


def known(client: httpx.Client, uid: str) -> int | None:
    """The id of a backend, once it has one."""
    answer = client.get(f"/{uid}")
    return answer.json()["id"] if answer.is_success else None


class TestTags:
    def test_a_write_of_what_was_read_passes_once(
        self, api: httpx.Client, made: Callable[..., Body]
    ) -> None:
        path = f"/{made()['id']}"
        tag = api.get(path).headers["etag"]
        changed = api.put(path, json={"priority": 1}, headers={"If-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag
        for method, body in (("PUT", {"priority": 2}), ("DELETE", None)):
            answer = api.request(method, path, json=body, headers={"If-Match": tag})
            refused(answer, 412)
        refused(api.post(f"{path}/toggle", headers={"If-Match": tag}), 412)
        now = api.get(path)
        assert now.json()["priority"] == 1
        fresh_tag = {"If-Match": now.headers["etag"]}
        assert api.delete(path, headers=fresh_tag).status_code == 200

    def test_what_did_not_change_is_not_sent_again(
        self, api: httpx.Client, made: Callable[..., Body]
    ) -> None:
        path = f"/{made()['id']}"

        def unchanged() -> bool:
            # NB: its state changes by itself in its first seconds.
            tag = api.get(path).headers["etag"]
            answer = api.get(path, headers={"If-None-Match": tag})
            return answer.status_code == 304 and not answer.content

        eventually(unchanged, within=20)

    def test_two_at_once_lose_nothing(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        path = f"/{made()['id']}"
        api.put(path, json={"priority": 1}).raise_for_status()
        api.put(path, json={"max_tokens": 7}).raise_for_status()
        told = api.get(path).json()
        assert (told["priority"], told["max_tokens"]) == (1, 7)


class TestHistory:
    def test_back_to_an_earlier_generation(
        self, api: httpx.Client, made: Callable[..., Body]
    ) -> None:
        path = f"/{made(description='first')['id']}"
        api.put(path, json={"description": "second", "priority": 9}).raise_for_status()
        eventually(lambda: generations(api, path) == [2, 1], within=20)
        restored = api.post(f"{path}/restore", json={"generation": 1})
        assert restored.status_code == 200, restored.text
        told = restored.json()
        assert (told["description"], told["priority"], told["generation"]) == ("first", 100, 3)
        eventually(lambda: generations(api, path) == [3, 2, 1], within=20)

    def test_what_was_never_recorded(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        path = f"/{made()['id']}"
        refused(api.post(f"{path}/restore", json={"generation": 99}), 404)


def generations(api: httpx.Client, path: str) -> list[int]:
    """Those that its history tells of."""
    found: list[dict[str, Any]] = api.get(f"{path}/history").raise_for_status().json()
    return [one["generation"] for one in found]


class TestWithoutAnOperator:
    def test_a_write_is_taken_and_says_that_it_is_pending(
        self, cluster: Cluster, backends: Backends
    ) -> None:
        assert cluster.operator.end() == 0
        model = fresh()
        try:
            with cluster.client() as client:
                made = client.post("", json=new(model))
                assert made.status_code == 201
                told = made.json()
                assert (told["state"], told["ready"], told["id"]) == ("pending", None, None)
                uid = told["uid"]
                changed = client.put(f"/{uid}", json={"priority": 3})
                assert changed.status_code == 200
                assert (changed.json()["state"], changed.json()["priority"]) == ("pending", 3)
                assert client.get(f"/model/{model}").json()["priority"] == 3
        finally:
            cluster.operator.start()
        with cluster.client() as client:
            taken = eventually(lambda: accepted(client, uid), within=30)
            assert taken["id"] is not None
            assert client.delete(f"/{uid}").status_code == 200

    @pytest.mark.check(36)
    def test_a_write_under_way_is_answered_before_the_end(
        self, cluster: Cluster, backends: Backends
    ) -> None:
        """It waits for an operator that does not come when the signal does."""
        assert cluster.operator.end() == 0
        name, answers = f"last-{uuid.uuid4().hex[:8]}", list[httpx.Response]()

        def write() -> None:
            with cluster.client() as client:
                answers.append(client.post("", json={**new(fresh()), "name": name}))

        writing = threading.Thread(target=write)
        try:
            writing.start()
            eventually(lambda: any(name == each for each in names(backends)), within=20)
            assert cluster.admin.end() == 0
            writing.join(20)
            [answer] = answers
            assert (answer.status_code, answer.json()["state"]) == (201, "pending")
        finally:
            cluster.admin.start()
            cluster.operator.start()
        eventually(lambda: backends.ready(name), within=30)
        backends.delete(name)


def names(backends: Backends) -> list[str]:
    """Of all that there are."""
    return [item["metadata"]["name"] for item in backends.items()]


def accepted(client: httpx.Client, uid: str) -> Body | None:
    """A backend, once the operator has taken it and it is recorded."""
    told: Body = client.get(f"/{uid}").raise_for_status().json()
    return told if told["state"] == "accepted" and told["id"] is not None else None


def test_what_others_own_of_an_object_stays(cluster: Cluster, backends: Backends) -> None:
    """A write by the API is one more field manager, not the end of the others."""
    name = f"theirs-{uuid.uuid4().hex[:8]}"
    manifest = backends.manifest(name)
    manifest["metadata"]["labels"] = {"team": "voice"}
    backends.apply(manifest)
    uid = backends.get(name)["metadata"]["uid"]
    with cluster.client() as client:
        eventually(lambda: client.get(f"/{uid}").is_success, within=20)
        client.put(f"/{uid}", json={"priority": 4}).raise_for_status()
    now = backends.get(name)
    assert now["spec"]["priority"] == 4
    assert now["metadata"]["labels"] == {"team": "voice"}
    managers = {one["manager"] for one in now["metadata"]["managedFields"]}
    assert {"kubectl", "llm-backend-admin"} <= managers
    with cluster.control_plane.client() as administrator:
        expect(administrator.delete(f"{backends.path}/{name}"))
