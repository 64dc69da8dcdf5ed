"""What one value of a row is read as, and what there is to say about it. Pure data, and no rule."""

import json
from dataclasses import dataclass

from llm_operator.predecessor.reasons import Said


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value.

    Attributes:
        value: for the spec; None when it has none.
        kept: what the row has, where it is another than `value` says: for an annotation; "" when
            nothing has to be kept.
    """

    value: str | int | float | bool | None = None
    kept: str = ""
    said: tuple[Said, ...] = ()


def kept(given: object, value: object) -> str:
    """What to keep of a value that was read as another."""
    return "" if given is None or given == value else text(given)


def text(given: object) -> str:
    """Any JSON as text; text as it is."""
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str)
