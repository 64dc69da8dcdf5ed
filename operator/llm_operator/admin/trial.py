"""The try-it box's way to a model: where a request would go and why, and then its answer, streamed.

    page -> trial -> router: POST /explain on its management port, POST /v1/chat/completions

It asks a router like any application beside one, so that what is seen here is what applications
get. It decides nothing, and keeps and logs no prompt and no answer. Who may try is asked before.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from llm_operator.admin.errors import AdminError, Away, Invalid, TooMany

#: Seconds for a connection, between two pieces of an answer, for an explanation, and for all.
CONNECT, IDLE, EXPLAIN, WHOLE = 5.0, 120.0, 10.0, 600.0
#: Answers that stream at one time, characters of a prompt, and tokens of an answer, at most.
ANSWERS, PROMPT, TOKENS = 8, 32_768, 4096

PATH = "/v1/chat/completions"

NO_MANAGEMENT = (
    "the way of a request is not known: set LLMB_ADMIN_ROUTER_MANAGEMENT_URL to the router's "
    "management port"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Who answers.

    Attributes:
        backend: LLMBackend and target, as `phi3-mini/mlx`.
        type: of the target.
        attempts: targets tried.
        fallback_reason: why the first did not answer; "" when it did.
    """

    backend: str
    type: str
    attempts: str
    fallback_reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more text of the answer; `thought` for what the model says to itself first."""

    text: str
    thought: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The answer is whole.

    Attributes:
        tokens: of the answer; None when the host does not count.
        reason: why it ended, as `stop` or `length`.
    """

    tokens: int | None
    reason: str
    seconds: float
    first_token_seconds: float | None

    @property
    def tokens_per_second(self) -> float | None:
        """Of decoding alone; None where nothing was measured."""
        if self.tokens is None or self.tokens < 2 or self.first_token_seconds is None:
            return None
        decoding = self.seconds - self.first_token_seconds
        return (self.tokens - 1) / decoding if decoding > 0 else None


class Trial:
    """One router that may be asked from here. It is closed by `close`."""

    def __init__(self, router: str, management: str | None) -> None:
        """Take the router's URL and that of its management port; ask nobody yet."""
        self._router = router.rstrip("/")
        self._management = management.rstrip("/") if management else None
        timeout = httpx.Timeout(IDLE, connect=CONNECT)
        self._client = httpx.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False)
        self._answers = asyncio.Semaphore(ANSWERS)

    async def close(self) -> None:
        """End all connections."""
        await self._client.aclose()

    async def explain(self, model: str) -> Mapping[str, Any]:
        """Where a request for the model would go now: the document of the router's POST /explain.

        Raises:
            Invalid: the router does not take the question.
            Away: no router says.
        """
        if self._management is None:
            raise Away(NO_MANAGEMENT)
        url = f"{self._management}/explain"
        try:
            answer = await self._client.post(url, json={"model": model}, timeout=EXPLAIN)
            document = answer.json()
        except httpx.HTTPError as error:
            raise _away(error) from None
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Away("what answers as the router's management port is none")
        if not answer.is_success or "would" not in document:
            raise Invalid(str(document.get("detail", "the router does not explain this")))
        return document

    async def ask(
        self, model: str, prompt: str, *, tokens: int = 512
    ) -> AsyncGenerator[Begun | Piece | Ended, None]:
        """The answer as it comes. Whoever leaves the loop early ends the request.

        Args:
            tokens: of the answer at most.

        Raises:
            Invalid: nothing to ask, or the router or the host refuses it.
            TooMany: too many answers stream from here.
            Away: no router, or no host, answers.
        """
        if not prompt.strip():
            raise Invalid("prompt: write what to ask")
        if len(prompt) > PROMPT:
            raise Invalid(f"prompt: {len(prompt)} characters; at most {PROMPT}")
        if not 1 <= tokens <= TOKENS:
            raise Invalid(f"tokens: must be from 1 to {TOKENS}, is {tokens}")
        if self._answers.locked():
            raise TooMany(f"{ANSWERS} answers stream from here already", retry_after=5.0)
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with self._answers, aclosing(self._told(body)) as told:
            async for one in told:
                yield one

    async def _told(self, body: Mapping[str, Any]) -> AsyncGenerator[Begun | Piece | Ended, None]:
        began = time.monotonic()
        first: float | None = None
        tokens: int | None = None
        reason = ""
        async with self._stream(body) as answer:
            yield _begun(answer.headers)
            async for event in _events(answer):
                if time.monotonic() - began > WHOLE:
                    raise Away(f"the answer took longer than {WHOLE:.0f} s; it was ended")
                tokens = _tokens(event, tokens)
                for piece, ended in _pieces(event):
                    reason = ended or reason
                    if piece.text:
                        first = first if first is not None else time.monotonic() - began
                        yield piece
        seconds = time.monotonic() - began
        yield Ended(tokens=tokens, reason=reason, seconds=seconds, first_token_seconds=first)

    @asynccontextmanager
    async def _stream(self, body: Mapping[str, Any]) -> AsyncIterator[httpx.Response]:
        try:
            async with self._client.stream("POST", f"{self._router}{PATH}", json=body) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _refusal(answer)
                yield answer
        except httpx.HTTPError as error:
            raise _away(error) from None


async def _events(answer: httpx.Response) -> AsyncIterator[Mapping[str, Any]]:
    """The JSON documents of an event stream.

    Raises:
        Away: the stream says that it broke off, or is none.
    """
    async for line in answer.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise Away("the router sent what is no event")
        if "error" in event:
            raise Away(_message(event))
        yield event
    raise Away("the answer broke off")


def _pieces(event: Mapping[str, Any]) -> list[tuple[Piece, str]]:
    found = []
    for choice in event.get("choices") or ():
        delta, ended = choice.get("delta") or {}, choice.get("finish_reason") or ""
        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
        found.append((Piece(str(thought), thought=True), ""))
        found.append((Piece(str(delta.get("content") or "")), str(ended)))
    return found


def _tokens(event: Mapping[str, Any], before: int | None) -> int | None:
    count = (event.get("usage") or {}).get("completion_tokens")
    return count if isinstance(count, int) else before


def _begun(headers: httpx.Headers) -> Begun:
    return Begun(
        backend=headers.get("x-llm-backend", ""),
        type=headers.get("x-llm-backend-type", ""),
        attempts=headers.get("x-llm-attempts", ""),
        fallback_reason=headers.get("x-llm-fallback-reason", ""),
    )


def _refusal(answer: httpx.Response) -> AdminError:
    try:
        detail = _message(answer.json())
    except ValueError:
        detail = ""
    detail = detail or f"the router answered {answer.status_code}"
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return TooMany(detail)
    return Away(detail) if answer.is_server_error else Invalid(detail)


def _message(document: object) -> str:
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def _away(error: httpx.HTTPError) -> Away:
    why = str(error) or type(error).__name__
    return Away(f"the router does not answer ({why})")
