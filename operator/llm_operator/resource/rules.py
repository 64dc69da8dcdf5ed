"""What a spec must keep, as data: the schema of each field and the rules between them.

The same as in crds/llmbackends.yaml, message for message, because folders have no API server and an
object can be older than a rule. Tests keep the two equal: whoever changes one changes the other. No
check does I/O: a URL is judged by its text, never by what its host resolves to.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from llm_operator.resource.model import BackendType


class Kind(StrEnum):
    """A field's type, in the schema's words."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    STRING = "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What the schema says about one field.

    Attributes:
        values: the only ones allowed; () when there is no such list.
        default: what the API server fills in; None for nothing.
    """

    kind: Kind
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = None
    values: tuple[str, ...] = ()
    default: bool | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the spec that a schema can't say.

    Attributes:
        field: the one to change when it fails.
        reads: what `holds` looks at; it is asked only when all of these keep their schema.
        holds: given the fields that are set, defaults included.
    """

    field: str
    message: str
    reads: tuple[str, ...]
    holds: Callable[[Mapping[str, Any]], bool]


FIELDS: Mapping[str, Field] = {
    "modelName": Field(kind=Kind.STRING, max_length=253),
    "backendType": Field(kind=Kind.STRING, values=tuple(BackendType)),
    "endpointURL": Field(kind=Kind.STRING, max_length=2048),
    "fallbackEndpointURL": Field(kind=Kind.STRING, max_length=2048),
    "upstreamModel": Field(kind=Kind.STRING, max_length=512),
    "enabled": Field(kind=Kind.BOOLEAN, default=True),
    "priority": Field(kind=Kind.INTEGER, minimum=0, maximum=1_000_000, default=100),
    "maxTokens": Field(kind=Kind.INTEGER, minimum=1, maximum=1_048_576),
    "temperature": Field(kind=Kind.NUMBER, minimum=0, maximum=2),
    "timeoutSeconds": Field(kind=Kind.INTEGER, minimum=1, maximum=3600, default=60),
    "keepAliveSeconds": Field(kind=Kind.INTEGER, minimum=-1, maximum=31_536_000),
    "description": Field(kind=Kind.STRING, max_length=1024),
}

REQUIRED = ("modelName",)

# NB: `\Z` here is `$` in the CRD; Python's `$` also matches before a last line feed.
_MODEL_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*\Z")
_PLAIN_TEXT = re.compile(r"^[!-~]([ -~]*[!-~])?\Z")
_PLAIN_WORD = re.compile(r"^[!-~]*\Z")
_SCHEME = re.compile(r"^https?://")
_HOST = re.compile(
    r"^https?://(([A-Za-z0-9_-]{1,63}[.])*[A-Za-z0-9_-]{1,63}[.]?"
    r"|\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\])([:/?#@]|\Z)"
)
_NUMERIC = re.compile(r"(?i)^https?://([^/?#@:]*[.])?([0-9]+|0x[0-9a-f]*)[.]?([:/?#@]|\Z)")
_DOTTED = re.compile(r"^https?://([0-9.]+)([:/?#@]|\Z)")
_BRACKETED = re.compile(r"^https?://\[([^\]]*)")
_ANY_PORT = re.compile(r"^https?://([^/?#@:]*|\[[^/?#@]*\]):[^/?#@\]]*([/?#]|\Z)")
_GOOD_PORT = re.compile(
    r"^https?://([^/?#@:]*|\[[^/?#@]*\]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}"
    r"|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])([/?#]|\Z)"
)
_USER_INFO = re.compile(r"^[^/]*//[^/?#]*@")
_METADATA = re.compile(
    r"(?i)^https?://(169[.]254[.][0-9.]+|100[.]100[.]100[.]200|168[.]63[.]129[.]16"
    r"|192[.]0[.]0[.]192|metadata[.]google[.]internal[.]?|metadata[.]goog[.]?"
    r"|instance-data[.]ec2[.]internal[.]?)([:/?#]|\Z)"
)
_METADATA_V6 = ("fd00:ec2::254", "fd20:ce::254")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        # NB: an IPv4 address dressed as IPv6 would walk past the check for link-local ones.
        return None
    return address


def _has_host(url: str) -> bool:
    return bool(not _SCHEME.search(url) or _HOST.search(url))


def _has_plain_address(url: str) -> bool:
    # NB: resolvers read 2852039166, 0xa9fea9fe and 0251.254.1.1 as IPv4 addresses too.
    if bracketed := _BRACKETED.search(url):
        return _address(bracketed[1]) is not None
    if _NUMERIC.search(url):
        dotted = _DOTTED.search(url)
        return dotted is not None and _address(dotted[1]) is not None
    return True


def _has_port(url: str) -> bool:
    return bool(not _ANY_PORT.search(url) or _GOOD_PORT.search(url))


def _is_elsewhere(url: str) -> bool:
    if _METADATA.search(url):
        return False
    bracketed = _BRACKETED.search(url)
    address = _address(bracketed[1]) if bracketed else None
    return address is None or not (address.is_link_local or str(address) in _METADATA_V6)


_URL_RULES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("must start with http:// or https://", lambda url: bool(_SCHEME.search(url))),
    ("must name a host, like http://mac-studio.lan:8080", _has_host),
    (
        "must write an IP address in its usual form, like 192.168.1.20 or [fd00::20]",
        _has_plain_address,
    ),
    ("must have a port from 1 to 65535, and brackets around an IPv6 address", _has_port),
    (
        "must not hold a user name or password; everyone who can read the resource could read them",
        lambda url: not _USER_INFO.search(url),
    ),
    ("must not have a query, the part after ?", lambda url: "?" not in url),
    ("must not have a fragment, the part after #", lambda url: "#" not in url),
    (
        "must hold no spaces and only plain ASCII characters",
        lambda url: bool(_PLAIN_WORD.search(url)),
    ),
    ("must not be a link-local address or a cloud's metadata service", _is_elsewhere),
)


def _of(field: str, message: str, check: Callable[[str], bool]) -> Rule:
    """A rule about the text of one field, when it is set."""
    return Rule(
        field=field,
        message=message,
        reads=(field,),
        holds=lambda spec: field not in spec or check(spec[field]),
    )


def _fallback_differs(spec: Mapping[str, Any]) -> bool:
    first, second = spec.get("endpointURL"), spec.get("fallbackEndpointURL")
    if first is None or second is None:
        return True
    return second not in (first, f"{first}/") and first != f"{second}/"


RULES: tuple[Rule, ...] = (
    Rule(
        field="backendType",
        message="set it to ollama, mlx, openai or auto",
        reads=("backendType",),
        holds=lambda spec: "backendType" in spec,
    ),
    Rule(
        field="endpointURL",
        message="backendType openai has no default address; set the server's URL",
        reads=("backendType", "endpointURL"),
        holds=lambda spec: spec.get("backendType") != BackendType.OPENAI or "endpointURL" in spec,
    ),
    Rule(
        field="fallbackEndpointURL",
        message="only backendType auto has a fallback; remove it, or set backendType: auto",
        reads=("backendType", "fallbackEndpointURL"),
        holds=lambda spec: (
            "fallbackEndpointURL" not in spec
            or spec.get("backendType", BackendType.AUTO) == BackendType.AUTO
        ),
    ),
    Rule(
        field="fallbackEndpointURL",
        message="must differ from endpointURL; a host can't be its own fallback",
        reads=("endpointURL", "fallbackEndpointURL"),
        holds=_fallback_differs,
    ),
    _of(
        "modelName",
        "must start with a letter or digit and hold only letters, digits and . _ : / @ + -",
        lambda name: bool(_MODEL_NAME.search(name)),
    ),
    *(_of("endpointURL", message, check) for message, check in _URL_RULES),
    *(_of("fallbackEndpointURL", message, check) for message, check in _URL_RULES),
    _of(
        "upstreamModel",
        "must be plain ASCII text without a space at either end",
        lambda model: bool(_PLAIN_TEXT.search(model)),
    ),
)
