"""The follower: the table equals the folder, and is the last good one when it can't."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from llm_contract import CHECKSUM_KEY, CONFIG_KEY, Auth, checksum
from llm_router import follow
from llm_router.credentials import MAX_BYTES
from llm_router.follow import Follower
from llm_router.standing import Standings
from llm_router.table import Table
from parts.eventually import eventually_async
from parts.kubelet import project
from parts.router import files, mlx, ollama, route

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
    return Follower(tmp_path, reread_seconds=60, standings=Standings())


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

    @pytest.mark.check(40)
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


SECURED = files(
    route(
        "a",
        replace(ollama("http://h"), auth=Auth(credential="token")),
        replace(ollama("http://free"), name="free"),
    )
)


@dataclass(frozen=True)
class Both:
    """A follower of two folders, what it told, and where its credentials are."""

    follower: Follower
    credentials: Path
    standings: Standings
    results: list[str]
    swaps: list[Table]

    def reason(self) -> str:
        """Why the target with a credential can't be asked."""
        assert self.follower.table is not None
        secured, free = self.follower.table.entries["a"].destinations
        assert free.unusable == ""
        return secured.unusable

    def sent(self) -> bytes | None:
        """The credential that the target is asked with."""
        assert self.follower.table is not None
        return dict(self.follower.table.entries["a"].destinations[0].headers).get(b"authorization")


@pytest.fixture
def both(tmp_path: Path) -> Both:
    folder, secret = tmp_path / "config", tmp_path / "secret"
    folder.mkdir()
    secret.mkdir()
    standings = Standings()
    follower = Follower(folder, reread_seconds=60, standings=standings, credentials=secret)
    made = Both(follower, secret, standings, [], [])
    follower.on_read = made.results.append
    follower.on_swap = made.swaps.append
    return made


class TestCredentials:
    async def test_either_folder_makes_a_new_table(self, both: Both) -> None:
        project(both.follower.folder, SECURED)
        project(both.credentials, {"token": b"1\n"})
        assert await both.follower.reload() == "loaded"
        assert both.sent() == b"Bearer 1"
        assert await both.follower.reload() == "unchanged"
        project(both.credentials, {"token": b"2\n"})
        assert await both.follower.reload() == "loaded"
        assert both.sent() == b"Bearer 2"
        project(both.credentials, {"token": b"2\n", "unused": b"x"})
        await both.follower.reload()
        project(both.follower.folder, files(route("b", ollama("http://h"))))
        assert await both.follower.reload() == "loaded"
        assert both.swaps[-1] is both.follower.table

    @pytest.mark.parametrize("payload", [{}, {"other": b"x"}, {"token": b"a\nb"}])
    async def test_one_that_goes_or_breaks_is_its_targets_trouble(
        self, both: Both, payload: dict[str, bytes], caplog: pytest.LogCaptureFixture
    ) -> None:
        project(both.follower.folder, SECURED)
        project(both.credentials, {"token": b"1"})
        await both.follower.reload()
        assert both.reason() == ""
        project(both.credentials, payload)
        assert await both.follower.reload() == "loaded"
        assert both.reason().startswith("credential 'token' ")
        assert both.follower.rejection is None
        assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [
            "target_unusable"
        ]
        project(both.credentials, {"token": b"1"})
        await both.follower.reload()
        assert both.reason() == ""

    async def test_none_mounted_yet_is_no_reason_to_wait(self, both: Both) -> None:
        project(both.follower.folder, SECURED)
        both.credentials.rmdir()
        assert await both.follower.reload() == "loaded"
        assert f"is not mounted in {both.credentials}" in both.reason()

    async def test_a_folder_that_cannot_be_read_leaves_the_last(
        self, both: Both, caplog: pytest.LogCaptureFixture
    ) -> None:
        project(both.follower.folder, SECURED)
        project(both.credentials, {"token": b"1"})
        await both.follower.reload()
        project(both.credentials, {"token": b"2", "big": b"x" * MAX_BYTES})
        assert await both.follower.reload() == "unchanged"
        assert both.sent() == b"Bearer 1"
        assert "credentials_unreadable" in [record.message for record in caplog.records]
        project(both.credentials, {"token": b"2"})
        assert await both.follower.reload() == "loaded"
        assert both.sent() == b"Bearer 2"

    async def test_one_that_never_could_be_read_stops_no_table(self, both: Both) -> None:
        project(both.follower.folder, SECURED)
        both.credentials.rmdir()
        both.credentials.write_bytes(b"")
        assert await both.follower.reload() == "loaded"
        assert f"is not mounted in {both.credentials}" in both.reason()

    async def test_new_ones_wait_for_a_good_configuration(self, both: Both) -> None:
        project(both.follower.folder, SECURED)
        project(both.credentials, {"token": b"1"})
        await both.follower.reload()
        project(both.follower.folder, BAD["wrong-checksum"][0])
        project(both.credentials, {"token": b"2"})
        assert await both.follower.reload() == "rejected"
        assert both.sent() == b"Bearer 1"
        project(both.follower.folder, SECURED)
        assert await both.follower.reload() == "loaded"
        assert both.sent() == b"Bearer 2"

    async def test_nothing_said_holds_a_value(
        self, both: Both, caplog: pytest.LogCaptureFixture
    ) -> None:
        project(both.follower.folder, SECURED)
        with caplog.at_level(logging.DEBUG):
            for value in (b"hunter2", b"hunter2\nhunter2", b"hunter2\0"):
                project(both.credentials, {"token": value})
                await both.follower.reload()
        said = "".join(str(vars(record)) for record in caplog.records)
        assert "target_unusable" in said
        assert "hunter2" not in said + repr(both.follower.table)


class TestSwap:
    async def test_is_told_when_the_table_is_in_use(self, both: Both) -> None:
        seen: list[bool] = []
        both.follower.on_swap = lambda table: seen.append(both.follower.table is table)
        project(both.follower.folder, GOOD)
        await both.follower.reload()
        await both.follower.reload()
        project(both.follower.folder, BAD["wrong-checksum"][0])
        await both.follower.reload()
        assert seen == [True]

    async def test_keeps_what_is_known_and_forgets_what_is_not_used(self, both: Both) -> None:
        project(both.follower.folder, files(route("a", ollama("http://h"), mlx("http://gone"))))
        await both.follower.reload()
        standing = both.standings.of("http://h", "phi3:mini")
        assert {host.url for host in both.standings.hosts()} == {"http://h", "http://gone"}
        project(both.follower.folder, OTHER)
        await both.follower.reload()
        assert {host.url for host in both.standings.hosts()} == {"http://h"}
        assert both.follower.table is not None
        assert list(both.follower.table.standings()) == [standing]

    async def test_a_bad_configuration_forgets_nothing(self, both: Both) -> None:
        project(both.follower.folder, GOOD)
        await both.follower.reload()
        before = both.standings.hosts()
        project(both.follower.folder, BAD["bad-address"][0])
        await both.follower.reload()
        assert both.standings.hosts() == before


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
    @pytest.mark.check(40)
    async def test_a_swap_is_in_use_within_two_seconds(self, follower: Follower) -> None:
        project(follower.folder, GOOD)
        async with running(follower):
            await eventually_async(lambda: models(follower) == {"a"}, within=1)
            project(follower.folder, OTHER)
            await eventually_async(lambda: models(follower) == {"b"}, within=2)

    async def test_so_is_one_of_the_credentials(self, both: Both) -> None:
        project(both.follower.folder, SECURED)
        async with running(both.follower):
            await eventually_async(lambda: both.results == ["loaded"], within=1)
            assert both.sent() is None
            project(both.credentials, {"token": b"1"})
            await eventually_async(lambda: both.sent() == b"Bearer 1", within=2)

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
        follower = Follower(tmp_path, reread_seconds=0.1, standings=Standings())
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
