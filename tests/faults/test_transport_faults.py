"""The pool against servers that fail to the byte: each failure has a name, none leaks anything."""

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import ssl
import stat
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme
import uvloop

from llm_router.transport import (
    BadReply,
    ConnectFailed,
    Cut,
    NoReply,
    Origin,
    Pool,
    Reply,
    TimedOut,
    TransportError,
    dial,
)
from llm_router.transport import pool as pool_module
from llm_router.transport.connection import Connection

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """One whole request; empty when the client left instead."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await self.reader.readexactly(length)

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def gone(self) -> None:
        """Returns when the client has closed."""
        while True:
            try:
                if not await self.reader.read(65_536):
                    return
            except ConnectionError:
                return

    def hang_up(self) -> None:
        """Closes after what was said."""
        self.writer.close()

    def finish(self) -> None:
        """Sends FIN beneath whatever lies on top."""
        # NB: uvloop's own socket object can't do this.
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as sock:
            sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Closes with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Server:
    """Plays the next script on each connection, the last one on all that follow."""

    scripts: list[Script]
    port: int = 0
    accepted: int = 0
    ended: asyncio.Queue[BaseException | None] = field(default_factory=asyncio.Queue)

    def origin(self, scheme: str = "http", host: str = "127.0.0.1") -> Origin:
        return Origin.parse(f"{scheme}://{host}:{self.port}")

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.scripts[min(self.accepted, len(self.scripts) - 1)]
        self.accepted += 1
        problem = None
        try:
            await script(Peer(reader, writer))
        except Exception as error:
            problem = error
        writer.close()
        self.ended.put_nowait(problem)

    async def end(self) -> None:
        """Waits for one script to have ended, as it should."""
        problem = await self.ended.get()
        if problem is not None:
            raise problem


@asynccontextmanager
async def serving(
    *scripts: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(list(scripts))
    listener = await asyncio.start_server(server.play, host, 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def answers(*replies: bytes) -> Script:
    """Each request gets the next of `replies`; after the last one the server closes."""

    async def script(peer: Peer) -> None:
        for reply in replies:
            if not await peer.request():
                return
            peer.say(reply)
        peer.hang_up()

    return script


def holds(reply: bytes) -> Script:
    """Sends the same reply to a request, then only waits for the client to leave."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(reply)
        await peer.gone()

    return script


async def repeats(peer: Peer) -> None:
    """A server that works."""
    while await peer.request():
        peer.say(HELLO)


Play = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a scenario on each kind of loop, within a deadline."""

    async def main(scenario: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.timeout(30):
            await scenario()

    def run(scenario: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main(scenario))

    return run


@asynccontextmanager
async def pooling(**options: Any) -> AsyncIterator[Pool]:
    """A pool that must be left without sockets that it did not say it keeps."""
    pool = Pool(**options)
    try:
        yield pool
        await eventually(lambda: pool.counts().open == pool.counts().idle)
    finally:
        await pool.close()
    assert (pool.counts().open, pool.counts().idle) == (0, 0)
    code = [str(getattr(task.get_coro(), "cr_code", "")) for task in asyncio.all_tasks()]
    assert not [where for where in code if "llm_router" in where]


async def eventually(holds_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds_true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def send(
    pool: Pool,
    origin: Origin,
    *,
    method: bytes = b"POST",
    body: bytes = b"{}",
    connect_timeout: float = 10,
    timeout: float | None = None,
) -> Reply:
    return await pool.send(
        origin,
        method=method,
        path=b"/x",
        headers=[(b"x-a", b"1")],
        body=body,
        connect_timeout=connect_timeout,
        timeout=timeout,
    )


async def ask(pool: Pool, origin: Origin, *, timeout: float | None = None) -> bytes:
    return await (await send(pool, origin, timeout=timeout)).read_all(100_000)


# No connection.


def test_nobody_listens(play: Play) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        async with pooling() as pool:
            with pytest.raises(ConnectFailed, match=f"^http://127.0.0.1:{port}: ") as caught:
                await ask(pool, Origin.parse(f"http://127.0.0.1:{port}"))
        assert caught.value.reason == "refused"

    play(scenario)


def test_no_address(play: Play) -> None:
    async def scenario() -> None:
        async with pooling() as pool:
            with pytest.raises(ConnectFailed, match=r"^http://nowhere\.invalid:80: ") as caught:
                await ask(pool, Origin.parse("http://nowhere.invalid"))
        assert caught.value.reason == "dns"

    play(scenario)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]", "2852039166"]
)
def test_metadata_address(play: Play, host: str) -> None:
    async def scenario() -> None:
        async with pooling() as pool:
            with pytest.raises(ConnectFailed, match="link-local or metadata") as caught:
                await ask(pool, Origin.parse(f"http://{host}"))
        assert caught.value.reason == "refused_address"

    play(scenario)


def test_no_way_there(play: Play) -> None:
    async def scenario() -> None:
        async with pooling() as pool:
            with pytest.raises(ConnectFailed) as caught:
                await ask(pool, Origin.parse("http://255.255.255.255:9"))
        assert caught.value.reason == "unreachable"

    play(scenario)


@pytest.fixture
def full() -> Iterator[int]:
    """The port of a server that lets nobody in: its queue is full, so each SYN is dropped."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        queue = []
        try:
            for _ in range(4):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
                queue.append(sock)
            yield listener.getsockname()[1]
        finally:
            for sock in queue:
                sock.close()


def test_connecting_takes_too_long(play: Play, full: int) -> None:
    async def scenario() -> None:
        async with pooling() as pool:
            with pytest.raises(ConnectFailed, match=r"not connected within 0\.2 s") as caught:
                await send(pool, Origin.parse(f"http://127.0.0.1:{full}"), connect_timeout=0.2)
        assert caught.value.reason == "timeout"

    play(scenario)


def test_this_machine_is_out_of_files(play: Play) -> None:
    async def scenario() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with serving(repeats) as server, pooling() as pool:
            with socket.socket() as probe:
                taken = probe.fileno()
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken, hard))
            try:
                with pytest.raises(ConnectFailed) as caught:
                    await ask(pool, server.origin())
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert caught.value.reason == "exhausted"
            assert await ask(pool, server.origin()) == b"hello"

    play(scenario)


@pytest.mark.parametrize(
    ("code", "address", "reason"),
    [
        (errno.ECONNREFUSED, "127.0.0.1", "refused"),
        (errno.ETIMEDOUT, "127.0.0.1", "timeout"),
        (errno.EHOSTUNREACH, "127.0.0.1", "unreachable"),
        (errno.EADDRNOTAVAIL, "127.0.0.1", "exhausted"),
        (errno.EADDRNOTAVAIL, "::1", "unreachable"),
        (errno.ENFILE, "127.0.0.1", "exhausted"),
    ],
)
def test_the_kernels_answers_have_reasons(code: int, address: str, reason: str) -> None:
    assert dial._reason(OSError(code, "x"), address, tls=False) == reason


def test_a_name_with_several_addresses(
    play: Play, full: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: list[str] = []

    async def resolve(origin: Origin) -> list[str]:
        return addresses

    # NB: which addresses a name has is the one thing here that a test can't arrange for real.
    monkeypatch.setattr(dial, "resolve", resolve)

    async def scenario() -> None:
        async with serving(repeats) as server, pooling() as pool:
            addresses[:] = ["127.0.0.2", "::1", "127.0.0.1"]
            assert await ask(pool, server.origin()) == b"hello"
            addresses[:] = ["127.0.0.2", "127.0.0.3"]
            with pytest.raises(ConnectFailed) as caught:
                await ask(pool, server.origin(host="localhost"))
            assert caught.value.reason == "refused"
            addresses[:] = ["::1", "255.255.255.255", "127.0.0.2"]
            with pytest.raises(ConnectFailed, match=r"127\.0\.0\.2|::1") as caught:
                await ask(pool, server.origin(host="localhost"))
            assert caught.value.reason == "refused"
        # One that says nothing holds up nobody for long, and is dropped.
        with socket.create_server(("127.0.0.2", full)):
            async with pooling() as pool:
                addresses[:] = ["127.0.0.1", "127.0.0.2"]
                origin = Origin.parse(f"http://somewhere:{full}")
                with pytest.raises(TimedOut):
                    await send(pool, origin, timeout=0.01)
                assert pool.counts().connects == 1
                addresses[:] = ["127.0.0.1", "127.0.0.1"]
                with pytest.raises(ConnectFailed) as caught:
                    await send(pool, origin, connect_timeout=0.4)
                assert caught.value.reason == "timeout"

    play(scenario)


def test_addresses_that_connect_at_once(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(origin: Origin) -> list[str]:
        return ["127.0.0.1"] * 8

    monkeypatch.setattr(dial, "resolve", resolve)
    monkeypatch.setattr(dial, "_STAGGER", 0)

    async def scenario() -> None:
        async with serving(repeats) as server, pooling() as pool:
            before = sockets()
            for number in range(10):
                origin = Origin.parse(f"http://127.0.0.1:{server.port}/{number}")
                assert await ask(pool, origin) == b"hello"
            assert server.accepted > 10
            # Each of the ten has an end here and one at the server.
            await eventually(lambda: sockets() == before + 20)

    play(scenario)


# No reply.


@pytest.mark.parametrize("how", [Peer.hang_up, Peer.reset])
def test_closed_without_a_byte(play: Play, how: Callable[[Peer], None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        how(peer)

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            with pytest.raises(NoReply, match=r"^http://127\.") as caught:
                await ask(pool, server.origin())
            assert caught.value.fresh
            assert server.accepted == 1
            assert pool.counts().retries == 0

    play(scenario)


@pytest.mark.parametrize("how", [Peer.hang_up, Peer.reset])
@pytest.mark.parametrize("addresses", [1, 2])
def test_closed_as_soon_as_it_is_open(
    play: Play,
    how: Callable[[Peer], None],
    addresses: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(origin: Origin) -> list[str]:
        return ["127.0.0.1"] * addresses

    monkeypatch.setattr(dial, "resolve", resolve)

    async def script(peer: Peer) -> None:
        how(peer)

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            for _ in range(20):
                with pytest.raises(NoReply) as caught:
                    await ask(pool, server.origin())
                assert caught.value.fresh

    play(scenario)


def test_a_connection_that_closed_before_its_first_request(play: Play) -> None:
    async def scenario() -> None:
        async with serving(answers(HELLO)) as server, pooling() as pool:
            connection = await pool._connect(server.origin(), 10)
            connection.abort()
            await eventually(lambda: pool.counts().open == 0)
            with pytest.raises(NoReply):
                await connection.exchange(b"", b"", head_only=False, timeout=None)

    play(scenario)


@pytest.mark.parametrize("how", [Peer.hang_up, Peer.reset])
def test_a_kept_connection_that_is_dead_is_tried_once_more(
    play: Play, how: Callable[[Peer], None]
) -> None:
    async def dies(peer: Peer) -> None:
        await peer.request()
        peer.say(HELLO)
        await peer.request()
        how(peer)

    async def scenario() -> None:
        async with serving(dies, repeats) as server, pooling() as pool:
            assert await ask(pool, server.origin()) == b"hello"
            assert await ask(pool, server.origin()) == b"hello"
            assert server.accepted == 2
            assert pool.counts()[2:] == (2, 1, 1)

    play(scenario)


def test_once_more_and_no_more(play: Play) -> None:
    async def scenario() -> None:
        first = answers(HELLO, b"")
        async with serving(first, answers(b""), repeats) as server, pooling() as pool:
            assert await ask(pool, server.origin()) == b"hello"
            with pytest.raises(NoReply) as caught:
                await ask(pool, server.origin())
            assert caught.value.fresh
            assert server.accepted == 2

    play(scenario)


def test_the_other_try_has_only_the_time_that_is_left(play: Play) -> None:
    async def late(peer: Peer) -> None:
        await peer.request()
        peer.say(HELLO)
        await peer.request()
        await asyncio.sleep(0.4)
        peer.hang_up()

    async def hangs(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async def scenario() -> None:
        async with serving(late, hangs) as server, pooling() as pool:
            assert await ask(pool, server.origin()) == b"hello"
            begun = time.monotonic()
            with pytest.raises(TimedOut):
                await ask(pool, server.origin(), timeout=0.6)
            assert server.accepted == 2
            assert time.monotonic() - begun < 0.9
            for _ in range(server.accepted):
                await server.end()

    play(scenario)


def test_a_host_that_hangs_up_late_is_not_asked_again(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_router.transport.pool.STALE_SECONDS", 0.1)

    async def late(peer: Peer) -> None:
        await peer.request()
        peer.say(HELLO)
        await peer.request()
        await asyncio.sleep(0.3)
        peer.hang_up()

    async def scenario() -> None:
        async with serving(late, repeats) as server, pooling() as pool:
            assert await ask(pool, server.origin()) == b"hello"
            with pytest.raises(NoReply):
                await ask(pool, server.origin())
            assert server.accepted == 1
            await server.end()

    play(scenario)


def test_a_byte_of_a_reply_forbids_another_try(play: Play) -> None:
    async def scenario() -> None:
        async with serving(answers(HELLO, b"H"), repeats) as server, pooling() as pool:
            assert await ask(pool, server.origin()) == b"hello"
            with pytest.raises(Cut, match="inside the head"):
                await ask(pool, server.origin())
            assert server.accepted == 1

    play(scenario)


def test_a_server_that_restarts_between_two_requests(play: Play) -> None:
    async def scenario() -> None:
        async with pooling() as pool:
            async with serving(answers(HELLO, b"")) as server:
                origin = server.origin()
                assert await ask(pool, origin) == b"hello"
            with pytest.raises(ConnectFailed) as caught:
                await ask(pool, origin)
            assert caught.value.reason == "refused"

    play(scenario)


# Replies that end early, or not at all.


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Content-Length: 5\r\n\r\n",
        CHUNKED,
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\nTrailer: x\r\n",
    ],
)
@pytest.mark.parametrize("how", [Peer.hang_up, Peer.reset])
def test_cut(play: Play, sent: bytes, how: Callable[[Peer], None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(sent)
        # NB: a reset overtakes what the client has not read yet.
        await peer.writer.drain()
        await asyncio.sleep(0.02)
        how(peer)

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            with pytest.raises(Cut, match=r"inside the (head|body)"):
                await ask(pool, server.origin())
            await server.end()

    play(scenario)


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n\r\n", OK + b"Connection: close\r\n\r\n"])
def test_a_body_without_length_ends_with_its_connection(play: Play, head: bytes) -> None:
    async def scenario() -> None:
        async with serving(answers(head + b"data: x\n\n")) as server, pooling() as pool:
            for _ in range(2):
                assert await ask(pool, server.origin()) == b"data: x\n\n"
            assert server.accepted == 2
            assert pool.counts().idle == 0

    play(scenario)


def test_but_not_with_a_reset(play: Play) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(b"HTTP/1.0 200 OK\r\n\r\ndata: x\n\n")
        await asyncio.sleep(0.02)
        peer.reset()

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            reply = await send(pool, server.origin())
            assert await reply.read() == b"data: x\n\n"
            with pytest.raises(Cut, match="reset"):
                await reply.read()

    play(scenario)


@pytest.mark.parametrize("sent", [b"<html>", CHUNKED + b"zz\r\n"])
def test_a_broken_reply_closes_the_connection(play: Play, sent: bytes) -> None:
    async def scenario() -> None:
        async with serving(holds(sent), repeats) as server, pooling() as pool:
            with pytest.raises(BadReply):
                await ask(pool, server.origin())
            await server.end()
            assert await ask(pool, server.origin()) == b"hello"

    play(scenario)


def test_surplus_closes_the_connection(play: Play) -> None:
    async def scenario() -> None:
        async with serving(holds(HELLO + b"HTTP/1.1 200"), repeats) as server, pooling() as pool:
            assert await ask(pool, server.origin()) == b"hello"
            await server.end()
            assert await ask(pool, server.origin()) == b"hello"
            assert server.accepted == 2

    play(scenario)


def test_bytes_on_an_idle_connection_close_it(play: Play) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(HELLO)
        await asyncio.sleep(0.02)
        peer.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    async def scenario() -> None:
        async with serving(script, repeats) as server, pooling() as pool:
            assert await ask(pool, server.origin()) == b"hello"
            await server.end()
            await eventually(lambda: pool.counts().open == 0)
            assert await ask(pool, server.origin()) == b"hello"
            assert pool.counts().retries == 0

    play(scenario)


def test_an_answer_before_the_request_is_read(play: Play) -> None:
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await over.wait()

    async def scenario() -> None:
        async with serving(script, repeats) as server, pooling() as pool:
            reply = await send(pool, server.origin(), body=b"x" * 50_000_000)
            assert reply.status == 413
            assert await reply.read() == b""
            # Most of the body is still unsent: that connection can serve nothing else.
            await eventually(lambda: pool.counts().open == 0)
            over.set()
            await server.end()
            assert await ask(pool, server.origin()) == b"hello"

    play(scenario)


def test_closed_before_the_request_is_read(play: Play) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.finish()
        await over.wait()

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            with pytest.raises(NoReply):
                await send(pool, server.origin(), body=b"x" * 50_000_000)
            # The rest of the body is not waited for.
            await eventually(lambda: pool.counts().open == 0)
            over.set()
            await server.end()

    over = asyncio.Event()
    play(scenario)


# Waiting: time limits, cancelling, closing, back-pressure.


def test_no_head_in_time(play: Play) -> None:
    async def scenario() -> None:
        async with serving(holds(b"HTTP/1.1 200 OK\r\n"), repeats) as server, pooling() as pool:
            with pytest.raises(TimedOut, match="no response came in time"):
                await send(pool, server.origin(), timeout=0.1)
            await server.end()
            assert await ask(pool, server.origin()) == b"hello"

    play(scenario)


def test_no_more_body_in_time(play: Play) -> None:
    async def scenario() -> None:
        async with serving(holds(CHUNKED + b"1\r\nx\r\n")) as server, pooling() as pool:
            reply = await send(pool, server.origin(), timeout=10)
            assert await reply.read(0.1) == b"x"
            with pytest.raises(TimeoutError):
                await reply.read(0.1)
            with pytest.raises(TimedOut):
                await reply.read()
            await server.end()

    play(scenario)


def test_time_that_nobody_waits_does_not_count(play: Play) -> None:
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(CHUNKED + b"1\r\nx\r\n")
        await more.wait()
        peer.say(b"1\r\ny\r\n0\r\n\r\n")
        await peer.gone()

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            reply = await send(pool, server.origin(), timeout=0.1)
            await asyncio.sleep(0.3)
            assert await reply.read(0.1) == b"x"
            more.set()
            assert await reply.read(10) == b"y"
            await asyncio.sleep(0.3)
            assert await reply.read(0.1) == b""
            assert pool.counts().idle == 1

    play(scenario)


def sockets() -> int:
    """How many this process has open."""
    count = 0
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor
            count += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
    return count


def test_a_time_limit_is_for_one_wait(play: Play) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(CHUNKED)
        await asyncio.sleep(0.3)
        peer.say(b"1\r\nx\r\n0\r\n\r\n")
        await repeats(peer)

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            reply = await send(pool, server.origin(), timeout=0.1)
            assert await reply.read() == b"x"
            # With nothing left to watch, the timer rests, however far its last deadline was.
            reply = await send(pool, server.origin(), timeout=3600)
            assert await reply.read(3600) == b"hello"
            await eventually(lambda: pool.watch._timer is None)

    play(scenario)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_cancelled_while_it_waits_for_the_head(play: Play) -> None:
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            task = asyncio.create_task(send(pool, server.origin()))
            await asked.wait()
            await cancelled(task)
            await server.end()
            await eventually(lambda: pool.counts().open == 0)

    play(scenario)


def test_cancelled_while_it_reads(play: Play) -> None:
    async def scenario() -> None:
        async with serving(holds(CHUNKED + b"1\r\nx\r\n")) as server, pooling() as pool:
            reply = await send(pool, server.origin())
            assert await reply.read() == b"x"
            task = asyncio.create_task(reply.read())
            await asyncio.sleep(0.02)
            await cancelled(task)
            await server.end()
            with pytest.raises(Cut):
                await reply.read()

    play(scenario)


def test_cancelled_while_it_connects(play: Play, full: int) -> None:
    async def scenario() -> None:
        async with pooling() as pool:
            before = sockets()
            task = asyncio.create_task(send(pool, Origin.parse(f"http://127.0.0.1:{full}")))
            await eventually(lambda: sockets() == before + 1)
            await cancelled(task)
            await eventually(lambda: sockets() == before)

    play(scenario)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cancelled_at_any_moment_of_connecting(
    play: Play, scheme: str, serving_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async def scenario() -> None:
        tls = serving_context if scheme == "https" else None
        async with serving(Peer.gone, tls=tls) as server:
            before = sockets()
            async with pooling(tls=trusting) as pool:
                for turns in range(60):
                    task = asyncio.create_task(send(pool, server.origin(scheme)))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    await cancelled(task)
                await eventually(lambda: pool.counts().open == 0)
                await eventually(lambda: sockets() == before)

    play(scenario)


def test_cancelled_at_any_moment_leaks_nothing(play: Play) -> None:
    async def scenario() -> None:
        async with serving(repeats) as server, pooling() as pool:
            for turns in range(40):
                task = asyncio.create_task(ask(pool, server.origin()))
                others = [asyncio.create_task(ask(pool, server.origin())) for _ in range(3)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.result() == b"hello"
                # NB: what a cancelled request held is never handed to another one.
                assert await asyncio.gather(*others) == [b"hello"] * 3

    play(scenario)


def test_cancelled_with_its_answer_it_leaves_the_connection_to_others(play: Play) -> None:
    async def scenario() -> None:
        async with serving(repeats) as server, pooling() as pool:
            await ask(pool, server.origin())
            connection = pool._take(server.origin())
            assert connection is not None
            request = b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
            waiter = connection.exchange(request, b"", head_only=False, timeout=None)
            await eventually(lambda: pool.counts().idle == 1)
            pool_module._abandon(connection, waiter)
            assert await ask(pool, server.origin()) == b"hello"
            assert server.accepted == 1

    play(scenario)


def test_connections_need_no_collector(play: Play) -> None:
    async def scenario() -> None:
        closing = answers(b"HTTP/1.0 200 OK\r\n\r\n")
        async with serving(repeats, closing) as server, pooling() as pool:
            for _ in range(3):
                await asyncio.gather(*[ask(pool, server.origin()) for _ in range(3)])
        left = [thing for thing in gc.get_objects() if isinstance(thing, Connection | Reply)]
        assert not left

    gc.collect()
    gc.disable()
    try:
        play(scenario)
    finally:
        gc.enable()


def test_closing_a_reply_closes_its_connection_at_once(play: Play) -> None:
    async def scenario() -> None:
        async with serving(holds(CHUNKED + b"1\r\nx\r\n"), repeats) as server, pooling() as pool:
            reply = await send(pool, server.origin())
            reply.close()
            reply.close()
            await server.end()
            for _ in range(2):
                with pytest.raises(Cut, match="closed here"):
                    await reply.read()
            assert await ask(pool, server.origin()) == b"hello"
            reply.close()
            assert pool.counts().idle == 1

    play(scenario)


def test_closing_a_reply_that_has_arrived_keeps_its_connection(play: Play) -> None:
    async def scenario() -> None:
        async with serving(repeats) as server, pooling() as pool:
            for _ in range(3):
                reply = await send(pool, server.origin())
                await eventually(lambda: pool.counts().idle == 1)
                reply.close()
                # NB: the body was never read, so its end must not look like one.
                with pytest.raises(Cut):
                    await reply.read()
            assert server.accepted == 1

    play(scenario)


def test_closing_a_reply_wakes_its_reader(play: Play) -> None:
    async def scenario() -> None:
        async with serving(holds(CHUNKED)) as server, pooling() as pool:
            reply = await send(pool, server.origin())
            reader = asyncio.create_task(reply.read())
            await asyncio.sleep(0.02)
            with pytest.raises(RuntimeError, match="two tasks"):
                await reply.read()
            reply.close()
            with pytest.raises(Cut, match="closed here"):
                await reader

    play(scenario)


def test_an_unread_body_stops_its_sender(play: Play) -> None:
    size, sent = 64 * 1024 * 1024, 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.say(OK + b"Content-Length: %d\r\n\r\n" % size)
        piece = b"x" * 65_536
        while sent < size:
            peer.say(piece)
            await peer.writer.drain()
            sent += len(piece)
        await peer.gone()

    async def scenario() -> None:
        nonlocal sent
        async with serving(script) as server, pooling() as pool:
            for _ in range(2):
                reply = await send(pool, server.origin())
                last = -1
                while last != sent:  # until nothing moves
                    last = sent
                    await asyncio.sleep(0.2)
                assert 0 < sent < size // 2, "the kernel's buffers and ours, not the body"
                assert sum(map(len, reply._pieces)) < 1_000_000
                received = 0
                while piece := await reply.read(10):
                    received += len(piece)
                assert received == size
                assert pool.counts().idle == 1
                await pool_is_reading(pool, server)
                sent = 0

    async def pool_is_reading(pool: Pool, server: Server) -> None:
        # An idle connection is read from again, or its end would go unnoticed.
        (connection,) = pool._open
        assert connection._transport.is_reading()
        connection.abort()
        await server.end()

    play(scenario)


def test_closing_an_unread_body(play: Play) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(OK + b"Content-Length: 50000000\r\n\r\n" + b"x" * 50_000_000)
        await peer.gone()

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            reply = await send(pool, server.origin())
            await asyncio.sleep(0.05)
            reply.close()
            await server.end()

    play(scenario)


# What is kept, and for how long.


def test_unused_connections_expire(play: Play) -> None:
    async def scenario() -> None:
        async with serving(repeats) as server, pooling(idle_seconds=0.2) as pool:
            await asyncio.gather(*[ask(pool, server.origin()) for _ in range(3)])
            assert pool.counts().idle == 3
            for _ in range(3):
                await server.end()
            await eventually(lambda: pool.counts().open == 0)
            assert pool.counts().idle == 0
            assert await ask(pool, server.origin()) == b"hello"

    play(scenario)


def test_a_connection_in_use_does_not_expire(play: Play) -> None:
    async def scenario() -> None:
        async with serving(repeats) as server, pooling(idle_seconds=0.2) as pool:
            await asyncio.gather(*[ask(pool, server.origin()) for _ in range(2)])
            for _ in range(20):
                await asyncio.sleep(0.03)
                await ask(pool, server.origin())
            # The one not used has gone.
            assert (pool.counts().open, server.accepted) == (1, 2)

    play(scenario)


def test_kept_connections_have_a_limit(play: Play) -> None:
    async def scenario() -> None:
        async with serving(repeats) as server, pooling(max_idle_per_origin=2) as pool:
            await asyncio.gather(*[ask(pool, server.origin()) for _ in range(5)])
            await eventually(lambda: pool.counts().open == 2)
            assert pool.counts().idle == 2

    play(scenario)


def test_a_closed_pool(play: Play) -> None:
    async def scenario() -> None:
        async with serving(repeats, repeats, holds(CHUNKED), holds(b"")) as server:
            pool = Pool()
            await asyncio.gather(*[ask(pool, server.origin()) for _ in range(2)])
            idle = [pool._take(server.origin()) for _ in range(2)]
            reply = await send(pool, server.origin())
            waiting = asyncio.create_task(send(pool, server.origin(), timeout=60))
            await eventually(lambda: server.accepted == 4)
            for connection in idle:
                assert connection is not None
                pool.idle(connection)
            await asyncio.gather(pool.close(), pool.close())
            assert pool.counts()[:2] == (0, 0)
            with pytest.raises(Cut, match="the pool was closed"):
                await waiting
            with pytest.raises(Cut, match="the pool was closed"):
                await reply.read()
            with pytest.raises(ConnectFailed, match="the pool is closed") as caught:
                await ask(pool, server.origin())
            assert caught.value.reason == "closed"
            for _ in range(4):
                await server.end()
            await pool.close()

    play(scenario)


def test_a_pool_closed_at_any_moment(play: Play) -> None:
    async def scenario() -> None:
        async with serving(repeats) as server:
            for turns in range(20):
                pool = Pool()
                task = asyncio.create_task(ask(pool, server.origin()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                await pool.close()
                (result,) = await asyncio.gather(task, return_exceptions=True)
                assert result == b"hello" or (
                    isinstance(result, ConnectFailed | Cut) and "the pool" in str(result)
                )
                await eventually(lambda pool=pool: pool.counts().open == 0)

    play(scenario)


def test_a_pool_closed_while_it_connects(play: Play, full: int) -> None:
    async def scenario() -> None:
        pool = Pool()
        origin = Origin.parse(f"http://127.0.0.1:{full}")
        task = asyncio.create_task(send(pool, origin, connect_timeout=0.3))
        await asyncio.sleep(0.05)
        await pool.close()
        with pytest.raises(ConnectFailed):
            await task
        assert pool.counts().open == 0

    play(scenario)


def test_ipv6(play: Play) -> None:
    async def scenario() -> None:
        async with serving(repeats, host="::1") as server, pooling() as pool:
            assert await ask(pool, server.origin(host="[::1]")) == b"hello"

    if not socket.has_ipv6:
        pytest.fail("this machine has no IPv6 loopback: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    play(scenario)


# Handed to a sink.


@dataclass
class Taker:
    """A sink that writes down what it gets."""

    pieces: list[bytes] = field(default_factory=list)
    end_of_it: asyncio.Future[TransportError | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def data(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def end(self, error: TransportError | None) -> None:
        self.end_of_it.set_result(error)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def test_a_sink_gets_a_body_and_the_pool_its_connection(play: Play) -> None:
    async def scenario() -> None:
        async with serving(repeats) as server, pooling() as pool:
            for _ in range(5):
                taker = Taker()
                (await send(pool, server.origin())).pipe(taker, timeout=5)
                assert await taker.end_of_it is None
                assert taker.body == b"hello"
                assert pool.counts().idle == 1
            assert server.accepted == 1
            await pool.close()
            await server.end()

    play(scenario)


@pytest.mark.parametrize("how", [Peer.hang_up, Peer.finish, Peer.reset])
def test_a_sink_is_told_of_a_cut(play: Play, how: Callable[[Peer], None]) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(CHUNKED + b"1\r\na\r\n")
        await asyncio.sleep(0.05)
        how(peer)
        await peer.gone()

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            taker = Taker()
            (await send(pool, server.origin())).pipe(taker, timeout=5)
            assert type(await taker.end_of_it) is Cut
            assert taker.body == b"a"
            await server.end()

    play(scenario)


def test_a_sink_is_told_when_no_more_comes_in_time(play: Play) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(CHUNKED)
        for _ in range(8):
            peer.say(b"1\r\na\r\n")
            await asyncio.sleep(0.05)
        await peer.gone()

    async def scenario() -> None:
        async with serving(script) as server, pooling() as pool:
            taker, loop = Taker(), asyncio.get_running_loop()
            begun = loop.time()
            (await send(pool, server.origin())).pipe(taker, timeout=0.25)
            assert type(await taker.end_of_it) is TimedOut
            # NB: each piece gave it another quarter of a second.
            assert 0.55 < loop.time() - begun < 5
            assert taker.body == b"a" * 8
            await server.end()

    play(scenario)


def test_a_sink_that_pauses_stops_the_sender_and_no_time_runs(play: Play) -> None:
    size = 20_000_000
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.say(OK + b"Content-Length: %d\r\n\r\n" % size)
        while sent < size:
            peer.say(b"x" * 100_000)
            sent += 100_000
            await peer.writer.drain()
        await peer.gone()

    async def scenario() -> None:
        nonlocal sent
        sent = 0
        async with serving(script) as server, pooling() as pool:
            taker = Taker()
            reply = await send(pool, server.origin())
            reply.pipe(taker, timeout=0.1)
            reply.pause()
            await asyncio.sleep(0.4)
            assert not taker.end_of_it.done()
            stopped, held = sent, len(taker.body)
            assert stopped < size
            assert held < 1_000_000
            await asyncio.sleep(0.1)
            assert (sent, len(taker.body)) == (stopped, held)
            reply.resume()
            assert await taker.end_of_it is None
            assert len(taker.body) == size
            await pool.close()
            await server.end()

    play(scenario)


def test_closing_from_inside_a_piece_closes_the_socket_at_once(play: Play) -> None:
    async def scenario() -> None:
        async with serving(holds(CHUNKED + b"1\r\na\r\n")) as server, pooling() as pool:
            reply = await send(pool, server.origin())

            class Closing(Taker):
                def data(self, piece: bytes) -> None:
                    super().data(piece)
                    reply.close()

            taker = Closing()
            reply.pipe(taker, timeout=5)
            await server.end()
            assert taker.body == b"a"
            assert not taker.end_of_it.done()

    play(scenario)


def test_a_closed_pool_ends_what_is_piped_and_what_is_released(play: Play) -> None:
    async def scenario() -> None:
        async with serving(holds(CHUNKED)) as server:
            pool, taker = Pool(), Taker()
            (await send(pool, server.origin())).pipe(taker, timeout=None)
            (await send(pool, server.origin())).release(60)
            await pool.close()
            assert type(await taker.end_of_it) is Cut
            assert pool.counts().open == 0
            for _ in range(2):
                await server.end()

    play(scenario)


def test_a_released_reply_leaves_its_connection_if_it_ends_in_time(play: Play) -> None:
    async def slowly(peer: Peer) -> None:
        while await peer.request():
            peer.say(CHUNKED + b"1\r\na\r\n")
            await asyncio.sleep(0.1)
            peer.say(b"1\r\nb\r\n0\r\n\r\n")

    async def scenario() -> None:
        async with serving(slowly) as server, pooling() as pool:
            for _ in range(3):
                reply = await send(pool, server.origin())
                assert await reply.read() == b"a"
                reply.release(5)
                await eventually(lambda: pool.counts().idle == 1)
            assert server.accepted == 1
            await pool.close()
            await server.end()

    play(scenario)


def test_a_released_reply_that_goes_on_is_dropped(play: Play) -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        peer.say(CHUNKED)
        with contextlib.suppress(ConnectionError):
            while not peer.writer.is_closing():
                peer.say(b"1\r\na\r\n")
                await peer.writer.drain()
                await asyncio.sleep(0.01)

    async def scenario() -> None:
        async with serving(endless) as server, pooling() as pool:
            loop = asyncio.get_running_loop()
            reply = await send(pool, server.origin())
            begun = loop.time()
            reply.release(0.2)
            assert pool.counts().open == 1
            await eventually(lambda: pool.counts().open == 0)
            assert 0.15 < loop.time() - begun < 5
            await server.end()

    play(scenario)


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def serving_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("host", ["localhost", "localhost.", "127.0.0.1"])
def test_tls_with_a_certificate_that_holds(
    play: Play,
    serving_context: ssl.SSLContext,
    trusting: ssl.SSLContext,
    host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(origin: Origin) -> list[str]:
        return ["127.0.0.1"]

    # NB: not every resolver knows a name with its final dot from /etc/hosts.
    monkeypatch.setattr(dial, "resolve", resolve)
    names: list[str | None] = []

    def note(sock: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        names.append(name)

    async def scenario() -> None:
        serving_context.sni_callback = note
        async with (
            serving(repeats, tls=serving_context) as server,
            pooling(tls=trusting) as pool,
        ):
            for _ in range(3):
                assert await ask(pool, server.origin("https", host)) == b"hello"
            assert server.accepted == 1
        # NB: addresses are not sent as server names.
        assert names == [None if host == "127.0.0.1" else "localhost"]

    play(scenario)


def test_tls_with_a_certificate_of_unknown_origin(
    play: Play, serving_context: ssl.SSLContext
) -> None:
    async def scenario() -> None:
        async with serving(repeats, tls=serving_context) as server, pooling() as pool:
            with pytest.raises(ConnectFailed, match="unable to get local issuer") as caught:
                await ask(pool, server.origin("https", "localhost"))
            assert caught.value.reason == "tls"

    play(scenario)


def test_tls_with_a_certificate_for_another_host(
    play: Play, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)

    async def scenario() -> None:
        async with serving(repeats, tls=context) as server, pooling(tls=trusting) as pool:
            with pytest.raises(ConnectFailed, match="localhost") as caught:
                await ask(pool, server.origin("https", "localhost"))
            assert caught.value.reason == "tls"

    play(scenario)


def test_tls_to_a_server_without(play: Play, trusting: ssl.SSLContext) -> None:
    async def talks(peer: Peer) -> None:
        peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.gone()

    async def hangs_up(peer: Peer) -> None:
        await peer.reader.read(1)

    async def resets(peer: Peer) -> None:
        peer.reset()

    async def scenario() -> None:
        async with serving(talks, hangs_up, resets) as server, pooling(tls=trusting) as pool:
            for _ in range(3):
                with pytest.raises(ConnectFailed) as caught:
                    await ask(pool, server.origin("https"))
                assert caught.value.reason == "tls"

    play(scenario)


def test_a_handshake_that_hangs(play: Play, trusting: ssl.SSLContext) -> None:
    async def scenario() -> None:
        async with serving(Peer.gone) as server, pooling(tls=trusting) as pool:
            with pytest.raises(ConnectFailed) as caught:
                await send(pool, server.origin("https"), connect_timeout=0.2)
            assert caught.value.reason == "timeout"
            await server.end()
            task = asyncio.create_task(send(pool, server.origin("https")))
            await eventually(lambda: server.accepted == 2)
            await cancelled(task)
            await server.end()
            assert pool.counts().connects == 0

    play(scenario)


def test_tls_connections_end_like_others(
    play: Play, serving_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async def scenario() -> None:
        scripts = [
            answers(b"HTTP/1.0 200 OK\r\n\r\ndata: x\n\n"),
            answers(OK + b"Content-Length: 5\r\n\r\nhell"),
            answers(b""),
            holds(CHUNKED + b"1\r\nx\r\n"),
            holds(CHUNKED + b"1\r\nx\r\n"),
        ]
        async with (
            serving(*scripts, tls=serving_context) as server,
            pooling(tls=trusting) as pool,
        ):
            origin = server.origin("https")
            assert await ask(pool, origin) == b"data: x\n\n"
            with pytest.raises(Cut):
                await ask(pool, origin)
            with pytest.raises(NoReply):
                await ask(pool, origin)
            for _ in range(3):
                await server.end()
            reply = await send(pool, origin)
            reply.close()
            await server.end()
            reply = await send(pool, origin)
            assert await reply.read() == b"x"
            task = asyncio.create_task(reply.read())
            await asyncio.sleep(0.02)
            await cancelled(task)
            await server.end()

    play(scenario)


def test_tls_that_ends_without_saying_so_is_cut(
    play: Play, serving_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(b"HTTP/1.0 200 OK\r\n\r\ndata: x\n\n")
        await asyncio.sleep(0.02)
        # NB: FIN without the alert that ends TLS: anyone on the way could have sent it.
        peer.finish()
        await peer.gone()

    async def scenario() -> None:
        async with (
            serving(script, tls=serving_context) as server,
            pooling(tls=trusting) as pool,
        ):
            reply = await send(pool, server.origin("https"))
            assert await reply.read() == b"data: x\n\n"
            with pytest.raises(Cut):
                await reply.read(5)

    play(scenario)
