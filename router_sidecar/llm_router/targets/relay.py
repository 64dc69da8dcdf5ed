"""Streams of a host whose protocol the client speaks: the host's own bytes, with the least edit.

The model's name becomes the caller's, a usage chunk that only the router asked for is left out, and
so are comments; nothing else of a chunk is changed, known or not. Every chunk is read all the same:
that is how the first token, the end, an error in band and garbage are found.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import REASONS, Chunk, Event, Finish, Reason, Usage
from llm_router.targets.target import Lines, broken, count, error_text, is_done, parsed

DONE = b"data: [DONE]\n\n"
NEWLINE = ord("\n")

#: A key of this name stands in a chunk once, or it is written anew.
KEY = b'"model"'


class Renamed:
    """Writes the caller's name of the model in place of the host's."""

    __slots__ = ("_after", "_before", "_host", "_length", "_model", "_new", "_old")

    def __init__(self, model: str) -> None:
        self._model = model
        self._host: object = None
        self._old = self._new = b""
        self._before = self._after = b""
        self._length = 0

    def edit(self, data: bytes, chunk: Mapping[str, Any], host: object) -> bytes:
        """The bytes of a chunk whose model, `host`, is not the caller's name, with that name."""
        # NB: chunks of one answer begin alike, up to the model's name if that comes early.
        if host == self._host and data.startswith(self._before):
            return self._after + data[self._length :]
        if host != self._host:
            self._learn(data, host)
        # NB: within a text the quotes of such a key are escaped, so what is found is a key.
        if data.count(KEY) == 1 and self._old in data:
            head, _, rest = data.partition(self._old)
            self._before, self._after = head + self._old, head + self._new
            self._length = len(self._before)
            return self._after + rest
        head, _, rest = data.partition(b"{")
        blank = data[len(data.rstrip()) :]
        return head + orjson.dumps({**chunk, "model": self._model}) + blank

    def _learn(self, data: bytes, host: object) -> None:
        """How this host writes its name."""
        self._host = host
        for colon in (b":", b": "):
            self._old = KEY + colon + orjson.dumps(host)
            if self._old in data:
                break
        self._new = KEY + b":" + orjson.dumps(self._model)
        self._before = KEY


class ChatRelay:
    """Server-sent events of chat or text completion chunks -> the same."""

    __slots__ = (
        "_include_usage",
        "_lines",
        "_model",
        "_reason",
        "_renamed",
        "_usage",
        "done",
        "started",
    )

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self.started = False
        self.done = False
        self._lines = Lines()
        self._model = model
        self._renamed = Renamed(model)
        self._include_usage = include_usage
        self._reason: Reason | None = None
        self._usage = Usage()

    def feed(self, data: bytes) -> list[Event]:
        """See `Decoder.feed`."""
        events: list[Event] = []
        lines = self._lines
        if data.find(b"\n") == len(data) - 2 and data[-1] == NEWLINE and not lines.held:
            # What comes most is one event, whole; it is not cut into lines.
            if data.startswith(b"data:"):
                self._data(data, events)
            return events
        for line in lines.feed(data):
            # Comments, and fields of an event other than its data, carry nothing here.
            if line.startswith(b"data:"):
                self._data(line + b"\n\n", events)
        return events

    def _data(self, data: bytes, events: list[Event]) -> None:
        """One event, with its end."""
        if self.done:
            raise broken("went on after [DONE]")
        payload = data[5:]
        if is_done(payload):
            self._end(events)
            return
        chunk = parsed(payload)
        if chunk.get("error") is not None:
            raise AttemptFailed(Cause.BROKEN_STREAM, f"the host broke off: {error_text(payload)}")
        choices = chunk.get("choices")
        tokens = self._tokens(choices) if choices else 0
        usage = chunk.get("usage")
        if usage is not None and isinstance(usage, dict):
            self._usage.prompt_tokens = count(usage.get("prompt_tokens"))
            self._usage.completion_tokens = count(usage.get("completion_tokens"))
            if not (choices or self._include_usage):
                return
        host = chunk.get("model")
        if host is not None and host != self._model:
            data = self._renamed.edit(data, chunk, host)
        events.append(Chunk(data, tokens))

    def _tokens(self, choices: list[Any]) -> int:
        tokens = 0
        for choice in choices:
            piece = choice.get("delta")
            text = piece.get("content") if piece else choice.get("text")
            if text:
                if type(text) is not str:
                    raise TypeError(text)
                tokens += 1
            elif piece and _told(piece):
                tokens += 1
            named = choice.get("finish_reason")
            if named:
                self.started = True
                self._reason = REASONS.get(named, Reason.STOP)
        if tokens:
            self.started = True
        return tokens

    def _end(self, events: list[Event]) -> None:
        if self._reason is None:
            raise broken("said [DONE] without a finish reason")
        self.done = True
        events.append(Chunk(DONE))
        events.append(Finish(self._reason, self._usage, sent=True))


def _told(piece: Mapping[str, Any]) -> bool:
    """Whether a delta says more than whose it is: thinking, a call, or something unknown."""
    return any(value and name != "role" for name, value in piece.items())


class OllamaRelay:
    """Lines of Ollama's -> the same."""

    __slots__ = ("_lines", "_model", "_renamed", "done", "started")

    def __init__(self, model: str) -> None:
        self.started = False
        self.done = False
        self._lines = Lines()
        self._model = model
        self._renamed = Renamed(model)

    def feed(self, data: bytes) -> list[Event]:
        """See `Decoder.feed`."""
        events: list[Event] = []
        for line in self._lines.feed(data):
            if line and not line.isspace():
                self._line(line, events)
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if self.done:
            raise broken("went on after done")
        chunk = parsed(line)
        if chunk.get("error") is not None:
            raise AttemptFailed(Cause.BROKEN_STREAM, f"the host broke off: {error_text(line)}")
        piece = chunk.get("message") or chunk
        text = piece.get("content") or chunk.get("response")
        if text and type(text) is not str:
            raise TypeError(text)
        told = text or piece.get("thinking") or piece.get("tool_calls")
        if told:
            self.started = True
        host = chunk.get("model")
        if host is not None and host != self._model:
            line = self._renamed.edit(line, chunk, host)
        events.append(Chunk(line + b"\n", 1 if told else 0))
        if chunk.get("done") is True:
            finish = Finish(ended(chunk), measured(chunk), sent=True)
            self.started = self.done = True
            events.append(finish)


def ended(chunk: Mapping[str, Any]) -> Reason:
    """Why an answer of Ollama's ended, by its last line."""
    return REASONS.get(chunk.get("done_reason") or "stop", Reason.STOP)


def measured(chunk: Mapping[str, Any]) -> Usage:
    """What Ollama counted and measured, by its last line."""
    return Usage(
        prompt_tokens=count(chunk.get("prompt_eval_count")),
        completion_tokens=count(chunk.get("eval_count")),
        load_ns=count(chunk.get("load_duration")),
        prefill_ns=count(chunk.get("prompt_eval_duration")),
        decode_ns=count(chunk.get("eval_duration")),
    )
