"""Which target of a route is asked, and in which order the others would be.

Pure functions over what is known at one moment: the route, the standings, the time and one number
from the caller. Tiers in order; within a tier by weight, drawn anew for each request or fixed by
the sticky header's value; targets with something against them come last, because one of them may
still be the only one that can answer; those that can't serve the request at all are left out.
`order` decides for requests and `explain` tells people, from the same verdicts.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from llm_contract import OnBusy
from llm_router.exchange import Exchange
from llm_router.standing import Standing
from llm_router.table import Destination, Entry
from llm_router.targets import TARGETS


class Verdict(StrEnum):
    """How a target stands at one moment; also the state that /status and metrics show."""

    HEALTHY = "Healthy"
    UNKNOWN = "Unknown"
    TRIAL = "Trial"
    EJECTED = "Ejected"
    UNHEALTHY = "Unhealthy"
    MODEL_MISSING = "ModelMissing"
    COOLING = "Cooling"
    MISCONFIGURED = "Misconfigured"
    BUSY = "Busy"
    DRAINED = "Drained"
    INCAPABLE = "Incapable"
    UNUSABLE = "Unusable"


#: Verdicts with which a target gets requests in its ordinary turn.
FIRST = frozenset({Verdict.HEALTHY, Verdict.UNKNOWN, Verdict.TRIAL})

#: Verdicts with which it gets none.
NEVER = frozenset({Verdict.DRAINED, Verdict.INCAPABLE, Verdict.UNUSABLE})


def order(entry: Entry, now: float, *, sticky: bytes | None = None) -> Sequence[Destination]:
    """The targets to ask, in order; what a target lacks for one request is not looked at.

    Args:
        now: on the clock of the standings.
        sticky: the value of the route's sticky header, when the request has it.
    """
    if entry.plain:
        for destination in entry.destinations:
            if destination.standing.doubted or destination.full:
                break
        else:
            return entry.destinations
    first: list[Destination] = []
    later: list[Destination] = []
    for tier in entry.tiers:
        for destination in tier if len(tier) == 1 else _drawn(tier, sticky):
            verdict = judge(destination, now)
            if verdict in FIRST or (verdict is Verdict.BUSY and _queues(destination)):
                first.append(destination)
            elif verdict not in NEVER:
                later.append(destination)
    return first + later


def judge(destination: Destination, now: float) -> Verdict:
    """How a target stands, whatever is asked of it."""
    standing = destination.standing
    if destination.unusable:
        return Verdict.UNUSABLE
    if destination.target.weight == 0:
        return Verdict.DRAINED
    if standing.doubted:
        against = _against(standing, now)
        if against is not None:
            return against
    if destination.full:
        return Verdict.BUSY
    return Verdict.HEALTHY if standing.host.healthy else Verdict.UNKNOWN


def _against(standing: Standing, now: float) -> Verdict | None:
    host = standing.host
    if not (standing.breaker.admits(now) and host.breaker.admits(now)):
        return Verdict.EJECTED
    if host.healthy is False:
        return Verdict.UNHEALTHY
    if standing.refused_until > now:
        return Verdict.MISCONFIGURED
    if standing.missing or standing.missing_until > now:
        return Verdict.MODEL_MISSING
    if standing.cooling_until > now:
        return Verdict.COOLING
    return Verdict.TRIAL if standing.breaker.until or host.breaker.until else None


def _queues(destination: Destination) -> bool:
    return destination.target.on_busy is OnBusy.QUEUE


def _drawn(tier: Sequence[Destination], sticky: bytes | None) -> list[Destination]:
    """A tier in an order drawn by weight.

    Each target draws an exponential time with its weight as rate, and the earliest is first: that
    gives every target its share. Where the draw comes from the sticky value and the target's name,
    a session keeps its target, and a target that goes or comes moves no other target's sessions.
    """
    return sorted(tier, key=lambda d: _time(d, _uniform(sticky, d.target.name)))


def _time(destination: Destination, uniform: float) -> float:
    weight = destination.target.weight
    return -math.log(uniform) / weight if weight else math.inf


def _uniform(sticky: bytes | None, name: str) -> float:
    """A number in (0, 1]."""
    if sticky is None:
        return 1.0 - random.random()
    digest = blake2b(sticky, key=name.encode()[:64], digest_size=8).digest()
    return (int.from_bytes(digest) + 1) / 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One target of a route, for people.

    Attributes:
        place: 1 for the one that would be asked first; 0 for one that would not be asked.
        why: what is against it, or how it stands.
    """

    destination: Destination
    place: int
    verdict: Verdict
    why: str


def explain(
    entry: Entry, exchange: Exchange | None, now: float, *, sticky: bytes | None = None
) -> list[Explained]:
    """Every target of a route in the order it would be asked; those that would not be come last."""
    lacking = {} if exchange is None else _lacking(entry, exchange)
    places = [d for d in order(entry, now, sticky=sticky) if d.target.name not in lacking]
    told = []
    for destination in entry.destinations:
        lacks = lacking.get(destination.target.name)
        verdict = Verdict.INCAPABLE if lacks else judge(destination, now)
        place = places.index(destination) + 1 if destination in places else 0
        why = f"a host of type {destination.target.type} can't do {lacks}" if lacks else ""
        told.append(
            Explained(
                destination=destination,
                place=place,
                verdict=verdict,
                why=why or _why(destination, verdict, now),
            )
        )
    return sorted(told, key=lambda e: e.place or math.inf)


def _lacking(entry: Entry, exchange: Exchange) -> dict[str, str]:
    asked = {d.target.name: TARGETS[d.target.type].lacks(exchange) for d in entry.destinations}
    return {name: lacks for name, lacks in asked.items() if lacks}


def _why(destination: Destination, verdict: Verdict, now: float) -> str:
    standing, host = destination.standing, destination.standing.host
    match verdict:
        case Verdict.HEALTHY:
            return "its last probe was good"
        case Verdict.UNKNOWN:
            return "nothing is against it; no probe has judged its host"
        case Verdict.UNUSABLE:
            return destination.unusable
        case Verdict.DRAINED:
            return "weight 0: it gets no new traffic"
        case Verdict.BUSY:
            return f"it serves {standing.active} of at most {destination.target.max_concurrent}"
        case Verdict.UNHEALTHY:
            return host.reason
        case Verdict.TRIAL:
            return f"the next request decides; before: {standing.why}"
        case Verdict.EJECTED:
            left = max(standing.breaker.until, host.breaker.until) - now
            until = f"for {left:.0f} s more" if left > 0 else "until its trial has ended"
            return f"{until}: {standing.why}"
        case _:
            return standing.why
