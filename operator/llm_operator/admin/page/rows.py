"""The list of backends: what a line of it says, which lines somebody wants to see, in which order.

Pure. Whoever looks at a thousand backends is sent one page of them; the lines are made anew only
of backends that changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from llm_operator.admin.backends import Standing
from llm_operator.admin.page import words
from llm_operator.admin.page.words import Saying, Tone

#: Lines of one page.
PAGE = 25


class Sort(StrEnum):
    """By what the list is ordered."""

    MODEL = "model"
    TYPE = "type"
    STATE = "state"
    ROUTERS = "routers"
    SPEED = "speed"


#: The worst first, since that is what somebody looks for.
ORDER = (Tone.BAD, Tone.WARN, Tone.BUSY, Tone.IDLE, Tone.GOOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line.

    Attributes:
        targets: names, and how each stands.
        routers: as `2/2`; "" when nobody knows.
        speed: tokens per second of recent answers; None before the first.
    """

    uid: str
    name: str
    namespace: str
    model: str
    type: str
    saying: Saying
    targets: tuple[tuple[str, Saying], ...]
    routers: str
    speed: float | None
    enabled: bool
    owner: str | None
    numbers: bool

    @property
    def words(self) -> str:
        """All that a search looks at."""
        return f"{self.model} {self.name} {self.namespace} {self.type} {self.saying.text}".lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What somebody wants to see."""

    text: str = ""
    type: str = ""
    tone: str = ""
    sort: Sort = Sort.MODEL
    down: bool = False
    page: int = 0

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Query":
        """Read it from the query of a URL; what is not known there is left out."""
        page = given.get("page", "")
        return cls(
            text=given.get("q", "")[:200],
            type=given.get("type", ""),
            tone=given.get("state", "") if given.get("state") in tuple(Tone) else "",
            sort=Sort(given["sort"]) if given.get("sort") in tuple(Sort) else Sort.MODEL,
            down="down" in given,
            page=int(page) - 1 if page.isascii() and page.isdigit() and 0 < int(page) < 1e6 else 0,
        )

    @property
    def address(self) -> str:
        """The path of the list that shows it."""
        given = {
            "q": self.text,
            "type": self.type,
            "state": self.tone,
            "sort": "" if self.sort is Sort.MODEL else self.sort.value,
            "down": "1" if self.down else "",
            "page": str(self.page + 1) if self.page else "",
        }
        told = urlencode({name: value for name, value in given.items() if value})
        return f"/?{told}" if told else "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One page.

    Attributes:
        first: place of its first line among those found, from 0.
        found: all lines that were wanted.
        total: all lines there are.
    """

    rows: tuple[Row, ...]
    first: int
    found: int
    total: int
    types: tuple[str, ...]

    @property
    def pages(self) -> int:
        """How many there are."""
        return max(-(-self.found // PAGE), 1)


class Rows:
    """Lines of backends, each made once while its backend stays as it is."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[object, object, Row]] = {}

    def of(self, standings: Sequence[Standing]) -> list[Row]:
        """The lines of these, in their order."""
        made = {}
        for one in standings:
            kept = self._made.get(one.backend.uid)
            if kept is None or kept[0] is not one.backend or kept[1] != one.totals:
                kept = (one.backend, one.totals, row(one.shown()))
            made[one.backend.uid] = kept
        # NB: of what others may see and this one may not, nothing is forgotten by this.
        self._made |= made
        if len(self._made) > 2 * len(made) + PAGE:
            self._made = made
        return [kept[2] for kept in made.values()]


def row(told: Mapping[str, Any]) -> Row:
    """The line of a backend as `admin.view.shown` tells it."""
    speed = told["summary"].get("tokensPerSecond")
    return Row(
        uid=told["uid"],
        name=told["name"],
        namespace=told["namespace"],
        model=told["model_name"] if isinstance(told["model_name"], str) else told["name"],
        type=str(told["backend_type"] or "–"),
        saying=words.headline(told),
        targets=tuple((str(one["name"]), words.target(one)) for one in told["live_targets"]),
        routers=str(told["summary"].get("routers", "")),
        speed=_figure(speed) if speed else told["avg_tokens_per_sec"],
        enabled=told["enabled"] is not False,
        owner=told["managed_by"],
        numbers=told["total_requests"] is not None,
    )


def choose(rows: Sequence[Row], query: Query) -> Listed:
    """The page of the lines that somebody wants to see."""
    sought = query.text.lower().split()
    found = [
        one
        for one in rows
        if (not query.type or one.type == query.type)
        and (not query.tone or one.saying.tone == query.tone)
        and all(word in one.words for word in sought)
    ]
    found.sort(key=lambda one: (one.model.lower(), one.namespace, one.name))
    if query.sort is not Sort.MODEL:
        # NB: sorting keeps the order of equals, so those stay by model in both directions.
        found.sort(key=lambda one: _key(one, query.sort), reverse=query.down)
    elif query.down:
        found.reverse()
    last = max(-(-len(found) // PAGE) - 1, 0)
    first = min(max(query.page, 0), last) * PAGE
    return Listed(
        rows=tuple(found[first : first + PAGE]),
        first=first,
        found=len(found),
        total=len(rows),
        types=tuple(sorted({one.type for one in rows})),
    )


def sorted_by(query: Query, sort: Sort) -> Query:
    """The same, ordered by this; the other way round when it was already."""
    down = not query.down if query.sort is sort else sort is Sort.SPEED
    return replace(query, sort=sort, down=down, page=0)


def _key(one: Row, sort: Sort) -> Any:
    match sort:
        case Sort.TYPE:
            return one.type
        case Sort.STATE:
            return ORDER.index(one.saying.tone)
        case Sort.ROUTERS:
            run, _, wanted = one.routers.partition("/")
            return (int(run), int(wanted)) if run.isdigit() and wanted.isdigit() else (-1, -1)
        case _:
            return -1.0 if one.speed is None else one.speed


def _figure(text: object) -> float | None:
    """A number as the status writes it; None for what is none."""
    try:
        return float(str(text))
    except ValueError:
        return None
