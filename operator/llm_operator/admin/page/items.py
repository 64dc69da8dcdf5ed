"""Lists within a spec, by their paths: one item more, one item less. Pure.

A path is as `targets[0].headers.set`; a list that would be empty is taken away.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Step = tuple[str, int | None]


def with_item(spec: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The spec with one more, empty item in the list of that path."""
    made: dict[str, Any] = _with(spec, _steps(path), lambda items: [*items, {}])
    return made


def without_item(spec: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The spec without the item of that path, as `targets[1]`; a list without items goes too."""
    *rest, (name, place) = _steps(path)
    kept = (name, None)

    def dropped(items: list[Any]) -> list[Any]:
        return [one for at, one in enumerate(items) if at != place]

    made: dict[str, Any] = _with(spec, [*rest, kept], dropped)
    return made


def _steps(path: str) -> list[Step]:
    """`targets[1].headers.set` -> its names, each with a place in a list."""
    steps: list[Step] = []
    for step in path.split("."):
        name, _, place = step.partition("[")
        steps.append((name, int(place.rstrip("]")) if place else None))
    return steps


def _with(spec: Any, steps: Sequence[Step], made: Callable[[list[Any]], list[Any]]) -> Any:
    (name, place), *rest = steps
    inner = spec.get(name) if isinstance(spec, Mapping) else None
    changed: Any
    if place is not None:
        items = list(inner or ())
        items[place] = _with(items[place], rest, made)
        changed = items
    elif rest:
        changed = _with(inner or {}, rest, made)
    else:
        changed = made(list(inner or ()))
    kept = {key: one for key, one in spec.items() if key != name}
    return kept | ({name: changed} if changed else {})
