"""The API server as a leader may use it: once it does not lead any more, it can ask but not write.

The last of three bars before a late write: the process ends by itself, this refuses what it still
begins, and what was on its way already the other side refuses by its epoch. It knows no resource.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

import aiohttp

from llm_operator.api import API, JSON
from llm_operator.ports import Unavailable

LOST = "this replica does not lead any more"


class Gated(API):
    """An API server whose requests stop at a gate."""

    _open: Callable[[], bool] = staticmethod(lambda: True)

    @classmethod
    async def connected(cls, leading: Callable[[], bool]) -> Self:
        """Connect, for as long as `leading` says yes. Raises as `connect` does."""
        api = await cls.connect()
        api._open = leading
        return api

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = JSON,
        accept: str = JSON,
        confidential: bool = False,
    ) -> dict[str, Any]:
        """The JSON that answers a request. Raises as `API.request` does."""
        if method != "GET" and not self._open():
            raise Unavailable(f"{method} {path}: {LOST}")
        return await super().request(
            method,
            path,
            query=query,
            body=body,
            content=content,
            accept=accept,
            confidential=confidential,
        )

    async def session(self, *, connections: int) -> tuple[str, aiohttp.ClientSession]:
        """Its address, and a new session with the same gate. Raises as `API.session` does."""
        server, session = await super().session(connections=connections)
        traced = aiohttp.TraceConfig()
        traced.on_request_start.append(self._passed)
        traced.freeze()
        session.trace_configs.append(traced)
        return server, session

    async def _passed(
        self,
        session: aiohttp.ClientSession,
        context: object,
        asked: aiohttp.TraceRequestStartParams,
    ) -> None:
        if asked.method != "GET" and not self._open():
            raise aiohttp.ClientConnectionError(f"{asked.method} {asked.url.path}: {LOST}")
