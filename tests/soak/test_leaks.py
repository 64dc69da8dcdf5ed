"""Many requests and many cancelled streams: the router's memory stays flat and nothing is left.

Recording is part of it: the access log is written and a receiver of usage records counts them.
Memory is compared between the end and the first tenth, by when pools, buffers and the allocator's
arenas have grown to their size. Those still move by one to four MiB; the tolerance is three times
that in a long run, which is 14 bytes a request, and a forgotten request is a kilobyte.
"""

import asyncio
import gc
import json
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from llm_contract import Target, TargetType, Timeouts
from llm_operator.simulate.server import unlisten
from llm_router.account import Account
from llm_router.ask import Live, Request
from llm_router.relay import Relay
from llm_router.server import Call
from llm_router.serving import Serving
from llm_router.transport import Reply
from parts import process
from parts.eventually import eventually_async
from parts.held import Held
from parts.load import Clients, percentile, post
from parts.process import Process, free_port
from parts.router import DataPort, Router, route

ROOT = Path(__file__).resolve().parents[2]
CLOSED_LOOP = ROOT / "tests" / "parts" / "closed_loop.py"
UPSTREAM_MODEL = "bench-static"
CONNECTIONS = 32

#: Bytes that memory may differ by, between the first tenth and the end of a short and a long run.
SHORT, LONG = 6 * 2**20, 12 * 2**20

#: Files that delivery may have open or not: its connection, and the segment it writes.
DELIVERY = 2

#: Seconds in which an upstream must see that a client has gone: as promised, and where other tests
#: run beside this one.
PROMISED, BUSY = 0.1, 1.0


def targets(url: str) -> tuple[Target, Target]:
    """The same server as an Ollama and as an OpenAI server."""
    made = Target(name="ollama", type=TargetType.OLLAMA, url=url, model=UPSTREAM_MODEL)
    return made, replace(made, name="openai", type=TargetType.OPENAI)


def chat(path: str, model: str, text: str = "hi", *, stream: bool) -> bytes:
    turns = [{"role": "user", "content": text}]
    body = {"model": model, "messages": turns, "stream": stream}
    return post(path, json.dumps(body).encode())


PATHS = ("/v1/chat/completions", "/api/chat")

#: Each front on each type of target, whole and streamed.
KINDS = [
    (path, model, stream)
    for stream in (False, True)
    for path in PATHS
    for model in ("on-ollama", "on-openai")
]


def routes(url: str) -> list[Any]:
    of_ollama, of_openai = targets(url)
    timeouts = Timeouts(total=30)
    return [
        route("on-ollama", of_ollama, timeouts=timeouts),
        route("on-openai", of_openai, timeouts=timeouts),
    ]


@dataclass(slots=True)
class Receiver:
    """Takes usage records and counts each once, however often it comes.

    Attributes:
        outcomes: of the records, by their id.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.open.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                (length,) = re.findall(rb"(?i)content-length: *(\d+)", head)
                for record in orjson.loads(await reader.readexactly(int(length)))["records"]:
                    self.outcomes[record["request_id"]] = sys.intern(record["outcome"])
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    def count(self) -> Counter[str]:
        return Counter(self.outcomes.values())


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    """A receiver and its address."""
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/usage"
    await unlisten(server)
    for writer in made.open:
        writer.transport.abort()
    await eventually_async(lambda: not made.open, within=5)


@pytest.fixture
def stub(tmp_path: Path) -> Any:
    """The bench's upstream, which costs next to nothing."""
    port = free_port()
    command = [sys.executable, "-m", "bench.stub", str(port), UPSTREAM_MODEL]
    running = process.start(command, log=tmp_path / "stub.log", cwd=ROOT)
    yield f"http://127.0.0.1:{port}"
    running.kill()


async def started(
    make_router: Callable[..., Router], usage_url: str, folder: Path, *, upstream: str
) -> Router:
    router = make_router(USAGE_URL=usage_url, USAGE_SPOOL=str(folder / "spool"), ACCESS_LOG="true")
    await asyncio.to_thread(router.start)
    await asyncio.to_thread(router.publish, *routes(upstream))
    return router


async def ask(router: Router, requests: int, log: Path) -> float:
    """Send so many requests; the seconds it took. Each is answered rightly."""
    raw = [chat(path, model, stream=stream).decode() for path, model, stream in KINDS]
    spec = {"port": router.port, "connections": CONNECTIONS, "requests": requests, "raw": raw}
    running = process.start([sys.executable, CLOSED_LOOP, json.dumps(spec)], log=log)
    try:
        await eventually_async(lambda: over(running, router), within=2000, every=0.2)
        told = json.loads(running.tail(characters=100_000))
    finally:
        running.kill()
    os.truncate(log, 0)
    assert not told["bad"]
    assert told["answered"] == requests
    return float(told["seconds"])


def over(running: Process, router: Router) -> bool:
    log = router.folder / "router.log"
    if log.stat().st_size > 256 * 2**20:
        # NB: a million lines are most of a gigabyte; the router adds to the end, wherever it is.
        os.truncate(log, 0)
    return not running.running


async def test_requests_leave_nothing(
    make_router: Callable[..., Router],
    receiver: tuple[Receiver, str],
    stub: str,
    tmp_path: Path,
    long: bool,
    figures: Callable[[str], None],
) -> None:
    requests = 1_000_000 if long else 20_000
    usage, usage_url = receiver
    router = await started(make_router, usage_url, tmp_path, upstream=stub)
    before = await asyncio.to_thread(Held.of, router)
    tenth = requests // 10
    await ask(router, tenth, tmp_path / "load.log")
    await eventually_async(lambda: len(usage.outcomes) == tenth, within=30)
    first = await asyncio.to_thread(Held.of, router)
    seconds = await ask(router, requests - tenth, tmp_path / "load.log")
    await eventually_async(lambda: len(usage.outcomes) >= requests, within=120 if long else 20)
    last = await asyncio.to_thread(Held.of, router)
    figures(
        f"{requests} requests, {(requests - tenth) / seconds:.0f} a second; memory "
        f"{before.memory / 2**20:.1f} MiB at rest, {first.memory / 2**20:.1f} after a tenth, "
        f"{last.memory / 2**20:.1f} at the end; {len(usage.outcomes)} usage records"
    )
    assert usage.count() == {"ok": requests}
    assert last.memory - first.memory < (LONG if long else SHORT)
    ended = lambda: Held.of(router).nothing_beyond(before, spare=DELIVERY)  # noqa: E731
    await eventually_async(lambda: asyncio.to_thread(ended), within=10)
    if not long:
        assert len(router.events("request")) == requests


TOKENS = {
    b"/v1": b'data: {"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n',
    b"/api": b'{"message":{"role":"assistant","content":"word "},"done":false}\n',
}
NUMBER = re.compile(rb"number (\d+)\.")


class Endless(asyncio.Protocol):
    """A host that is a tenth of a second silent and then never stops: 50 tokens a second."""

    def __init__(self, began: dict[int, float], lost: dict[int, float]) -> None:
        self._began = began
        self._lost = lost
        self._number = -1
        self._data = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._data.startswith(b"GET"):
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            self._data = b""
        elif self._timer is None and (found := NUMBER.search(self._data)):
            self._number = int(found[1])
            self._began[self._number] = time.monotonic()
            token = TOKENS[b"/v1" if self._data.startswith(b"POST /v1") else b"/api"]
            self._chunk = b"%x\r\n%b\r\n" % (len(token), token)
            self._head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            self._later(0.1)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._lost[self._number] = time.monotonic()

    def _later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._token)

    def _token(self) -> None:
        self._transport.write(self._head + self._chunk)
        self._head = b""
        self._later(0.02)


@dataclass(slots=True)
class Leavers:
    """Clients that go away at a random moment, each numbered.

    Attributes:
        began: when the host got the request.
        left: when its client closed.
        lost: when the host saw its connection end.
    """

    url: str
    began: dict[int, float]
    lost: dict[int, float]
    left: dict[int, float] = field(default_factory=dict)

    async def leave(self, port: int, numbers: range) -> None:
        """All of these, 25 at a time."""
        waiting = iter(numbers)

        async def some() -> None:
            for number in waiting:
                await self._one(port, number)

        await asyncio.gather(*(some() for _ in range(25)))

    async def _one(self, port: int, number: int) -> None:
        path, model, stream = KINDS[number % len(KINDS)]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(chat(path, model, f"number {number}.", stream=stream))
        # NB: half before the first token, half in the middle of the stream or the whole answer.
        await asyncio.sleep(random.uniform(0.005, 0.2))
        self.left[number] = time.monotonic()
        if number % 2:
            writer.transport.abort()
        else:
            writer.close()

    def open(self) -> int:
        """Requests that the host still answers."""
        return len(self.began.keys() - self.lost.keys())

    def closing(self) -> list[float]:
        """Seconds from each client's leaving until its host saw it."""
        return [max(self.lost[number] - self.left[number], 0.0) for number in self.began]


@asynccontextmanager
async def endless() -> AsyncIterator[Leavers]:
    began: dict[int, float] = {}
    lost: dict[int, float] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Endless(began, lost), "127.0.0.1", 0)
    try:
        yield Leavers(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", began, lost)
    finally:
        await unlisten(server)


async def test_cancelled_streams_leave_nothing(
    make_router: Callable[..., Router],
    receiver: tuple[Receiver, str],
    tmp_path: Path,
    long: bool,
    figures: Callable[[str], None],
) -> None:
    streams = 10_000 if long else 300
    usage, usage_url = receiver
    async with endless() as leavers:
        router = await started(make_router, usage_url, tmp_path, upstream=leavers.url)
        before = await asyncio.to_thread(Held.of, router)
        tenth = streams // 10
        await leavers.leave(router.port, range(tenth))
        first = await asyncio.to_thread(Held.of, router)
        begun = time.monotonic()
        await leavers.leave(router.port, range(tenth, streams))
        seconds = time.monotonic() - begun
        await eventually_async(lambda: leavers.open() == 0, within=5)
        last = await asyncio.to_thread(Held.of, router)
        ended = lambda: Held.of(router).nothing_beyond(before, spare=DELIVERY)  # noqa: E731
        await eventually_async(lambda: asyncio.to_thread(ended), within=10)
        closing, seen = leavers.closing(), len(leavers.began)
        figures(
            f"{streams} clients left, {(streams - tenth) / seconds:.0f} a second; {seen} hosts saw "
            f"it, p50 {percentile(closing, 0.5) * 1e3:.1f} ms, p99 "
            f"{percentile(closing, 0.99) * 1e3:.1f} ms, longest {max(closing) * 1e3:.1f} ms; "
            f"memory {first.memory / 2**20:.1f} MiB after a tenth, "
            f"{last.memory / 2**20:.1f} at the end"
        )
        # A client that leaves before its request has reached anybody is not seen.
        assert seen > streams / 2
        assert percentile(closing, 0.99) < (PROMISED if long else BUSY)
        assert last.memory - first.memory < (LONG if long else SHORT)
        # Every one is in the books, as what it was.
        await eventually_async(lambda: len(usage.outcomes) >= seen, within=20)
        assert set(usage.count()) == {"cancelled"}
        assert len(usage.outcomes) <= streams


async def test_a_loop_has_no_task_and_no_timer_left(data_port: DataPort, stub: str) -> None:
    port = int(data_port.url.rpartition(":")[2])
    loop: Any = asyncio.get_running_loop()

    def timers() -> int:
        return sum(not timer.cancelled() for timer in loop._scheduled)

    tasks, scheduled, living = len(asyncio.all_tasks()), timers(), objects()
    async with endless() as leavers:
        for url in (stub, leavers.url):
            data_port.publish(*routes(url))
            if url == stub:
                await answered(port, 400)
            else:
                await leavers.leave(port, range(200))
                await eventually_async(lambda: leavers.open() == 0, within=5)
        # NB: kept connections have one timer in all, the last look at deadlines another.
        await eventually_async(lambda: timers() <= scheduled + 2, within=5)
        await eventually_async(lambda: len(asyncio.all_tasks()) <= tasks, within=5)
    counts = data_port.pool.counts()
    assert counts.open == counts.idle
    assert len(data_port.records()) >= 400
    left = objects() - living
    # NB: a kept connection may hold the last reply it had.
    assert all(count <= counts.open + 1 for count in left.values()), left


async def answered(port: int, requests: int) -> None:
    """Send so many requests, twenty at a time, each answered."""
    kinds = [chat(path, model, stream=stream) for path, model, stream in KINDS]
    async with Clients(port) as clients:
        for _ in range(requests // 20):
            replies = await asyncio.gather(*(clients.ask(kinds[n % len(kinds)]) for n in range(20)))
            assert all(reply.whole and reply.status == 200 for reply in replies)


def objects() -> Counter[str]:
    """What a request is made of, as far as it lives."""
    gc.collect()
    parts = {Account, Call, Live, Relay, Reply, Request, Serving}
    kinds = (type(each) for each in gc.get_objects())
    return Counter(kind.__name__ for kind in kinds if kind in parts)
