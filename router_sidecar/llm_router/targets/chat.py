"""The OpenAI chat protocol on the upstream side: what the mlx and openai targets share.

Requests: how messages are written, and what is lost on the way. Answers: server-sent events, ended
by `[DONE]`; tool calls may come whole or in fragments, keyed by their index.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import (
    REASONS,
    Call,
    Delta,
    Dialect,
    Event,
    Exchange,
    Finish,
    Kind,
    Message,
    Reason,
    Usage,
)
from llm_router.targets.target import Lines, broken, count, error_text, parsed, word

#: OpenAI fields that every translation of a chat carries over.
TRANSLATED = frozenset(
    "model messages stream stream_options max_tokens max_completion_tokens temperature top_p "
    "top_k min_p seed stop presence_penalty frequency_penalty repetition_penalty tools "
    "response_format n".split()
)

#: The same of a text completion, which has no turns, tools or structure.
TRANSLATED_PROMPT = TRANSLATED - {"messages", "tools", "response_format"} | {"prompt"}

#: OpenAI fields that say nothing when they are false.
PLAIN_WHEN_FALSE = frozenset({"logprobs", "store", "echo"})

#: Ollama fields that a translation carries over, that `lacking` judges, or that only Ollama needs.
OLLAMA_KNOWN = frozenset(
    "model messages prompt system images stream raw options tools format think keep_alive suffix "
    "template context logprobs top_logprobs".split()
)


def lacking(exchange: Exchange) -> str | None:
    """The request's field that no server of this protocol can honour, or None."""
    if exchange.prompt_only:
        return next(iter(sorted(exchange.prompt_only)))
    if not exchange.messages:
        # An empty request loads or unloads a model on Ollama; others have no such thing.
        return "messages" if exchange.kind is Kind.CHAT else "prompt"
    if exchange.raw and len(exchange.messages) > 1:
        # A raw prompt has no place for a system text.
        return "raw"
    return next(iter(sorted(exchange.needs)), None)


def written(message: Message) -> dict[str, Any]:
    """One turn as OpenAI writes it."""
    # NB: content null in an assistant's turn breaks chat templates (mlx-lm issue 1739), so it is
    # "".
    turn: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.images:
        parts = [{"type": "image_url", "image_url": {"url": _image(i)}} for i in message.images]
        turn["content"] = [*parts, {"type": "text", "text": message.text}]
    if message.calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.calls
        ]
    if message.call_id:
        turn["tool_call_id"] = message.call_id
    if message.tool:
        turn["name"] = message.tool
    return turn


def _image(image: str) -> str:
    return image if image.startswith("http") else f"data:image/png;base64,{image}"


def dropped_openai(exchange: Exchange, *, kept: Iterable[str] = ()) -> tuple[str, ...]:
    """The fields an OpenAI client set that a translation does not carry."""
    carried = TRANSLATED if exchange.kind is Kind.CHAT else TRANSLATED_PROMPT
    if exchange.body.keys() <= carried:
        return ()
    asked = {
        name
        for name, value in exchange.body.items()
        if value is not None and not (value is False and name in PLAIN_WHEN_FALSE)
    }
    if exchange.body.get("tool_choice") in ("auto", "none"):
        asked.discard("tool_choice")
    if exchange.body.get("best_of") == 1:
        asked.discard("best_of")
    return tuple(sorted(asked - carried - frozenset(kept)))


def dropped_ollama(exchange: Exchange, *, options: Iterable[str]) -> set[str]:
    """The fields an Ollama client set that a translation with these options does not carry."""
    asked = exchange.body.get("options") or {}
    left = {name for name, value in asked.items() if value is not None} - frozenset(options)
    known = OLLAMA_KNOWN if exchange.dialect is Dialect.OLLAMA else exchange.body.keys()
    other = {name for name, value in exchange.body.items() if value is not None} - known
    return other | {f"options.{name}" for name in left}


class ChatDecoder:
    """Server-sent events of chat or text completion chunks -> events."""

    def __init__(self) -> None:
        self.started = False
        self.done = False
        self._lines = Lines()
        self._reason: Reason | None = None
        self._usage = Usage()
        self._calls: dict[int, Call] = {}

    def feed(self, data: bytes) -> list[Event]:
        """See `Decoder.feed`."""
        events: list[Event] = []
        for line in self._lines.feed(data):
            # Comments (`: keepalive`) and the empty lines between events carry nothing.
            if line.startswith(b"data:"):
                self._data(line[5:].strip(), events)
        return events

    def _data(self, payload: bytes, events: list[Event]) -> None:
        if self.done:
            raise broken("went on after [DONE]")
        if payload == b"[DONE]":
            self._end(events)
            return
        chunk = parsed(payload)
        if chunk.get("error") is not None:
            raise AttemptFailed(Cause.BROKEN_STREAM, f"the host broke off: {error_text(payload)}")
        usage = chunk.get("usage")
        if isinstance(usage, Mapping):
            self._usage.prompt_tokens = count(usage.get("prompt_tokens"))
            self._usage.completion_tokens = count(usage.get("completion_tokens"))
        for choice in chunk.get("choices") or ():
            self._choice(choice, events)

    def _choice(self, choice: Mapping[str, Any], events: list[Event]) -> None:
        piece = choice.get("delta") or {}
        text = piece.get("content") or choice.get("text") or ""
        thinking = piece.get("reasoning") or piece.get("reasoning_content") or ""
        if not (isinstance(text, str) and isinstance(thinking, str)):
            raise TypeError(piece)
        if text or thinking:
            self.started = True
            events.append(Delta(text, thinking))
        for fragment in piece.get("tool_calls") or ():
            self.started = True
            self._fragment(fragment)
        if named := choice.get("finish_reason"):
            self.started = True
            self._reason = REASONS.get(named, Reason.STOP)
            if self._calls:
                events.append(Delta(calls=tuple(self._calls.values())))
                self._calls = {}

    def _fragment(self, fragment: Mapping[str, Any]) -> None:
        index = fragment.get("index")
        if index is None:
            index = len(self._calls)
        function = fragment.get("function") or {}
        begun = self._calls.get(index, Call(id=f"call_{index}", name="", arguments=""))
        self._calls[index] = Call(
            id=word(fragment.get("id")) or begun.id,
            name=begun.name + word(function.get("name")),
            arguments=begun.arguments + word(function.get("arguments")),
        )

    def _end(self, events: list[Event]) -> None:
        if self._reason is None:
            raise broken("said [DONE] without a finish reason")
        self.done = True
        events.append(Finish(self._reason, self._usage))
