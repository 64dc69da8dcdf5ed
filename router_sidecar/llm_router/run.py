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
from llm_router.app import App
from llm_router.assemble import Router, assemble
from llm_router.server import Server
from llm_router.settings import Settings

log = logging.getLogger(__name__)


class Management(uvicorn.Server):
    """uvicorn without its signal handlers: signals are for the whole process."""

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
    writer = logs.configure(settings.log_level)
    mount.check(settings.config)
    data = listen(settings.host, settings.port, setting="LLM_ROUTER_PORT")
    probes = listen(
        settings.management_host, settings.management_port, setting="LLM_ROUTER_MANAGEMENT_PORT"
    )
    router = assemble(settings, writer=writer)
    # NB: what lives now lives for ever; without this every full collection walks all of it, and
    # with Python's own thresholds a collection begins about once a request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    await _serve(router, settings, data=data, probes=probes)
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


def _probes(router: Router) -> Management:
    config = uvicorn.Config(
        management.create(router.parts),
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    return Management(config)


async def _serve(
    router: Router, settings: Settings, *, data: socket.socket, probes: socket.socket
) -> None:
    parts, stop = router.parts, asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.lifeline:
        _watch_lifeline(loop, stop)
    served, managed = Server(App(parts), router.limits), _probes(router)
    await served.start(data)
    tasks = [asyncio.create_task(part) for part in (stop.wait(), *router.running())]
    tasks.append(managing := asyncio.create_task(managed.serve(sockets=[probes])))
    for listener in (data, probes):
        host, port = listener.getsockname()[:2]
        log.info("listening", extra={"host": host, "port": port})
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    log.info("draining", extra={"seconds": settings.drain_seconds})
    parts.draining = True
    await served.drain(settings.drain_seconds)
    await router.close()
    # NB: the management port goes last, so that probes and scrapes see the drain.
    managed.should_exit = True
    await asyncio.gather(managing, return_exceptions=True)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


def _watch_lifeline(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """End when standard input ends: the parent is gone, even by kill -9."""

    def readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            stop.set()

    loop.add_reader(sys.stdin.fileno(), readable)
