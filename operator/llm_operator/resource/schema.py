"""The vocabulary of a resource's schema: what a field is and what a rule is, as data.

The words and bounds are those of the CRD's OpenAPI schema, so that a test can compare the two. It
holds no field of its own and checks nothing; `llm_operator.resource.fields` is the schema written
with it, and `llm_operator.resource.check` is what reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """A field's type, in the schema's words."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    STRING = "string"
    OBJECT = "object"
    ARRAY = "array"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule that a schema can't say.

    Attributes:
        field: the one to change when it fails, below the value it is asked about; "" for the value.
        reads: what `holds` looks at, below the value; it is asked only when all of these keep
            their schema. () for the value itself.
        holds: given the value, defaults included.
    """

    field: str = ""
    message: str
    reads: tuple[str, ...] = ()
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What the schema says about one field.

    Attributes:
        minimum, maximum: of a number.
        max_length: of a string, in characters.
        values: the only ones allowed; () when there is no such list.
        default: what the API server fills in; None for nothing.
        fields: of an object, in the schema's order.
        required: names among them.
        extensible: an object of any fields, whose values are any JSON.
        max_properties: of such an object.
        item: what an array holds.
        min_items, max_items: of an array.
        key: the field of an item that no two items share; "" when it is the item itself.
    """

    kind: Kind
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = None
    values: tuple[str, ...] = ()
    default: bool | int | str | None = None
    fields: "Mapping[str, Field]" = field(default_factory=dict)
    required: tuple[str, ...] = ()
    extensible: bool = False
    max_properties: int | None = None
    item: "Field | None" = None
    min_items: int | None = None
    max_items: int | None = None
    key: str = ""
    rules: tuple[Rule, ...] = ()


def text(max_length: int, *rules: Rule, default: str | None = None) -> Field:
    """A string of any characters its rules allow."""
    return Field(kind=Kind.STRING, max_length=max_length, default=default, rules=rules)


def one_of(values: tuple[str, ...], *, default: str | None = None) -> Field:
    """A string of a closed set."""
    return Field(kind=Kind.STRING, values=values, default=default)


def whole(minimum: int, maximum: int, *, default: int | None = None) -> Field:
    """An integer within bounds."""
    return Field(kind=Kind.INTEGER, minimum=minimum, maximum=maximum, default=default)


def flag(*, default: bool) -> Field:
    """A boolean."""
    return Field(kind=Kind.BOOLEAN, default=default)


def group(
    fields: Mapping[str, Field], *, required: tuple[str, ...] = (), rules: tuple[Rule, ...] = ()
) -> Field:
    """An object of known fields."""
    return Field(kind=Kind.OBJECT, fields=fields, required=required, rules=rules)


def anything(max_properties: int) -> Field:
    """An object of any fields."""
    return Field(kind=Kind.OBJECT, extensible=True, max_properties=max_properties)


def several(item: Field, *, at_most: int, at_least: int | None = None, key: str = "") -> Field:
    """An array of items that all differ, or differ in their key."""
    return Field(kind=Kind.ARRAY, item=item, min_items=at_least, max_items=at_most, key=key)
