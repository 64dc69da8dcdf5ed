"""The schema of a spec -> JSON Schema of the bodies that make and change a backend.

Pure. Fields, bounds and words are those of `resource.fields.SPEC` and the names those of
`admin.change`, so there is no second list of either. Rules between fields it can't say; they are
checked all the same.
"""

from collections.abc import Mapping
from typing import Any

from llm_operator.admin.api.shapes import FIELDS as MEANING
from llm_operator.admin.change import DEFAULTS, FIELDS, NAMING
from llm_operator.resource.fields import SPEC
from llm_operator.resource.schema import Field, Kind

Schema = dict[str, Any]

_NAMING: Mapping[str, Schema] = {
    "name": {
        "type": ["string", "null"],
        "maxLength": 253,
        "description": "Of the resource; without one it is made of the model's name.",
    },
    "namespace": {
        "type": ["string", "null"],
        "maxLength": 63,
        "description": "Of the resource; without one the service's own.",
    },
}


def created() -> Schema:
    """The body of a POST."""
    return _body(required=["model_name"], defaults=DEFAULTS)


def changed() -> Schema:
    """The body of a PUT: what is left out stays, and null takes a field away."""
    return _body(required=[], defaults={})


def _body(*, required: list[str], defaults: Mapping[str, object]) -> Schema:
    fields: Schema = {}
    for name, field in FIELDS.items():
        schema = _schema(SPEC.fields[field])
        schema.pop("default", None)
        if name not in required:
            schema = _or_null(schema)
        if name in defaults:
            schema["default"] = defaults[name]
        fields[name] = {**schema, "description": MEANING[name]}
    # NB: what an answer holds beside may be sent back and is passed over; it is not described here.
    return {
        "type": "object",
        "properties": {**fields, **{name: _NAMING[name] for name in NAMING}},
        **({"required": required} if required else {}),
    }


def _or_null(schema: Schema) -> Schema:
    if "enum" in schema:
        return {**schema, "type": [schema["type"], "null"], "enum": [*schema["enum"], None]}
    return {**schema, "type": [schema["type"], "null"]}


def _schema(field: Field) -> Schema:
    bounds = {
        "minimum": field.minimum,
        "maximum": field.maximum,
        "maxLength": field.max_length,
        "maxProperties": field.max_properties,
        "minItems": field.min_items,
        "maxItems": field.max_items,
        "default": field.default,
        "enum": [str(value) for value in field.values] or None,
        "required": list(field.required) or None,
        "items": _schema(field.item) if field.item else None,
    }
    made: Schema = {"type": field.kind.value}
    made |= {name: value for name, value in bounds.items() if value is not None}
    if field.kind is Kind.OBJECT and not field.extensible:
        made["properties"] = {name: _schema(inner) for name, inner in field.fields.items()}
        made["additionalProperties"] = False
    return made
