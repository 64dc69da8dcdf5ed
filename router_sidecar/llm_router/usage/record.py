"""What is kept of one request: the record that metrics, access log, usage and spans are made of.

    serving -> Record -> Recorder -> metrics, access log, usage delivery, spans

Made once, when a request has ended. Never holds a prompt, an answer, a credential or a header
beyond the caller's own ids; never does I/O.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any, Literal

import orjson

from llm_router.exchange import Timing, Usage
from llm_router.trace import Trace

#: Bytes of a caller's id; a longer one is dropped.
MAX_ID = 256

#: A decoding that looks shorter than this came out of a buffer, and says nothing of a host's speed.
MIN_DECODE_NS = 1_000_000

#: Sets of values whose JSON is kept.
MAX_MADE = 4096

#: Who counted the tokens of an answer; "" where there are none to count.
Counted = Literal["host", "router", ""]


class Outcome(StrEnum):
    """How a request ended.

    OK has its proper end, ERROR an error instead of an answer, BROKEN an answer that broke off,
    CANCELLED a client that went away.
    """

    OK = "ok"
    ERROR = "error"
    BROKEN = "broken"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that failed."""

    target: str
    backend_type: str
    cause: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asked, in the caller's own words: its x-llm-* headers; empty where it said nothing."""

    session: str = ""
    user: str = ""
    zone: str = ""
    intent: str = ""
    source: str = ""
    stage: str = ""


NOBODY = Caller()

#: The request header -> the field of `Caller`.
CALLER_HEADERS = {f"x-llm-{each.name}".encode(): each.name for each in fields(Caller)}


@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Measures:
    """What an answer took; None where nobody can tell. Never changed, as a `Record`.

    Attributes:
        counted: by the host, or by the router, which counts pieces where the host's own count
            never came.
        load_seconds: the host loading the model.
        first_token_seconds: from the request to its first token, failed attempts included.
        prefill_tokens_per_second: of the prompt, by the time from asking to the first token.
        decode_tokens_per_second: of the answer, by the time after the first token alone.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    counted: Counted = ""
    load_seconds: float | None = None
    first_token_seconds: float | None = None
    prefill_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None


UNMEASURED = Measures()


@dataclass(slots=True, kw_only=True)
class Record:
    """One request. Nobody changes it.

    NB: not frozen, as freezing makes the making of one three times as dear, and each request makes
    one.

    Attributes:
        at: its start, Unix seconds.
        route: name of the LLMBackend; empty where none was found.
        model: the name the configuration has for it, else "other".
        target: that answered, or that was asked last.
        front: the client's protocol.
        kind: chat, prompt or embed.
        status: the HTTP status sent; 499 when the client left before one.
        error: a `Code` or `Cause`; empty when all went well.
        attempts: targets asked.
        fallback_reason: why the first one failed.
        total_seconds: from the request to its end.
        encoded: its JSON, once it has been asked for.
    """

    request_id: str
    at: float
    front: str
    outcome: Outcome
    status: int
    total_seconds: float
    model: str = "other"
    route: str = ""
    route_uid: str = ""
    generation: int = 0
    target: str = ""
    backend_type: str = ""
    upstream_model: str = ""
    kind: str = ""
    stream: bool = False
    error: str = ""
    attempts: int = 0
    fallback_reason: str = ""
    failures: tuple[Failure, ...] = ()
    measures: Measures = UNMEASURED
    caller: Caller = NOBODY
    trace: Trace | None = None
    encoded: bytes | None = field(default=None, init=False, repr=False, compare=False)


def caller(headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    """The caller's ids among a request's headers, names in lower case; without improper ones."""
    found: dict[str, str] | None = None
    for name, value in headers:
        if name in CALLER_HEADERS and (text := _id(value)):
            if found is None:
                found = {}
            found[CALLER_HEADERS[name]] = text
    return NOBODY if found is None else Caller(**found)


def _id(value: bytes) -> str:
    if len(value) > MAX_ID:
        return ""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def measure(
    usage: Usage | None, timing: Timing, *, pieces: int = 0, attempt_started: int = 0
) -> Measures:
    """What an answer took, by the host's word where it gave it, else by the router's clock.

    Args:
        usage: the host's; None where its answer never came to a proper end.
        pieces: of text, thinking or tool calls that were passed on.
        attempt_started: monotonic nanoseconds when the answering target was asked. 0: not known,
            so that a prefill rate is the host's or none, as the request's start has failed attempts
            after it.
    """
    told = _UNTOLD if usage is None else usage
    prompt, completion = told.prompt_tokens, told.completion_tokens
    counted: Counted = "" if prompt is None else "host"
    if completion is not None:
        counted = "host"
    elif pieces:
        completion, counted = pieces, "router"
    load, first = told.load_ns, timing.first_token
    return Measures(
        prompt_tokens=prompt,
        completion_tokens=completion,
        counted=counted,
        load_seconds=None if load is None else load / 1e9,
        first_token_seconds=(first - timing.started) / 1e9 if first else None,
        prefill_tokens_per_second=_prefill_rate(told, first, attempt_started) if prompt else None,
        decode_tokens_per_second=_decode_rate(told, timing, completion) if completion else None,
    )


_UNTOLD = Usage()


def _prefill_rate(usage: Usage, first_token: int, attempt_started: int) -> float | None:
    nanoseconds = usage.prefill_ns
    if nanoseconds is None and attempt_started and first_token:
        nanoseconds = first_token - attempt_started - (usage.load_ns or 0)
    if not usage.prompt_tokens or nanoseconds is None or nanoseconds <= 0:
        return None
    return round(usage.prompt_tokens * 1e9 / nanoseconds, 3)


def _decode_rate(usage: Usage, timing: Timing, completion: int) -> float | None:
    if usage.decode_ns:
        return round(completion * 1e9 / usage.decode_ns, 3)
    # NB: the clock starts when the first token is there, so that one took none of the time.
    nanoseconds = timing.last_token - timing.first_token
    if completion < 2 or nanoseconds < MIN_DECODE_NS:
        return None
    return round((completion - 1) * 1e9 / nanoseconds, 3)


#: Fields that few values occur of, so that their JSON is made once for each set of them.
_FEW = (
    *("front", "kind", "stream", "model", "route", "route_uid", "generation", "target"),
    *("backend_type", "upstream_model", "outcome", "status", "error", "fallback_reason"),
)
_MEASURES = tuple(each.name for each in fields(Measures))
_CALLER = tuple(each.name for each in fields(Caller))
_few, _measures, _caller = attrgetter(*_FEW), attrgetter(*_MEASURES), attrgetter(*_CALLER)

_made: dict[tuple[object, ...], bytes] = {}


def to_json(record: Record) -> bytes:
    """A record as one flat line of JSON, without its end; what is unset is left out."""
    if record.encoded is None:
        record.encoded = orjson.dumps(_document(record))[:-1] + _rest(record)
    return record.encoded


def _document(record: Record) -> dict[str, Any]:
    """The fields that are this request's own."""
    told: dict[str, Any] = {
        "request_id": record.request_id,
        "at": record.at,
        "total_seconds": record.total_seconds,
        "attempts": record.attempts,
    }
    if record.measures is not UNMEASURED:
        for name, value in zip(_MEASURES, _measures(record.measures), strict=True):
            if value is not None and value != "":
                told[name] = value
    if record.failures:
        told["failures"] = record.failures
    if record.caller is not NOBODY:
        told |= {n: v for n, v in zip(_CALLER, _caller(record.caller), strict=True) if v}
    if record.trace is not None:
        told["trace_id"] = record.trace.trace_id
    return told


def _rest(record: Record) -> bytes:
    """All other fields, as the end of the document."""
    values = _few(record)
    made = _made.get(values)
    if made is None:
        if len(_made) >= MAX_MADE:
            _made.clear()
        pairs = zip(_FEW, values, strict=True)
        # NB: 0 and False are values.
        rest = {n: v for n, v in pairs if v is not None and v != ""}
        made = _made[values] = b"," + orjson.dumps(rest)[1:]
    return made
