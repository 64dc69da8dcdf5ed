"""One question to one router: GET /status, within a time and a size, whatever answers.

It never raises for a router. What it says of a failure is the same text each time, so that a status
does not change with every attempt, and holds nothing of what was answered.
"""

import asyncio
from hashlib import blake2b

import httpx

from llm_operator.routers.report import LIMIT, Answer, Unreachable, renewed, too_long

#: Routers asked at once, by all namespaces together.
WIDTH = 50
#: Seconds for a connection, for the next bytes, and for all of it.
CONNECT, READ, WHOLE = 1.0, 2.0, 4.0


class Asking:
    """All questions to routers; they share one client and a bound. It is closed by `close`."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(WIDTH)
        self._client: httpx.AsyncClient | None = None
        #: Router -> a digest of its last answer, and what that was.
        self._known: dict[str, tuple[bytes, Answer]] = {}

    async def status(self, uid: str, url: str) -> Answer:
        """What the router says it runs."""
        async with self._slots:
            try:
                async with asyncio.timeout(WHOLE):
                    raw = await self._read(f"{url}/status")
            except (TimeoutError, httpx.TimeoutException):
                return Unreachable("it does not answer in time")
            except httpx.NetworkError:
                return Unreachable("no connection")
            except (httpx.HTTPError, httpx.InvalidURL):
                return Unreachable("it does not speak HTTP")
        return await self._answer(uid, raw) if isinstance(raw, bytes) else raw

    def keep(self, uids: frozenset[str], *, of: frozenset[str]) -> None:
        """Forget those of some routers that are not there any more."""
        for gone in of - uids:
            self._known.pop(gone, None)

    async def close(self) -> None:
        """End all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _read(self, url: str) -> bytes | Unreachable:
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(READ, connect=CONNECT),
                # NB: between two rounds a router would close the connection anyhow.
                limits=httpx.Limits(max_connections=WIDTH, max_keepalive_connections=0),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                follow_redirects=False,
                trust_env=False,
                verify=False,
            )
        async with self._client.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                return Unreachable(f"its /status is HTTP {answer.status_code}")
            parts, size = [], 0
            async for part in answer.aiter_raw():
                parts.append(part)
                size += len(part)
                if size > LIMIT:
                    return too_long()
            return b"".join(parts)

    async def _answer(self, uid: str, raw: bytes) -> Answer:
        """NB: at rest an answer is the same to the byte, and then is not taken apart again."""
        digest = blake2b(raw, digest_size=16).digest()
        known = self._known.get(uid)
        if known is not None and known[0] == digest:
            return known[1]
        # A table of a thousand routes takes a moment, which must not be the event loop's.
        answer = await asyncio.to_thread(renewed, raw, known and known[1])
        self._known[uid] = digest, answer
        return answer
