"""The statements of the previous release, kept as they were, on its own schema and on this one.

An operator of that release may still run after `llmb migrate`; what it wrote it has to find, and
what it may not overwrite has to stay.
"""

from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from llm_operator import migrate
from llm_operator.reasons import DatabaseSynced
from llm_operator.record import Record, schema
from parts.rows import resource

STATEMENTS = Path(__file__).parent / "previous_release"

#: The newest file of the previous release.
ITS_VERSION = "0001"

pytestmark = pytest.mark.check(31)

ROW: dict[str, Any] = {
    "uid": "u-1",
    "namespace": "prod",
    "name": "phi",
    "generation": 1,
    "model_name": "phi3:mini",
    "backend_type": "auto",
    "endpoint_url": "http://mac:8080",
    "enabled": True,
    "priority": 100,
    "max_tokens": None,
    "temperature_default": 0.0,
    "timeout_seconds": 60,
    "keep_alive_seconds": None,
    "description": "Fast",
    "spec": {"modelName": "phi3:mini"},
}


class Previous:
    """What the previous release does, each call in a transaction."""

    def __init__(self, connection: AsyncConnection[TupleRow]) -> None:
        self._connection = connection

    async def sync(
        self, *rows: dict[str, Any], keep: Sequence[str] | None = None
    ) -> dict[str, int]:
        kept = [row["uid"] for row in rows] if keep is None else list(keep)
        async with self._connection.transaction():
            await self.ask("tombstone", {"namespace": "prod", "keep": kept, "epoch": 0})
            if rows:
                await self.ask("upsert", {"rows": Jsonb(list(rows)), "epoch": 0})
            return dict(await self.ask("live", ("prod",)))

    async def ask(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        query = (STATEMENTS / f"{statement}.sql").read_text(encoding="utf-8")
        cursor = await self._connection.execute(query.encode(), values)
        return await cursor.fetchall() if cursor.description else []

    async def table(self) -> list[tuple[Any, ...]]:
        cursor = await self._connection.execute(
            "SELECT xmin, xmax, ctid, * FROM llmb.llm_backends ORDER BY id"
        )
        return await cursor.fetchall()


@pytest.fixture(params=["its own schema", "this schema"])
async def previous(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Previous]:
    known = schema.migrations()
    if request.param == "its own schema":
        known = tuple(each for each in known if each.version <= ITS_VERSION)
    await migrate.apply(database, known, say=lambda _: None)
    async with await AsyncConnection.connect(database, autocommit=True) as connection:
        yield Previous(connection)


async def test_finds_the_schema_new_enough(previous: Previous) -> None:
    ((version,),) = await previous.ask("version")
    assert version >= ITS_VERSION


async def test_writes_updates_and_leaves_alone(previous: Previous) -> None:
    other = ROW | {"uid": "u-2", "name": "other"}
    assert await previous.sync(ROW, other) == {"u-1": 1, "u-2": 1}
    before = await previous.table()
    assert await previous.sync(ROW, other) == {"u-1": 1, "u-2": 1}
    assert await previous.table() == before
    changed = ROW | {"generation": 2, "max_tokens": 5}
    assert await previous.sync(changed, other) == {"u-1": 2, "u-2": 1}
    assert [row[6] for row in await previous.table()] == ["other", "phi"]
    assert await previous.ask("namespaces") == [("prod",)]


async def test_never_goes_back(previous: Previous) -> None:
    await previous.sync(ROW | {"generation": 5})
    before = await previous.table()
    assert await previous.sync(ROW | {"generation": 4, "description": "old"}) == {"u-1": 5}
    assert await previous.table() == before


async def test_deletes_and_makes_anew(previous: Previous) -> None:
    await previous.sync(ROW)
    assert await previous.sync() == {}
    assert await previous.ask("namespaces") == []
    assert await previous.sync(ROW) == {"u-1": 1}
    assert await previous.sync(ROW | {"uid": "u-2"}) == {"u-2": 1}


async def test_leaves_out_a_name_that_is_taken(previous: Previous) -> None:
    await previous.sync(ROW)
    assert await previous.sync(ROW | {"uid": "u-2"}, keep=["u-1", "u-2"]) == {"u-1": 1}


async def test_the_two_releases_share_the_table(database: str) -> None:
    await migrate.migrate(database, say=lambda _: None)
    async with (
        Record(database) as record,
        await AsyncConnection.connect(database, autocommit=True) as connection,
    ):
        previous = Previous(connection)
        synced = {"u-1": DatabaseSynced.SYNCED}
        assert await record.sync("prod", [resource(uid="u-1")]) == synced
        assert await previous.sync(ROW | {"generation": 2}) == {"u-1": 2}
        assert await record.sync("prod", [resource(uid="u-1", generation=3)]) == synced
        assert await previous.sync() == {}
        assert await record.sync("prod", [resource(uid="u-1", generation=3)]) == synced


def test_this_release_only_widens_what_the_previous_one_made() -> None:
    """A file that takes something away would break whoever still runs."""
    for migration in schema.migrations():
        if migration.version <= ITS_VERSION:
            continue
        content = (files("llm_operator.migrations") / migration.file).read_text(encoding="utf-8")
        up = content.partition("-- migrate:down")[0].upper()
        for taking in ("DROP ", "RENAME ", "ALTER COLUMN", "TRUNCATE "):
            assert taking not in up, f"{migration.file}: {taking}"
