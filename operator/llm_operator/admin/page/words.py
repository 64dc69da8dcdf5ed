"""What a backend's state is in plain words, and how numbers and times are written.

Pure. It reads what the API tells of a backend (`admin.view`) and what a router explains, and says
it in sentences for somebody who knows neither Kubernetes nor the operator. A colour never says
anything that a word does not.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from llm_operator.admin import view
from llm_operator.reasons import Condition, Programmed, TargetState


class Tone(StrEnum):
    """How a sentence is meant."""

    GOOD = "good"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Saying:
    """A few words, a sentence beside them that may be empty, and how they are meant."""

    tone: Tone
    text: str
    more: str = ""


#: Condition -> what it says when it is True, False, Unknown.
CONDITIONS: Mapping[str, tuple[str, str, str]] = {
    Condition.ACCEPTED: ("The settings are valid", "The settings are refused", "Not checked yet"),
    Condition.RESOLVED_REFS: (
        "Everything it refers to is there",
        "Something it refers to is missing",
        "What it refers to is not known yet",
    ),
    Condition.CONFIG_PUBLISHED: (
        "Published to the routers",
        "Not published to the routers",
        "Publication is not known yet",
    ),
    Condition.DATABASE_SYNCED: (
        "Recorded in the database",
        "Not recorded in the database",
        "Not compared with the database yet",
    ),
    Condition.PROGRAMMED: (
        "Every router uses it",
        "Not every router uses it",
        "Routers have not been asked yet",
    ),
    Condition.AVAILABLE: (
        "A target can answer",
        "No target can answer",
        "Whether a target can answer is not known yet",
    ),
    Condition.DEGRADED: (
        "A target is down",
        "No target is down",
        "Not every target has been judged yet",
    ),
    Condition.READY: ("Ready", "Not ready", "Readiness is not known yet"),
    Condition.STALLED: ("It can't go on by itself", "It goes on by itself", "Not known yet"),
    Condition.RECONCILING: ("A change is on its way", "No change is on its way", "Not known yet"),
    Condition.PAUSED: ("Paused: changes are not taken", "Not paused", "Not known yet"),
}

#: Conditions that are good when they are False.
AGAINST = frozenset(
    (Condition.DEGRADED, Condition.STALLED, Condition.RECONCILING, Condition.PAUSED)
)

TARGETS: Mapping[str, tuple[Tone, str]] = {
    TargetState.HEALTHY: (Tone.GOOD, "Healthy"),
    TargetState.DOWN: (Tone.BAD, "Down"),
    TargetState.DRAINED: (Tone.IDLE, "Drained"),
    TargetState.UNKNOWN: (Tone.BUSY, "Not judged yet"),
}

#: A router's verdict on a target -> what it means for a request.
VERDICTS: Mapping[str, tuple[Tone, str]] = {
    "Healthy": (Tone.GOOD, "Healthy"),
    "Unknown": (Tone.BUSY, "Not probed yet; gets requests"),
    "Trial": (Tone.WARN, "On trial after a failure"),
    "Ejected": (Tone.BAD, "Taken out after failures"),
    "Unhealthy": (Tone.BAD, "Its health check fails"),
    "ModelMissing": (Tone.BAD, "Does not have the model"),
    "Cooling": (Tone.WARN, "Resting; it said it is busy"),
    "Misconfigured": (Tone.BAD, "Does not accept our credential"),
    "Busy": (Tone.WARN, "As busy as it may be"),
    "Drained": (Tone.IDLE, "Drained: weight 0"),
    "Incapable": (Tone.IDLE, "Can't do what this request asks"),
    "Unusable": (Tone.BAD, "Its credential or TLS material can't be used"),
}


def headline(told: Mapping[str, Any]) -> Saying:
    """How a backend is, as the first thing somebody should know.

    Args:
        told: as `admin.view.shown` tells it.
    """
    found = {str(one["type"]): one for one in told["conditions"]}

    def stands(kind: Condition) -> tuple[str, str]:
        one = found.get(kind, {})
        return str(one.get("status", "Unknown")), str(one.get("message", ""))

    return _held(told, stands) or _running(found, stands)


Stands = Callable[[Condition], tuple[str, str]]


def _held(told: Mapping[str, Any], stands: Stands) -> Saying | None:
    """Why it is not as somebody wants it; None when it is."""
    if told["state"] == view.REFUSED:
        problems = "; ".join(told["problems"])
        return Saying(Tone.BAD, "Refused", problems or stands(Condition.ACCEPTED)[1])
    if told["paused"]:
        return Saying(Tone.IDLE, "Paused", "Changes are not taken while it is paused.")
    if told["state"] == view.PENDING:
        return Saying(Tone.BUSY, "Waiting", "The operator has not taken the last change yet.")
    if told["enabled"] is False:
        return Saying(Tone.IDLE, "Switched off", "Requests for this model are not routed.")
    if told["ready"] is False:
        return Saying(Tone.BAD, "Not ready", stands(Condition.READY)[1])
    return None


def _running(found: Mapping[str, Mapping[str, object]], stands: Stands) -> Saying:
    """How it does with routers and targets."""
    programmed, why = stands(Condition.PROGRAMMED)
    available, down = stands(Condition.AVAILABLE)
    if available == "False":
        return Saying(Tone.BAD, "No target answers", down)
    if programmed == "False":
        alone = found[Condition.PROGRAMMED].get("reason") == Programmed.NO_ROUTERS
        tone, text = (Tone.IDLE, "No routers") if alone else (Tone.BUSY, "Rolling out")
        return Saying(tone, text, why)
    degraded, which = stands(Condition.DEGRADED)
    if degraded == "True":
        return Saying(Tone.WARN, "Degraded", which)
    if "Unknown" in (available, programmed):
        return Saying(Tone.BUSY, "Starting", down or why)
    return Saying(Tone.GOOD, "Serving", down)


def condition(one: Mapping[str, object]) -> Saying:
    """One condition as a sentence, and the operator's own words beside it."""
    kind, status = str(one["type"]), str(one["status"])
    yes, no, unknown = CONDITIONS.get(kind, (f"{kind}: yes", f"{kind}: no", f"{kind}: not known"))
    text = {"True": yes, "False": no}.get(status, unknown)
    good = "False" if kind in AGAINST else "True"
    tone = Tone.GOOD if status == good else Tone.BUSY
    if status not in (good, "Unknown"):
        tone = Tone.WARN if kind in AGAINST or kind == Condition.PROGRAMMED else Tone.BAD
    return Saying(tone, text, str(one.get("message", "")))


def target(one: Mapping[str, object]) -> Saying:
    """How a target stands."""
    tone, text = TARGETS.get(str(one.get("state")), (Tone.BUSY, "Not judged yet"))
    return Saying(tone, text, str(one.get("message", "")))


def explained(one: Mapping[str, Any], would: str | None) -> Saying:
    """What a router makes of one target for a request; `would`: the one that it would ask."""
    tone, text = VERDICTS.get(str(one["verdict"]), (Tone.BUSY, str(one["verdict"])))
    why = str(one["why"])
    if one["name"] == would:
        return Saying(tone, "Would be asked first", f"{text}. {sentence(why)}".strip())
    if one["place"]:
        return Saying(tone, f"In reserve, place {one['place']}", f"{text}. {sentence(why)}".strip())
    return Saying(tone, "Passed over", f"{text}. {sentence(why)}".strip())


def sentence(text: str) -> str:
    """The text as a sentence of its own."""
    text = text.strip()
    if not text:
        return ""
    # NB: a name or a URL that it begins with stays as it is written.
    plain = text.partition(" ")[0].rstrip(",:;").isalpha()
    first = text[0].upper() if plain else text[0]
    return first + text[1:] + ("" if text[-1] in ".!?" else ".")


def label(name: str) -> str:
    """The name of a field as people read it: `endpointURL` is "Endpoint URL"."""
    words: list[str] = []
    for place, letter in enumerate(name):
        before = name[place - 1] if place else ""
        if not words or (letter.isupper() and not before.isupper()):
            words.append(letter)
        else:
            words[-1] += letter
    known = {"tls": "TLS", "ca": "CA", "mlx": "MLX", "num": "Num"}
    shown = [known.get(word.lower(), word if word.isupper() else word.lower()) for word in words]
    return shown[0][0].upper() + shown[0][1:] + "".join(f" {word}" for word in shown[1:])


def number(value: float | None, unit: str = "", *, digits: int = 1) -> str:
    """A number with its unit; a dash where there is none."""
    if value is None:
        return "–"
    shown = f"{value:,.{digits}f}"
    return f"{shown} {unit}" if unit else shown


def duration(value: float | None) -> str:
    """Seconds, in the unit that suits them."""
    if value is None:
        return "–"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def percent(part: float, whole: float) -> str:
    """A share; a dash of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def ago(at: datetime | str | None, now: datetime) -> str:
    """How long ago; "" when it is not known."""
    when = datetime.fromisoformat(at) if isinstance(at, str) and at else at
    if not isinstance(when, datetime):
        return ""
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    seconds = max((now - when).total_seconds(), 0)
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'' if count == 1 else 's'} ago"
    return "just now"


def value(given: object) -> str:
    """A value of a spec on one line."""
    if given is None:
        return "not set"
    if isinstance(given, str):
        return given
    return json.dumps(given, ensure_ascii=False)


def several(count: int, noun: str) -> str:
    """`1 backend`, `2 backends`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
