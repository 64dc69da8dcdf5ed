"""Two proxies that stop the world at one step of the operator: every write to the API server and
every commit to Postgres passes here, and a chosen one is where everything freezes.

    boundary.arm("configmap", applied=False)    # as it is asked for: the other side never sees it
    boundary.arm("commit", applied=True)        # done, but the operator never learns of it
    boundary.reached.wait(10); operator.kill(); boundary.release()

Unlike `parts.proxy` it reads what passes. The operator is given plain HTTP, since it would not see
anything in TLS; towards the API server it is TLS as ever. It runs in a thread of its own.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llm_operator.simulate.server import unlisten
from parts.control_plane import ControlPlane
from parts.postgres import Postgres
from parts.process import free_port

#: What a write to the API server is: step -> (method, what the path holds, what the body holds).
STEPS: dict[str, tuple[bytes, bytes, bytes]] = {
    "finalizer": (b"PATCH", b"/llmbackends/", b"finalizers"),
    "handled": (b"PATCH", b"/llmbackends/", b"llm.athena.dev/handled"),
    "status": (b"PATCH", b"/status?", b""),
    "secret": (b"PATCH", b"/secrets/", b""),
    "configmap": (b"PATCH", b"/configmaps/", b""),
    "event": (b"POST", b"/events", b""),
}
#: The transaction that brings the rows in line.
COMMIT = "commit"
ROWS = b"llmb.llm_backends"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True, eq=False)
class Boundary:
    """Both ways. All methods may be called from any thread.

    Attributes:
        reached: set when the armed step has come and everything stands.
    """

    api: tuple[str, int]
    tls: ssl.SSLContext
    postgres: Path
    api_port: int = field(default_factory=free_port)
    postgres_port: int = field(default_factory=free_port)
    reached: threading.Event = field(default_factory=threading.Event)
    _armed: tuple[str, bool] | None = None
    _frozen: bool = False
    _links: set[asyncio.Task[None]] = field(default_factory=set)
    _servers: list[asyncio.Server] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None

    @property
    def frozen(self) -> bool:
        """Whether everything stands now."""
        return self._frozen

    def start(self) -> None:
        """Listen on both ports."""
        self._thread = threading.Thread(target=self._loop.run_forever, name="boundary", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def arm(self, step: str, *, applied: bool) -> None:
        """Freeze at the next such step: before the other side has it, or once it is done there."""
        assert step == COMMIT or step in STEPS, step
        self.reached.clear()
        self._armed = step, applied

    def release(self) -> None:
        """Everything that stood is lost, with its connections; what comes from now on passes."""
        self._do(self._break())

    def close(self) -> None:
        """The end: nothing of it is left."""
        self._do(self._unlisten())
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        for port, serve in ((self.api_port, self._http), (self.postgres_port, self._sql)):
            # NB: the body of an apply may be longer than a stream reader holds by itself.
            server = await asyncio.start_server(
                self._tracked(serve), "127.0.0.1", port, limit=2**22
            )
            self._servers.append(server)

    async def _unlisten(self) -> None:
        for server in self._servers:
            await unlisten(server)
        # NB: a client that was just accepted becomes a link only now, after those that are there.
        until = self._loop.time() + 5
        while others := asyncio.all_tasks(self._loop) - {asyncio.current_task()}:
            await self._break()
            await asyncio.wait(others, timeout=0.1)
            if self._loop.time() > until:
                break
        # NB: a transport that was aborted is closed one turn of the loop later.
        await asyncio.sleep(0)

    async def _break(self) -> None:
        links, self._armed = list(self._links), None
        for link in links:
            link.cancel()
        if links:
            await asyncio.wait(links, timeout=5)
        self._frozen = False

    def _tracked(self, serve: Callable[[Streams], Coroutine[Any, Any, None]]) -> Any:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._links.add(task)
            try:
                # NB: an end of one side is an end of the link, and of nothing else.
                with contextlib.suppress(
                    OSError, asyncio.IncompleteReadError, asyncio.CancelledError
                ):
                    await serve((reader, writer))
            finally:
                self._links.discard(task)
                writer.transport.abort()

        return accept

    async def _http(self, client: Streams) -> None:
        server = await _opened(asyncio.open_connection(*self.api, ssl=self.tls))
        await self._carry(client, server, _request)

    async def _sql(self, client: Streams) -> None:
        server = await _opened(asyncio.open_unix_connection(self.postgres))
        await self._carry(client, server, _Messages().next)

    async def _carry(self, client: Streams, server: Streams, unit: Any) -> None:
        """Both directions of one link until either side ends."""
        held = _Held()
        halves = [
            asyncio.create_task(self._ask(client[0], server[1], unit, held)),
            asyncio.create_task(self._answer(server[0], client[1], held)),
        ]
        try:
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # NB: first of all, because a link that ends by itself may be cancelled while it waits.
            server[1].transport.abort()
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, unit: Any, held: "_Held"
    ) -> None:
        while True:
            data, steps = await unit(reader)
            if not data:
                return
            if self._armed and self._armed[0] in steps and not self._frozen:
                if not self._armed[1]:
                    self._freeze()
                held.waiting = True
            await self._pass()
            writer.write(data)
            await writer.drain()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: "_Held"
    ) -> None:
        while data := await reader.read(65536):
            if held.waiting and not self._frozen:
                self._freeze()
            await self._pass()
            writer.write(data)
            await writer.drain()

    def _freeze(self) -> None:
        self._frozen = True
        self.reached.set()

    async def _pass(self) -> None:
        if self._frozen:
            await asyncio.Event().wait()


async def _opened(opening: Coroutine[Any, Any, Streams]) -> Streams:
    task = asyncio.ensure_future(opening)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # NB: a connection that has just come to stand would be nobody's to close.
        with contextlib.suppress(OSError):
            (await task)[1].transport.abort()
        raise


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, set[str]]:
    """One whole HTTP request, and which steps it is."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if line)
    assert b"transfer-encoding" not in headers, "only bodies of a known length are carried"
    body = await reader.readexactly(int(headers.get(b"content-length", 0)))
    method, path, _ = lines[0].split(b" ")
    steps = {
        step
        for step, (verb, place, text) in STEPS.items()
        if method == verb and place in path and text in body
    }
    return head + body, steps


@dataclass(slots=True, eq=False)
class _Held:
    """Whether the answer to come is that of the armed step."""

    waiting: bool = False


@dataclass(slots=True, eq=False)
class _Messages:
    """One connection to Postgres: a commit counts when rows were written before it."""

    _wrote: bool = False

    async def next(self, reader: asyncio.StreamReader) -> tuple[bytes, set[str]]:
        data = await reader.read(2**20)
        self._wrote = self._wrote or (ROWS in data and (b"INSERT" in data or b"UPDATE" in data))
        if b"COMMIT" not in data:
            return data, set()
        wrote, self._wrote = self._wrote, False
        return data, {COMMIT} if wrote else set()


@pytest.fixture(scope="module")
def boundary(control_plane: ControlPlane, postgres: Postgres) -> Iterator[Boundary]:
    """Before the run's API server and Postgres."""
    made = Boundary(
        api=("127.0.0.1", control_plane.port),
        tls=ssl.create_default_context(cafile=str(control_plane.ca)),
        postgres=postgres.socket,
    )
    made.start()
    yield made
    made.close()
