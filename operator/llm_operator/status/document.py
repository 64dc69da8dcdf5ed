"""A status as it stands on an object, read: conditions of others and fields of others left out.

Pure. It never decides what a status should say; `conditions` and `plane` do.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from llm_operator.reasons import Condition

Status = dict[str, object]
Entry = Mapping[str, object]

#: The fields of a target that say what it is; the others say how it stands.
ADDRESS = ("name", "type", "url", "model")

OURS = frozenset(kind.value for kind in Condition)


def conditions(status: Status | None) -> dict[str, Entry]:
    """The operator's own conditions by type."""
    found = cast(Sequence[Entry], (status or {}).get("conditions") or [])
    return {str(one["type"]): one for one in found if one["type"] in OURS}


def summary(status: Status | None) -> Entry:
    """What the columns show."""
    return cast(Entry, (status or {}).get("summary") or {})


def targets(status: Status | None) -> Sequence[Entry]:
    """The targets, in order of trying."""
    return cast(Sequence[Entry], (status or {}).get("targets") or [])


def addressed(status: Status | None) -> list[tuple[object, ...]]:
    """What each target is, apart from how it stands."""
    return [address(target) for target in targets(status)]


def address(target: Entry) -> tuple[object, ...]:
    """What one target is."""
    return tuple(target.get(key) for key in ADDRESS)
