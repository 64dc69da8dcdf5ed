"""The canonical request and the canonical events of its answer: the hub of fronts and targets.

A front decodes a client's bytes into an `Exchange` and encodes `Delta` and `Finish` back; a target
does the reverse towards its host. Neither ever sees the other's protocol, with one exception that
keeps requests and answers lossless: where host and client speak one protocol, the target sends
`body`, which is the client's own document, on with few edits, and its decoder makes `Chunk`, or a
`Finish` with `whole`, which are the host's own words and pass every encoder by.

Every request makes these values, so they are plain ones; whoever gets one never changes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypedDict


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


@dataclass(slots=True, kw_only=True)
class Call:
    """One tool call; `arguments` is JSON text, as OpenAI writes it."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True, kw_only=True)
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


class Sampling(TypedDict, total=False):
    """What the client set; what it left open is not there, and 0 is a value.

    Attributes:
        max_tokens: -1 for no limit, as Ollama writes it.
        stop: at least one text.
    """

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    stop: tuple[str, ...]
    presence_penalty: float
    frequency_penalty: float
    repeat_penalty: float


NOTHING: Final[frozenset[str]] = frozenset()


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request, in no protocol.

    Attributes:
        body: the client's document, parsed; never changed.
        model: the name the client asked for.
        messages: the turns; for a PROMPT its system text, if any, and the prompt as the user's
            turn.
        raw: a PROMPT to which no chat template is applied.
        tools: definitions in the shape both families share.
        format: "json", a JSON Schema, or None for free text.
        think: True, False, a level, or None for the host's own default.
        keep_alive: Ollama's, as the client wrote it.
        logprobs: how many other tokens are wanted beside each token's own log probability; None
            for none of it.
        needs: features beyond plain text, tools and thinking, by the client's own field names; a
            target that lacks one refuses the request.
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
    sampling: Sampling = field(default_factory=Sampling)
    tools: tuple[Mapping[str, Any], ...] = ()
    format: str | Mapping[str, Any] | None = None
    think: bool | str | None = None
    keep_alive: str | float | None = None
    logprobs: int | None = None
    needs: frozenset[str] = NOTHING
    include_usage: bool = False
    inputs: tuple[str, ...] = ()
    dimensions: int | None = None


@dataclass(slots=True)
class Delta:
    """A piece of an answer.

    Attributes:
        calls: whole tool calls.
        fragments: pieces of tool calls as OpenAI streams them; only for a streaming client that
            takes them so, and then in place of `calls`.
        extras: what not every protocol has a place for: `logprobs`, a list of a token's `token`,
            `logprob`, `bytes` and `top_logprobs`.
    """

    text: str = ""
    thinking: str = ""
    calls: tuple[Call, ...] = ()
    extras: Mapping[str, Any] | None = None
    fragments: tuple[Mapping[str, Any], ...] = ()


@dataclass(slots=True, kw_only=True)
class Usage:
    """What the host counted and measured; None where it does not tell. Durations in nanoseconds."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    load_ns: int | None = None
    prefill_ns: int | None = None
    decode_ns: int | None = None


@dataclass(slots=True)
class Chunk:
    """A piece of a streamed answer that is in the client's own protocol already.

    Made where host and client speak one protocol; no encoder touches it.

    Attributes:
        tokens: how many pieces of text, thinking or tool calls it holds, for counting.
    """

    data: bytes
    tokens: int = 0


@dataclass(slots=True)
class Finish:
    """The proper end of an answer: the host said so.

    Attributes:
        extras: as a `Delta`'s.
        vectors: an EMBED's, one a text.
        sent: its bytes were in the chunks before it, so no encoder writes it.
        whole: the whole answer in the client's own protocol; made where host and client speak one
            and the client does not stream.
    """

    reason: Reason
    usage: Usage = field(default_factory=Usage)
    extras: Mapping[str, Any] | None = None
    vectors: list[list[float]] | None = None
    sent: bool = False
    whole: bytes | None = None


Event = Delta | Chunk | Finish


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
