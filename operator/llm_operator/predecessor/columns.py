"""The predecessor's columns: what each one is in a resource, and how its values are read.

`COLUMNS` is the one list of them, and the documentation's table is compared with it. Bounds and
rules are the resource's own, asked of its schema and not told again. Pure.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from llm_operator.predecessor import reasons
from llm_operator.predecessor.reading import Reading, kept, text
from llm_operator.predecessor.reasons import Said, say
from llm_operator.resource.check import check, show
from llm_operator.resource.fields import SPEC
from llm_operator.resource.model import BackendType

Read = Callable[[object], Reading]

_NUMBER = re.compile(r"[-+]?[0-9]{1,30}(\.[0-9]{0,30})?([eE][-+]?[0-9]{1,3})?")
_TRUE, _FALSE = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")
# NB: an apply sends JSON that the API server reads as YAML, and YAML refuses these as they are, or
# takes U+0085 for a line break. Postgres takes no U+0000.
_NO_TEXT = re.compile("[\x00\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table, or field of the API.

    Attributes:
        field: of the spec; "" for what stays in an annotation alone.
        read: None where it takes more than the value to read it.
        default: what counts where a resource does not say it, in words.
    """

    field: str = ""
    read: Read | None = None
    default: str = ""


def clean(given: str) -> tuple[str, tuple[Said, ...]]:
    """The text, and whether characters were put in place of what no text can have."""
    cleaned = _NO_TEXT.sub("\ufffd", given)
    return cleaned, (say(reasons.NOT_TEXT),) if cleaned != given else ()


def model(given: object) -> Reading:
    """The name that callers use; no value when a resource can't have it."""
    name = text(given).strip()
    if found := check(SPEC.fields["modelName"], name, "")[1]:
        rule = "; ".join(one.message for one in found)
        # NB: the stand-in is known when all names are: `convert` puts it there.
        return Reading(kept=text(given), said=(say(reasons.BAD_MODEL, rule=rule, stand_in="?"),))
    return Reading(value=name, kept=kept(given, name), said=_spelt(given, name))


def kind(given: object) -> Reading:
    """The backendType; ollama where it is none."""
    word = text(given).strip().lower()
    if word in tuple(BackendType):
        return Reading(value=word, kept=kept(given, word), said=_spelt(given, word))
    known = ", ".join(BackendType)
    told = say(reasons.BAD_TYPE, given=show(given), known=known)
    return Reading(value=BackendType.OLLAMA.value, kept=text(given), said=(told,))


def flag(given: object) -> Reading:
    """Whether it is on."""
    if given is None:
        return Reading(value=False, kept="null", said=(say(reasons.NO_FLAG),))
    if isinstance(given, bool):
        return Reading(value=given)
    word = text(given).strip().lower()
    if word in (*_TRUE, *_FALSE):
        return Reading(value=word in _TRUE, kept=text(given))
    told = say(reasons.BAD_FLAG, given=show(given))
    return Reading(value=False, kept=text(given), said=(told,))


def note(given: object) -> Reading:
    """The description."""
    most = SPEC.fields["description"].max_length
    cleaned, said = clean("" if given is None else text(given))
    value = cleaned[:most]
    if value != cleaned:
        said = (*said, say(reasons.TOO_LONG, length=len(cleaned), most=most))
    return Reading(value=value or None, kept=kept(given, value), said=said)


def timeout(given: object) -> Reading:
    """timeoutSeconds."""
    if given is None:
        return Reading(kept="null", said=(say(reasons.NO_LIMIT),))
    return _whole("timeout_seconds", given)


def temperature(given: object) -> Reading:
    """The temperature."""
    return _within("temperature_default", given, _number(given), clamp=(False, False))


def _whole(column: str, given: object, *, clamp: tuple[bool, bool] = (False, True)) -> Reading:
    """A whole number. `clamp`: whether what is too low, or too high, means the bound."""
    number = _number(given)
    said: tuple[Said, ...] = ()
    if isinstance(number, float):
        up = math.ceil(number)
        if up != number:
            said = (say(reasons.FRACTION, given=show(given), value=up),)
        number = up
    return _within(column, given, number, clamp=clamp, said=said)


def _within(
    column: str,
    given: object,
    number: int | float | None,
    *,
    clamp: tuple[bool, bool],
    said: tuple[Said, ...] = (),
) -> Reading:
    if given is None:
        return Reading()
    about = COLUMNS[column]
    if number is None:
        told = say(reasons.NOT_A_NUMBER, given=show(given), default=about.default)
        return Reading(kept=text(given), said=(told,))
    low, high = SPEC.fields[about.field].minimum, SPEC.fields[about.field].maximum
    assert low is not None, "the resource bounds all of its numbers"
    assert high is not None, "at both ends"
    value = min(max(number, low), high)
    if value == number:
        return Reading(value=value, kept=kept(given, value), said=said)
    bounds = {"given": show(given), "low": low, "high": high}
    if clamp[value == high]:
        told = say(reasons.CLAMPED, value=value, **bounds)
        return Reading(value=value, kept=kept(given, value), said=(told,))
    told = say(reasons.OUT_OF_BOUNDS, default=about.default, **bounds)
    return Reading(kept=text(given), said=(told,))


def _number(given: object) -> int | float | None:
    """A finite number, also one in quotes; None for anything else."""
    if isinstance(given, str) and _NUMBER.fullmatch(given.strip()):
        word = given.strip()
        given = int(word) if word.lstrip("+-").isdecimal() else float(word)
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return given if isinstance(given, int) or math.isfinite(given) else None


def _spelt(given: object, value: str) -> tuple[Said, ...]:
    return () if given == value else (say(reasons.SPELT, given=show(given), value=show(value)),)


#: Those that the predecessor always has. NB: `record.predecessor` asks for them by these names.
NEEDED = ("id", "model_name", "backend_type", "endpoint_url")

COLUMNS: Mapping[str, Column] = {
    "id": Column(),
    "model_name": Column(field="modelName", read=model),
    "backend_type": Column(field="backendType", read=kind),
    "endpoint_url": Column(field="endpointURL"),
    "enabled": Column(field="enabled", read=flag, default="true"),
    "priority": Column(
        field="priority", read=partial(_whole, "priority", clamp=(True, True)), default="100"
    ),
    "max_tokens": Column(
        field="maxTokens", read=partial(_whole, "max_tokens"), default="the host's own"
    ),
    "temperature_default": Column(field="temperature", read=temperature, default="the host's own"),
    "timeout_seconds": Column(field="timeoutSeconds", read=timeout, default="60"),
    # NB: to Ollama any negative number is for ever.
    "keep_alive_seconds": Column(
        field="keepAliveSeconds",
        read=partial(_whole, "keep_alive_seconds", clamp=(True, True)),
        default="Ollama's own",
    ),
    "description": Column(field="description", read=note, default="nothing"),
    "avg_tokens_per_sec": Column(),
    "avg_latency_ms": Column(),
    "total_requests": Column(),
    "total_errors": Column(),
    "created_by": Column(),
    "created_at": Column(),
    "updated_at": Column(),
}
