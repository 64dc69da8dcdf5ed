"""Keeps the rows of Postgres equal to the resources, and says of each resource whether its row is.

It never raises for a database that is away, slow or of an older schema. It never lists resources
and never tries again by itself: the caller does both. A deposed leader writes nothing. Data flows
resources -> `rows` -> `leadership`, `sync`, `history` -> a reason for each uid.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Self

from psycopg import DataError, IntegrityError

from llm_operator.reasons import DatabaseSynced
from llm_operator.record import history, leadership, sync
from llm_operator.record.database import Database, Unserved
from llm_operator.record.pool import Connection
from llm_operator.record.rows import author, row
from llm_operator.record.upkeep import Keep, Upkeep
from llm_operator.resource.model import Resource

logger = logging.getLogger(__name__)

Refusals = Mapping[str, DataError | IntegrityError]


class Record:
    """The tables of one database; an async context manager that opens without waiting for it."""

    def __init__(
        self,
        dsn: str,
        *,
        application_name: str = "llmb-operator",
        epoch: Callable[[], int] = lambda: 0,
        keep: Keep | None = None,
    ) -> None:
        """Check the URL; connect to nothing.

        Args:
            epoch: the leadership under which this process writes, asked for each transaction.
            keep: how long `run` keeps what.

        Raises:
            InvalidDatabaseURL: the URL can't be used.
        """
        self._database = Database(dsn, application_name=application_name)
        self._epoch = epoch
        self._upkeep = Upkeep(self._database, leads=self._leads, keep=keep or Keep())
        self._deposed = False
        #: namespace -> uid -> the generation whose values Postgres can't store.
        self._refused: dict[str, dict[str, int]] = {}

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._database.__aexit__()

    @property
    def retry_after(self) -> float:
        """Seconds to let pass before trying again what was not Synced; from 0.5 to 5."""
        return self._database.retry_after

    @property
    def up(self) -> bool | None:
        """Whether the database could be used when it was last tried; None before that."""
        return self._database.up

    def stats(self) -> Mapping[str, int]:
        """The connection pool's figures, under psycopg_pool's names."""
        return self._database.stats

    async def run(self) -> None:
        """Keep the tables in shape for ever: partitions of usage, hourly sums, an end to what is
        old. Never raises. Only a leader does it.
        """
        await self._upkeep.run()

    async def sync(
        self, namespace: str, resources: Sequence[Resource], *, epoch: int | None = None
    ) -> Mapping[str, DatabaseSynced]:
        """Make the live rows of a namespace equal to its resources, in one transaction.

        A resource without a usable spec keeps its row as it is, and so does a paused one. One that
        is being deleted loses its row, as one that is not given does.

        Args:
            namespace: where all the resources are.
            resources: all of one listing; of two listings the caller gives the older first.
            epoch: the leadership under which the caller writes; None for the record's own. Once a
                later one has written anything at all, this one writes nothing.

        Returns:
            The reason by uid:
            Synced: the row is at this generation; for a resource being deleted: it is gone.
            NotAccepted: no usable spec, or one with a value that Postgres can't store, which is
            logged once and not tried again at this generation.
            Pending: a row of a newer generation stands, so this listing is old; or the caller was
            deposed; or the resource is paused and its row at another generation.
            DatabaseUnavailable, SchemaOutdated: nothing is known; try again after `retry_after`.
        """
        refused = self._still_refused(namespace, resources)
        present = [resource for resource in resources if not resource.deleting]
        fresh = [
            (row(resource, resource.spec), author(resource))
            for resource in present
            if resource.spec is not None
            and not resource.paused
            and resource.identity.uid not in refused
        ]
        keep = [resource.identity.uid for resource in present]
        number = self._epoch() if epoch is None else epoch

        async def write(connection: Connection) -> tuple[dict[str, int], Refusals] | None:
            if not await self._leads(connection, number):
                return None
            await sync.claim(connection, namespace)
            await sync.tombstone(connection, namespace, keep=keep, epoch=number)
            errors = await sync.upsert(connection, [row for row, _ in fresh], epoch=number)
            await history.remember(connection, [author for _, author in fresh])
            return await sync.live(connection, namespace), errors

        try:
            written = await self._database.run(namespace, write)
        except Unserved as unserved:
            return {r.identity.uid: _unserved(r, refused, unserved.reason) for r in resources}
        if written is None:
            return {
                r.identity.uid: _unserved(r, refused, DatabaseSynced.PENDING) for r in resources
            }
        live, errors = written
        for resource in present:
            if error := errors.get(resource.identity.uid):
                _log_refused(resource, error)
                refused[resource.identity.uid] = resource.identity.generation
        self._remember(namespace, refused)
        return {resource.identity.uid: _served(resource, refused, live) for resource in resources}

    async def namespaces(self) -> frozenset[str]:
        """The namespaces that have live rows; none while the database can't say."""
        try:
            return await self._database.run("namespaces", sync.namespaces)
        except Unserved:
            return frozenset()

    async def _leads(self, connection: Connection, epoch: int | None = None) -> bool:
        """Whether this process may write, until the transaction ends."""
        mine = self._epoch() if epoch is None else epoch
        standing = await leadership.lead(connection, mine)
        if standing > mine and not self._deposed:
            logger.error("deposed", extra={"epoch": mine, "standing": standing})
        self._deposed = standing > mine
        return not self._deposed

    def _still_refused(self, namespace: str, resources: Sequence[Resource]) -> dict[str, int]:
        before = self._refused.get(namespace, {})
        now = {resource.identity.uid: resource.identity.generation for resource in resources}
        return {uid: generation for uid, generation in before.items() if now.get(uid) == generation}

    def _remember(self, namespace: str, refused: dict[str, int]) -> None:
        if refused:
            self._refused[namespace] = refused
        else:
            self._refused.pop(namespace, None)


def _served(
    resource: Resource, refused: Collection[str], live: Mapping[str, int]
) -> DatabaseSynced:
    identity = resource.identity
    if resource.deleting:
        return DatabaseSynced.PENDING if identity.uid in live else DatabaseSynced.SYNCED
    if resource.spec is None or identity.uid in refused:
        return DatabaseSynced.NOT_ACCEPTED
    at_generation = live.get(identity.uid) == identity.generation
    return DatabaseSynced.SYNCED if at_generation else DatabaseSynced.PENDING


def _unserved(
    resource: Resource, refused: Collection[str], reason: DatabaseSynced
) -> DatabaseSynced:
    if not resource.deleting and (resource.spec is None or resource.identity.uid in refused):
        return DatabaseSynced.NOT_ACCEPTED
    return reason


def _log_refused(resource: Resource, error: DataError | IntegrityError) -> None:
    # NB: not the error's text, which can quote the value.
    identity = resource.identity
    logger.error(
        "row_refused",
        extra={
            "namespace": identity.namespace,
            "resource": identity.name,
            "uid": identity.uid,
            "generation": identity.generation,
            "sqlstate": error.sqlstate,
            "error": type(error).__name__,
        },
    )
