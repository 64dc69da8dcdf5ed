"""One operator at work, from a fresh start to its end: with an election, the time that it leads.

It only wires: cluster, record -> engine -> resync, watches, kopf and what goes on beside them, and
it sees to their end. All that is made here is made anew for a term, so that nothing known before it
is gone by.
"""

import asyncio
import signal
import threading
from collections.abc import Coroutine, Sequence
from importlib.metadata import version

from llm_operator import handlers
from llm_operator.api import API
from llm_operator.cluster import Cluster
from llm_operator.engine import Engine
from llm_operator.events import Events
from llm_operator.health import Check
from llm_operator.leader import Election, Gated, Pace
from llm_operator.metrics import Metrics
from llm_operator.namespace import Ports
from llm_operator.objects import Objects
from llm_operator.ports import Source, Teller, Witness
from llm_operator.publish.configmap import ConfigMapSink
from llm_operator.publish.fence import creator
from llm_operator.publish.secret import SecretVault
from llm_operator.record import Record
from llm_operator.resync import Resync
from llm_operator.routers.observer import Observer
from llm_operator.routers.pods import Pods
from llm_operator.settings import Settings
from llm_operator.watchdog import Overheard, Watchdog
from llm_operator.watches import Watches


class Term:
    """One operator, from its start to its end; with an election, of the time that it leads.

    Attributes:
        election: None where there is one replica.
        healthy: what /healthz asks.
        ready: what /readyz asks.
        well: what /readyz says when nothing is missing.
        metrics: what /metrics shows.
    """

    def __init__(self, settings: Settings, api: API) -> None:
        """Start nothing yet.

        Args:
            settings: of the operator.
            api: for the election alone.

        Raises:
            InvalidDatabaseURL: the database URL can't be used.
        """
        self.healthy: Check = lambda: ""
        self.ready: Check = lambda: "the API server was not looked at yet"
        self.well: Check = lambda: "ok"
        self.election: Election | None = None
        if settings.lease is not None:
            namespace, name = settings.lease
            pace = Pace.of(settings.lease_seconds)
            self.election = Election(api, namespace=namespace, name=name, pace=pace)
        self._settings = settings
        self._record = Record(settings.database_url, epoch=lambda: self.epoch)
        self.metrics = Metrics()
        self.metrics.observe_build(version("llm-backend"))
        self.metrics.observe_leader(lambda: self.leading)
        self.metrics.observe_record(lambda: self._record.up, self._record.stats)

    @property
    def epoch(self) -> int:
        """Of the leadership; 0 where there is no election."""
        return self.election.epoch if self.election else 0

    @property
    def leading(self) -> bool:
        """Whether anything may be written."""
        return self.election is None or self.election.leading

    def stand_by(self) -> None:
        """Be well, and do nothing."""
        self.ready, self.well = lambda: "", lambda: "standby"

    async def lead(self, stop: asyncio.Event) -> bool:
        """Work until `stop` is set or the watch is lost. Returns whether it was ended as asked."""
        async with await Gated.connected(lambda: self.leading) as api, self._record:
            cluster = Cluster(api, namespaces=self._settings.namespaces)
            watches = Watches(api, namespaces=self._settings.namespaces)
            watch, watchdog = Watch(), Watchdog(at_work=handlers.at_work)
            events, observer = Events(api), self._observer(api)
            ports = self._ports(
                api,
                cluster,
                source=Overheard(cluster, watchdog),
                finder=Objects(api, watches),
                routers=observer,
                tellers=(self.metrics, events),
            )
            engine, resync = self._engine(ports)
            self.metrics.observe_resync(lambda: resync.succeeded)
            self.metrics.observe_watch(lambda: watchdog.brought)
            self.metrics.observe_events(lambda: events.counts)
            self.healthy = lambda: watch.lost() or watchdog.deaf() or resync.stale()
            self.ready = lambda: watch.pending() or resync.pending()
            self.well = lambda: "ok"
            # What goes on beside the watch, and in a leader alone.
            beside: Sequence[Coroutine[None, None, None]] = (
                resync.run(),
                watches.run(engine.reconcile),
                observer.run(),
                events.run(),
                self._record.run(),
                watchdog.run(stop),
            )
            await self._operate(engine, cluster, *beside, watch=watch, watchdog=watchdog, stop=stop)
        return stop.is_set() and not watchdog.fault

    def _observer(self, api: API) -> Observer:
        settings = self._settings
        pods = Pods(api, port=settings.router_port, namespaces=settings.namespaces)
        return Observer(pods, every=settings.router_every, nudge=settings.nudge)

    def _engine(self, ports: Ports) -> tuple[Engine, Resync]:
        settings = self._settings
        engine = Engine(ports, addresses=settings.addresses, pace=settings.pace, meter=self.metrics)
        return engine, Resync(engine, ports, every=settings.resync, only=settings.namespaces)

    def _ports(
        self,
        api: API,
        cluster: Cluster,
        *,
        source: Source,
        finder: Objects,
        routers: Witness,
        tellers: Sequence[Teller],
    ) -> Ports:
        def epoch() -> int:
            return self.epoch

        return Ports(
            source=source,
            sink=ConfigMapSink(cluster, epoch=epoch, create=creator(api, "configmaps")),
            recorder=self._record,
            writer=cluster,
            finder=finder,
            vault=SecretVault(finder, epoch=epoch, create=creator(api, "secrets")),
            routers=routers,
            tellers=tellers,
        )

    async def _operate(
        self,
        engine: Engine,
        cluster: Cluster,
        *beside: Coroutine[None, None, None],
        watch: "Watch",
        watchdog: Watchdog,
        stop: asyncio.Event,
    ) -> None:
        """Watch LLMBackends, and do what goes beside, until `stop` or until the watch is lost."""
        tasks = [asyncio.create_task(work) for work in (*beside, _signals_again(watch, stop))]
        try:
            await handlers.watch(
                engine,
                cluster.session,
                watchdog=watchdog,
                namespaces=self._settings.namespaces,
                stop=stop,
                ready=watch.ready,
            )
        finally:
            # NB: kopf has taken the handlers away, and a second signal would end what is still to
            # do.
            ended_by_signal(stop)
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
