"""The router while hosts hang, break off and lie, and while clients go away or do not read.

The router is its real process; the hosts are simulated ones, which count how requests ended.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_contract import Target, Timeouts
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator, unlisten
from parts.eventually import eventually_async
from parts.process import free_port
from parts.router import PLAIN, Router, asked, mlx, ollama, route

MODEL = "phi3:mini"
TURNS = [{"role": "user", "content": "hello there"}]
PATHS = {
    "/v1/chat/completions": {"model": MODEL, "messages": TURNS},
    "/api/chat": {"model": MODEL, "messages": TURNS},
    "/api/generate": {"model": MODEL, "prompt": "hello there"},
    "/generate": {"model": MODEL, "prompt": "hello there"},
}
SAID = {
    "ollama": "Simulated ollama answers phi3:mini: hello there",
    "mlx": "Simulated mlx answers default_model: hello there",
}


@pytest.fixture
async def client(router: Router) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=router.url, timeout=20, limits=limits, **PLAIN) as made:
        yield made


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(params=["ollama", "mlx"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def simulator(kind: str, ollama_simulator: Simulator, mlx_simulator: Simulator) -> Simulator:
    """The host of this kind."""
    return ollama_simulator if kind == "ollama" else mlx_simulator


def target(kind: str, simulator: Simulator) -> Target:
    url = f"http://127.0.0.1:{simulator.port}"
    return ollama(url) if kind == "ollama" else mlx(url)


def body(path: str, **more: Any) -> dict[str, Any]:
    return PATHS[path] | more


def pieces(text: str) -> list[dict[str, Any]]:
    """The JSON of a streamed answer, whichever its protocol; the mark of its end is left out."""
    if text.startswith("data: "):
        events = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
        return [json.loads(event) for event in events if event != "[DONE]"]
    return [json.loads(line) for line in text.splitlines()]


def words(piece: dict[str, Any]) -> str:
    if "choices" in piece:
        return "".join(choice["delta"].get("content", "") for choice in piece["choices"])
    if "message" in piece:
        return str(piece["message"]["content"])
    return str(piece["response"])


class TestBroken:
    """After the first token: an error in the client's own protocol, and no proper end."""

    @pytest.mark.parametrize(
        ("mode", "said"),
        [
            ("cut-mid-stream:3", ""),
            ("error-line:3", ""),
            ("no-done", "ended its answer without marking the end"),
            ("hang-mid-stream:3", "the host sent nothing for 0.2 s"),
        ],
    )
    async def test_a_stream_says_so_and_does_not_end_as_if_whole(
        self,
        router: Router,
        client: httpx.AsyncClient,
        simulator: Simulator,
        kind: str,
        mode: str,
        said: str,
    ) -> None:
        simulator.behaviour = Behaviour(mode=mode, tokens_per_second=100)
        other = ollama(f"http://127.0.0.1:{free_port()}", name="other")
        timeouts = Timeouts(total=10, stream_idle=0.2)
        router.publish(route(MODEL, target(kind, simulator), other, timeouts=timeouts))

        async def broken(path: str) -> None:
            # NB: the response itself is whole: read to its end, no error of the transport's.
            response = await client.post(path, json=body(path, stream=True))
            assert response.status_code == 200
            *answer, error = pieces(response.text)
            text = "".join(words(piece) for piece in answer)
            assert text
            assert SAID[kind].startswith(text)
            assert set(error) == {"error"}
            message = error["error"] if path.startswith("/api") else error["error"]["message"]
            assert message.startswith(f"the answer broke off: {kind}: ")
            assert said in message
            assert "[DONE]" not in response.text
            assert not any(piece.get("done") for piece in answer)
            # A switch would have begun a second answer in the first one's middle.
            assert response.headers["x-llm-attempts"] == "1"

        await asyncio.gather(*(broken(path) for path in PATHS))

    async def test_a_whole_answer_is_had_from_the_next_host(
        self,
        router: Router,
        client: httpx.AsyncClient,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        path: str,
    ) -> None:
        targets = target("mlx", mlx_simulator), target("ollama", ollama_simulator)
        timeouts = Timeouts(total=10, stream_idle=0.2)
        router.publish(route(MODEL, *targets, timeouts=timeouts))
        for mode in ("cut-mid-stream:3", "no-done", "hang-mid-stream:3"):
            mlx_simulator.behaviour = Behaviour(mode=mode, tokens_per_second=100)
            response = await client.post(path, json=body(path, stream=False))
            assert response.status_code == 200, response.text
            assert SAID["ollama"] in response.text
            assert "Simulated mlx" not in response.text
            assert response.headers["x-llm-attempts"] == "2"
            assert response.headers["x-llm-fallback-reason"] == "BrokenStream"

    async def test_a_whole_answer_that_nobody_ends_is_502(
        self, router: Router, client: httpx.AsyncClient, simulator: Simulator, kind: str, path: str
    ) -> None:
        simulator.behaviour = Behaviour(mode="cut-mid-stream:3")
        router.publish(route(MODEL, target(kind, simulator)))
        response = await client.post(path, json=body(path, stream=False))
        assert response.status_code == 502
        assert "Simulated" not in response.text


#: mode -> x-llm-fallback-reason.
BEFORE = {
    "hang-before-headers": "FirstTokenTimeout",
    "hang-mid-stream:0": "FirstTokenTimeout",
    "zombie": "FirstTokenTimeout",
    "status:503": "Busy",
    "status:500": "ServerError",
    "refuse-model": "ModelMissing",
    "close-without-response": "NoReply",
    "cut-mid-stream:0": "BrokenStream",
    "generation-died": "ServerError",
}


class TestBeforeTheFirstToken:
    @pytest.mark.parametrize(("mode", "reason"), BEFORE.items())
    async def test_ollama_answers_for_mlx_inside_the_one_deadline(
        self,
        router: Router,
        client: httpx.AsyncClient,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        mode: str,
        reason: str,
    ) -> None:
        targets = target("mlx", mlx_simulator), target("ollama", ollama_simulator)
        router.publish(route(MODEL, *targets, timeouts=Timeouts(total=0.8)))
        mlx_simulator.behaviour = Behaviour(mode=mode)

        async def answered(path: str, stream: bool) -> None:
            started = time.monotonic()
            response = await client.post(path, json=body(path, stream=stream))
            assert time.monotonic() - started < 0.8
            assert response.status_code == 200, response.text
            text = (
                "".join(words(piece) for piece in pieces(response.text))
                if stream
                else response.text
            )
            assert SAID["ollama"] in text
            assert response.headers["x-llm-backend-type"] == "ollama"
            assert response.headers["x-llm-upstream-model"] == MODEL
            assert response.headers["x-llm-attempts"] == "2"
            assert response.headers["x-llm-fallback-reason"] == reason

        async with asyncio.TaskGroup() as group:
            for path in PATHS:
                for stream in (True, False):
                    group.create_task(answered(path, stream))
        bodies = [one.body for one in mlx_simulator.requests if one.method == "POST"]
        assert {sent["model"] for sent in bodies if isinstance(sent, dict)} == {"default_model"}

    async def test_nobody_answers_is_504_at_the_deadline(
        self,
        router: Router,
        client: httpx.AsyncClient,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        path: str,
    ) -> None:
        for simulator in (ollama_simulator, mlx_simulator):
            simulator.behaviour = Behaviour(mode="hang-before-headers")
        targets = target("mlx", mlx_simulator), target("ollama", ollama_simulator)
        router.publish(route(MODEL, *targets, timeouts=Timeouts(total=0.4)))
        started = time.monotonic()
        response = await client.post(path, json=body(path))
        assert 0.4 <= time.monotonic() - started < 0.8
        assert response.status_code == 504
        assert response.headers["content-type"] == "application/json"
        error = response.json()["error"]
        message = error if path.startswith("/api") else error["message"]
        assert "was not answered within 0.4 s" in message
        for simulator in (ollama_simulator, mlx_simulator):
            ended = lambda s=simulator: asked(s, Outcome.CANCELLED) == 1  # noqa: E731
            await eventually_async(ended, within=1)


#: A simulator looks for its client every 50 ms; the router itself takes a few.
AT_ONCE = 0.2


class TestClientGone:
    @pytest.mark.parametrize("mode", ["hang-before-headers", "hang-mid-stream:0", "ok"])
    async def test_ends_the_generation_at_once(
        self, router: Router, simulator: Simulator, kind: str, mode: str
    ) -> None:
        simulator.behaviour = Behaviour(mode=mode, tokens=1000, tokens_per_second=50)
        router.publish(route(MODEL, target(kind, simulator)))
        every = [(path, body(path, stream=stream)) for path in PATHS for stream in (True, False)]
        begun = lambda: asked(simulator) == len(every)  # noqa: E731
        await asyncio.gather(*(abandoned(router, *one, when=begun) for one in every))
        ended = lambda: asked(simulator, Outcome.CANCELLED) == len(every)  # noqa: E731
        await eventually_async(ended, within=AT_ONCE, every=0.002)

    async def test_is_no_failure_of_the_host_and_no_request_to_the_next(
        self,
        router: Router,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="hang-before-headers")
        targets = target("mlx", mlx_simulator), target("ollama", ollama_simulator)
        router.publish(route("gone:1b", *targets))
        sent = body("/api/chat") | {"model": "gone:1b"}
        await abandoned(router, "/api/chat", sent, when=lambda: asked(mlx_simulator) == 1)
        gone = lambda: asked(mlx_simulator, Outcome.CANCELLED) == 1  # noqa: E731
        await eventually_async(gone, within=AT_ONCE)
        counted = (
            'llm_router_requests_total{front="ollama_chat",model="gone:1b",outcome="cancelled",'
            'target_type=""} 1.0'
        )
        await eventually_async(lambda: counted in router.metrics(), within=1)
        assert asked(ollama_simulator) == 0
        failures = [line for line in router.metrics().splitlines() if "attempt_failures" in line]
        assert not any("gone:1b" in line for line in failures)

    async def test_before_the_request_is_whole(self, router: Router) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
        writer.write(b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
        # The next one is served, and nothing was logged as a fault.
        assert router.status()["version"]
        assert not router.events("request_failed")


async def abandoned(
    router: Router, path: str, sent: dict[str, Any], *, when: Callable[[], bool]
) -> None:
    """Send a request and close the connection as soon as `when` is true, and a moment later."""
    raw = json.dumps(sent).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
    writer.write(head.encode() + raw)
    await eventually_async(when, within=2, every=0.002)
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    del reader


class Flood:
    """An Ollama that says more than anybody reads, as fast as it is let."""

    LINE = json.dumps({"message": {"role": "assistant", "content": "x" * 1000}, "done": False})

    def __init__(self) -> None:
        self.sent = 0
        self.closed = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = f"{self.LINE}\n".encode()
        chunk = b"%x\r\n%b\r\n" % (len(line), line)
        floods = False
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            floods = (await reader.readuntil(b"\r\n\r\n")).startswith(b"POST")
            if floods:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            else:
                # A probe of the router's.
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            while floods:
                writer.write(chunk * 16)
                await writer.drain()
                self.sent += len(chunk) * 16
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.closed = self.closed or floods


def resident(router: Router) -> int:
    """The router's memory, in bytes."""
    assert router.process is not None
    status = Path(f"/proc/{router.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_a_client_that_does_not_read_holds_the_host_back(
    router: Router, client: httpx.AsyncClient, ollama_simulator: Simulator, path: str
) -> None:
    flood = Flood()
    server = await asyncio.start_server(flood.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    router.publish(route(MODEL, ollama(url)), route("quick", target("ollama", ollama_simulator)))
    before = resident(router)
    raw = json.dumps(body(path, stream=True)).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port, limit=2**16)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
    writer.write(head.encode() + raw)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    seen: list[int] = []

    async def held() -> bool:
        # NB: the kernel's buffers fill first, some megabytes of them.
        seen.append(flood.sent)
        await asyncio.sleep(0.2)
        return flood.sent == seen[-1] > 0

    await eventually_async(held, within=10)
    assert resident(router) - before < 8 * 2**20
    stopped = flood.sent
    # Meanwhile all others are served.
    for other in PATHS:
        started = time.monotonic()
        quick = await client.post(other, json=body(other, stream=True) | {"model": "quick"})
        assert quick.status_code == 200
        assert time.monotonic() - started < 1
    assert flood.sent == stopped
    read = 0
    while read < stopped:
        read += len(await reader.read(2**20))
    await eventually_async(lambda: flood.sent > stopped, within=2)
    writer.transport.abort()
    await eventually_async(lambda: flood.closed, within=2)
    await unlisten(server)
    await server.wait_closed()


async def test_two_hundred_streams_at_once(
    router: Router,
    client: httpx.AsyncClient,
    ollama_simulator: Simulator,
    mlx_simulator: Simulator,
) -> None:
    for simulator in (ollama_simulator, mlx_simulator):
        simulator.behaviour = Behaviour(ttft_ms=200, tokens=10, tokens_per_second=10)
    router.publish(
        route("phi3:mini", target("ollama", ollama_simulator)),
        route("fast", target("mlx", mlx_simulator)),
    )
    paths = list(PATHS)

    async def one(number: int) -> tuple[int, str]:
        path = paths[number % 4]
        model = ("phi3:mini", "fast")[number // 4 % 2]
        text = f"number {number}"
        sent = body(path, stream=True) | {"model": model}
        sent |= (
            {"prompt": text}
            if "prompt" in sent
            else {"messages": [{"role": "user", "content": text}]}
        )
        response = await client.post(path, json=sent)
        return response.status_code, "".join(words(piece) for piece in pieces(response.text))

    started = time.monotonic()
    answers = await asyncio.gather(*(one(number) for number in range(200)))
    # NB: one after the other they would take four minutes.
    assert time.monotonic() - started < 15
    for number, (status, text) in enumerate(answers):
        assert status == 200
        assert f": number {number} t" in text
    counts = [asked(one, Outcome.ANSWERED) for one in (ollama_simulator, mlx_simulator)]
    assert counts == [100, 100]
    value = [
        line
        for line in router.metrics().splitlines()
        if line.startswith("llm_router_active_requests ")
    ][-1]
    assert value == "llm_router_active_requests 0.0"


async def test_a_body_over_the_limit_is_told_while_it_is_sent(
    router: Router, client: httpx.AsyncClient, path: str
) -> None:
    router.publish()
    large = b'{"model":"x","prompt":"' + b"a" * (33 * 2**20) + b'"}'
    response = await client.post(path, content=large)
    assert response.status_code == 413
    assert "33554432 bytes" in response.text
    # The connection, or a new one, serves the next request.
    assert (await client.post(path, json=body(path))).status_code == 404


@pytest.mark.check(40)
async def test_a_configuration_that_changes_under_load_loses_no_request(
    router: Router,
    client: httpx.AsyncClient,
    ollama_simulator: Simulator,
    mlx_simulator: Simulator,
) -> None:
    choices = target("ollama", ollama_simulator), target("mlx", mlx_simulator)
    router.publish(route(MODEL, choices[0]))
    ended = asyncio.Event()
    seen: set[str] = set()

    async def ask() -> int:
        count = 0
        while not ended.is_set():
            for path in PATHS:
                response = await client.post(path, json=body(path, stream=count % 2 == 0))
                assert response.status_code == 200, response.text
                seen.add(response.headers["x-llm-backend-type"])
                count += 1
        return count

    async def swap() -> None:
        for number in range(20):
            await asyncio.to_thread(router.publish, route(MODEL, choices[number % 2]))
        ended.set()

    work: list[Awaitable[int]] = [ask() for _ in range(8)]
    *counts, _ = await asyncio.gather(*work, swap())
    assert sum(counts) > 50
    assert seen == {"ollama", "mlx"}
