"""Connections to the database, each wait on them bounded.

It decides nothing about availability: it hands out a connection in a transaction within a few
seconds, or raises a `psycopg.Error`. Opening it never waits for the database.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from llm_operator.record.dsn import conninfo

Connection = AsyncConnection[TupleRow]

#: Transactions at one time.
SIZE = 5
#: Seconds until a connection is at hand, the check of an idle one included.
CHECKOUT = 3.0
CHECK = 1.5
#: Seconds for a whole transaction; each statement of it has less.
TRANSACTION = 8.0
#: Seconds until the pool gives up on a connection it can't make; the next checkout tries anew.
#: NB: the pauses between its tries double up to this number; the default of 300 would leave a
#: database that is back unused for minutes.
RECONNECT = 3.0
#: Seconds for attempts under way when closing.
CLOSE = 1.0

# NB: set in each transaction: PgBouncer refuses `options` at start-up and shares sessions.
_LIMITS = """
    SELECT set_config('statement_timeout', '5000', true), set_config('lock_timeout', '2000', true),
        set_config('idle_in_transaction_session_timeout', '10000', true)
"""


class Pool:
    """A pool of connections; an async context manager.

    Attributes:
        why: the last error of connecting, which a checkout that ran out of time does not tell.
    """

    def __init__(self, dsn: str, *, application_name: str) -> None:
        self.why: psycopg.Error | None = None
        self._pool = AsyncConnectionPool(
            conninfo(dsn, application_name=application_name),
            # PgBouncer before 1.22 loses prepared statements.
            kwargs={"autocommit": True, "prepare_threshold": None},
            connection_class=self._class(),
            name="llmb",
            open=False,
            min_size=1,
            max_size=SIZE,
            timeout=CHECKOUT,
            max_lifetime=3600.0,
            reconnect_timeout=RECONNECT,
            configure=_read_committed,
            check=self._check,
        )

    def _class(self) -> type[Connection]:
        pool = self

        class Noting(Connection):
            """A connection whose failure to be made is kept."""

            @classmethod
            async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
                try:
                    made = await super().connect(conninfo, **kwargs)
                except psycopg.Error as error:
                    pool.why = error
                    raise
                pool.why = None
                return made

        return Noting

    async def __aenter__(self) -> Self:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close(timeout=CLOSE)

    @property
    def stats(self) -> Mapping[str, int]:
        """The pool's own figures, by its own names."""
        return self._pool.get_stats()

    async def _check(self, connection: Connection) -> None:
        try:
            with _severed_after(connection, CHECK):
                await self._pool.check_connection(connection)
        except psycopg.Error:
            # NB: the pool pauses longer after each dead connection it meets, and a restart of the
            # server kills all; so when one is dead, none of the others is asked.
            await self._pool.drain()
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction, which commits at the end.

        Raises:
            psycopg.Error: none at hand in time, or it broke, or it took too long.
        """
        async with self._pool.connection() as connection:
            with _severed_after(connection, TRANSACTION):
                async with connection.transaction():
                    await connection.execute(_LIMITS)
                    yield connection


async def _read_committed(connection: Connection) -> None:
    # NB: said, because a server can have another default, and a statement has to see what was
    # committed while the one before it waited for a lock.
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)


@contextmanager
def _severed_after(connection: Connection, seconds: float) -> Iterator[None]:
    """Shut the socket when the block takes too long: what waits on it gets an OperationalError.

    NB: not asyncio.timeout: on a cancel psycopg asks the server to cancel and waits for it, and a
    server that never answers would be waited for again.
    """
    timer = asyncio.get_running_loop().call_later(seconds, _sever, connection)
    try:
        yield
    finally:
        timer.cancel()


def _sever(connection: Connection) -> None:
    with (
        suppress(OSError, psycopg.OperationalError),  # closed in the meantime
        socket.socket(fileno=os.dup(connection.fileno())) as peer,
    ):
        peer.shutdown(socket.SHUT_RDWR)
