"""Which change of a status is worth a Kubernetes event: (status before, status after) -> events.

Pure. Worth one is what somebody may have to act on, and that it is over; what merely follows from
another condition is not, so that one mistake is one event. All there are stand in `TABLE`, which
the documentation repeats. Data flows `status` -> `transitions` -> `events`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from llm_operator.ports import Status
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


class EventType(StrEnum):
    """The two that Kubernetes has."""

    NORMAL = "Normal"
    WARNING = "Warning"


class EventReason(StrEnum):
    """`reason` of an event: names that scripts match on, a closed set."""

    READY = "Ready"
    INVALID = "Invalid"
    MODEL_NAME_CONFLICT = "ModelNameConflict"
    NOT_RESOLVED = "NotResolved"
    NOT_PUBLISHED = "NotPublished"
    NOT_RECORDED = "NotRecorded"
    RECORDED = "Recorded"
    NOT_PROGRAMMED = "NotProgrammed"
    PROGRAMMED = "Programmed"
    UNAVAILABLE = "Unavailable"
    AVAILABLE = "Available"
    DEGRADED = "Degraded"
    RECOVERED = "Recovered"
    PAUSED = "Paused"
    RESUMED = "Resumed"
    #: Of a ConfigMap; all others are of an LLMBackend.
    DRIFT_REPAIRED = "DriftRepaired"


@dataclass(frozen=True, slots=True)
class Stand:
    """How a condition stands; all empty when it is not there."""

    status: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What a condition comes to, and the event that this gives.

    Attributes:
        reasons: of the condition; empty for every one.
        after: the event that the condition gave as it stood before; None for any or none.
        beside: with this event of the same change it gives none.
    """

    condition: Condition
    status: str
    event: EventReason
    type: EventType = EventType.WARNING
    reasons: frozenset[str] = frozenset()
    after: EventReason | None = None
    beside: EventReason | None = None

    def reached(self, stand: Stand) -> bool:
        """Whether this is how a condition stands."""
        return stand.status == self.status and (not self.reasons or stand.reason in self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """An event before anybody has heard of it."""

    reason: EventReason
    type: EventType
    message: str


def _over(
    condition: Condition,
    status: str,
    event: EventReason,
    *,
    after: EventReason | None = None,
) -> Transition:
    return Transition(
        condition=condition, status=status, event=event, type=EventType.NORMAL, after=after
    )


#: Every transition that gives an event.
TABLE: tuple[Transition, ...] = (
    _over(Condition.READY, "True", EventReason.READY),
    Transition(
        condition=Condition.ACCEPTED,
        status="False",
        reasons=frozenset({Accepted.INVALID}),
        event=EventReason.INVALID,
    ),
    Transition(
        condition=Condition.ACCEPTED,
        status="False",
        reasons=frozenset({Accepted.MODEL_NAME_CONFLICT}),
        event=EventReason.MODEL_NAME_CONFLICT,
    ),
    Transition(
        condition=Condition.RESOLVED_REFS,
        status="False",
        reasons=frozenset(ResolvedRefs) - {ResolvedRefs.RESOLVED, ResolvedRefs.NOT_ACCEPTED},
        event=EventReason.NOT_RESOLVED,
    ),
    Transition(
        condition=Condition.CONFIG_PUBLISHED,
        status="False",
        reasons=frozenset(
            {ConfigPublished.TOO_LARGE, ConfigPublished.NOT_OWNED, ConfigPublished.PUBLISH_FAILED}
        ),
        event=EventReason.NOT_PUBLISHED,
    ),
    Transition(
        condition=Condition.DATABASE_SYNCED,
        status="False",
        reasons=frozenset({DatabaseSynced.DATABASE_UNAVAILABLE, DatabaseSynced.SCHEMA_OUTDATED}),
        event=EventReason.NOT_RECORDED,
    ),
    _over(Condition.DATABASE_SYNCED, "True", EventReason.RECORDED, after=EventReason.NOT_RECORDED),
    Transition(
        condition=Condition.PROGRAMMED,
        status="False",
        reasons=frozenset({Programmed.REJECTED_KEPT_LAST_GOOD, Programmed.ROUTER_UNREACHABLE}),
        event=EventReason.NOT_PROGRAMMED,
    ),
    _over(Condition.PROGRAMMED, "True", EventReason.PROGRAMMED, after=EventReason.NOT_PROGRAMMED),
    Transition(
        condition=Condition.AVAILABLE,
        status="False",
        reasons=frozenset({Available.ALL_TARGETS_DOWN}),
        event=EventReason.UNAVAILABLE,
    ),
    _over(Condition.AVAILABLE, "True", EventReason.AVAILABLE, after=EventReason.UNAVAILABLE),
    Transition(
        condition=Condition.DEGRADED,
        status="True",
        event=EventReason.DEGRADED,
        beside=EventReason.UNAVAILABLE,
    ),
    Transition(
        condition=Condition.DEGRADED,
        status="False",
        reasons=frozenset({Degraded.NO_TARGET_DOWN}),
        event=EventReason.RECOVERED,
        type=EventType.NORMAL,
        after=EventReason.DEGRADED,
        beside=EventReason.AVAILABLE,
    ),
    _over(Condition.PAUSED, "True", EventReason.PAUSED),
    _over(Condition.PAUSED, "", EventReason.RESUMED, after=EventReason.PAUSED),
)


def happenings(before: Status | None, after: Status) -> Sequence[Happening]:
    """The events that the change of a status gives, in the order of the table."""
    was, now = _conditions(before), _conditions(after)
    reached = [
        (transition, str(now.get(transition.condition, {}).get("message", "")))
        for transition in TABLE
        if _gives(transition, _stand(was, transition), _stand(now, transition))
    ]
    events = {transition.event for transition, _ in reached}
    return [
        Happening(
            reason=transition.event,
            type=transition.type,
            message=message or "It is not paused any more.",
        )
        for transition, message in reached
        if transition.beside not in events
    ]


def _gives(transition: Transition, before: Stand, after: Stand) -> bool:
    if before == after or not transition.reached(after):
        return False
    return transition.after is None or any(
        earlier.event is transition.after
        for earlier in TABLE
        if earlier.condition is transition.condition and earlier.reached(before)
    )


def _stand(conditions: Mapping[str, Mapping[str, Any]], transition: Transition) -> Stand:
    found = conditions.get(transition.condition)
    return Stand() if found is None else Stand(str(found["status"]), str(found["reason"]))


def _conditions(status: Status | None) -> Mapping[str, Mapping[str, Any]]:
    found: Any = (status or {}).get("conditions") or ()
    return {one["type"]: one for one in found}
