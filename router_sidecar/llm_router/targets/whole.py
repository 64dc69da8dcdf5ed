"""A whole answer of a host whose protocol the client speaks, joined from the pieces of its stream.

Hosts are always asked to stream, and a client that does not stream must miss nothing for it: every
field of every piece is in the joined answer, those that the router does not know included.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from llm_router.targets.target import broken

#: Bytes of the pieces of one answer; far above any model's context.
MAX_PIECES = 256 * 1024 * 1024

#: Texts that are said once, or again in each piece; every other one goes on from piece to piece.
ONCE = frozenset(
    "id type role object model created_at done_reason finish_reason stop_reason remote_model "
    "remote_host system_fingerprint service_tier format".split()
)


class Text(list[str]):
    """A text in pieces, joined when it is written."""


def join(into: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Add one piece: texts and lists go on, objects are joined, anything else is replaced.

    A null replaces nothing.
    """
    for name, value in piece.items():
        before = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif isinstance(value, str) and name not in ONCE:
            if type(before) is Text:
                before.append(value)
            else:
                into[name] = Text((value,))
        elif isinstance(value, dict):
            if type(before) is not dict:
                into[name] = before = {}
            join(before, value)
        elif isinstance(value, list):
            if type(before) is not list:
                into[name] = before = []
            _extend(before, value)
        else:
            into[name] = value


def _extend(before: list[Any], more: Iterable[Any]) -> None:
    """Items with an index are fragments of the item of that index."""
    for item in more:
        if not isinstance(item, dict) or item.get("index") is None:
            before.append(item)
            continue
        for other in before:
            if isinstance(other, dict) and other.get("index") == item["index"]:
                join(other, item)
                break
        else:
            begun: dict[str, Any] = {}
            join(begun, item)
            before.append(begun)


def written(joined: Mapping[str, Any]) -> bytes:
    """The joined answer as JSON."""
    return orjson.dumps(joined, default="".join, option=orjson.OPT_PASSTHROUGH_SUBCLASS)


class OllamaWhole:
    """Lines of Ollama's -> the one object of its answer."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._joined: dict[str, Any] = {}
        self._size = 0

    def add(self, chunk: Mapping[str, Any], size: int) -> None:
        """One more piece, of so many bytes."""
        self._size = _counted(self._size + size)
        join(self._joined, chunk)

    def written(self) -> bytes:
        """The answer, under the caller's name of the model."""
        return written(self._joined | {"model": self._model})


class ChatWhole:
    """Chunks of a chat or a text completion -> the one object of its answer, all choices in it."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._size = 0

    def add(self, chunk: Mapping[str, Any], size: int) -> None:
        """One more piece, of so many bytes."""
        self._size = _counted(self._size + size)
        top = self._top
        # NB: mlx_lm.server calls the usage of a text completion chat.completion.
        kind = top.get("object")
        if None in chunk.values():
            chunk = {name: value for name, value in chunk.items() if value is not None}
        top.update(chunk)
        if kind is not None:
            top["object"] = kind
        for choice in chunk.get("choices", ()):
            index = choice.get("index") or 0
            joined = self._choices.get(index)
            if joined is None:
                joined = self._choices[index] = {}
            if not _text(joined, choice):
                join(joined, choice)

    def written(self) -> bytes:
        """The answer, under the caller's name of the model."""
        told = self._top | {"model": self._model}
        told["object"] = str(told.get("object", "chat.completion")).removesuffix(".chunk")
        told["choices"] = [_choice(self._choices[index]) for index in sorted(self._choices)]
        return written(told)


def _text(joined: dict[str, Any], choice: Mapping[str, Any]) -> bool:
    """Add a piece that is one more text and nothing else, as nearly all are; False for another."""
    delta = choice.get("delta")
    if type(delta) is not dict or len(delta) != 1:
        return False
    plain = {"index": 0, "delta": delta, "finish_reason": None}
    if choice != plain and choice != plain | {"logprobs": None}:
        return False
    text, before = delta.get("content"), joined.get("delta")
    texts = before.get("content") if type(before) is dict else None
    if type(text) is not str or type(texts) is not Text:
        return False
    texts.append(text)
    return True


def _choice(joined: dict[str, Any]) -> dict[str, Any]:
    if "text" in joined:
        return {"index": 0, "logprobs": None, "finish_reason": None} | joined
    message = {"role": "assistant", "content": None} | (joined.pop("delta", None) or {})
    for call in message.get("tool_calls") or ():
        # NB: only in a stream does a call carry its place.
        call.pop("index", None)
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": None} | joined


def _counted(size: int) -> int:
    if size > MAX_PIECES:
        raise broken(f"sent an answer of more than {MAX_PIECES} bytes")
    return size
