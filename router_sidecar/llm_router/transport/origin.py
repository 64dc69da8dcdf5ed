"""An upstream's configured address, parsed once -> what a connection and a request head need of it.

Pure. The text comes from configuration only, never from a request. No message quotes the text,
because a mistyped address can hold a password.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from llm_router.transport.tls import Security

_PATH = re.compile(r"(?:/[!-~]*)?", re.ASCII)
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """One upstream server, and the key of its idle connections.

    Attributes:
        tls: whether the scheme is https.
        host: name or address, without brackets; sent for SNI and checked against the certificate,
            unless `security` has another name.
        prefix: path before every request's path, without a trailing slash.
        authority: the Host header; names the port where it is not the scheme's own.
        security: the TLS settings; None for the pool's own. Part of the identity: no connection
            serves two origins that differ in it.
    """

    tls: bool
    host: str
    port: int
    prefix: bytes
    authority: bytes
    security: Security | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # NB: an origin is looked up twice a request; the generated hash builds a tuple each time.
        key = (self.tls, self.host, self.port, self.prefix, self.authority, self.security)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{_bracketed(self.host)}:{self.port}{self.prefix.decode()}"

    @classmethod
    def parse(cls, url: str, security: Security | None = None) -> "Origin":
        """Reads `http://host[:port][/prefix]`, or https.

        Raises:
            ValueError: the text is no such address, or there are TLS settings for one without TLS;
                the message says what to change.
        """
        parts = _split(url)
        if parts.scheme not in _DEFAULT_PORTS:
            raise ValueError("an upstream address begins with http:// or https://")
        if "@" in parts.netloc:
            raise ValueError("an upstream address holds no user or password: use a header")
        if parts.query or parts.fragment or url.rstrip().endswith(("?", "#")):
            raise ValueError("an upstream address ends with its path: remove what follows ? or #")
        if not _PATH.fullmatch(parts.path):
            raise ValueError(
                "an upstream address's path is printable ASCII: percent-encode the rest"
            )
        if security is not None and parts.scheme != "https":
            raise ValueError("an upstream address with TLS settings begins with https://")
        host, port = _host(parts), _port(parts)
        name = _bracketed(host)
        return cls(
            tls=parts.scheme == "https",
            host=host,
            port=port,
            prefix=parts.path.rstrip("/").encode("ascii"),
            authority=(name if port == _DEFAULT_PORTS[parts.scheme] else f"{name}:{port}").encode(
                "ascii"
            ),
            security=security,
        )


def _split(url: str) -> SplitResult:
    # NB: urlsplit drops tabs and line ends anywhere in the text, which would hide them.
    if not url.isprintable() or " " in url:
        raise ValueError("an upstream address holds no spaces or control characters")
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("an upstream address's brackets hold an IPv6 address") from None


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if "[" in parts.netloc:
        return _ipv6(host)
    try:
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        host = ""
    if len(host) > 254 or not _HOST.fullmatch(host):
        raise ValueError("an upstream address names a host: a DNS name or an IP address")
    return host


def _ipv6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError("an upstream address's brackets hold an IPv6 address") from None
    if address.scope_id is not None:
        raise ValueError("an upstream address holds no IPv6 zone: link-local hosts are refused")
    return address.compressed


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None:
        return _DEFAULT_PORTS[parts.scheme]
    if port == 0:
        raise ValueError("an upstream address's port is a number from 1 to 65535")
    return port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
