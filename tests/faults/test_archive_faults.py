"""The archive while Postgres is away, silent, restarted or of an older schema: it says so in time,
and serves by itself once that is over.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from psycopg import AsyncConnection

from llm_operator import migrate
from llm_operator.admin import archive as archive_module
from llm_operator.admin.archive import Archive
from llm_operator.admin.errors import Away
from parts.eventually import eventually_async
from parts.postgres import Postgres
from parts.proxy import Proxy

NOW = datetime.now(UTC)
SPAN: dict[str, Any] = {
    "model": "m",
    "namespace": None,
    "since": NOW - timedelta(hours=1),
    "until": NOW + timedelta(hours=1),
    "by": "backend_type",
}

#: Longest that a call may last: to get a connection, and a transaction, one after the other.
LONGEST = 20


def told(request_id: str) -> dict[str, Any]:
    record = {"request_id": request_id, "at": NOW.timestamp(), "model": "m", "outcome": "ok"}
    return record | {"total_seconds": 1.0, "backend_type": "mlx", "route_uid": "u-1"}


Call = Callable[[Archive], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "ids": lambda archive: archive.ids(),
    "totals": lambda archive: archive.totals(),
    "history": lambda archive: archive.history("u", before=None, limit=1),
    "samples": lambda archive: archive.samples(model=None, backend=None, before=None, limit=1),
    "store": lambda archive: archive.store([told("r")], namespace="prod"),
    "arms": lambda archive: archive.arms(**SPAN),
    "series": lambda archive: archive.series(**SPAN, step=60),
}


async def refusal(archive: Archive, call: Call) -> Away:
    """What a call is told that is not served, and that it is told in time."""
    async with asyncio.timeout(LONGEST):
        with pytest.raises(Away) as refused:
            await call(archive)
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= 5
    return refused.value


async def recovered(archive: Archive, call: Call) -> Any:
    """The answer, once it is served again: asked as a caller should."""

    async def served() -> tuple[Any]:
        # NB: in a tuple, since an empty answer is one too.
        return (await call(archive),)

    (answer,) = await eventually_async(served, within=30, every=0.2, retry=(Away,))
    return answer


@pytest.fixture
async def archive(migrated: str, proxy: Proxy, postgres: Postgres) -> AsyncIterator[Archive]:
    """One that has its connections through the proxy."""
    name = migrated.partition("?")[0].rpartition("/")[2]
    async with Archive(postgres.uri_of(name, port=proxy.port)) as opened:
        assert await opened.ids() == {}
        yield opened


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_each_call_says_that_it_is_away(archive: Archive, proxy: Proxy, call: Call) -> None:
    proxy.stop()
    assert (await refusal(archive, call)).detail == "the database can't be used now"
    assert archive.up is False
    proxy.start()
    await recovered(archive, call)
    assert archive.up is True


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_each_call_ends_when_nobody_answers(
    archive: Archive, proxy: Proxy, call: Call
) -> None:
    proxy.drop()
    await refusal(archive, call)
    proxy.heal()
    await recovered(archive, call)


async def test_opens_without_a_database_and_serves_once_it_is_there(
    private_postgres: Postgres,
) -> None:
    await migrate.migrate(private_postgres.uri, say=lambda _: None)
    await asyncio.to_thread(private_postgres.stop)
    async with Archive(private_postgres.uri) as archive:
        assert archive.up is None
        await refusal(archive, CALLS["totals"])
        await asyncio.to_thread(private_postgres.start)
        assert await recovered(archive, CALLS["totals"]) == {}


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
async def test_of_batches_that_are_sent_until_they_are_taken_none_is_lost_or_doubled(
    private_postgres: Postgres, crash: bool
) -> None:
    """Routers send on while Postgres goes and comes back; what is told as new is counted once."""
    await migrate.migrate(private_postgres.uri, say=lambda _: None)
    batches = [[told(f"r-{first + n}") for n in range(50)] for first in range(0, 3000, 50)]
    async with Archive(private_postgres.uri) as archive:
        sent = 0
        going = asyncio.Event()

        async def router(mine: list[list[dict[str, Any]]]) -> None:
            nonlocal sent
            for batch in mine:
                if sent >= 10:
                    await going.wait()
                await recovered(archive, partial(Archive.store, records=batch, namespace="prod"))
                sent += 1

        sending = [asyncio.create_task(router(batches[n::4])) for n in range(4)]
        await eventually_async(lambda: sent >= 10, within=20)
        going.set()
        await asyncio.to_thread(private_postgres.stop, crash=crash)
        await asyncio.to_thread(private_postgres.start)
        await asyncio.gather(*sending)
        totals = await recovered(archive, CALLS["totals"])
        assert totals["u-1"].requests == 3000
        (arm,) = await recovered(archive, CALLS["arms"])
        assert arm.requests == 3000


async def test_while_it_is_away_totals_that_are_fresh_are_given(
    migrated: str, proxy: Proxy, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "TOTALS_GOOD", 60.0)
    name = migrated.partition("?")[0].rpartition("/")[2]
    async with Archive(postgres.uri_of(name, port=proxy.port)) as archive:
        await archive.store([told("r")], namespace="prod")
        known = await archive.totals()
        assert known["u-1"].requests == 1
        proxy.stop()
        await refusal(archive, CALLS["ids"])
        assert await archive.totals() == known


async def test_a_lock_that_is_held_delays_nobody_else(archive: Archive, migrated: str) -> None:
    async with await AsyncConnection.connect(migrated) as other:
        await other.execute("LOCK TABLE llmb.llm_usage")
        asking = asyncio.create_task(refusal(archive, CALLS["totals"]))
        for _ in range(5):
            assert await archive.ids() == {}
            assert list(await archive.history("u", before=None, limit=1)) == []
        await asking
        assert archive.up is True
    assert await archive.totals() == {}


async def test_an_older_schema_is_told_with_what_to_do(
    archive: Archive, migrated: str, postgres: Postgres
) -> None:
    name = migrated.partition("?")[0].rpartition("/")[2]
    async with await AsyncConnection.connect(migrated, autocommit=True) as other:
        newest = migrate.latest()
        await other.execute("DELETE FROM llmb.schema_migrations WHERE version = %s", (newest,))
        async with Archive(postgres.uri_of(name)) as fresh:
            for call in CALLS.values():
                assert "run llmb migrate" in (await refusal(fresh, call)).detail
            await other.execute(
                "INSERT INTO llmb.schema_migrations (version) VALUES (%s)", (newest,)
            )
            assert await recovered(fresh, CALLS["ids"]) == {}


async def test_closing_ends_what_is_under_way(
    migrated: str, proxy: Proxy, postgres: Postgres
) -> None:
    name = migrated.partition("?")[0].rpartition("/")[2]
    async with asyncio.timeout(LONGEST):
        async with Archive(postgres.uri_of(name, port=proxy.port)) as archive:
            await archive.ids()
            proxy.drop()
            asking = asyncio.create_task(archive.totals())
            await asyncio.sleep(0)
        with pytest.raises((asyncio.CancelledError, Away)):
            await asking
