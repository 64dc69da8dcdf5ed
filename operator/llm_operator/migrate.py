"""`llmb migrate`: brings the schema of a database to this release.

It applies what is pending, each file in its own transaction, and never runs a down section. Any
number of starters may run it at once: one applies, the others wait and find nothing to do. The
operator never migrates; it only compares versions. Data flows migrations/ -> `record.schema` ->
here -> Postgres.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable
from psycopg.rows import TupleRow

from llm_operator.record import schema
from llm_operator.record.dsn import InvalidDatabaseURL, conninfo
from llm_operator.record.schema import VERSIONS, InvalidMigration, Migration

Connection = AsyncConnection[TupleRow]
Say = Callable[[str], None]

#: The variable that holds the database URL.
URL_VARIABLE = "LLMB_DATABASE_URL"
#: Key of the advisory lock.
LOCK = 0x6C6C6D626D696772
#: Seconds to wait for another starter, and between two looks at its lock.
LOCK_DEADLINE = 60.0
LOCK_POLL = 0.2
#: How often a file is tried while others use the tables it changes, and the pause between two
#: tries.
TRIES = 5
TRY_PAUSE = 1.0

SESSION = "SET statement_timeout = 0; SET lock_timeout = '5s'"

_COLUMNS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""

# A table that dbmate made has the first column only.
_PREPARE = f"""
    CREATE SCHEMA IF NOT EXISTS llmb;
    CREATE TABLE IF NOT EXISTS {VERSIONS} (version text PRIMARY KEY);
    ALTER TABLE {VERSIONS}
        ADD COLUMN IF NOT EXISTS checksum text,
        ADD COLUMN IF NOT EXISTS applied_at timestamptz DEFAULT now();
"""


class MigrationError(Exception):
    """The schema could not be brought to this release; each message names the file or the cause.

    MigrationError
    ├── NotConnected   the database is away, or refuses the user
    ├── Locked         another migration holds the lock past the deadline
    ├── Changed        a file is not what it was when it was applied
    └── Failed         a file failed; it left nothing behind, unless it is marked transaction:false
    """


class NotConnected(MigrationError):
    """The database is away, or refuses the user."""


class Locked(MigrationError):
    """Another migration holds the lock past the deadline."""


class Changed(MigrationError):
    """A file is not what it was when it was applied."""


class Failed(MigrationError):
    """A file failed."""


def latest() -> str:
    """The newest version this release knows."""
    return schema.latest()


async def migrate(dsn: str, *, say: Say) -> tuple[str, ...]:
    """Apply what is pending, oldest first.

    Args:
        dsn: the database URL. NB: of the server itself, not of a pooler that shares sessions, which
        loses the lock.
        say: takes one line for each step.

    Returns:
        The names of the files it applied.

    Raises:
        InvalidDatabaseURL: the URL can't be used.
        InvalidMigration: a file of this release can't be read.
        MigrationError: see there.
    """
    return await apply(dsn, schema.migrations(), say=say)


async def apply(dsn: str, migrations: Sequence[Migration], *, say: Say) -> tuple[str, ...]:
    """As `migrate`, with other files than this release's."""
    async with _connected(dsn) as connection:
        await _lock(connection, say)
        await _prepare(connection)
        pending = await _pending(connection, migrations)
        for migration in pending:
            await _apply(connection, migration, say)
            say(f"applied {migration.file}")
    return tuple(migration.file for migration in pending)


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Connection]:
    target = conninfo(dsn, application_name="llmb-migrate")
    try:
        connection = await AsyncConnection.connect(target, autocommit=True)
    except psycopg.Error as error:
        raise NotConnected(f"can't connect to the database: {error}") from None
    async with connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise Failed(f"the database failed: {error}") from error


async def _lock(connection: Connection, say: Say) -> None:
    # NB: polled, because a session blocked in pg_advisory_lock holds a snapshot, which CREATE INDEX
    # CONCURRENTLY in the session that has the lock would wait for.
    deadline = time.monotonic() + LOCK_DEADLINE
    told = False
    await connection.execute(SESSION)
    while not await _one(connection, "SELECT pg_try_advisory_lock(%s)", LOCK):
        if time.monotonic() >= deadline:
            raise Locked(
                f"another migration has held the lock for {LOCK_DEADLINE:.0f} s: see pg_locks "
                f"(locktype advisory) for its pid"
            )
        if not told:
            say("waiting for another migration")
            told = True
        await asyncio.sleep(LOCK_POLL)


async def _prepare(connection: Connection) -> None:
    # NB: looked at first, because even an ALTER TABLE that changes nothing takes the table's
    # exclusive lock.
    cursor = await connection.execute(_COLUMNS, (VERSIONS,))
    columns = {name async for (name,) in cursor}
    if not columns >= {"version", "checksum", "applied_at"}:
        async with connection.transaction():
            await connection.execute(_PREPARE)


async def _pending(
    connection: Connection, migrations: Sequence[Migration]
) -> tuple[Migration, ...]:
    cursor = await connection.execute(f"SELECT version, checksum FROM {VERSIONS}")
    applied: dict[str, str | None] = dict(await cursor.fetchall())
    for migration in migrations:
        checksum = applied.get(migration.version)
        if checksum is not None and checksum != migration.checksum:
            raise Changed(
                f"{migration.file} was changed after it was applied to this database: "
                f"restore the file and put the change into a new one"
            )
        if migration.version in applied and checksum is None:  # applied by dbmate, which keeps none
            await connection.execute(
                f"UPDATE {VERSIONS} SET checksum = %s WHERE version = %s",
                (migration.checksum, migration.version),
            )
    return tuple(migration for migration in migrations if migration.version not in applied)


async def _apply(connection: Connection, migration: Migration, say: Say) -> None:
    for left in reversed(range(TRIES)):
        try:
            async with connection.transaction() if migration.transaction else nullcontext():
                await connection.execute(migration.up)
                await connection.execute(
                    f"INSERT INTO {VERSIONS} (version, checksum) VALUES (%s, %s)",
                    (migration.version, migration.checksum),
                )
            return
        except LockNotAvailable as error:
            # What ran outside a transaction can't be run again from its start.
            if not left or not migration.transaction:
                raise Failed(
                    f"{migration.file}: the tables it changes are in use: {error}"
                ) from error
            say(f"{migration.file}: the tables it changes are in use, trying again")
            await asyncio.sleep(TRY_PAUSE)
        except psycopg.Error as error:
            raise Failed(f"{migration.file}: {error}") from error


async def _one(connection: Connection, query: str, value: object) -> object:
    row = await (await connection.execute(query, (value,))).fetchone()
    return row[0] if row else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `llmb migrate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "Run it before the operator of a new release starts. Exits 0 when the schema is of this\n"
        "release, 1 when it could not get there, 2 without a usable database URL.\n\n"
        "example:\n"
        f"  {URL_VARIABLE}=postgresql://llmb:PASSWORD@db.example:5432/llmb llmb migrate"
    )
    parser.add_argument(
        "--database-url",
        metavar="URL",
        help=f"the database itself, not a pooler (default: ${URL_VARIABLE}, unseen by ps)",
    )


async def run(arguments: argparse.Namespace) -> int:
    """Do what `llmb migrate` does, and return its exit status."""
    url = arguments.database_url or os.environ.get(URL_VARIABLE, "")
    if not url:
        sys.stderr.write(
            f"llmb migrate: no database URL: set {URL_VARIABLE} or give --database-url\n"
        )
        return 2
    try:
        applied = await migrate(url, say=_say)
    except InvalidDatabaseURL as error:
        sys.stderr.write(f"llmb migrate: {error}\n")
        return 2
    except (MigrationError, InvalidMigration) as error:
        sys.stderr.write(f"llmb migrate: {error}\n")
        return 1
    if not applied:
        _say(f"nothing to apply: the schema is at version {latest()}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
