"""Upkeep on a real Postgres: partitions ahead, sums of each hour, an end to what is old."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from llm_operator.reasons import DatabaseSynced
from llm_operator.record import Keep, Record, partitions, upkeep, usage
from llm_operator.record.database import Database
from llm_operator.record.pool import Connection
from llm_operator.record.upkeep import Upkeep
from parts.eventually import eventually_async
from parts.rows import Query, Rows, resource

#: NB: taken once, so that a test that runs over an hour's end means one hour.
NOW = datetime.now(UTC)
HOUR = NOW.replace(minute=0, second=0, microsecond=0)


async def always(_: Connection) -> bool:
    return True


def told(request_id: str, at: datetime, **given: Any) -> dict[str, Any]:
    record = {"request_id": request_id, "at": at.timestamp(), "model": "phi3:mini"}
    return record | {"outcome": "ok", "total_seconds": 0.5} | given


@pytest.fixture
async def rounds(migrated: str) -> AsyncIterator[Upkeep]:
    async with Database(migrated, application_name="test") as database:
        yield Upkeep(database, leads=always, keep=Keep())


async def stored(query: Query) -> dict[str, str]:
    """The records, and the end of the name of the partition that each is in."""
    rows = await query("SELECT request_id, tableoid::regclass::text FROM llmb.llm_usage")
    return {request_id: name.rpartition("_")[2] for request_id, name in rows}


async def untouched(query: Query) -> list[Rows]:
    tables = ("llm_usage", "llm_usage_hourly", "llm_usage_rolled_up", "llm_backends", "leadership")
    return [
        await query(f"SELECT xmin, xmax, ctid, * FROM llmb.{table} ORDER BY 3") for table in tables
    ]


async def make(connection: Connection, *days: date) -> None:
    for day in days:
        async with connection.transaction():
            await partitions.make(connection, day)


class TestPartitions:
    async def test_are_there_for_today_and_two_days_more(
        self, rounds: Upkeep, connection: Connection
    ) -> None:
        assert await rounds.once() is True
        today = await partitions.today(connection)
        assert await partitions.days(connection) == {today + timedelta(days=n) for n in range(3)}

    async def test_nothing_to_do_writes_nothing(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        await usage.insert(connection, [told("r", HOUR - timedelta(hours=2))])
        for _ in range(2):
            await rounds.once()
        await query("DELETE FROM llmb.llm_usage")
        before = await untouched(query)
        relations = await query("SELECT oid, relfilenode FROM pg_class ORDER BY oid")
        for _ in range(3):
            assert await rounds.once() is True
        assert await untouched(query) == before
        assert await query("SELECT oid, relfilenode FROM pg_class ORDER BY oid") == relations

    async def test_take_what_came_before_them(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        await usage.insert(
            connection, [told("r-today", NOW), told("r-odd", NOW.replace(year=2090))]
        )
        await rounds.once()
        assert await stored(query) == {"r-today": f"{NOW:%Y%m%d}", "r-odd": "default"}

    async def test_of_a_day_with_too_many_records_elsewhere_is_not_made(
        self, rounds: Upkeep, query: Query, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(partitions, "MOVED", 3)
        await usage.insert(connection, [told(f"r-{n}", NOW) for n in range(4)])
        assert await rounds.once() is True
        assert set((await stored(query)).values()) == {"default"}
        assert len(await partitions.days(connection)) == 2

    async def test_two_at_once_make_each_once(self, rounds: Upkeep, connection: Connection) -> None:
        async with asyncio.timeout(20):
            await asyncio.gather(*(rounds.once() for _ in range(4)))
            assert await rounds.once() is True
        assert len(await partitions.days(connection)) == 3

    async def test_one_that_cannot_be_made_does_not_stop_the_rest(
        self, rounds: Upkeep, query: Query, connection: Connection, caplog: pytest.LogCaptureFixture
    ) -> None:
        today = await partitions.today(connection)
        await query(f"CREATE TABLE llmb.llm_usage_{today:%Y%m%d} (mine int)")
        await usage.insert(connection, [told("r", HOUR - timedelta(minutes=1))])
        assert await rounds.once() is False
        assert await partitions.days(connection) == {today + timedelta(days=n) for n in (1, 2)}
        assert await query("SELECT requests FROM llmb.llm_usage_hourly") == [(1,)]
        assert "database_refused" in caplog.text


class TestRetention:
    async def test_drops_whole_days_and_keeps_the_last_thirty(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        ages = (0, 29, 30, 31, 32, 400)
        days = [(NOW - timedelta(days=age)).date() for age in ages]
        await make(connection, *days)
        await usage.insert(
            connection, [told(f"r-{age}", NOW - timedelta(days=age)) for age in ages]
        )
        assert await rounds.once() is True
        assert set(await stored(query)) == {"r-0", "r-29", "r-30"}
        assert await partitions.days(connection) >= set(days[:3])
        assert not await partitions.days(connection) & set(days[3:])

    async def test_is_as_long_as_said(
        self, migrated: str, query: Query, connection: Connection
    ) -> None:
        await make(connection, *((NOW - timedelta(days=n)).date() for n in range(4)))
        async with Record(migrated, keep=Keep(usage=1)) as record:
            assert await record._upkeep.once() is True
        left = {NOW.date() + timedelta(days=n) for n in (-1, 0, 1, 2)}
        assert await partitions.days(connection) == left

    async def test_sweeps_what_has_no_day_of_its_own(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        odd = [
            told("r-past", datetime(1970, 1, 1, tzinfo=UTC)),
            told("r-kept", NOW.replace(year=2090)),
        ]
        await usage.insert(connection, [*odd, told("r-future", NOW.replace(year=2091))])
        await query(
            "UPDATE llmb.llm_usage SET received_at = now() - interval '40 days' "
            "WHERE request_id = 'r-future'"
        )
        assert await rounds.once() is True
        assert set(await stored(query)) == {"r-kept"}

    async def test_sweeps_any_number(
        self,
        rounds: Upkeep,
        query: Query,
        connection: Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(upkeep, "PIECE", 10)
        past = datetime(2001, 1, 1, tzinfo=UTC)
        await usage.insert(connection, [told(f"r-{n}", past) for n in range(35)])
        assert await rounds.once() is True
        assert await stored(query) == {}


class TestRollup:
    async def test_gives_the_averages_of_each_hour(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        at = HOUR - timedelta(minutes=30)
        measured = {
            "route_uid": "u-1",
            "target": "mac",
            "backend_type": "mlx",
            "attempts": 1,
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "first_token_seconds": 0.25,
            "prefill_tokens_per_second": 100.0,
            "decode_tokens_per_second": 40.0,
        }
        fallen = {"attempts": 2, "fallback_reason": "connect", "total_seconds": 1.5}
        faster = {"decode_tokens_per_second": 60.0, "first_token_seconds": None}
        await usage.insert(
            connection,
            [
                told("r-1", at, **measured),
                told("r-2", at, **(measured | fallen | faster)),
                told("r-3", at, outcome="error"),
                told("r-4", at - timedelta(hours=1), **measured),
            ],
            namespace="prod",
        )
        assert await rounds.once() is True
        rows = await query(
            "SELECT hour, namespace, route_uid, model, target, backend_type, outcome, requests, "
            "attempts, fallbacks, prompt_tokens, completion_tokens, total_seconds / requests, "
            "longest_seconds, first_token_seconds / nullif(first_tokens, 0), "
            "prefill_tokens_per_second / nullif(prefills, 0), "
            "decode_tokens_per_second / nullif(decodes, 0) "
            "FROM llmb.llm_usage_hourly ORDER BY hour, outcome DESC"
        )
        last, before = HOUR - timedelta(hours=1), HOUR - timedelta(hours=2)
        ours = ("prod", "u-1", "phi3:mini", "mac", "mlx", "ok")
        nobody = ("prod", "", "phi3:mini", "", "", "error")
        assert rows == [
            (before, *ours, 1, 1, 0, 10, 20, 0.5, 0.5, 0.25, 100.0, 40.0),
            (last, *ours, 2, 3, 1, 20, 40, 1.0, 1.5, 0.25, 100.0, 50.0),
            (last, *nobody, 1, 0, 0, 0, 0, 0.5, 0.5, None, None, None),
        ]

    async def test_leaves_the_hour_that_has_not_ended(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        hour = (await query("SELECT date_trunc('hour', now())"))[0][0]
        await usage.insert(
            connection,
            [told("r-now", hour), told("r-before", hour - timedelta(milliseconds=1))],
        )
        await rounds.once()
        rows = await query("SELECT hour, requests FROM llmb.llm_usage_hourly")
        assert rows[0] == (hour - timedelta(hours=1), 1)
        assert len(rows) == 1

    async def test_takes_in_late_records(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        old, older = HOUR - timedelta(hours=5), HOUR - timedelta(days=3)
        await usage.insert(connection, [told("r-1", old), told("r-2", older)])
        await rounds.once()
        await usage.insert(connection, [told("r-3", old), told("r-4", older), told("r-5", older)])
        await rounds.once()
        counts = "SELECT hour, requests FROM llmb.llm_usage_hourly ORDER BY hour"
        assert await query(counts) == [(older, 3), (old, 2)]

    async def test_takes_in_an_hour_whose_records_came_before_it_ended(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        await usage.insert(connection, [told("r-1", HOUR - timedelta(minutes=30))])
        # As it was an hour and a half ago: a round, and then nothing was received any more.
        await query("UPDATE llmb.llm_usage SET received_at = now() - interval '10 days'")
        await query("UPDATE llmb.llm_usage_rolled_up SET until = %s", HOUR - timedelta(minutes=20))
        await rounds.once()
        assert await query("SELECT requests FROM llmb.llm_usage_hourly") == [(1,)]

    async def test_twice_and_at_once_is_as_once(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        batch = [told(f"r-{n}", HOUR - timedelta(minutes=7 * n + 1)) for n in range(60)]
        await usage.insert(connection, batch)
        async with asyncio.timeout(30):
            await asyncio.gather(*(rounds.once() for _ in range(3)))
        await rounds.once()
        total = "SELECT sum(requests), count(*) FROM llmb.llm_usage_hourly"
        ((requests, rows),) = await query(total)
        assert requests == 60
        before = await query("SELECT xmin, xmax, ctid, * FROM llmb.llm_usage_hourly")
        await query("UPDATE llmb.llm_usage_rolled_up SET until = to_timestamp(0)")
        assert await rounds.once() is True
        assert await query("SELECT xmin, xmax, ctid, * FROM llmb.llm_usage_hourly") == before
        assert rows == len(before)

    async def test_outlives_the_records(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        hour = HOUR - timedelta(days=20)
        await usage.insert(connection, [told(f"r-{n}", hour) for n in range(5)])
        await rounds.once()
        await query("DELETE FROM llmb.llm_usage")
        await usage.insert(connection, [told("r-late", hour)])
        await rounds.once()
        assert await query("SELECT requests FROM llmb.llm_usage_hourly") == [(5,)]

    async def test_the_most_that_a_record_can_tell_does_not_break_a_sum(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        most = {
            "total_seconds": 1e9,
            "prompt_tokens": 2**31 - 1,
            "decode_tokens_per_second": 1e9,
            "target": "t" * 255,
            "route_uid": "u" * 255,
            "model": "m" * 255,
            "backend_type": "b" * 255,
            "outcome": "o" * 255,
        }
        at = HOUR - timedelta(minutes=1)
        batch = [told(f"r-{n}", at, **most) for n in range(50)]
        assert await usage.insert(connection, batch, namespace="n" * 255) == 50
        assert await rounds.once() is True
        rows = await query("SELECT requests, prompt_tokens FROM llmb.llm_usage_hourly")
        assert rows == [(50, 50 * (2**31 - 1))]


class TestPurge:
    async def test_tombstones_and_what_is_out_of_date_go_after_ninety_days(
        self, migrated: str, rounds: Upkeep, query: Query
    ) -> None:
        async with Record(migrated) as record:
            for generation in (1, 2, 3):
                given = [resource(name, generation=generation) for name in ("live", "gone", "new")]
                await record.sync("prod", given)
            await record.sync("prod", [given[0]])
        await query(
            "UPDATE llmb.llm_backends SET deleted_at = deleted_at - interval '91 days' "
            "WHERE name = 'gone'"
        )
        await query(
            "UPDATE llmb.llm_backend_history SET recorded_at = now() - interval '91 days' "
            "WHERE name <> 'new'"
        )
        assert await rounds.once() is True
        left = await query("SELECT name, deleted_at IS NULL FROM llmb.llm_backends ORDER BY name")
        assert left == [("live", True), ("new", False)]
        assert await query(
            "SELECT name, generation, change FROM llmb.llm_backend_history ORDER BY name, id"
        ) == [
            ("live", 3, "changed"),
            *[("new", 1, "created"), ("new", 2, "changed"), ("new", 3, "changed")],
            ("new", 3, "deleted"),
        ]

    async def test_what_was_in_force_until_lately_stays(
        self, migrated: str, rounds: Upkeep, query: Query
    ) -> None:
        async with Record(migrated) as record:
            await record.sync("prod", [resource("a")])
            await query(
                "UPDATE llmb.llm_backend_history SET recorded_at = now() - interval '1 year'"
            )
            await record.sync("prod", [resource("a", generation=2)])
        assert await rounds.once() is True
        assert await query("SELECT count(*) FROM llmb.llm_backend_history") == [(2,)]

    async def test_hours_go_after_four_hundred_days(
        self, rounds: Upkeep, query: Query, connection: Connection
    ) -> None:
        await usage.insert(connection, [told("r", HOUR - timedelta(hours=3))])
        await rounds.once()
        await query(
            "INSERT INTO llmb.llm_usage_hourly SELECT hour - interval '401 days', namespace, "
            "route_uid, model, target, backend_type, outcome, requests, attempts, fallbacks, "
            "prompt_tokens, completion_tokens, total_seconds, longest_seconds, first_tokens, "
            "first_token_seconds, prefills, prefill_tokens_per_second, decodes, "
            "decode_tokens_per_second FROM llmb.llm_usage_hourly"
        )
        assert await rounds.once() is True
        assert await query("SELECT hour FROM llmb.llm_usage_hourly") == [
            (HOUR - timedelta(hours=3),)
        ]


class TestBesideOthers:
    async def test_who_delivers_usage_is_not_held_up(
        self, migrated: str, rounds: Upkeep, connection: Connection, query: Query
    ) -> None:
        old = (NOW - timedelta(days=40)).date()
        await make(connection, old, NOW.date())
        slowest = 0.0
        async with (
            await AsyncConnection.connect(migrated) as delivering,
            delivering.transaction(),
        ):
            # As long as it lasts, neither the old day nor the default partition can be locked.
            await usage.insert(delivering, [told("r-odd", NOW.replace(year=2090))])
            await delivering.execute("SELECT count(*) FROM llmb.llm_usage")
            going = asyncio.create_task(rounds.once())
            number = 0
            while not going.done():
                started = time.perf_counter()
                await usage.insert(connection, [told(f"r-{number}", NOW)])
                slowest = max(slowest, time.perf_counter() - started)
                number += 1
                await asyncio.sleep(0.01)
            assert await going is False
            assert old in await partitions.days(connection)
        assert slowest < 1.0
        assert len(await stored(query)) == number + 1
        assert await rounds.once() is True
        assert old not in await partitions.days(connection)

    async def test_a_sync_is_not_held_up(self, migrated: str, query: Query) -> None:
        async with Record(migrated) as record:
            given = [resource(f"r{n}") for n in range(20)]
            await record.sync("prod", given)
            async with await AsyncConnection.connect(migrated) as other:
                await other.execute("LOCK TABLE llmb.llm_usage, llmb.llm_usage_hourly")
                rounds = asyncio.create_task(record._upkeep.once())
                while not rounds.done():
                    async with asyncio.timeout(2):
                        reasons = await record.sync("prod", given)
                    assert set(reasons.values()) == {DatabaseSynced.SYNCED}
                    await asyncio.sleep(0.02)
                assert await rounds is False
            assert await record._upkeep.once() is True


class TestRun:
    async def test_goes_on_for_ever_whatever_happens(
        self,
        migrated: str,
        query: Query,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(upkeep, "EVERY", 0.05)
        monkeypatch.setattr(upkeep, "AGAIN", 0.05)
        caplog.set_level(logging.INFO, logger="llm_operator")
        hourly = "SELECT requests FROM llmb.llm_usage_hourly"

        async def failing(*_: object, **__: object) -> int:
            raise RuntimeError("canary")

        def failed() -> bool:
            return "upkeep_failed" in caplog.text

        async with Record(migrated) as record:
            running = asyncio.create_task(record.run())
            with monkeypatch.context() as broken:
                broken.setattr(upkeep.rollup, "due", failing)
                await eventually_async(failed, within=10)
            async with await AsyncConnection.connect(migrated, autocommit=True) as connection:
                await usage.insert(connection, [told("r", HOUR - timedelta(hours=3))])

            async def summed() -> bool:
                return await query(hourly) == [(1,)]

            await eventually_async(summed, within=10)
            assert not running.done()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert [e.message for e in caplog.records].count("usage_partition_made") == 3
