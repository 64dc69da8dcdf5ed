"""What every router says of a resource -> what is true of it in the data plane.

Pure. Where routers differ the worst counts; one that says nothing speaks against Programmed and for
nothing else. Nothing here holds what changes from one look to the next while the state does not:
no count of seconds, no number of requests. Data flows `report` -> `judge` -> `status.conditions`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter

from llm_contract import Route, Target
from llm_operator.reasons import Available, Degraded, Programmed, TargetReason, TargetState
from llm_operator.routers.report import Said, TargetReport

#: Routers and targets that a message names; the others it counts.
NAMED = 3
#: A new figure has to differ by this much of the one that stands.
NEWS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One condition: "True", "False" or "Unknown", why, and that in a sentence."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFinding:
    """One target as the routers together see it.

    Attributes:
        message: what is against it; "" when nothing is.
        since: RFC 3339; "" when no router knows.
    """

    state: TargetState
    reason: TargetReason
    message: str = ""
    since: str = ""


#: The words of a router's /status -> ours. Trial is an ejected target that gets one request, and a
#: busy one answers: neither is a change that anybody has to hear of.
REASONS: Mapping[str, TargetReason] = {
    "Healthy": TargetReason.HEALTHY,
    "Busy": TargetReason.HEALTHY,
    "Unknown": TargetReason.NOT_PROBED,
    "Cooling": TargetReason.COOLING,
    "Drained": TargetReason.DRAINED,
    "ModelMissing": TargetReason.MODEL_MISSING,
    "Misconfigured": TargetReason.MISCONFIGURED,
    "Unhealthy": TargetReason.UNHEALTHY,
    "Ejected": TargetReason.EJECTED,
    "Trial": TargetReason.EJECTED,
    "Unusable": TargetReason.UNUSABLE,
}

STATES: Mapping[TargetReason, TargetState] = {
    TargetReason.NOT_TOLD: TargetState.UNKNOWN,
    TargetReason.NOT_PROBED: TargetState.UNKNOWN,
    TargetReason.HEALTHY: TargetState.HEALTHY,
    TargetReason.COOLING: TargetState.HEALTHY,
    TargetReason.DRAINED: TargetState.DRAINED,
    TargetReason.MODEL_MISSING: TargetState.DOWN,
    TargetReason.MISCONFIGURED: TargetState.DOWN,
    TargetReason.UNHEALTHY: TargetState.DOWN,
    TargetReason.EJECTED: TargetState.DOWN,
    TargetReason.UNUSABLE: TargetState.DOWN,
}

#: From the best to the worst. NB: a router that has not probed a host yet takes nothing from what
#: another has found out.
RANK = {reason: rank for rank, reason in enumerate(TargetReason)}

#: Said where routers give no words of their own.
WORDS: Mapping[TargetReason, str] = {
    TargetReason.NOT_TOLD: "No router has told of it yet.",
    TargetReason.NOT_PROBED: "Nothing is against it; no probe has judged it yet.",
    TargetReason.HEALTHY: "",
    TargetReason.COOLING: "It asked for a pause.",
    TargetReason.DRAINED: "Weight 0: it gets no new traffic.",
}


class Wanted(Enum):
    """What routers should have of a resource."""

    ROUTE = "its route at this generation"
    NO_ROUTE = "none, because it is disabled"
    #: This generation is not published, so that no router can have it.
    UNPUBLISHED = "what they have"


def programmed(said: Sequence[Said], *, generation: int, wanted: Wanted) -> tuple[Finding, str]:
    """Whether every running router has what it should of this generation, and n/m."""
    total = len(said)
    lacking = [one for one in said if not _has(one, generation, wanted)]
    counted = f"{total - len(lacking)}/{total}"
    if not total:
        message = "There is no running router in the namespace."
        return _unprogrammed(Programmed.NO_ROUTERS, message), counted
    if wanted is Wanted.UNPUBLISHED:
        message = f"Generation {generation} is not published; see ConfigPublished."
        return _unprogrammed(Programmed.PENDING, message), counted
    if lacking:
        reason, told = _lack(lacking)
        behind = f"{len(lacking)} of {_routers(total)}"
        message = f"Generation {generation} is not in use by {behind}: {told}."
        return _unprogrammed(reason, message), counted
    message = f"Generation {generation} is in use by {_routers(total)}."
    return Finding(status="True", reason=Programmed.PROGRAMMED, message=message), counted


def _has(one: Said, generation: int, wanted: Wanted) -> bool:
    if wanted is Wanted.NO_ROUTE:
        return not one.unreachable and one.route is None
    return one.runs(generation)


def _unprogrammed(reason: Programmed, message: str) -> Finding:
    return Finding(status="False", reason=reason, message=message)


def target(wanted: Target, said: Sequence[Said], *, generation: int) -> TargetFinding | None:
    """How a target stands; None when no router has told of it at this generation."""
    told = [
        report
        for one in said
        if one.route is not None and one.runs(generation)
        for report in one.route.targets
        if report.name == wanted.name
    ]
    if not told:
        return None
    worst = max(told, key=lambda report: (RANK[_reason(report)], report.failure))
    reason = _reason(worst)
    state = STATES[reason]
    agreed = [report.since for report in told if STATES[_reason(report)] is state]
    times = [since for since in agreed if since]
    words = _sentence(worst.failure) if state is TargetState.DOWN and worst.failure else ""
    return TargetFinding(
        state=state,
        reason=reason,
        message=words or WORDS.get(reason, ""),
        since=_time(min(times)) if times else "",
    )


UNTOLD = TargetFinding(
    state=TargetState.UNKNOWN,
    reason=TargetReason.NOT_TOLD,
    message=WORDS[TargetReason.NOT_TOLD],
)


def available(targets: Mapping[str, TargetFinding]) -> Finding:
    """Whether one target at least is healthy, by the findings of a route's targets by name."""
    states = [finding.state for finding in targets.values()]
    if TargetState.HEALTHY in states:
        healthy = states.count(TargetState.HEALTHY)
        message = f"{healthy} of {len(states)} targets {'is' if healthy == 1 else 'are'} healthy."
        return Finding(status="True", reason=Available.TARGETS_HEALTHY, message=message)
    if TargetState.UNKNOWN in states or not states:
        message = "No router has found a healthy target yet."
        return Finding(status="Unknown", reason=Available.UNKNOWN, message=message)
    message = f"No target can answer: {_down(targets)}."
    return Finding(status="False", reason=Available.ALL_TARGETS_DOWN, message=message)


def degraded(targets: Mapping[str, TargetFinding]) -> Finding:
    """Whether some target is down."""
    states = [finding.state for finding in targets.values()]
    if TargetState.DOWN in states:
        message = f"Down: {_down(targets)}."
        return Finding(status="True", reason=Degraded.TARGETS_DOWN, message=message)
    if TargetState.UNKNOWN in states or not states:
        message = "Not every target has been judged yet; none is known to be down."
        return Finding(status="Unknown", reason=Degraded.UNKNOWN, message=message)
    return Finding(status="False", reason=Degraded.NO_TARGET_DOWN, message="No target is down.")


def without_route(disabled: bool) -> tuple[Finding, Finding]:
    """Available and Degraded of a resource that routers have no route of."""
    if disabled:
        message = "Disabled: it has no route."
        return (
            Finding(status="False", reason=Available.DISABLED, message=message),
            Finding(status="False", reason=Degraded.DISABLED, message=message),
        )
    message = "It has no route."
    return (
        Finding(status="Unknown", reason=Available.UNKNOWN, message=message),
        Finding(status="Unknown", reason=Degraded.UNKNOWN, message=message),
    )


def speed(route: Route, said: Sequence[Said], *, standing: str) -> str:
    """Tokens a second of the targets that are asked first, of those that answer; "" when unknown.

    Args:
        route: as published.
        said: by each running router.
        standing: the figure that stands; it stays while the new one is about the same.
    """
    mean = _mean(route, said, attrgetter("speed"))
    return "" if mean is None else _news(standing, mean, f"{mean:.1f}")


def wait(route: Route, said: Sequence[Said], *, standing: str) -> str:
    """Milliseconds to the first token of the same targets, as `120ms`; "" when unknown.

    Args as of `speed`.
    """
    mean = _mean(route, said, attrgetter("wait"))
    return "" if mean is None else _news(standing, mean * 1000, f"{mean * 1000:.0f}ms")


def _mean(
    route: Route, said: Sequence[Said], figure: Callable[[TargetReport], float | None]
) -> float | None:
    """Of the first tier that has the figure, by the targets' weights."""
    tiers: dict[int, list[tuple[float, int]]] = {}
    for place, each in enumerate(route.targets):
        tier = place if each.tier is None else each.tier
        for report in _answering(each.name, route.generation, said):
            if (found := figure(report)) and each.weight:
                tiers.setdefault(tier, []).append((found, each.weight))
    if not tiers:
        return None
    figures = tiers[min(tiers)]
    return sum(found * weight for found, weight in figures) / sum(w for _, w in figures)


def _news(standing: str, now: float, text: str) -> str:
    """The text of a figure, or the one that stands while the figure is about the same."""
    before = _figure(standing.removesuffix("ms"))
    return standing if before is not None and abs(now - before) <= NEWS * before else text


def _answering(name: str, generation: int, said: Sequence[Said]) -> list[TargetReport]:
    routes = (one.route for one in said if one.route and one.runs(generation))
    reports = (report for route in routes for report in route.targets if report.name == name)
    return [report for report in reports if STATES[_reason(report)] is not TargetState.DOWN]


def _figure(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _reason(report: TargetReport) -> TargetReason:
    # NB: a router may be newer than this operator, and its words then unknown; they say nothing.
    return REASONS.get(report.state, TargetReason.NOT_PROBED)


def _lack(lacking: Sequence[Said]) -> tuple[Programmed, str]:
    """Why they lack it, the worst reason first, and who of them."""
    rejected = [one for one in lacking if one.rejected]
    away = [one for one in lacking if one.unreachable]
    if rejected:
        told = [f"{one.router} keeps its last good ({one.rejected})" for one in rejected]
        return Programmed.REJECTED_KEPT_LAST_GOOD, _some(told)
    if away:
        told = [f"{one.router} can't be asked ({one.unreachable})" for one in away]
        return Programmed.ROUTER_UNREACHABLE, _some(told)
    return Programmed.PENDING, _some([f"{one.router} has not read it yet" for one in lacking])


def _down(targets: Mapping[str, TargetFinding]) -> str:
    return _some(
        [
            f"{name} ({finding.message.rstrip('.') or finding.reason})"
            for name, finding in targets.items()
            if finding.state in (TargetState.DOWN, TargetState.DRAINED)
        ]
    )


def _some(told: Sequence[str]) -> str:
    more = len(told) - NAMED
    return ", ".join([*told[:NAMED], *([f"{more} more"] if more > 0 else [])])


def _routers(count: int) -> str:
    return f"{count} router{'' if count == 1 else 's'}"


def _sentence(words: str) -> str:
    # NB: a URL or a name that it begins with stays as it is written.
    plain = words.partition(" ")[0].rstrip(",:;").isalpha()
    first = words[:1].upper() if plain else words[:1]
    return f"{first}{words[1:].rstrip('.')}."


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
