"""Comparisons from recorded traffic: what Postgres sums up, and the table that comes of it."""

import random
import statistics
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_operator.admin.archive import Archive
from llm_operator.compare import document, table
from llm_operator.compare.document import Report
from llm_operator.compare.model import Arm
from llm_operator.compare.statistics import Verdict, compare
from llm_operator.record import arms as arms_module

SINCE = datetime(2026, 11, 27, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=1)
SPAN: dict[str, Any] = {"namespace": None, "since": SINCE, "until": UNTIL, "by": "backend_type"}

#: model, backend type, seconds of a request and tokens a second: what the predecessor published.
PUBLISHED = (
    ("phi3:mini", "ollama", 7.0, 14.0),
    ("phi3:mini", "mlx", 3.0, 33.0),
    ("llama3.1:8b", "ollama", 15.0, 6.7),
    ("llama3.1:8b", "mlx", 6.0, 16.7),
)

THEIR_TABLE = """
| Model | Backend | Avg Time | Tokens/sec | Speedup |
|-------|---------|----------|------------|---------|
| phi3:mini | Ollama | ~7s | ~14 t/s | 1.0x |
| phi3:mini | MLX | ~3s | ~33 t/s | 2.3x |
| llama3.1:8b | Ollama | ~15s | ~6.7 t/s | 1.0x |
| llama3.1:8b | MLX | ~6s | ~16.7 t/s | 2.5x |
"""


def told(request_id: str, at: datetime = SINCE, **given: Any) -> dict[str, Any]:
    record = {"request_id": request_id, "at": at.timestamp(), "model": "phi3:mini"}
    return record | {"outcome": "ok", "total_seconds": 0.5, "backend_type": "mlx"} | given


@pytest.fixture
async def archive(migrated: str) -> AsyncIterator[Archive]:
    async with Archive(migrated) as opened:
        yield opened


async def arms(archive: Archive, **given: Any) -> dict[str, Arm]:
    found = await archive.arms(**({"model": "phi3:mini"} | SPAN | given))
    assert [arm.key for arm in found] == sorted(arm.key for arm in found)
    return {arm.key: arm for arm in found}


def cells(lines: Sequence[str]) -> list[list[str]]:
    """The rows of a table in Markdown, without its rule."""
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in lines]
    return [row for row in rows if set("".join(row)) != {"-"}]


async def test_the_published_table_comes_of_recorded_traffic(archive: Archive) -> None:
    chance = random.Random(4)
    batch = []
    for model, backend, seconds, rate in PUBLISHED:
        # In pairs about the average, so that it is met and yet none is as the other.
        for number in range(50):
            apart = chance.uniform(0, 0.3)
            for sign in (-1, 1):
                batch.append(
                    told(
                        f"{model}-{backend}-{number}-{sign}",
                        SINCE + timedelta(minutes=number),
                        model=model,
                        backend_type=backend,
                        total_seconds=seconds * (1 + sign * apart),
                        decode_tokens_per_second=rate * (1 - sign * apart),
                        first_token_seconds=seconds / 10,
                    )
                )
    assert await archive.store(batch, namespace="prod") == 400
    reports = []
    for model in ("phi3:mini", "llama3.1:8b"):
        found = await archive.arms(model=model, **SPAN)
        comparison = compare(found)
        assert [one.verdict for one in comparison.backends] == [Verdict.BASELINE, Verdict.FASTER]
        report = Report(
            model=model, since=SINCE, until=UNTIL, by="backend_type", comparison=comparison
        )
        reports.append(document.read(document.write(report)))
    assert cells(table.summary(reports)) == cells(THEIR_TABLE.strip().splitlines())
    assert table.full(reports[0])[2].startswith("ollama   100       0       0          100")


async def test_arms_are_what_the_records_say(archive: Archive) -> None:
    chance = random.Random(5)
    kinds = [("mlx", "mac"), ("ollama", "box"), ("ollama", "mac"), ("openai", None)]
    batch = []
    for number in range(900):
        backend, target = chance.choice(kinds)
        batch.append(
            told(
                f"r-{number}",
                SINCE + timedelta(seconds=90 * number),
                backend_type=backend,
                target=target,
                outcome=chance.choice(["ok", "ok", "ok", "error", "broken", "cancelled"]),
                fallback_reason=chance.choice([None, None, "", "connect"]),
                total_seconds=chance.lognormvariate(0, 1),
                first_token_seconds=chance.choice([None, chance.uniform(0, 1)]),
                decode_tokens_per_second=chance.choice([None, chance.uniform(5, 50)]),
            )
        )
    await archive.store(batch, namespace="prod")
    for by in ("backend_type", "target"):
        found = await arms(archive, by=by)
        names = {str(record[by]) for record in batch if record[by]}
        assert found.keys() == names
        for name in names:
            assert found[name] == _expected(name, [one for one in batch if one[by] == name])


def _expected(name: str, records: Sequence[dict[str, Any]]) -> Arm:
    """The same by Python."""
    proper = [one for one in records if one["outcome"] == "ok" and not one["fallback_reason"]]

    def of(field: str) -> list[float]:
        return [one[field] for one in proper if one[field] is not None]

    times, firsts, rates = map(
        of, ("total_seconds", "first_token_seconds", "decode_tokens_per_second")
    )
    hundredths = statistics.quantiles(times, n=100, method="inclusive")
    return Arm(
        key=name,
        requests=len(records),
        errors=sum(one["outcome"] in ("error", "broken") for one in records),
        fallbacks=sum(bool(one["fallback_reason"]) for one in records),
        times=len(times),
        average_seconds=pytest.approx(statistics.fmean(times)),
        deviation_seconds=pytest.approx(statistics.stdev(times)),
        p50_seconds=pytest.approx(hundredths[49]),
        p95_seconds=pytest.approx(hundredths[94]),
        first_tokens=len(firsts),
        average_first_token_seconds=pytest.approx(statistics.fmean(firsts)),
        speeds=len(rates),
        average_tokens_per_second=pytest.approx(statistics.fmean(rates)),
        deviation_tokens_per_second=pytest.approx(statistics.stdev(rates)),
    )


@pytest.mark.parametrize("sample", [1, 7, 50])
async def test_percentiles_of_many_are_of_a_sample(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    """Of each backend by its own number, so that a small one has all of its own."""
    monkeypatch.setattr(arms_module, "SAMPLE", sample * 100)
    batch = [told(f"r-{n}", total_seconds=(n + 1) / 5000) for n in range(5000)]
    few = [told(f"f-{n}", backend_type="ollama", total_seconds=n) for n in (1, 2, 3)]
    await archive.store([*batch, *few], namespace="")
    found = await arms(archive)
    assert (found["mlx"].times, found["mlx"].average_seconds) == (5000, pytest.approx(0.5001))
    assert found["mlx"].p50_seconds == pytest.approx(0.5, abs=0.25)
    assert found["mlx"].p95_seconds == pytest.approx(0.95, abs=0.1)
    assert (found["ollama"].p50_seconds, found["ollama"].p95_seconds) == (2.0, pytest.approx(2.9))


async def test_what_was_not_measured_is_none(archive: Archive) -> None:
    await archive.store(
        [
            told("r-1", outcome="error", first_token_seconds=1.0, decode_tokens_per_second=1.0),
            told("r-2", backend_type="ollama", total_seconds=2.0),
        ],
        namespace="",
    )
    found = await arms(archive)
    assert found["mlx"] == Arm(
        key="mlx",
        requests=1,
        errors=1,
        fallbacks=0,
        times=0,
        average_seconds=None,
        deviation_seconds=None,
        p50_seconds=None,
        p95_seconds=None,
        first_tokens=0,
        average_first_token_seconds=None,
        speeds=0,
        average_tokens_per_second=None,
        deviation_tokens_per_second=None,
    )
    assert (found["ollama"].times, found["ollama"].average_seconds) == (1, 2.0)
    assert found["ollama"].deviation_seconds is None


async def test_the_time_is_from_and_up_to(archive: Archive) -> None:
    instant = timedelta(microseconds=1)
    times = {"before": SINCE - instant, "first": SINCE, "last": UNTIL - instant, "after": UNTIL}
    await archive.store(
        [told(name, at, backend_type=name) for name, at in times.items()], namespace=""
    )
    assert set(await arms(archive)) == {"first", "last"}


async def test_others_are_left_out(archive: Archive) -> None:
    """Of another model or namespace, and requests that no target was asked for."""
    await archive.store(
        [told("r-1"), told("r-2", model="phi3"), told("r-3", backend_type=None)], namespace="prod"
    )
    await archive.store([told("r-4", backend_type="ollama")], namespace="dev")
    assert set(await arms(archive)) == {"mlx", "ollama"}
    assert set(await arms(archive, namespace="prod")) == {"mlx"}
    assert (await arms(archive, namespace="prod"))["mlx"].requests == 1
    assert await arms(archive, namespace="") == {}
    assert await arms(archive, model="none") == {}


@pytest.mark.parametrize("name", ["a\0", "\ud800"])
async def test_of_a_name_that_can_not_be_is_nothing(archive: Archive, name: str) -> None:
    span = {"model": "phi3:mini"} | SPAN
    for which in ({"model": name}, {"namespace": name}):
        assert list(await archive.arms(**(span | which))) == []
        assert list(await archive.series(**(span | which), step=60)) == []
    assert await archive.ids() == {}


async def test_what_backends_are_told_apart_by_is_a_column(archive: Archive) -> None:
    with pytest.raises(ValueError, match="by: must be one of backend_type, target"):
        await arms(archive, by="target; DROP TABLE llmb.llm_usage")


class TestSeries:
    async def test_has_a_point_for_each_step_with_a_request(self, archive: Archive) -> None:
        minute = timedelta(minutes=1)
        rate = {"decode_tokens_per_second": 30.0}
        await archive.store(
            [
                told("r-1", SINCE, total_seconds=1.0, **rate),
                told("r-2", SINCE + 9 * minute, total_seconds=3.0),
                told("r-3", SINCE + 9 * minute, outcome="error", total_seconds=60.0),
                told("r-4", SINCE + 10 * minute, fallback_reason="connect"),
                told("r-5", SINCE + 10 * minute, backend_type="ollama"),
                told("r-6", SINCE + 35 * minute, outcome="broken"),
            ],
            namespace="prod",
        )
        points = await archive.series(model="phi3:mini", **SPAN, step=600)
        assert [
            (
                (point.at - SINCE) / minute,
                point.key,
                point.requests,
                point.errors,
                point.average_seconds,
                point.average_tokens_per_second,
            )
            for point in points
        ] == [
            (0, "mlx", 3, 1, 2.0, 30.0),
            (10, "mlx", 1, 0, None, None),
            (10, "ollama", 1, 0, 0.5, None),
            (30, "mlx", 1, 1, None, None),
        ]
        assert {point.at.tzinfo is not None for point in points} == {True}

    async def test_steps_begin_with_the_time(self, archive: Archive) -> None:
        await archive.store([told("r-1", SINCE + timedelta(seconds=100))], namespace="")
        span = SPAN | {"since": SINCE + timedelta(seconds=7)}
        (point,) = await archive.series(model="phi3:mini", **span, step=60)
        assert point.at == SINCE + timedelta(seconds=67)

    @pytest.mark.parametrize("step", [86_400, 10**12, 2**80])
    async def test_a_step_may_be_longer_than_all(self, archive: Archive, step: int) -> None:
        await archive.store([told("r-1"), told("r-2", UNTIL - timedelta(hours=1))], namespace="")
        (point,) = await archive.series(model="phi3:mini", **SPAN, step=step)
        assert (point.at, point.requests) == (SINCE, 2)

    async def test_is_of_targets_too(self, archive: Archive) -> None:
        batch = [told("r-1", target="mac"), told("r-2", target="box"), told("r-3")]
        await archive.store(batch, namespace="")
        span = SPAN | {"by": "target"}
        points = await archive.series(model="phi3:mini", **span, step=60)
        assert [point.key for point in points] == ["box", "mac"]
