"""One pooled HTTP client for each event loop, closed with its loop.

A client's connections belong to the loop they were made in. One router object may be used from
several `asyncio.run` calls, one after the other, and from several threads at once: each loop has a
client of its own, made at its first call.

NB: an async generator holds each client, because that is what a loop ends in order when it ends
(`shutdown_asyncgens`, which `asyncio.run` calls). So no connection outlives its loop, although
nobody may have called `aclose`.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable

import httpx

Lifetime = AsyncGenerator[httpx.AsyncClient, None]


class Pool:
    """The clients there are."""

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._kept: dict[asyncio.AbstractEventLoop, tuple[Lifetime, httpx.AsyncClient]] = {}

    async def client(self) -> httpx.AsyncClient:
        """The client of the running loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            kept = self._kept.get(loop)
        if kept is not None and not kept[1].is_closed:
            return kept[1]
        lifetime = _lifetime(self._make)
        # NB: it does not wait before it yields, so no other task of this loop comes in between.
        client = await anext(lifetime)
        with self._lock:
            for other in [each for each in self._kept if each.is_closed()]:
                del self._kept[other]
            self._kept[loop] = (lifetime, client)
        return client

    async def aclose(self) -> None:
        """Close the running loop's client; the next call makes another."""
        with self._lock:
            kept = self._kept.pop(asyncio.get_running_loop(), None)
        if kept is not None:
            await kept[0].aclose()


async def _lifetime(make: Callable[[], httpx.AsyncClient]) -> Lifetime:
    client = make()
    try:
        yield client
    finally:
        await client.aclose()
