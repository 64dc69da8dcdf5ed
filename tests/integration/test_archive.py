"""The archive on a real Postgres: numbers, history, totals and recorded requests."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from llm_operator.admin.archive import WAITING, Archive
from llm_operator.admin.errors import AdminError, Away, Invalid
from llm_operator.admin.model import Sample, Totals
from llm_operator.record import Record, partitions, rollup, totals, usage
from llm_operator.record.pool import Connection
from llm_operator.record.samples import Place
from parts.eventually import eventually_async
from parts.rows import Query, resource

#: NB: taken once, so that a test that runs over an hour's end means one hour.
NOW = datetime.now(UTC)
HOUR = NOW.replace(minute=0, second=0, microsecond=0)

#: A month and more: nothing of it is dropped here.
SINCE = NOW.date() - timedelta(days=40)


def told(request_id: str, at: datetime = NOW, **given: Any) -> dict[str, Any]:
    record = {"request_id": request_id, "at": at.timestamp(), "model": "phi3:mini"}
    return record | {"outcome": "ok", "total_seconds": 0.5, "route_uid": "u-1"} | given


@pytest.fixture
async def archive(migrated: str) -> AsyncIterator[Archive]:
    async with Archive(migrated) as opened:
        yield opened


async def test_a_url_that_can_not_be_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="the database URL is empty"):
        Archive("")


class TestIds:
    async def test_are_of_live_rows_from_one_on(self, archive: Archive, migrated: str) -> None:
        assert await archive.ids() == {}
        async with Record(migrated) as record:
            await record.sync("prod", [resource("a"), resource("b")])
            assert await archive.ids() == {"u-a": 1, "u-b": 2}
            await record.sync("prod", [resource("b", generation=2)])
        assert await archive.ids() == {"u-b": 2}


class TestHistory:
    @pytest.fixture
    async def changed(self, migrated: str) -> None:
        """Three generations of one resource, its end, and another beside it."""
        async with Record(migrated) as record:
            for generation in (1, 2, 3):
                fields: dict[str, Any] = {"generation": generation, "max_tokens": generation * 10}
                await record.sync("prod", [resource("a", **fields), resource("b", **fields)])
            await record.sync("prod", [resource("b", generation=3)])

    async def test_is_newest_first_and_whole(self, archive: Archive, changed: None) -> None:
        found = await archive.history("u-a", before=None, limit=100)
        assert [(one.generation, one.change) for one in found] == [
            *[(3, "deleted"), (3, "changed"), (2, "changed"), (1, "created")]
        ]
        first = found[-1]
        assert (first.namespace, first.name) == ("prod", "a")
        assert first.spec["maxTokens"] == 10
        assert first.spec["temperature"] == 0
        assert first.recorded_at.tzinfo is not None
        assert abs(first.recorded_at - datetime.now(UTC)) < timedelta(minutes=5)

    async def test_is_read_page_by_page(self, archive: Archive, changed: None) -> None:
        pages = []
        before = None
        while page := await archive.history("u-a", before=before, limit=1):
            pages.append([one.change for one in page])
            before = page[-1].generation
        assert pages == [["deleted", "changed"], ["changed"], ["created"]]

    async def test_ends_below_what_is_given(self, archive: Archive, changed: None) -> None:
        found = await archive.history("u-b", before=3, limit=100)
        assert [one.generation for one in found] == [2, 1]

    @pytest.mark.parametrize("before", [0, -(2**80), 1])
    async def test_below_the_first_there_is_nothing(
        self, archive: Archive, changed: None, before: int
    ) -> None:
        assert list(await archive.history("u-b", before=before, limit=5)) == []

    async def test_above_all_there_can_be_is_all(self, archive: Archive, changed: None) -> None:
        assert len(await archive.history("u-b", before=2**80, limit=5)) == 3

    @pytest.mark.parametrize("uid", ["", "u-c", "u\0", "u\ud800"])
    async def test_of_nothing_is_nothing(self, archive: Archive, changed: None, uid: str) -> None:
        assert list(await archive.history(uid, before=None, limit=5)) == []
        assert archive.up is not False


class TestStore:
    async def test_stores_each_record_once(self, archive: Archive, query: Query) -> None:
        batch = [told(f"r-{n}") for n in range(50)]
        assert await archive.store(batch, namespace="prod") == 50
        assert await archive.store([*batch, told("new")], namespace="prod") == 1
        rows = await query("SELECT count(*), min(namespace) FROM llmb.llm_usage")
        assert rows == [(51, "prod")]

    async def test_what_comes_at_once_is_stored_once(self, archive: Archive, query: Query) -> None:
        batches = [[told(f"r-{20 * first + n}") for n in range(40)] for first in range(10)]
        counts = await asyncio.gather(*(archive.store(b, namespace="prod") for b in batches * 3))
        assert sum(counts) == 220
        assert await query("SELECT count(*) FROM llmb.llm_usage") == [(220,)]


#: Totals without a record counted apart, straight from the records.
NAIVE = """
    SELECT route_uid, count(*), count(*) FILTER (WHERE outcome IN ('error', 'broken')),
        count(*) FILTER (WHERE fallback_reason <> ''),
        avg(total_seconds) FILTER (WHERE outcome = 'ok'),
        avg(decode_tokens_per_second) FILTER (WHERE outcome = 'ok')
    FROM llmb.llm_usage WHERE route_uid <> '' GROUP BY 1
"""


def _chance_of(number: int, chance: random.Random) -> dict[str, Any]:
    """Some record of the last two days; some come late."""
    given: dict[str, Any] = {
        "route_uid": chance.choice(["u-1", "u-2", None]),
        "target": chance.choice(["mac", "box", None]),
        "outcome": chance.choice(["ok", "ok", "ok", "error", "broken", "cancelled"]),
        "total_seconds": chance.uniform(0.1, 9),
        "fallback_reason": chance.choice([None, None, "connect", ""]),
        "decode_tokens_per_second": chance.choice([None, chance.uniform(5, 50)]),
    }
    at = NOW - timedelta(minutes=chance.choice([0, 3, 61, 62, 130, 600, 2000]))
    return told(f"r-{number}", at, **given)


class TestTotals:
    async def agree(self, connection: Connection, query: Query) -> None:
        """That the totals are those of a count of all records.

        NB: looked at with nothing under way, so both see the same.
        """
        found: Mapping[str, Any] = await totals.totals(connection)
        expected = {
            uid: {
                "requests": requests,
                "errors": errors,
                "fallbacks": fallbacks,
                "average_seconds": pytest.approx(seconds),
                "average_tokens_per_second": pytest.approx(rate),
            }
            for uid, requests, errors, fallbacks, seconds, rate in await query(NAIVE)
        }
        assert found == expected

    async def test_are_right_at_each_step_of_rolling_up(
        self, connection: Connection, query: Query
    ) -> None:
        """Records of any age come between the steps, as they do."""
        chance = random.Random(7)
        number = 0

        async def more(count: int) -> None:
            nonlocal number
            batch = [_chance_of(number + n, chance) for n in range(count)]
            number += count
            await usage.insert(connection, batch, namespace=chance.choice(["prod", "dev"]))
            await self.agree(connection, query)

        await self.agree(connection, query)
        for _ in range(4):
            await more(60)
            now, hours = await rollup.due(connection, SINCE)
            await more(10)
            for hour in hours:
                await rollup.roll_up(connection, hour)
                await self.agree(connection, query)
                await more(3)
            await rollup.done(connection, now)
            await self.agree(connection, query)
            # As it is ten minutes later: what was received is no longer looked at twice.
            await query("UPDATE llmb.llm_usage SET received_at = received_at - interval '10 min'")
            await query("UPDATE llmb.llm_usage_rolled_up SET until = until - interval '10 min'")
            await self.agree(connection, query)
        assert number > 300

    async def test_do_not_move_while_records_are_rolled_up(
        self, archive: Archive, migrated: str, connection: Connection, query: Query
    ) -> None:
        """Looked at all the time, by one who sees whatever is committed in between."""
        chance = random.Random(11)
        await usage.insert(connection, [_chance_of(n, chance) for n in range(2000)])
        expected = {uid: requests for uid, requests, *_ in await query(NAIVE)}

        async def roll() -> None:
            async with await AsyncConnection.connect(migrated, autocommit=True) as other:
                for _ in range(5):
                    await other.execute("UPDATE llmb.llm_usage_rolled_up SET until = 'epoch'")
                    await other.execute("DELETE FROM llmb.llm_usage_hourly")
                    now, hours = await rollup.due(other, SINCE)
                    for hour in hours:
                        await rollup.roll_up(other, hour)
                    await rollup.done(other, now)

        rolling = asyncio.create_task(roll())
        looks = 0
        while not rolling.done():
            found = await totals.totals(connection)
            assert {uid: sums["requests"] for uid, sums in found.items()} == expected
            looks += 1
        await rolling
        assert looks > 1

    async def test_outlive_the_records(self, connection: Connection, query: Query) -> None:
        old = HOUR - timedelta(days=20)
        await usage.insert(connection, [told(f"r-{n}", old) for n in range(5)])
        now, hours = await rollup.due(connection, SINCE)
        for hour in hours:
            await rollup.roll_up(connection, hour)
        await rollup.done(connection, now)
        await query("DELETE FROM llmb.llm_usage")
        for late in (0, 1):
            assert (await totals.totals(connection))["u-1"]["requests"] == 5
            # One more comes so late that those of its hour are gone: theirs is the larger sum.
            await usage.insert(connection, [told(f"late-{late}", old)])

    async def test_are_told_by_resource(self, archive: Archive) -> None:
        rate = {"decode_tokens_per_second": 40.0}
        await archive.store(
            [
                told("r-1", total_seconds=1.0, **rate),
                told("r-2", HOUR - timedelta(hours=3), total_seconds=3.0),
                told("r-3", outcome="error", total_seconds=60.0, fallback_reason="connect"),
                told("r-4", outcome="cancelled", total_seconds=0.1),
                told("r-5", route_uid="u-2", outcome="broken"),
                told("r-6", route_uid=None),
            ],
            namespace="prod",
        )
        assert await archive.totals() == {
            "u-1": Totals(
                requests=4,
                errors=1,
                fallbacks=1,
                average_seconds=2.0,
                average_tokens_per_second=40.0,
            ),
            "u-2": Totals(requests=1, errors=1),
        }

    async def test_are_read_once_for_all_who_ask(
        self, archive: Archive, connection: Connection
    ) -> None:
        first = await archive.totals()
        await usage.insert(connection, [told("r-1")])
        assert await asyncio.gather(*(archive.totals() for _ in range(200))) == [first] * 200


def sampled(number: int, at: datetime = NOW, **given: Any) -> dict[str, Any]:
    return told(f"r-{number:05}", at, **given)


async def all_of(archive: Archive, *, limit: int, **which: Any) -> list[Sample]:
    """Every sample, page by page to the end."""
    found: list[Sample] = []
    before = None
    while True:
        page = await archive.samples(
            **({"model": None, "backend": None} | which), before=before, limit=limit
        )
        found += page
        if len(page) < limit:
            return found
        before = page[-1].key


class TestSamples:
    async def test_have_all_that_is_known(self, archive: Archive) -> None:
        at = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
        full = told(
            "r-1",
            at,
            target="mac",
            backend_type="mlx",
            completion_tokens=9,
            prompt_tokens=7,
            decode_tokens_per_second=33.5,
            first_token_seconds=0.25,
            fallback_reason="connect",
            session="s",
            user="u",
            zone="z",
            intent="i",
            source="so",
            stage="st",
        )
        bare = {"request_id": "r-0", "at": 0, "model": "other", "outcome": "error"}
        await archive.store([full, bare | {"total_seconds": 1}], namespace="")
        one, other = await archive.samples(model=None, backend=None, before=None, limit=10)
        assert one == Sample(
            key=one.key,
            request_id="r-1",
            at=at.timestamp(),
            model="phi3:mini",
            backend="mlx",
            target="mac",
            outcome="ok",
            latency_seconds=0.5,
            tokens=9,
            prompt_tokens=7,
            tokens_per_second=33.5,
            first_token_seconds=0.25,
            fallback_reason="connect",
            session_id="s",
            user_id="u",
            zone="z",
            intent="i",
            source="so",
            stage="st",
        )
        assert other == Sample(
            key=other.key,
            request_id="r-0",
            at=0.0,
            model="other",
            backend="",
            target="",
            outcome="error",
            latency_seconds=1.0,
        )

    async def test_come_newest_first_without_loss_while_records_come_in(
        self, archive: Archive, connection: Connection
    ) -> None:
        """3,000 over some days, many at one instant, and newer ones all the time."""
        for day in range(3):
            async with connection.transaction():
                await partitions.make(connection, NOW.date() - timedelta(days=day))
        chance = random.Random(3)
        ages = [timedelta(minutes=chance.randrange(0, 5000, 7)) for _ in range(3000)]
        batch = [sampled(number, NOW - age) for number, age in enumerate(ages)]
        chance.shuffle(batch)
        await usage.insert(connection, batch)
        stop = asyncio.Event()

        async def arriving() -> None:
            number = 100_000
            while not stop.is_set():
                later = NOW + timedelta(seconds=number)
                await usage.insert(connection, [sampled(number, later)])
                number += 1

        coming = asyncio.create_task(arriving())
        found = await all_of(archive, limit=97)
        stop.set()
        await coming
        assert [one.at for one in found] == sorted((one.at for one in found), reverse=True)
        before = [one.request_id for one in found if one.request_id < "r-1"]
        assert len(before) == 3000
        assert len({one.request_id for one in found}) == len(found)

    async def test_of_one_instant_are_paged_too(self, archive: Archive) -> None:
        await archive.store([sampled(number) for number in range(50)], namespace="")
        found = await all_of(archive, limit=7)
        assert [one.request_id for one in found] == [f"r-{n:05}" for n in reversed(range(50))]

    async def test_are_of_one_model_or_backend(self, archive: Archive) -> None:
        kinds = [(model, backend) for model in ("a", "b:c") for backend in ("mlx", "ollama", None)]
        batch = [
            sampled(number, NOW - timedelta(minutes=number), model=model, backend_type=backend)
            for number, (model, backend) in enumerate(kinds * 5)
        ]
        await archive.store(batch, namespace="")
        assert len(await all_of(archive, limit=4)) == 30
        assert len(await all_of(archive, limit=4, model="a")) == 15
        assert len(await all_of(archive, limit=4, backend="mlx")) == 10
        both = await all_of(archive, limit=4, model="b:c", backend="ollama")
        assert {(one.model, one.backend) for one in both} == {("b:c", "ollama")}
        assert len(both) == 5
        assert await all_of(archive, limit=4, model="c") == []
        assert await all_of(archive, limit=4, backend="vllm") == []

    async def test_of_any_time_and_name_have_a_key(self, archive: Archive) -> None:
        """Before 1970, later than Python's years, and ids of any letters."""
        times = [-62_000_000_000.5, -0.000001, 0, 250_000_000_000.125, 9_224_318_015_999]
        ids = ["ü:/+?%", "x" * 512, ":", " ", "-"]
        batch = [
            told("", route_uid="u") | {"at": at, "request_id": request_id}
            for at in times
            for request_id in ids
        ]
        assert await archive.store(batch, namespace="") == 25
        found = await all_of(archive, limit=2)
        assert len(found) == 25
        assert {(one.at, one.request_id) for one in found} == {
            (at, request_id) for at in times for request_id in ids
        }
        assert all(re.fullmatch(r"[A-Za-z0-9_-]+", one.key) for one in found)

    @pytest.mark.parametrize(
        "key",
        [
            *("", "x", "ä", "a b", "a\0", "MTox=", "Oi", "LTE", "YTpi", "_" * 4000),
            Place(microseconds=2**63, request_id="r").key,
            Place(microseconds=-(2**80), request_id="r").key,
            Place(microseconds=1, request_id="a\0").key,
        ],
    )
    async def test_go_on_below_a_key_alone(self, archive: Archive, key: str) -> None:
        with pytest.raises(Invalid, match="before: must be the key of a sample"):
            await archive.samples(model=None, backend=None, before=key, limit=1)

    @pytest.mark.parametrize("name", ["a\0", "\ud800"])
    async def test_of_a_name_that_can_not_be_are_none(self, archive: Archive, name: str) -> None:
        await archive.store([told("r")], namespace="")
        for which in ({"model": name}, {"backend": name}):
            assert await all_of(archive, limit=1, **which) == []
        assert archive.up is True


SPAN: dict[str, Any] = {
    "model": "m",
    "namespace": None,
    "since": HOUR,
    "until": NOW + timedelta(hours=1),
    "by": "target",
}


@pytest.mark.parametrize(
    ("ask", "told_of"),
    [
        (
            lambda archive: archive.samples(model=None, backend="mlx", before=None, limit=1),
            Invalid("backend: .* name a model too"),
        ),
        (lambda archive: archive.arms(**SPAN), Invalid("since: .* ask for less time")),
        (lambda archive: archive.series(**SPAN, step=60), Invalid("since: .* less time")),
        (lambda archive: archive.totals(), Away("see that an operator runs")),
    ],
    ids=["samples", "arms", "series", "totals"],
)
async def test_a_question_that_takes_too_long_turns_nobody_else_away(
    archive: Archive,
    migrated: str,
    ask: Callable[[Archive], Coroutine[Any, Any, object]],
    told_of: AdminError,
) -> None:
    """Postgres gives up the one statement; it is not away."""
    assert await archive.ids() == {}
    async with await AsyncConnection.connect(migrated) as other:
        await other.execute("LOCK TABLE llmb.llm_usage")
        asking = asyncio.create_task(ask(archive))

        async def given_up() -> bool:
            cursor = await other.execute("SELECT pid FROM pg_locks WHERE NOT granted")
            found = await cursor.fetchall()
            for (pid,) in found:
                await other.execute("SELECT pg_cancel_backend(%s)", (pid,))
            return bool(found)

        await eventually_async(given_up, within=10, every=0.01)
        with pytest.raises(type(told_of), match=told_of.detail):
            await asking
        assert archive.up is True
        assert await archive.ids() == {}


async def test_large_questions_leave_room_for_usage(archive: Archive, migrated: str) -> None:
    """As many as are let in wait for a lock; one more is told to come again, usage is stored."""
    async with await AsyncConnection.connect(migrated) as other:
        await other.execute("LOCK TABLE llmb.llm_usage_default IN ACCESS EXCLUSIVE MODE")
        asking = [asyncio.create_task(archive.arms(**SPAN)) for _ in range(WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Away) as told_away:
            await archive.arms(**SPAN)
        assert told_away.value.retry_after
        assert await archive.ids() == {}
        await other.rollback()
        for task in asking:
            assert list(await task) == []
    assert list(await archive.arms(**SPAN)) == []
