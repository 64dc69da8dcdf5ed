"""Every state that an LLMBackend can be in, as the object that the API server would show.

The statuses are the operator's own: facts go in, and what it would write comes out. `STATES` is the
order in which docs/gitops.md lists them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llm_contract import Route, Target, TargetType, Timeouts
from llm_operator.plan import Verdict
from llm_operator.reasons import Accepted, ConfigPublished, DatabaseSynced, ResolvedRefs
from llm_operator.references.model import Resolution
from llm_operator.resource.model import BackendType, Identity, Resource, Spec
from llm_operator.routers.report import RouteReport, Said, TargetReport
from llm_operator.status.conditions import Facts, Status, describe

NOW = "2026-01-01T00:00:05Z"
GENERATION = 2
SPEC = {"modelName": "phi3:mini", "backendType": "ollama", "endpointURL": "http://o:1"}

RESOURCE = Resource(
    identity=Identity(namespace="ns", name="phi", uid="u1", generation=GENERATION),
    spec=Spec(model_name="phi3:mini", backend_type=BackendType.OLLAMA, endpoint_url="http://o:1"),
)
ROUTE = Route(
    model="phi3:mini",
    uid="u1",
    generation=GENERATION,
    name="phi",
    targets=(Target(name="ollama", type=TargetType.OLLAMA, url="http://o:1", model="phi3:mini"),),
    timeouts=Timeouts(total=60),
)
OLD = replace(ROUTE, generation=1)


def says(state: str = "Healthy", *, generation: int = GENERATION, rejected: str = "") -> Said:
    """A router that has the route of a generation, with its only target in a state."""
    targets = (TargetReport(name="ollama", state=state),)
    route = RouteReport(generation=generation, targets=targets)
    return Said(router="a", route=route, rejected=rejected)


READY = Facts(
    verdict=Verdict(reason=Accepted.VALID, message="Valid.", routed=True),
    planned=ROUTE,
    standing=ROUTE,
    checksum="c" * 64,
    published=ConfigPublished.PUBLISHED,
    recorded=DatabaseSynced.SYNCED,
    said=(says(),),
)
#: What is known besides of a generation that never had a route.
ROUTELESS = replace(READY, planned=None, standing=None, said=())
DISABLED = replace(
    ROUTELESS, verdict=Verdict(reason=Accepted.VALID, message="Disabled: it has no route.")
)
DOWN = replace(READY, said=(says("Ejected"),))


def refused(reason: Accepted, *, routed: bool = False) -> Facts:
    """A spec that is not accepted, or not wholly."""
    verdict = Verdict(reason=reason, message="It is so.", routed=routed)
    known = READY if routed else replace(ROUTELESS, recorded=DatabaseSynced.NOT_ACCEPTED)
    return replace(known, verdict=verdict)


def lacking(reason: ResolvedRefs, *, usable: bool = False) -> Facts:
    """What it refers to is not there for all of its targets, or for none."""
    resolution = Resolution(reason=reason, message="It is so.", usable=usable)
    return replace(READY if usable else ROUTELESS, resolution=resolution)


def unpublished(reason: ConfigPublished) -> Facts:
    """The route of this generation can't be published, and the last one's stays."""
    return replace(READY, standing=OLD, published=reason, trouble="It is so")


LACKS = (
    ResolvedRefs.SECRET_NOT_FOUND,
    ResolvedRefs.SECRET_NOT_ALLOWED,
    ResolvedRefs.CONFIG_MAP_NOT_FOUND,
    ResolvedRefs.KEY_MISSING,
    ResolvedRefs.SERVICE_NOT_FOUND,
    ResolvedRefs.READ_FAILED,
    ResolvedRefs.TOO_LARGE,
    ResolvedRefs.NOT_OWNED,
    ResolvedRefs.PUBLISH_FAILED,
)
TROUBLES = (ConfigPublished.TOO_LARGE, ConfigPublished.NOT_OWNED, ConfigPublished.PUBLISH_FAILED)

#: State -> what is known in it. First the ways to be ready, then the ways not to be.
FACTS: Mapping[str, Facts] = {
    "ready": READY,
    "it has lost an alias to another one": refused(Accepted.MODEL_NAME_CONFLICT, routed=True),
    "all its hosts are down or asleep": DOWN,
    "no router has told of its hosts yet": replace(READY, said=(says("NotProbed"),)),
    "no router runs": replace(READY, said=()),
    "a router has not read it yet": replace(READY, said=(says(generation=1),)),
    "a router rejects it": replace(READY, said=(says(generation=1, rejected="too new"),)),
    "a router can't be reached": replace(READY, said=(Said(router="a", unreachable="timeout"),)),
    "its row is not written yet": replace(READY, recorded=DatabaseSynced.PENDING),
    "the database is away": replace(READY, recorded=DatabaseSynced.DATABASE_UNAVAILABLE),
    "the schema is old": replace(READY, recorded=DatabaseSynced.SCHEMA_OUTDATED),
    "disabled": DISABLED,
    "invalid": refused(Accepted.INVALID),
    "another one has its model name": refused(Accepted.MODEL_NAME_CONFLICT),
    **{f"no target can be used: {reason}": lacking(reason) for reason in LACKS},
    "some target can't be used": lacking(ResolvedRefs.SECRET_NOT_FOUND, usable=True),
    **{f"its route can't be published: {reason}": unpublished(reason) for reason in TROUBLES},
}


def shown(status: Mapping[str, object], *, enabled: bool = True, **metadata: object) -> Any:
    """The object as the API server would show it."""
    known = {"name": "phi", "namespace": "ns", "uid": "u1", "generation": GENERATION}
    return {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": known | metadata,
        "spec": SPEC | {"enabled": enabled},
        "status": dict(status),
    }


def told(facts: Facts, *, enabled: bool = True, paused: bool = False) -> Status:
    """What the operator writes."""
    assert RESOURCE.spec is not None
    resource = replace(RESOURCE, spec=replace(RESOURCE.spec, enabled=enabled))
    status = describe(resource, facts, previous=None, now=NOW)
    if paused:
        return describe(replace(resource, paused=True), facts, previous=status, now=NOW)
    return status


#: State -> the object.
STATES: Mapping[str, Any] = {
    "created, not seen yet": shown({"observedGeneration": -1}),
    "changed, not seen yet": shown(told(READY), generation=GENERATION + 1),
    **{
        state: shown(told(facts, enabled=facts is not DISABLED), enabled=facts is not DISABLED)
        for state, facts in FACTS.items()
    },
    "paused": shown(told(READY, paused=True)),
    "paused, and changed since": shown(told(READY, paused=True), generation=GENERATION + 1),
    "paused while invalid": shown(told(FACTS["invalid"], paused=True)),
}


def conditions(backend: Any) -> list[dict[str, str]]:
    """Its conditions."""
    return list(backend["status"].get("conditions", ()))
