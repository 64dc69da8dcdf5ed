"""The floor of the router: its own server and transport, and nothing between them.

    python -m bench.bare PORT UPSTREAM_PORT

Every request's body goes upstream as it is and every answer comes back as it is: no JSON, no table,
no record. What the router takes beyond this is its work; what this takes beyond nginx is Python's.
"""

import asyncio
import gc
import sys

import uvloop

from llm_router.run import listen
from llm_router.server import Call, Limits, Server
from llm_router.transport import Origin, Pool, TransportError

JSON = ((b"content-type", b"application/json"),)


class Pipe:
    """Hands each piece of an answer on in the callback that it arrives in."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data(self, piece: bytes) -> None:
        """A piece."""
        self.call.write(piece)

    def end(self, error: TransportError | None) -> None:
        """The end."""
        if not self.over.done():
            self.over.set_result(None)


class Bare:
    """What the server calls."""

    def __init__(self, origin: Origin) -> None:
        self._pool = Pool()
        self._origin = origin

    async def __call__(self, call: Call) -> None:
        """One request."""
        reply = await self._pool.send(
            self._origin,
            method=b"POST",
            path=call.path.encode(),
            headers=JSON,
            body=call.body,
            connect_timeout=3,
            timeout=60,
        )
        if reply.header(b"transfer-encoding") is None:
            call.respond(200, headers=JSON, body=await reply.read_all(1 << 20, 60))
            return
        call.begin(200, headers=((b"content-type", b"text/event-stream"),))
        pipe = Pipe(call)
        try:
            reply.pipe(pipe, timeout=60)
            await pipe.over
            call.end()
        finally:
            reply.close()


async def serve(port: int, upstream: int) -> None:
    """Serve until the process is ended."""
    origin = Origin.parse(f"http://127.0.0.1:{upstream}")
    server = Server(Bare(origin), Limits(max_body=1 << 20))
    await server.start(listen("127.0.0.1", port, setting="the port"))
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
