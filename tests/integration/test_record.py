"""The record on a real Postgres: the rows of a namespace become equal to its resources."""

import asyncio
import logging
import time
from dataclasses import replace

import pytest
from psycopg import AsyncConnection

from llm_operator import migrate
from llm_operator.reasons import DatabaseSynced
from llm_operator.record import Record
from llm_operator.resource.model import Problem, Resource
from parts.eventually import eventually_async
from parts.rows import Query, Rows, resource

SYNCED = DatabaseSynced.SYNCED
PENDING = DatabaseSynced.PENDING
NOT_ACCEPTED = DatabaseSynced.NOT_ACCEPTED


def broken(name: str = "phi", *, generation: int = 2) -> Resource:
    return replace(
        resource(name, generation=generation),
        spec=None,
        problems=(Problem(path="spec.modelName", message="is empty"),),
    )


async def live(query: Query) -> dict[str, int]:
    rows = await query("SELECT name, generation FROM llmb.llm_backends WHERE deleted_at IS NULL")
    return dict(rows)


async def behind(query: Query) -> None:
    """As if the newest migration had not been applied."""
    await query("DELETE FROM llmb.schema_migrations WHERE version = %s", migrate.latest())


async def untouched(query: Query) -> Rows:
    """What any write or lock of a row would change."""
    return await query("SELECT xmin, xmax, ctid, * FROM llmb.llm_backends ORDER BY id")


async def test_writes_every_column(record: Record, query: Query) -> None:
    assert await record.sync("prod", [resource(generation=4)]) == {"u-phi": SYNCED}
    assert await query(
        "SELECT uid, namespace, name, generation, epoch, model_name, backend_type, endpoint_url "
        "FROM llmb.llm_backends"
    ) == [("u-phi", "prod", "phi", 4, 0, "phi3:mini", "auto", "http://mac:8080")]
    assert await query(
        "SELECT enabled, priority, max_tokens, temperature_default, timeout_seconds, "
        "keep_alive_seconds, description FROM llmb.llm_backends"
    ) == [(True, 100, None, 0.0, 60, None, "Fast")]
    ((spec, made, changed, deleted),) = await query(
        "SELECT spec, created_at, updated_at, deleted_at FROM llmb.llm_backends"
    )
    assert spec["modelName"] == "phi3:mini"
    assert spec["temperature"] == 0.0
    assert "maxTokens" not in spec
    assert made == changed
    assert deleted is None


async def test_an_update_changes_its_row_only(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a"), resource("b")])
    before = {row[6]: row for row in await untouched(query)}
    changed = resource("a", generation=2, endpoint_url="http://other:1")
    assert await record.sync("prod", [changed, resource("b")]) == {"u-a": SYNCED, "u-b": SYNCED}
    after = {row[6]: row for row in await untouched(query)}
    assert after["b"] == before["b"]
    assert await query(
        "SELECT generation, endpoint_url, updated_at > created_at FROM llmb.llm_backends "
        "WHERE name = 'a'"
    ) == [(2, "http://other:1", True)]


async def test_nothing_changed_writes_and_locks_nothing(record: Record, query: Query) -> None:
    given = [resource(f"r{n}", max_tokens=n, temperature=n / 7) for n in range(20)]
    await record.sync("prod", given)
    before = await untouched(query)
    ((burnt,),) = await query("SELECT last_value FROM llmb.llm_backends_id_seq")
    for _ in range(3):
        assert set((await record.sync("prod", given)).values()) == {SYNCED}
    assert await untouched(query) == before
    assert await query("SELECT last_value FROM llmb.llm_backends_id_seq") == [(burnt,)]


@pytest.mark.check(29)
async def test_an_older_generation_written_late_changes_nothing(
    record: Record, query: Query
) -> None:
    await record.sync("prod", [resource(generation=5, description="new")])
    before = await untouched(query)
    late = resource(generation=4, description="old")
    assert await record.sync("prod", [late]) == {"u-phi": PENDING}
    assert await untouched(query) == before


@pytest.mark.check(29)
async def test_an_older_epoch_changes_nothing(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a"), resource("b")], epoch=7)
    before = await untouched(query)
    deposed = await record.sync(
        "prod",
        [resource("a", generation=2, description="x"), resource("b", uid="u-other")],
        epoch=6,
    )
    assert deposed == {"u-a": PENDING, "u-other": PENDING}
    assert await untouched(query) == before
    assert await record.sync("prod", [], epoch=6) == {}
    assert await untouched(query) == before
    later = await record.sync("prod", [resource("a", generation=2, description="x")], epoch=8)
    assert later == {"u-a": SYNCED}
    assert await query(
        "SELECT name, epoch, deleted_at IS NULL FROM llmb.llm_backends ORDER BY name"
    ) == [("a", 8, True), ("b", 7, False)]


@pytest.mark.check(29)
async def test_the_guard_holds_for_a_writer_that_comes_in_between(
    record: Record, query: Query, migrated: str
) -> None:
    await record.sync("prod", [resource(generation=1)])
    async with await AsyncConnection.connect(migrated) as other:
        await other.execute("UPDATE llmb.llm_backends SET generation = 9, description = 'newer'")
        late = asyncio.create_task(
            record.sync("prod", [resource(generation=2, description="late")])
        )
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

        async def is_waiting() -> bool:
            return await query(waiting) == [(1,)]

        await eventually_async(is_waiting, within=5)
    assert await late == {"u-phi": PENDING}
    assert await query("SELECT generation, description FROM llmb.llm_backends") == [(9, "newer")]


async def test_what_is_not_given_becomes_a_tombstone(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a"), resource("b")])
    assert await record.sync("prod", [resource("b")]) == {"u-b": SYNCED}
    assert await live(query) == {"b": 1}
    assert await query("SELECT name FROM llmb.llm_backends WHERE deleted_at IS NOT NULL") == [
        ("a",)
    ]


async def test_a_tombstone_is_written_once(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a")])
    await record.sync("prod", [])
    before = await untouched(query)
    await record.sync("prod", [])
    assert await untouched(query) == before


async def test_a_resource_being_deleted_loses_its_row(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a"), resource("b")])
    going = replace(resource("a"), deleting=True)
    assert await record.sync("prod", [going, resource("b")]) == {"u-a": SYNCED, "u-b": SYNCED}
    assert await live(query) == {"b": 1}


async def test_a_tombstone_comes_back_to_life_with_its_resource(
    record: Record, query: Query
) -> None:
    await record.sync("prod", [resource("a")])
    ((id_, made),) = await query("SELECT id, created_at FROM llmb.llm_backends")
    await record.sync("prod", [])
    assert await record.sync("prod", [resource("a")]) == {"u-a": SYNCED}
    assert await query("SELECT id, created_at, deleted_at FROM llmb.llm_backends") == [
        (id_, made, None)
    ]


@pytest.mark.check(15)
async def test_one_name_with_a_new_uid_is_a_new_row(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a", uid="u-1", generation=9)])
    assert await record.sync("prod", [resource("a", uid="u-2")]) == {"u-2": SYNCED}
    assert await query(
        "SELECT uid, generation, deleted_at IS NULL FROM llmb.llm_backends ORDER BY id"
    ) == [("u-1", 9, False), ("u-2", 1, True)]


async def test_a_resource_without_a_usable_spec_keeps_its_row(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a"), resource("b")])
    before = await untouched(query)
    given = [broken("a"), broken("never-written"), resource("b")]
    assert await record.sync("prod", given) == {
        "u-a": NOT_ACCEPTED,
        "u-never-written": NOT_ACCEPTED,
        "u-b": SYNCED,
    }
    assert await untouched(query) == before


async def test_namespaces_do_not_touch_each_other(record: Record, query: Query) -> None:
    other = resource("a", uid="u-other")
    other = replace(other, identity=replace(other.identity, namespace="test"))
    await record.sync("prod", [resource("a")])
    await record.sync("test", [other])
    assert await record.namespaces() == {"prod", "test"}
    await record.sync("prod", [])
    assert await record.namespaces() == {"test"}
    assert await live(query) == {"a": 1}


async def test_a_row_changed_by_hand_is_repaired(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a"), resource("b")])
    await query("UPDATE llmb.llm_backends SET enabled = false WHERE name = 'a'")
    await query("DELETE FROM llmb.llm_backends WHERE name = 'b'")
    assert set((await record.sync("prod", [resource("a"), resource("b")])).values()) == {SYNCED}
    assert await query("SELECT name, enabled FROM llmb.llm_backends ORDER BY name") == [
        ("a", True),
        ("b", True),
    ]


async def test_what_postgres_cannot_store_costs_the_others_nothing(
    record: Record, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    good = [resource(f"r{n}") for n in range(9)]
    bad = [
        resource("nul", description="canary-\0"),
        resource("surrogate", description="canary-\ud800"),
        resource("huge", priority=2**70),
    ]
    given = good[:3] + bad[:1] + good[3:] + bad[1:]
    for _ in range(3):
        reasons = await record.sync("prod", given)
        assert {reasons[r.identity.uid] for r in good} == {SYNCED}
        assert {reasons[r.identity.uid] for r in bad} == {NOT_ACCEPTED}
    assert len(await live(query)) == 9
    refused = [entry for entry in caplog.records if entry.message == "row_refused"]
    assert sorted(entry.__dict__["uid"] for entry in refused) == ["u-huge", "u-nul", "u-surrogate"]
    assert "canary" not in caplog.text

    mended = resource("nul", generation=2, description="fine")
    assert (await record.sync("prod", [*good, mended]))["u-nul"] is SYNCED


async def test_a_refused_update_keeps_the_row_that_was_good(record: Record, query: Query) -> None:
    await record.sync("prod", [resource("a", description="good")])
    bad = resource("a", generation=2, description="\0")
    assert await record.sync("prod", [bad]) == {"u-a": NOT_ACCEPTED}
    assert await record.sync("prod", [bad]) == {"u-a": NOT_ACCEPTED}
    assert await query("SELECT description, deleted_at FROM llmb.llm_backends") == [("good", None)]


async def test_a_thousand_resources_take_well_under_a_second(record: Record, query: Query) -> None:
    given = [resource(f"r{n:04}", description="x" * 200) for n in range(1000)]
    await record.sync("other", [])
    took = {}
    for what, resources in (
        ("insert", given),
        ("nothing", given),
        ("update", [resource(f"r{n:04}", generation=2, priority=n) for n in range(1000)]),
        ("delete", []),
    ):
        started = time.perf_counter()
        reasons = await record.sync("prod", resources)
        took[what] = round(time.perf_counter() - started, 3)
        assert set(reasons.values()) <= {SYNCED}
    assert await live(query) == {}
    assert max(took.values()) < 1.0, took


async def test_one_hundred_callers_share_the_connections(record: Record, query: Query) -> None:
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*(record.sync(f"ns-{n}", []) for n in range(100)))
        assert outcomes == [{}] * 100
        same = await asyncio.gather(*(record.sync("prod", [resource("a")]) for _ in range(30)))
    assert same == [{"u-a": SYNCED}] * 30
    assert await live(query) == {"a": 1}


async def test_two_writers_of_one_name_come_one_after_the_other(
    record: Record, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    writers = (record.sync("prod", [resource("a", uid=f"u-{n}")]) for n in range(30))
    outcomes = await asyncio.gather(*writers)
    assert outcomes == [{f"u-{n}": SYNCED} for n in range(30)]
    assert await live(query) == {"a": 1}
    assert "row_refused" not in caplog.text


async def test_rows_that_somebody_else_locks_are_no_outage(
    record: Record, query: Query, migrated: str, caplog: pytest.LogCaptureFixture
) -> None:
    def given(namespace: int, generation: int) -> list[Resource]:
        made = resource("a", uid=f"u-{namespace}", generation=generation, priority=generation)
        return [replace(made, identity=replace(made.identity, namespace=f"ns-{namespace}"))]

    # Twice as many as there are connections, so that the last wait longer than for a connection.
    for n in range(12):
        await record.sync(f"ns-{n}", given(n, 1))
    async with await AsyncConnection.connect(migrated) as other:
        await other.execute("SELECT * FROM llmb.llm_backends FOR UPDATE")
        held = await asyncio.gather(*(record.sync(f"ns-{n}", given(n, 2)) for n in range(12)))
        assert held == [{f"u-{n}": DatabaseSynced.DATABASE_UNAVAILABLE} for n in range(12)]
        assert await record.sync("free", []) == {}
    assert await record.sync("ns-0", given(0, 2)) == {"u-0": SYNCED}
    warned = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert [entry.message for entry in warned] == ["database_refused"] * 12
    assert {entry.__dict__["subject"] for entry in warned} == {f"ns-{n}" for n in range(12)}


async def test_without_a_schema_it_says_so_and_then_syncs(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="llm_operator")
    async with Record(database) as record:
        for _ in range(3):
            outcome = await record.sync("prod", [resource("a"), broken("b")])
            assert outcome == {"u-a": DatabaseSynced.SCHEMA_OUTDATED, "u-b": NOT_ACCEPTED}
        assert await record.namespaces() == frozenset()
        await migrate.migrate(database, say=lambda _: None)
        assert (await record.sync("prod", [resource("a")]))["u-a"] is SYNCED
    said = [entry.message for entry in caplog.records if entry.name.startswith("llm_operator")]
    assert said == ["database_schema_outdated", "database_available"]


async def test_a_version_behind_is_outdated_and_one_ahead_is_fine(
    migrated: str, query: Query
) -> None:
    await behind(query)
    async with Record(migrated) as record:
        outcome = await record.sync("prod", [resource("a")])
        assert outcome == {"u-a": DatabaseSynced.SCHEMA_OUTDATED}
        await query("INSERT INTO llmb.schema_migrations (version) VALUES ('9999')")
        assert await record.sync("prod", [resource("a")]) == {"u-a": SYNCED}


async def test_a_schema_that_goes_away_while_running_is_noticed(
    record: Record, query: Query, migrated: str
) -> None:
    await record.sync("prod", [resource("a")])
    await query("DROP SCHEMA llmb CASCADE")
    outdated = {"u-a": DatabaseSynced.SCHEMA_OUTDATED}
    assert await record.sync("prod", [resource("a")]) == outdated
    await migrate.migrate(migrated, say=lambda _: None)
    await behind(query)
    assert await record.sync("prod", [resource("a")]) == outdated
    await query("INSERT INTO llmb.schema_migrations (version) VALUES (%s)", migrate.latest())
    assert await record.sync("prod", [resource("a")]) == {"u-a": SYNCED}


async def test_a_missing_right_is_no_outage_for_others(
    migrated: str, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    await query("DROP ROLE IF EXISTS llmb_reader")
    await query("CREATE ROLE llmb_reader LOGIN")
    await query("GRANT USAGE ON SCHEMA llmb TO llmb_reader")
    await query("GRANT SELECT ON ALL TABLES IN SCHEMA llmb TO llmb_reader")
    try:
        async with Record(migrated.replace("postgres@", "llmb_reader@")) as record:
            outcome = await record.sync("prod", [resource("a")])
            assert outcome == {"u-a": DatabaseSynced.DATABASE_UNAVAILABLE}
        (entry,) = [e for e in caplog.records if e.message == "database_refused"]
        assert "permission denied" in entry.__dict__["error"]
    finally:
        await query("DROP OWNED BY llmb_reader")
        await query("DROP ROLE llmb_reader")
