"""The record while its database is away, silent, cut off or back: bounded waits, own recovery."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from psycopg import AsyncConnection

from llm_operator import migrate
from llm_operator.reasons import DatabaseSynced
from llm_operator.record import Record, upkeep
from llm_operator.resource.model import BackendType, Identity, Resource, Spec
from parts.eventually import eventually_async
from parts.postgres import Postgres
from parts.proxy import Proxy

SYNCED = DatabaseSynced.SYNCED
UNAVAILABLE = DatabaseSynced.DATABASE_UNAVAILABLE

CANARY = "hunter2-canary"


def resource(generation: int = 1) -> Resource:
    return Resource(
        identity=Identity(namespace="prod", name="phi", uid="u-1", generation=generation),
        spec=Spec(model_name="phi3:mini", backend_type=BackendType.OLLAMA),
    )


async def reason(record: Record, generation: int = 1) -> DatabaseSynced:
    return (await record.sync("prod", [resource(generation)]))["u-1"]


async def timed(record: Record, generation: int = 1) -> tuple[DatabaseSynced, float]:
    started = time.monotonic()
    outcome = await reason(record, generation)
    return outcome, time.monotonic() - started


async def recovers(record: Record, *, within: float, generation: int = 1) -> float:
    """Call again as a caller should, until the row is written. Returns the seconds it took."""
    started = time.monotonic()
    while await reason(record, generation) is not SYNCED:
        assert time.monotonic() - started < within
        await asyncio.sleep(record.retry_after)
    return time.monotonic() - started


@asynccontextmanager
async def locked(uri: str) -> AsyncIterator[None]:
    """Somebody else holds every row."""
    async with await AsyncConnection.connect(uri) as other:
        await other.execute("SELECT * FROM llmb.llm_backends FOR UPDATE")
        yield


@pytest.fixture
async def record(migrated: str, proxy: Proxy, postgres: Postgres) -> AsyncIterator[Record]:
    """A record that has written its row through the proxy."""
    name = migrated.partition("?")[0].rpartition("/")[2]
    async with Record(postgres.uri_of(name, port=proxy.port)) as opened:
        assert await reason(opened) is SYNCED
        yield opened


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The record's own log lines so far."""
    caplog.set_level(logging.DEBUG)

    def lines() -> list[str]:
        return [entry.message for entry in caplog.records if entry.name.startswith("llm_operator")]

    return lines


@pytest.mark.check(27)
async def test_starts_without_a_database_and_syncs_once_it_is_there(
    private_postgres: Postgres, said: Callable[[], list[str]]
) -> None:
    await migrate.migrate(private_postgres.uri, say=lambda _: None)
    await asyncio.to_thread(private_postgres.stop)
    started = time.monotonic()
    async with Record(private_postgres.uri) as record:
        assert time.monotonic() - started < 0.5
        outcome, took = await timed(record)
        assert outcome is UNAVAILABLE
        assert took < 4
        assert await record.namespaces() == frozenset()
        await asyncio.to_thread(private_postgres.start)
        assert await recovers(record, within=30) < 15
    assert said() == ["database_unavailable", "database_available"]


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
async def test_a_server_that_goes_and_comes_back(
    private_postgres: Postgres, said: Callable[[], list[str]], crash: bool
) -> None:
    await migrate.migrate(private_postgres.uri, say=lambda _: None)
    async with Record(private_postgres.uri) as record:
        # More than one connection, all of them dead afterwards.
        await asyncio.gather(*(record.sync(f"ns-{n}", []) for n in range(20)))
        await asyncio.to_thread(private_postgres.stop, crash=crash)
        outcome, took = await timed(record)
        assert outcome is UNAVAILABLE
        assert took < 4
        await asyncio.to_thread(private_postgres.start)
        await recovers(record, within=15)
        assert await record.namespaces() == {"prod"}
    assert said() == ["database_available", "database_unavailable", "database_available"]


async def test_a_long_outage_is_over_as_soon_as_a_short_one(record: Record, proxy: Proxy) -> None:
    proxy.stop()
    down = time.monotonic()
    while time.monotonic() - down < 16.5:
        assert await reason(record, 2) is UNAVAILABLE
        await asyncio.sleep(record.retry_after)
    proxy.start()
    await recovers(record, within=9, generation=2)


async def test_a_restart_between_two_syncs_is_noticed_by_nobody(
    private_postgres: Postgres, said: Callable[[], list[str]]
) -> None:
    await migrate.migrate(private_postgres.uri, say=lambda _: None)
    async with Record(private_postgres.uri) as record:
        await asyncio.gather(*(record.sync(f"ns-{n}", []) for n in range(20)))
        await asyncio.to_thread(private_postgres.stop)
        await asyncio.to_thread(private_postgres.start)
        outcome, took = await timed(record)
        assert outcome is SYNCED, f"after {took:.1f} s"
    assert said() == ["database_available"]


async def test_while_it_is_away_nobody_waits_and_few_knock(
    record: Record, proxy: Proxy, said: Callable[[], list[str]]
) -> None:
    proxy.drop()
    proxy.reset()
    assert await reason(record, 2) is UNAVAILABLE
    knocked = proxy.accepted
    waits = []
    until = time.monotonic() + 4
    while time.monotonic() < until:
        outcomes = await asyncio.gather(*(timed(record, 2) for _ in range(20)))
        assert {outcome for outcome, _ in outcomes} == {UNAVAILABLE}
        waits += [took for _, took in outcomes]
        await asyncio.sleep(0.05)
    # Each probe takes its time; all others are turned away at once.
    assert sorted(waits)[len(waits) * 9 // 10] < 0.05
    assert proxy.accepted - knocked <= 20
    assert said() == ["database_unavailable"]


@pytest.mark.check(28)
async def test_many_callers_of_a_silent_server_are_answered_together(
    record: Record, proxy: Proxy
) -> None:
    proxy.drop()
    started = time.monotonic()
    outcomes = await asyncio.gather(*(record.sync(f"ns-{n}", [resource()]) for n in range(200)))
    assert time.monotonic() - started < 6
    assert {outcome["u-1"] for outcome in outcomes} == {UNAVAILABLE}


@pytest.mark.check(28)
async def test_a_server_that_accepts_and_never_answers(
    migrated: str, proxy: Proxy, postgres: Postgres
) -> None:
    proxy.drop()
    name = migrated.partition("?")[0].rpartition("/")[2]
    async with Record(postgres.uri_of(name, port=proxy.port)) as record:
        outcome, took = await timed(record)
        assert outcome is UNAVAILABLE
        assert took < 4
        proxy.heal()
        await recovers(record, within=15)


@pytest.mark.check(28)
async def test_idle_connections_that_fell_silent(record: Record, proxy: Proxy) -> None:
    proxy.drop()
    outcome, took = await timed(record, 2)
    assert outcome is UNAVAILABLE
    assert took < 5
    proxy.heal()
    await recovers(record, within=15, generation=2)


@pytest.mark.check(28)
async def test_silence_in_the_middle_of_a_transaction(
    record: Record, proxy: Proxy, migrated: str
) -> None:
    async with locked(migrated):
        started = time.monotonic()
        writing = asyncio.create_task(reason(record, 2))
        await asyncio.sleep(0.5)
        assert not writing.done()
        proxy.drop()
        assert await writing is UNAVAILABLE
        assert time.monotonic() - started < 10
    proxy.heal()
    await recovers(record, within=15, generation=2)


async def test_a_reset_connection_is_replaced(record: Record, proxy: Proxy) -> None:
    proxy.reset()
    assert await reason(record, 2) is SYNCED


async def test_a_slow_network_is_no_outage(record: Record, proxy: Proxy) -> None:
    proxy.delay(0.1)
    assert await reason(record, 2) is SYNCED


async def test_a_cancelled_sync_leaves_the_record_usable(
    record: Record, proxy: Proxy, migrated: str
) -> None:
    async with locked(migrated):
        writing = asyncio.create_task(reason(record, 2))
        await asyncio.sleep(0.3)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    assert await reason(record, 3) is SYNCED


async def test_a_cancelled_probe_does_not_keep_the_others_out(record: Record, proxy: Proxy) -> None:
    proxy.drop()
    assert await reason(record, 2) is UNAVAILABLE
    await asyncio.sleep(record.retry_after)
    probe = asyncio.create_task(reason(record, 2))
    await asyncio.sleep(0.1)
    assert not probe.done()
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    proxy.heal()
    await recovers(record, within=15, generation=2)


async def test_closing_does_not_wait_for_a_silent_server(
    migrated: str, proxy: Proxy, postgres: Postgres
) -> None:
    proxy.drop()
    name = migrated.partition("?")[0].rpartition("/")[2]
    async with Record(postgres.uri_of(name, port=proxy.port)) as record:
        assert await reason(record) is UNAVAILABLE
        started = time.monotonic()
    assert time.monotonic() - started < 2


async def test_the_log_says_why_and_never_the_password(
    proxy: Proxy, caplog: pytest.LogCaptureFixture, said: Callable[[], list[str]]
) -> None:
    proxy.stop()
    async with Record(f"postgresql://someone:{CANARY}@127.0.0.1:{proxy.port}/llmb") as record:
        assert await reason(record) is UNAVAILABLE
    (entry,) = [e for e in caplog.records if e.name.startswith("llm_operator")]
    assert "refused" in entry.__dict__["error"]
    assert str(proxy.port) in entry.__dict__["error"]
    everything = "".join(str(e.__dict__) for e in caplog.records)
    assert CANARY not in everything


async def rounds(record: Record, monkeypatch: pytest.MonkeyPatch) -> asyncio.Task[None]:
    """Upkeep that goes round all the time."""
    monkeypatch.setattr(upkeep, "EVERY", 0.2)
    monkeypatch.setattr(upkeep, "AGAIN", 0.2)
    return asyncio.create_task(record.run())


async def partitioned(uri: str) -> bool:
    """Whether a round was done to its end."""
    async with await AsyncConnection.connect(uri, autocommit=True) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'llmb.llm_usage'::regclass"
        )
        return await cursor.fetchall() == [(4,)]


async def ended(running: asyncio.Task[None], *, within: float) -> None:
    assert not running.done()
    running.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - started < within


async def test_upkeep_outlives_a_database_that_is_away(
    private_postgres: Postgres, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    await migrate.migrate(private_postgres.uri, say=lambda _: None)
    await asyncio.to_thread(private_postgres.stop)
    async with Record(private_postgres.uri) as record:
        running = await rounds(record, monkeypatch)
        await eventually_async(lambda: record.up is False, within=10)
        await asyncio.to_thread(private_postgres.start)
        await eventually_async(lambda: partitioned(private_postgres.uri), within=20)
        assert record.up is True
        await ended(running, within=1)
    assert "upkeep_failed" not in said()
    assert said().count("database_unavailable") == 1


async def test_upkeep_of_a_silent_server_ends_by_itself(record: Record, proxy: Proxy) -> None:
    proxy.drop()
    started = time.monotonic()
    assert await record._upkeep.once() is False
    assert time.monotonic() - started < 6
    proxy.heal()
    await recovers(record, within=15)
    assert await record._upkeep.once() is True


async def test_upkeep_goes_on_once_a_silent_server_answers(
    record: Record, proxy: Proxy, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.drop()
    running = await rounds(record, monkeypatch)
    await eventually_async(lambda: record.up is False, within=15)
    proxy.heal()
    await eventually_async(lambda: partitioned(migrated), within=20)
    await ended(running, within=1)


async def test_upkeep_that_is_waiting_can_be_ended(
    record: Record, proxy: Proxy, migrated: str
) -> None:
    """The process ends while a transaction of upkeep gets no answer."""
    async with await AsyncConnection.connect(migrated) as other:
        await other.execute("LOCK TABLE llmb.leadership")
        running = asyncio.create_task(record.run())
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"

        async def is_waiting() -> bool:
            return await (await other.execute(waiting)).fetchall() == [(1,)]

        await eventually_async(is_waiting, within=5, every=0.01)
        proxy.drop()
        await ended(running, within=9)
    proxy.heal()
    await recovers(record, within=15)


async def test_a_sync_does_not_wait_for_upkeep_that_waits(record: Record, migrated: str) -> None:
    async with await AsyncConnection.connect(migrated) as other:
        await other.execute("LOCK TABLE llmb.llm_usage, llmb.llm_usage_default")
        running = asyncio.create_task(record._upkeep.once())
        while not running.done():
            outcome, took = await timed(record)
            assert outcome is SYNCED
            assert took < 1
            await asyncio.sleep(0.02)
        assert await running is False
    assert await record._upkeep.once() is True


@pytest.mark.check(33)
async def test_a_leader_that_was_cut_off_writes_nothing_late(
    record: Record, proxy: Proxy, migrated: str
) -> None:
    """Its write is under way, the network stops, another takes over, the network is back."""
    async with locked(migrated):
        writing = asyncio.create_task(reason(record, 2))
        await asyncio.sleep(0.3)
        proxy.drop()
        assert await writing is UNAVAILABLE
    async with Record(migrated, epoch=lambda: 1) as successor:
        await recovers(successor, within=15, generation=3)
        proxy.heal()
        late = UNAVAILABLE
        while late is UNAVAILABLE:
            late = await reason(record, 4)
            await asyncio.sleep(0.1)
        assert late is DatabaseSynced.PENDING
        assert await reason(successor, 3) is SYNCED
