"""The follower: the table equals the folder, and is the last good one when it can't."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from llm_contract import CHECKSUM_KEY, CONFIG_KEY, checksum
from llm_router import follow
from llm_router.follow import Follower
from parts.eventually import eventually_async
from parts.kubelet import project
from parts.router import files, ollama, route

GOOD = files(route("a", ollama("http://h")))
OTHER = files(route("b", ollama("http://h")))
RAW = GOOD[CONFIG_KEY]
NEWER = RAW.replace(b'"schemaVersion":1', b'"schemaVersion":2')


def signed(raw: bytes) -> dict[str, bytes]:
    return {CONFIG_KEY: raw, CHECKSUM_KEY: checksum(raw).encode()}


#: What may come after a good revision, and what is then said.
BAD: dict[str, tuple[dict[str, bytes], str]] = {
    "cut-off": ({**GOOD, CONFIG_KEY: RAW[:-30]}, "checksum is"),
    "cut-off-and-signed": (signed(RAW[:-30]), "not JSON"),
    "wrong-checksum": ({**GOOD, CHECKSUM_KEY: b"0" * 64}, "checksum is"),
    "checksum-of-another": ({**GOOD, CHECKSUM_KEY: OTHER[CHECKSUM_KEY]}, "checksum is"),
    "newer-version": (signed(NEWER), "schemaVersion is 2; this release reads up to 1"),
    "bad-address": (signed(RAW.replace(b"http://h", b"http://h?x")), "an upstream address"),
    "no-configuration": (signed(b"{}"), "schemaVersion: is missing"),
    "no-checksum": ({CONFIG_KEY: RAW}, f"does not hold {CONFIG_KEY} and {CHECKSUM_KEY}"),
    "nothing": ({}, f"does not hold {CONFIG_KEY} and {CHECKSUM_KEY}"),
    "hostile": (signed(b"[" * 200_000), ""),
}


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(tmp_path, reread_seconds=60)


class TestReload:
    async def test_takes_a_good_revision(self, follower: Follower) -> None:
        project(follower.folder, GOOD)
        assert await follower.reload() == "loaded"
        assert follower.table is not None
        assert set(follower.table.entries) == {"a"}
        assert follower.loaded_at == follower.read_at > 0
        assert follower.rejection is None

    async def test_leaves_an_equal_one_alone(self, follower: Follower) -> None:
        project(follower.folder, GOOD)
        await follower.reload()
        before, loaded_at = follower.table, follower.loaded_at
        project(follower.folder, {})
        project(follower.folder, GOOD)
        assert await follower.reload() == "unchanged"
        assert follower.table is before
        assert follower.loaded_at == loaded_at
        assert follower.read_at >= loaded_at

    async def test_nothing_yet_is_no_error(self, follower: Follower) -> None:
        assert await follower.reload() == "absent"
        assert (follower.table, follower.rejection) == (None, None)

    @pytest.mark.parametrize(("bad", "said"), BAD.values(), ids=BAD)
    async def test_keeps_the_last_good_one(
        self, follower: Follower, bad: dict[str, bytes], said: str
    ) -> None:
        project(follower.folder, GOOD)
        await follower.reload()
        before, loaded_at = follower.table, follower.loaded_at
        project(follower.folder, bad)
        assert await follower.reload() == "rejected"
        assert follower.table is before
        assert follower.loaded_at == loaded_at
        assert follower.rejection is not None
        assert said in follower.rejection.reason
        assert follower.rejection.at >= loaded_at
        project(follower.folder, OTHER)
        assert await follower.reload() == "loaded"
        assert follower.rejection is None
        assert follower.table is not None
        assert set(follower.table.entries) == {"b"}

    async def test_the_last_good_one_mounted_again_ends_the_rejection(
        self, follower: Follower
    ) -> None:
        project(follower.folder, GOOD)
        await follower.reload()
        project(follower.folder, BAD["wrong-checksum"][0])
        await follower.reload()
        project(follower.folder, GOOD)
        assert await follower.reload() == "unchanged"
        assert follower.rejection is None

    async def test_a_first_bad_one_leaves_no_table(self, follower: Follower) -> None:
        project(follower.folder, BAD["newer-version"][0])
        assert await follower.reload() == "rejected"
        assert follower.table is None
        assert follower.rejection is not None

    async def test_damage_to_the_file_in_use_is_noticed(self, follower: Follower) -> None:
        project(follower.folder, GOOD)
        await follower.reload()
        (follower.folder / "..data" / CONFIG_KEY).write_bytes(RAW[:-1])
        assert await follower.reload() == "rejected"
        assert follower.table is not None

    async def test_a_file_that_cannot_be_read_is_said_so(self, follower: Follower) -> None:
        project(follower.folder, GOOD)
        await follower.reload()
        file = follower.folder / "..data" / CONFIG_KEY
        file.unlink()
        file.mkdir()
        assert await follower.reload() == "rejected"
        assert follower.rejection is not None
        assert CONFIG_KEY in follower.rejection.reason

    async def test_the_same_reason_is_logged_once(
        self, follower: Follower, caplog: pytest.LogCaptureFixture
    ) -> None:
        project(follower.folder, BAD["wrong-checksum"][0])
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                await follower.reload()
        assert [record.message for record in caplog.records] == ["configuration_rejected"]

    async def test_every_read_is_told(self, follower: Follower) -> None:
        told: list[str] = []
        follower.on_read = told.append
        await follower.reload()
        project(follower.folder, GOOD)
        await follower.reload()
        await follower.reload()
        project(follower.folder, {})
        await follower.reload()
        assert told == ["absent", "loaded", "unchanged", "rejected"]

    async def test_two_at_once_read_one_after_the_other(self, follower: Follower) -> None:
        project(follower.folder, GOOD)
        results = await asyncio.gather(*(follower.reload() for _ in range(5)))
        assert sorted(results) == ["loaded", *["unchanged"] * 4]


Running = Callable[[Follower], contextlib.AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def running(follower: Follower) -> AsyncIterator[None]:
    task = asyncio.create_task(follower.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def models(follower: Follower) -> set[str]:
    return set(follower.table.entries) if follower.table else set()


class TestRun:
    async def test_a_swap_is_in_use_within_two_seconds(self, follower: Follower) -> None:
        project(follower.folder, GOOD)
        async with running(follower):
            await eventually_async(lambda: models(follower) == {"a"}, within=1)
            project(follower.folder, OTHER)
            await eventually_async(lambda: models(follower) == {"b"}, within=2)

    async def test_the_first_mount_may_come_later(self, follower: Follower) -> None:
        async with running(follower):
            await asyncio.sleep(0)
            project(follower.folder, GOOD)
            await eventually_async(lambda: models(follower) == {"a"}, within=2)

    async def test_an_untouched_link_is_read_again_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # NB: damage that is repaired in place moves no link.
        monkeypatch.setattr(follow, "POLL_SECONDS", 0.02)
        follower = Follower(tmp_path, reread_seconds=0.1)
        results: list[str] = []
        follower.on_read = results.append
        project(tmp_path, BAD["wrong-checksum"][0])
        async with running(follower):
            await eventually_async(lambda: results == ["rejected"], within=2)
            (tmp_path / "..data" / CHECKSUM_KEY).write_bytes(GOOD[CHECKSUM_KEY])
            await eventually_async(lambda: models(follower) == {"a"}, within=2)
            assert follower.rejection is None

    async def test_nothing_that_is_mounted_ends_it(
        self, follower: Follower, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(follow, "POLL_SECONDS", 0.01)
        project(follower.folder, GOOD)
        results: list[str] = []
        follower.on_read = results.append
        async with running(follower):
            await eventually_async(lambda: results == ["loaded"], within=2)
            for bad, _ in BAD.values():
                before = len(results)
                project(follower.folder, bad)
                await eventually_async(lambda n=before: len(results) > n, within=2)
                assert models(follower) == {"a"}
