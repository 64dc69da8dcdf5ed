"""Running and steering a simulated host: its knobs, /_simulate, and the command line."""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_operator.simulate.behaviour import MODES, Behaviour, BehaviourError, Mode
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator, add_arguments, run
from simulators import DEADLINE, OLLAMA_MODEL, raw

CHAT = {"model": OLLAMA_MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="llmb simulate")
    add_arguments(parser)
    return parser.parse_args(flags)


@pytest.fixture(params=["ollama", "mlx"])
def simulator(
    request: pytest.FixtureRequest, ollama_simulator: Simulator, mlx_simulator: Simulator
) -> Simulator:
    return {"ollama": ollama_simulator, "mlx": mlx_simulator}[request.param]


class TestBehaviour:
    @pytest.mark.parametrize("mode", list(Mode))
    def test_each_mode_is_known(self, mode: Mode) -> None:
        number, what = MODES[mode]
        assert what
        assert Behaviour(mode=mode).failure is mode
        assert Behaviour(mode=mode).number == (number or 0)

    def test_a_number_follows_a_colon(self) -> None:
        assert Behaviour(mode="cut-mid-stream:0").number == 0
        assert Behaviour(mode="status:429").number == 429

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"mode": "nope"}, "mode is 'nope'; use one of ok, status"),
            ({"mode": 5}, "mode is 5; use one of ok"),
            ({"mode": "ok:1"}, "mode is 'ok:1'; write it as ok"),
            ({"mode": "cut-mid-stream:x"}, "mode is 'cut-mid-stream:x'; write it as cut-mid-st"),
            ({"mode": "status:200"}, "mode is 'status:200'; the status must be 400 to 599"),
            ({"ttft_ms": -1}, "ttft_ms is -1; give a number, 0 or more"),
            ({"ttft_ms": "1"}, "ttft_ms is '1'; give a number"),
            ({"tokens": 1.5}, "tokens is 1.5; give a whole number, 0 or more"),
            ({"tokens": True}, "tokens is True; give a whole number"),
            ({"thinking": "phi3"}, "thinking is 'phi3'; give a list of texts"),
            ({"message": 1}, "message is 1; give a text"),
            ({"field_errors": "x"}, "field_errors is 'x'; use answer or close"),
            ({"speed": 1}, "no knob 'speed'; there are capabilities, field_errors"),
        ],
    )
    def test_what_cannot_be_is_told(self, fields: dict[str, Any], said: str) -> None:
        with pytest.raises(BehaviourError) as raised:
            Behaviour().changed(fields)
        assert str(raised.value).startswith(said)


class TestControl:
    async def test_a_knob_is_changed_at_run_time(self, simulator: Simulator) -> None:
        simulator.behaviour = Behaviour(ttft_ms=1)
        answer = await raw(simulator.port, "POST", "/_simulate", {"mode": "zombie", "tokens": 3})
        assert answer.status == 200
        assert answer.json()["behaviour"]["ttft_ms"] == 1
        assert simulator.behaviour == Behaviour(mode="zombie", tokens=3, ttft_ms=1)
        shown = (await raw(simulator.port, "GET", "/_simulate")).json()
        assert shown == answer.json()
        assert shown["simulated"] in ("ollama", "mlx")

    @pytest.mark.parametrize("body", [{"mode": "nope"}, [1], b"{", {"speed": 1}])
    async def test_a_wrong_change_changes_nothing(self, simulator: Simulator, body: object) -> None:
        answer = await raw(simulator.port, "POST", "/_simulate", body)
        assert answer.status == 400
        assert answer.json()["error"]
        assert simulator.behaviour == Behaviour()

    async def test_a_broken_host_can_be_steered(self, simulator: Simulator) -> None:
        simulator.behaviour = Behaviour(mode="close-without-response")
        assert (await raw(simulator.port, "POST", "/_simulate", {"mode": "ok"})).status == 200
        assert simulator.behaviour == Behaviour()

    async def test_other_paths_are_told(self, simulator: Simulator) -> None:
        assert (await raw(simulator.port, "GET", "/_simulate/nope")).status == 404
        assert (await raw(simulator.port, "GET", "/_simulate/requests?last=x")).status == 400

    async def test_what_came_is_kept(self, ollama_simulator: Simulator) -> None:
        port = ollama_simulator.port
        headers = ("Connection: close", "X-Request-Id: 7")
        await raw(port, "POST", "/api/chat", CHAT, headers=headers)
        await raw(port, "GET", "/api/tags?x=1")
        seen = (await raw(port, "GET", "/_simulate/requests")).json()
        assert seen["counts"] == {
            "received": 2,
            "open": 0,
            "answered": 2,
            "cancelled": 0,
            "failed": 0,
        }
        first, second = seen["requests"]
        assert (first["method"], first["path"], first["body"]) == ("POST", "/api/chat", CHAT)
        assert first["headers"]["x-request-id"] == "7"
        assert (first["status"], first["tokens"], first["outcome"]) == (200, 5, "answered")
        assert second["path"] == "/api/tags?x=1"
        last = (await raw(port, "GET", "/_simulate/requests?last=1")).json()["requests"]
        assert last == [second]
        assert ollama_simulator.requests[0].body == CHAT
        assert ollama_simulator.count(Outcome.ANSWERED) == 2

    async def test_what_came_can_be_forgotten(self, simulator: Simulator) -> None:
        await raw(simulator.port, "GET", "/")
        answer = await raw(simulator.port, "DELETE", "/_simulate/requests")
        assert answer.json()["counts"]["received"] == 0
        assert simulator.requests == []


@contextlib.asynccontextmanager
async def running(*flags: str) -> AsyncIterator[asyncio.Task[int]]:
    task = asyncio.create_task(run(parsed(*flags)))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class TestCommand:
    @pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("kind", ["ollama", "mlx"])
    async def test_it_says_what_it_serves_and_ends_on_a_signal(
        self, kind: str, name: signal.Signals, capsys: pytest.CaptureFixture[str]
    ) -> None:
        flags = (kind, "--port", "0", "--model", "a/b", "--mode", "zombie")
        async with running(*flags) as task, asyncio.timeout(DEADLINE):
            said = ""
            while not said.endswith("\n"):
                await asyncio.sleep(0.01)
                said += capsys.readouterr().out
            start = f"Simulated {kind} (no real model) on http://127.0.0.1:"
            assert said.startswith(start)
            assert said.endswith(" answers for a/b\n")
            port = int(said.removeprefix(start).split()[0])
            shown = (await raw(port, "GET", "/_simulate")).json()
            assert (shown["models"], shown["behaviour"]["mode"]) == (["a/b"], "zombie")
            os.kill(os.getpid(), name)
            assert await task == 0

    async def test_a_taken_port_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            async with asyncio.timeout(DEADLINE):
                assert await run(parsed("mlx", "--port", str(port))) == 2
        said = capsys.readouterr().err
        assert f"port {port} on 127.0.0.1 is taken" in said
        assert "--port" in said

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (("ollama", "--mode", "nope", "--port", "0"), "mode is 'nope'"),
            (("ollama", "--port", "70000"), "--port"),
            (("ollama", "--port", "0", "--host", "203.0.113.1"), "--host"),
        ],
    )
    async def test_wrong_use_is_told(
        self, flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with asyncio.timeout(DEADLINE):
            assert await run(parsed(*flags)) == 2
        assert said in capsys.readouterr().err

    def test_each_knob_has_a_flag(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            parsed("--help")
        text = capsys.readouterr().out
        for name in Behaviour().document():
            assert "--" + name.replace("_", "-").replace("capabilities", "capability") in text
        assert "example:" in text
