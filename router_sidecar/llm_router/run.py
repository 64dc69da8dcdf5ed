"""One router process: two servers and one follower in one event loop, until a signal.

SIGTERM or SIGINT: readiness goes, open answers may end within the drain limit, exit 0.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from llm_router import logs, management, mount
from llm_router.answer import Asker, Limits
from llm_router.app import App
from llm_router.follow import Follower
from llm_router.metrics import Metrics
from llm_router.serving import Parts
from llm_router.settings import Settings
from llm_router.transport import Pool

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: two servers share this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `run`."""
        yield


class PortTaken(Exception):
    """A port can't be listened on; the message names it and its setting."""


async def run(settings: Settings) -> int:
    """Serve until a signal; the exit status.

    Raises:
        MountError: the configuration folder would never change.
        PortTaken: a port is in use.
    """
    logs.configure(settings.log_level)
    mount.check(settings.config)
    data = listen(settings.host, settings.port, setting="LLM_ROUTER_PORT")
    probes = listen(
        settings.management_host, settings.management_port, setting="LLM_ROUTER_MANAGEMENT_PORT"
    )
    pool, metrics = Pool(), Metrics()
    follower = Follower(settings.config, reread_seconds=settings.reread_seconds)
    metrics.observe(follower, pool)
    limits = Limits(connect=settings.connect_seconds, stream_idle=settings.stream_idle_seconds)
    parts = Parts(
        follower=follower,
        asker=Asker(pool, limits),
        metrics=metrics,
        default_ollama_url=settings.default_ollama_url,
        max_body_bytes=settings.max_body_bytes,
    )
    servers = [
        (_server(App(parts), settings), data),
        (_server(management.create(parts), settings), probes),
    ]
    # NB: what lives now lives for ever; without this every full collection walks all of it, and
    # with Python's own thresholds a collection begins about once a request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    await _serve(parts, settings, servers)
    await pool.close()
    return 0


def listen(host: str, port: int, *, setting: str) -> socket.socket:
    """A listening socket.

    Raises:
        PortTaken: it is in use, or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise PortTaken(f"{host}:{port}: {error.strerror}; choose another by {setting}") from None
    return listener


def _server(app: object, settings: Settings) -> Server:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        # NB: longer than clients keep an idle connection (httpx: 5 s), so that they close it first;
        # a request on one that is just being closed would be lost.
        timeout_keep_alive=75,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    return Server(config)


async def _serve(
    parts: Parts, settings: Settings, servers: list[tuple[Server, socket.socket]]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.lifeline:
        _watch_lifeline(loop, stop)
    following = asyncio.create_task(parts.follower.run())
    serving = [asyncio.create_task(server.serve(sockets=[s])) for server, s in servers]
    for _, listener in servers:
        host, port = listener.getsockname()[:2]
        log.info("listening", extra={"host": host, "port": port})
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([stopped, following, *serving], return_when=asyncio.FIRST_COMPLETED)
    log.info("draining", extra={"seconds": settings.drain_seconds})
    parts.draining = True
    (data, _), (probes, _) = servers
    # NB: the management port goes last, so that probes and scrapes see the drain.
    data.should_exit = True
    await asyncio.gather(serving[0], return_exceptions=True)
    probes.should_exit = True
    for task in (following, stopped):
        task.cancel()
    results = await asyncio.gather(following, stopped, *serving, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def _watch_lifeline(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """End when standard input ends: the parent is gone, even by kill -9."""

    def readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            stop.set()

    loop.add_reader(sys.stdin.fileno(), readable)
