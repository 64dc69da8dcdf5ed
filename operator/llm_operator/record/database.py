"""One database behind one breaker: work is done in a transaction, or there is a reason why not.

It decides who may try, whether the schema is new enough, and what an error means; what the work is
it never knows. It logs one line when the database goes and one when it comes back, and never any
part of the URL.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Self, TypeVar
from weakref import WeakSet

import psycopg
from psycopg_pool import PoolTimeout

from llm_operator.reasons import DatabaseSynced
from llm_operator.record.breaker import Breaker
from llm_operator.record.faults import Fault, fault
from llm_operator.record.pool import SIZE, Connection, Pool
from llm_operator.record.schema import VERSIONS, latest

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Unserved(Exception):
    """The work was not done, or the answer that it was got lost.

    Attributes:
        reason: DatabaseUnavailable or SchemaOutdated.
    """

    def __init__(self, reason: DatabaseSynced) -> None:
        super().__init__(reason.value)
        self.reason = reason


class _SchemaOutdated(Exception):
    """The versions table is older than this release."""


class Database:
    """An async context manager that opens without waiting for the server."""

    def __init__(self, dsn: str, *, application_name: str) -> None:
        self._pool = Pool(dsn, application_name=application_name)
        self._breaker = Breaker(clock=time.monotonic)
        # NB: more callers than connections queue here, because their turn in the pool would have a
        # deadline.
        self._slots = asyncio.Semaphore(SIZE)
        self._checked: WeakSet[Connection] = WeakSet()
        self._standing: DatabaseSynced | None = None
        self._held: set[str] = set()

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.__aexit__()

    @property
    def retry_after(self) -> float:
        """Seconds to let pass after `Unserved`; from 0.5 to 5."""
        return self._breaker.wait

    @property
    def up(self) -> bool | None:
        """Whether work could be done when it was last tried; None before the first time."""
        return None if self._standing is None else self._standing is DatabaseSynced.SYNCED

    @property
    def stats(self) -> Mapping[str, int]:
        """The figures of the pool of connections."""
        return self._pool.stats

    async def run(self, subject: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do some work in one transaction.

        Args:
            subject: what it is about, for the log.
            work: must be safe to do again.

        Raises:
            Unserved: at once while the breaker is open; else within a connect and a transaction
            timeout.
        """
        if not self._breaker.admits:
            raise Unserved(DatabaseSynced.DATABASE_UNAVAILABLE)
        async with self._slots:
            if not self._breaker.admit():
                raise Unserved(DatabaseSynced.DATABASE_UNAVAILABLE)
            try:
                async with self._pool.transaction() as connection:
                    await self._check_schema(connection)
                    done = await work(connection)
            except _SchemaOutdated as error:
                raise self._outdated(str(error)) from None
            except psycopg.Error as error:
                raise self._failed(subject, error) from None
            except BaseException:
                self._breaker.release()
                raise
        self._breaker.succeed()
        self._held.discard(subject)
        self._stand(DatabaseSynced.SYNCED, "database_available")
        return done

    async def _check_schema(self, connection: Connection) -> None:
        if connection in self._checked:
            return
        cursor = await connection.execute(f'SELECT max(version COLLATE "C") FROM {VERSIONS}')
        found = await cursor.fetchone()
        version = (found[0] if found else None) or "none"
        if version == "none" or version < latest():
            raise _SchemaOutdated(f"schema version {version}, needed {latest()}: run llmb migrate")
        self._checked.add(connection)

    def _failed(self, subject: str, error: psycopg.Error) -> Unserved:
        match fault(error):
            case Fault.OUTDATED:
                return self._outdated(_text(error))
            case Fault.HELD:
                self._breaker.succeed()
                if subject not in self._held:
                    self._held.add(subject)
                    details = {
                        "subject": subject,
                        "sqlstate": error.sqlstate,
                        "error": _text(error),
                    }
                    logger.warning("database_refused", extra=details)
            case Fault.AWAY:
                why = self._pool.why if isinstance(error, PoolTimeout) else None
                self._breaker.fail()
                self._stand(
                    DatabaseSynced.DATABASE_UNAVAILABLE, "database_unavailable", _text(why or error)
                )
        return Unserved(DatabaseSynced.DATABASE_UNAVAILABLE)

    def _outdated(self, error: str) -> Unserved:
        self._checked.clear()
        self._breaker.succeed()
        self._stand(DatabaseSynced.SCHEMA_OUTDATED, "database_schema_outdated", error)
        return Unserved(DatabaseSynced.SCHEMA_OUTDATED)

    def _stand(self, standing: DatabaseSynced, event: str, error: str = "") -> None:
        if standing is self._standing:
            return
        self._standing = standing
        if error:
            logger.warning(event, extra={"error": error})
        else:
            logger.info(event)


def _text(error: psycopg.Error) -> str:
    # NB: only the first line: the DETAIL and CONTEXT below it quote values of rows.
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
