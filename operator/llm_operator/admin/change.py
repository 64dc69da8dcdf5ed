"""What a request says of a backend -> the spec to write.

Pure. The API speaks the predecessor's snake_case, a spec the resource's camelCase; `FIELDS` is the
one list of both. What a value may be is the resource's own rules to say, here only which fields
there are.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from llm_operator.admin.difference import same
from llm_operator.admin.errors import Invalid

#: Field of the API -> field of the spec, in the order in which a manifest has them.
FIELDS: Mapping[str, str] = {
    "model_name": "modelName",
    "aliases": "aliases",
    "backend_type": "backendType",
    "endpoint_url": "endpointURL",
    "fallback_endpoint_url": "fallbackEndpointURL",
    "upstream_model": "upstreamModel",
    "targets": "targets",
    "sticky_header": "stickyHeader",
    "enabled": "enabled",
    "priority": "priority",
    "max_tokens": "maxTokens",
    "temperature_default": "temperature",
    "parameters": "parameters",
    "timeout_seconds": "timeoutSeconds",
    "timeouts": "timeouts",
    "fallback": "fallback",
    "health_check": "healthCheck",
    "keep_alive_seconds": "keepAliveSeconds",
    "description": "description",
}

_NAMES = {field: name for name, field in FIELDS.items()}

#: What a simple backend gets that is created without it, as the predecessor's did. A null leaves
#: it unset, so that the host decides.
DEFAULTS: Mapping[str, object] = {
    "enabled": True,
    "priority": 100,
    "max_tokens": 2048,
    "temperature_default": 0.7,
    "timeout_seconds": 60,
    "keep_alive_seconds": -1,
}

#: What says which object it is, and so is no part of its spec.
NAMING = ("name", "namespace")

#: What an answer holds beside: a client may send back what it was given.
TOLD = frozenset(
    (
        "id uid generation created_by changed_by created_at updated_at avg_tokens_per_sec "
        "avg_latency_ms total_requests total_errors state ready conditions summary live_targets "
        "managed_by paused problems"
    ).split()
)


def created(given: Mapping[str, object]) -> dict[str, Any]:
    """The spec of a new backend.

    Raises:
        Invalid: a field that nobody knows.
    """
    _known(given)
    simple = given.get("targets") is None
    return _spec({**(DEFAULTS if simple else {}), **given})


def changed(
    spec: Mapping[str, Any],
    given: Mapping[str, object],
    *,
    told: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """A spec with the fields that were given in place of its own; a null takes one away.

    Args:
        spec: as it is.
        given: under the API's names.
        told: the fields as an answer has them, defaults and all: what is sent back as it was told
            is no change.

    Raises:
        Invalid: a field that nobody knows.
    """
    _known(given)
    told = told or {}
    given = {
        name: value
        for name, value in given.items()
        if name not in told or not same(value, told[name])
    }
    before = {FIELDS[name] for name in given if name in FIELDS}
    kept = {field: value for field, value in spec.items() if field not in before}
    return ordered(kept | _spec(given))


def ordered(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The same spec, its fields in the order in which people read them."""
    known = {field: spec[field] for field in FIELDS.values() if field in spec}
    return known | dict(spec)


def named(path: str) -> str:
    """A place of a spec, as `spec.maxTokens`, by the API's name of its field."""
    field, *rest = re.split(r"(?=[.\[])", path.removeprefix("spec."), maxsplit=1)
    return _NAMES.get(field, field) + "".join(rest)


def _spec(given: Mapping[str, object]) -> dict[str, Any]:
    fields = ((field, given.get(name)) for name, field in FIELDS.items())
    return {field: value for field, value in fields if value is not None}


def _known(given: Mapping[str, object]) -> None:
    for name in given:
        if name in FIELDS or name in NAMING or name in TOLD:
            continue
        close = difflib.get_close_matches(name, FIELDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise Invalid(f"{name}: unknown field{hint}")
