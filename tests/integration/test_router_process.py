"""The router as a process: how it starts, what it refuses, how it follows its mount and ends."""

import asyncio
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from llm_contract import CHECKSUM_KEY, CONFIG_KEY
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator
from llm_router.settings import TABLE
from parts.eventually import eventually, eventually_async
from parts.process import free_port
from parts.router import COMMAND, PLAIN, Router, asked, files, ollama, route

MODEL = "phi3:mini"
PROMPT = {"model": MODEL, "prompt": "hello"}
MakeRouter = Callable[..., Router]


def run(router: Router | None = None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A router that is expected to end by itself."""
    environment = router.environment if router else {}
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )


def to(simulator: Simulator, model: str = MODEL) -> dict[str, bytes]:
    return files(route(model, ollama(f"http://127.0.0.1:{simulator.port}", model=MODEL)))


class TestCommand:
    def test_help_names_every_setting_and_an_example(self) -> None:
        ended = run(None, "--help")
        assert ended.returncode == 0
        for setting in TABLE:
            assert setting.variable in ended.stdout
            assert setting.meaning in ended.stdout
        assert "example:" in ended.stdout

    def test_wrong_use_is_2(self) -> None:
        assert run(None, "--port", "1").returncode == 2

    def test_a_wrong_setting_is_a_sentence_and_2(self, make_router: MakeRouter) -> None:
        ended = run(make_router(DRAIN_SECONDS="soon"))
        assert ended.returncode == 2
        assert ended.stderr == (
            "llm-router: LLM_ROUTER_DRAIN_SECONDS='soon': must be a number from 0 to 3600\n"
        )

    @pytest.mark.check(40)
    def test_a_subpath_mount_is_a_sentence_and_2(self, make_router: MakeRouter) -> None:
        router = make_router()
        (router.mount / CONFIG_KEY).write_bytes(files()[CONFIG_KEY])
        ended = run(router)
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"llm-router: {router.mount / CONFIG_KEY} is there, but ")
        assert line.endswith("a subPath mount never changes. Mount the ConfigMap as a folder.")

    @pytest.mark.parametrize(
        ("setting", "variable"),
        [("PORT", "LLM_ROUTER_PORT"), ("MANAGEMENT_PORT", "LLM_ROUTER_MANAGEMENT_PORT")],
    )
    def test_a_taken_port_is_a_sentence_and_2(
        self, make_router: MakeRouter, setting: str, variable: str
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ended = run(make_router(**{setting: str(port)}))
        assert ended.returncode == 2
        assert ended.stderr == (
            f"llm-router: 127.0.0.1:{port}: Address already in use; choose another by {variable}\n"
        )


class TestMount:
    @pytest.mark.check(40)
    async def test_it_waits_for_the_first_configuration_and_follows_each_swap(
        self, make_router: MakeRouter, ollama_simulator: Simulator
    ) -> None:
        router = make_router()
        router.start()
        async with httpx.AsyncClient(base_url=router.url, **PLAIN) as client:
            assert router.ready() == 503
            assert (await client.post("/generate", json=PROMPT)).status_code == 503

            async def answers(model: str, status: int) -> bool:
                answer = await client.post("/generate", json=PROMPT | {"model": model})
                return answer.status_code == status

            router.project(to(ollama_simulator, "first"))
            await eventually_async(lambda: answers("first", 200), within=2)
            assert router.ready() == 200
            router.project(to(ollama_simulator, "second"))
            await eventually_async(lambda: answers("second", 200), within=2)
            assert await answers("first", 404)

    @pytest.mark.check(40)
    async def test_bad_content_keeps_the_last_good_and_shows(
        self, make_router: MakeRouter, ollama_simulator: Simulator
    ) -> None:
        router = make_router(REREAD_SECONDS="1")
        good = to(ollama_simulator)
        raw = good[CONFIG_KEY]
        router.project(good)
        router.start()
        bad = {
            "checksum is": good | {CONFIG_KEY: raw[:-20]},
            "does not hold": {},
        }
        eventually(lambda: router.status()["ready"], within=5)
        async with httpx.AsyncClient(base_url=router.url, **PLAIN) as client:
            for said, payload in bad.items():
                router.project(payload)

                def rejected(said: str = said) -> bool:
                    found = router.status()["rejected"]
                    return found is not None and said in found["reason"]

                await eventually_async(rejected, within=2)
                answer = await client.post("/generate", json=PROMPT)
                assert answer.status_code == 200
                assert answer.headers["x-llm-config"] == good[CHECKSUM_KEY].decode()[:12]
                assert "\nllm_router_config_rejected 1.0\n" in router.metrics()
            # Damage that is repaired in place moves no link; the regular look finds it.
            router.project(good | {CHECKSUM_KEY: b"0" * 64})
            await eventually_async(lambda: router.status()["rejected"] is not None, within=2)
            (router.mount / "..data" / CHECKSUM_KEY).write_bytes(good[CHECKSUM_KEY])
            await eventually_async(lambda: router.status()["rejected"] is None, within=3)
        assert router.process is not None
        assert router.process.running

    def test_a_restarted_one_serves_from_the_mount(
        self, make_router: MakeRouter, router: Router
    ) -> None:
        restarted = make_router()
        restarted.project(files(route("m", ollama("http://127.0.0.1:9"))))
        for _ in range(2):
            restarted.start()
            eventually(lambda: restarted.status()["ready"], within=3)
            assert restarted.process is not None
            restarted.process.kill()


async def turned_away(router: Router) -> bool:
    """A new request is refused while the listening socket closes, then its connection is."""
    async with httpx.AsyncClient(base_url=router.url, **PLAIN) as client:
        try:
            answer = await client.post("/generate", json=PROMPT)
        except httpx.ConnectError:
            return True
    assert answer.status_code == 503
    return False


class TestEnd:
    async def test_an_open_answer_is_finished_and_nothing_new_begun(
        self, make_router: MakeRouter, ollama_simulator: Simulator
    ) -> None:
        ollama_simulator.behaviour = Behaviour(tokens_per_second=10, tokens=10)
        router = make_router(DRAIN_SECONDS="10")
        router.project(to(ollama_simulator))
        router.start()
        eventually(lambda: router.status()["ready"], within=3)
        assert router.process is not None
        async with (
            httpx.AsyncClient(base_url=router.url, **PLAIN) as client,
            client.stream("POST", "/api/generate", json=PROMPT) as answer,
        ):
            lines = answer.aiter_lines()
            first = json.loads(await anext(lines))
            assert first["done"] is False
            router.process.popen.send_signal(signal.SIGTERM)
            await eventually_async(lambda: router.status()["draining"], within=2)
            assert router.ready() == 503
            await eventually_async(lambda: turned_away(router), within=1)
            rest = [json.loads(line) async for line in lines]
        assert rest[-1]["done"] is True
        assert len(rest) == 10
        assert await asyncio.to_thread(router.process.popen.wait, 5) == 0
        assert asked(ollama_simulator, Outcome.ANSWERED) == 1

    async def test_one_that_takes_too_long_is_cut_with_an_error(
        self, make_router: MakeRouter, ollama_simulator: Simulator
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode="hang-mid-stream:2")
        router = make_router(DRAIN_SECONDS="1")
        router.project(to(ollama_simulator))
        router.start()
        eventually(lambda: router.status()["ready"], within=3)
        assert router.process is not None
        async with httpx.AsyncClient(base_url=router.url, **PLAIN) as client:
            whole = asyncio.create_task(client.post("/generate", json=PROMPT))
            async with client.stream("POST", "/api/generate", json=PROMPT) as answer:
                lines = answer.aiter_lines()
                await anext(lines)
                await eventually_async(lambda: asked(ollama_simulator) == 2, within=2)
                started = time.monotonic()
                router.process.popen.send_signal(signal.SIGTERM)
                rest = [json.loads(line) async for line in lines]
            assert (await whole).status_code == 503
        assert 0.9 <= time.monotonic() - started < 3
        assert rest[-1] == {"error": "the router is shutting down"}
        assert not any(line.get("done") for line in rest)
        assert await asyncio.to_thread(router.process.popen.wait, 5) == 0
        ended = lambda: asked(ollama_simulator, Outcome.CANCELLED) == 2  # noqa: E731
        await eventually_async(ended, within=1)
        assert "Traceback" not in (router.folder / "router.log").read_text()

    async def test_an_idle_connection_does_not_delay_it(
        self, make_router: MakeRouter, ollama_simulator: Simulator
    ) -> None:
        router = make_router()
        router.project(to(ollama_simulator))
        router.start()
        eventually(lambda: router.status()["ready"], within=3)
        assert router.process is not None
        async with httpx.AsyncClient(base_url=router.url, **PLAIN) as client:
            assert (await client.post("/generate", json=PROMPT)).status_code == 200
            started = time.monotonic()
            router.process.popen.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(router.process.popen.wait, 5) == 0
            assert time.monotonic() - started < 2

    def test_the_lifeline_ends_it_with_its_parent(self, make_router: MakeRouter) -> None:
        router = make_router(LIFELINE="true")
        router.project(files())
        with subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=router.environment
        ) as child:
            try:
                eventually(
                    lambda: router.status()["ready"], within=10, retry=(httpx.TransportError,)
                )
                assert child.stdin is not None
                child.stdin.write(b"still here\n")
                child.stdin.flush()
                assert child.poll() is None
                child.stdin.close()
                assert child.wait(5) == 0
            finally:
                child.kill()
                assert child.stderr is not None
                child.stderr.close()


def test_the_log_is_lines_of_json_without_a_prompt(
    router: Router, ollama_simulator: Simulator, tmp_path: Path
) -> None:
    router.publish(route(MODEL, ollama(f"http://127.0.0.1:{free_port()}")))
    secret = {"authorization": "Bearer canary-token"}
    sent = PROMPT | {"prompt": "canary-prompt"}
    answer = httpx.post(f"{router.url}/generate", json=sent, headers=secret, **PLAIN)
    assert answer.status_code == 502
    text = (router.folder / "router.log").read_text()
    assert all(json.loads(line)["event"] for line in text.splitlines())
    assert "canary" not in text
    (attempt, *_) = router.events("attempt_failed")[-1:]
    assert attempt["model"] == MODEL
    assert attempt["cause"] == "ConnectFailure"
