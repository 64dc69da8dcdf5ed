"""`llmb operator`: one process that keeps a cluster's published routes, record and statuses right.

It only wires: settings -> cluster, record -> engine -> resync, watches and kopf, and it sees to
their end. kopf has the main loop of the process; when its watch is lost for good the process exits,
and Kubernetes starts a new one.
"""

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress

from llm_operator import handlers, health, logs
from llm_operator.api import API, NotConfigured
from llm_operator.cluster import Cluster
from llm_operator.engine import Engine
from llm_operator.namespace import Ports
from llm_operator.objects import Objects
from llm_operator.ports import PortError
from llm_operator.publish.configmap import ConfigMapSink
from llm_operator.publish.secret import SecretVault
from llm_operator.record import InvalidDatabaseURL, Record
from llm_operator.resync import Resync
from llm_operator.settings import Settings, SettingsError, table
from llm_operator.watches import Watches

logger = logging.getLogger(__name__)

#: Exit codes: ended as asked; could not go on; not set up rightly.
ENDED, FAILED, WRONG = 0, 1, 2

#: Seconds between two looks at an API server that is not ready for the operator: at first, and at
#: most.
LOOK, LOOK_LONGEST = 1.0, 10.0

EXAMPLE = """\
example:
  LLMB_DATABASE_URL=postgresql://llmb:secret@postgres:5432/llmb llmb operator

The API server is found by KUBECONFIG, else by the pod's service account, else by ~/.kube/config.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command; all it takes are environment variables."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Watch LLMBackends; publish their routes, record them in Postgres, report in their status."
    )
    parser.epilog = f"settings (environment variables):\n{table()}\n\n{EXAMPLE}"


async def run(_: argparse.Namespace) -> int:
    """Run until a signal. Returns the exit status."""
    try:
        settings = Settings.from_environment(os.environ)
        logs.configure(settings.log_level)
        return await serve(settings)
    except (SettingsError, NotConfigured, InvalidDatabaseURL, health.NotListening) as error:
        sys.stderr.write(f"llmb operator: {error}\n")
        return WRONG
    except Exception:
        logger.exception("operator_failed")
        return FAILED


async def serve(settings: Settings, *, stop: asyncio.Event | None = None) -> int:
    """Run until `stop` is set or, in the main thread, until SIGTERM or SIGINT. Returns the exit
    code.

    Args:
        settings: of the operator.
        stop: ends it; belongs to the running loop.

    Raises:
        NotConfigured: nothing names an API server.
        InvalidDatabaseURL: the database URL can't be used.
        NotListening: the health address can't be listened on.
        Exception: the watch is lost for good.
    """
    stop = stop or asyncio.Event()
    ended_by_signal(stop)
    async with (
        await API.connect() as api,
        Record(settings.database_url) as record,
    ):
        cluster = Cluster(api, namespaces=settings.namespaces)
        watches = Watches(api, namespaces=settings.namespaces)
        objects = Objects(api, watches)
        ports = Ports(
            source=cluster,
            sink=ConfigMapSink(cluster),
            recorder=record,
            writer=cluster,
            finder=objects,
            vault=SecretVault(objects),
        )
        engine = Engine(ports, addresses=settings.addresses, pace=settings.pace)
        resync = Resync(engine, ports, every=settings.resync, only=settings.namespaces)
        watch = Watch()
        async with health.serving(
            settings.health_host,
            settings.health_port,
            healthy=lambda: watch.lost() or resync.stale(),
            ready=lambda: watch.pending() or resync.pending(),
        ):
            if not await admitted(cluster, stop):
                return ENDED if stop.is_set() else FAILED
            beside = (resync.run(), watches.run(engine.reconcile))
            await operate(engine, cluster, *beside, watch=watch, settings=settings, stop=stop)
    if not stop.is_set():
        logger.error("watch_ended")
        return FAILED
    logger.info("operator_ended")
    return ENDED


async def admitted(cluster: Cluster, stop: asyncio.Event) -> bool:
    """Whether the operator may start, waiting for the API server and the CRD as long as it takes.

    NB: kopf looks for the CRD once, at its start, and a missing right it would retry for ever in
    silence.
    """
    pause, told = LOOK, ""
    while not stop.is_set():
        try:
            if await cluster.serves():
                break
            problem = "the API server has no LLMBackends: install crds/llmbackends.yaml"
        except PortError as error:
            problem = str(error)
        if problem != told:
            logger.warning("waiting_for_api_server", extra={"detail": problem})
            told = problem
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, LOOK_LONGEST)
    return not stop.is_set() and await _allowed(cluster)


async def _allowed(cluster: Cluster) -> bool:
    lacking = await cluster.lacking()
    if lacking:
        logger.error("rights_missing", extra={"rights": lacking})
    return not lacking


async def operate(
    engine: Engine,
    cluster: Cluster,
    *beside: Coroutine[None, None, None],
    watch: "Watch",
    settings: Settings,
    stop: asyncio.Event,
) -> None:
    """Watch LLMBackends, and do what goes beside, until `stop` or until the watch is lost."""
    # NB: made before kopf starts; what is made later, kopf takes for its own and ends.
    tasks = [asyncio.create_task(work) for work in (*beside, _signals_again(watch, stop))]
    try:
        await handlers.watch(
            engine,
            cluster.session,
            namespaces=settings.namespaces,
            stop=stop,
            ready=watch.ready,
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await engine.close()


class Watch:
    """Whether kopf's watch is there. It asks the event loop, because kopf itself does not tell."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self._seen = False

    def pending(self) -> str:
        """What is missing until objects are watched; "" when nothing is."""
        return "" if self._there() else "the watch has not begun"

    def lost(self) -> str:
        """Why there is no watch any more; "" while there is one, and before the first."""
        return "the watch has ended" if not self._there() and self._seen else ""

    def _there(self) -> bool:
        there = any(task.get_name().startswith(handlers.WATCHER) for task in asyncio.all_tasks())
        self._seen = self._seen or there
        return there


def ended_by_signal(stop: asyncio.Event) -> None:
    """Let SIGTERM and SIGINT set `stop`; only the main thread can."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _signals_again(watch: Watch, stop: asyncio.Event) -> None:
    # NB: kopf puts its own handlers in place as it starts, after which an end that was asked for
    # looks like any other.
    await watch.ready.wait()
    ended_by_signal(stop)
