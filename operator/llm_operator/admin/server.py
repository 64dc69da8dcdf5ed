"""An app on a socket, by uvicorn in this event loop, until the block around it ends.

It knows nothing of what the app does. At the end it takes no more connections, lets open requests
finish for a while, and then ends them.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from llm_operator.health import NotListening
from llm_operator.settings import SettingsError

logger = logging.getLogger(__name__)

#: Seconds that open requests have at the end.
GRACE = 10
#: Seconds that a connection may be idle, connections at one time, and bytes of a browser's message.
IDLE, CONNECTIONS, MESSAGE = 30, 1000, 1 << 20
#: Seconds between two looks at the certificate's files: they are replaced before they end.
RENEW = 60.0

#: Files of a certificate chain and of its key.
Certificate = tuple[Path, Path]


class _Server(uvicorn.Server):
    """uvicorn that leaves signals alone and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for the whole process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, without its end of the process."""
        try:
            await super().startup(sockets)
        except SystemExit:
            raise RuntimeError("the app did not start; the log says why") from None
        self.listening.set()


def listen(host: str, port: int, *, change: str) -> socket.socket:
    """A listening socket.

    Args:
        host: an address of this machine, or a name of one.
        port: 0 for a free one.
        change: what to do about an address that is taken, for the error.

    Raises:
        NotListening: it is taken, or not of this machine.
    """
    try:
        return socket.create_server((host, port), family=_family(host), backlog=1024)
    except OSError as error:
        # NB: not its own text, which tells the address again.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise NotListening(f"can't listen on {host}:{port} ({reason}): {change}") from None


@contextlib.asynccontextmanager
async def serving(
    app: FastAPI, listener: socket.socket, *, certificate: Certificate | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve while the block runs; what the block is given ends when the server does.

    Raises:
        SettingsError: the certificate's files can't be used.
        RuntimeError: the app did not start.
    """
    with contextlib.closing(listener):
        server = _Server(_config(app, certificate))
        server.config.load()
        running = asyncio.create_task(server.serve(sockets=[listener]))
        renewing = asyncio.create_task(_renew(server.config.ssl, certificate))
        try:
            began = asyncio.create_task(server.listening.wait())
            await asyncio.wait((running, began), return_when=asyncio.FIRST_COMPLETED)
            began.cancel()
            if running.done():
                running.result()
            host, port = listener.getsockname()[:2]
            logger.info("admin_listening", extra={"host": host, "port": port})
            yield running
        finally:
            renewing.cancel()
            server.should_exit = True
            await asyncio.wait((running, renewing))


def _config(app: FastAPI, certificate: Certificate | None) -> uvicorn.Config:
    chain, key = certificate or (None, None)
    if certificate is not None:
        try:
            # NB: uvicorn does the same, with an error that names no file.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*certificate)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"LLMB_ADMIN_TLS_CERTIFICATE {chain} with LLMB_ADMIN_TLS_KEY {key} can't be used "
                f"({error.strerror or error}): both have to be PEM files that can be read"
            ) from None
    return uvicorn.Config(
        app,
        loop="none",
        lifespan="on",
        ws_max_size=MESSAGE,
        # NB: what it says at the start and the end, our own lines say.
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # NB: whoever connects is whom the limit on wrong tokens counts; a header is anybody's word.
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=chain,
        ssl_keyfile=key,
    )


async def _renew(context: ssl.SSLContext | None, certificate: Certificate | None) -> None:
    """Use the files as they are, for new connections."""
    while context is not None and certificate is not None:
        await asyncio.sleep(RENEW)
        try:
            await asyncio.to_thread(context.load_cert_chain, *certificate)
        except (OSError, ssl.SSLError) as error:
            logger.warning("certificate_not_read", extra={"detail": str(error)})


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
