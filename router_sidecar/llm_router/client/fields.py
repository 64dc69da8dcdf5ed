"""What a call may set, by name: the one list that types, bodies, headers and errors are made from.

Pure. None is unset wherever it stands, and 0 is a value. A name that is not here is a `TypeError`:
nothing that a caller gives is dropped in silence.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class Caller(TypedDict, total=False):
    """Who asks and what for; goes into the usage record. At most 256 printable bytes each.

    Attributes:
        request_id: at most 128 of A-Z a-z 0-9 . _ : - ; made up where the caller gives none.
    """

    request_id: str | None
    session_id: str | None
    user_id: str | None
    zone: str | None
    intent: str | None
    source: str | None
    stage: str | None


class Sampling(TypedDict, total=False):
    """How tokens are drawn, besides temperature and max_tokens."""

    top_p: float | None
    top_k: int | None
    min_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repeat_penalty: float | None


class Answering(Sampling, total=False):
    """What an answer to a prompt and one to messages have in common.

    Attributes:
        think: a switch or a level.
        keep_alive: how long the host keeps the model loaded, in seconds or as "5m".
        options: further options as Ollama names them.
    """

    think: bool | str | None
    keep_alive: float | str | None
    logprobs: bool | None
    top_logprobs: int | None
    options: Mapping[str, Any] | None


class Prompting(Answering, total=False):
    """What else `generate` takes.

    Attributes:
        format: "json" or a JSON Schema.
        images: base64.
        raw: apply no chat template.
    """

    system: str | None
    format: str | Mapping[str, Any] | None
    images: Sequence[str] | None
    suffix: str | None
    template: str | None
    context: Sequence[int] | None
    raw: bool | None


class PromptFields(Prompting, Caller, total=False):
    """What else `stream` takes."""


class ChatFields(Answering, Caller, total=False):
    """What else `chat` and `stream_chat` take."""


class EmbedFields(Caller, total=False):
    """What else `embed` takes.

    Attributes:
        dimensions: of a vector; the model's own where it is not set.
        truncate: cut a text that is too long, instead of refusing it.
    """

    dimensions: int | None
    truncate: bool | None
    keep_alive: float | str | None
    options: Mapping[str, Any] | None


#: What goes into an Ollama body's `options`, and its name there.
OPTIONS: Mapping[str, str] = {
    "temperature": "temperature",
    "max_tokens": "num_predict",
    **{name: name for name in Sampling.__annotations__},
}

CALLER = frozenset(Caller.__annotations__)
PROMPT = frozenset(PromptFields.__annotations__)
CHAT = frozenset(ChatFields.__annotations__)
EMBED = frozenset(EmbedFields.__annotations__)

_OPENAI = "the router serves it to OpenAI's own client, with base_url {router}/v1"
_CONFIGURED = "it is the LLMBackend's, not the caller's"

#: Names that other clients have -> what to do here.
INSTEAD: Mapping[str, str] = {
    "stream": "call stream() or stream_chat()",
    "timeout": "give LLMRouter(timeout=...), or use asyncio.timeout() around the call",
    "repetition_penalty": "it is repeat_penalty here",
    "num_predict": "it is max_tokens here",
    "num_ctx": "it is the LLMBackend's targets[].ollama.numCtx",
    "tool_choice": _OPENAI,
    "response_format": "it is format here",
    "n": _OPENAI,
    "backend": _CONFIGURED,
    "backend_type": _CONFIGURED,
    "endpoint_url": _CONFIGURED,
}


def check(call: str, given: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse what a call does not take.

    Raises:
        TypeError: names the argument, and what there is instead.
    """
    for name in given:
        if name not in known:
            advice = INSTEAD.get(name, f"it takes {', '.join(sorted(known))}")
            raise TypeError(f"{call}() takes no argument {name!r}: {advice}")
