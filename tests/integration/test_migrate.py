"""`llmb migrate` on a real Postgres: once, in order, and never over a file that changed."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

import pytest
from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation

from llm_operator import migrate
from llm_operator.record import InvalidDatabaseURL, schema
from llm_operator.record.schema import parse
from parts.eventually import eventually_async
from parts.postgres import Postgres

Rows = list[tuple[Any, ...]]
Query = Callable[..., Awaitable[Rows]]

TABLE = parse("9001_t.sql", "-- migrate:up\nCREATE TABLE llmb.t (a int);\n")


def quiet(_: str) -> None:
    """Nobody listens."""


@pytest.fixture
async def query(database: str) -> AsyncIterator[Query]:
    """Run one statement beside what is tested."""
    async with await AsyncConnection.connect(database, autocommit=True) as connection:

        async def run(statement: str, *values: object) -> Rows:
            cursor = await connection.execute(statement, values or None)
            return await cursor.fetchall() if cursor.description else []

        yield run


async def versions(query: Query) -> Rows:
    return await query("SELECT version, checksum FROM llmb.schema_migrations ORDER BY version")


async def test_applies_all_of_the_release_to_an_empty_database(database: str, query: Query) -> None:
    said: list[str] = []
    applied = await migrate.migrate(database, say=said.append)
    names = [migration.file for migration in schema.migrations()]
    assert list(applied) == names
    assert said == [f"applied {file}" for file in names]
    assert await versions(query) == [(m.version, m.checksum) for m in schema.migrations()]
    assert await query("SELECT count(*) FROM llmb.llm_backends") == [(0,)]


async def test_a_second_run_changes_nothing(database: str, query: Query) -> None:
    await migrate.migrate(database, say=quiet)
    before = await query("SELECT xmin, * FROM llmb.schema_migrations")
    assert await migrate.migrate(database, say=quiet) == ()
    assert await query("SELECT xmin, * FROM llmb.schema_migrations") == before


async def test_leaves_the_predecessors_table_alone(database: str, query: Query) -> None:
    await query("CREATE TABLE public.llm_backends (id serial PRIMARY KEY, model_name text UNIQUE)")
    await query("INSERT INTO public.llm_backends (model_name) VALUES ('phi3:mini')")
    await migrate.migrate(database, say=quiet)
    assert await query("SELECT model_name FROM public.llm_backends") == [("phi3:mini",)]
    assert await query("SELECT count(*) FROM llmb.llm_backends") == [(0,)]


async def test_names_are_unique_among_live_rows_only(database: str, query: Query) -> None:
    await migrate.migrate(database, say=quiet)
    insert = """
        INSERT INTO llmb.llm_backends (uid, namespace, name, generation, model_name, backend_type,
            enabled, priority, timeout_seconds, description, spec, deleted_at)
        VALUES (%s, 'prod', 'phi', 1, 'm', 'ollama', true, 1, 1, '', '{}', %s)
    """
    await query(insert, "u-1", "2026-01-01")
    await query(insert, "u-2", "2026-01-02")
    await query(insert, "u-3", None)
    with pytest.raises(UniqueViolation):
        await query(insert, "u-4", None)
    with pytest.raises(UniqueViolation):
        await query(insert, "u-1", "2026-01-01")


@pytest.mark.check(30)
async def test_two_starters_at_once_apply_once_and_both_succeed(
    database: str, query: Query
) -> None:
    slow = parse("9001_slow.sql", "-- migrate:up\nSELECT pg_sleep(0.7);\nCREATE TABLE llmb.t ();\n")
    said: list[list[str]] = [[], []]
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(
            *(migrate.apply(database, [slow], say=lines.append) for lines in said)
        )
    assert sorted(outcomes) == [(), ("9001_slow.sql",)]
    assert ["waiting for another migration"] in said
    assert await versions(query) == [("9001", slow.checksum)]


@pytest.mark.check(30)
async def test_five_starters_on_the_real_files(database: str, query: Query) -> None:
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*(migrate.migrate(database, say=quiet) for _ in range(5)))
    assert sorted(len(applied) for applied in outcomes) == [0] * 4 + [len(schema.migrations())]
    assert len(await versions(query)) == len(schema.migrations())


@pytest.mark.check(30)
async def test_an_edited_file_is_refused_by_name(database: str, query: Query) -> None:
    await migrate.apply(database, [TABLE], say=quiet)
    edited = parse(TABLE.file, "-- migrate:up\nCREATE TABLE llmb.t (a int, b int);\n")
    later = parse("9002_u.sql", "-- migrate:up\nCREATE TABLE llmb.u ();\n")
    with pytest.raises(migrate.Changed, match=r"9001_t\.sql was changed"):
        await migrate.apply(database, [edited, later], say=quiet)
    assert await versions(query) == [(TABLE.version, TABLE.checksum)]
    assert await query("SELECT to_regclass('llmb.u')") == [(None,)]


async def test_a_failed_file_leaves_nothing_and_those_before_it_stay(
    database: str, query: Query
) -> None:
    broken = parse("9002_x.sql", "-- migrate:up\nCREATE TABLE llmb.x ();\nSELECT nothing_here;\n")
    with pytest.raises(migrate.Failed, match=r"9002_x\.sql.*nothing_here"):
        await migrate.apply(database, [TABLE, broken], say=quiet)
    assert await versions(query) == [(TABLE.version, TABLE.checksum)]
    assert await query("SELECT to_regclass('llmb.t')::text, to_regclass('llmb.x')") == [
        ("llmb.t", None)
    ]
    mended = parse("9002_x.sql", "-- migrate:up\nCREATE TABLE llmb.x ();\n")
    assert await migrate.apply(database, [TABLE, mended], say=quiet) == ("9002_x.sql",)


async def test_what_cannot_run_in_a_transaction_runs_outside_of_one(
    database: str, query: Query
) -> None:
    statement = "CREATE INDEX CONCURRENTLY t_a ON llmb.t (a);"
    outside = parse("9002_i.sql", f"-- migrate:up transaction:false\n{statement}\n")
    inside = parse("9002_i.sql", f"-- migrate:up\n{statement}\n")
    with pytest.raises(migrate.Failed, match="transaction"):
        await migrate.apply(database, [TABLE, inside], say=quiet)
    assert await migrate.apply(database, [TABLE, outside], say=quiet) == ("9002_i.sql",)
    valid = await query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'llmb.t_a'::regclass")
    assert valid == [(True,)]


async def test_waiting_starters_do_not_stop_an_index_built_concurrently(database: str) -> None:
    table = parse("9001_t.sql", "-- migrate:up\nCREATE TABLE llmb.t AS SELECT 1 AS a;\n")
    index = parse(
        "9002_i.sql",
        "-- migrate:up transaction:false\nCREATE INDEX CONCURRENTLY t_a ON llmb.t (a);\n",
    )
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(
            *(migrate.apply(database, [table, index], say=quiet) for _ in range(4))
        )
    assert sorted(len(applied) for applied in outcomes) == [0, 0, 0, 2]


async def test_takes_over_from_dbmate(database: str, query: Query) -> None:
    first, *_ = schema.migrations()
    # What dbmate leaves behind: its own table, one column, no checksums.
    await query("CREATE SCHEMA llmb")
    await query("CREATE TABLE llmb.schema_migrations (version varchar(128) PRIMARY KEY)")
    await query(first.up)
    await query("INSERT INTO llmb.schema_migrations (version) VALUES (%s)", first.version)
    assert first.file not in await migrate.migrate(database, say=quiet)
    assert (first.version, first.checksum) in await versions(query)


async def test_dbmate_can_go_on_after_it(database: str, query: Query) -> None:
    await migrate.migrate(database, say=quiet)
    await query("CREATE SCHEMA IF NOT EXISTS llmb")
    await query("INSERT INTO llmb.schema_migrations (version) VALUES ('9999')")
    assert (await versions(query))[-1] == ("9999", None)
    assert await migrate.migrate(database, say=quiet) == ()


async def test_the_down_sections_take_back_what_the_up_sections_made(
    database: str, query: Query
) -> None:
    await migrate.migrate(database, say=quiet)
    for migration in reversed(schema.migrations()):
        content = (files("llm_operator.migrations") / migration.file).read_text(encoding="utf-8")
        await query(content.partition("-- migrate:down")[2])
    await query("DELETE FROM llmb.schema_migrations")
    assert len(await migrate.migrate(database, say=quiet)) == len(schema.migrations())


async def test_a_table_in_use_is_waited_for(
    database: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "SESSION", "SET lock_timeout = '100ms'")
    monkeypatch.setattr(migrate, "TRY_PAUSE", 0.05)
    await migrate.apply(database, [TABLE], say=quiet)
    change = parse("9002_c.sql", "-- migrate:up\nALTER TABLE llmb.t ADD b int;\n")
    said: list[str] = []
    async with await AsyncConnection.connect(database) as reader:
        await reader.execute("SELECT * FROM llmb.t")
        waiting = asyncio.create_task(migrate.apply(database, [TABLE, change], say=said.append))
        await eventually_async(lambda: said, within=10)
    assert await waiting == ("9002_c.sql",)
    assert said[0] == "9002_c.sql: the tables it changes are in use, trying again"


async def test_a_table_in_use_for_too_long_is_named(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "SESSION", "SET lock_timeout = '50ms'")
    monkeypatch.setattr(migrate, "TRY_PAUSE", 0.01)
    await migrate.apply(database, [TABLE], say=quiet)
    change = parse("9002_c.sql", "-- migrate:up\nALTER TABLE llmb.t ADD b int;\n")
    async with await AsyncConnection.connect(database) as reader:
        await reader.execute("SELECT * FROM llmb.t")
        with pytest.raises(migrate.Failed, match=r"9002_c\.sql: the tables it changes are in use"):
            await migrate.apply(database, [TABLE, change], say=quiet)


async def test_a_lock_that_is_never_freed_is_a_sentence(
    database: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_DEADLINE", 0.3)
    await query("SELECT pg_advisory_lock(%s)", migrate.LOCK)
    with pytest.raises(migrate.Locked, match="held the lock"):
        await migrate.migrate(database, say=quiet)


async def test_a_server_away_is_a_sentence(private_postgres: Postgres) -> None:
    uri = private_postgres.uri
    private_postgres.stop()
    async with asyncio.timeout(10):
        with pytest.raises(migrate.NotConnected, match="can't connect"):
            await migrate.migrate(uri, say=quiet)


async def test_a_bad_url_is_refused() -> None:
    with pytest.raises(InvalidDatabaseURL):
        await migrate.migrate("postgresql://u:a b@h/d", say=quiet)


class Command:
    """`llmb migrate` as the command line runs it."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser(prog="llmb migrate")
        migrate.add_arguments(self.parser)

    async def __call__(self, *arguments: str) -> int:
        return await migrate.run(self.parser.parse_args(arguments))


async def test_the_command_applies_and_says_so(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMB_DATABASE_URL", database)
    assert await Command()() == 0
    assert "applied 0001_llm_backends.sql\n" in capsys.readouterr().out
    assert await Command()() == 0
    said = capsys.readouterr().out
    assert said == f"nothing to apply: the schema is at version {migrate.latest()}\n"


async def test_the_flag_goes_before_the_variable(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMB_DATABASE_URL", "postgresql://nobody@/nothing?host=/nowhere")
    assert await Command()("--database-url", database) == 0


async def test_the_command_exits_1_when_it_could_not(
    database: str, query: Query, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await Command()("--database-url", database) == 0
    await query("UPDATE llmb.schema_migrations SET checksum = 'x' WHERE version = '0001'")
    assert await Command()("--database-url", database) == 1
    assert "0001_llm_backends.sql was changed" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("--database-url", "postgresql://u:canary x@h/d")])
async def test_the_command_exits_2_without_a_usable_url(
    arguments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LLMB_DATABASE_URL", raising=False)
    assert await Command()(*arguments) == 2
    said = capsys.readouterr().err
    assert "database URL" in said
    assert "canary" not in said


def test_its_help_has_an_example() -> None:
    said = Command().parser.format_help()
    assert "example:\n" in said
    assert "LLMB_DATABASE_URL" in said
