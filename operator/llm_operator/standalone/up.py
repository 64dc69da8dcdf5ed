"""`llmb up`: the whole system on one machine, by one command, until Ctrl-C.

    resources folder -> engine -> config folder -> router process -> hosts
                          │├----> embedded Postgres   ││
                          │└<----- what it runs ------┘│
    credentials folder ---┴----------------------------┘
    admin API, page -> resources folder; router -> usage -> admin API -> embedded Postgres

Everything lies below one data folder; a lock keeps a second run away from it. Hosts are the real
ones where they answer, else simulated and called so.
"""

import argparse
import asyncio
import fcntl
import logging
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path

from llm_contract import RoutingConfig, checksum, dump
from llm_operator import logs, migrate
from llm_operator.engine import Engine
from llm_operator.namespace import Ports
from llm_operator.plan import Addresses
from llm_operator.ports import PortError
from llm_operator.publish.folder import FolderSink
from llm_operator.record import Record
from llm_operator.resync import Resync
from llm_operator.routers.observer import Observer
from llm_operator.simulate.behaviour import Kind
from llm_operator.standalone import admin, card, credentials, files, hosts
from llm_operator.standalone.card import At
from llm_operator.standalone.database import Embedded
from llm_operator.standalone.router import Router, Usage
from llm_operator.standalone.routers import Known

log = logging.getLogger(__name__)

EPILOG = """example:
  llmb up                           data in ./llmb-data, router on port 11440, admin on 8090
  llmb up --data /srv/llmb --port 12000
  llmb up --simulate                simulated hosts even where real ones answer
"""

#: Seconds between two repairs of what was edited by hand.
RESYNC_SECONDS = 20.0
#: What the first resource serves where no real Ollama has a model.
EXAMPLE_MODEL = "phi3:mini"
#: Seconds between two questions to the router what it runs.
ASK_SECONDS = 2.0


class UpError(Exception):
    """It can't start; the message says why and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `llmb up`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--data", type=Path, default=Path("llmb-data"), help="data folder")
    parser.add_argument("--port", type=int, default=11440, help="the router's port")
    parser.add_argument(
        "--management-port", type=int, default=11441, help="the router's probes and metrics"
    )
    parser.add_argument("--admin-port", type=int, default=8090, help="the admin API and page")
    parser.add_argument("--simulate", action="store_true", help="do not use real hosts")


async def run(arguments: argparse.Namespace) -> int:
    """Run until a signal. Exit status: 0, 1 (a part failed) or 2 (wrong use)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        free(arguments.port, flag="port")
        free(arguments.management_port, flag="management-port")
        free(arguments.admin_port, flag="admin-port")
        data = arguments.data
        for name in ("config", "status", "logs"):
            (data / name).mkdir(parents=True, exist_ok=True)
        (data / "credentials").mkdir(mode=0o700, exist_ok=True)
        with locked(data), (data / "logs" / "operator.log").open("a") as log_file:
            logs.configure("INFO", stream=log_file)
            async with AsyncExitStack() as stack:
                await _up(arguments, stack)
                await stop.wait()
                card.say("\nEnding ...")
        card.say("Ended.")
    except (UpError, admin.NotServed) as error:
        sys.stderr.write(f"llmb up: {error}\n")
        return 2
    except (RuntimeError, migrate.MigrationError) as error:
        sys.stderr.write(f"llmb up: {error}\n")
        return 1
    return 0


def free(port: int, *, flag: str) -> None:
    """Check that a port can be listened on.

    Raises:
        UpError: it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            message = f"port {port} can't be used ({error}); choose another by --{flag}"
            raise UpError(message) from None


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the data folder. The lock goes with the process, however that ends.

    Raises:
        UpError: another run holds it.
    """
    with (data / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            message = f"another llmb up runs on {data}; end it, or choose another by --data"
            raise UpError(message) from None
        yield


async def _up(arguments: argparse.Namespace, stack: AsyncExitStack) -> None:
    """Start every part in the order of the flow; the stack ends them in reverse."""
    data: Path = arguments.data
    at = At.of(arguments)
    dsn = await _database(data, stack)
    found = await _hosts(arguments, stack)
    example = _example(data / "resources", found)
    source = files.FolderSource(
        data / "resources", ledger=data / "identities.json", statuses=data / "status"
    )
    record = await stack.enter_async_context(Record(dsn, application_name="llmb-up"))
    observer = Observer(Known(at.management), every=ASK_SECONDS, nudge=False)
    addresses = Addresses(ollama=found[Kind.OLLAMA].url, mlx=found[Kind.MLX].url)
    engine = await _operate(data, stack, addresses, source=source, record=record, routers=observer)
    # NB: it ends after the router, which sends its last usage as it ends.
    beside = await stack.enter_async_context(AsyncExitStack())
    token = data / admin.TOKEN
    usage = Usage(url=at.admin + admin.USAGE, token_file=token, spool=data / "usage")
    router = _router(arguments, usage)
    _task(stack, router.run())
    preparing = asyncio.create_task(admin.prepare(data))
    if not await router.ready(within=15):
        raise UpError(f"the router did not become ready; see {data / 'logs' / 'router.log'}")
    # NB: not before, or every resource would have an unreachable router for its first seconds.
    _task(stack, observer.run())
    look = partial(credentials.look, data / "credentials")
    _task(stack, files.watch(look, lambda: _again(engine, router)))
    await preparing
    served = admin.serving(
        data,
        port=arguments.admin_port,
        source=source,
        dsn=dsn,
        router=at.router,
        management=at.management,
    )
    await beside.enter_async_context(served)
    card.show(at, data=data, hosts=found, example=example, database=dsn, token=token)


async def _database(data: Path, stack: AsyncExitStack) -> str:
    """The URL of the embedded Postgres, once it has the schema."""
    card.say(f"Starting Postgres in {data / 'postgres'} ...")
    database = Embedded(data / "postgres")
    dsn = await asyncio.to_thread(database.start)
    stack.push_async_callback(asyncio.to_thread, database.stop)
    await migrate.migrate(dsn, say=card.say)
    return dsn


async def _hosts(arguments: argparse.Namespace, stack: AsyncExitStack) -> dict[Kind, hosts.Host]:
    """A host of each kind, real or simulated."""
    card.say("Looking for hosts ...")
    models = await asyncio.to_thread(_models, arguments.data / "resources")
    found = await hosts.find(simulate=arguments.simulate, models=models)
    for host in found.values():
        if host.simulated is not None:
            stack.push_async_callback(host.simulated.close)
    return found


async def _operate(
    data: Path,
    stack: AsyncExitStack,
    addresses: Addresses,
    *,
    source: files.FolderSource,
    record: Record,
    routers: Observer,
) -> Engine:
    """The operator's core at work on the folder, once it has published."""
    sink = FolderSink(data / "config")
    ports = Ports(
        source=source,
        sink=sink,
        recorder=record,
        writer=card.Announced(files.FolderStatus(data / "status")),
        finder=credentials.FolderFinder(data / "credentials"),
        routers=routers,
    )
    engine = Engine(ports, addresses=addresses)
    stack.push_async_callback(engine.close)
    try:
        await engine.reconcile(files.NAMESPACE)
        if await sink.current(files.NAMESPACE) is None:
            # NB: without any resource nothing was published, and the router waits for something.
            raw = dump(RoutingConfig())
            await sink.publish(files.NAMESPACE, raw=raw, checksum=checksum(raw))
    except PortError as error:
        raise UpError(str(error)) from None
    _task(stack, Resync(engine, ports, every=RESYNC_SECONDS).run())
    _task(stack, record.run())
    _task(stack, files.watch(lambda: files.look(data / "resources"), lambda: _again(engine)))
    return engine


def _router(arguments: argparse.Namespace, usage: Usage) -> Router:
    card.say("Starting the router ...")
    data: Path = arguments.data
    return Router(
        data / "config" / files.NAMESPACE,
        credentials=data / "credentials",
        port=arguments.port,
        management_port=arguments.management_port,
        usage=usage,
        log_file=data / "logs" / "router.log",
    )


def _models(resources: Path) -> tuple[str, ...]:
    """The models that the files name, and that of the example."""
    manifests = [manifest for _, manifest in files.read(resources).manifests.values()]
    specs = [m["spec"] for m in manifests if isinstance(m.get("spec"), dict)]
    named = {str(spec["modelName"]) for spec in specs if "modelName" in spec}
    return (EXAMPLE_MODEL, *sorted(named - {EXAMPLE_MODEL}))


def _example(resources: Path, found: dict[Kind, hosts.Host]) -> card.Example | None:
    """The resource the card speaks of: one that is there, or the one that is made with the folder.
    None in a folder that was emptied.
    """
    first = not resources.exists()
    resources.mkdir(parents=True, exist_ok=True)
    for file, manifest in files.read(resources).manifests.values():
        model = manifest.get("spec", {}).get("modelName", "MODEL")
        return card.Example(file=resources / file, model=str(model))
    if not first:
        return None
    models = found[Kind.OLLAMA].models
    made = card.Example(
        file=resources / "example.yaml", model=models[0] if models else EXAMPLE_MODEL
    )
    files.replace_file(made.file, card.EXAMPLE.format(name="example", model=made.model).encode())
    return made


async def _again(engine: Engine, router: Router | None = None) -> None:
    """Reconcile after a change; what fails is tried again by the resync. Credentials are news to
    the router too.
    """
    try:
        await engine.reconcile(files.NAMESPACE)
    except PortError as error:
        log.warning("reconcile_failed", extra={"detail": str(error)})
    if router is not None:
        await router.reload()


def _task(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Run something until the stack ends it."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)
