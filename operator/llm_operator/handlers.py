"""What kopf is used for: to watch LLMBackends, and to hold one back while it is being deleted.

Every handler only calls the engine, so create, update and resume are one thing, and kopf's memory
of an object decides nothing. It is the only module with kopf in it. Data flows watch -> handler ->
`engine`.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterator
from datetime import timedelta
from typing import Any, cast

import aiohttp
import kopf

from llm_operator.engine import Engine
from llm_operator.ports import PortError
from llm_operator.resource.model import FINALIZER, GROUP, PLURAL, VERSION
from llm_operator.resource.parse import is_paused
from llm_operator.watchdog import Watchdog

logger = logging.getLogger(__name__)

#: Seconds a deletion waits for the row to go; resync takes care of it later.
ROW_WAIT = 20.0
#: How long a deletion is held back by a configuration that can't be written.
PUBLISH_WAIT = timedelta(seconds=60)
#: How the name begins that kopf gives the task of a watch, and that of what works on one object.
#: NB: kopf promises neither; a test compares them with what it does.
WATCHER = f"watcher for {PLURAL}"
WORKER = "worker for "

#: The API server's address and a new session to it.
Connect = Callable[[], Awaitable[tuple[str, aiohttp.ClientSession]]]


class Backoffs:
    """Pauses between attempts at the API server: growing, jittered, without end.

    NB: kopf gives an API server up after the last pause, and its watch then ends. One that is away
    for minutes must not end the operator. It has no length, which is how kopf knows that there is
    no last one.
    """

    def __iter__(self) -> Iterator[float]:
        pause = 1.0
        while True:
            yield pause * random.uniform(0.5, 1.0)
            pause = min(pause * 2, 30.0)


class Everybodys(Collection[asyncio.Task[Any]]):
    """All tasks there are, as a set that kopf must not touch at its end.

    NB: kopf takes whatever task was made while it ran for its own, waits five seconds for it and
    cancels it: connections, a renewal of the Lease, the pool of the record. Its own tasks have
    ended by then.
    """

    def __contains__(self, task: object) -> bool:
        """Yes."""
        return True

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        """Whatever there is now."""
        return iter(asyncio.all_tasks())

    def __len__(self) -> int:
        """How many there are now."""
        return len(asyncio.all_tasks())


class Handled(kopf.AnnotationsDiffBaseStorage):
    """Which object at which generation was handled, as an annotation.

    NB: kopf would copy the whole spec there, and labels. This is all it takes to see a new spec;
    with the uid in it, an object restored from a backup or an export counts as new.
    """

    def __init__(self) -> None:
        super().__init__(prefix=GROUP, key="handled", v1=False)

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """What a change shows in."""
        if "deletionTimestamp" in body["metadata"] and (before := self.fetch(body=body)):
            # NB: a deletion is a generation too, and not worth a write to an object that goes.
            return before
        metadata = {key: body["metadata"][key] for key in ("uid", "generation")}
        if is_paused(body["metadata"]):
            # NB: an annotation makes no generation, and pausing must be noticed at once.
            metadata["paused"] = True
        return cast(kopf.BodyEssence, {"metadata": metadata})


async def watch(
    engine: Engine,
    connect: Connect,
    *,
    watchdog: Watchdog,
    namespaces: Collection[str],
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Watch until `stop` is set.

    Args:
        engine: what does the work; it is closed at the end.
        connect: for the watch; called again when its credentials are refused.
        watchdog: is told of everything the watch brings.
        namespaces: the ones to watch; empty for all.
        stop: ends it.
        ready: set when it is about to begin.

    Raises:
        Exception: the watch is lost for good.
    """
    tasks = await kopf.spawn_tasks(
        registry=registry(engine, connect, watchdog),
        clusterwide=not namespaces,
        namespaces=sorted(namespaces),
        standalone=True,
        stop_flag=stop,
        ready_flag=ready,
    )
    await kopf.run_tasks(tasks, ignored=Everybodys())


def at_work(uid: str) -> bool:
    """Whether the watch has brought something of an object that is being worked on."""
    names = (task.get_name() for task in asyncio.all_tasks())
    return any(name.startswith(WORKER) and uid in name for name in names)


def registry(engine: Engine, connect: Connect, watchdog: Watchdog) -> kopf.OperatorRegistry:
    """The handlers of one operator; nothing global, so several can run in one process."""
    handlers = kopf.OperatorRegistry()
    _overhear(handlers, watchdog)

    @kopf.on.login(registry=handlers, id="login")
    async def login(**_: Any) -> kopf.AiohttpSession:
        server, session = await connect()
        return kopf.AiohttpSession(server=server, aiohttp_session=session)

    @kopf.on.startup(registry=handlers, id="configure")
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        apply(settings)

    @kopf.on.cleanup(registry=handlers, id="close")
    async def close(**_: Any) -> None:
        # NB: before the watch's session is closed, so that nothing is begun in vain.
        await engine.close()

    @kopf.on.resume(GROUP, VERSION, PLURAL, registry=handlers, id="reconcile")
    @kopf.on.create(GROUP, VERSION, PLURAL, registry=handlers, id="reconcile")
    @kopf.on.update(GROUP, VERSION, PLURAL, registry=handlers, id="reconcile")
    async def reconcile(namespace: str | None, retry: int, **_: Any) -> None:
        assert namespace, "LLMBackends are namespaced"
        try:
            await engine.reconcile(namespace)
        except PortError as error:
            raise kopf.TemporaryError(str(error), delay=_pause(retry)) from None

    @kopf.on.delete(GROUP, VERSION, PLURAL, registry=handlers, id="delete")
    async def delete(
        namespace: str | None, name: str, uid: str, retry: int, runtime: timedelta, **_: Any
    ) -> None:
        assert namespace, "LLMBackends are namespaced"
        try:
            await engine.reconcile(namespace)
        except PortError as error:
            if runtime < PUBLISH_WAIT:
                raise kopf.TemporaryError(str(error), delay=_pause(retry)) from None
        if not await engine.forgotten(namespace, uid, within=ROW_WAIT):
            logger.warning("row_left", extra={"namespace": namespace, "resource": name, "uid": uid})

    return handlers


def _overhear(handlers: kopf.OperatorRegistry, watchdog: Watchdog) -> None:
    @kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers, id="hear")
    async def hear(uid: str, meta: kopf.Meta, event: kopf.RawEvent, **_: Any) -> None:
        watchdog.heard(uid, meta["generation"], gone=event["type"] == "DELETED")


def apply(settings: kopf.OperatorSettings) -> None:
    """How kopf runs.

    NB: the finalizer and the prefixes can't change later; kopf would take all objects for new.
    """
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.persistence.diffbase_storage = Handled()
    settings.peering.standalone = True
    # No watch of namespaces and CRDs, which would need rights on all of them.
    settings.scanning.disabled = True
    settings.networking.request_timeout = 15
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Backoffs()
    # NB: sent as it is, and the API server takes whole numbers only.
    settings.watching.server_timeout = 600
    settings.watching.reconnect_backoff = 1.0
    settings.execution.default_backoff = 10
    # Its events tell of kopf's handlers; what people want to know is in the conditions.
    settings.posting.enabled = False
    # Its last resort kills the process, and run has an own end.
    settings.process.ultimate_exiting_timeout = None


def _pause(retry: int) -> float:
    return float(min(60.0, 2.0 ** min(retry, 6)) * random.uniform(0.5, 1.0))
