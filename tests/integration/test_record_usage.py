"""Usage records on a real Postgres: each is stored once, and a bad one costs no other."""

import asyncio
import json
import logging
import time
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from llm_operator.record import partitions, usage
from llm_operator.record.pool import Connection
from llm_router.trace import Trace
from llm_router.usage.record import Caller, Failure, Measures, Outcome, Record, to_json
from parts.eventually import eventually_async
from parts.rows import Query, Rows

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def told(request_id: str = "r-1", **given: Any) -> dict[str, Any]:
    record = {"request_id": request_id, "at": NOON.timestamp(), "model": "phi3:mini"}
    return record | {"outcome": "ok", "total_seconds": 0.5} | given


async def stored(query: Query) -> list[str]:
    rows = await query("SELECT request_id FROM llmb.llm_usage ORDER BY request_id")
    return [request_id for (request_id,) in rows]


async def test_stores_all_that_a_router_tells(connection: Connection, query: Query) -> None:
    sent = Record(
        request_id="r-1",
        at=NOON.timestamp() + 0.123456,
        front="openai",
        outcome=Outcome.BROKEN,
        status=200,
        total_seconds=2.5,
        model="phi3:mini",
        route="phi",
        route_uid="u-1",
        generation=3,
        target="mac",
        backend_type="mlx",
        upstream_model="mlx-community/phi",
        kind="chat",
        stream=True,
        error="idle_timeout",
        attempts=2,
        fallback_reason="connect",
        failures=(Failure("other", "ollama", "connect", 0.1),),
        measures=Measures(
            prompt_tokens=7,
            completion_tokens=9,
            counted="router",
            load_seconds=0.2,
            first_token_seconds=0.3,
            prefill_tokens_per_second=100.5,
            decode_tokens_per_second=40.25,
        ),
        caller=Caller(session="s", user="u", zone="z", intent="i", source="so", stage="st"),
        trace=Trace(trace_id="ab" * 16, span_id="cd" * 8),
    )
    document = json.loads(to_json(sent))
    assert await usage.insert(connection, [document], namespace="prod") == 1
    assert set(document) == set(usage.FIELDS)
    columns = ", ".join(f'"{name}"' for name in usage.FIELDS if name != "at")
    ((namespace, at, *values),) = await query(
        f"SELECT namespace, at, {columns} FROM llmb.llm_usage"
    )
    assert namespace == "prod"
    assert at == NOON + timedelta(microseconds=123456)
    assert dict(zip([n for n in usage.FIELDS if n != "at"], values, strict=True)) == {
        name: value for name, value in document.items() if name != "at"
    }


def test_knows_every_field_that_a_router_has() -> None:
    own = {field.name for field in fields(Record)} - {"measures", "caller", "trace", "encoded"}
    has = own | {field.name for part in (Measures, Caller) for field in fields(part)}
    assert set(usage.FIELDS) == has | {"trace_id"}


async def test_what_is_left_out_is_null_and_what_is_unknown_passed_over(
    connection: Connection, query: Query
) -> None:
    assert await usage.insert(connection, [told(new_in_a_later_release=1)]) == 1
    assert await query("SELECT namespace, route, prompt_tokens, stream FROM llmb.llm_usage") == [
        (None, None, None, None)
    ]


async def test_a_record_has_no_say_in_its_namespace(connection: Connection, query: Query) -> None:
    await usage.insert(connection, [told(namespace="theirs")], namespace="prod")
    assert await query("SELECT namespace FROM llmb.llm_usage") == [("prod",)]


async def test_the_same_record_is_stored_once(connection: Connection, query: Query) -> None:
    batch = [told(f"r-{n}") for n in range(10)]
    assert await usage.insert(connection, [*batch, *batch]) == 10
    before = await query("SELECT xmin, ctid FROM llmb.llm_usage")
    assert await usage.insert(connection, batch) == 0
    assert await usage.insert(connection, [*batch, told("r-new")]) == 1
    assert (await query("SELECT xmin, ctid FROM llmb.llm_usage"))[:10] == before


async def test_batches_that_overlap_do_not_wait_in_a_circle(migrated: str, query: Query) -> None:
    batch = [told(f"r-{n:03}") for n in range(200)]

    async def deliver(order: int) -> int:
        async with await AsyncConnection.connect(migrated) as own:
            return await usage.insert(own, batch[::order])

    async with asyncio.timeout(20):
        counts = await asyncio.gather(*(deliver(order) for order in (1, -1) * 4))
    assert sum(counts) == 200
    assert len(await stored(query)) == 200


BAD: dict[str, Any] = {
    "nul": told("bad", model="canary\0"),
    "surrogate": told("bad", user="canary\ud800"),
    "no id": told() | {"request_id": None},
    "no time": told("bad", at=None),
    "a time as text": told("bad", at="canary"),
    "a time out of range": told("bad", at=1e18),
    "not a number": told("bad", at=float("nan")),
    "an id too long": told("x" * 5000),
    "a key too long": told("bad", target="x" * 5000),
    "too many tokens": told("bad", prompt_tokens=2**40),
    "fewer than none": told("bad", completion_tokens=-1),
    "half a token": told("bad", prompt_tokens=1.5),
    "no rate": told("bad", decode_tokens_per_second="NaN"),
    "too long for a sum": told("bad", total_seconds=1e308),
    "endless": told("bad", total_seconds=float("inf")),
    "no record": "canary",
    "a list": [1],
    "null": None,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_what_postgres_cannot_store_costs_the_others_nothing(
    connection: Connection, query: Query, bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    good = [told(f"r-{n}") for n in range(5)]
    assert await usage.insert(connection, [*good[:2], bad, *good[2:]]) == 5
    assert await stored(query) == [f"r-{n}" for n in range(5)]
    (entry,) = [entry for entry in caplog.records if entry.message == "usage_refused"]
    assert entry.__dict__["records"] == 1
    assert "canary" not in caplog.text


async def test_a_batch_inside_a_transaction_goes_with_it(migrated: str, query: Query) -> None:
    async with (
        await AsyncConnection.connect(migrated) as connection,
        connection.transaction(force_rollback=True),
    ):
        assert await usage.insert(connection, [told("r-1"), told("bad", at=None)]) == 1
    assert await stored(query) == []


async def test_nothing_is_nothing(connection: Connection) -> None:
    assert await usage.insert(connection, []) == 0


async def test_a_batch_of_a_thousand_takes_well_under_a_second(connection: Connection) -> None:
    batch = [told(f"r-{n}", session="s" * 40, attempts=1) for n in range(1000)]
    started = time.perf_counter()
    assert await usage.insert(connection, batch) == 1000
    assert time.perf_counter() - started < 1.0


async def where(query: Query) -> Rows:
    return await query("SELECT request_id, tableoid::regclass::text FROM llmb.llm_usage ORDER BY 1")


async def test_a_record_of_an_odd_day_is_kept(connection: Connection, query: Query) -> None:
    odd = [told("r-past", at=0), told("r-future", at=253_000_000_000)]
    assert await usage.insert(connection, odd) == 2
    assert await where(query) == [
        ("r-future", "llmb.llm_usage_default"),
        ("r-past", "llmb.llm_usage_default"),
    ]


async def test_a_day_that_gets_its_partition_takes_its_records(
    connection: Connection, query: Query
) -> None:
    midnight = datetime(2026, 5, 4, tzinfo=UTC).timestamp()
    await usage.insert(
        connection,
        [
            told("r-1-before", at=midnight - 0.001),
            told("r-2-first", at=midnight),
            told("r-3-last", at=midnight + 86_399.999),
            told("r-4-after", at=midnight + 86_400),
        ],
    )
    async with connection.transaction():
        assert await partitions.make(connection, date(2026, 5, 4)) is True
    await usage.insert(connection, [told("r-5-noon")])
    assert await usage.insert(connection, [told("r-2-first", at=midnight)]) == 0
    assert [name.rpartition("_")[2] for _, name in await where(query)] == [
        *("default", "20260504", "20260504", "default", "20260504")
    ]
    assert await partitions.days(connection) == {date(2026, 5, 4)}


@pytest.mark.parametrize("records", [1, 8])
async def test_a_delivery_while_its_day_gets_a_partition_loses_nothing(
    migrated: str,
    connection: Connection,
    query: Query,
    caplog: pytest.LogCaptureFixture,
    records: int,
) -> None:
    async def is_waiting() -> bool:
        return await query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)]

    caplog.set_level(logging.INFO)
    async with await AsyncConnection.connect(migrated) as maker:
        assert await partitions.make(maker, NOON.date())
        delivering = asyncio.create_task(
            usage.insert(connection, [told(f"r-{n}") for n in range(records)])
        )
        await eventually_async(is_waiting, within=5)
        await maker.commit()
    assert await delivering == records
    assert {name for _, name in await where(query)} == {"llmb.llm_usage_20260504"}
    assert "usage_refused" not in caplog.text


async def test_other_days_are_delivered_while_one_gets_its_partition(
    migrated: str, connection: Connection
) -> None:
    async with connection.transaction():
        await partitions.make(connection, NOON.date())
    async with await AsyncConnection.connect(migrated) as maker:
        await partitions.make(maker, NOON.date() + timedelta(days=1))
        async with asyncio.timeout(5):
            assert await usage.insert(connection, [told()]) == 1
