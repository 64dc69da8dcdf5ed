"""A backend as the API tells it: JSON under the predecessor's names, and what there is beside.

Pure. It never holds a value of a Secret, because a resource holds none. All of it can be JSON, of a
spec that can't be used too.
"""

import math
from collections.abc import Mapping
from typing import Any

from llm_operator.admin.change import FIELDS
from llm_operator.admin.model import Backend, Totals
from llm_operator.reasons import Condition
from llm_operator.resource.check import check
from llm_operator.resource.fields import SPEC
from llm_operator.resource.model import CREATED_BY, IMPORTED
from llm_operator.status import document

ACCEPTED, PENDING, REFUSED = "accepted", "pending", "refused"

#: What is told to somebody without a token: what the predecessor told, without who and how much.
PUBLIC = (
    "id model_name backend_type endpoint_url enabled priority max_tokens temperature_default "
    "timeout_seconds keep_alive_seconds description created_at updated_at"
).split()


def shown(backend: Backend, *, number: int | None, totals: Totals | None) -> dict[str, Any]:
    """Everything about a backend.

    Args:
        number: its id; None while the record can't say.
        totals: of recorded traffic; None likewise.
    """
    resource, identity = backend.resource, backend.resource.identity
    status = resource.status
    return {
        "id": number,
        "uid": identity.uid,
        "name": identity.name,
        "namespace": identity.namespace,
        "generation": identity.generation,
        **fields(backend),
        **_traffic(totals),
        "created_by": _creator(backend),
        "changed_by": resource.changed_by or None,
        **_times(backend),
        "state": state(backend),
        "ready": ready(backend),
        "paused": resource.paused,
        "managed_by": None if backend.owner is None else str(backend.owner),
        "problems": [str(problem) for problem in resource.problems],
        "conditions": [dict(one) for one in document.conditions(status).values()],
        "live_targets": [dict(one) for one in document.targets(status)],
        "summary": dict(document.summary(status)),
    }


def public(backend: Backend, *, number: int | None) -> dict[str, Any]:
    """What somebody without a token may see."""
    told = {"id": number, **fields(backend), **_times(backend)}
    return {name: told[name] for name in PUBLIC}


def fields(backend: Backend) -> dict[str, Any]:
    """The spec under the names of the API, defaults filled in; None for what is not set."""
    spec = backend.resource.spec
    if spec is None:
        # NB: what can't be used is told as it is given, as far as its defaults go.
        whole = check(SPEC, dict(backend.spec), "spec")[0]
        return {name: _plain(whole.get(field)) for name, field in FIELDS.items()}
    told = {name: spec.fields.get(field) for name, field in FIELDS.items()}
    if told["backend_type"] is None:
        told["backend_type"] = spec.kind
    return told


def state(backend: Backend) -> str:
    """Whether the operator has taken this generation: accepted, pending or refused."""
    identity, status = backend.resource.identity, backend.resource.status or {}
    accepted = document.conditions(status).get(Condition.ACCEPTED)
    if accepted is None or accepted.get("observedGeneration") != identity.generation:
        return PENDING
    return {"True": ACCEPTED, "False": REFUSED}.get(str(accepted["status"]), PENDING)


def ready(backend: Backend) -> bool | None:
    """Its condition Ready at this generation; None while that is not known."""
    one = document.conditions(backend.resource.status).get(Condition.READY)
    if one is None or one.get("observedGeneration") != backend.resource.identity.generation:
        return None
    return {"True": True, "False": False}.get(str(one["status"]))


def _creator(backend: Backend) -> str | None:
    """Who the resource says has made it; None for one that was not made here."""
    annotations = backend.manifest["metadata"].get("annotations")
    if not isinstance(annotations, Mapping):
        return None
    by = annotations.get(CREATED_BY) or annotations.get(f"{IMPORTED}created-by")
    return by if isinstance(by, str) else None


def _traffic(totals: Totals | None) -> dict[str, object]:
    if totals is None:
        return dict.fromkeys(
            ("avg_tokens_per_sec", "avg_latency_ms", "total_requests", "total_errors")
        )
    seconds = totals.average_seconds
    return {
        "avg_tokens_per_sec": totals.average_tokens_per_second,
        "avg_latency_ms": None if seconds is None else seconds * 1000,
        "total_requests": totals.requests,
        "total_errors": totals.errors,
    }


def _times(backend: Backend) -> dict[str, str | None]:
    created = backend.resource.identity.created or None
    return {"created_at": created, "updated_at": backend.resource.changed_at or created}


def _plain(value: object) -> Any:
    """A value of YAML as one of JSON, which has no dates, no infinity and no keys but texts."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return str(value)
