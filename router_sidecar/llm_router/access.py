"""How a target is reached: its origin, TLS, credentials and header edits, made ready once.

    Target, Credentials ─> reach ─> Access ─> table

Runs when a table is built, never for a request. What is wrong with one target's credentials or
headers makes that target unusable, with a reason for people, and no other. A reason names keys and
headers, never what is in them.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from llm_contract import Auth, HeaderEdits, Target, Tls
from llm_router.credentials import CredentialError, Credentials
from llm_router.transport import RESERVED, Origin, Security

#: Every upstream request's own headers.
HEADERS = ((b"content-type", b"application/json"), (b"accept", b"*/*"))

#: Bytes of a header's value.
MAX_VALUE = 8192

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[!-~](?:[ -~\t]*[!-~])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What asking one target needs besides the body.

    Attributes:
        headers: of every request to it, credentials included; names in lower case.
        removed: a client's headers that it does not get, in lower case: those that the target
            removes, and those that `headers` has instead.
        unusable: why it can't be asked at all; "" when it can.
    """

    origin: Origin
    headers: tuple[tuple[bytes, bytes], ...] = field(default=HEADERS, repr=False)
    removed: frozenset[bytes] = frozenset()
    unusable: str = ""


class _Unusable(Exception):
    """The message is the reason."""


def reach(target: Target, credentials: Credentials) -> Access:
    """How a target is reached.

    Raises:
        ValueError: its URL can't be used.
    """
    plain = _origin(target.url)
    try:
        security = None if target.tls is None else _security(target.tls, credentials, plain)
        origin = plain if security is None else Origin.parse(target.url, security)
        headers = _headers(target.headers, target.auth, credentials)
    except (_Unusable, CredentialError) as error:
        return Access(origin=plain, unusable=str(error))
    removed = {name.lower().encode() for name in target.headers.remove}
    return Access(
        origin=origin,
        headers=tuple(headers.items()),
        removed=frozenset(removed | headers.keys() - dict(HEADERS).keys()),
    )


# NB: one object an address, because a pool looks its connections up by it; and a model that no
# route names is reached anew for each request.
_origin = lru_cache(maxsize=1024)(Origin.parse)


def _security(tls: Tls, credentials: Credentials, origin: Origin) -> Security:
    if not origin.tls:
        raise _Unusable("tls is set, but the URL begins with http://: write https:// or remove tls")
    keys = (tls.ca, tls.client_certificate, tls.client_key)
    if (tls.client_certificate is None) != (tls.client_key is None):
        raise _Unusable("tls has a client certificate without its key, or a key without its own")
    ca, certificate, key = (None if k is None else credentials.value(k) for k in keys)
    try:
        return Security.of(
            ca=ca,
            certificate=certificate,
            key=key,
            server_name=tls.server_name,
            insecure=tls.insecure,
        )
    except ValueError as error:
        named = ", ".join(repr(key) for key in keys if key is not None)
        raise _Unusable(
            f"tls can't be used: {error}" + (f" (of {named})" if named else "")
        ) from None


def _headers(edits: HeaderEdits, auth: Auth | None, credentials: Credentials) -> dict[bytes, bytes]:
    headers = dict(HEADERS)
    for removed in edits.remove:
        # NB: of ours only `accept`; a body always has its type.
        if removed.lower() == "accept":
            headers.pop(b"accept", None)
    for name, text in edits.set:
        headers[_name(name)] = _value(text.encode(), f"header {name!r}")
    if auth is not None:
        secret = credentials.value(auth.credential).strip(b" \t\r\n")
        word = auth.scheme.encode() + b" " if auth.scheme else b""
        headers[_name(auth.header)] = word + _value(secret, f"credential {auth.credential!r}")
    return headers


def _name(text: str) -> bytes:
    name = text.lower().encode()
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise _Unusable(f"header {text!r} can't be set: it is none, or the router's own")
    return name


def _value(value: bytes, of: str) -> bytes:
    if len(value) > MAX_VALUE or not _VALUE.fullmatch(value):
        raise _Unusable(
            f"{of} can't be sent: a header's value is one line of printable ASCII, of 1 to "
            f"{MAX_VALUE} characters"
        )
    return value
