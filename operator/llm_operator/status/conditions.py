"""What is known of a resource -> its status.

Pure: it neither reads the clock nor writes. A status that says the same keeps its times and its
checksum, so comparing it with the one that stands is enough to write only what changed. Messages
are whole sentences, never hold what changes from one attempt to the next, and never a secret. Data
flows `plan`, `references`, `publish`, `record` -> `conditions` -> the resource's status.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from llm_contract import Route
from llm_operator.plan import Verdict
from llm_operator.reasons import (
    Accepted,
    Condition,
    ConfigPublished,
    DatabaseSynced,
    Ready,
    ResolvedRefs,
)
from llm_operator.references.model import RESOLVED, Resolution
from llm_operator.resource.model import Resource

Status = dict[str, object]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    status: str
    reason: str
    message: str


def describe(resource: Resource, facts: Facts, *, previous: Status | None, now: str) -> Status:
    """The status of a resource.

    Args:
        resource: at the generation that the facts are about.
        facts: what is known.
        previous: the status that stands.
        now: RFC 3339, for what changes with this status.
    """
    generation = resource.identity.generation
    before = _conditions(previous)
    conditions = [
        _condition(kind, state, before.get(kind), generation=generation, now=now)
        for kind, state in _states(facts, before, generation).items()
    ]
    status: Status = {"observedGeneration": generation, "conditions": conditions}
    if facts.standing is not None:
        status["summary"] = {"endpoint": facts.standing.targets[0].url}
        status["targets"] = [
            {
                "name": target.name,
                "type": target.type.value,
                "url": target.url,
                "model": target.model,
            }
            for target in facts.standing.targets
        ]
        status["configChecksum"] = _checksum(status, facts, previous)
    return status


def same(standing: Status | None, desired: Status) -> bool:
    """Whether what stands says what is desired; conditions and fields of others don't count."""
    if standing is None:
        return False
    keys = ("observedGeneration", "summary", "targets", "configChecksum")
    return all(standing.get(key) == desired.get(key) for key in keys) and _conditions(
        standing
    ) == _conditions(desired)


def _states(
    facts: Facts, before: Mapping[str, Mapping[str, object]], generation: int
) -> dict[str, _State]:
    accepted = _State(
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
        Condition.READY: _ready(accepted, resolved, published),
    }
    if facts.verdict.reason is Accepted.INVALID:
        # NB: kstatus reads Ready=False as "still on its way"; only Stalled says that somebody must
        # act.
        states[Condition.STALLED] = _State(
            status="True", reason=Accepted.INVALID, message=accepted.message
        )
    return {kind.value: state for kind, state in states.items()}


def _resolved(facts: Facts) -> _State:
    if facts.verdict.reason is Accepted.INVALID:
        # NB: also a spec that can be read may be invalid here, for want of a default address.
        return _State(
            status="Unknown",
            reason=ResolvedRefs.NOT_ACCEPTED,
            message="This generation is not accepted, so what it refers to is not looked at.",
        )
    resolution = facts.resolution
    return _State(
        status=_flag(resolution.reason is ResolvedRefs.RESOLVED),
        reason=resolution.reason,
        message=resolution.message,
    )


def _published(facts: Facts, generation: int) -> _State:
    kept = facts.standing
    rest = f" The route of generation {kept.generation} stays." if kept else ""
    if not facts.verdict.accepted:
        return _State(
            status="False",
            reason=ConfigPublished.NOT_ACCEPTED,
            message=f"This generation is not accepted.{rest}",
        )
    current = facts.planned is not None and facts.planned.generation == generation
    if not facts.resolution.usable and not current:
        return _State(
            status="False",
            reason=ConfigPublished.NOT_RESOLVED,
            message=f"None of this generation's targets can be used; see ResolvedRefs.{rest}",
        )
    if facts.planned == facts.standing:
        # NB: also after a failure, for every resource that the failed change was not about.
        told = "Its route is published." if facts.planned else facts.verdict.message
        return _State(status="True", reason=ConfigPublished.PUBLISHED, message=told)
    return _State(
        status="False",
        reason=facts.published,
        message=f"{facts.trouble}.",
    )


def _recorded(facts: Facts, before: Mapping[str, Mapping[str, object]], generation: int) -> _State:
    kept = before.get(Condition.DATABASE_SYNCED)
    if facts.recorded is None and kept and kept.get("observedGeneration") == generation:
        # A fresh process knows nothing yet; what the last one found out about this generation
        # holds.
        return _State(
            status=str(kept["status"]), reason=str(kept["reason"]), message=str(kept["message"])
        )
    reason = facts.recorded or DatabaseSynced.PENDING
    status, message = RECORDED[reason]
    return _State(status=status, reason=reason, message=message)


def _ready(*gates: _State) -> _State:
    for state in gates:
        if state.status != "True":
            return state
    published = gates[-1]
    return _State(status="True", reason=Ready.READY, message=published.message)


def _condition(
    kind: str,
    state: _State,
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
    unchanged = previous is not None and all(
        previous.get(key) == status[key] for key in ("observedGeneration", "targets")
    )
    return kept if kept and unchanged else facts.checksum[:DIGITS]


def _conditions(status: Status | None) -> dict[str, Mapping[str, object]]:
    """The operator's own conditions by type."""
    ours = {kind.value for kind in Condition}
    found = cast(Sequence[Mapping[str, object]], (status or {}).get("conditions") or [])
    return {str(one["type"]): one for one in found if one["type"] in ours}


def _flag(value: bool) -> str:
    return "True" if value else "False"
