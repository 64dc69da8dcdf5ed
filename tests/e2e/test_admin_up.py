"""The admin API of `llmb up`: what the router does shows there, what is done there the router does.

Router, operator, Postgres, page and API are the real ones, started by the one command.
"""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from parts import up as ups
from parts.eventually import eventually
from parts.up import Up

MODEL = "phi3:mini"
AWAY = (httpx.TransportError,)


@pytest.fixture(scope="module")
def running(part_folder: Path) -> Iterator[Up]:
    """One for this file."""
    with ups.folder(part_folder) as one:
        one.start()
        yield one


@pytest.fixture
def up(running: Up) -> Up:
    """It runs, and serves its example."""
    if running.process is None or not running.process.running:
        running.start()
    with running.client() as client:
        backend = client.get(f"/model/{MODEL}")
        if backend.status_code == httpx.codes.NOT_FOUND:
            client.post(f"/{number(running)}/toggle")
    eventually(lambda: running.ask().status_code == 200, within=20, retry=AWAY)
    return running


def number(up: Up) -> int:
    """The id of its one backend."""
    with up.client() as client:
        found: list[dict[str, Any]] = client.get("").raise_for_status().json()
    [backend] = found
    return int(backend["id"])


def recorded(up: Up, request_id: str) -> dict[str, Any]:
    """A request as the API tells of it; once it is there."""

    def look() -> dict[str, Any] | None:
        with up.client() as client:
            found = client.get("/metrics", params={"model": MODEL}).raise_for_status().json()
        return next((one for one in found if one["request_id"] == request_id), None)

    return eventually(look, within=30)


def asked(up: Up) -> str:
    """The id of a request that was answered."""
    answer = up.ask()
    assert answer.status_code == 200
    return answer.headers["x-request-id"]


def test_the_card_says_where_it_is_and_where_the_token_is_but_not_the_token(up: Up) -> None:
    assert up.told("Admin") == up.admin
    assert f"cat {up.data}/admin.token" in up.card
    logs = [path.read_text() for path in (up.data / "logs").iterdir()]
    assert all(up.token not in text for text in (up.card, *logs))
    assert stat.S_IMODE((up.data / "admin.token").stat().st_mode) == 0o600


def test_a_browser_is_asked_for_the_token(up: Up) -> None:
    headers = {"Accept": "text/html"}
    answer = httpx.get(
        up.admin, headers=headers, trust_env=False, timeout=20, follow_redirects=True
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert 'type="password"' in answer.text


def test_a_request_through_the_router_is_told_of(up: Up) -> None:
    sample = recorded(up, asked(up))
    assert (sample["model"], sample["backend"]) == (MODEL, "mlx")
    assert sample["latency_seconds"] > 0
    with up.client() as client:
        compared = client.get("/compare", params={"model": MODEL}).raise_for_status().json()
    [arm] = compared["backends"]
    assert arm["backend"] == "mlx"
    assert arm["requests"] >= 1


def test_a_switch_by_the_api_stops_the_router_from_serving(up: Up) -> None:
    with up.client() as client:
        told = client.post(f"/{number(up)}/toggle").raise_for_status().json()
        assert (told["enabled"], told["message"]) == (False, "Backend disabled")
        eventually(lambda: up.ask().status_code == 404, within=20)
        assert "enabled: false" in up.example.read_text()
        assert client.post(f"/{number(up)}/toggle").raise_for_status().json()["enabled"] is True
    eventually(lambda: up.ask().status_code == 200, within=20)


def test_an_edit_of_the_file_is_seen_by_the_api(up: Up) -> None:
    text = up.example.read_text()
    up.example.write_text(text.replace("maxTokens: 2048", "maxTokens: 512"))
    with up.client() as client:
        path = f"/{number(up)}"
        eventually(lambda: client.get(path).json()["max_tokens"] == 512, within=20)
        answer = client.put(path, json={"max_tokens": 2048}).raise_for_status()
    assert answer.json()["max_tokens"] == 2048
    assert up.example.read_text() == text, "comments and order stay"


def test_the_router_is_among_the_routers(up: Up) -> None:
    def runs() -> bool:
        with up.client() as client:
            [router] = client.get("/routers").raise_for_status().json()
        return router["unreachable"] is None

    eventually(runs, within=20)


def test_a_restart_keeps_history_traffic_and_token(up: Up) -> None:
    request_id, token, backend = asked(up), up.token, number(up)
    recorded(up, request_id)
    with up.client() as client:
        client.put(f"/{backend}", json={"description": "before"}).raise_for_status()
        before = history(client, backend)
    assert up.end() == 0, up.card
    up.start()
    assert (up.token, number(up)) == (token, backend)
    recorded(up, request_id)
    with up.client() as client:
        assert history(client, backend) == before


def history(client: httpx.Client, backend: int) -> list[int]:
    """The generations of a backend, once the last one is recorded."""
    generation = client.get(f"/{backend}").raise_for_status().json()["generation"]

    def told() -> list[int] | None:
        found = client.get(f"/{backend}/history").raise_for_status().json()
        generations = [one["generation"] for one in found]
        return generations if generation in generations else None

    return eventually(told, within=20)


def test_the_last_requests_before_the_end_and_those_of_a_kill_are_not_lost(up: Up) -> None:
    last = asked(up)
    assert up.end() == 0, up.card
    up.start()
    recorded(up, last)
    killed = asked(up)
    assert up.process is not None
    spool = up.data / "usage"
    eventually(lambda: any(path.stat().st_size for path in spool.rglob("*")), within=20)
    os.kill(up.process.pid, signal.SIGKILL)
    up.process.popen.wait(10)
    eventually(lambda: refuses(up), within=20)
    up.start()
    recorded(up, killed)


def refuses(up: Up) -> bool:
    """Whether nothing listens any more on the router's port."""
    try:
        httpx.get(up.router, trust_env=False, timeout=5)
    except httpx.ConnectError:
        return True
    return False
