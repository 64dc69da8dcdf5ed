"""Reading a client's JSON document: each field by type, each error by path.

Used by the fronts' decoders only. An explicit null means unset, as OpenAI's clients write it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import orjson

from llm_router.errors import Code, Problem, Refused

#: Levels of a document that orjson reads and would not write again; less what a translation adds.
MAX_NESTING = 240

#: The largest whole number that hosts read and that orjson writes.
MAX_INTEGER = 2**63 - 1


def refuse(param: str, reason: str) -> NoReturn:
    """Refuse the request because of one field.

    Raises:
        Refused: always; `BAD_REQUEST` with the field's path.
    """
    raise Refused(Problem(Code.BAD_REQUEST, f"{param}: {reason}", param=param))


def document(body: bytes) -> dict[str, Any]:
    """The client's JSON object.

    Raises:
        Refused: no body, not JSON, or not an object.
    """
    if not body:
        raise Refused(Problem(Code.BAD_REQUEST, "missing request body: send a JSON object"))
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(Problem(Code.BAD_REQUEST, f"the body is not JSON: {error}")) from None
    if type(value) is not dict:
        raise Refused(
            Problem(Code.BAD_REQUEST, f"the body must be a JSON object, is {kind(value)}")
        )
    # NB: counting brackets is cheap, and most bodies have too few to be looked into.
    if body.count(b"{") + body.count(b"[") > MAX_NESTING and _nested(value) > MAX_NESTING:
        message = f"the body is nested deeper than {MAX_NESTING} levels"
        raise Refused(Problem(Code.BAD_REQUEST, message))
    return value


def _nested(value: object) -> int:
    """How many levels of lists and objects a value has."""
    levels, layer = 0, [value]
    while layer := [item for item in layer if isinstance(item, dict | list)]:
        levels += 1
        layer = [
            inner for item in layer for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return levels


def kind(value: object) -> str:
    """How an error names a value of the wrong type."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def text(of: dict[str, Any], name: str, *, path: str = "", default: str = "") -> str:
    """A string field."""
    value = of.get(name)
    if type(value) is str:
        return value
    if value is None:
        return default
    refuse(path + name, f"must be a string, is {kind(value)}")


def required(of: dict[str, Any], name: str, *, path: str = "") -> str:
    """A string that must be there and not be empty."""
    value = of.get(name)
    if type(value) is str and value:
        return value
    text(of, name, path=path)
    refuse(path + name, "is required")


def flag(of: dict[str, Any], name: str, *, default: bool, path: str = "") -> bool:
    """A boolean field."""
    value = of.get(name)
    if value is True or value is False:
        return value
    if value is None:
        return default
    refuse(path + name, f"must be true or false, is {kind(value)}")


def number(of: dict[str, Any], name: str, *, path: str = "") -> float | None:
    """A number, or None when unset. Whole numbers stay integers, so that 0 arrives as 0."""
    value = of.get(name)
    if type(value) is float:
        if not math.isfinite(value):
            refuse(path + name, "must be a finite number")
        return value
    if value is None or type(value) is int:
        return value
    refuse(path + name, f"must be a number, is {kind(value)}")


def integer(
    of: dict[str, Any], name: str, *, path: str = "", minimum: int | None = None
) -> int | None:
    """A whole number, or None when unset; 5.0 is 5."""
    value = number(of, name, path=path)
    if value is None:
        return None
    if value != int(value):
        refuse(path + name, f"must be a whole number, is {value}")
    if abs(value) > MAX_INTEGER:
        refuse(path + name, f"must be a number of at most 64 bits, is {value}")
    if minimum is not None and value < minimum:
        refuse(path + name, f"must be at least {minimum}, is {value}")
    return int(value)


def natural(of: dict[str, Any], name: str, *, path: str = "") -> int | None:
    """A whole number from 0 on, or None when unset."""
    return integer(of, name, path=path, minimum=0)


#: Field -> the attribute it sets, and how it is read.
Readers = Mapping[str, tuple[str, Callable[..., Any]]]


def read(of: dict[str, Any], readers: Readers, *, path: str = "") -> dict[str, Any]:
    """The attributes that a document sets, each read as its row says; null is unset."""
    found: dict[str, Any] = {}
    for name, value in of.items():
        if name in readers and value is not None:
            attribute, reader = readers[name]
            set_to = reader(of, name, path=path)
            if set_to != ():
                found[attribute] = set_to
    return found


def objects(of: dict[str, Any], name: str, *, path: str = "") -> list[dict[str, Any]]:
    """A list of objects; empty when unset."""
    value = of.get(name)
    return [] if value is None else listed(value, path + name)


def listed(value: object, path: str) -> list[dict[str, Any]]:
    """The value itself, when it is a list of objects."""
    if not isinstance(value, list):
        refuse(path, f"must be a list, is {kind(value)}")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            refuse(f"{path}[{index}]", f"must be an object, is {kind(item)}")
    return value


def mapping(of: dict[str, Any], name: str, *, path: str = "") -> dict[str, Any]:
    """An object; empty when unset."""
    value = of.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        refuse(path + name, f"must be an object, is {kind(value)}")
    return value


def strings(of: dict[str, Any], name: str, *, path: str = "") -> tuple[str, ...]:
    """A string or a list of strings; empty when unset."""
    value = of.get(name)
    if value is None:
        return ()
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        refuse(path + name, "must be a string or a list of strings")
    return tuple(listed)
