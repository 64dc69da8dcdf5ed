"""A value against its schema: the value with its defaults, and all that is wrong with it.

It says what the API server says about a resource that is created, in the API server's words where
they help and in better ones where they don't. Nothing is raised, nothing given is changed.
"""

import datetime
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_operator.resource import parameters
from llm_operator.resource.schema import Field, Kind

_YAML_BOOLEANS = ("y", "n", "yes", "no", "on", "off", "true", "false")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where.

    Attributes:
        of_schema: rules that read the place are not asked, since they take the schema for granted.
    """

    path: str
    message: str
    of_schema: bool = True


def check(field: Field, given: object, path: str) -> tuple[Any, list[Finding]]:
    """The value with defaults filled in, and what is wrong with it."""
    value = _whole(field, given)
    if message := _against(field, value):
        return value, [Finding(path, message)]
    found: list[Finding] = []
    if field.extensible:
        found = [Finding(at, message) for at, message in parameters.faults(value, path)]
    elif field.kind is Kind.OBJECT:
        value, found = _object(field, value, path)
    elif field.kind is Kind.ARRAY:
        value, found = _array(field, value, path)
    bad = [finding.path for finding in found if finding.of_schema]
    for rule in field.rules:
        reads = [f"{path}.{read}" for read in rule.reads]
        if not any(_touch(one, read) for read in reads for one in bad) and not rule.holds(value):
            at = f"{path}.{rule.field}" if rule.field else path
            found.append(Finding(at, rule.message, of_schema=False))
    return value, found


def unknown(given: Mapping[Any, Any], *, known: tuple[str, ...], at: str) -> Iterator[Finding]:
    """The fields that nobody knows, each with the one that was probably meant."""
    by_small = {name.lower(): name for name in known}
    for name in given:
        if name in known:
            continue
        close = difflib.get_close_matches(str(name).lower(), by_small, n=1, cutoff=0.6)
        hint = f"; did you mean {by_small[close[0]]}?" if close else ""
        yield Finding(f"{at}.{name}" if at else str(name), f"unknown field{hint}")


def show(value: object) -> str:
    """A value as YAML would have it, short."""
    if isinstance(value, str | int | float | bool) or value is None:
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 64 else f"{text[:60]}..."
    if isinstance(value, datetime.date):
        return value.isoformat()
    return "a list" if isinstance(value, list) else "a mapping"


def _touch(one: str, other: str) -> bool:
    """Whether one place is the other, or lies within it."""
    short, long = sorted((one, other), key=len)
    return long == short or long.startswith((f"{short}.", f"{short}["))


def _object(field: Field, given: Mapping[str, Any], path: str) -> tuple[Any, list[Finding]]:
    found = list(unknown(given, known=tuple(field.fields), at=path))
    value: dict[str, Any] = {}
    for name, inner in field.fields.items():
        at, one = f"{path}.{name}", given.get(name)
        if one is None:
            # NB: a create, and a client-side apply, takes null for "not set". A server-side apply
            # does so where there is a default and refuses it elsewhere, and no object in a cluster
            # holds a null; so nobody should write one, and here the lenient reading is kept.
            one = inner.default
        if one is not None:
            value[name], more = check(inner, one, at)
            found += more
        elif name in field.required:
            found.append(Finding(at, "Required value"))
    return value, found


def _array(field: Field, given: list[Any], path: str) -> tuple[list[Any], list[Finding]]:
    assert field.item is not None, "an array's schema says what it holds"
    found = [Finding(path, message) for message in _count(field, len(given))]
    values: list[Any] = []
    seen: dict[str, int] = {}
    for index, one in enumerate(given):
        value, more = check(field.item, one, f"{path}[{index}]")
        found += more
        values.append(value)
        key = value.get(field.key) if field.key and isinstance(value, Mapping) else value
        if not isinstance(key, str):
            continue
        seen[key] = seen.get(key, 0) + 1
        # NB: told once for each value, as the API server does, however often it comes again.
        if seen[key] == 2:
            same = json.dumps({field.key: key} if field.key else key, separators=(",", ":"))
            message = f"Duplicate value: {same}"
            found.append(Finding(f"{path}[{index}]", message, of_schema=False))
    return values, found


def _count(field: Field, count: int) -> Iterator[str]:
    if field.max_items is not None and count > field.max_items:
        yield f"Too many: {count}: must have at most {field.max_items} items"
    if field.min_items is not None and count < field.min_items:
        yield f"should have at least {field.min_items} items"


def _whole(field: Field, value: Any) -> Any:
    # NB: JSON has one kind of number, so 5.0 is an integer to the API server.
    if field.kind is Kind.INTEGER and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _against(field: Field, value: Any) -> str:
    """What the field's schema has against the value itself; "" for nothing."""
    if not _is(field.kind, value):
        return f"must be of type {field.kind}, is {show(value)}{_advice(field.kind, value)}"
    if field.values and value not in field.values:
        supported = ", ".join(f'"{one}"' for one in field.values)
        return f"{show(value)} is none of the supported values: {supported}"
    if field.max_length is not None and len(value) > field.max_length:
        return f"Too long: has {len(value)} characters, may not be more than {field.max_length}"
    if field.max_properties is not None and len(value) > field.max_properties:
        return f"Too many: {len(value)}: must have at most {field.max_properties} items"
    # NB: written so that NaN, which is neither below nor above, is refused.
    if field.minimum is not None and not value >= field.minimum:
        return f"should be greater than or equal to {field.minimum}, is {show(value)}"
    if field.maximum is not None and not value <= field.maximum:
        return f"should be less than or equal to {field.maximum}, is {show(value)}"
    return ""


def _is(kind: Kind, value: object) -> bool:
    match kind:
        case Kind.BOOLEAN:
            return isinstance(value, bool)
        case Kind.STRING:
            return isinstance(value, str)
        case Kind.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Kind.OBJECT:
            return isinstance(value, Mapping)
        case Kind.ARRAY:
            return isinstance(value, list)


def _advice(kind: Kind, value: object) -> str:
    """How a value of the wrong type most likely came about, as the end of a sentence."""
    if kind is Kind.STRING:
        if isinstance(value, bool):
            return "; put it in quotes (YAML reads yes, no, on and off as true and false)"
        return "" if isinstance(value, Mapping | list) or value is None else "; put it in quotes"
    if kind is Kind.BOOLEAN:
        quoted = isinstance(value, str) and value.lower() in _YAML_BOOLEANS
        return "; write true or false without quotes" if quoted else "; write true or false"
    if kind in (Kind.INTEGER, Kind.NUMBER) and isinstance(value, str):
        return "; write a number without quotes or unit"
    return ""
