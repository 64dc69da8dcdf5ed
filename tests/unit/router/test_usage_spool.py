"""The spool: batches in order, within its bounds, on disk or in memory."""

import json
import logging
from pathlib import Path

import pytest

from llm_router.usage import Outcome, Record
from llm_router.usage import segments as module
from llm_router.usage.segments import MAX_BYTES, MAX_RECORDS, Segments
from llm_router.usage.spool import Counts, Spool

LIMIT = 64 << 20


def record(number: int, **given: object) -> Record:
    """The record of one request."""
    told: dict[str, object] = {"front": "openai_chat", "outcome": Outcome.OK, "status": 200}
    told |= {"request_id": f"r{number}", "at": 1.0, "total_seconds": 1.0}
    return Record(**told | given)  # type: ignore[arg-type]


def lines(*numbers: int, width: int = 0) -> list[bytes]:
    """Records as the spool writes them, filled up to a width in bytes."""
    made = [b'{"n":%d,"x":"' % number for number in numbers]
    return [line + b"x" * (width - len(line) - 2) + b'"}' for line in made]


def opened(folder: Path | None, *, limit: int = LIMIT) -> Segments:
    """Segments, ready."""
    made = Segments(folder, limit=limit)
    made.open()
    return made


def drained(segments: Segments, name: str = "n") -> list[int | str]:
    """The numbers or names of all records that wait, removed."""
    numbers = []
    while (found := segments.oldest()) is not None:
        segment, held = found
        numbers += [json.loads(line)[name] for line in held]
        segments.remove(segment)
    return numbers


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where records wait."""
    return tmp_path / "spool" if request.param == "disk" else None


class TestBatches:
    def test_come_oldest_first_and_stay_until_removed(self, folder: Path | None) -> None:
        segments = opened(folder)
        segments.add(lines(1, 2))
        first = segments.oldest()
        segments.add(lines(3))
        assert first is not None
        assert segments.oldest() == first
        assert len(first[1]) == 2, "what comes later is another batch"
        assert drained(segments) == [1, 2, 3]
        assert (segments.records, segments.size, segments.oldest()) == (0, 0, None)
        assert folder is None or [path.name for path in folder.iterdir()] == ["lock"]
        segments.close()

    def test_are_bounded_by_number(self, folder: Path | None) -> None:
        segments = opened(folder)
        for start in range(0, 1200, 100):
            segments.add(lines(*range(start, start + 100)))
        sizes = []
        while (found := segments.oldest()) is not None:
            sizes.append(len(found[1]))
            segments.remove(found[0])
        assert sizes == [MAX_RECORDS, MAX_RECORDS, 200]
        segments.close()

    def test_are_bounded_by_size(self, folder: Path | None) -> None:
        segments = opened(folder)
        segments.add(lines(*range(25), width=100_000))
        sizes = []
        while (found := segments.oldest()) is not None:
            sizes.append(sum(map(len, found[1])))
            segments.remove(found[0])
        assert len(sizes) == 3
        assert max(sizes) <= MAX_BYTES
        segments.close()

    def test_one_record_above_the_size_is_a_batch(self, folder: Path | None) -> None:
        segments = opened(folder)
        segments.add(lines(1, width=MAX_BYTES + 10) + lines(2))
        assert drained(segments) == [1, 2]
        segments.close()


class TestBounds:
    def test_the_oldest_go_first(self, folder: Path | None) -> None:
        segments = opened(folder, limit=100_000)
        segments.add(lines(*range(300), width=999))
        kept = drained(segments)
        assert kept == list(range(300 - len(kept), 300))
        assert 75 <= len(kept) <= 100
        assert segments.dropped == 300 - len(kept)
        segments.close()

    def test_what_is_being_sent_stays(self, folder: Path | None) -> None:
        segments = opened(folder, limit=100_000)
        segments.add(lines(1))
        taken = segments.oldest()
        segments.add(lines(*range(2, 300), width=999))
        assert taken is not None
        assert segments.oldest() == taken
        segments.close()

    def test_memory_has_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MEMORY_BYTES", 50_000)
        segments = opened(None, limit=100_000)
        segments.add(lines(*range(300), width=999))
        assert segments.size <= 50_000
        assert segments.dropped == 300 - segments.records


class TestDisk:
    def test_outlives_the_process(self, tmp_path: Path) -> None:
        before = opened(tmp_path)
        before.add(lines(1, 2))
        assert before.close() == 0
        after = opened(tmp_path)
        after.add(lines(3))
        assert after.records == 3
        assert drained(after) == [1, 2, 3]
        after.close()

    def test_a_torn_line_is_skipped(self, tmp_path: Path) -> None:
        before = opened(tmp_path)
        before.add(lines(1, 2))
        before.close()
        (path,) = tmp_path.glob("*.jsonl")
        path.write_bytes(path.read_bytes() + b'{"n":3,"x')
        after = opened(tmp_path)
        assert after.records == 2
        assert drained(after) == [1, 2]
        after.close()

    @pytest.mark.parametrize("junk", [b"\0" * 100, b"\0\n\0\n", b"[]\n1\n", b"{\n", b""])
    def test_whatever_a_power_cut_left_is_skipped(self, tmp_path: Path, junk: bytes) -> None:
        (tmp_path / "000000000001.jsonl").write_bytes(junk)
        (tmp_path / "notes.jsonl").write_bytes(b"not ours")
        segments = opened(tmp_path)
        segments.add(lines(7))
        assert drained(segments) == [7]
        segments.close()
        assert (tmp_path / "notes.jsonl").exists()

    def test_the_bound_holds_for_what_is_found(self, tmp_path: Path) -> None:
        before = opened(tmp_path)
        before.add(lines(*range(3000), width=999))
        before.close()
        after = opened(tmp_path, limit=1_000_000)
        assert after.size <= 1_000_000
        assert after.dropped == 3000 - after.records
        after.close()

    def test_a_folder_has_one_user(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        first = opened(tmp_path)
        first.add(lines(1))
        second = opened(tmp_path)
        second.add(lines(2))
        assert [each.message for each in caplog.records] == ["usage_spool_unusable"]
        assert drained(second) == [2], "in memory"
        assert drained(first) == [1]
        first.close()
        second.close()

    def test_a_folder_that_cannot_be_is_survived(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        segments = opened(tmp_path / "file" / "spool")
        segments.add(lines(1))
        assert [each.message for each in caplog.records] == ["usage_spool_unusable"]
        assert segments.close() == 1

    def test_a_lost_file_costs_its_records_only(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        segments = opened(tmp_path)
        segments.add(lines(*range(600)))
        min(tmp_path.glob("*.jsonl")).unlink()
        with caplog.at_level(logging.INFO):
            assert drained(segments) == list(range(500, 600))
            segments.add(lines(1000))
        assert segments.dropped == 500
        said = [each.message for each in caplog.records]
        assert said == ["usage_spool_failing", "usage_spool_recovered"]
        segments.close()


class TestSpool:
    async def test_takes_records_and_gives_batches(self, folder: Path | None) -> None:
        spool = Spool(folder, limit=LIMIT)
        spool.take([record(1), record(2, front="ollama_list"), record(3)])
        assert (spool.counts().waiting, spool.counts().spooled) == (2, 0)
        batch = await spool.next()
        assert batch is not None
        document = json.loads(batch.body())
        assert [each["request_id"] for each in document["records"]] == ["r1", "r3"]
        assert not batch.more
        await spool.done(batch)
        assert await spool.next() is None
        assert spool.counts() == Counts(spooled=2 if folder else 0)
        assert await spool.close() == 0

    async def test_says_what_is_lost_at_the_end(self, folder: Path | None) -> None:
        spool = Spool(folder, limit=LIMIT)
        spool.take([record(1), record(2)])
        assert await spool.close() == (0 if folder else 2)
        assert spool.counts().dropped == (0 if folder else 2)
        if folder is not None:
            assert drained(opened(folder), "request_id") == ["r1", "r2"]

    async def test_memory_is_bounded_while_the_disk_hangs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("llm_router.usage.spool.MEMORY_BYTES", 10_000)
        spool = Spool(tmp_path, limit=LIMIT)
        spool.take([record(number) for number in range(1000)])
        counts = spool.counts()
        assert counts.waiting_bytes < 11_000
        assert counts.waiting + counts.dropped == 1000
        await spool.close()
