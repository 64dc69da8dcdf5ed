"""The management port: what probes, Prometheus and the operator read."""

from collections.abc import AsyncIterator
from importlib.metadata import version

import httpx
import pytest

from llm_contract import CHECKSUM_KEY, CONFIG_KEY
from llm_router import management
from parts.kubelet import project
from parts.router import DataPort, files, ollama, route

GOOD = files(route("phi3:mini", ollama("http://ollama:11434")))


@pytest.fixture
async def port(data_port: DataPort) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(management.create(data_port.parts))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
        yield client


class TestHealthz:
    async def test_is_200_whatever_is_mounted(
        self, port: httpx.AsyncClient, data_port: DataPort
    ) -> None:
        assert (await port.get("/healthz")).status_code == 200
        data_port.parts.draining = True
        assert (await port.get("/healthz")).status_code == 200


class TestReadyz:
    async def test_needs_a_table(self, port: httpx.AsyncClient, data_port: DataPort) -> None:
        answer = await port.get("/readyz")
        assert (answer.status_code, answer.text) == (
            503,
            "no configuration: nothing is mounted\n",
        )
        data_port.publish()
        assert (await port.get("/readyz")).status_code == 200

    async def test_says_why_there_is_none(
        self, port: httpx.AsyncClient, data_port: DataPort
    ) -> None:
        follower = data_port.parts.follower
        project(follower.folder, GOOD | {CHECKSUM_KEY: b"0" * 64})
        await follower.reload()
        answer = await port.get("/readyz")
        assert answer.status_code == 503
        assert "checksum is" in answer.text

    async def test_a_rejected_revision_leaves_it_ready(
        self, port: httpx.AsyncClient, data_port: DataPort
    ) -> None:
        follower = data_port.parts.follower
        project(follower.folder, GOOD)
        await follower.reload()
        project(follower.folder, {})
        await follower.reload()
        assert follower.rejection is not None
        assert (await port.get("/readyz")).status_code == 200

    async def test_ends_with_the_process(
        self, port: httpx.AsyncClient, data_port: DataPort
    ) -> None:
        data_port.publish()
        data_port.parts.draining = True
        answer = await port.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "draining\n")


class TestStatus:
    async def test_before_a_configuration(self, port: httpx.AsyncClient) -> None:
        status = (await port.get("/status")).json()
        assert status.pop("startedAt") > 0
        assert status == {
            "version": version("llm-backend"),
            "ready": False,
            "draining": False,
            "config": None,
            "rejected": None,
        }

    async def test_tells_what_is_in_use(self, port: httpx.AsyncClient, data_port: DataPort) -> None:
        follower = data_port.parts.follower
        project(follower.folder, GOOD)
        await follower.reload()
        status = (await port.get("/status")).json()
        assert status["ready"] is True
        assert status["config"] == {
            "checksum": GOOD[CHECKSUM_KEY].decode(),
            "loadedAt": follower.loaded_at,
            "readAt": follower.read_at,
            "routes": [
                {
                    "model": "phi3:mini",
                    "name": "phi3-mini",
                    "uid": "uid-of-phi3:mini",
                    "generation": 1,
                    "targets": [
                        {
                            "name": "ollama",
                            "type": "ollama",
                            "state": "Unknown",
                            "why": "nothing is against it; no probe has judged its host",
                            "failure": None,
                            "since": None,
                            "active": 0,
                            "loaded": None,
                            "tokensPerSecond": None,
                            "firstTokenSeconds": None,
                        }
                    ],
                }
            ],
        }

    async def test_tells_what_could_not_be_taken_beside_it(
        self, port: httpx.AsyncClient, data_port: DataPort
    ) -> None:
        follower = data_port.parts.follower
        project(follower.folder, GOOD)
        await follower.reload()
        project(follower.folder, GOOD | {CONFIG_KEY: b"{}"})
        await follower.reload()
        status = (await port.get("/status")).json()
        assert status["config"]["checksum"] == GOOD[CHECKSUM_KEY].decode()
        assert status["rejected"]["reason"].startswith("checksum is ")
        assert status["rejected"]["at"] >= status["config"]["loadedAt"]
        assert status["ready"] is True

    async def test_tells_no_address(self, port: httpx.AsyncClient, data_port: DataPort) -> None:
        data_port.publish(route("m", ollama("http://ollama:11434")))
        assert "11434" not in (await port.get("/status")).text


class TestReload:
    async def test_reads_at_once_and_says_what_came_of_it(
        self, port: httpx.AsyncClient, data_port: DataPort
    ) -> None:
        folder = data_port.parts.follower.folder
        steps = [({}, "absent"), (GOOD, "loaded"), (GOOD, "unchanged"), ({}, "rejected")]
        for payload, result in steps:
            project(folder, payload)
            document = (await port.post("/reload")).json()
            assert document["result"] == result
        assert document["config"]["checksum"] == GOOD[CHECKSUM_KEY].decode()
        assert document["rejected"] is not None

    async def test_is_no_get(self, port: httpx.AsyncClient) -> None:
        assert (await port.get("/reload")).status_code == 405


class TestMetrics:
    async def test_are_what_prometheus_reads(self, port: httpx.AsyncClient) -> None:
        answer = await port.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        for name in (
            "llm_router_config_loaded_timestamp_seconds 0.0",
            "llm_router_config_rejected 0.0",
            "llm_router_active_requests 0.0",
            'llm_router_upstream_connections{state="open"} 0.0',
        ):
            assert f"\n{name}\n" in answer.text

    async def test_follow_the_configuration(
        self, port: httpx.AsyncClient, data_port: DataPort
    ) -> None:
        folder = data_port.parts.follower.folder
        project(folder, GOOD)
        await port.post("/reload")
        text = (await port.get("/metrics")).text
        short = GOOD[CHECKSUM_KEY].decode()[:12]
        assert f'llm_router_config_info{{checksum="{short}"}} 1.0' in text
        assert 'llm_router_config_reads_total{result="loaded"} 1.0' in text
        project(folder, {})
        await port.post("/reload")
        assert "\nllm_router_config_rejected 1.0\n" in (await port.get("/metrics")).text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/api/chat", "/config"])
async def test_nothing_else_is_there(port: httpx.AsyncClient, path: str) -> None:
    assert (await port.get(path)).status_code == 404
