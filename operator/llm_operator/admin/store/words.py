"""Values -> YAML that every reader takes for the same. Pure.

Python's YAML and kubectl's differ in what a word without quotes is (y, n, on, 012, 1e3, 12:30,
2026-01-01). A text is written without quotes only where no reader could take it for anything else.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

STEP = 2

#: A text that needs no quotes: it begins as no number, mark or date does, and ends no key.
_PLAIN = re.compile(r"[A-Za-z/](?:[A-Za-z0-9 ._/:@+()-]*[A-Za-z0-9._/@+()-])?")
_READ_AS_MORE = re.compile(r": ")
#: Texts of this form that some reader has for something else.
_WORDS = frozenset("y n yes no on off true false null".split())
#: Not to be written as it is, even in quotes.
_HIDDEN = re.compile(
    "[^\t\n\r -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def scalar(value: object, *, style: str = "", flow: bool = False) -> str:
    """A value that holds no others, on one line.

    Args:
        style: the quotes it has if it can: "", ' or ".
        flow: it is within [] or {}.

    Raises:
        TypeError: it is no value of JSON.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _number(value)
        case str():
            return _text(value, style, flow=flow)
        case Mapping() | list():
            return _flow(value, style)
    raise TypeError(f"{value!r} is no value of JSON")


def literal(text: str, indent: int) -> str | None:
    """A text of several lines as a block that begins with |, lines indented by so much; None
    where that would not be read as the same.
    """
    body, end = (text[:-1], "") if text.endswith("\n") else (text, "-")
    lines = body.split("\n")
    readable = not _HIDDEN.search(text) and not any(mark in text for mark in "\r\t")
    # NB: a first line that begins with a space, or an end of empty lines, would be read otherwise.
    if len(lines) < 2 or not readable or not lines[0].strip() or lines[0][0] == " ":
        return None
    if not lines[-1].strip() or any(line != line.rstrip() for line in lines):
        return None
    pad = " " * indent
    return "\n".join((f"|{end}", *(f"{pad}{line}" if line else "" for line in lines)))


def block(value: Mapping[str, Any] | list[Any], indent: int, *, texts: bool = True) -> str:
    """A mapping or list that is not empty, on lines of its own; the last has no end.

    Args:
        texts: whether a text of several lines is written as such; here and below.
    """
    return "\n".join(_lines(value, indent, texts))


def entry(key: str, value: object, indent: int, *, texts: bool = True) -> str:
    """One line, or more, of a mapping."""
    return f"{' ' * indent}{scalar(key)}:{after_key(value, indent, texts=texts)}"


def after_key(value: object, indent: int, *, texts: bool = True) -> str:
    """What stands behind the colon of a key that is indented by so much."""
    if isinstance(value, Mapping | list) and value:
        return "\n" + block(value, indent + STEP, texts=texts)
    if texts and isinstance(value, str) and (written := literal(value, indent + STEP)):
        return f" {written}"
    return f" {scalar(value)}"


def item(value: object, indent: int, *, texts: bool = True) -> str:
    """What stands behind the dash of an item that is indented by so much."""
    if isinstance(value, Mapping | list) and value:
        return " " + block(value, indent + STEP, texts=texts).lstrip(" ")
    return f" {scalar(value)}"


def _lines(value: Mapping[str, Any] | list[Any], indent: int, texts: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield entry(key, one, indent, texts=texts)
    else:
        for one in value:
            yield f"{' ' * indent}-{item(one, indent, texts=texts)}"


def _flow(value: Mapping[str, Any] | list[Any], style: str) -> str:
    if isinstance(value, Mapping):
        pairs = (
            f"{scalar(key, style=style, flow=True)}: {scalar(one, style=style, flow=True)}"
            for key, one in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    return "[" + ", ".join(scalar(one, style=style, flow=True) for one in value) + "]"


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise TypeError(f"{value!r} is no value of JSON")
    told = repr(value)
    mantissa, exponent, rest = told.partition("e")
    # NB: to Python's YAML 1e-05 is a text.
    return told if not exponent or "." in mantissa else f"{mantissa}.0e{rest}"


def _text(text: str, style: str, *, flow: bool) -> str:
    if style == "'" and "\n" not in text and not _HIDDEN.search(text) and "\r" not in text:
        return "'" + text.replace("'", "''") + "'"
    plain = _PLAIN.fullmatch(text) and not _READ_AS_MORE.search(text) and text.lower() not in _WORDS
    # NB: within [] and {} readers differ about a colon.
    if plain and style != '"' and not (flow and ":" in text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
