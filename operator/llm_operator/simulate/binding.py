"""Reading a request body into checked fields, with the errors Ollama gives.

Ollama binds JSON to Go structs, so what it says about a bad body is Go's own text. Fields that are
null or absent are left out of what is returned; unknown fields are ignored.

    body -> fields of the request, or Refusal(status, text)
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from llm_operator.simulate.generation import Refusal

#: Field -> the Go type that its error names. RawMessage and "any" take every value.
Fields = Mapping[str, str]

_COMMON = {"model": "string", "keep_alive": "duration", "options": "map[string]interface {}"}
_GENERATION = _COMMON | {
    "stream": "bool",
    "format": "any",
    "think": "think",
    "truncate": "bool",
    "shift": "bool",
    "logprobs": "bool",
    "top_logprobs": "int",
}
_TEXTS = dict.fromkeys(("prompt", "suffix", "system", "template"), "string")

GENERATE: Fields = _GENERATION | _TEXTS | {
    "raw": "bool", "images": "[]api.ImageData", "context": "[]int"
}  # fmt: skip
CHAT: Fields = _GENERATION | {"messages": "[]api.Message", "tools": "api.Tools"}
EMBED: Fields = _COMMON | {"input": "any", "truncate": "bool", "dimensions": "int"}
EMBEDDING: Fields = _COMMON | {"prompt": "string"}
SHOW: Fields = {"model": "string", "name": "string", "verbose": "bool"}

_MESSAGE: Fields = {"role": "string", "content": "string", "images": "[]api.ImageData"}
_INTEGERS = (
    "num_keep seed num_predict top_k repeat_last_n num_ctx num_batch num_gpu main_gpu num_thread"
).split()
_FLOATS = (
    "top_p min_p typical_p temperature repeat_penalty presence_penalty frequency_penalty"
).split()
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LEVELS = ("high", "medium", "low")


def bind(body: bytes, name: str, fields: Fields) -> dict[str, Any]:
    """The fields of a request struct `name`. Raises Refusal with status 400."""
    document = _decode(body)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise Refusal(
            400,
            f"json: cannot unmarshal {_kind(document)} into Go value of type api.{name}",
        )
    bound = {key: value for key, value in document.items() if value is not None}
    for key in fields.keys() & bound.keys():
        _check(bound[key], fields[key], f"{name}.{key}")
    if "messages" in fields:
        for message in bound.get("messages", ()):
            _check_message(message, name)
    return bound


def _decode(body: bytes) -> Any:
    text = body.decode("utf-8", "replace").lstrip()
    if not text:
        raise Refusal(400, "missing request body")
    try:
        # NB: Go's decoder reads one value and leaves what follows it.
        value, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        raise Refusal(400, _syntax(error, text)) from error
    return value


def _syntax(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text) or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    where = "looking for beginning of value"
    if error.msg.startswith("Expecting property name"):
        where = "looking for beginning of object key string"
    elif "':'" in error.msg:
        where = "after object key"
    elif "','" in error.msg:
        where = "after object key:value pair"
    return f"invalid character '{text[error.pos]}' {where}"


def _check(value: Any, kind: str, field: str) -> None:
    if kind == "duration":
        duration(value)
    elif kind == "think":
        _check_think(value)
    elif not _fits(value, kind):
        what = f"number {value}" if kind == "int" and _fits(value, "number") else _kind(value)
        mismatch = f"cannot unmarshal {what} into Go struct field {field} of type {kind}"
        raise Refusal(400, f"json: {mismatch}")


def _check_message(message: Any, name: str) -> None:
    if not isinstance(message, dict):
        _check(message, "api.Alias", f"{name}.messages")
        return
    for key in _MESSAGE.keys() & message.keys():
        if message[key] is not None:
            _check(message[key], _MESSAGE[key], f"{name}.messages.{key}")


def _fits(value: Any, kind: str) -> bool:
    match kind:
        case "any":
            return True
        case "string":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "map[string]interface {}":
            return isinstance(value, dict)
        case _:
            return isinstance(value, list)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    kinds = ((str, "string"), (int | float, "number"), (list, "array"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "object")


def _check_think(value: Any) -> None:
    if isinstance(value, bool) or value in _LEVELS:
        return
    allowed = '"high", "medium", "low", true, or false'
    if isinstance(value, str):
        raise Refusal(400, f"invalid think value: {json.dumps(value)} (must be {allowed})")
    raise Refusal(400, f"think must be a boolean or string ({allowed})")


def duration(value: Any) -> float:
    """`keep_alive` in seconds: a number, or Go's "5m"; below zero is for ever."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        kinds = {"bool": "bool", "array": "[]interface {}"}
        kind = kinds.get(_kind(value), "map[string]interface {}")
        raise Refusal(400, f"Unsupported type: '{kind}'")
    seconds = _go_duration(value) if isinstance(value, str) else float(value)
    return float("inf") if seconds < 0 else seconds


def _go_duration(text: str) -> float:
    quoted = json.dumps(text)
    sign, digits = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if digits == "0":
        return 0.0
    parts = re.findall(r"(\d+\.?\d*|\.\d+)([^\d.]*)", digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        raise Refusal(400, f"time: invalid duration {quoted}")
    for _, unit in parts:
        if not unit:
            raise Refusal(400, f"time: missing unit in duration {quoted}")
        if unit not in _UNITS:
            raise Refusal(400, f"time: unknown unit {json.dumps(unit)} in duration {quoted}")
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)


def check_options(options: Mapping[str, Any]) -> None:
    """The types of the options that Ollama knows; it warns of others. Raises Refusal 500."""
    for name, value in options.items():
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in _INTEGERS and not number:
            raise Refusal(500, f'option "{name}" must be of type integer')
        if name in _FLOATS and not number:
            raise Refusal(500, f'option "{name}" must be of type float32')
        if name == "use_mmap" and not isinstance(value, bool):
            raise Refusal(500, f'option "{name}" must be of type boolean')
        if name == "stop" and not isinstance(value, list):
            raise Refusal(500, f'option "{name}" must be of type array')
        if name == "stop" and not all(isinstance(word, str) for word in value):
            raise Refusal(500, f'option "{name}" must be of an array of strings')


def format_error(form: Any) -> str:
    """What is wrong with `format`, which is absent, "json" or a schema; empty if nothing is."""
    if form in (None, "", "json") or isinstance(form, dict):
        return ""
    raw = json.dumps(form, separators=(",", ":"))
    expected = 'expected "json" or a valid JSON Schema object'
    return f"invalid format: {json.dumps(raw)}; {expected}"
