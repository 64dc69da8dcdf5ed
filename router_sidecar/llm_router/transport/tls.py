"""How TLS to an upstream is made: certificates as bytes -> `Security`, or what is wrong with them.

Two upstreams with different certificates never share a connection, whatever their URLs, because a
`Security` is part of its origin's identity. Python's ssl takes a client's certificate and key from
files alone; they get one that is in memory and has no name. Nothing here is ever written to a disk
under a name, logged or quoted.
"""

import hashlib
import ipaddress
import os
import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO
from weakref import WeakValueDictionary

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?", re.ASCII)

#: By identity. An entry goes, and its key with it, when the last origin that uses it does.
_contexts: WeakValueDictionary[str, ssl.SSLContext] = WeakValueDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """The TLS settings of one origin.

    Attributes:
        identity: a digest of the certificates and the key; equal means the same.
        context: made of them.
        server_name: sent for SNI and verified; None for the URL's host.
    """

    identity: str = field(repr=False)
    context: ssl.SSLContext = field(repr=False, compare=False)
    server_name: str | None = None

    @classmethod
    def of(
        cls,
        *,
        ca: bytes | None = None,
        certificate: bytes | None = None,
        key: bytes | None = None,
        server_name: str | None = None,
        insecure: bool = False,
    ) -> "Security":
        """The settings made of PEM. Equal ones share a context while one of them is in use.

        Args:
            ca: the authorities, or certificates trusted as they are; None for the system's.
            certificate: the client's, with what links it to an authority; None for none.
            key: the certificate's.
            server_name: instead of the URL's host.
            insecure: any certificate of the upstream is taken.

        Raises:
            ValueError: something of it can't be used; the message quotes none of it.
        """
        name = None if server_name is None else _server_name(server_name)
        identity = _digest(ca, certificate, key, b"insecure" if insecure else None)
        context = _contexts.get(identity)
        if context is None:
            context = _context(ca, insecure=insecure)
            if certificate is not None and key is not None:
                _present(context, certificate, key)
            _contexts[identity] = context
        return cls(identity=identity, context=context, server_name=name)


def _server_name(text: str) -> str:
    name = text.lower().rstrip(".")
    try:
        return ipaddress.ip_address(name).compressed
    except ValueError:
        pass
    try:
        name.encode("idna")
    except UnicodeError:
        name = ""
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ValueError("the server name is a DNS name or an IP address")
    return name


def _digest(*parts: bytes | None) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"-" if part is None else b"%d:%b" % (len(part), part))
    return digest.hexdigest()


def _context(ca: bytes | None, *, insecure: bool) -> ssl.SSLContext:
    if insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if ca is None:
        return ssl.create_default_context()
    # NB: text around the certificates may be in any language; ssl wants ASCII.
    text = ca.decode("ascii", errors="ignore")
    try:
        if not text:
            # NB: ssl would take the system's authorities instead.
            raise ValueError
        context = ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"the CA is no PEM of certificates{_reason(error)}") from None
    # NB: so that an intermediate, or the upstream's own certificate, can be what is trusted.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _present(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    try:
        with _unnamed(certificate) as chain, _unnamed(key) as secret:
            # NB: without a password OpenSSL asks the terminal for that of an encrypted key.
            context.load_cert_chain(chain, secret, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            "the client certificate and its key are no PEM of one pair, or the key is encrypted"
            f"{_reason(error)}"
        ) from None


def _no_password() -> str:
    raise ValueError


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return f" ({reason})" if reason else ""


@contextmanager
def _unnamed(data: bytes) -> Iterator[str]:
    """The path of a file that nobody else can open, and that is gone with this process at last."""
    with _nameless() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _nameless() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("pem"), "w+b")
    return tempfile.TemporaryFile()
