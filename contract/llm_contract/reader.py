"""One object of a JSON document and its path, so that every refusal says where and what.

A reader takes a field with the type and the bounds asked for, or raises Malformed. It knows nothing
of routes.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from llm_contract.errors import Malformed

#: How deep a value of parameters may nest: more is no request, and would exhaust whoever walks it.
MAX_DEPTH = 16


class Reader:
    """One JSON object and its path."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(path, f"must be an object, is {_kind(value)}")
        self.fields: dict[str, Any] = value
        self.path = path

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def get(self, name: str) -> Any:
        if name not in self.fields:
            raise Malformed(self.at(name), "is missing")
        return self.fields[name]

    def string(self, name: str) -> str:
        return _text(self.get(name), self.at(name))

    def optional_string(self, name: str) -> str | None:
        return self.string(name) if name in self.fields else None

    def strings(self, name: str) -> tuple[str, ...]:
        """A list of texts; () when the field is not there."""
        if name not in self.fields:
            return ()
        return tuple(
            _text(item, f"{self.at(name)}[{index}]") for index, item in enumerate(self._list(name))
        )

    def boolean(self, name: str, default: bool) -> bool:
        value = self.fields.get(name, default)
        if not isinstance(value, bool):
            raise Malformed(self.at(name), f"must be true or false, is {_kind(value)}")
        return value

    def integer(self, name: str, *, minimum: int, default: int | None = None) -> int:
        value = self.get(name) if default is None else self.fields.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise Malformed(self.at(name), f"must be an integer >= {minimum}, is {_kind(value)}")
        return value

    def optional_integer(self, name: str, *, minimum: int) -> int | None:
        return self.integer(name, minimum=minimum) if name in self.fields else None

    def number(self, name: str, *, minimum: float, default: float | None = None) -> float:
        value = self.get(name) if default is None else self.fields.get(name, default)
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        # NB: 1e999 parses to infinity, and a whole number may be larger than any float.
        if not numeric or not minimum <= value <= sys.float_info.max:
            raise Malformed(self.at(name), f"must be a number >= {minimum}, is {_kind(value)}")
        return float(value)

    def optional_number(self, name: str, *, minimum: float) -> float | None:
        return self.number(name, minimum=minimum) if name in self.fields else None

    def object(self, name: str, *, required: bool = True) -> "Reader":
        if not required and name not in self.fields:
            return Reader({}, self.at(name))
        return Reader(self.get(name), self.at(name))

    def items(self, name: str, *, required: bool = True) -> list["Reader"]:
        if not required and name not in self.fields:
            return []
        return [
            Reader(item, f"{self.at(name)}[{index}]") for index, item in enumerate(self._list(name))
        ]

    def values(self, name: str) -> Mapping[str, Any]:
        """An object of any JSON values; {} when the field is not there."""
        inner = self.object(name, required=False)
        _check(inner.fields, inner.path, MAX_DEPTH)
        return inner.fields

    def _list(self, name: str) -> list[Any]:
        value = self.get(name)
        if not isinstance(value, list):
            raise Malformed(self.at(name), f"must be a list, is {_kind(value)}")
        return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise Malformed(path, f"must be a non-empty string, is {_kind(value)}")
    if not _encodable(value):
        raise Malformed(path, "holds half of a surrogate pair, which is no text")
    return value


def _check(value: object, path: str, depth: int) -> None:
    """Refuse what the reading of JSON lets through and the writing of it would not."""
    match value:
        case dict() | list() if not depth:
            raise Malformed(path, f"nests deeper than {MAX_DEPTH} levels")
        case dict():
            for name, inner in value.items():
                if not _encodable(name):
                    raise Malformed(path, f"{_kind(name)} is no name of a field")
                _check(inner, f"{path}.{name}", depth - 1)
        case list():
            for index, inner in enumerate(value):
                _check(inner, f"{path}[{index}]", depth - 1)
        case str() if not _encodable(value):
            raise Malformed(path, "holds half of a surrogate pair, which is no text")
        case float() if abs(value) > sys.float_info.max:
            raise Malformed(path, f"must be a finite number, is {_kind(value)}")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    if isinstance(value, str | int | float | bool) or value is None:
        return json.dumps(value)[:64]
    return "a list" if isinstance(value, list) else "an object"
