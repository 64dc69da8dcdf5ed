"""An answer that is read as it is written.

    async with router.stream("phi3:mini", prompt) as answer:
        async for piece in answer:
            print(piece, end="")
    answer.result.usage

It is asked for at the first piece. Leaving the block, breaking out of the loop or cancelling the
task closes the connection, and with it the generation at the host. What ends without its last line
is an error: a loop that ends has read the whole answer.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

import httpx

from llm_router.client.account import Account
from llm_router.client.errors import LLMRouterError
from llm_router.client.request import Request
from llm_router.client.results import Answered, Served, ToolCall, served, tool_calls
from llm_router.client.wire import Wire

R = TypeVar("R", bound=Answered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an answer; as a text it is the answer's text in it.

    Attributes:
        thinking: what the model thinks before it answers.
        tool_calls: whole ones.
        document: the router's line, as it came.
    """

    text: str
    thinking: str
    tool_calls: tuple[ToolCall, ...]
    document: Mapping[str, Any]

    def __str__(self) -> str:
        return self.text


def piece(line: Mapping[str, Any]) -> Piece:
    """The piece that a line of the router holds."""
    message = line.get("message")
    holder, name = (line, "response") if message is None else (message, "content")
    return Piece(
        text=str(holder.get(name) or ""),
        thinking=str(holder.get("thinking") or ""),
        tool_calls=tool_calls(holder),
        document=line,
    )


def joined(pieces: list[Piece]) -> dict[str, Any]:
    """The document of a whole answer, from all its lines; the last one has the counts."""
    last = dict(pieces[-1].document)
    text = "".join(each.text for each in pieces)
    thinking = "".join(each.thinking for each in pieces)
    told = [each.document.get("message") or each.document for each in pieces]
    more: dict[str, Any] = {"thinking": thinking} if thinking else {}
    if calls := [call for holder in told for call in holder.get("tool_calls") or ()]:
        more["tool_calls"] = calls
    if logprobs := [one for each in pieces for one in each.document.get("logprobs") or ()]:
        last["logprobs"] = logprobs
    if any("message" in each.document for each in pieces):
        return last | {"message": {"role": "assistant", "content": text} | more}
    return last | {"response": text} | more


class Stream(Generic[R]):
    """One answer; an asynchronous iterator of its pieces, to be read once."""

    def __init__(
        self, wire: Wire, request: Request, kind: type[R], account: Callable[[], Account]
    ) -> None:
        self._wire = wire
        self._request = request
        self._kind = kind
        self._begin = account
        self._account: Account | None = None
        self._begun = False
        self._response: httpx.Response | None = None
        self._served: Served | None = None
        self._result: R | None = None

    @property
    def request_id(self) -> str:
        """The id that the router's log and its usage record have too."""
        return self._request.request_id

    @property
    def served(self) -> Served:
        """How the router serves it; known from the first piece on.

        Raises:
            RuntimeError: nothing has come yet.
        """
        if self._served is None:
            raise RuntimeError("the answer has not begun: read a piece first")
        return self._served

    @property
    def result(self) -> R:
        """The whole answer, as the call that does not stream returns it.

        Raises:
            RuntimeError: it has not been read to its end.
        """
        if self._result is None:
            raise RuntimeError("the answer has not been read to its end")
        return self._result

    def __aiter__(self) -> AsyncIterator[Piece]:
        if self._begun:
            raise RuntimeError("a stream is read once: call stream() again for another answer")
        self._begun = True
        # NB: it is not kept here. Who breaks out of a loop then leaves it to nobody, and asyncio
        # ends it, and with it the answer.
        return self._pieces()

    async def aclose(self) -> None:
        """Leave an answer that is not read any further; its connection is closed."""
        if self._account is not None:
            self._account.left()
        await self._close()

    async def __aenter__(self) -> "Stream[R]":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _pieces(self) -> AsyncIterator[Piece]:
        with self._begin() as account:
            self._account = account
            self._response = response = await self._wire.open(self._request)
            try:
                self._served = served(response.headers, implied=self._request.implied)
                account.served(self._served)
                async with aclosing(self._wire.lines(self._request, response)) as lines:
                    async for each in self._read(lines, account):
                        yield each
            finally:
                await self._close()

    async def _read(
        self, lines: AsyncIterator[Mapping[str, Any]], account: Account
    ) -> AsyncIterator[Piece]:
        """The pieces up to the last, with which the result is there."""
        pieces: list[Piece] = []
        async for line in lines:
            pieces.append(piece(line))
            if line.get("done"):
                self._result = self._kind(joined(pieces), self.served)
                account.done(self._result)
            yield pieces[-1]
            if self._response is None:
                raise RuntimeError("the stream was closed: it has no more pieces")
            if self._result is not None:
                # NB: the connection is used again only if its answer was read to the end, and what
                # becomes of it is of no account any more.
                with suppress(LLMRouterError):
                    await anext(lines, None)
                return
        raise self._wire.unfinished(self._request)

    async def _close(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()
