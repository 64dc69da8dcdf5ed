"""An LLMBackend as the API server has it -> what is not well with it, in sentences.

Pure. The status says what and why; what to do about it is said here, once for each reason. What
only follows from something else is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_operator.reasons import (
    Accepted,
    Available,
    Condition,
    ConfigPublished,
    DatabaseSynced,
    Degraded,
    Programmed,
    ResolvedRefs,
)
from llm_operator.resource.model import FINALIZER, PAUSED
from llm_operator.resource.parse import is_paused

ITSELF = "Nothing, if it passes: it is tried again. If it stays, look at the operator's log."
THERE = "It is taken up by itself as soon as it is there."
OPERATOR = "See whether the operator runs, and what its log says."
HOSTS = "Start the host, or name another; `llmb explain MODEL` shows how a router sees each target."
FEWER = "Do as the sentence says; the last version stays until then."

#: Condition -> reason -> what to do about it.
REMEDIES: Mapping[Condition, Mapping[str, str]] = {
    Condition.ACCEPTED: {
        Accepted.INVALID: "Correct the spec. `llmb validate FILE` finds the same before an apply.",
        Accepted.MODEL_NAME_CONFLICT: "Choose another name, or a lower spec.priority than the "
        "owner's. When the owner goes, the name is taken over by itself.",
    },
    Condition.RESOLVED_REFS: {
        ResolvedRefs.SECRET_NOT_FOUND: THERE,
        ResolvedRefs.SECRET_NOT_ALLOWED: "kubectl label secret NAME llm.athena.dev/credential=true",
        ResolvedRefs.CONFIG_MAP_NOT_FOUND: THERE,
        ResolvedRefs.KEY_MISSING: THERE,
        ResolvedRefs.SERVICE_NOT_FOUND: THERE,
        ResolvedRefs.READ_FAILED: ITSELF,
        ResolvedRefs.TOO_LARGE: FEWER,
        ResolvedRefs.NOT_OWNED: FEWER,
        ResolvedRefs.PUBLISH_FAILED: ITSELF,
    },
    Condition.CONFIG_PUBLISHED: {
        ConfigPublished.TOO_LARGE: FEWER,
        ConfigPublished.NOT_OWNED: FEWER,
        ConfigPublished.PUBLISH_FAILED: ITSELF,
    },
    Condition.DATABASE_SYNCED: {
        DatabaseSynced.PENDING: ITSELF,
        DatabaseSynced.DATABASE_UNAVAILABLE: "See whether Postgres runs and LLMB_DATABASE_URL "
        "names it. Requests are routed meanwhile.",
        DatabaseSynced.SCHEMA_OUTDATED: "Run `llmb migrate`. Requests are routed meanwhile.",
    },
    Condition.PROGRAMMED: {
        Programmed.PENDING: "Nothing, if it passes: a kubelet takes up to a minute or so.",
        Programmed.NO_ROUTERS: "Start a pod with a router and the label llm.athena.dev/router.",
        Programmed.REJECTED_KEPT_LAST_GOOD: "Look at that router's log: it may be of an older "
        "release than the operator.",
        Programmed.ROUTER_UNREACHABLE: "See whether that pod runs, and whether a NetworkPolicy "
        "keeps the operator from its management port.",
    },
    Condition.AVAILABLE: {
        Available.ALL_TARGETS_DOWN: HOSTS,
        Available.UNKNOWN: "Nothing, if it passes: no router has said anything of it yet.",
    },
    Condition.DEGRADED: {Degraded.TARGETS_DOWN: HOSTS},
}

#: What nobody has to act on: it is as the spec wants it, or follows from another condition.
FINE = frozenset(
    {
        ConfigPublished.NOT_ACCEPTED,
        ConfigPublished.NOT_RESOLVED,
        ResolvedRefs.NOT_ACCEPTED,
        DatabaseSynced.NOT_ACCEPTED,
        Available.DISABLED,
        Degraded.DISABLED,
        Degraded.UNKNOWN,
    }
)

#: Conditions that are well while False, or not there; all others are well while True.
BAD = frozenset({Condition.DEGRADED, Condition.STALLED, Condition.RECONCILING, Condition.PAUSED})

#: Conditions that Ready is made of.
GATES = frozenset({Condition.ACCEPTED, Condition.RESOLVED_REFS, Condition.CONFIG_PUBLISHED})

#: What only follows when one of these others is not well either.
FOLLOWS: Mapping[tuple[str, str], frozenset[Condition]] = {
    (Condition.PROGRAMMED, Programmed.PENDING): GATES,
    (Condition.AVAILABLE, Available.UNKNOWN): GATES | {Condition.PROGRAMMED},
    (Condition.DEGRADED, Degraded.TARGETS_DOWN): frozenset({Condition.AVAILABLE}),
}

#: Those that repeat others, and are told only where there is no other.
REPEATING = (Condition.READY, Condition.STALLED, Condition.RECONCILING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is not well.

    Attributes:
        condition: "" for what no condition says.
        message: why.
        remedy: what to do; "" when that is not known.
    """

    condition: str = ""
    status: str = ""
    reason: str = ""
    message: str
    remedy: str = ""


def ready(item: Mapping[str, Any]) -> bool:
    """Whether it is Ready, as its spec is now."""
    condition = _conditions(item).get(Condition.READY, {})
    return condition.get("status") == "True" and not _behind(item)


def troubles(item: Mapping[str, Any]) -> Sequence[Trouble]:
    """What is not well with it, what comes first first."""
    return [*_of_object(item), *_of_conditions(item)]


def _of_object(item: Mapping[str, Any]) -> Iterator[Trouble]:
    metadata = item["metadata"]
    if since := metadata.get("deletionTimestamp"):
        kept = ", ".join(metadata.get("finalizers") or ())
        told = f"It is being deleted since {since}" + (f", held by {kept}." if kept else ".")
        gone = " If it is gone for good: llmb uninstall --strip-finalizers."
        yield Trouble(message=told, remedy=OPERATOR + (gone if FINALIZER in kept else ""))
    elif not _conditions(item):
        yield Trouble(message="The operator has not looked at it yet.", remedy=OPERATOR)
    elif _behind(item):
        seen, now = _generations(item)
        told = f"The status is of generation {seen}, the spec is at generation {now}."
        yield Trouble(message=told, remedy=OPERATOR)


def _of_conditions(item: Mapping[str, Any]) -> Sequence[Trouble]:
    found = [
        _trouble(Condition(kind), condition, item)
        for kind, condition in _conditions(item).items()
        if not _well(Condition(kind), condition)
    ]
    kinds = {one.condition for one in found}
    first = [
        one
        for one in found
        if one.condition not in REPEATING
        and kinds.isdisjoint(FOLLOWS.get((one.condition, one.reason), ()))
    ]
    return first or found[:1]


def _well(kind: Condition, condition: Mapping[str, Any]) -> bool:
    if condition.get("reason") in FINE:
        return True
    if kind is Condition.ACCEPTED and condition.get("reason") == Accepted.MODEL_NAME_CONFLICT:
        # NB: True of one that has its model name and lacks an alias.
        return False
    return condition.get("status") == ("False" if kind in BAD else "True")


def _trouble(kind: Condition, condition: Mapping[str, Any], item: Mapping[str, Any]) -> Trouble:
    reason = str(condition.get("reason", ""))
    remedy = REMEDIES.get(kind, {}).get(reason, "")
    if kind is Condition.PAUSED:
        metadata = item["metadata"]
        where = f"{metadata['name']} -n {metadata['namespace']}"
        remedy = f"To go on: kubectl annotate llmbackend {where} {PAUSED}-"
    return Trouble(
        condition=kind,
        status=str(condition.get("status", "")),
        reason=reason,
        message=str(condition.get("message", "")),
        remedy=remedy,
    )


def _behind(item: Mapping[str, Any]) -> bool:
    seen, now = _generations(item)
    # NB: a paused one is looked at again when it is not paused any more.
    return seen != now and not is_paused(item["metadata"])


def _generations(item: Mapping[str, Any]) -> tuple[object, object]:
    return (item.get("status") or {}).get("observedGeneration"), item["metadata"].get("generation")


def _conditions(item: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The operator's own, in the order of `Condition`."""
    given = {one["type"]: one for one in (item.get("status") or {}).get("conditions") or ()}
    return {kind.value: given[kind] for kind in Condition if kind in given}
