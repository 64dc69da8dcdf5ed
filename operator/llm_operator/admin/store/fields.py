"""Who owns what is about to be taken away: `managedFields` of an object, old -> new. Pure.

A server-side apply takes away the fields that its own manager applied before and applies no more;
a field that somebody else set, kubectl say, stays. So that a spec can be replaced, what is no
more in it is first handed over to the manager that applies. Everything else stays with whoever
set it, and what is handed over does not change: who owns it is no part of a generation.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_operator.resource.fields import SPEC
from llm_operator.resource.model import API_VERSION
from llm_operator.resource.schema import Field, Kind

#: A set of fields as the API server writes one.
Fields = Mapping[str, Any]

_SPEC = "f:spec"
#: The mark of a field itself, beside the fields in it.
_ITSELF = "."


def handed_over(
    item: Mapping[str, Any], spec: Mapping[str, Any], *, manager: str
) -> list[dict[str, Any]] | None:
    """`managedFields` under which an apply of the spec by a manager takes away whatever is not in
    it; None when it does so already.
    """
    entries = [dict(entry) for entry in item["metadata"].get("managedFields") or ()]
    own = next((entry for entry in entries if _applies(entry, manager)), None)
    left: list[dict[str, Any]] = []
    taken: Fields = {}
    for entry in entries:
        fields = entry.get("fieldsV1") or {}
        if entry is own or entry.get("subresource") or _SPEC not in fields:
            left.append(entry)
            continue
        kept, more = _split(fields[_SPEC], spec)
        taken = _merged(taken, more)
        rest = {key: value for key, value in fields.items() if key != _SPEC}
        fields = rest | ({_SPEC: kept} if kept else {})
        if fields:
            left.append(entry | {"fieldsV1": fields})
    if not entries:
        # NB: an object whose owners somebody wiped away; the first apply would leave what is there
        # to an owner of the API server's making.
        taken = _split(_all(SPEC, item.get("spec")), spec)[1]
    if not taken:
        return None
    if own is None:
        own = {
            "manager": manager,
            "operation": "Apply",
            "apiVersion": API_VERSION,
            "fieldsType": "FieldsV1",
            "fieldsV1": {},
        }
    else:
        left.remove(own)
    fields = own["fieldsV1"]
    return [*left, own | {"fieldsV1": fields | {_SPEC: _merged(fields.get(_SPEC, {}), taken)}}]


def _applies(entry: Mapping[str, Any], manager: str) -> bool:
    named = (entry.get("manager"), entry.get("operation"), entry.get("subresource") or "")
    return named == (manager, "Apply", "")


def _split(fields: Fields, value: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that are in a value, and those that are not."""
    kept: dict[str, Any] = {}
    gone: dict[str, Any] = {}
    for key, inner in fields.items():
        if key == _ITSELF:
            kept[key] = inner
            continue
        there, one = _within(value, key)
        if not there:
            gone[key] = inner
            continue
        stays, goes = _split(inner, one)
        if stays or not inner:
            kept[key] = stays
        if goes:
            gone[key] = goes
    return kept, gone


def _within(value: object, key: str) -> tuple[bool, object]:
    """Whether a value has the field or item of such a key, and that."""
    sort, _, name = key.partition(":")
    if sort == "f" and isinstance(value, Mapping):
        return name in value, value.get(name)
    if sort in ("k", "v") and isinstance(value, Sequence) and not isinstance(value, str):
        wanted = json.loads(name)
        for one in value:
            if sort == "v" and one == wanted:
                return True, one
            if sort == "k" and isinstance(one, Mapping) and wanted.items() <= one.items():
                return True, one
    return False, None


def _merged(one: Fields, other: Fields) -> dict[str, Any]:
    both = {key: _merged(one[key], other[key]) for key in one.keys() & other.keys()}
    return {**one, **other, **both}


def _all(field: Field | None, value: object) -> dict[str, Any]:
    """All that is in a value."""
    if isinstance(value, Mapping):
        known = field.fields if field is not None else {}
        return {f"f:{name}": _all(known.get(name), inner) for name, inner in value.items()}
    if field is None or field.kind is not Kind.ARRAY or not isinstance(value, list):
        return {}
    if not field.key:
        return {f"v:{_json(one)}": {} for one in value}
    return {
        f"k:{_json({field.key: one[field.key]})}": {_ITSELF: {}} | _all(field.item, one)
        for one in value
    }


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
