"""What every answer of the admin API keeps to: who may, errors of one form, limits, ids, logs."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from llm_operator.admin.api import app, bodies
from llm_operator.admin.api.counts import FAMILIES, Counts
from llm_operator.admin.errors import Away, TooMany
from llm_operator.logs import JSONFormatter
from parts.admin_memory import SPEC, TOKEN, client, memory
from parts.admin_memory import Memory as Behind

#: Every route that needs a token.
CLOSED = [
    ("GET", ""),
    ("POST", ""),
    ("GET", "/metrics"),
    ("POST", "/metrics"),
    ("POST", "/usage"),
    ("GET", "/compare"),
    ("GET", "/routers"),
    ("GET", "/1"),
    ("PUT", "/1"),
    ("DELETE", "/1"),
    ("POST", "/1/toggle"),
    ("POST", "/1/restore"),
    ("GET", "/1/history"),
    ("GET", "/1/yaml"),
]
#: What each right is for.
RIGHTS = [
    ("list", "GET", "", {}),
    ("get", "GET", "/1", {}),
    ("get", "GET", "/1/history", {}),
    ("get", "GET", "/1/yaml", {}),
    ("create", "POST", "", {"json": {"model_name": "x", "backend_type": "mlx"}}),
    ("update", "PUT", "/1", {"json": {"max_tokens": 5}}),
    ("update", "POST", "/1/toggle", {}),
    ("delete", "DELETE", "/1", {}),
    ("list", "GET", "/metrics", {}),
    ("list", "GET", "/compare", {"params": {"model": "x"}}),
    ("list", "GET", "/routers", {}),
    ("list", "GET", "http://admin/metrics", {}),
]


@pytest.fixture
def behind() -> Behind:
    made = memory()
    made.store.add(SPEC)
    return made


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    caplog.set_level(logging.INFO, logger="llm_operator.admin")

    def read() -> list[dict[str, Any]]:
        return [json.loads(JSONFormatter().format(record)) for record in caplog.records]

    return read


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_nothing_answers_without_a_token(behind: Behind, method: str, path: str) -> None:
    async with client(behind, token="") as api:
        none = await api.request(method, path, content=b"{")
        basic = await api.request(method, path, headers={"authorization": "Basic Z29vZA=="})
        wrong = await api.request(method, path, headers={"authorization": "bearer bad"})
        queried = await api.request(method, path, params={"access_token": TOKEN, "token": TOKEN})
        twice = [("authorization", f"Bearer {TOKEN}")] * 2
        two = await api.request(method, path, headers=twice)
    answers = (none, basic, wrong, queried, two)
    assert [one.status_code for one in answers] == [401] * 5
    assert none.headers["www-authenticate"] == 'Bearer realm="llm-backends"'
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    assert all(list(one.json()) == ["detail"] for one in answers)
    assert len(behind.store.list()) == 1


async def test_every_closed_route_is_tried(behind: Behind) -> None:
    built = app.build(behind.admin, public=True)
    document = built.openapi()
    secured = {
        (method.upper(), path.removeprefix("/api/llm-backends").replace("{id}", "1"))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation["security"] == [{"bearer": []}]
    }
    assert secured == {*CLOSED, ("GET", "/metrics")}


async def test_the_scheme_s_case_and_more_spaces_do_not_matter(behind: Behind) -> None:
    async with client(behind, token="") as api:
        told = await api.get("", headers={"authorization": f"bEARER  {TOKEN}"})
    assert told.status_code == 200


@pytest.mark.parametrize(("verb", "method", "path", "more"), RIGHTS)
async def test_a_right_that_lacks_is_named(
    behind: Behind, verb: str, method: str, path: str, more: dict[str, Any]
) -> None:
    behind.gate.denied = {(verb, "*"), (verb, "")}
    async with client(behind) as api:
        refused = await api.request(method, path, **more)
    assert refused.status_code == 403
    assert f"me may not {verb} llmbackends" in refused.json()["detail"]
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert len(behind.store.list()) == 1


@pytest.mark.parametrize("path", ["/public", "/model/phi3:mini"])
async def test_public_routes_can_be_closed(behind: Behind, path: str) -> None:
    async with client(behind, token="") as api:
        assert (await api.get(path)).status_code == 200
    async with client(behind, public=False, token="") as api:
        assert (await api.get(path)).status_code == 401
    async with client(behind, public=False) as api:
        assert (await api.get(path)).status_code == 200
        behind.gate.denied = {("list", ""), ("list", "*")}
        assert (await api.get(path)).status_code == 403


async def test_who_can_t_be_asked_is_no_wrong_token(behind: Behind) -> None:
    behind.gate.away = True
    async with client(behind) as api:
        told = await api.post("/usage", json={"records": []})
    assert (told.status_code, told.headers["retry-after"]) == (503, "2")


@pytest.mark.parametrize(
    ("error", "seconds"), [(Away("x"), 2), (Away("x", retry_after=0.1), 1), (TooMany("x"), 2)]
)
async def test_come_again_after_whole_seconds(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, error: Exception, seconds: int
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(behind.archive, "samples", refuse)
    async with client(behind) as api:
        told = await api.get("/metrics")
    assert told.headers["retry-after"] == str(seconds)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"", {}, 400),
        (b"[]", {}, 400),
        (b"\xff{}", {}, 400),
        ("{}".encode("utf-16"), {}, 400),
        (b'{"max_tokens": NaN}', {}, 400),
        (b'{"parameters": {"defaults": {"x": 1e999}}}', {}, 400),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", {}, 400),
        (b'{"a":' * 100_000, {}, 413),
        (b'{"a":' * 40_000, {}, 400),
        (rb'{"description": "\ud800"}', {}, 400),
        (rb'{"description": "a\u0000"}', {}, 400),
        (rb'{"description": "a\\u0000"}', {}, 200),
        (b"{}", {"content-type": "application/json; charset=utf-8"}, 200),
        (b"{}", {"content-type": "application/merge-patch+json"}, 200),
        (b"max_tokens=5", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-type": "nonsense"}, 415),
        (b"{}", {"content-encoding": "gzip"}, 415),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_body_is_json_or_refused(
    behind: Behind, content: bytes, headers: dict[str, str], status: int
) -> None:
    async with client(behind) as api:
        told = await api.put("/1", content=content, headers=headers)
    assert told.status_code == status, told.text
    assert status == 200 or told.json()["detail"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_read_no_further_than_its_limit(behind: Behind, chunked: bool) -> None:
    read = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 65_536
            yield b" " * 65_536

    headers = {} if chunked else {"content-length": str(bodies.LIMIT + 1)}
    async with client(behind) as api:
        told = await api.put("/1", content=pieces(), headers=headers)
    assert (told.status_code, told.headers["connection"]) == (413, "close")
    assert read <= (bodies.LIMIT + 2 * 65_536 if chunked else 2 * 65_536)


async def test_who_has_no_token_sends_no_body(behind: Behind) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async with client(behind, token="") as api:
        told = await api.post("/usage", content=never())
    assert told.status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "", "GET, HEAD, POST"),
        ("PUT", "/metrics", "GET, HEAD, POST"),
        ("GET", "/usage", "POST"),
        ("DELETE", "/public", "GET, HEAD"),
        ("POST", "/model/a/toggle", "GET, HEAD"),
        ("POST", "/model/toggle", "GET, HEAD"),
        ("POST", "/1", "DELETE, GET, HEAD, PUT"),
        ("GET", "/1/toggle", "POST"),
        ("OPTIONS", "/1/history", "GET, HEAD"),
        ("BREW", "/1", "DELETE, GET, HEAD, PUT"),
        ("POST", "http://admin/healthz", "GET, HEAD"),
        ("POST", "http://admin/openapi.json", "GET, HEAD"),
    ],
)
async def test_another_method_is_405_with_those_that_are(
    behind: Behind, method: str, path: str, allow: str
) -> None:
    async with client(behind) as api:
        told = await api.request(method, path)
    assert (told.status_code, told.headers["allow"]) == (405, allow)
    assert list(told.json()) == ["detail"]


@pytest.mark.parametrize("path", ["/1/nothing", "/1/yaml/x", "http://admin/api/other"])
async def test_another_path_is_404(behind: Behind, path: str) -> None:
    async with client(behind) as api:
        told = await api.get(path)
    assert (told.status_code, list(told.json())) == (404, ["detail"])


async def test_no_page_of_documentation_asks_a_cdn(behind: Behind) -> None:
    async with client(behind) as api:
        for path in ("/docs", "/redoc", "/api/docs"):
            assert (await api.get(f"http://admin{path}")).status_code == 404


async def test_head_answers_as_get_does(behind: Behind) -> None:
    async with client(behind) as api:
        got, head = await api.get("/1"), await api.head("/1")
    same = {"etag", "content-type", "content-length", "cache-control"}
    assert {name: got.headers[name] for name in same} == {name: head.headers[name] for name in same}


@pytest.mark.parametrize("path", ["", "/1", "/99", "/1/nothing", "/public", "http://admin/healthz"])
async def test_every_answer_has_an_id_and_is_kept_nowhere(behind: Behind, path: str) -> None:
    async with client(behind) as api:
        given = await api.get(path, headers={"x-request-id": "abc-1"})
        drawn = await api.get(path, headers={"x-request-id": "no id"})
        long = await api.get(path, headers={"x-request-id": "x" * 200})
    assert given.headers["x-request-id"] == "abc-1"
    ids = {one.headers["x-request-id"] for one in (drawn, long)}
    assert len(ids) == 2
    assert all(len(one) == 32 for one in ids)
    assert given.headers["x-content-type-options"] == "nosniff"
    assert given.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in given.headers


async def test_one_line_tells_of_a_request_and_no_secret(behind: Behind, lines: Any) -> None:
    async with client(behind) as api:
        await api.get("/1", params={"q": "private"}, headers={"x-request-id": "r1"})
    told = [line for line in lines() if line["event"] == "request"]
    assert len(told) == 1
    wanted = {"request_id": "r1", "method": "GET", "route": "/api/llm-backends/{id}"}
    wanted |= {"status": 200, "by": "me", "peer": "127.0.0.1"}
    assert {name: told[0][name] for name in wanted} == wanted
    assert "private" not in json.dumps(told)
    assert TOKEN not in json.dumps(told)


async def test_what_breaks_is_told_once_with_its_id(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, lines: Any
) -> None:
    async def burst(*_: object, **__: object) -> None:
        raise RuntimeError("inner words")

    monkeypatch.setattr(behind.archive, "samples", burst)
    async with client(behind) as api:
        told = await api.get("/metrics", headers={"x-request-id": "r2"})
    assert told.status_code == 500
    assert told.json() == {"detail": "internal error; request id r2"}
    assert told.headers["x-request-id"] == "r2"
    traces = [line for line in lines() if "exception" in line]
    assert [line["event"] for line in traces] == ["request_broken"]
    assert "inner words" in traces[0]["exception"]
    assert [line["status"] for line in lines() if line["event"] == "request"] == [500]


async def test_readiness_is_the_first_list(behind: Behind) -> None:
    behind.store._listed = behind.store._fresh = False
    async with client(behind, token="") as api:
        assert (await api.get("http://admin/healthz")).text == "ok\n"
        for path in ("http://admin/readyz", "/public", "/model/phi3:nothing"):
            told = await api.get(path)
            assert (told.status_code, told.headers["retry-after"]) == (503, "1"), path
        behind.store.tell(fresh=True)
        assert (await api.get("http://admin/readyz")).text == "ok\n"


async def test_what_is_counted(behind: Behind) -> None:
    counts = Counts()
    transport = httpx.ASGITransport(app.build(behind.admin, public=True, counts=counts))  # type: ignore[arg-type]
    record = {"request_id": "a", "at": 1, "model": "m", "outcome": "ok", "total_seconds": 1}
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as api:
        known = {"authorization": f"Bearer {TOKEN}"}
        usage = "/api/llm-backends/usage"
        for records in ([record], [record, {}]):
            await api.post(usage, json={"records": records}, headers=known)
        await api.post(usage, json={"records": []})
        told = (await api.get("/metrics", headers=known)).text
    families = [*text_string_to_metric_families(told)]
    assert {one.name for one in families} == {one.name.removesuffix("_total") for one in FAMILIES}
    route = f'method="POST",route="{usage}"'
    assert f'llm_admin_requests_total{{{route},status="200"}} 2.0' in told
    assert f'llm_admin_requests_total{{{route},status="401"}} 1.0' in told
    assert 'llm_admin_usage_records_total{result="stored"} 1.0' in told
    assert 'llm_admin_usage_records_total{result="known"} 1.0' in told
    assert 'llm_admin_usage_records_total{result="refused"} 1.0' in told
    assert "llm_admin_wrong_tokens_total 1.0" in told
