"""The record under several leaders: one writes, and who was deposed writes nothing any more."""

import asyncio
import logging
import random

import pytest
from psycopg import AsyncConnection

from llm_operator.reasons import DatabaseSynced
from llm_operator.record import Record, leadership
from llm_operator.record.upkeep import Upkeep
from parts.eventually import eventually_async
from parts.rows import Query, resource

SYNCED, PENDING = DatabaseSynced.SYNCED, DatabaseSynced.PENDING

pytestmark = pytest.mark.check(29)


async def everything(query: Query) -> list[object]:
    tables = ("llm_backends", "llm_backend_history", "leadership", "llm_usage_hourly")
    return [await query(f"SELECT xmin, xmax, * FROM llmb.{table}") for table in tables]


async def test_each_writer_raises_the_epoch_and_none_writes_it_twice(
    record: Record, query: Query
) -> None:
    await record.sync("prod", [resource("a")], epoch=3)
    before = await query("SELECT xmin, xmax, ctid, epoch FROM llmb.leadership")
    assert before[0][3] == 3
    await record.sync("prod", [resource("a"), resource("b")], epoch=3)
    await record.sync("test", [], epoch=3)
    assert await query("SELECT xmin, xmax, ctid, epoch FROM llmb.leadership") == before


async def test_who_was_deposed_writes_nothing_and_says_so_once(
    record: Record, query: Query, migrated: str, caplog: pytest.LogCaptureFixture
) -> None:
    mine = 1
    async with Record(migrated, epoch=lambda: mine) as deposed:
        assert await deposed.sync("prod", [resource("a")]) == {"u-a": SYNCED}
        # The later one writes in another namespace alone.
        assert await record.sync("other", [], epoch=2) == {}
        before = await everything(query)
        for _ in range(3):
            late = [resource("a", generation=2), resource("b")]
            assert await deposed.sync("prod", late) == {"u-a": PENDING, "u-b": PENDING}
            assert await deposed.sync("prod", []) == {}
            assert await deposed.sync("new", [resource("c", namespace="new")]) == {"u-c": PENDING}
        assert await everything(query) == before
        said = [entry for entry in caplog.records if entry.message == "deposed"]
        assert [(e.__dict__["epoch"], e.__dict__["standing"]) for e in said] == [(1, 2)]

        mine = 3
        assert await deposed.sync("prod", [resource("b")]) == {"u-b": SYNCED}
    assert await query("SELECT epoch FROM llmb.leadership") == [(3,)]


async def test_what_is_being_deleted_stays_while_another_leads(
    record: Record, query: Query
) -> None:
    await record.sync("prod", [resource("a")], epoch=2)
    assert await record.sync("prod", [], epoch=1) == {}
    assert await query("SELECT deleted_at FROM llmb.llm_backends") == [(None,)]


async def test_a_transaction_under_way_ends_before_another_leads(
    record: Record, query: Query, migrated: str
) -> None:
    async def is_waiting() -> bool:
        return await query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)]

    async with await AsyncConnection.connect(migrated) as old:
        assert await leadership.lead(old, 1) == 1
        await old.commit()
        assert await leadership.lead(old, 1) == 1
        taking_over = asyncio.create_task(record.sync("prod", [resource("a")], epoch=2))
        await eventually_async(is_waiting, within=5)
        assert await query("SELECT epoch FROM llmb.leadership") == [(1,)]
        await old.commit()
        assert await taking_over == {"u-a": SYNCED}
        assert await leadership.lead(old, 1) == 2


async def test_a_new_leaders_first_writes_do_not_wait_for_each_other_in_a_circle(
    record: Record, query: Query
) -> None:
    given = [(f"ns-{n}", resource("a", uid=f"u-{n}", namespace=f"ns-{n}")) for n in range(30)]
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(
            *(record.sync(namespace, [each], epoch=5) for namespace, each in given)
        )
    assert outcomes == [{f"u-{n}": SYNCED} for n in range(30)]
    assert await query("SELECT DISTINCT epoch FROM llmb.llm_backends") == [(5,)]


async def test_the_epoch_never_goes_back(migrated: str, query: Query) -> None:
    epochs = [*range(1, 21)] * 2
    random.shuffle(epochs)
    async with Record(migrated) as one, Record(migrated) as other:
        records = (one, other)
        outcomes = await asyncio.gather(
            *(
                records[n % 2].sync(
                    f"ns-{n}", [resource(uid=f"u-{n}", namespace=f"ns-{n}")], epoch=epoch
                )
                for n, epoch in enumerate(epochs)
            )
        )
    seen = {reason for outcome in outcomes for reason in outcome.values()}
    assert seen <= {SYNCED, PENDING}
    assert await query("SELECT epoch FROM llmb.leadership") == [(20,)]
    # In the order in which they were written.
    written = [epoch for (epoch,) in await query("SELECT epoch FROM llmb.llm_backends ORDER BY id")]
    assert written == sorted(written)


async def test_a_row_that_somebody_deleted_is_made_again(record: Record, query: Query) -> None:
    await query("DELETE FROM llmb.leadership")
    assert await record.sync("prod", [resource("a")], epoch=4) == {"u-a": SYNCED}
    assert await query("SELECT epoch FROM llmb.leadership") == [(4,)]


async def test_upkeep_of_a_deposed_leader_changes_nothing(
    record: Record, query: Query, migrated: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="llm_operator")
    await record.sync("prod", [], epoch=2)
    async with Record(migrated, epoch=lambda: 1) as deposed:
        upkeep: Upkeep = deposed._upkeep
        for _ in range(2):
            assert await upkeep.once() is False
    assert await query(
        "SELECT to_regclass(format('llmb.llm_usage_%s', to_char(now() "
        "AT TIME ZONE 'UTC', 'YYYYMMDD')))"
    ) == [(None,)]
    assert [e.message for e in caplog.records].count("deposed") == 1


async def test_another_default_isolation_makes_no_difference(
    database: str, migrated: str, query: Query
) -> None:
    name = database.partition("?")[0].rpartition("/")[2]
    await query(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    async with Record(migrated) as record:
        outcomes = await asyncio.gather(
            *(
                record.sync(f"ns-{n}", [resource(uid=f"u-{n}", namespace=f"ns-{n}")], epoch=7)
                for n in range(10)
            )
        )
    assert outcomes == [{f"u-{n}": SYNCED} for n in range(10)]
