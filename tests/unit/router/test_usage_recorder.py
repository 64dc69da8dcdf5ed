"""The recorder: adding is all a request pays, and every sink gets every record once."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from llm_router.usage import Outcome, Record, Recorder
from parts.eventually import eventually_async


def record(number: int) -> Record:
    """The record of one request."""
    return Record(
        request_id=str(number),
        at=float(number),
        front="openai_chat",
        outcome=Outcome.OK,
        status=200,
        total_seconds=1.0,
    )


def test_flush_hands_on_all_in_order() -> None:
    one: list[Record] = []
    two: list[Record] = []
    recorder = Recorder([one.extend, two.extend])
    records = [record(number) for number in range(100)]
    for each in records:
        recorder.add(each)
    assert one == []
    recorder.flush()
    assert one == two == records
    recorder.flush()
    assert len(one) == 100


async def test_it_runs_by_itself_in_slices() -> None:
    batches: list[int] = []
    recorder = Recorder([lambda batch: batches.append(len(batch))])
    for number in range(200):
        recorder.add(record(number))
    running = asyncio.create_task(recorder.run())
    await eventually_async(lambda: sum(batches) == 200, within=5)
    running.cancel()
    assert max(batches) <= 32


async def test_it_keeps_up_with_more_than_a_slice_a_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("llm_router.usage.recorder.PERIOD", 0)
    recorder = Recorder(limit=20_000)
    running = asyncio.create_task(recorder.run())
    one = record(1)
    for _ in range(200):
        for _ in range(1000):
            recorder.add(one)
        await asyncio.sleep(0)
    running.cancel()
    assert recorder.dropped == 0


def test_beyond_the_limit_it_counts() -> None:
    taken: list[Record] = []
    recorder = Recorder([taken.extend], limit=3)
    for number in range(5):
        recorder.add(record(number))
    assert recorder.dropped == 2
    recorder.flush()
    assert [each.request_id for each in taken] == ["0", "1", "2"]
    recorder.add(record(9))
    assert recorder.dropped == 2


def test_a_sink_that_fails_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fails(batch: Sequence[Record]) -> None:
        raise RuntimeError(len(batch))

    taken: list[Record] = []
    recorder = Recorder([fails, taken.extend])
    recorder.add(record(1))
    with caplog.at_level(logging.ERROR):
        recorder.flush()
    assert len(taken) == 1
    assert [each.message for each in caplog.records] == ["usage_sink_failed"]
