"""What is known of a resource -> its status.

Pure: it neither reads the clock nor writes. A status that says the same keeps its times and its
checksum, so comparing it with the one that stands is enough to write only what changed. Messages
are whole sentences, never hold what changes from one attempt to the next, and never a secret. Data
flows `plan`, `references`, `publish`, `record`, `routers` -> `conditions` -> the resource's status.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from llm_contract import Route
from llm_operator.plan import Verdict
from llm_operator.reasons import (
    Accepted,
    Condition,
    ConfigPublished,
    DatabaseSynced,
    Paused,
    Ready,
    Reconciling,
    ResolvedRefs,
)
from llm_operator.references.model import RESOLVED, Resolution
from llm_operator.resource.model import PAUSED, Resource
from llm_operator.routers.judge import Finding
from llm_operator.routers.report import Said
from llm_operator.status.document import Status, addressed, conditions, summary
from llm_operator.status.plane import FIGURES, KINDS, Before, Plane, look

#: What a status keeps while its resource is paused, its conditions apart.
KEPT = ("observedGeneration", "summary", "targets", "configChecksum")

#: Hex digits of a checksum that are shown.
DIGITS = 12

RECORDED: Mapping[DatabaseSynced, tuple[str, str]] = {
    DatabaseSynced.SYNCED: ("True", "The row is at this generation."),
    DatabaseSynced.PENDING: ("Unknown", "The row has not been compared with this generation yet."),
    DatabaseSynced.NOT_ACCEPTED: (
        "False",
        "This generation can't be recorded; the row of the last one that could stays.",
    ),
    DatabaseSynced.DATABASE_UNAVAILABLE: (
        "False",
        "The database can't be reached; it is tried again every few seconds. "
        "Routing does not need it.",
    ),
    DatabaseSynced.SCHEMA_OUTDATED: (
        "False",
        "The database lacks tables of this release: run `llmb migrate`. Routing does not need it.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one resource.

    Attributes:
        verdict: what the plan says of it.
        planned: its route in the plan.
        standing: its route in the configuration that stands.
        checksum: of the configuration that stands; "" when none does.
        published: what came of publishing the plan.
        trouble: why publishing failed, for people.
        recorded: what the record says of this generation; None when it has not been asked.
        resolution: whether what it refers to is there.
        said: by each running router of this resource; None when they have not been asked yet.
    """

    verdict: Verdict
    planned: Route | None
    standing: Route | None
    #: NB: no part of the comparison; it changes with every change of any other resource.
    checksum: str = field(compare=False)
    published: ConfigPublished
    trouble: str = ""
    recorded: DatabaseSynced | None = None
    resolution: Resolution = RESOLVED
    said: tuple[Said, ...] | None = None


class Difference(IntEnum):
    """What a status that stands lacks of the one that should; the greatest counts."""

    NONE = 0
    #: A figure alone, which may wait longest.
    FIGURE = 1
    #: What the routers say.
    PLANE = 2
    #: Anything else.
    CONTROL = 3


def describe(resource: Resource, facts: Facts, *, previous: Status | None, now: str) -> Status:
    """The status of a resource.

    Args:
        resource: at the generation that the facts are about.
        facts: what is known.
        previous: the status that stands.
        now: RFC 3339, for what changes with this status.
    """
    if resource.paused:
        return _paused(resource, previous, now)
    generation = resource.identity.generation
    before = conditions(previous)
    plane = look(
        resource,
        facts.standing,
        facts.said,
        before=Before(status=previous, conditions=before, now=now),
    )
    status: Status = {
        "observedGeneration": generation,
        "conditions": [
            _condition(kind, state, before.get(kind), generation=generation, now=now)
            for kind, state in _states(facts, plane, before, generation).items()
        ],
    }
    shown = dict(plane.summary)
    if kinds := _kinds(resource, facts.standing):
        shown["type"] = kinds
    if facts.standing is not None:
        shown["endpoint"] = facts.standing.targets[0].url
        status["targets"] = [dict(target) for target in plane.targets]
        status["configChecksum"] = _checksum(status, facts, previous)
    if shown:
        status["summary"] = shown
    return status


def _kinds(resource: Resource, standing: Route | None) -> str:
    """The backendType, or what the targets speak, each once, as `mlx,ollama`."""
    spec = resource.spec
    if spec is not None and spec.backend_type is not None:
        return spec.backend_type.value
    hosts = spec.hosts if spec is not None else standing.targets if standing else ()
    return ",".join(dict.fromkeys(host.type.value for host in hosts))


def same(standing: Status | None, desired: Status) -> bool:
    """Whether what stands says what is desired; conditions and fields of others don't count."""
    return difference(standing, desired) is Difference.NONE


def difference(standing: Status | None, desired: Status) -> Difference:
    """How much of what is desired does not stand; conditions and fields of others don't count."""
    if standing is None or _control(standing) != _control(desired):
        return Difference.CONTROL
    if _plane(standing) != _plane(desired):
        return Difference.PLANE
    alike = summary(standing) == summary(desired)
    return Difference.NONE if alike else Difference.FIGURE


def _control(status: Status) -> object:
    """What the operator itself has found out."""
    own = {kind: one for kind, one in conditions(status).items() if kind not in KINDS}
    rest = (status.get("observedGeneration"), status.get("configChecksum"))
    columns = [summary(status).get(column) for column in ("endpoint", "type")]
    return own, rest, columns, addressed(status)


def _plane(status: Status) -> object:
    """What the routers have told, but for figures."""
    found = conditions(status)
    shown = {name: text for name, text in summary(status).items() if name not in FIGURES}
    return [found.get(kind) for kind in KINDS], shown, status.get("targets")


def _paused(resource: Resource, previous: Status | None, now: str) -> Status:
    """The status as it was, and that it is as it was."""
    before = conditions(previous)
    kept = [dict(one) for kind, one in before.items() if kind != Condition.PAUSED]
    state = Finding(
        status="True",
        reason=Paused.RECONCILIATION_PAUSED,
        message=f"Nothing of it moves while its annotation {PAUSED} is true.",
    )
    observed = (previous or {}).get("observedGeneration")
    # NB: -1 stands where no status was written yet, and no condition may be about that.
    if not isinstance(observed, int) or observed < 0:
        observed = resource.identity.generation
    known = before.get(Condition.PAUSED)
    told = _condition(Condition.PAUSED.value, state, known, generation=observed, now=now)
    rest = {name: value for name, value in (previous or {}).items() if name in KEPT}
    return {**rest, "conditions": [*kept, told]}


def _states(
    facts: Facts, plane: Plane, before: Mapping[str, Mapping[str, object]], generation: int
) -> dict[str, Finding]:
    accepted = Finding(
        status=_flag(facts.verdict.accepted),
        reason=facts.verdict.reason,
        message=facts.verdict.message,
    )
    resolved, published = _resolved(facts), _published(facts, generation)
    states = {
        Condition.ACCEPTED: accepted,
        Condition.RESOLVED_REFS: resolved,
        Condition.CONFIG_PUBLISHED: published,
        Condition.DATABASE_SYNCED: _recorded(facts, before, generation),
        **plane.findings,
        Condition.READY: _ready(accepted, resolved, published),
    }
    if facts.verdict.reason is Accepted.INVALID:
        # NB: kstatus reads Ready=False as "still on its way"; only Stalled says that somebody must
        # act.
        states[Condition.STALLED] = Finding(
            status="True", reason=Accepted.INVALID, message=accepted.message
        )
    if facts.verdict.accepted and published.status != "True":
        states[Condition.RECONCILING] = Finding(
            status="True", reason=Reconciling.PUBLISHING, message=published.message
        )
    return {kind.value: state for kind, state in states.items()}


def _resolved(facts: Facts) -> Finding:
    if facts.verdict.reason is Accepted.INVALID:
        # NB: also a spec that can be read may be invalid here, for want of a default address.
        return Finding(
            status="Unknown",
            reason=ResolvedRefs.NOT_ACCEPTED,
            message="This generation is not accepted, so what it refers to is not looked at.",
        )
    resolution = facts.resolution
    return Finding(
        status=_flag(resolution.reason is ResolvedRefs.RESOLVED),
        reason=resolution.reason,
        message=resolution.message,
    )


def _published(facts: Facts, generation: int) -> Finding:
    kept = facts.standing
    rest = f" The route of generation {kept.generation} stays." if kept else ""
    if not facts.verdict.accepted:
        return Finding(
            status="False",
            reason=ConfigPublished.NOT_ACCEPTED,
            message=f"This generation is not accepted.{rest}",
        )
    current = facts.planned is not None and facts.planned.generation == generation
    if not facts.resolution.usable and not current:
        return Finding(
            status="False",
            reason=ConfigPublished.NOT_RESOLVED,
            message=f"None of this generation's targets can be used; see ResolvedRefs.{rest}",
        )
    if facts.planned == facts.standing:
        # NB: also after a failure, for every resource that the failed change was not about.
        told = "Its route is published." if facts.planned else facts.verdict.message
        return Finding(status="True", reason=ConfigPublished.PUBLISHED, message=told)
    return Finding(
        status="False",
        reason=facts.published,
        message=f"{facts.trouble}.",
    )


def _recorded(facts: Facts, before: Mapping[str, Mapping[str, object]], generation: int) -> Finding:
    kept = before.get(Condition.DATABASE_SYNCED)
    if facts.recorded is None and kept and kept.get("observedGeneration") == generation:
        # A fresh process knows nothing yet; what the last one found out about this generation
        # holds.
        return Finding(
            status=str(kept["status"]),
            reason=str(kept["reason"]),
            message=str(kept["message"]),
        )
    reason = facts.recorded or DatabaseSynced.PENDING
    status, message = RECORDED[reason]
    return Finding(status=status, reason=reason, message=message)


def _ready(*gates: Finding) -> Finding:
    for state in gates:
        if state.status != "True":
            return state
    published = gates[-1]
    return Finding(status="True", reason=Ready.READY, message=published.message)


def _condition(
    kind: str,
    state: Finding,
    before: Mapping[str, object] | None,
    *,
    generation: int,
    now: str,
) -> dict[str, object]:
    unchanged = before is not None and before.get("status") == state.status
    return {
        "type": kind,
        "status": state.status,
        "reason": str(state.reason),
        "message": state.message,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before and unchanged else now,
    }


def _checksum(status: Status, facts: Facts, previous: Status | None) -> object:
    """Of the first configuration that held this route at this generation.

    NB: not of the newest one, or a change of one resource would rewrite the status of all others.
    """
    kept = (previous or {}).get("configChecksum")
    unchanged = (
        previous is not None
        and previous.get("observedGeneration") == status["observedGeneration"]
        and addressed(previous) == addressed(status)
    )
    return kept if kept and unchanged else facts.checksum[:DIGITS]


def _flag(value: bool) -> str:
    return "True" if value else "False"
