"""The canonical request and the canonical events of its answer: the hub of fronts and targets.

A front decodes a client's bytes into an `Exchange` and encodes `Delta` and `Finish` back; a target
does the reverse towards its host. Neither ever sees the other's protocol, with one exception that
keeps answers lossless: `body` is the client's own document, which a target of the same dialect
sends on with few edits, and `extras` are fields of a host's chunk that only its own dialect has a
place for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Dialect(StrEnum):
    """Which protocol family a document is written in."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    UNIFIED = "unified"


class Kind(StrEnum):
    """What is asked for: an answer to messages or to one prompt, or vectors of texts."""

    CHAT = "chat"
    PROMPT = "prompt"
    EMBED = "embed"


class Reason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    LOAD = "load"
    UNLOAD = "unload"


#: The word a host uses -> the reason.
REASONS: Mapping[str, Reason] = {reason.value: reason for reason in Reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One tool call; `arguments` is JSON text, as OpenAI writes it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a chat.

    Attributes:
        images: base64 data without a data: prefix, or an http(s) URL as the client gave it.
        call_id: of the tool call a `tool` message answers.
        tool: the name of that tool.
    """

    role: str
    text: str = ""
    thinking: str = ""
    images: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    call_id: str | None = None
    tool: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What the client set; None is unset, and 0 is a value.

    Attributes:
        max_tokens: -1 for no limit, as Ollama writes it.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request, in no protocol.

    Attributes:
        body: the client's document, parsed; never changed.
        model: the name the client asked for.
        messages: the turns; for a PROMPT its system text, if any, and the prompt as the user's
            turn.
        raw: a PROMPT to which no chat template is applied.
        prompt_only: fields that only a PROMPT on Ollama has (suffix, template, context), by name.
        tools: definitions in the shape both families share.
        format: "json", a JSON Schema, or None for free text.
        think: True, False, a level, or None for the host's own default.
        keep_alive: Ollama's, as the client wrote it.
        needs: request features beyond text, by the client's own field name, for targets to refuse.
        include_usage: an OpenAI stream ends with a usage chunk.
        inputs: the texts of an EMBED, which has no messages and does not stream.
        dimensions: of its vectors; None for the model's own.
    """

    kind: Kind
    dialect: Dialect
    body: Mapping[str, Any]
    model: str
    stream: bool
    messages: tuple[Message, ...]
    raw: bool = False
    prompt_only: Mapping[str, Any] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    tools: tuple[Mapping[str, Any], ...] = ()
    format: str | Mapping[str, Any] | None = None
    think: bool | str | None = None
    keep_alive: str | float | None = None
    needs: frozenset[str] = frozenset()
    include_usage: bool = False
    inputs: tuple[str, ...] = ()
    dimensions: int | None = None


@dataclass(slots=True)
class Delta:
    """A piece of an answer."""

    text: str = ""
    thinking: str = ""
    calls: tuple[Call, ...] = ()
    extras: Mapping[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class Usage:
    """What the host counted and measured; None where it does not tell. Durations in nanoseconds."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    load_ns: int | None = None
    prefill_ns: int | None = None
    decode_ns: int | None = None


@dataclass(slots=True)
class Finish:
    """The proper end of an answer: the host said so. `vectors` are an EMBED's, one a text."""

    reason: Reason
    usage: Usage = field(default_factory=Usage)
    extras: Mapping[str, Any] | None = None
    vectors: list[list[float]] | None = None


Event = Delta | Finish


@dataclass(slots=True)
class Timing:
    """Monotonic nanoseconds of one answer as the router saw it; 0 is not yet."""

    started: int
    first_token: int = 0
    last_token: int = 0

    def prefill_ns(self) -> int:
        """From the request to the first token."""
        return max(self.first_token - self.started, 0)

    def decode_ns(self) -> int:
        """From the first token to the last."""
        return max(self.last_token - self.first_token, 0)

    def total_ns(self) -> int:
        """From the request to the last token."""
        return max(self.last_token - self.started, 0)


@dataclass(slots=True)
class Answer:
    """A whole answer, joined from its events."""

    text: str
    thinking: str
    calls: tuple[Call, ...]
    finish: Finish
    extras: Mapping[str, Any] | None = None
