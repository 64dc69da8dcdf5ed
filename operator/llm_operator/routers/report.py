"""The bytes of a router's /status -> what it runs, or why it can't be believed.

Pure, and it raises for nothing: a router is another process in somebody's pod, and any answer but
the document that llm_router.management describes makes it unreachable, with a reason. What a
document has beyond what is read here is ignored, so that newer routers can be asked too. No text of
an answer is repeated but a router's own words for what is wrong, cut and made printable.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

#: Bytes of an answer that are read at most; a namespace of 1,000 resources takes under 1 MiB.
LIMIT = 8 * 1024 * 1024
#: Characters of a router's words that are kept.
WORDS = 512
#: Seconds since 1970 that a date can be made of, up to the year 9999.
LATEST = 253_402_300_799.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """How one target stands with one router.

    Attributes:
        state: in the router's words, such as Healthy or Ejected.
        failure: what is against it; "" when nothing is.
        since: Unix seconds of the last change of state; None when the router does not know.
        speed: tokens a second of its recent answers; None before the first.
        wait: seconds to the first token of its recent answers; None likewise.
    """

    name: str
    state: str
    failure: str = ""
    since: float | None = None
    speed: float | None = None
    wait: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteReport:
    """One route in a router's table."""

    generation: int
    targets: tuple[TargetReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one router runs.

    Attributes:
        checksum: of its configuration; "" when it has none.
        routes: by the uid of their resource.
        rejected: why it could not take what is mounted; "" when it could.
    """

    checksum: str = ""
    routes: Mapping[str, RouteReport] = field(default_factory=dict)
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A router that does not say what it runs, and why; the words stay the same while it does."""

    reason: str


Answer = Report | Unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one router says of one resource.

    Attributes:
        router: its name.
        route: the resource's in its table; None when it has none.
        outdated: that is an older form of its generation.
        rejected: why it could not take what is mounted; "" when it could.
        unreachable: why it says nothing at all; "" when it does.
    """

    router: str
    route: RouteReport | None = None
    outdated: bool = False
    rejected: str = ""
    unreachable: str = ""

    def runs(self, generation: int) -> bool:
        """Whether it has the route of this generation, as it is published."""
        return self.route is not None and self.route.generation == generation and not self.outdated


class Seen:
    """What all running routers of a namespace said last."""

    def __init__(self, answers: Mapping[str, Answer], *, before: "Seen | None" = None) -> None:
        """Take the answers by the routers' names, and what was seen before them."""
        self._answers = dict(sorted(answers.items()))
        self._said: dict[str, tuple[Said, ...]] = {}
        self._before = before._said if before else {}

    @property
    def answers(self) -> Mapping[str, Answer]:
        """By the routers' names."""
        return self._answers

    def of(self, uid: str, *, outdated: frozenset[str] = frozenset()) -> tuple[Said, ...]:
        """What each of them says of one resource.

        Args:
            uid: of the resource.
            outdated: configurations with an older form of its route.
        """
        if outdated:
            told = self._answers.items()
            return tuple(_said(name, answer, uid, outdated) for name, answer in told)
        found = self._said.get(uid)
        if found is None:
            found = self._before.pop(uid, None)
            # NB: the same object for the same words makes comparing a thousand of them cheap.
            if found is None or not self._still(found, uid):
                found = tuple(_said(name, answer, uid) for name, answer in self._answers.items())
            self._said[uid] = found
        return found

    def _still(self, found: tuple[Said, ...], uid: str) -> bool:
        """Whether that is what they say now."""
        if len(found) != len(self._answers):
            return False
        for one, (name, answer) in zip(found, self._answers.items(), strict=True):
            if one.router != name:
                return False
            if isinstance(answer, Unreachable):
                if one.unreachable != answer.reason:
                    return False
            elif (
                one.unreachable
                or one.rejected != answer.rejected
                or one.route is not answer.routes.get(uid)
            ):
                return False
        return True


def _said(name: str, answer: Answer, uid: str, outdated: frozenset[str] = frozenset()) -> Said:
    if isinstance(answer, Unreachable):
        return Said(router=name, unreachable=answer.reason)
    return Said(
        router=name,
        route=answer.routes.get(uid),
        outdated=answer.checksum in outdated,
        rejected=answer.rejected,
    )


class _MalformedError(ValueError):
    """It is not the document it should be; the message says where."""


def parse(raw: bytes) -> Answer:
    """What a router runs by the body of its /status."""
    if len(raw) > LIMIT:
        return too_long()
    try:
        document = json.loads(raw, parse_constant=_no_number)
        return _report(_object(document, "the document"))
    except _MalformedError as error:
        return Unreachable(f"its /status is not that of a router: {error}")
    except (ValueError, RecursionError):
        return Unreachable("its /status is not JSON")


def renewed(raw: bytes, known: Answer | None) -> Answer:
    """As `parse`, with every part of what is known that is still the same, as the same object."""
    answer = parse(raw)
    if answer == known:
        return known if known is not None else answer
    if isinstance(answer, Unreachable) or not isinstance(known, Report):
        return answer
    routes = {}
    for uid, route in answer.routes.items():
        before = known.routes.get(uid)
        routes[uid] = before if before is not None and before == route else route
    return replace(answer, routes=routes)


def too_long() -> Unreachable:
    """For an answer that is not read to its end."""
    return Unreachable(f"its /status is longer than {LIMIT // 1024 // 1024} MiB")


def _report(document: Mapping[str, Any]) -> Report:
    for name in ("config", "rejected"):
        if name not in document:
            raise _MalformedError(f"it has no {name}")
    config, rejected = document["config"], document["rejected"]
    words = ""
    if rejected is not None:
        words = _words(_object(rejected, "rejected").get("reason"), "rejected.reason")
    if config is None:
        return Report(rejected=words)
    config = _object(config, "config")
    checksum = config.get("checksum")
    if not isinstance(checksum, str) or not _hexadecimal(checksum):
        raise _MalformedError("config.checksum is no SHA-256")
    routes = {}
    for each in _list(config.get("routes"), "config.routes"):
        route = _object(each, "a route")
        routes[_uid(route.get("uid"))] = RouteReport(
            generation=_generation(route.get("generation")),
            targets=_targets(_list(route.get("targets"), "a route's targets")),
        )
    return Report(checksum=checksum, routes=routes, rejected=words)


def _targets(listed: Iterable[object]) -> tuple[TargetReport, ...]:
    found = []
    for each in listed:
        target = _object(each, "a target")
        since = _number(target.get("since"), "since", most=LATEST)
        found.append(
            TargetReport(
                name=sys.intern(_word(target.get("name"), "a target's name")),
                state=sys.intern(_word(target.get("state"), "a target's state")),
                failure=_words(target.get("failure") or "", "a target's failure"),
                since=since,
                speed=_number(target.get("tokensPerSecond"), "tokensPerSecond", most=1e6),
                wait=_number(target.get("firstTokenSeconds"), "firstTokenSeconds", most=1e6),
            )
        )
    # NB: a router lists them in the order it would ask them just then, which is partly drawn.
    return tuple(sorted(found, key=lambda target: target.name))


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _MalformedError(f"{what} is no object")
    return value


def _list(value: object, what: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise _MalformedError(f"{what} is no list")
    return value


def _uid(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _MalformedError("a route has no uid")
    return value


def _generation(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _MalformedError("a route's generation is no number")
    return value


def _number(value: object, what: str, *, most: float) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise _MalformedError(f"{what} is no number from 0 to {most:.0f}")
    return float(value)


def _word(value: object, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 63 or not value.isascii():
        raise _MalformedError(f"{what} is no word")
    return value


def _words(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _MalformedError(f"{what} is no text")
    shown = "".join(c if c.isprintable() else " " for c in value[:WORDS])
    return " ".join(shown.split())


def _hexadecimal(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


def _no_number(text: str) -> float:
    raise _MalformedError(f"{text} is no number")
