"""The parts behind API and page, put together: for a cluster, or for one machine's folder.

    cluster   API server -> gate, store, routers; Postgres -> archive
    folder    token file -> gate; resources/*.yaml -> store; embedded Postgres -> archive

It only wires, and sees to the end of what it began. Opening waits for no server.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from llm_operator.admin.access import ClusterGate, FileGate
from llm_operator.admin.archive import Archive
from llm_operator.admin.backends import Backends
from llm_operator.admin.fleet import Fleet
from llm_operator.admin.ports import Archive as ArchivePort
from llm_operator.admin.ports import Fleet as FleetPort
from llm_operator.admin.ports import Gate, Store
from llm_operator.admin.settings import Settings
from llm_operator.admin.store.cluster import ClusterStore
from llm_operator.admin.store.folder import FolderStore
from llm_operator.admin.traffic import Traffic
from llm_operator.admin.trial import Trial
from llm_operator.api import API
from llm_operator.routers.pods import Pods
from llm_operator.standalone.files import FolderSource
from llm_operator.standalone.routers import Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """All that API and page are built on.

    Attributes:
        trial: the router that the try-it box asks; None where none is named.
        namespace: of a backend for which none is named.
        standalone: one machine, where there is one token, one namespace and no GitOps.
    """

    gate: Gate
    store: Store
    archive: ArchivePort
    backends: Backends
    traffic: Traffic
    fleet: FleetPort
    trial: Trial | None
    namespace: str
    standalone: bool


@asynccontextmanager
async def cluster(settings: Settings) -> AsyncIterator[Admin]:
    """For the cluster that the environment names.

    Raises:
        NotConfigured: nothing names an API server.
        InvalidDatabaseURL: the database URL can't be used.
    """
    async with AsyncExitStack() as stack:
        archive = Archive(settings.database_url, application_name="llmb-admin")
        api = await stack.enter_async_context(await API.connect())
        store = ClusterStore(api, namespace=settings.namespace, namespaces=settings.namespaces)
        pods = Pods(api, port=settings.router_port, namespaces=settings.namespaces)
        yield await _opened(
            stack,
            gate=ClusterGate(api, audiences=settings.audiences),
            store=store,
            archive=archive,
            fleet=Fleet(pods),
            trial=_trial(settings.router_url, settings.router_management_url),
            standalone=False,
        )


@asynccontextmanager
async def folder(
    data: Path, *, token: Path, source: FolderSource, dsn: str, router: str, management: str
) -> AsyncIterator[Admin]:
    """For the data folder of `llmb up`.

    Args:
        data: with resources/, status/ and identities.json.
        token: the file with the one token.
        source: what the operator in this process reads the resources by.
        dsn: of the embedded Postgres.
        router: URL of the router.
        management: URL of its management port.

    Raises:
        TokenFileError: the token file can't be used.
    """
    async with AsyncExitStack() as stack:
        yield await _opened(
            stack,
            gate=FileGate(token),
            store=FolderStore(data, source=source),
            archive=Archive(dsn, application_name="llmb-up"),
            fleet=Fleet(Known(management)),
            trial=_trial(router, management),
            standalone=True,
        )


async def _opened(
    stack: AsyncExitStack,
    *,
    gate: Gate,
    store: ClusterStore | FolderStore,
    archive: Archive,
    fleet: Fleet,
    trial: Trial | None,
    standalone: bool,
) -> Admin:
    """The parts at work, until the stack ends them."""
    await stack.enter_async_context(archive)
    stack.push_async_callback(fleet.close)
    if trial is not None:
        stack.push_async_callback(trial.close)
    _task(stack, store.run())
    return Admin(
        gate=gate,
        store=store,
        archive=archive,
        backends=Backends(gate=gate, store=store, archive=archive),
        traffic=Traffic(gate=gate, store=store, archive=archive),
        fleet=fleet,
        trial=trial,
        namespace=store.namespace,
        standalone=standalone,
    )


def _trial(router: str | None, management: str | None) -> Trial | None:
    return Trial(router, management) if router else None


def _task(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Run something until the stack ends it."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)
