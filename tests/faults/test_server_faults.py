"""The server against clients that leave, stall, flood and lie: each has its end, none leaks."""

import asyncio
import contextlib
import gc
import inspect
import json
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from llm_router.errors import Code
from llm_router.server import Call, Limits, Server
from llm_router.server import connection as connection_module
from llm_router.server import server as server_module
from llm_router.server.connection import Connection
from llm_router.server.reader import Reader

TEXT = ((b"content-type", b"text/plain"),)
GET = b"GET / HTTP/1.1\r\nHost: router\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"

Handler = Callable[[Call], Awaitable[None]]


def post(length: int, *lines: bytes, path: bytes = b"/") -> bytes:
    more = b"".join(line + b"\r\n" for line in lines)
    return (
        b"POST %b HTTP/1.1\r\nHost: router\r\n" % path
        + more
        + b"Content-Length: %d\r\n\r\n" % length
    )


async def echo(call: Call) -> None:
    call.respond(200, headers=TEXT, body=call.path.encode() + call.body)


@dataclass
class Client:
    """One raw connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> tuple[int, bytes]:
        """One whole answer with a length."""
        head = await self.head()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        async with asyncio.timeout(5):
            return int(head.split(b" ")[1]), await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """All until the server closes."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class Stage:
    """A server that runs, and its clients."""

    server: Server
    port: int
    calls: list[Call] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def until(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not seen():  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def called(self, count: int = 1) -> Call:
        await self.until(lambda: len(self.calls) >= count)
        return self.calls[count - 1]


Serve = Callable[..., Awaitable[Stage]]


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Serve]:
    """Starts servers; at the end each must have nothing left."""
    stages: list[Stage] = []

    async def start(handle: Handler = echo, **limits: float) -> Stage:
        async def noted(call: Call) -> None:
            stage.calls.append(call)
            await handle(call)

        server = Server(noted, Limits(**{"max_body": 1 << 20, **limits}))  # type: ignore[arg-type]
        listener = socket.create_server(("127.0.0.1", 0))
        stage = Stage(server, listener.getsockname()[1])
        await server.start(listener)
        stages.append(stage)
        return stage

    yield start
    for stage in stages:
        for client in stage.clients:
            client.writer.close()
        await stage.server.drain(1)
        assert not stage.server._connections
        assert not stage.server.active
        assert stage.server.watch._timer is None
        for client in stage.clients:
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "llm_router" in repr(task.get_coro())]


def on_each_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Makes a test run on each kind of loop; it gets `serve`, and fixtures by name."""

    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **given: Any) -> None:
        async def main() -> None:
            async with asyncio.timeout(60), serving() as serve:
                await test(serve, **given)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
        gc.collect()  # NB: what was not closed warns now, and a warning is an error

    _, *others = inspect.signature(test).parameters.values()
    loop = inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([loop, *others])  # type: ignore[attr-defined]
    run.__name__ = test.__name__
    kinds = [uvloop.new_event_loop, asyncio.new_event_loop]
    return pytest.mark.parametrize("new_loop", kinds, ids=["uvloop", "asyncio"])(run)


class Flow:
    """A handler that streams until the client leaves or `limit` is written."""

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.written = 0
        self.stops = 0
        self.ended: BaseException | None = None

    async def __call__(self, call: Call) -> None:
        call.begin(200, headers=TEXT)
        free = asyncio.Event()
        call.on_resume = free.set
        try:
            while self.written < self.limit:
                self.written += 16384
                if not call.write(b"x" * 16384):
                    self.stops += 1
                    free.clear()
                    await free.wait()
                else:
                    await asyncio.sleep(0)
        except BaseException as error:
            self.ended = error
            raise
        call.end(b"end")


class Waits:
    """A handler that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, call: Call) -> None:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        call.respond(200, headers=TEXT, body=call.path.encode())


@on_each_loop
async def test_a_connection_serves_request_after_request(serve: Serve) -> None:
    stage = await serve()
    client = await stage.connect()
    for number in range(5):
        client.say(post(2, path=b"/%d" % number) + b"hi")
        assert await client.answer() == (200, b"/%dhi" % number)


@on_each_loop
async def test_requests_that_come_together_are_answered_in_order(serve: Serve) -> None:
    stage = await serve()
    client = await stage.connect()
    count = 4000  # about 240 KiB, more than is kept unread
    client.say(b"".join(post(1, path=b"/%d" % n) + b"!" for n in range(count)))
    for number in range(count):
        assert await client.answer() == (200, b"/%d!" % number)


@on_each_loop
async def test_one_connection_has_one_request_answered_at_a_time(serve: Serve) -> None:
    handler = Waits()
    stage = await serve(handler)
    client = await stage.connect()
    client.say(GET * 3)
    await stage.called()
    await asyncio.sleep(0.02)
    assert (len(stage.calls), stage.server.active) == (1, 1)
    handler.go.set()
    for _ in range(3):
        assert await client.answer() == (200, b"/")


@on_each_loop
async def test_bad_bytes_after_a_request_are_refused_after_its_answer(serve: Serve) -> None:
    stage = await serve()
    client = await stage.connect()
    client.say(GET + b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")
    assert await client.answer() == (200, b"/")
    status, body = await client.answer()
    assert status == 400
    assert "HTTP/1.1" in json.loads(body)["error"]
    assert await client.rest() == b""


@pytest.mark.parametrize("leave", ["close", "half-close", "reset"])
@on_each_loop
async def test_a_client_that_leaves_stops_the_handler(serve: Serve, leave: str) -> None:
    handler = Waits()
    stage = await serve(handler)
    client = await stage.connect()
    client.say(GET)
    call = await stage.called()
    started = asyncio.get_running_loop().time()
    if leave == "reset":
        client.reset()
    elif leave == "close":
        client.writer.close()
    else:
        client.writer.write_eof()
    await stage.until(lambda: call.gone and handler.cancelled == 1 and not stage.server.active)
    assert asyncio.get_running_loop().time() - started < 0.1
    await stage.until(lambda: not stage.server._connections)


@on_each_loop
async def test_a_client_that_leaves_at_once_has_no_handler_started(serve: Serve) -> None:
    stage = await serve(Waits())
    for _ in range(20):
        client = await stage.connect()
        client.say(GET * 2)
        client.reset()
    await stage.until(lambda: not stage.server._connections and not stage.server.active)


@on_each_loop
async def test_a_client_that_leaves_inside_a_stream_stops_it(serve: Serve) -> None:
    flow = Flow()
    stage = await serve(flow)
    client = await stage.connect()
    client.say(GET)
    await client.head()
    client.reset()
    await stage.until(lambda: isinstance(flow.ended, asyncio.CancelledError))
    assert stage.calls[0].gone


@on_each_loop
async def test_a_client_that_leaves_after_its_answer_cancels_nothing(serve: Serve) -> None:
    left, done = asyncio.Event(), asyncio.Event()

    async def handle(call: Call) -> None:
        call.respond(200, headers=TEXT, body=b"")
        await left.wait()
        done.set()

    stage = await serve(handle)
    client = await stage.connect()
    client.say(GET)
    assert await client.answer() == (200, b"")
    client.reset()
    await stage.until(lambda: not stage.server._connections)
    left.set()
    async with asyncio.timeout(1):
        await done.wait()
    assert not stage.calls[0].gone


@on_each_loop
async def test_a_client_that_reads_slowly_holds_little_memory_and_gets_all(serve: Serve) -> None:
    flow = Flow(limit=32 << 20)
    stage = await serve(flow)
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port, limit=1024)
    stage.clients.append(Client(reader, writer))
    writer.write(OLD)
    await stage.until(lambda: flow.stops > 0)
    stopped = flow.written
    [connection] = stage.server._connections
    assert connection._transport.get_write_buffer_size() < 2 * connection_module.HIGH_WATER
    await asyncio.sleep(0.05)
    assert flow.written == stopped
    size = 0
    async with asyncio.timeout(20):
        while piece := await reader.read(1 << 20):
            size += len(piece)
    assert size > 32 << 20


@on_each_loop
async def test_a_client_that_stops_reading_is_cut_off(serve: Serve) -> None:
    flow = Flow()
    stage = await serve(flow, stall_seconds=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port, limit=1024)
    stage.clients.append(Client(reader, writer))
    writer.write(GET)
    await stage.until(lambda: isinstance(flow.ended, asyncio.CancelledError))
    assert stage.calls[0].gone
    await stage.until(lambda: not stage.server._connections)


@on_each_loop
async def test_a_client_that_never_reads_a_whole_answer_is_cut_off(serve: Serve) -> None:
    async def handle(call: Call) -> None:
        call.respond(200, headers=TEXT, body=b"x" * (32 << 20))

    stage = await serve(handle, stall_seconds=0.2)
    for request in (GET, OLD, GET * 3):
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port, limit=1024)
        stage.clients.append(Client(reader, writer))
        writer.write(request)
    await stage.called(3)
    await stage.until(lambda: not stage.server._connections)
    assert len(stage.calls) == 3  # and nobody is answered again who has not read


@pytest.mark.parametrize(
    ("sent", "status", "word"),
    [
        (b"GET / HTTP/1.1\r\nHost: rou", 408, "head"),
        (b"G", 408, "head"),
        (post(5) + b"he", 408, "body"),
    ],
)
@on_each_loop
async def test_a_request_that_never_ends_is_refused(
    serve: Serve, sent: bytes, status: int, word: str
) -> None:
    stage = await serve(head_seconds=0.1, body_seconds=0.1, keep_alive_seconds=30)
    client = await stage.connect()
    client.say(sent)
    found, body = await client.answer()
    assert found == status
    assert word in json.loads(body)["error"]
    assert await client.rest() == b""
    assert not stage.calls


@on_each_loop
async def test_bytes_that_trickle_in_do_not_move_the_deadline(serve: Serve) -> None:
    stage = await serve(head_seconds=0.2)
    client = await stage.connect()
    client.say(b"GET / HTTP/1.1\r\n")
    started = asyncio.get_running_loop().time()
    answer = asyncio.ensure_future(client.answer())
    while not answer.done():
        client.say(b"X: y\r\n")
        await asyncio.sleep(0.01)
    assert (await answer)[0] == 408
    assert asyncio.get_running_loop().time() - started < 1


@on_each_loop
async def test_a_silent_connection_is_closed(serve: Serve) -> None:
    stage = await serve(keep_alive_seconds=0.1)
    silent, served = await stage.connect(), await stage.connect()
    served.say(GET)
    assert await served.answer() == (200, b"/")
    assert await silent.rest() == b""
    assert await served.rest() == b""


@on_each_loop
async def test_a_request_that_is_answered_has_no_deadline(serve: Serve) -> None:
    handler = Waits()
    limits = dict.fromkeys(
        ("keep_alive_seconds", "head_seconds", "body_seconds", "stall_seconds"), 0.1
    )
    stage = await serve(handler, **limits)
    client = await stage.connect()
    client.say(GET)
    await stage.called()
    await asyncio.sleep(0.4)
    handler.go.set()
    assert await client.answer() == (200, b"/")


@on_each_loop
async def test_a_body_is_asked_for_when_the_client_waits(serve: Serve) -> None:
    stage = await serve(max_body=10)
    client = await stage.connect()
    client.say(post(5, b"Expect: 100-continue"))
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.say(b"hello" + post(2, b"Expect: 100-continue"))
    assert await client.answer() == (200, b"/hello")
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.say(b"hi")
    assert await client.answer() == (200, b"/hi")
    client.say(post(11, b"Expect: 100-continue"))
    assert (await client.answer())[0] == 200  # the handler's answer, without a 100 before it
    assert stage.calls[-1].refusal is not None


async def refused(call: Call) -> None:
    problem = call.refusal
    if problem is None:
        await asyncio.sleep(0.05)
        call.respond(200, headers=TEXT, body=b"")
    else:
        retry = [(b"retry-after", problem.retry_after.encode())] if problem.retry_after else []
        call.respond(problem.status, headers=[*TEXT, *retry], body=problem.message.encode())


@pytest.mark.parametrize("chunked", [False, True])
@on_each_loop
async def test_a_client_can_read_why_its_body_was_too_large(serve: Serve, chunked: bool) -> None:
    stage = await serve(refused, max_body=1000)
    client = await stage.connect()
    flood = b"x" * (4 << 20)
    if chunked:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.say(head + b"%x\r\n" % len(flood) + flood)
    else:
        client.say(post(len(flood)) + flood)
    status, body = await client.answer()
    assert status == 413
    assert b"1000" in body
    assert await client.rest() == b""
    assert stage.calls[0].refusal is not None
    assert stage.calls[0].refusal.code is Code.TOO_LARGE


@on_each_loop
async def test_a_client_that_never_stops_sending_is_left(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LINGER_SECONDS", 0.1)
    stage = await serve(refused, max_body=1000)
    client = await stage.connect()
    client.say(post(1 << 30))
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(5):
            while True:
                client.say(b"x" * 65536)
                await client.writer.drain()
                await asyncio.sleep(0.001)
    await stage.until(lambda: not stage.server._connections)


@on_each_loop
async def test_more_requests_than_may_be_answered_are_refused(serve: Serve) -> None:
    stage = await serve(refused, max_active=2)
    clients = [await stage.connect() for _ in range(3)]
    for client in clients:
        client.say(post(2) + b"hi")
    statuses = sorted([(await client.answer())[0] for client in clients])
    assert statuses == [200, 200, 503]
    [problem] = [call.refusal for call in stage.calls if call.refusal]
    assert (problem.code, problem.retry_after) == (Code.OVERLOADED, "1")
    clients[0].say(GET)
    assert (await clients[0].answer())[0] == 200


@pytest.mark.parametrize(
    ("started", "request_bytes"), [(False, GET), (True, GET), (True, OLD)], ids=str
)
@pytest.mark.parametrize("raises", [True, False])
@on_each_loop
async def test_a_handler_that_does_not_answer_never_looks_like_one_that_did(
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    started: bool,
    request_bytes: bytes,
    raises: bool,
) -> None:
    async def handle(call: Call) -> None:
        if started:
            call.begin(200, headers=TEXT)
            call.write(b"part")
            await asyncio.sleep(0.02)
        if raises:
            raise LookupError

    stage = await serve(handle)
    client = await stage.connect()
    client.say(request_bytes)
    if not started:
        assert (await client.answer())[0] == 500
    elif request_bytes == GET:
        assert b"\r\n0\r\n\r\n" not in await client.rest()
    else:
        with pytest.raises(ConnectionResetError):
            await client.rest()
    assert [record.message for record in caplog.records] == ["handler_failed"] * raises


@on_each_loop
async def test_an_idle_connection_is_closed_by_a_drain_at_once(serve: Serve) -> None:
    stage = await serve()
    silent, served = await stage.connect(), await stage.connect()
    served.say(GET)
    assert await served.answer() == (200, b"/")
    await stage.until(lambda: len(stage.server._connections) == 2)
    async with asyncio.timeout(1):
        await stage.server.drain(30)
    assert await silent.rest() == b""
    assert await served.rest() == b""
    with pytest.raises(ConnectionError):
        await stage.connect()


@on_each_loop
async def test_a_drain_waits_for_requests_that_have_begun(serve: Serve) -> None:
    handler = Waits()
    stage = await serve(handler)
    asked, half = await stage.connect(), await stage.connect()
    asked.say(GET)
    half.say(GET[:10])
    await stage.called()
    await stage.until(lambda: len(stage.server._connections) == 2)
    drain = asyncio.ensure_future(stage.server.drain(30))
    await asyncio.sleep(0.02)
    half.say(GET[10:])
    await stage.called(2)
    handler.go.set()
    for client in (asked, half):
        said = await client.rest()
        assert b"connection: close" in said
        assert said.endswith(b"\r\n\r\n/")
    async with asyncio.timeout(1):
        await drain


@on_each_loop
async def test_a_drain_cancels_what_takes_too_long(serve: Serve) -> None:
    async def handle(call: Call) -> None:
        if call.path == "/stream":
            call.begin(200, headers=TEXT)
            call.write(b"part")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            assert not call.gone
            if call.path == "/silent":
                raise
            if call.started:
                call.end(b"error")
            else:
                call.respond(503, headers=TEXT, body=b"later")

    stage = await serve(handle)
    said = {}
    clients = {path: await stage.connect() for path in (b"/stream", b"/whole", b"/silent")}
    for path, client in clients.items():
        client.say(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
    await stage.called(3)
    async with asyncio.timeout(1):
        await stage.server.drain(0.05)
    for path, client in clients.items():
        said[path] = await client.rest()
    assert said[b"/stream"].endswith(b"5\r\nerror\r\n0\r\n\r\n")
    assert said[b"/whole"].startswith(b"HTTP/1.1 503")
    assert said[b"/whole"].endswith(b"later")
    assert said[b"/silent"].startswith(b"HTTP/1.1 503")


@on_each_loop
async def test_a_drain_ends_whatever_handlers_do(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "GRACE_SECONDS", 0.1)
    release = asyncio.Event()

    async def stubborn(call: Call) -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    stage = await serve(stubborn)
    client = await stage.connect()
    client.say(GET)
    await stage.called()
    async with asyncio.timeout(2):
        await stage.server.drain(0.05)
    assert [record.message for record in caplog.records] == ["drain_incomplete"]
    with pytest.raises(ConnectionResetError):
        await client.rest()
    release.set()
    await stage.until(lambda: not stage.server.active)


def scrambled(source: random.Random) -> bytes:
    """Some requests, perhaps cut off, perhaps with noise inside."""
    sizes = source.choices(range(320), k=source.randint(1, 5))
    data = b"".join(post(size) + b"x" * size for size in sizes)
    if source.random() < 0.3:
        data = data[: source.randrange(len(data))]
    if source.random() < 0.3:
        at = source.randrange(len(data) + 1)
        data = data[:at] + source.randbytes(3) + data[at:]
    return data


async def misbehave(client: Client, source: random.Random) -> None:
    data = scrambled(source)
    with contextlib.suppress(ConnectionError):
        while data:
            size = source.randint(1, 400)
            client.say(data[:size])
            data = data[size:]
            if source.random() < 0.5:
                await client.writer.drain()
                await asyncio.sleep(0)
        if source.random() < 0.5:
            client.writer.write_eof()
    if source.random() < 0.3:
        client.reset()
        return
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(0.05):
            await client.reader.read()
    client.writer.close()


@on_each_loop
async def test_clients_that_do_anything_leave_nothing_behind(serve: Serve) -> None:
    async def handle(call: Call) -> None:
        if len(call.body) % 2:
            call.begin(200, headers=TEXT)
            for _ in range(3):
                call.write(b"piece")
                await asyncio.sleep(0)
            call.end()
        else:
            await echo(call)

    stage = await serve(handle, max_body=300)
    source = random.Random(5)

    for _ in range(10):
        clients = [await stage.connect() for _ in range(20)]
        await asyncio.gather(*(misbehave(client, source) for client in clients))
    await stage.until(lambda: not stage.server._connections and not stage.server.active)
    await stage.until(lambda: stage.server.watch._timer is None)
    client = await stage.connect()
    client.say(GET)
    assert await client.answer() == (200, b"/")


@on_each_loop
async def test_connections_that_are_over_need_no_collector(serve: Serve) -> None:
    stage = await serve(refused, max_body=10)
    gc.collect()
    gc.disable()
    try:
        for data in (GET, GET * 3, GET[:9], post(11), post(9), b"what\r\n", b""):
            client = await stage.connect()
            client.say(data)
            await client.writer.drain()
            await asyncio.sleep(0.1)
            client.writer.close()
        await stage.until(lambda: not stage.server._connections and not stage.server.active)
        stage.calls.clear()
        await asyncio.sleep(0.01)
        left = [
            thing for thing in gc.get_objects() if isinstance(thing, Connection | Reader | Call)
        ]
    finally:
        gc.enable()
    assert not left
