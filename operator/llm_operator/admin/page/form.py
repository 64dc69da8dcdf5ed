"""The form of a spec: controls for its fields, the spec that was typed, and what is wrong with it.

    schema, spec -> draw -> shape    what is typed, shape -> read -> spec -> problems, by field

Pure. Fields, bounds and rules are those of `llm_operator.resource`; what a field means is told by
the CRD's own descriptions. It has no list of fields of its own, so a new field of the resource is
in the form too.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llm_operator.admin.page.words import label
from llm_operator.resource.check import check
from llm_operator.resource.fields import SPEC
from llm_operator.resource.schema import Field, Kind

#: What a browser sends of a checked box.
CHECKED = "on"

#: Fields that are typed in more than one line.
LONG = frozenset({"description"})

#: What fields are about -> those of the spec, as a person looks for them; the last takes the rest.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "What it is": ("modelName", "aliases", "description", "enabled", "priority"),
    "Where it is served": (
        "backendType",
        "endpointURL",
        "fallbackEndpointURL",
        "upstreamModel",
        "targets",
        "stickyHeader",
    ),
    "What a request gets": (),
}

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


class Widget(StrEnum):
    """What a control is."""

    TEXT = "text"
    AREA = "area"
    NUMBER = "number"
    CHECK = "check"
    CHOICE = "choice"
    LINES = "lines"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One field that is typed, ticked or chosen.

    Attributes:
        path: below the spec, as `targets[0].weight`; also the name under which it is sent.
        given: as the spec has it; None for nothing. It stays so, to the letter, until somebody
            types something else.
        value: the same as it is shown; CHECKED or "" of a box.
        default: what holds when it is left empty, as text; "" for none.
    """

    path: str
    widget: Widget
    label: str
    hint: str
    given: object
    value: str
    default: str = ""
    required: bool = False
    options: tuple[str, ...] = ()
    schema: Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Fields of an object.

    Attributes:
        given: whether the spec has something in it.
        empty: whether the spec has it with nothing in it, which stays so.
    """

    path: str
    label: str
    hint: str
    given: bool
    empty: bool
    parts: "tuple[Part, ...]" = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list of objects; `empty` as of a group."""

    path: str
    label: str
    hint: str
    groups: tuple[Group, ...]
    at_most: int
    empty: bool


Part = Control | Group | Items


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """The CRD's descriptions.

    Attributes:
        by_path: path without places in lists -> description, as `targets.weight`.
    """

    by_path: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, crd: Mapping[str, Any]) -> "Hints":
        """Read them from the CRD's manifest."""
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return cls(by_path=dict(_described(schema["properties"]["spec"], "")))

    def __getitem__(self, path: str) -> str:
        return self.by_path.get(re.sub(r"\[[0-9]+\]", "", path), "")


def draw(spec: Mapping[str, Any], hints: Hints) -> Group:
    """The controls for a spec, with what it says in them."""
    return _group(SPEC, spec, "", hints)


def read(shape: Group, typed: Mapping[str, str]) -> dict[str, Any]:
    """The spec that was typed.

    What can't be what it should be, such as a number with a unit, stays as it was typed, so that
    `problems` says what is wrong with it. An empty field is left out.
    """
    found = _read(shape, typed)
    return found if isinstance(found, dict) else {}


def initial(shape: Group) -> dict[str, str]:
    """What is typed before anybody types."""
    return {one.path: one.value for one in controls(shape)}


def changes(
    before: Mapping[str, Any], after: Mapping[str, Any], *, everything: bool = False
) -> dict[str, Any]:
    """Field of the spec -> what it is now, None for gone: those that differ, or all."""
    return {
        name: after.get(name)
        for name in SPEC.fields
        if everything or before.get(name) != after.get(name)
    }


def problems(shape: Group, spec: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What the resource's rules have against a spec, by the place where it is to be shown.

    The place is the path of a control, of a group or list, or "" for the whole form.
    """
    places = frozenset(places_of(shape))
    found: dict[str, list[str]] = {}
    for finding in check(SPEC, dict(spec), "spec")[1]:
        path = finding.path.removeprefix("spec").removeprefix(".")
        at = _nearest(path, places)
        rest = path.removeprefix(at).lstrip(".")
        message = f"{rest}: {finding.message}" if rest and at != path else finding.message
        found.setdefault(at, []).append(message)
    return {at: tuple(messages) for at, messages in found.items()}


def sections(shape: Group) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """The parts of the form by what they are about; what is more than a field comes last."""
    placed = {name for names in SECTIONS.values() for name in names}
    by_path = {part.path: part for part in shape.parts}
    for title, names in SECTIONS.items():
        chosen = names or tuple(path for path in by_path if path not in placed)
        parts = [by_path[name] for name in chosen]
        yield title, tuple(sorted(parts, key=lambda part: not isinstance(part, Control)))


def controls(part: Part) -> Iterator[Control]:
    """All controls, in the order of the form."""
    if isinstance(part, Control):
        yield part
        return
    for inner in part.parts if isinstance(part, Group) else part.groups:
        yield from controls(inner)


def places_of(part: Part) -> Iterator[str]:
    """All paths at which something can be shown."""
    yield part.path
    if isinstance(part, Group):
        for inner in part.parts:
            yield from places_of(inner)
    elif isinstance(part, Items):
        for group in part.groups:
            yield from places_of(group)


def _group(schema: Field, given: object, path: str, hints: Hints) -> Group:
    value = given if isinstance(given, Mapping) else {}
    parts = tuple(
        _part(
            inner,
            value.get(name),
            f"{path}.{name}" if path else name,
            hints,
            required=name in schema.required,
        )
        for name, inner in schema.fields.items()
    )
    name = path.rpartition(".")[2]
    return Group(
        path=path,
        label=label(re.sub(r"\[[0-9]+\]$", "", name)) if name else "",
        hint=hints[path],
        given=bool(value),
        empty=given == {},
        parts=parts,
    )


def _part(schema: Field, given: object, path: str, hints: Hints, *, required: bool) -> Part:
    if schema.kind is Kind.OBJECT and not schema.extensible:
        return _group(schema, given, path, hints)
    name = path.rpartition(".")[2]
    if schema.item is not None and schema.item.kind is Kind.OBJECT:
        listed = given if isinstance(given, Sequence) and not isinstance(given, str) else ()
        return Items(
            path=path,
            label=label(name),
            hint=hints[path],
            groups=tuple(
                _group(schema.item, one, f"{path}[{place}]", hints)
                for place, one in enumerate(listed)
            ),
            at_most=schema.max_items or 0,
            empty=given == [],
        )
    return Control(
        path=path,
        widget=_widget(schema, name),
        label=label(name),
        hint=hints[path],
        given=given,
        value=_typed(schema, given),
        default=_typed(schema, schema.default) if schema.kind is not Kind.BOOLEAN else "",
        required=required,
        options=schema.values,
        schema=schema,
    )


def _widget(schema: Field, name: str) -> Widget:
    if schema.values:
        return Widget.CHOICE
    match schema.kind:
        case Kind.BOOLEAN:
            return Widget.CHECK
        case Kind.INTEGER | Kind.NUMBER:
            return Widget.NUMBER
        case Kind.ARRAY:
            return Widget.LINES
        case Kind.OBJECT:
            return Widget.JSON
        case _:
            return Widget.AREA if name in LONG else Widget.TEXT


def _typed(schema: Field, given: object) -> str:
    """A value as it would have been typed."""
    if schema.kind is Kind.BOOLEAN:
        return CHECKED if (schema.default if given is None else given) is True else ""
    if given is None:
        return ""
    if isinstance(given, str):
        return given
    if schema.kind is Kind.ARRAY and isinstance(given, Sequence):
        return "\n".join(str(one) for one in given)
    indent = 2 if isinstance(given, Mapping) and given else None
    return json.dumps(given, ensure_ascii=False, indent=indent)


def _read(part: Part, typed: Mapping[str, str]) -> Any:
    """A value; None when nothing was typed."""
    if isinstance(part, Items):
        # NB: an item that was added and left empty is one that lacks what it needs.
        return [_read(group, typed) or {} for group in part.groups] or ([] if part.empty else None)
    if isinstance(part, Group):
        found = {}
        for inner in part.parts:
            if (one := _read(inner, typed)) is not None:
                found[_name(inner.path)] = one
        return found or ({} if part.empty else None)
    return _value(part, typed.get(part.path, ""))


def _value(control: Control, text: str) -> Any:
    text = text.replace("\r\n", "\n")
    if text == control.value:
        return control.given
    if control.widget is Widget.CHECK:
        return text == CHECKED
    if not text.strip():
        return None
    match control.widget:
        case Widget.NUMBER:
            return _number(text.strip())
        case Widget.LINES:
            return [line.strip() for line in text.splitlines() if line.strip()]
        case Widget.JSON:
            return _json(text)
        case _:
            return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _number(text: str) -> int | float | str:
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _name(path: str) -> str:
    return path.rpartition(".")[2]


def _nearest(path: str, places: frozenset[str]) -> str:
    """The place itself, or the nearest that holds it."""
    while path and path not in places:
        path = re.sub(r"(\.[^.\[]+|\[[0-9]+\]|^[^.\[]+)$", "", path) if path else ""
    return path


def _described(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if "description" in schema:
        yield path, str(schema["description"])
    inner = schema.get("items", schema)
    for name, one in inner.get("properties", {}).items():
        yield from _described(one, f"{path}.{name}" if path else name)
