"""What to do about the credentials of a namespace's routers: (what lies there, what should) -> a
decision.

Pure. What is right is never written again. A value whose source could not be read stays as it is;
one whose source is gone, or may not be used any more, goes.
"""

from dataclasses import dataclass, field, replace

from llm_operator.publish.outcome import Place
from llm_operator.reasons import ResolvedRefs
from llm_operator.references.model import Found, Held, Kind, Supply, Values
from llm_operator.references.sought import source_of

#: Bytes of all values that are published at most. The API server takes 1 MiB for a Secret.
LIMIT = 900 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What comes of the values that should lie there.

    Attributes:
        write: all of them, when they have to be written; None to leave what is there.
        supply: what routers have then.
    """

    write: Values | None = field(default=None, repr=False)
    supply: Supply


def decide(held: Held | None, found: Found, keys: frozenset[str], *, place: Place) -> Decision:
    """Whether to write, and why not.

    Args:
        held: what lies there; None when nothing does.
        found: the sources.
        keys: the ones routers need.
        place: where that is.
    """
    there = held or Held(owned=False)
    desired = _desired(there, found, keys)
    right = frozenset(key for key, value in desired.items() if there.values.get(key) == value)
    supply = Supply(right=right, present=frozenset(there.values))
    if held is not None and not held.owned and held.values:
        told = f"{place.name} is not the operator's, so it stays as it is: {place.remedy}"
        return Decision(supply=replace(supply, reason=ResolvedRefs.NOT_OWNED, message=told))
    stale = there.ours - desired.keys()
    if len(right) == len(desired) and not stale and (not desired or there.owned):
        return Decision(supply=supply)
    if sum(map(len, desired.values())) > LIMIT:
        told = (
            f"All credentials of the namespace take more than {LIMIT // 1024} KiB together, so "
            "the last ones stay: refer to fewer, or move some LLMBackends to another namespace"
        )
        return Decision(supply=replace(supply, reason=ResolvedRefs.TOO_LARGE, message=told))
    present = (there.values.keys() - there.ours) | desired.keys()
    return Decision(
        write=desired, supply=Supply(right=frozenset(desired), present=frozenset(present))
    )


def unwritten(held: Held | None, found: Found, *, why: str) -> Supply:
    """What routers have when a decision could not be carried out."""
    values: Values = held.values if held else {}
    return Supply(
        right=frozenset(k for k, value in values.items() if found.value(source_of(k)) == value),
        present=frozenset(values),
        reason=ResolvedRefs.PUBLISH_FAILED,
        message=why,
    )


def _desired(there: Held, found: Found, keys: frozenset[str]) -> dict[str, bytes]:
    desired = {}
    for key in sorted(keys):
        source = source_of(key)
        value = there.values.get(key) if Kind.of(source) in found.unread else found.value(source)
        if value is not None:
            desired[key] = value
    return desired
