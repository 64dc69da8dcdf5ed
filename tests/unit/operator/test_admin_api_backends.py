"""The routes of backends: what a client of the predecessor relies on, and what HTTP promises."""

from typing import Any

import pytest

from llm_operator.admin import numbers
from llm_operator.admin.api import kept
from llm_operator.admin.model import Owner
from parts.admin_memory import SPEC, client, generation, memory
from parts.admin_memory import Memory as Behind

BODY = {"model_name": "phi3:mini", "backend_type": "ollama"}


@pytest.fixture
def behind() -> Behind:
    return memory()


async def test_the_predecessor_s_round(behind: Behind) -> None:
    async with client(behind) as api:
        made = await api.post("", json=BODY)
        assert made.status_code == 201
        assert made.json()["id"] == 1
        assert made.headers["location"] == "/api/llm-backends/1"
        changed = await api.put("/1", json={"backend_type": "mlx", "temperature_default": 0})
        assert (changed.status_code, changed.json()["temperature_default"]) == (200, 0)
        assert changed.json()["backend_type"] == "mlx"
        toggled = await api.post("/1/toggle")
        assert toggled.json() == {
            "id": 1,
            "model_name": "phi3:mini",
            "enabled": False,
            "message": "Backend disabled",
        }
        assert (await api.get("/model/phi3:mini")).status_code == 404
        assert (await api.post("/1/toggle")).json()["message"] == "Backend enabled"
        gone = await api.delete("/1")
        assert (gone.status_code, sorted(gone.json())) == (200, ["id", "message"])
        missing = await api.get("/1")
        assert (missing.status_code, missing.json()) == (404, {"detail": "Backend not found"})


async def test_what_is_left_out_gets_the_predecessor_s_defaults(behind: Behind) -> None:
    async with client(behind) as api:
        told = (await api.post("", json=BODY)).json()
    wanted = {"enabled": True, "priority": 100, "max_tokens": 2048, "temperature_default": 0.7}
    wanted |= {"timeout_seconds": 60, "keep_alive_seconds": -1}
    assert {name: told[name] for name in wanted} == wanted


async def test_a_model_that_has_one_is_a_conflict(behind: Behind) -> None:
    behind.store.add(SPEC)
    async with client(behind) as api:
        again = await api.post("", json=BODY)
    assert again.status_code == 409
    detail = "Backend configuration already exists for model: phi3:mini"
    assert again.json() == {"detail": detail}


@pytest.mark.parametrize("model", ["phi3:mini", "library/llama3.1:8b", "toggle", "a/history"])
async def test_a_model_is_found_by_a_name_of_any_form(behind: Behind, model: str) -> None:
    behind.store.add({**SPEC, "modelName": model})
    async with client(behind, token="") as api:
        found = await api.get(f"/model/{model}")
    assert (found.status_code, found.json()["model_name"]) == (200, model)
    assert not {"created_by", "total_requests", "uid", "namespace"} & found.json().keys()


async def test_a_model_that_nobody_serves_is_named(behind: Behind) -> None:
    async with client(behind, token="") as api:
        missing = await api.get("/model/nope:7b")
    assert missing.status_code == 404
    assert missing.json() == {"detail": "Backend not found for model: nope:7b"}


async def test_a_list_is_whole_and_in_order_without_paging(behind: Behind) -> None:
    for priority, model in ((20, "b"), (10, "c"), (20, "a")):
        behind.store.add({**SPEC, "modelName": model, "priority": priority})
    async with client(behind) as api:
        for path in ("", "/public", "/"):
            told = await api.get(path)
            assert [one["model_name"] for one in told.json()] == ["c", "a", "b"], path
            assert told.headers["x-total-count"] == "3"
            assert "link" not in told.headers


async def test_pages_lead_from_one_to_the_next(behind: Behind) -> None:
    for number in range(7):
        behind.store.add({**SPEC, "modelName": f"m{number}", "enabled": number != 3})
    async with client(behind) as api:
        seen: list[str] = []
        path: str | None = "?enabled_only=true&limit=4"
        while path is not None:
            told = await api.get(path)
            assert told.headers["x-total-count"] == "6"
            seen += [one["model_name"] for one in told.json()]
            assert "enabled_only=true" in told.links["first"]["url"]
            following = told.links.get("next")
            path = following and f"http://admin{following['url']}"
        assert seen == ["m0", "m1", "m2", "m4", "m5", "m6"]
        beyond = await api.get("?limit=4&offset=50")
        assert beyond.json() == []
        assert "next" not in beyond.links


@pytest.mark.parametrize(
    ("query", "models"),
    [
        ({"backend_type": "mlx"}, ["qwen"]),
        ({"search": "LLAMA fast"}, ["llama"]),
        ({"search": "other-name"}, ["qwen"]),
        ({"namespace": "away"}, ["gemma"]),
        ({"namespace": "nowhere"}, []),
        ({"enabled_only": "true"}, ["gemma", "llama"]),
    ],
)
async def test_a_list_is_narrowed(behind: Behind, query: dict[str, str], models: list[str]) -> None:
    behind.store.add({**SPEC, "modelName": "llama", "description": "A fast one"})
    aliases = ["other-name"]
    behind.store.add(
        {"modelName": "qwen", "backendType": "mlx", "aliases": aliases, "enabled": False}
    )
    behind.store.add({**SPEC, "modelName": "gemma"}, namespace="away")
    async with client(behind) as api:
        told = (await api.get("", params=query)).json()
    assert [one["model_name"] for one in told] == models


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"max_tokns": 5}, "max_tokns: unknown field; did you mean max_tokens?"),
        ({"max_tokens": "60"}, 'max_tokens: must be of type integer, is "60"'),
        ({"max_tokens": True}, "max_tokens: must be of type integer, is true"),
        ({"enabled": 1}, "enabled: must be of type boolean, is 1"),
        ({"temperature_default": 3}, "temperature_default: should be less than or equal to 2"),
        ({"backend_type": "vllm"}, 'backend_type: "vllm" is none of the supported values'),
        ({"model_name": None}, "model_name: Required value"),
        ({"name": "other"}, "name: a backend keeps its name, phi3-mini"),
    ],
)
async def test_bad_data_is_named_by_field_and_reason(
    behind: Behind, body: dict[str, Any], detail: str
) -> None:
    before = behind.store.add(SPEC)
    async with client(behind) as api:
        refused = await api.put("/1", json=body)
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith(detail)
    assert behind.store.list() == (before,)


async def test_what_was_told_may_be_sent_back(behind: Behind) -> None:
    before = behind.store.add(SPEC)
    async with client(behind) as api:
        told = (await api.get("/1")).json()
        same = await api.put("/1", json=told)
    assert (same.status_code, same.json()["generation"]) == (200, 1), same.text
    assert behind.store.get(before.uid) is before


async def test_a_backend_goes_by_its_uid_too_while_postgres_is_away(behind: Behind) -> None:
    uid = behind.store.add(SPEC).uid
    behind.archive.away = True
    async with client(behind) as api:
        assert (await api.get("/1")).status_code == 503
        told = await api.get(f"/{uid}")
        assert (told.status_code, told.json()["id"], told.json()["total_requests"]) == (
            200,
            None,
            None,
        )
        toggled = await api.post(f"/{uid}/toggle")
        assert toggled.json()["message"] == "Backend disabled"


async def test_a_tag_stands_for_all_that_is_told(behind: Behind) -> None:
    backend = behind.store.add(SPEC)
    async with client(behind) as api:
        tag = (await api.get("/1")).headers["etag"]
        known = await api.get("/1", headers={"if-none-match": f'"x", {tag}'})
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
        behind.store.change(backend, {**SPEC, "enabled": False})
        assert (await api.get("/1", headers={"if-none-match": tag})).status_code == 200


@pytest.mark.parametrize(
    "ask",
    [
        ("PUT", "/1", {"json": {"max_tokens": 5}}),
        ("DELETE", "/1", {}),
        ("POST", "/1/toggle", {}),
        ("POST", "/1/restore", {"json": {"generation": 1}}),
    ],
    ids=lambda ask: ask[1],
)
async def test_a_write_of_what_was_changed_since_is_refused(
    behind: Behind, ask: tuple[str, str, dict[str, Any]]
) -> None:
    backend = behind.store.add(SPEC)
    behind.archive.generations = [generation(1, SPEC)]
    async with client(behind) as api:
        tag = (await api.get("/1")).headers["etag"]
        behind.store.change(backend, {**SPEC, "priority": 5})
        stale = await api.request(ask[0], ask[1], headers={"if-match": tag}, **ask[2])
        assert stale.status_code == 412
        assert behind.store.list()[0].spec["priority"] == 5
        now = (await api.get("/1")).headers["etag"]
        passed = await api.request(ask[0], ask[1], headers={"if-match": f"{tag},{now}"}, **ask[2])
        assert passed.status_code == 200, passed.text


async def test_a_state_that_changed_alone_hinders_no_write(behind: Behind) -> None:
    behind.store.taking = False
    backend = behind.store.add(SPEC)
    async with client(behind) as api:
        tag = (await api.get("/1")).headers["etag"]
        behind.archive.unrecorded.add(backend.uid)
        toggled = await api.post(f"/{backend.uid}/toggle", headers={"if-match": tag})
    assert toggled.status_code == 200


async def test_tags_without_quotes_are_none(behind: Behind) -> None:
    behind.store.add(SPEC)
    async with client(behind) as api:
        refused = await api.post("/1/toggle", headers={"if-match": "abc"})
        weak = await api.post("/1/toggle", headers={"if-match": 'W/"abc"'})
        any_one = await api.post("/1/toggle", headers={"if-match": "*"})
        told = (await api.get("/1")).json()
        short = f'"{told["uid"]}.{told["generation"]}"'
        made = await api.post("/1/toggle", headers={"if-match": short})
    assert [one.status_code for one in (refused, weak, any_one, made)] == [400, 412, 200, 200]


async def test_a_pipeline_s_backend_is_told_what_to_commit(behind: Behind) -> None:
    tracking = {"argocd.argoproj.io/tracking-id": "shop:llm.athena.dev/LLMBackend:home/phi3-mini"}
    backend = behind.store.add(SPEC, annotations=tracking)
    assert backend.owner == Owner(tool="Argo CD", name="shop")
    async with client(behind) as api:
        told = (await api.get("/1")).json()
        refused = await api.put("/1", json={"max_tokens": 7})
        gone = await api.delete("/1")
    assert told["managed_by"] == "Argo CD (shop)"
    assert refused.status_code == 409
    assert refused.json()["managed_by"] == "Argo CD (shop)"
    assert "maxTokens: 7" in refused.json()["yaml"]
    assert "tracking-id" not in refused.json()["yaml"]
    assert (gone.status_code, "yaml" in gone.json()) == (409, False)


async def test_a_history_tells_what_each_entry_changed(behind: Behind) -> None:
    behind.store.add(SPEC)
    behind.archive.generations = [
        generation(1, SPEC, "created"),
        generation(2, {**SPEC, "maxTokens": 5}),
        generation(3, {**SPEC, "maxTokens": 9}),
    ]
    async with client(behind) as api:
        told = await api.get("/1/history")
        first = await api.get("/1/history?limit=2")
        rest = await api.get(f"http://admin{first.links['next']['url']}")
    assert [one["generation"] for one in told.json()] == [3, 2, 1]
    assert [one["differences"] for one in told.json()] == [
        [{"path": "maxTokens", "before": 5, "after": 9}],
        [{"path": "maxTokens", "before": None, "after": 5}],
        [],
    ]
    assert first.json() + rest.json() == told.json()
    assert "next" not in rest.links


async def test_an_earlier_generation_comes_back_as_a_new_one(behind: Behind) -> None:
    behind.store.add({**SPEC, "maxTokens": 9})
    behind.archive.generations = [generation(1, {**SPEC, "maxTokens": 5})]
    async with client(behind) as api:
        back = await api.post("/1/restore", json={"generation": 1})
        never = await api.post("/1/restore", json={"generation": 7})
        wrong = [
            (await api.post("/1/restore", json=body)).status_code
            for body in ({"generation": True}, {"generation": "1"}, {"generation": 1, "x": 2}, {})
        ]
    assert (back.json()["generation"], back.json()["max_tokens"]) == (2, 5)
    assert never.status_code == 404
    assert wrong == [400, 400, 400, 400]


async def test_its_yaml_is_what_a_repository_holds(behind: Behind) -> None:
    behind.store.add(SPEC)
    async with client(behind) as api:
        told = await api.get("/1/yaml")
    assert told.headers["content-type"] == "text/yaml; charset=utf-8"
    assert "uid" not in told.text
    assert "modelName: phi3:mini" in told.text


async def test_a_spec_that_can_t_be_used_is_told_all_the_same(behind: Behind) -> None:
    odd = {"modelName": "m", "maxTokens": float("nan"), "description": {1: {2, 3}}}
    behind.store.taking = False
    behind.store.add(odd, name="odd")
    behind.archive.unrecorded.update(one.uid for one in behind.store.list())
    async with client(behind) as api:
        told = await api.get("")
        shown = await api.get("/public")
    assert told.json()[0]["max_tokens"] == "nan"
    assert told.json()[0]["problems"]
    assert shown.status_code == 200


async def test_what_is_kept_is_of_the_last_state(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST", 2)
    monkeypatch.setattr(numbers, "PAUSE", 0.0)
    backend = behind.store.add(SPEC)
    behind.archive.unrecorded.add(backend.uid)
    async with client(behind, token="") as api:
        for change in ({}, {"maxTokens": 5}, {"maxTokens": 6, "enabled": False}):
            behind.store.change(backend, {**SPEC, **change})
            for _ in range(2):
                told = (await api.get("/public")).json()
                assert (told[0]["max_tokens"], told[0]["id"]) == (change.get("maxTokens"), None)
        behind.archive.unrecorded.clear()
        assert (await api.get("/public")).json()[0]["id"] == 1
        for number in range(5):
            behind.store.add({**SPEC, "modelName": f"m{number}"})
        told = (await api.get("/public")).json()
    assert [one["model_name"] for one in told] == ["m0", "m1", "m2", "m3", "m4", "phi3:mini"]
