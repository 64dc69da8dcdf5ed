"""The predecessor's admin API, row by row, as its clients rely on it: both in a cluster and
standalone.
"""

import time
import uuid
from collections.abc import Callable

import httpx
import pytest

from parts import admin as admins
from parts.service import Body, Service, fresh, refused

#: The predecessor's fields, in the order of its table.
FIELDS = (
    "id model_name backend_type endpoint_url enabled priority max_tokens temperature_default "
    "timeout_seconds keep_alive_seconds description avg_tokens_per_sec avg_latency_ms "
    "total_requests total_errors created_by created_at updated_at"
).split()
METRIC_FIELDS = (
    "timestamp model backend latency_seconds tokens tokens_per_second request_id session_id "
    "user_id zone intent source stage"
).split()
#: What the predecessor's clients send to make one, with what else it then has.
DEFAULTS = {
    "enabled": True,
    "priority": 100,
    "max_tokens": 2048,
    "temperature_default": 0.7,
    "timeout_seconds": 60,
    "keep_alive_seconds": -1,
}


class TestList:
    def test_all_with_the_predecessor_s_fields(
        self, api: httpx.Client, made: Callable[..., Body]
    ) -> None:
        backend = made(description="Phi-3 Mini")
        answer = api.get("")
        assert answer.status_code == 200
        found = next(each for each in answer.json() if each["id"] == backend["id"])
        assert found.keys() >= set(FIELDS)
        assert found["description"] == "Phi-3 Mini"

    def test_by_priority_then_model(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        stem = fresh()
        later, first, second = (
            made(f"{stem}-{name}", priority=priority)
            for name, priority in (("a", 7), ("b", 3), ("c", 3))
        )
        wanted = [each["id"] for each in (first, second, later)]
        for path in ("", "/public"):
            listed = [each["id"] for each in api.get(path).json() if each["id"] in wanted]
            assert listed == wanted

    def test_enabled_only(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        on, off = made(), made(enabled=False)
        for path in ("", "/public"):
            everything = {each["id"] for each in api.get(path).json()}
            enabled = {each["id"] for each in api.get(path, params={"enabled_only": True}).json()}
            assert {on["id"], off["id"]} <= everything
            assert {on["id"], off["id"]} & enabled == {on["id"]}


class TestOne:
    def test_by_its_id(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        backend = made()
        answer = api.get(f"/{backend['id']}")
        assert answer.status_code == 200
        assert answer.json()["model_name"] == backend["model_name"]
        assert answer.json().keys() >= set(FIELDS)

    def test_none_of_that_id(self, api: httpx.Client) -> None:
        refused(api.get("/999999999"), 404, "Backend not found")

    def test_by_its_uid_too(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        backend = made()
        assert api.get(f"/{backend['uid']}").json()["id"] == backend["id"]


class TestLookup:
    @pytest.mark.parametrize("model", ["{}", "org/{}", "a/b/{}:7b"])
    def test_without_a_token_by_any_name(
        self, service: Service, made: Callable[..., Body], model: str
    ) -> None:
        backend = made(model.format(fresh()), max_tokens=512)
        with admins.client(service.url, "") as nobody:
            answer = nobody.get(f"/model/{backend['model_name']}")
        assert answer.status_code == 200
        told = answer.json()
        assert (told["id"], told["max_tokens"]) == (backend["id"], 512)
        assert (told["backend_type"], told["endpoint_url"]) == ("ollama", "http://ollama.lan:11434")

    def test_of_a_disabled_one(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        model = made(enabled=False)["model_name"]
        refused(api.get(f"/model/{model}"), 404, f"Backend not found for model: {model}")

    def test_of_an_unknown_one(self, api: httpx.Client) -> None:
        refused(api.get("/model/no/such:1b"), 404, "Backend not found for model: no/such:1b")


class TestCreate:
    def test_with_the_predecessor_s_defaults(
        self, api: httpx.Client, made: Callable[..., Body]
    ) -> None:
        backend = made()
        assert {name: backend[name] for name in DEFAULTS} == DEFAULTS
        assert isinstance(backend["id"], int)
        assert backend["created_at"]
        assert backend["updated_at"]
        assert backend["state"] == "accepted"
        assert api.get(f"/{backend['id']}").json()["uid"] == backend["uid"]

    def test_zero_is_a_value(self, made: Callable[..., Body]) -> None:
        backend = made(temperature_default=0, keep_alive_seconds=0, priority=0)
        assert backend["temperature_default"] == 0
        assert backend["keep_alive_seconds"] == 0
        assert backend["priority"] == 0

    def test_one_of_the_same_model(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        model = made()["model_name"]
        given = {"model_name": model, "backend_type": "mlx", "endpoint_url": "http://mac.lan:8080"}
        told = f"Backend configuration already exists for model: {model}"
        refused(api.post("", json=given), 409, told)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("backend_type", "vllm"),
            ("endpoint_url", "ollama:11434"),
            ("model_name", ""),
            ("max_tokens", 0),
            ("temperature_default", 2.5),
            ("timeout_seconds", "soon"),
            ("keep_alive_seconds", -2),
            ("prioriti", 1),
        ],
    )
    def test_bad_data_names_the_field(self, api: httpx.Client, field: str, value: object) -> None:
        given = {
            "model_name": fresh(),
            "backend_type": "ollama",
            "endpoint_url": "http://ollama.lan:11434",
        }
        told = refused(api.post("", json=given | {field: value}), 400)
        assert field in told or camel(field) in told

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"'])
    def test_what_is_no_object(self, api: httpx.Client, body: bytes) -> None:
        refused(api.post("", content=body, headers={"content-type": "application/json"}), 400)


def camel(field: str) -> str:
    """A field as the resource has it."""
    special = {"temperature_default": "temperature", "endpoint_url": "endpointURL"}
    first, *rest = field.split("_")
    return special.get(field, first + "".join(word.capitalize() for word in rest))


class TestUpdate:
    def test_what_is_given_and_nothing_else(
        self, api: httpx.Client, made: Callable[..., Body]
    ) -> None:
        backend = made(description="kept", max_tokens=100)
        change = {"backend_type": "mlx", "endpoint_url": "http://mac.lan:8080"}
        answer = api.put(f"/{backend['id']}", json=change)
        assert answer.status_code == 200
        told = answer.json()
        assert {name: told[name] for name in change} == change
        assert (told["description"], told["max_tokens"]) == ("kept", 100)
        assert (told["id"], told["generation"]) == (backend["id"], backend["generation"] + 1)
        assert told["state"] == "accepted"

    def test_zero_is_a_value(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        path = f"/{made()['id']}"
        assert api.put(path, json={"temperature_default": 0}).json()["temperature_default"] == 0
        assert api.get(path).json()["temperature_default"] == 0

    def test_bad_data_changes_nothing(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        backend = made()
        path = f"/{backend['id']}"
        refused(api.put(path, json={"max_tokens": -1}), 400)
        assert api.get(path).json()["generation"] == backend["generation"]

    def test_none_of_that_id(self, api: httpx.Client) -> None:
        refused(api.put("/999999999", json={"priority": 1}), 404, "Backend not found")

    def test_the_model_of_another(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        model = made()["model_name"]
        told = f"Backend configuration already exists for model: {model}"
        refused(api.put(f"/{made()['id']}", json={"model_name": model}), 409, told)


class TestDelete:
    def test_then_it_is_gone(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        backend = made()
        path = f"/{backend['id']}"
        answer = api.delete(path)
        assert answer.status_code == 200
        assert answer.json().keys() == {"message", "id"}
        assert answer.json()["id"] == backend["id"]
        refused(api.get(path), 404, "Backend not found")
        refused(api.delete(path), 404, "Backend not found")

    def test_another_of_its_model_is_another(
        self, api: httpx.Client, made: Callable[..., Body]
    ) -> None:
        before = made()
        assert api.delete(f"/{before['id']}").status_code == 200
        after = made(before["model_name"])
        assert after["id"] != before["id"]
        assert after["uid"] != before["uid"]


class TestToggle:
    def test_off_and_on_again(self, api: httpx.Client, made: Callable[..., Body]) -> None:
        backend = made()
        path = f"/{backend['id']}/toggle"
        told = {"id": backend["id"], "model_name": backend["model_name"]}
        for enabled, message in ((False, "Backend disabled"), (True, "Backend enabled")):
            answer = api.post(path)
            assert answer.status_code == 200
            assert answer.json() == told | {"enabled": enabled, "message": message}
            assert api.get(f"/{backend['id']}").json()["enabled"] is enabled

    def test_none_of_that_id(self, api: httpx.Client) -> None:
        refused(api.post("/999999999/toggle"), 404, "Backend not found")


class TestMetrics:
    def metric(self, model: str, at: float, **more: object) -> Body:
        return {
            "timestamp": at,
            "model": model,
            "backend": "ollama",
            "latency_seconds": 2.0,
            "tokens": 28,
            "tokens_per_second": 14.0,
        } | more

    def test_newest_first_with_the_predecessor_s_fields(
        self, api: httpx.Client, now: float
    ) -> None:
        model = fresh()
        whole = {
            "request_id": uuid.uuid4().hex,
            "session_id": "s-1",
            "user_id": "u-1",
            "zone": "kitchen",
            "intent": "light",
            "source": "gateway",
            "stage": "classify",
        }
        for at, more in ((now - 20, {}), (now - 10, whole), (now - 30, {})):
            answer = api.post("/metrics", json=self.metric(model, at, **more))
            assert answer.status_code == 201, answer.text
            assert answer.json().keys() == {"id", "status"}
            assert answer.json()["status"] == "created"
        found = api.get("/metrics", params={"model": model}).json()
        assert [each["timestamp"] for each in found] == pytest.approx(
            [now - 10, now - 20, now - 30], abs=0.001
        )
        assert found[0].keys() >= set(METRIC_FIELDS)
        assert whole.items() <= found[0].items()
        assert (found[0]["latency_seconds"], found[0]["tokens"]) == (2.0, 28)
        assert found[0]["backend"] == "ollama"

    def test_of_one_backend_and_so_many(self, api: httpx.Client, now: float) -> None:
        model = fresh()
        for number in range(4):
            backend = ("ollama", "mlx")[number % 2]
            given = self.metric(model, now - number, backend=backend)
            assert api.post("/metrics", json=given).status_code == 201
        params = {"model": model, "backend": "mlx"}
        assert {each["backend"] for each in api.get("/metrics", params=params).json()} == {"mlx"}
        limited = api.get("/metrics", params={"model": model, "limit": 3}).json()
        assert len(limited) == 3

    @pytest.mark.parametrize("limit", ["0", "1001", "many"])
    def test_no_more_than_a_thousand(self, api: httpx.Client, limit: str) -> None:
        assert "limit" in refused(api.get("/metrics", params={"limit": limit}), 400)
        assert api.get("/metrics", params={"limit": 1000}).status_code == 200

    @pytest.mark.parametrize("field", ["model", "timestamp", "latency_seconds"])
    def test_one_that_lacks_what_it_needs(self, api: httpx.Client, now: float, field: str) -> None:
        given = self.metric(fresh(), now)
        del given[field]
        refused(api.post("/metrics", json=given), 400)


@pytest.fixture
def now() -> float:
    """Unix seconds, whole ones so that they come back as they went."""
    return float(int(time.time()))
