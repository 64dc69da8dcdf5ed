"""Starting and stopping a simulated host: in a test with `serve`, from the command line with `run`.

serve -> Simulator (port, behaviour, requests) -> close
"""

import argparse
import asyncio
import contextlib
import errno
import ipaddress
import logging
import signal
import sys
from collections.abc import Iterator

from llm_operator.simulate.behaviour import (
    Behaviour,
    BehaviourError,
    Kind,
    add_behaviour,
    behaviour_from,
)
from llm_operator.simulate.host import Host
from llm_operator.simulate.journal import Outcome, Received
from llm_operator.simulate.mlx import Mlx
from llm_operator.simulate.ollama import Ollama

log = logging.getLogger(__name__)

PORTS = {Kind.OLLAMA: 11434, Kind.MLX: 8080}
MODELS = {Kind.OLLAMA: ("phi3:mini",), Kind.MLX: ("mlx-community/Phi-3-mini-4k-instruct-4bit",)}

_EXAMPLE = """\
example:
  llmb simulate ollama --port 11500 --model phi3:mini --tokens-per-second 40
  curl localhost:11500/_simulate -d '{"mode": "cut-mid-stream:3"}'
  curl 'localhost:11500/_simulate/requests?last=1'
"""


class Simulator:
    """A running simulated host. Setting `behaviour` changes what the next request meets."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._server: asyncio.Server | None = None
        self._port = 0
        self._closed = False
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._converse = (Ollama if host.kind is Kind.OLLAMA else Mlx)(host).converse

    async def listen(self, host: str, port: int) -> None:
        # NB: the default queue of 100 makes a burst of clients wait a second for their handshake.
        self._server = await asyncio.start_server(self._connected, host, port, backlog=1024)
        self._port = int(self._server.sockets[0].getsockname()[1])

    @property
    def port(self) -> int:
        return self._port

    @property
    def behaviour(self) -> Behaviour:
        return self._host.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._host.behaviour = behaviour

    @property
    def requests(self) -> list[Received]:
        """The last requests, oldest first."""
        return list(self._host.journal.requests)

    def count(self, outcome: Outcome | None = None) -> int:
        """How many requests came, or ended so."""
        return self._host.journal.counts["received" if outcome is None else outcome]

    async def close(self) -> None:
        """Stop listening and break off every connection."""
        if self._server is None or self._closed:
            return
        self._closed = True
        await unlisten(self._server)
        for task, writer in tuple(self._open.items()):
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._closed:
            writer.transport.abort()
            return
        self._open[task] = writer
        try:
            await self._converse(reader, writer)
        except asyncio.CancelledError:
            # NB: ended here, because asyncio's streams log a handler that ends cancelled.
            log.debug("simulated connection ended by close")
        except Exception:
            log.exception("simulated host failed")
        finally:
            self._open.pop(task, None)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()


async def unlisten(server: asyncio.Server) -> None:
    """Close a server, its connections apart, from within its event loop.

    NB: a connection that asyncio has accepted and not yet told anybody of, it drops without closing
    it when its server is closed then. So nothing more is accepted first, and those few are told of.
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)
    server.close()


async def serve(
    kind: Kind, *, host: str, port: int, behaviour: Behaviour, models: tuple[str, ...]
) -> Simulator:
    """A simulated host that listens; port 0 takes a free one. Raises OSError if it cannot."""
    state = Host(kind, models, behaviour, loopback=_loopback(host))
    simulator = Simulator(state)
    await simulator.listen(host, port)
    return simulator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `llmb simulate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLE
    parser.add_argument("kind", type=Kind, choices=list(Kind), help="the host to simulate")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, help="default: the real host's; 0 = a free one")
    parser.add_argument(
        "--model",
        action="append",
        dest="models",
        metavar="NAME",
        help="a model it has; repeatable; '*' = any",
    )
    add_behaviour(parser)


async def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Exit codes: 0, or 2 for wrong use."""
    kind = Kind(arguments.kind)
    port = PORTS[kind] if arguments.port is None else arguments.port
    models = tuple(arguments.models or MODELS[kind])
    try:
        behaviour = behaviour_from(arguments)
        simulator = await serve(
            kind, host=arguments.host, port=port, behaviour=behaviour, models=models
        )
    except BehaviourError as error:
        sys.stderr.write(f"llmb simulate: {error}\n")
        return 2
    except (OSError, OverflowError) as error:
        sys.stderr.write(f"llmb simulate: {_cannot_listen(error, arguments.host, port)}\n")
        return 2
    try:
        with _signals() as stop:
            sys.stdout.write(
                f"Simulated {kind} (no real model) on "
                f"http://{_shown(arguments.host)}:{simulator.port} "
                f"answers for {', '.join(models)}\n"
            )
            sys.stdout.flush()
            await stop.wait()
    finally:
        await simulator.close()
    return 0


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    names = (signal.SIGTERM, signal.SIGINT)
    for name in names:
        loop.add_signal_handler(name, stop.set)
    try:
        yield stop
    finally:
        for name in names:
            loop.remove_signal_handler(name)


def _cannot_listen(error: Exception, host: str, port: int) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken; choose another with --port, or 0 for a free one"
    if isinstance(error, OSError) and error.errno not in (errno.EACCES, errno.EPERM):
        return (
            f"cannot listen on {host}: {error.strerror}; set --host to an address of this machine"
        )
    return f"cannot listen on port {port}; choose one of 1024 to 65535 with --port"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
