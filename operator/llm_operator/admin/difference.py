"""What is different between two specs, place by place. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Stands for a field that is not there; null is no value of a spec.
ABSENT = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One place.

    Attributes:
        path: as `targets[mac-a].weight`; items with a name go by it.
        before: None when it was not there; after likewise.
    """

    path: str
    before: Any
    after: Any


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """All places that differ, in the order of the specs."""
    return tuple(_mapping(before, after, ""))


def same(one: object, other: object) -> bool:
    """Whether two values are one to JSON. NB: to Python True is 1, and to a spec it is not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _mapping(before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[Difference]:
    for key in (*before, *(key for key in after if key not in before)):
        path = f"{at}.{key}" if at else str(key)
        yield from _value(before.get(key, ABSENT), after.get(key, ABSENT), path)


def _value(before: Any, after: Any, path: str) -> Iterator[Difference]:
    if same(before, after):
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _mapping(before, after, path)
        return
    named = _named(before), _named(after)
    if named[0] is not None and named[1] is not None:
        yield from _items(named[0], named[1], path)
        return
    yield Difference(path, before, after)


def _items(before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[Difference]:
    found = False
    for key in (*before, *(key for key in after if key not in before)):
        for one in _value(before.get(key, ABSENT), after.get(key, ABSENT), f"{at}[{key}]"):
            found = True
            yield one
    if not found:
        yield Difference(at, list(before), list(after))


def _named(value: object) -> Mapping[str, Any] | None:
    """A list of named things by their names; None for anything else."""
    if not isinstance(value, list) or not value:
        return None
    names = [one.get("name") if isinstance(one, Mapping) else None for one in value]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    return {str(name): one for name, one in zip(names, value, strict=True)}
