"""HTTP as bytes, as far as both simulated hosts need it: reading requests, and one exchange each.

A library would frame responses its own way; here every byte is the host's to choose (framing.py).
Reading is lenient, because what is tested is the client.

    stream reader -> Request -> Exchange (send, wait, notice that the client has gone)
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from llm_operator.simulate.journal import Journal, Outcome, Received

#: A client that closes is noticed within this many seconds.
POLL = 0.05
#: Bytes that may wait in the socket before a sender waits.
UNSENT = 65536


class Gone(Exception):
    """The client closed the connection."""


class BadRequest(Exception):
    """Bytes that are no HTTP request."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head, and its body once it has been read."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def control(self) -> bool:
        """Meant for the simulator itself, not for the host it plays."""
        return self.path == "/_simulate" or self.path.startswith("/_simulate/")

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [v for k, v in self.headers if k.lower() == name]

    def header(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def closes(self) -> bool:
        """The connection ends with this exchange."""
        wish = (self.header("connection") or "").lower()
        return self.version != "HTTP/1.1" or "close" in wish

    def received(self) -> Received:
        headers = {name.lower(): value for name, value in self.headers}
        return Received(self.method, self.target, headers, parsed(self.body))


def parsed(body: bytes) -> Any:
    """A body as JSON, else as text, else None."""
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


async def read_head(reader: asyncio.StreamReader) -> Request | None:
    """The next request line and headers; None at the end of the connection."""
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest("the request's head is too long") from error
    line, *lines = block.decode("latin-1").strip("\r\n").split("\r\n")
    parts = line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest(f"{line!r} is no HTTP request line")
    pairs = (item.partition(":") for item in lines)
    headers = tuple((name, value.strip()) for name, _, value in pairs)
    return Request(parts[0], parts[1], parts[2], headers)


async def read_body(reader: asyncio.StreamReader, head: Request) -> bytes:
    """The body that follows a head: chunked, by length, or none. Raises Gone, BadRequest."""
    try:
        if "chunked" in (head.header("transfer-encoding") or "").lower():
            return await _read_chunks(reader)
        return await reader.readexactly(int(head.header("content-length") or 0))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Gone from error
    except (ValueError, asyncio.LimitOverrunError) as error:
        raise BadRequest("the body's length cannot be read") from error


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # NB: trailers end with an empty line, as a body without them does.
    return bytes(body)


class Exchange:
    """One request and the bytes sent for it.

    `patient` keeps a host generating after its client has gone, as mlx_lm.server does when it does
    not stream: the cancellation is counted at once, the work goes on.
    """

    def __init__(
        self,
        request: Request,
        *,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        journal: Journal,
        received: Received,
    ) -> None:
        self.request = request
        self.received = received
        self.patient = False
        self._journal = journal
        self._reader, self._writer = streams

    @property
    def gone(self) -> bool:
        # NB: a reset connection sets an exception on the reader and no end of file.
        broken = self._reader.exception() is not None or self._writer.is_closing()
        return self._reader.at_eof() or broken

    def check(self) -> None:
        """Raises Gone if the client has closed the connection."""
        if not self.gone:
            return
        self.end(Outcome.CANCELLED)
        if not self.patient:
            raise Gone

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > UNSENT:
            try:
                await self._writer.drain()
            except ConnectionError as error:
                self.end(Outcome.CANCELLED)
                raise Gone from error

    async def wait(self, seconds: float) -> None:
        """Let time pass. Raises Gone when the client closes meanwhile."""
        clock = asyncio.get_running_loop()
        until = clock.time() + seconds
        self.check()
        while (left := until - clock.time()) > 0:
            await asyncio.sleep(min(left, POLL))
            self.check()

    async def hang(self) -> None:
        """Do nothing until the client gives up."""
        while True:
            if self.gone:
                self.end(Outcome.CANCELLED)
                raise Gone
            await asyncio.sleep(POLL)

    def end(self, outcome: Outcome) -> None:
        self._journal.end(self.received, outcome)
