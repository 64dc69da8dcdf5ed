"""An origin -> a connected `Connection`, or a `ConnectFailed` that says why not.

One deadline covers resolving, connecting and the TLS handshake. The addresses of a name are tried
in order, the next one starting when the last has failed or is slow; the first to connect wins and
the others are dropped.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable

from llm_router.transport.address import resolve
from llm_router.transport.connection import Connection
from llm_router.transport.errors import ConnectFailed, Reason
from llm_router.transport.origin import Origin

#: How long an address may take before the next one is tried beside it (RFC 8305).
_STAGGER = 0.25

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: A peer that vanished without a word is noticed within a minute, also while it is waited for.
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


async def dial(
    origin: Origin,
    make: Callable[[], Connection],
    *,
    timeout: float,
    context: ssl.SSLContext | None,
) -> Connection:
    """Connects; `context` is for origins with TLS.

    Raises:
        ConnectFailed: after at most `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            addresses = await resolve(origin)
            if len(addresses) == 1:
                return await _connect(origin, addresses[0], make, context)
            return await _race(origin, addresses, make, context)
    except TimeoutError as error:
        raise ConnectFailed("timeout", f"{origin}: not connected within {timeout:g} s") from error


async def _connect(
    origin: Origin,
    address: str,
    make: Callable[[], Connection],
    context: ssl.SSLContext | None,
) -> Connection:
    name = _server_name(origin) if context else None
    connection = make()
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: connection, address, origin.port, ssl=context, server_hostname=name
        )
    except OSError as error:
        reason = _reason(error, address, tls=context is not None)
        raise ConnectFailed(reason, f"{origin}: {_detail(error)} (at {address})") from error
    except BaseException:
        # NB: when cancelled in the turn in which TLS is ready, the loops would say goodbye first.
        connection.abort()
        raise
    # NB: an upstream that has hung up by now shows in the first exchange, not here.
    with contextlib.suppress(OSError):
        _keep_alive(transport.get_extra_info("socket"))
    return connection


async def _race(
    origin: Origin,
    addresses: list[str],
    make: Callable[[], Connection],
    context: ssl.SSLContext | None,
) -> Connection:
    waiting = addresses[::-1]
    running: set[asyncio.Task[Connection]] = set()
    failures: list[ConnectFailed] = []
    try:
        while waiting or running:
            if waiting:
                attempt = _connect(origin, waiting.pop(), make, context)
                running.add(asyncio.create_task(attempt))
            done, running = await asyncio.wait(
                running,
                timeout=_STAGGER if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            connections = [task.result() for task in done if not _failed(task, failures)]
            for late in connections[1:]:
                late.abort()
            if connections:
                return connections[0]
    finally:
        await _drop(running)
    # NB: where IPv6 leads nowhere, what IPv4 said is the answer.
    raise next((f for f in failures if f.reason != "unreachable"), failures[0])


def _failed(task: asyncio.Task[Connection], failures: list[ConnectFailed]) -> bool:
    error = task.exception()
    if isinstance(error, ConnectFailed):
        failures.append(error)
    elif error is not None:
        raise error
    return error is not None


async def _drop(attempts: set[asyncio.Task[Connection]]) -> None:
    for attempt in attempts:
        attempt.cancel()
    for late in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(late, Connection):
            late.abort()


def _server_name(origin: Origin) -> str:
    security = origin.security
    return (security and security.server_name) or origin.host.rstrip(".")


def _reason(error: OSError, address: str, *, tls: bool) -> Reason:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, TimeoutError):
        return "timeout"
    # NB: a peer that hangs up in the handshake is most often one that does not speak TLS.
    if isinstance(error, ssl.SSLError) or (tls and isinstance(error, ConnectionError)):
        return "tls"
    # NB: without a free port IPv4 gives EADDRNOTAVAIL; on IPv6 it says that there is no IPv6 here.
    no_port = error.errno == errno.EADDRNOTAVAIL and ":" not in address
    return "exhausted" if error.errno in _EXHAUSTED or no_port else "unreachable"


def _detail(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return error.strerror or str(error) or type(error).__name__


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
