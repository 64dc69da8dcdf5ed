"""From a call's arguments to one HTTP request. Pure: nothing here sends anything.

    arguments -> Request (path, body, headers) -> wire

The paths are those of the router that lose nothing of an answer: `/generate`, and Ollama's family,
which has places for all sampling values and measures every phase of an answer. A plain prompt goes
to `/generate`, whose errors name the field; one that sets more than it takes to `/api/generate`.
"""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_router.client import fields

#: Argument -> the request header it goes as.
HEADERS: Mapping[str, str] = {
    "session_id": "x-llm-session",
    "user_id": "x-llm-user",
    "zone": "x-llm-zone",
    "intent": "x-llm-intent",
    "source": "x-llm-source",
    "stage": "x-llm-stage",
}

REQUEST_ID_HEADER = "x-request-id"

#: Bytes of such a value; the router drops a longer one.
MAX_ID = 256

#: What the router takes as a caller's id of a request; it makes up another for anything else.
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

#: What `/generate` has a place for.
PLAIN = frozenset({"model", "prompt", "system", "temperature", "max_tokens", "stop", "stream"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the router.

    Attributes:
        path: on the data port.
        body: the JSON document, encoded.
        headers: all but the body's length.
        implied: fields of the body that the client set and not its caller.
    """

    path: str
    model: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    request_id: str
    implied: frozenset[str] = frozenset()


def prompt(model: str, text: str, given: Mapping[str, Any], *, stream: bool) -> Request:
    """The request of `generate` and `stream`.

    Raises:
        TypeError: an argument is unknown, or can't be sent as JSON.
        ValueError: an id can't be sent as a header.
    """
    fields.check("stream" if stream else "generate", given, fields.PROMPT | fields.OPTIONS.keys())
    caller, own = _apart(given)
    sent = {"model": model, "prompt": text, **own, "stream": stream}
    # NB: an empty prompt loads the model, as Ollama has it; /generate wants a prompt.
    if text and sent.keys() <= PLAIN:
        return _request("/generate", sent, caller)
    sent = {"model": model, "prompt": text, **_sorted(own), "stream": stream}
    implied = frozenset[str]()
    if "think" not in sent:
        # NB: as /generate has it. A thinking model would leave the response empty.
        sent["think"] = False
        implied = frozenset({"think"})
    return _request("/api/generate", sent, caller, implied=implied)


def chat(
    model: str, messages: Sequence[Mapping[str, Any]], given: Mapping[str, Any], *, stream: bool
) -> Request:
    """The request of `chat` and `stream_chat`; raises as `prompt`."""
    known = fields.CHAT | fields.OPTIONS.keys() | {"tools", "format"}
    fields.check("stream_chat" if stream else "chat", given, known)
    caller, own = _apart(given)
    sent = {"model": model, "messages": [*messages], **_sorted(own), "stream": stream}
    return _request("/api/chat", sent, caller)


def embed(model: str, texts: str | Sequence[str], given: Mapping[str, Any]) -> Request:
    """The request of `embed`; raises as `prompt`."""
    fields.check("embed", given, fields.EMBED)
    caller, own = _apart(given)
    listed = texts if isinstance(texts, str) else [*texts]
    return _request("/api/embed", {"model": model, "input": listed, **own}, caller)


def _apart(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Who asks, and what is asked for; what is unset is in neither."""
    caller = {n: v for n, v in given.items() if n in fields.CALLER and v is not None}
    own = {n: v for n, v in given.items() if n not in fields.CALLER and v is not None}
    return caller, own


def _sorted(own: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an Ollama body, where sampling values are `options`."""
    options = {fields.OPTIONS[n]: v for n, v in own.items() if n in fields.OPTIONS}
    further = own.get("options", {})
    if twice := sorted(options.keys() & further.keys()):
        raise TypeError(f"options[{twice[0]!r}] is given twice: as an argument and in options")
    sent = {n: v for n, v in own.items() if n not in fields.OPTIONS and n != "options"}
    return sent | {"options": options | further} if options or further else sent


def _request(
    path: str,
    body: Mapping[str, Any],
    caller: Mapping[str, Any],
    *,
    implied: frozenset[str] = frozenset(),
) -> Request:
    request_id = _request_id(caller.get("request_id"))
    headers = [
        (b"content-type", b"application/json"),
        (REQUEST_ID_HEADER.encode(), request_id.encode()),
    ]
    for name, header in HEADERS.items():
        if value := caller.get(name):
            headers.append((header.encode(), _id(name, value)))
    return Request(
        path=path,
        model=body["model"],
        body=_encoded(body),
        headers=tuple(headers),
        request_id=request_id,
        implied=implied,
    )


def _encoded(body: Mapping[str, Any]) -> bytes:
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        # NB: not chained, as that error holds the prompt.
        raise ValueError(
            "a text of the request holds half a surrogate pair, no character"
        ) from None


def _request_id(value: object) -> str:
    if value is None or value == "":
        return uuid.uuid4().hex
    if not isinstance(value, str):
        raise TypeError(f"request_id must be a text, is {type(value).__name__}")
    if not REQUEST_ID.fullmatch(value):
        raise ValueError("request_id must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -")
    return value


def _id(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, is {type(value).__name__}")
    if not value.isprintable() or value != value.strip():
        raise ValueError(f"{name} must be printable, without line ends or spaces around it")
    encoded = value.encode()
    if len(encoded) > MAX_ID:
        raise ValueError(f"{name} must be of at most {MAX_ID} bytes, is of {len(encoded)}")
    return encoded
