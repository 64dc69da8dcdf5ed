"""What the data port answers without a host: lists, refusals, and paths that are not served."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import ollama as ollama_sdk
import openai
import orjson
import pytest

from llm_contract import Defaults
from llm_router.errors import Problem
from llm_router.fronts import LISTS, REFUSED, lists
from llm_router.fronts.lists import Asked
from llm_router.listing import Lost, find
from parts.router import PLAIN, DataPort, mlx, ollama, route

#: Nobody listens there: a list that asked a host would fail.
AWAY = "http://127.0.0.1:9"
SLASHED = "org/model:7b-q4"
SINCE = 1_700_000_000.5
LISTED = [path.replace("{id}", "phi3:mini") for method, path in LISTS if method == "GET"]


@pytest.fixture
def listed(data_port: DataPort) -> DataPort:
    """A router with two models."""
    defaults = Defaults(temperature=0.5, max_tokens=100)
    data_port.publish(
        route("phi3:mini", ollama(AWAY, model="other"), defaults=defaults),
        route(SLASHED, mlx(AWAY)),
    )
    data_port.parts.follower.loaded_at = SINCE
    return data_port


async def get(port: DataPort, path: str) -> Any:
    response = await port.client.get(path)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


class TestOpenAI:
    def entry(self, model: str) -> dict[str, Any]:
        return {
            "id": model,
            "object": "model",
            "created": 1_700_000_000,
            "owned_by": "llm-router",
        }

    async def test_models(self, listed: DataPort) -> None:
        assert await get(listed, "/v1/models") == {
            "object": "list",
            "data": [self.entry(SLASHED), self.entry("phi3:mini")],
        }

    @pytest.mark.parametrize(
        "path",
        ["phi3:mini", "phi3%3Amini", SLASHED, "org%2Fmodel%3A7b-q4"],
    )
    async def test_one_model(self, listed: DataPort, path: str) -> None:
        model = SLASHED if path.startswith("org") else "phi3:mini"
        assert await get(listed, f"/v1/models/{path}") == self.entry(model)

    @pytest.mark.parametrize("name", ["other", "phi3", "phi3:mini/", "default_model"])
    async def test_another_model(self, listed: DataPort, name: str) -> None:
        response = await listed.client.get(f"/v1/models/{name}")
        assert response.status_code == 404
        assert response.json()["error"] == {
            "message": f"model '{name}' not found",
            "type": "not_found_error",
            "param": "model",
            "code": "model_not_found",
        }

    async def test_no_name(self, listed: DataPort) -> None:
        response = await listed.client.get("/v1/models/")
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "path_not_found"

    async def test_the_official_client(self, listed: DataPort) -> None:
        client = openai.AsyncOpenAI(
            base_url=f"{listed.url}/v1", api_key="x", http_client=listed.client, max_retries=0
        )
        names = [model.id async for model in client.models.list()]
        assert names == [SLASHED, "phi3:mini"]
        assert (await client.models.retrieve(SLASHED)).id == SLASHED
        with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
            await client.models.retrieve("nope")


class TestOllama:
    async def test_tags(self, listed: DataPort) -> None:
        models = (await get(listed, "/api/tags"))["models"]
        assert [model["name"] for model in models] == [SLASHED, "phi3:mini"]
        digest = models[1].pop("digest")
        assert models[1] == {
            "name": "phi3:mini",
            "model": "phi3:mini",
            "modified_at": "2023-11-14T22:13:20.500000Z",
            "size": 0,
            "details": {
                "parent_model": "",
                "format": "",
                "family": "",
                "families": [],
                "parameter_size": "",
                "quantization_level": "",
            },
        }
        assert len(digest) == 64
        assert digest != models[0]["digest"]

    async def test_nothing_is_loaded_that_is_not_known_to_be(self, listed: DataPort) -> None:
        assert await get(listed, "/api/ps") == {"models": []}

    async def test_version(self, listed: DataPort) -> None:
        assert await get(listed, "/api/version") == {"version": "0.17.4"}

    @pytest.mark.parametrize("field", ["model", "name"])
    async def test_show(self, listed: DataPort, field: str) -> None:
        response = await listed.post("/api/show", **{field: "phi3:mini"})
        assert response.status_code == 200
        shown = response.json()
        assert shown["capabilities"] == ["completion", "tools"]
        assert shown["parameters"] == "num_predict 100\ntemperature 0.5"
        assert shown["model_info"] == {}
        assert AWAY not in response.text

    @pytest.mark.parametrize(
        ("body", "status", "said"),
        [
            ({"model": "nope"}, 404, "model 'nope' not found"),
            ({}, 400, "model: is required"),
            ({"model": 5}, 400, "model: must be a string, is a number"),
        ],
    )
    async def test_show_refuses(
        self, listed: DataPort, body: dict[str, Any], status: int, said: str
    ) -> None:
        response = await listed.post("/api/show", **body)
        assert (response.status_code, response.json()) == (status, {"error": said})

    async def test_show_has_the_limit_of_all_bodies(self, listed: DataPort) -> None:
        response = await listed.post("/api/show", model="x" * 100_001)
        assert response.status_code == 413

    async def test_it_runs(self, listed: DataPort) -> None:
        response = await listed.client.get("/")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.text == "Ollama is running"

    async def test_the_official_client(self, listed: DataPort) -> None:
        client = ollama_sdk.AsyncClient(host=listed.url, **PLAIN)
        client._client = listed.client
        names = [model.model for model in (await client.list()).models]
        assert names == [SLASHED, "phi3:mini"]
        shown = await client.show("phi3:mini")
        assert shown.capabilities == ["completion", "tools"]
        assert shown.modified_at == datetime.fromtimestamp(SINCE, UTC)
        assert list((await client.ps()).models) == []
        with pytest.raises(ollama_sdk.ResponseError) as caught:
            await client.pull("phi3:mini")
        assert caught.value.status_code == 403
        assert caught.value.error.startswith("pulling a model is not allowed")


class TestLearned:
    """What the router has learned of its hosts, and names that are aliases."""

    @staticmethod
    def asked(port: DataPort, **more: Any) -> Asked:
        port.publish(replace(route("phi3:mini", ollama(AWAY)), aliases=("phi", "small")))
        table = port.parts.follower.table
        assert table is not None
        return Asked(table=table, since=SINCE, **more)

    async def test_an_alias_is_listed_like_a_model(self, data_port: DataPort) -> None:
        asked = self.asked(data_port)
        names = ["phi", "phi3:mini", "small"]
        assert [one["id"] for one in orjson.loads(lists.models(asked))["data"]] == names
        tags = orjson.loads(lists.tags(asked))["models"]
        assert [(one["name"], one["model"]) for one in tags] == [(name, name) for name in names]
        assert len({one["digest"] for one in tags}) == 1
        assert (await get(data_port, "/v1/models/small"))["id"] == "small"

    async def test_what_is_loaded(self, data_port: DataPort) -> None:
        expires = "2026-01-02T03:04:05Z"
        known = {"size_vram": 5, "expires_at": expires, "context_length": None, "url": AWAY}
        asked = self.asked(data_port, loaded={"phi3:mini": known})
        told = orjson.loads(lists.running(asked))["models"]
        assert [one["name"] for one in told] == ["phi", "phi3:mini", "small"]
        assert (told[1]["size_vram"], told[1]["expires_at"]) == (5, expires)
        assert not {"context_length", "url", "modified_at"} & told[1].keys()
        assert told[1]["size"] == 0
        running = ollama_sdk.ProcessResponse.model_validate_json(lists.running(asked))
        assert [one.model for one in running.models] == ["phi", "phi3:mini", "small"]

    async def test_only_one_name_of_a_model_may_be_known(self, data_port: DataPort) -> None:
        asked = self.asked(data_port, loaded={"small": {}})
        told = orjson.loads(lists.running(asked))["models"]
        assert [one["name"] for one in told] == ["small"]

    @pytest.mark.parametrize("name", ["phi3:mini", "phi"])
    async def test_capabilities(self, data_port: DataPort, name: str) -> None:
        able = {"phi3:mini": ("completion", "tools", "vision", "thinking")}
        asked = self.asked(data_port, capabilities=able, body=orjson.dumps({"model": name}))
        assert orjson.loads(lists.show(asked))["capabilities"] == list(able["phi3:mini"])
        asked = self.asked(data_port, body=orjson.dumps({"model": name}))
        assert orjson.loads(lists.show(asked))["capabilities"] == ["completion", "tools"]


@pytest.mark.parametrize("path", LISTED)
async def test_head_is_get_without_a_body(listed: DataPort, path: str) -> None:
    whole = await listed.client.get(path)
    head = await listed.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "x-llm-config"):
        assert head.headers[name] == whole.headers[name]


async def test_an_id_that_the_caller_gave_comes_back(listed: DataPort) -> None:
    response = await listed.client.get("/v1/models", headers={"x-request-id": "mine"})
    assert response.headers["x-request-id"] == "mine"


@pytest.mark.parametrize(("method", "path"), LISTS)
async def test_without_a_configuration(data_port: DataPort, method: str, path: str) -> None:
    asked = path.replace("{id}", "phi3:mini")
    response = await data_port.client.request(method, asked, json={"model": "phi3:mini"})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    error = response.json()["error"]
    message = error["message"] if path.startswith("/v1") else error
    assert message == "no configuration has been loaded yet"


@pytest.mark.parametrize("path", REFUSED)
@pytest.mark.parametrize("method", ["POST", "DELETE", "HEAD"])
async def test_what_changes_a_host_is_refused(data_port: DataPort, method: str, path: str) -> None:
    asked = path.replace("{id}", "sha256:0a")
    response = await data_port.client.request(method, asked)
    assert response.status_code == 403
    if method == "HEAD":
        assert response.content == b""
    else:
        said = f"{REFUSED[path]} is not allowed through the router; do it at the host itself"
        assert response.json() == {"error": said}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", f"/v1/models/{SLASHED}", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("GET", "/api/show", "POST"),
        ("HEAD", "/api/chat", "POST"),
    ],
)
async def test_another_method(listed: DataPort, method: str, path: str, allowed: str) -> None:
    response: httpx.Response = await listed.client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/api", "/api/tags/", "/api/blobs", "/v1", "/v1/modelsx", "//", "/api/pull/x"]
)
def test_paths_that_are_only_similar(path: str) -> None:
    found = find("GET", path)
    assert isinstance(found, Lost)
    assert isinstance(found.problem, Problem)
    assert found.problem.status == 404
