"""What a call returns: the router's document, which *is* a dict as it always was, with attributes.

    headers + document -> GenerateResult | ChatResult | EmbedResult

Pure. The dict holds what the router sent and what the predecessor promised; the attributes say it
with types, and say None where nobody knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: A decoding that looks shorter came out of a buffer, and says nothing of a host's speed.
MIN_DECODE_NS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How the router served a request; from the headers of its answer.

    Attributes:
        backend: type of the host that answered: ollama, mlx or openai.
        target: the LLMBackend and its target, as `phi3-mini/mlx`.
        upstream_model: the id that the host was asked for.
        attempts: hosts that were asked.
        fallback_reason: why the first one did not answer; "" where it did.
        dropped: the caller's fields that this host has no place for.
        config: the first 12 digits of the checksum of the configuration used.
    """

    request_id: str
    backend: str
    target: str
    upstream_model: str
    attempts: int
    fallback_reason: str
    dropped: tuple[str, ...]
    config: str


def served(headers: Mapping[str, str], *, implied: frozenset[str] = frozenset()) -> Served:
    """How it was served, by the headers, whose names are in lower case."""
    dropped = [name for name in headers.get("x-llm-dropped", "").split(",") if name]
    return Served(
        request_id=headers.get("x-request-id", ""),
        backend=headers.get("x-llm-backend-type", ""),
        target=headers.get("x-llm-backend", ""),
        upstream_model=headers.get("x-llm-upstream-model", ""),
        attempts=attempts(headers),
        fallback_reason=headers.get("x-llm-fallback-reason", ""),
        dropped=tuple(name for name in dropped if name not in implied),
        config=headers.get("x-llm-config", ""),
    )


def attempts(headers: Mapping[str, str]) -> int:
    """Hosts that were asked; 0 where the answer does not tell."""
    told = headers.get("x-llm-attempts", "")
    return int(told) if told.isdecimal() else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an answer took; None where nobody counted.

    Attributes:
        total_seconds: from the request to the last token, failed attempts included.
        load_seconds: the host loading the model.
        prefill_seconds: reading the prompt.
        decode_seconds: writing the answer, without any of the above.
        tokens_per_second: of the answer, by its decoding alone.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_seconds: float | None = None
    load_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    tokens_per_second: float | None = None


def usage(document: Mapping[str, Any], *, backend: str) -> Usage:
    """What an answer took, by its last line."""
    completion, decode = _count(document, "eval_count"), _count(document, "eval_duration")
    return Usage(
        prompt_tokens=_count(document, "prompt_eval_count"),
        completion_tokens=completion,
        total_seconds=_seconds(document, "total_duration"),
        load_seconds=_seconds(document, "load_duration"),
        prefill_seconds=_seconds(document, "prompt_eval_duration"),
        decode_seconds=_seconds(document, "eval_duration"),
        tokens_per_second=_speed(completion, decode, backend=backend),
    )


def _speed(tokens: int | None, nanoseconds: int | None, *, backend: str) -> float | None:
    # NB: only Ollama measures itself. Elsewhere the router's clock starts when the first token is
    # there, so that one took none of the time.
    timed = None if tokens is None else tokens if backend == "ollama" else tokens - 1
    if not timed or timed < 0 or nanoseconds is None or nanoseconds < MIN_DECODE_NS:
        return None
    return timed * 1e9 / nanoseconds


def _count(document: Mapping[str, Any], name: str) -> int | None:
    value = document.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(document: Mapping[str, Any], name: str) -> float | None:
    value = _count(document, name)
    return None if value is None else value / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool, whole; `arguments` is what the model wrote, parsed."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""


def tool_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """The calls in a message, or in an answer without one."""
    found = []
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        arguments = function.get("arguments") or {}
        found.append(
            ToolCall(name=function.get("name", ""), arguments=arguments, id=call.get("id", ""))
        )
    return tuple(found)


class Result(dict[str, Any]):
    """A router's answer: its document as a dict, and how it was served.

    Attributes:
        served: how, with all there is to know.
        usage: what it took.
    """

    def __init__(self, document: Mapping[str, Any], served: Served) -> None:
        super().__init__(document)
        self["backend"] = served.backend
        self.served = served
        self.usage = usage(document, backend=served.backend)

    @property
    def model(self) -> str:
        """The name that was asked for."""
        return str(self["model"])

    @property
    def backend(self) -> str:
        """Type of the host that answered: ollama, mlx or openai."""
        return self.served.backend

    @property
    def upstream_model(self) -> str:
        """The id that the host was asked for."""
        return self.served.upstream_model

    @property
    def request_id(self) -> str:
        """The id that the router's log and its usage record have too."""
        return self.served.request_id

    @property
    def attempts(self) -> int:
        """Hosts that were asked."""
        return self.served.attempts

    @property
    def fallback_reason(self) -> str:
        """Why the first host did not answer; "" where it did."""
        return self.served.fallback_reason

    @property
    def dropped(self) -> tuple[str, ...]:
        """The caller's fields that this host has no place for."""
        return self.served.dropped


class Answered(Result):
    """An answer of words."""

    def __init__(self, document: Mapping[str, Any], served: Served) -> None:
        super().__init__(document, served)
        # NB: the router leaves out what nobody counted, and old callers calculate with both.
        self.setdefault("total_duration", 0)
        self.setdefault("eval_count", 0)

    @property
    def finish_reason(self) -> str:
        """stop, length, or tool_calls where the model calls a tool; load where it only loaded."""
        reason = str(self.get("done_reason", ""))
        return "tool_calls" if reason == "stop" and self.tool_calls else reason

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the model calls."""
        return ()


class GenerateResult(Answered):
    """The answer to a prompt: response, backend, model, done, total_duration (ns), eval_count."""

    @property
    def text(self) -> str:
        """The answer."""
        return str(self["response"])

    @property
    def thinking(self) -> str:
        """What the model thought before it."""
        return str(self.get("thinking", ""))


class ChatResult(Answered):
    """The answer to messages; `message` is the turn to add to them."""

    @property
    def message(self) -> dict[str, Any]:
        """The model's turn, as the next call's `messages` take it."""
        message: dict[str, Any] = self["message"]
        return message

    @property
    def text(self) -> str:
        """The answer."""
        return str(self.message.get("content") or "")

    @property
    def thinking(self) -> str:
        """What the model thought before it."""
        return str(self.message.get("thinking") or "")

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the model calls."""
        return tool_calls(self.message)


class EmbedResult(Result):
    """Vectors of texts, one a text, of length 1."""

    @property
    def embeddings(self) -> Sequence[Sequence[float]]:
        """The vectors, in the order of the texts."""
        vectors: Sequence[Sequence[float]] = self["embeddings"]
        return vectors
