"""An `Asker` with a pool of its own, for tests that ask targets without a client.

async with asking() as asker:
    live = await asker.begin(exchange(), entry(of_mlx(mlx_simulator)))
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from llm_contract import Target, Timeouts
from llm_operator.simulate.server import Simulator, unlisten
from llm_router.ask import Asker, Limits, Live, Request
from llm_router.credentials import NONE
from llm_router.errors import Cause, Unanswered
from llm_router.exchange import Answer, Event, Exchange, Timing
from llm_router.fronts import ROUTES
from llm_router.mount import Published
from llm_router.standing import Standings
from llm_router.table import Entry, Table
from llm_router.transport import Pool
from parts.router import files, mlx, ollama, route

MODEL = "phi3:mini"


@dataclass(slots=True)
class Asking:
    """The asker, its pool, and the last request that was made for it."""

    pool: Pool
    asker: Asker
    request: Request | None = None

    async def begin(self, exchange: Exchange, entry: Entry) -> Live:
        return await self.asker.begin(self._made(exchange, entry))

    async def complete(self, exchange: Exchange, entry: Entry) -> tuple[Live, Answer]:
        return await self.asker.complete(self._made(exchange, entry))

    async def unanswered(self, entry: Entry, *, stream: bool = False) -> Unanswered:
        """The error of a request that nobody answers."""
        with pytest.raises(Unanswered) as caught:
            await (self.begin if stream else self.complete)(exchange(), entry)
        return caught.value

    def _made(self, exchange: Exchange, entry: Entry) -> Request:
        self.request = Request(
            exchange=exchange,
            entry=entry,
            deadline=asyncio.get_running_loop().time() + entry.route.timeouts.total,
            timing=Timing(started=time.monotonic_ns()),
            request_id=b"asked",
        )
        return self.request


@contextlib.asynccontextmanager
async def asking() -> AsyncIterator[Asking]:
    pool = Pool()
    yield Asking(pool, Asker(pool, Limits(connect=0.3, stream_idle=2)))
    await pool.close()


def exchange(path: str = "/generate", **fields: Any) -> Exchange:
    return ROUTES[path].decode(orjson.dumps({"model": MODEL, "prompt": "hello"} | fields))


def entry(*targets: Target, timeouts: Timeouts | None = None, **more: Any) -> Entry:
    """A route of these targets, of which nothing is known yet."""
    payload = files(route(MODEL, *targets, timeouts=timeouts or Timeouts(total=5), **more))
    raw, checksum = payload.values()
    return Table.build(Published(raw, checksum.decode()), Standings(), NONE).entries[MODEL]


def of_mlx(simulator: Simulator, **more: Any) -> Target:
    return mlx(f"http://127.0.0.1:{simulator.port}", **more)


def of_ollama(simulator: Simulator, **more: Any) -> Target:
    return ollama(f"http://127.0.0.1:{simulator.port}", **more)


def causes(found: Live | Unanswered) -> list[Cause]:
    """Why attempts failed, in order."""
    if isinstance(found, Live):
        return [failed.failure.cause for failed in found.failures]
    return [failure.cause for failure in found.failures]


async def rest(live: Live) -> list[Event]:
    """What comes after the first token.

    Raises:
        AttemptFailed: the answer broke.
    """
    events: list[Event] = []
    failure = None if live.done else await live.pipe(events.extend)
    if failure is not None:
        raise failure
    return events


@dataclass(slots=True)
class Scripted:
    """A host that answers every request with the same bytes, a moment at each `|`."""

    head: bytes = b"HTTP/1.1 200 OK\r\n"
    answer: bytes = b"{}\n"
    ends: bool = True
    _server: asyncio.Server | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        await unlisten(self._server)
        await self._server.wait_closed()
        if self._serving:
            await asyncio.wait(self._serving, timeout=5)

    @property
    def target(self) -> Target:
        assert self._server is not None
        return ollama(f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}")

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            length = len(self.answer) if self.ends else 10_000
            writer.write(self.head + b"Content-Length: %d\r\n\r\n" % length)
            for piece in self.answer.split(b"|"):
                writer.write(piece)
                await asyncio.sleep(0.02)
            if not self.ends:
                while await reader.read(65536):
                    pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
