"""What the URL of a host must keep: the nine rules that every URL of a resource shares.

A URL is judged by its text, never by what its host resolves to, and where two readers could take a
text for two hosts it is refused.
"""

import ipaddress
import re

from llm_operator.resource.schema import Rule

# NB: `\Z` here is `$` in the CRD; Python's `$` also matches before a last line feed.
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


URL_RULES: tuple[Rule, ...] = (
    Rule(
        message="must start with http:// or https://",
        holds=lambda url: bool(_SCHEME.search(url)),
    ),
    Rule(message="must name a host, like http://mac-studio.lan:8080", holds=_has_host),
    Rule(
        message="must write an IP address in its usual form, like 192.168.1.20 or [fd00::20]",
        holds=_has_plain_address,
    ),
    Rule(
        message="must have a port from 1 to 65535, and brackets around an IPv6 address",
        holds=_has_port,
    ),
    Rule(
        message="must not hold a user name or password; "
        "everyone who can read the resource could read them",
        holds=lambda url: not _USER_INFO.search(url),
    ),
    Rule(message="must not have a query, the part after ?", holds=lambda url: "?" not in url),
    Rule(message="must not have a fragment, the part after #", holds=lambda url: "#" not in url),
    Rule(
        message="must hold no spaces and only plain ASCII characters",
        holds=lambda url: bool(_PLAIN_WORD.search(url)),
    ),
    Rule(
        message="must not be a link-local address or a cloud's metadata service",
        holds=_is_elsewhere,
    ),
)
