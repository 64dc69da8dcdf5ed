"""The predecessor's two tables, read as JSON: one decoder for whatever types their columns have.

It only reads, in transactions that can't write, and holds no opinion on what it reads. No error
holds a value of a row or any part of the URL's password.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors

from llm_operator.record.dsn import InvalidDatabaseURL, conninfo
from llm_operator.record.pool import Connection

Row = Mapping[str, Any]

BACKENDS = "public.llm_backends"
METRICS = "public.llm_performance_metrics"
#: Rows that are fetched at once.
PIECE = 1000

_LIMITS = "SET LOCAL statement_timeout = '10min'; SET LOCAL timezone = 'UTC'"

# NB: the columns named here are those that the predecessor always had; one that is missing is an
# error with its name.
_BACKENDS = f"""
    SELECT to_jsonb(backend) FROM {BACKENDS} AS backend
    ORDER BY id, model_name, backend_type, endpoint_url
"""

_COUNT = f"SELECT count(*) FROM {METRICS}"

# In the order of time, and each with its position among those that have one request id and time.
_METRICS = f"""
    SELECT told, position FROM (
        SELECT id, "timestamp" AS at, to_jsonb(metric) AS told, row_number() OVER (
            PARTITION BY to_jsonb(metric) ->> 'request_id', "timestamp" ORDER BY id
        ) AS position
        FROM {METRICS} AS metric
    ) AS numbered
    ORDER BY at, id
"""


class Unreadable(Exception):
    """The table can't be read. The message says why."""


async def backends(url: str) -> list[Row]:
    """All rows of the table of backends.

    Raises:
        InvalidDatabaseURL: the URL can't be used.
        Unreadable: the database is away, or has no such table.
    """
    async with _reading(url, BACKENDS) as connection:
        cursor = await connection.execute(_BACKENDS)
        return [row async for (row,) in cursor]


@asynccontextmanager
async def metrics(url: str) -> AsyncIterator[tuple[int, AsyncIterator[list[tuple[Row, int]]]]]:
    """How many metrics there are, and all of them in pieces, oldest first.

    Each comes with its position, from 1, among those of one request id and time. Raises as
    `backends` does.
    """
    async with _reading(url, METRICS) as connection:
        counted = await (await connection.execute(_COUNT)).fetchone()
        assert counted is not None
        yield counted[0], _pieces(connection)


async def _pieces(connection: Connection) -> AsyncIterator[list[tuple[Row, int]]]:
    async with connection.cursor(name="metrics") as cursor:
        await cursor.execute(_METRICS)
        while rows := await cursor.fetchmany(PIECE):
            yield [(told, position) for told, position in rows]


@asynccontextmanager
async def _reading(url: str, table: str) -> AsyncIterator[Connection]:
    try:
        target = conninfo(url, application_name="llmb-import")
        async with await AsyncConnection.connect(target) as connection:
            await connection.set_read_only(True)
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await connection.execute(_LIMITS)
            yield connection
    except InvalidDatabaseURL:
        raise
    except errors.UndefinedTable:
        raise Unreadable(f"the database has no table {table}: is it the predecessor's?") from None
    except errors.UndefinedColumn as error:
        raise Unreadable(f"{table} is not the predecessor's: {_first(error)}") from None
    except (psycopg.Error, ValueError) as error:
        # NB: a number of thousands of digits, which Postgres has and Python refuses, is a
        # ValueError.
        raise Unreadable(f"{table} can't be read: {_first(error)}") from None


def _first(error: Exception) -> str:
    # NB: the lines below it quote values of rows.
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
