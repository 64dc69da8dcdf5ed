"""The way to the router and back: requests sent, answers' heads judged, bytes read as lines.

    Request -> Wire.open -> an answer that began, or an LLMRouterError -> document() or lines()

The router falls back to other hosts; the client tries nothing again. The one exception is a
connection that is refused: nothing has been sent then, so it is tried anew for a moment, in which a
sidecar starts or is replaced. Errors of the HTTP library never reach a caller.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from llm_router.client.errors import (
    LLMRouterError,
    RouterUnavailable,
    StreamBroken,
    Timeout,
    refused,
)
from llm_router.client.pool import Pool
from llm_router.client.request import REQUEST_ID_HEADER, Request
from llm_router.client.results import attempts

E = TypeVar("E", bound=LLMRouterError)

#: Seconds until a connection to the router stands.
CONNECT_SECONDS = 5.0

#: For how many seconds a refused connection is tried anew, and the pause between two tries.
GRACE_SECONDS = 2.0
PAUSE_SECONDS = 0.1

#: Seconds an idle connection is kept; less than the router keeps it.
IDLE_SECONDS = 60.0


class Wire:
    """The connection to one router."""

    def __init__(
        self, url: str, *, timeout: float | None, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        self.url = url
        self._timeout = timeout
        self._transport = transport
        self._pool = Pool(self._client)

    async def open(self, request: Request) -> httpx.Response:
        """Send a request; its answer, whose body is still to be read. Whoever has it closes it.

        Raises:
            LLMRouterError: there is no answer.
        """
        with self._translated(request, began=False):
            response = await self._send(request)
        try:
            # NB: a real Ollama has the same address by default, and would answer in our stead.
            if REQUEST_ID_HEADER not in response.headers:
                message = f"what answers there is no llm-router: it sends no {REQUEST_ID_HEADER}"
                raise self._error(RouterUnavailable, request, message, "unavailable")
            if response.status_code != 200:
                with self._translated(request, began=False):
                    await response.aread()
                raise self._refusal(request, response)
        except BaseException:
            await response.aclose()
            raise
        return response

    async def document(self, request: Request, response: httpx.Response) -> dict[str, Any]:
        """The whole body.

        Raises:
            LLMRouterError: it broke off, or is none of a router's.
        """
        with self._translated(request, began=True):
            body = await response.aread()
        return self._parsed(request, body)

    async def lines(
        self, request: Request, response: httpx.Response
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The lines of a streamed body, as they come.

        Raises:
            LLMRouterError: it broke off, by the router's word or without one.
        """
        # NB: not httpx's own lines, which also end at U+2028 and others that JSON texts may hold.
        rest = b""
        pieces = response.aiter_bytes()
        while True:
            with self._translated(request, began=True):
                piece = await anext(pieces, None)
            if piece is None:
                break
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if line:
                    yield self._line(request, line)
        if rest.strip():
            yield self._line(request, rest)

    def unfinished(self, request: Request) -> StreamBroken:
        """The error of a stream that just ends."""
        return self._broken(request, "the stream ended without its last line")

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._pool.aclose()

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=httpx.Timeout(self._timeout, connect=CONNECT_SECONDS),
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=100, keepalive_expiry=IDLE_SECONDS
            ),
            transport=self._transport,
            # NB: the router is on this machine; a proxy of the environment does not reach it.
            trust_env=False,
            verify=ssl.create_default_context() if self.url.startswith("https:") else False,
        )

    async def _send(self, request: Request) -> httpx.Response:
        client = await self._pool.client()
        url = self.url + request.path
        made = client.build_request("POST", url, headers=[*request.headers], content=request.body)
        until = asyncio.get_running_loop().time() + GRACE_SECONDS
        while True:
            try:
                return await client.send(made, stream=True)
            except httpx.ConnectError:
                if asyncio.get_running_loop().time() >= until:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

    @contextmanager
    def _translated(self, request: Request, *, began: bool) -> Iterator[None]:
        """The HTTP library's errors as this library's.

        Args:
            began: the head of the answer is there.
        """
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            message = f"no connection to the router: {error or 'it takes too long'}"
            raise self._error(RouterUnavailable, request, message, "unavailable") from error
        except httpx.TimeoutException as error:
            message = f"the router said nothing for {self._timeout} s"
            raise self._error(Timeout, request, message, "client_timeout") from error
        except httpx.HTTPError as error:
            if began:
                raise self._broken(request, "the connection ended") from error
            message = "the router closed the connection before it answered"
            raise self._error(RouterUnavailable, request, message, "unavailable") from error

    def _line(self, request: Request, line: bytes) -> dict[str, Any]:
        document = self._parsed(request, line)
        if "error" in document:
            message, code = _said(document)
            raise self._broken(request, message, code=code)
        return document

    def _parsed(self, request: Request, body: bytes) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            # NB: not chained, as the parser's error holds the text.
            raise self._broken(request, "what came is not the router's JSON") from None
        return document

    def _refusal(self, request: Request, response: httpx.Response) -> LLMRouterError:
        try:
            message, code = _said(response.json())
        except ValueError:
            message, code = "", ""
        headers = response.headers
        return refused(
            message or "the router gave no reason",
            status=response.status_code,
            code=code,
            model=request.model,
            router=self.url,
            request_id=headers[REQUEST_ID_HEADER],
            attempts=attempts(headers),
            fallback_reason=headers.get("x-llm-fallback-reason", ""),
            retry_after=headers.get("retry-after", ""),
        )

    def _broken(self, request: Request, reason: str, *, code: str = "") -> StreamBroken:
        message = f"the answer has no proper end: {reason}"
        return self._error(StreamBroken, request, message, code or "broken_stream")

    def _error(self, kind: type[E], request: Request, message: str, code: str) -> E:
        return kind(
            message,
            code=code,
            model=request.model,
            router=self.url,
            request_id=request.request_id,
        )


def _said(document: Any) -> tuple[str, str]:
    """The message and the code of an error, in the words of any of the router's protocols."""
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        return str(error.get("message", "")), str(error.get("code", ""))
    return str(error or ""), ""
