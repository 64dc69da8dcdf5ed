"""A resource -> its row, as JSON that Postgres unpacks.

Pure. `COLUMNS` is the one list of what a row takes from a resource: the statements of
`llm_operator.record.sync` are made from it.
"""

from collections.abc import Mapping
from datetime import datetime

from llm_operator.resource.model import Resource, Spec

#: Column -> its type, in the order of the table.
COLUMNS: Mapping[str, str] = {
    "uid": "text",
    "namespace": "text",
    "name": "text",
    "generation": "bigint",
    "model_name": "text",
    "backend_type": "text",
    "endpoint_url": "text",
    "enabled": "boolean",
    "priority": "bigint",
    "max_tokens": "bigint",
    "temperature_default": "double precision",
    "timeout_seconds": "bigint",
    "keep_alive_seconds": "bigint",
    "description": "text",
    "spec": "jsonb",
}

#: Fields of the spec that the row has no column for, kept as they were given.
FULL_FORM = (
    "aliases",
    "targets",
    "stickyHeader",
    "timeouts",
    "fallback",
    "healthCheck",
    "parameters",
)


def row(resource: Resource, spec: Spec) -> dict[str, object]:
    """The columns of one resource."""
    identity = resource.identity
    return {
        "uid": identity.uid,
        "namespace": identity.namespace,
        "name": identity.name,
        "generation": identity.generation,
        "model_name": spec.model_name,
        "backend_type": spec.kind,
        "endpoint_url": spec.endpoint_url,
        "enabled": spec.enabled,
        "priority": spec.priority,
        "max_tokens": spec.max_tokens,
        "temperature_default": spec.temperature,
        "timeout_seconds": spec.timeout_seconds,
        "keep_alive_seconds": spec.keep_alive_seconds,
        "description": spec.description,
        "spec": document(spec),
    }


def author(resource: Resource) -> dict[str, object]:
    """Who changed the resource to this generation, and when, as far as it tells."""
    return {
        "uid": resource.identity.uid,
        "generation": resource.identity.generation,
        # NB: Postgres stores no NUL and no lone surrogate.
        "changed_by": resource.changed_by.replace("\0", "").encode(errors="replace").decode(),
        "changed_at": _instant(resource.changed_at),
    }


def _instant(text: str) -> str | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant.isoformat() if instant.tzinfo else None


def document(spec: Spec) -> dict[str, object]:
    """The spec under its field names in the resource; what is not set is left out."""
    fields: dict[str, object] = {
        "modelName": spec.model_name,
        "backendType": spec.backend_type and spec.backend_type.value,
        "endpointURL": spec.endpoint_url,
        "fallbackEndpointURL": spec.fallback_endpoint_url,
        "upstreamModel": spec.upstream_model,
        "enabled": spec.enabled,
        "priority": spec.priority,
        "maxTokens": spec.max_tokens,
        "temperature": spec.temperature,
        "timeoutSeconds": spec.timeout_seconds,
        "keepAliveSeconds": spec.keep_alive_seconds,
        "description": spec.description,
    }
    fields |= {name: spec.fields.get(name) for name in FULL_FORM}
    return {name: value for name, value in fields.items() if value is not None}
