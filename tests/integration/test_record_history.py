"""The history of resources on a real Postgres: each generation once, who changed it, and when."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from llm_operator.reasons import DatabaseSynced
from llm_operator.record import Record
from llm_operator.resource.model import Resource
from parts.rows import Query, Rows, resource

SYNCED, PENDING = DatabaseSynced.SYNCED, DatabaseSynced.PENDING


def by(who: str, given: Resource, when: str = "2026-01-02T03:04:05Z") -> Resource:
    return replace(given, changed_by=who, changed_at=when)


async def entries(query: Query) -> Rows:
    return await query(
        "SELECT name, generation, change, changed_by FROM llmb.llm_backend_history ORDER BY id"
    )


async def untouched(query: Query) -> Rows:
    return await query("SELECT xmin, xmax, ctid, * FROM llmb.llm_backend_history ORDER BY id")


async def test_tells_each_generation_who_and_when(record: Record, query: Query) -> None:
    await record.sync("prod", [by("kubectl", resource("a"))])
    second = resource("a", generation=2, model_name="phi4", enabled=False)
    await record.sync("prod", [by("argocd", second, "2026-01-03T00:00:00Z")])
    await record.sync("prod", [])
    assert await entries(query) == [
        ("a", 1, "created", "kubectl"),
        ("a", 2, "changed", "argocd"),
        ("a", 2, "deleted", ""),
    ]
    first, changed, deleted = await query(
        "SELECT uid, namespace, model_name, enabled, spec ->> 'modelName', changed_at "
        "FROM llmb.llm_backend_history ORDER BY id"
    )
    assert first == (
        *("u-a", "prod", "phi3:mini", True, "phi3:mini"),
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    assert changed == ("u-a", "prod", "phi4", False, "phi4", datetime(2026, 1, 3, tzinfo=UTC))
    assert deleted[:5] == changed[:5]
    assert abs((datetime.now(UTC) - deleted[5]).total_seconds()) < 60


async def test_a_sync_again_writes_nothing(record: Record, query: Query) -> None:
    given = [by("kubectl", resource(f"r{n}")) for n in range(20)]
    await record.sync("prod", given)
    before = await untouched(query)
    assert len(before) == 20
    burnt = await query("SELECT last_value FROM llmb.llm_backend_history_id_seq")
    for who in ("kubectl", "somebody else"):
        await record.sync("prod", [replace(each, changed_by=who) for each in given])
    assert await untouched(query) == before
    assert await query("SELECT last_value FROM llmb.llm_backend_history_id_seq") == burnt


@pytest.mark.parametrize("when", ["", "yesterday", "2026-01-02T03:04:05", "0000-00-00T00:00:00Z"])
async def test_without_a_time_it_is_when_it_was_recorded(
    record: Record, query: Query, when: str
) -> None:
    assert await record.sync("prod", [by("", resource(), when)]) == {"u-phi": SYNCED}
    assert await query(
        "SELECT changed_by, changed_at = recorded_at FROM llmb.llm_backend_history"
    ) == [("", True)]


async def test_a_name_that_postgres_cannot_store_costs_nothing(
    record: Record, query: Query
) -> None:
    given = [by("a\0b", resource("a")), by("c\ud800", resource("b"))]
    assert await record.sync("prod", given) == {"u-a": SYNCED, "u-b": SYNCED}
    assert await entries(query) == [("a", 1, "created", "ab"), ("b", 1, "created", "c?")]


async def test_a_row_repaired_is_no_new_entry(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a"), resource("b")])
    before = await untouched(query)
    await query("UPDATE llmb.llm_backends SET enabled = false WHERE name = 'a'")
    await query("DELETE FROM llmb.llm_backends WHERE name = 'b'")
    await record.sync("prod", [resource("a"), resource("b")])
    assert await untouched(query) == before


async def test_what_another_release_wrote_is_entered_at_the_next_sync(
    record: Record, query: Query
) -> None:
    await record.sync("prod", [resource("a")])
    await query("DELETE FROM llmb.llm_backend_history")
    await query("UPDATE llmb.llm_backends SET generation = 4")
    assert await record.sync("prod", [by("helm", resource("a", generation=4))]) == {"u-a": SYNCED}
    assert await entries(query) == [("a", 4, "created", "helm")]


async def test_what_comes_back_under_its_uid_was_not_deleted(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a")])
    await record.sync("prod", [])
    assert await entries(query) == [("a", 1, "created", ""), ("a", 1, "deleted", "")]
    await record.sync("prod", [resource("a")])
    assert await entries(query) == [("a", 1, "created", "")]
    await record.sync("prod", [])
    assert await entries(query) == [("a", 1, "created", ""), ("a", 1, "deleted", "")]


@pytest.mark.check(15)
async def test_a_name_made_anew_has_a_history_of_its_own(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a", uid="u-1", generation=3)])
    await record.sync("prod", [resource("a", uid="u-2")])
    assert await query(
        "SELECT uid, generation, change FROM llmb.llm_backend_history ORDER BY uid, id"
    ) == [("u-1", 3, "created"), ("u-1", 3, "deleted"), ("u-2", 1, "created")]


async def test_what_is_not_written_is_not_entered(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a", generation=5)])
    await record.sync("prod", [resource("a", generation=4), resource("b", description="\0")])
    assert await entries(query) == [("a", 5, "created", "")]


async def test_a_paused_resource_keeps_its_row(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a"), resource("b")])
    rows = "SELECT xmin, xmax, ctid, * FROM llmb.llm_backends ORDER BY id"
    before = await query(rows), await untouched(query)
    paused = [replace(resource(name, generation=2), paused=True) for name in ("a", "new")]
    assert await record.sync("prod", [*paused, resource("b")]) == {
        "u-a": PENDING,
        "u-new": PENDING,
        "u-b": SYNCED,
    }
    same = replace(resource("a"), paused=True)
    assert await record.sync("prod", [same, resource("b")]) == {"u-a": SYNCED, "u-b": SYNCED}
    assert (await query(rows), await untouched(query)) == before
    going = replace(paused[0], deleting=True)
    assert await record.sync("prod", [going, resource("b")]) == {"u-a": SYNCED, "u-b": SYNCED}
    assert await query("SELECT name FROM llmb.llm_backends WHERE deleted_at IS NULL") == [("b",)]


async def test_tells_whether_the_database_is_up_and_how_its_pool_is(
    database: str, migrated: str
) -> None:
    async with Record(migrated) as record:
        assert record.up is None
        await record.sync("prod", [])
        assert record.up is True
        stats = record.stats()
        assert stats["pool_max"] == 5
        assert stats["pool_size"] >= 1
        assert stats["requests_num"] >= 1
