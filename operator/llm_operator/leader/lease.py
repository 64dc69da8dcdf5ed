"""What a Lease says, and what a replica should do about it.

Pure: (what was seen, and since when on the own clock) -> a step, and the object to write. Times of
other machines are never compared with anything: a Lease is over when it has not changed for its
length on the clock of the one who looks. Data flows object -> `Lease` -> `Sight` -> `Step`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

#: A Lease as the API server has it.
Object = Mapping[str, Any]

#: Epochs of a Lease that is made anew count from here, see `first_epoch`.
ERA = datetime(2020, 1, 1, tzinfo=UTC)


class Step(Enum):
    """What to do next."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    WAIT = "wait"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What matters of a Lease.

    Attributes:
        holder: "" when it was released.
        seconds: its length.
        transitions: how often its holder has changed: the epoch.
        renewed: the holder's clock, as text; only whether it changes counts.
    """

    holder: str
    seconds: float
    transitions: int
    renewed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen last.

    Attributes:
        lease: None when there is none.
        since: when it was first seen like this, on the own clock.
        patience: seconds after which it may be taken if it still is like this.
    """

    lease: Lease | None
    since: float
    patience: float = field(default=0.0)


def read(found: Object, *, seconds: float) -> Lease:
    """The object as a value; `seconds` where it has no length."""
    spec = found.get("spec") or {}
    return Lease(
        holder=spec.get("holderIdentity") or "",
        seconds=float(spec.get("leaseDurationSeconds") or seconds),
        transitions=int(spec.get("leaseTransitions") or 0),
        renewed=spec.get("renewTime") or "",
    )


def see(before: Sight | None, lease: Lease | None, *, me: str, now: float) -> Sight:
    """What is seen now, in the light of what was seen before."""
    if before is not None and before.lease == lease:
        return before
    if lease is not None:
        patience = 0.0 if lease.holder in ("", me) else lease.seconds
    else:
        # NB: whoever held a Lease that was deleted goes on until it next looks.
        patience = before.patience if before is not None else 0.0
    return Sight(lease=lease, since=now, patience=patience)


def decide(sight: Sight, *, me: str, leading: bool, now: float) -> Step:
    """What a replica does about what it sees."""
    if leading:
        # A Lease that somebody deleted is made anew under the same epoch.
        return Step.RENEW if sight.lease is None or sight.lease.holder == me else Step.LOST
    return Step.ACQUIRE if now - sight.since >= sight.patience else Step.WAIT


def epoch_of(lease: Lease | None, *, me: str, at: datetime) -> int:
    """The epoch of the term that begins when `me` takes this Lease."""
    if lease is None:
        return first_epoch(at)
    # NB: holding it already, without knowing: the answer to the write that took it was lost.
    return lease.transitions if lease.holder == me else lease.transitions + 1


def first_epoch(at: datetime) -> int:
    """The epoch of a Lease that is made anew: seconds since 2020.

    NB: not 1, because what an earlier Lease's holders wrote carries greater ones and would be
    refused to the new for ever. It stays greater unless leaders change every second, and fits the
    field until 2088.
    """
    return max(1, int((at - ERA).total_seconds()))


def held(
    found: Object | None, *, place: tuple[str, str], me: str, seconds: int, epoch: int, at: datetime
) -> Object:
    """The object to write in order to take a Lease or to renew it.

    Args:
        found: the object as it was read, whose labels and the like stay; None to make one.
        place: its namespace and name.
        me: the holder.
        seconds: its length.
        epoch: of the holder's term.
        at: the time now.
    """
    before = (found or {}).get("spec") or {}
    acquired = before.get("acquireTime") if before.get("holderIdentity") == me else None
    spec = {
        **before,
        "holderIdentity": me,
        "leaseDurationSeconds": seconds,
        "leaseTransitions": epoch,
        "acquireTime": acquired or written(at),
        "renewTime": written(at),
    }
    namespace, name = place
    new = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": namespace, "name": name},
    }
    return {**(found or new), "spec": spec}


def released(found: Object, *, at: datetime) -> Object:
    """The object to write in order to give a Lease back."""
    spec = {
        **found["spec"],
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "renewTime": written(at),
    }
    return {**found, "spec": spec}


def written(at: datetime) -> str:
    """A time as a Lease has it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
