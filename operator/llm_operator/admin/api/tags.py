"""Entity tags, If-Match and If-None-Match, by RFC 9110.

Pure. A tag is `"UID.GENERATION.DIGEST"`: all of it changes with whatever is told of a backend, so
that a 304 hides nothing. A write asks for the first two alone, since what it would overwrite is a
generation, and the state beside that changes by itself.
"""

import hashlib
import re
from collections.abc import Iterable

from fastapi import Request

from llm_operator.admin.backends import Match, Standing
from llm_operator.admin.errors import Invalid

_TAGS = re.compile(r'\s*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)|,)')
#: Characters of a digest; it need only differ from the last one's.
DIGITS = 16


def tag(standing: Standing, body: bytes) -> str:
    """The tag of a backend that is told in these bytes."""
    digest = hashlib.blake2b(body, digest_size=DIGITS // 2).hexdigest()
    return f'{standing.tag.removesuffix(chr(34))}.{digest}"'


def match(request: Request) -> Match | None:
    """What If-Match asks for; None when nothing.

    Raises:
        Invalid: it is no list of tags.
    """
    header = _header(request, "if-match")
    if header is None:
        return None
    if header.strip() == "*":
        return lambda _: True
    # NB: a weak tag matches nothing here.
    asked = {value for weak, value in _tags(header, "If-Match") if not weak}

    def matches(standing: Standing) -> bool:
        now = standing.tag.strip('"')
        return any(one == now or one.rpartition(".")[0] == now for one in asked)

    return matches


def seen(request: Request, now: str) -> bool:
    """Whether If-None-Match names this tag.

    Raises:
        Invalid: it is no list of tags.
    """
    header = _header(request, "if-none-match")
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return now.strip('"') in {value for _, value in _tags(header, "If-None-Match")}


def _header(request: Request, name: str) -> str | None:
    return ", ".join(request.headers.getlist(name)) or None


def _tags(header: str, name: str) -> Iterable[tuple[bool, str]]:
    at, found = 0, []
    while at < len(header):
        one = _TAGS.match(header, at)
        if one is None:
            raise Invalid(f'{name}: must be tags in quotes, as "TAG", or *')
        if one[2] is not None:
            found.append((bool(one[1]), one[2]))
        at = one.end()
    return found
