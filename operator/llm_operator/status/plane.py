"""What routers say of a resource -> the part of its status that is about the data plane.

Pure. What routers have not told yet stays as it was told last, as long as it is about the same
targets: neither a fresh operator nor a router that is about to read the new version makes a status
say less than it did. Ready never hangs on anything here. Data flows `routers` -> `plane` ->
`conditions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llm_contract import Route, Target
from llm_operator.reasons import (
    Available,
    Condition,
    Degraded,
    Programmed,
    TargetReason,
    TargetState,
)
from llm_operator.resource.model import Resource
from llm_operator.routers import judge
from llm_operator.routers.judge import UNTOLD, Finding, TargetFinding, Wanted
from llm_operator.routers.report import Said
from llm_operator.status.document import Entry, Status, address, addressed, summary, targets

#: The conditions that are about the data plane, in the order of a status.
KINDS = (Condition.PROGRAMMED, Condition.AVAILABLE, Condition.DEGRADED)
#: The columns that are.
#: Those of them that are figures, and what makes them.
FIGURES = {"tokensPerSecond": judge.speed, "latency": judge.wait}
COLUMNS = ("routers", "targets", *FIGURES)
#: The fields of a target that are.
STANDS = ("state", "reason", "message", "since")

NOT_ASKED: Mapping[Condition, Finding] = {
    kind: Finding(
        status="Unknown", reason=reason, message="The routers have not been asked about it yet."
    )
    for kind, reason in (
        (Condition.PROGRAMMED, Programmed.PENDING),
        (Condition.AVAILABLE, Available.UNKNOWN),
        (Condition.DEGRADED, Degraded.UNKNOWN),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Conditions, columns and targets, as a status has them."""

    findings: Mapping[Condition, Finding] = field(default_factory=dict)
    summary: Mapping[str, str] = field(default_factory=dict)
    targets: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The status that stands, and what it says of each target that is the same now.

    Attributes:
        now: RFC 3339, for what changes with the new status.
    """

    status: Status | None
    conditions: Mapping[str, Entry]
    now: str

    def target(self, wanted: Target) -> dict[str, object]:
        """How a target stands there; empty when it is not there, or is another one."""
        same = _address(wanted)
        for target in targets(self.status):
            if address(target) == address(same) and "state" in target:
                return {name: target[name] for name in STANDS if name in target}
        return {}


def look(
    resource: Resource, route: Route | None, said: Sequence[Said] | None, *, before: Before
) -> Plane:
    """What is true of a resource in the data plane.

    Args:
        resource: at the generation the status is about.
        route: its route as published; None when it has none.
        said: by each running router; None when they have not been asked yet.
        before: what stands.
    """
    if said is None:
        return _unasked(resource, route, before)
    disabled = resource.spec is not None and not resource.spec.enabled
    finding, counted = judge.programmed(
        said, generation=resource.identity.generation, wanted=_wanted(resource, route, disabled)
    )
    shown = {"routers": counted}
    if route is None:
        available, degraded = judge.without_route(disabled)
        entries: Sequence[Entry] = ()
    else:
        entries = [_target(each, route, said, before) for each in route.targets]
        found = {str(entry["name"]): _finding(entry) for entry in entries}
        available, degraded = judge.available(found), judge.degraded(found)
        shown["targets"] = _healthy(found)
        for column, judged in FIGURES.items():
            standing = str(summary(before.status).get(column, ""))
            if figure := judged(route, said, standing=standing):
                shown[column] = figure
    findings = dict(zip(KINDS, (finding, available, degraded), strict=True))
    return Plane(findings=findings, summary=shown, targets=entries)


def _wanted(resource: Resource, route: Route | None, disabled: bool) -> Wanted:
    if route is None:
        return Wanted.NO_ROUTE if disabled else Wanted.UNPUBLISHED
    current = not disabled and route.generation == resource.identity.generation
    return Wanted.ROUTE if current else Wanted.UNPUBLISHED


def _unasked(resource: Resource, route: Route | None, before: Before) -> Plane:
    """What stood, as far as it is about this generation and these targets."""
    wanted = route.targets if route else ()
    entries = [_address(each) | before.target(each) for each in wanted]
    known = before.conditions.get(Condition.PROGRAMMED)
    if known is None:
        return Plane(targets=entries)
    same = [address(entry) for entry in entries] == addressed(before.status)
    if not same or known.get("observedGeneration") != resource.identity.generation:
        return Plane(findings=NOT_ASKED, targets=entries)
    kept = {kind: before.conditions[kind] for kind in KINDS if kind in before.conditions}
    columns = summary(before.status)
    return Plane(
        findings={
            kind: Finding(
                status=str(one["status"]), reason=str(one["reason"]), message=str(one["message"])
            )
            for kind, one in kept.items()
        },
        summary={name: str(columns[name]) for name in COLUMNS if name in columns},
        targets=entries,
    )


def _target(wanted: Target, route: Route, said: Sequence[Said], before: Before) -> Entry:
    stood = before.target(wanted)
    found = judge.target(wanted, said, generation=route.generation)
    if found is None:
        # NB: routers that answer and lack this version will have read it in a moment; none that
        # answers is another matter.
        waiting = any(not one.unreachable for one in said)
        if stood and waiting:
            return _address(wanted) | stood
        found = UNTOLD
    entry = _address(wanted) | {"state": found.state.value, "reason": found.reason.value}
    if found.message:
        entry["message"] = found.message
    same = stood.get("state") == found.state and "since" in stood
    entry["since"] = stood["since"] if same else found.since or before.now
    return entry


def _finding(entry: Entry) -> TargetFinding:
    """A target in a status, as `judge` has it; whatever somebody else has written there."""
    try:
        state, reason = TargetState(str(entry["state"])), TargetReason(str(entry["reason"]))
    except (KeyError, ValueError):
        return UNTOLD
    return TargetFinding(state=state, reason=reason, message=str(entry.get("message", "")))


def _healthy(found: Mapping[str, TargetFinding]) -> str:
    states = [finding.state for finding in found.values()]
    return f"{states.count(TargetState.HEALTHY)}/{len(states)}"


def _address(target: Target) -> dict[str, object]:
    return {
        "name": target.name,
        "type": target.type.value,
        "url": target.url,
        "model": target.model,
    }
