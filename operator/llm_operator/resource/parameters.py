"""What parameters may hold: any JSON, but nothing that the router itself writes into a request.

The one part of a resource whose faults the API server can't see: its schema takes any field there.
Such a resource is stored, and its status says what is wrong with it.
"""

import math
from collections.abc import Iterator, Mapping

from llm_contract.reader import MAX_DEPTH

#: Fields of a request body that are the caller's or the router's, in either protocol.
RESERVED = ("model", "messages", "prompt", "input", "stream", "stream_options")


def faults(values: Mapping[object, object], path: str) -> Iterator[tuple[str, str]]:
    """Places and sentences for what can't be used."""
    for name in RESERVED:
        if name in values:
            yield f"{path}.{name}", "is the caller's to say, or the router's; remove it"
    yield from _not_json(values, path, MAX_DEPTH)


def _not_json(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    match value:
        case Mapping() | list() if not depth:
            yield path, f"nests deeper than {MAX_DEPTH} levels"
        case Mapping():
            for name, inner in value.items():
                if isinstance(name, str) and _is_text(name):
                    yield from _not_json(inner, f"{path}.{name}", depth - 1)
                else:
                    yield path, "holds a field whose name is no text; put it in quotes"
        case list():
            for index, inner in enumerate(value):
                yield from _not_json(inner, f"{path}[{index}]", depth - 1)
        case float() if not math.isfinite(value):
            yield path, "must be a finite number"
        case str() if not _is_text(value):
            yield path, "holds half of a surrogate pair, which is no text"
        case None | bool() | int() | float() | str():
            return
        case _:
            yield path, "is no JSON; put it in quotes"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
