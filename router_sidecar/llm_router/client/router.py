"""The client of a router process: the predecessor's call, and what it never had.

    arguments -> request -> wire -> (the router) -> wire -> results

It knows one address, the router's, and nothing of backends: which host answers, in what order hosts
are asked and how long is the router's business. It holds no configuration, starts no task that
outlives a call and never logs a prompt.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar, Unpack

import httpx

from llm_router.client import predecessor, request
from llm_router.client.account import Account
from llm_router.client.address import DEFAULT_URL, VARIABLE, root
from llm_router.client.fields import ChatFields, EmbedFields, PromptFields, Prompting
from llm_router.client.report import Window, report
from llm_router.client.request import Request
from llm_router.client.results import (
    Answered,
    ChatResult,
    EmbedResult,
    GenerateResult,
    Result,
    served,
)
from llm_router.client.stream import Stream
from llm_router.client.wire import Wire

R = TypeVar("R", bound=Result)
A = TypeVar("A", bound=Answered)

#: Seconds without a byte of the router. No LLMBackend has a longer deadline (an hour), so that it
#: is the router that gives up first and says why.
DEFAULT_TIMEOUT: Final = 3660.0


class LLMRouter:
    """A router, as one process uses it: any number of calls at once, from any event loop."""

    def __init__(
        self,
        admin_url: str | None = None,
        cache_ttl: float = 60,
        metrics_window_size: int = 100,
        persist_metrics: bool = True,
        *,
        url: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is connected before the first call.

        Args:
            admin_url, cache_ttl, persist_metrics: the predecessor's; without effect, and warned of.
            metrics_window_size: calls that `report_metrics` looks back on.
            url: the router's; else LLM_ROUTER_URL, else http://127.0.0.1:11434.
            timeout: seconds without a byte of the router; None waits for ever.
            transport: in place of httpx's own, for tests.

        Raises:
            ValueError: the address, the window or the timeout can't be.
        """
        given = {
            "admin_url": admin_url,
            "cache_ttl": cache_ttl,
            "persist_metrics": persist_metrics,
        }
        predecessor.warn(given, os.environ, stacklevel=2)
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is {timeout!r}; give seconds, more than 0, or None")
        named = url or os.environ.get(VARIABLE) or DEFAULT_URL
        self._url = root(named, source="url" if url else VARIABLE)
        self._wire = Wire(self._url, timeout=timeout, transport=transport)
        self._window = Window(metrics_window_size)

    @property
    def url(self) -> str:
        """The router's address."""
        return self._url

    async def generate(
        self,
        model: str,
        prompt: str,
        temperature: float | None = None,
        max_tokens: int | None = None,
        request_id: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        zone: str | None = None,
        intent: str | None = None,
        source: str | None = None,
        stage: str | None = None,
        **fields: Unpack[Prompting],
    ) -> GenerateResult:
        """The whole answer to a prompt.

        Args:
            temperature, max_tokens: the LLMBackend's where they are None; 0 is a value.
            request_id ... stage: who asks and what for; see `fields.Caller`.
            fields: what else an answer may be asked for; see `fields.Prompting`.

        Returns:
            A dict with response, backend, model, done, total_duration (ns) and eval_count, and
            attributes for all there is to know.

        Raises:
            LLMRouterError: there is no whole answer.
            TypeError, ValueError: an argument is unknown, or an id can't be sent.
        """
        ids = {
            "request_id": request_id,
            "session_id": session_id,
            "user_id": user_id,
            "zone": zone,
            "intent": intent,
            "source": source,
            "stage": stage,
        }
        given = {**fields, **ids, "temperature": temperature, "max_tokens": max_tokens}
        return await self._whole(request.prompt(model, prompt, given, stream=False), GenerateResult)

    def stream(
        self,
        model: str,
        prompt: str,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **fields: Unpack[PromptFields],
    ) -> Stream[GenerateResult]:
        """The answer to a prompt, as it is written; arguments as those of `generate`.

        It is asked for, and errors come, when the first piece is read.
        """
        given = {**fields, "temperature": temperature, "max_tokens": max_tokens}
        return self._stream(request.prompt(model, prompt, given, stream=True), GenerateResult)

    async def chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        format: str | Mapping[str, Any] | None = None,  # noqa: A002
        temperature: float | None = None,
        max_tokens: int | None = None,
        **fields: Unpack[ChatFields],
    ) -> ChatResult:
        """The whole answer to messages, which are in Ollama's shape.

        Args:
            tools: definitions of functions the model may call.
            format: "json", or a JSON Schema that the answer has.
            fields: see `fields.ChatFields`.

        Raises:
            LLMRouterError: there is no whole answer.
            TypeError, ValueError: as `generate`.
        """
        own = {"tools": tools, "format": format}
        given = {**fields, **own, "temperature": temperature, "max_tokens": max_tokens}
        return await self._whole(request.chat(model, messages, given, stream=False), ChatResult)

    def stream_chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        format: str | Mapping[str, Any] | None = None,  # noqa: A002
        temperature: float | None = None,
        max_tokens: int | None = None,
        **fields: Unpack[ChatFields],
    ) -> Stream[ChatResult]:
        """The answer to messages, as it is written; arguments as those of `chat`."""
        own = {"tools": tools, "format": format}
        given = {**fields, **own, "temperature": temperature, "max_tokens": max_tokens}
        return self._stream(request.chat(model, messages, given, stream=True), ChatResult)

    async def embed(
        self,
        model: str,
        input: str | Sequence[str],  # noqa: A002
        **fields: Unpack[EmbedFields],
    ) -> EmbedResult:
        """One vector a text.

        Raises:
            LLMRouterError: there are none; MLX hosts have no embeddings.
            TypeError, ValueError: as `generate`.
        """
        return await self._whole(request.embed(model, input, fields), EmbedResult)

    def report_metrics(self) -> dict[str, Any]:
        """Figures of the last calls, at most `metrics_window_size`.

        Returns:
            total_requests, errors, cancelled; avg_latency_seconds of the calls that were answered;
            avg_tokens_per_second of those whose decoding was measured, by the time of the decoding
            alone; by_model and by_backend, each with `requests` and the same figures. Averages of
            nothing are 0.0; a call that no host answered is in no backend.
        """
        return report(self._window.samples())

    async def aclose(self) -> None:
        """Close the connections of the running event loop; another call makes new ones."""
        await self._wire.aclose()

    async def __aenter__(self) -> "LLMRouter":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _whole(self, asked: Request, kind: type[R]) -> R:
        with self._account(asked) as account:
            response = await self._wire.open(asked)
            try:
                how = served(response.headers, implied=asked.implied)
                account.served(how)
                document = await self._wire.document(asked, response)
            finally:
                await response.aclose()
            result = kind(document, how)
            account.done(result)
            return result

    def _stream(self, asked: Request, kind: type[A]) -> Stream[A]:
        return Stream(self._wire, asked, kind, lambda: self._account(asked))

    def _account(self, asked: Request) -> Account:
        return Account(asked, self._window, endpoint=self._url)


_singleton: LLMRouter | None = None
_lock = threading.Lock()


def get_llm_router() -> LLMRouter:
    """The process's router, made at the first call; its address is LLM_ROUTER_URL."""
    global _singleton
    with _lock:
        if _singleton is None:
            _singleton = LLMRouter()
        return _singleton
