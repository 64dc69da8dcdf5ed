"""A row's endpoint_url -> the address of a host, as a resource takes it.

It mends what has one meaning only. What may be a secret in it, a user name, a password, a query, is
neither kept nor told.
"""

import re

from llm_operator.predecessor import reasons
from llm_operator.predecessor.reading import Reading, kept, text
from llm_operator.predecessor.reasons import Said, say
from llm_operator.resource.check import check
from llm_operator.resource.fields import SPEC
from llm_operator.resource.model import BackendType

FIELD = "endpointURL"

_NO_SCHEME = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-][A-Za-z0-9._-]*)(:[0-9]{1,5})?(/.*)?")
_LOCAL = re.compile(
    r"(?i)https?://(localhost|([^/:@]+[.])?localhost|127(\.[0-9]+){3}|0\.0\.0\.0|\[::1?\]"
    r"|host\.docker\.internal)[.]?([:/]|\Z)"
)
#: What people paste behind an address. NB: /v1 of an MLX server and /api of an Ollama server are
#: understood in a resource.
_OWN_PATHS = ("/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions")


def address(given: object, kind: BackendType) -> Reading:
    """The URL, or nothing when it can't be one."""
    raw = text(given).strip() if given is not None else ""
    if not raw:
        return Reading(kept=kept(given, ""), said=(say(reasons.NO_URL),))
    if "@" in "".join(re.split(r"[?#]", raw, maxsplit=1)[1:]):
        # NB: a ? or # of a password that is not percent-encoded, or an @ of a query: nobody knows
        # where the secret ends.
        return Reading(said=(say(reasons.USER_INFO),))
    url, said = _without_secrets(raw)
    url, more = _mended(url, kind)
    said += more
    if found := check(SPEC.fields[FIELD], url, FIELD)[1]:
        told = say(reasons.BAD_URL, rule="; ".join(one.message for one in found))
        return Reading(kept=hidden(text(given)), said=(*said, told))
    if local := _LOCAL.match(url):
        said.append(say(reasons.LOCALHOST, host=local[1]))
    # NB: what was left out as a secret stays out; everything else of it is kept.
    return Reading(value=url, kept=hidden(kept(given, url)), said=tuple(said))


def hidden(url: str) -> str:
    """The URL without what may be a secret, right or wrong as it may be."""
    url = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _without_secrets(url: str) -> tuple[str, list[Said]]:
    said = []
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    if bare != url:
        said.append(say(reasons.QUERY))
    scheme, separator, rest = bare.partition("://")
    if not separator:
        scheme, rest = "", bare
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        said.append(say(reasons.USER_INFO))
        authority = authority.rpartition("@")[2]
    return f"{scheme}{separator}{authority}{slash}{path}", said


def _mended(url: str, kind: BackendType) -> tuple[str, list[Said]]:
    said = []
    scheme, separator, rest = url.partition("://")
    if not separator and _NO_SCHEME.fullmatch(url):
        said.append(say(reasons.NO_SCHEME))
        scheme, separator, rest = "http", "://", url
    elif separator:
        # NB: the scheme of a URL has no case, and the one of a resource is in lower case.
        scheme = scheme.lower()
    own = (*_OWN_PATHS, "/v1") if kind is BackendType.OLLAMA else _OWN_PATHS
    for path in own:
        if separator and rest.rstrip("/").endswith(path):
            said.append(say(reasons.OWN_PATH, path=path))
            rest = rest.rstrip("/").removesuffix(path)
    return f"{scheme}{separator}{rest}", said
