"""One connection fed by hand: what happens within one turn of the loop, and in which order."""

import asyncio
from dataclasses import dataclass, field

from llm_router.server import Call, Limits, Server
from llm_router.server.connection import MAX_BACKLOG, Connection

GET = b"GET / HTTP/1.1\r\nHost: router\r\n\r\n"


@dataclass
class Pipe(asyncio.Transport):
    """A transport that goes nowhere, and writes down what it is told."""

    told: list[str] = field(default_factory=list)
    written: bytes = b""
    waiting: int = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.told.append(f"high {high}")

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")

    def write_eof(self) -> None:
        self.told.append("eof")

    def close(self) -> None:
        self.told.append("close")

    def abort(self) -> None:
        self.told.append("abort")


class Stage:
    """A server without a listener, and one connection on a pipe."""

    def __init__(self) -> None:
        self.called: list[Call] = []
        self.go = asyncio.Event()
        self.server = Server(self.handle, Limits(max_body=1000))
        self.server._loop = asyncio.get_running_loop()
        self.pipe = Pipe()
        self.connection: Connection = self.server._connect()
        self.connection.connection_made(self.pipe)
        self.pipe.told.clear()

    async def handle(self, call: Call) -> None:
        self.called.append(call)
        await self.go.wait()
        call.respond(200, headers=(), body=b"%d" % len(self.called))

    async def turns(self) -> None:
        """Lets everything happen that is due."""
        for _ in range(5):
            await asyncio.sleep(0)

    def lose(self) -> None:
        self.connection.connection_lost(None)
        self.server.watch.stop()


async def test_a_client_that_is_gone_before_the_handler_starts_has_none() -> None:
    stage = Stage()
    stage.connection.data_received(GET)
    assert stage.server.active == 1
    stage.connection.eof_received()
    await stage.turns()
    assert (stage.called, stage.server.active) == ([], 0)
    assert stage.pipe.told == ["abort"]
    stage.lose()


async def test_a_request_in_the_turn_in_which_a_drain_gives_up_is_still_answered() -> None:
    stage = Stage()
    stage.server.draining = stage.server._stopping = True
    stage.connection.data_received(GET)
    await stage.turns()
    assert (stage.called, stage.server.active) == ([], 0)
    assert stage.pipe.written.startswith(b"HTTP/1.1 503 ")
    assert stage.pipe.told == ["close"]
    stage.lose()


async def test_what_waits_behind_a_request_is_bounded_and_not_lost() -> None:
    stage = Stage()
    stage.connection.data_received(GET)
    count = 0
    while "pause" not in stage.pipe.told:
        stage.connection.data_received(GET)
        count += 1
    assert count * len(GET) < MAX_BACKLOG + 2 * len(GET)
    stage.go.set()
    while len(stage.called) < count + 1:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await stage.turns()
    assert stage.pipe.told == ["pause", "resume"]
    assert stage.pipe.written.count(b"HTTP/1.1 200 OK\r\n") == count + 1
    stage.lose()


async def test_no_request_is_taken_while_the_client_does_not_read() -> None:
    stage = Stage()
    stage.go.set()
    stage.connection.data_received(GET)
    stage.connection.pause_writing()
    await stage.turns()
    stage.connection.data_received(GET + b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")
    await stage.turns()
    assert len(stage.called) == 1
    stage.connection.resume_writing()
    await stage.turns()
    assert len(stage.called) == 2
    assert b"HTTP/1.1 400 " in stage.pipe.written
    assert stage.pipe.told == ["eof"]
    stage.lose()


async def test_the_handler_hears_that_the_client_reads_again() -> None:
    stage = Stage()
    stage.connection.data_received(GET)
    await stage.turns()
    [call] = stage.called
    heard: list[bool] = []
    call.on_resume = lambda: heard.append(True)
    call.begin(200, headers=())
    assert call.write(b"a")
    stage.connection.pause_writing()
    assert not call.write(b"b")
    assert heard == []
    stage.connection.resume_writing()
    assert heard == [True]
    assert call.write(b"c")
    stage.lose()
    await stage.turns()
    assert call.gone


async def test_a_client_that_reads_a_little_is_given_more_time() -> None:
    stage = Stage()
    stage.connection.data_received(GET)
    await stage.turns()
    stage.pipe.waiting = 100_000
    stage.connection.pause_writing()
    stage.pipe.waiting = 90_000
    stage.connection.expire()
    assert stage.pipe.told == []
    stage.connection.expire()
    assert stage.pipe.told == ["abort"]
    assert stage.called[0].gone
    stage.lose()
    await stage.turns()


async def test_an_answer_given_while_an_error_is_handled_reads_on() -> None:
    # The parser's own errors then have that error as their context.
    stage = Stage()
    stage.connection.data_received(GET)
    await stage.turns()
    offer = b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n"
    stage.connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n" + offer + b"\r\n" + GET)
    try:
        raise LookupError
    except LookupError:
        stage.called[0].respond(500, headers=(), body=b"")
    stage.go.set()
    await stage.turns()
    assert [call.keep for call in stage.called] == [True, False]
    assert stage.pipe.told == ["close"]
    stage.lose()
