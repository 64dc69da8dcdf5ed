"""Reading the mounted folder: one revision at a time, as a kubelet leaves it."""

import contextlib
import shutil
import threading
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from llm_contract import CHECKSUM_KEY, CONFIG_KEY
from llm_router import mount
from llm_router.mount import MountError, Published
from parts.kubelet import project


def show(folder: Path, raw: bytes, checksum: str) -> None:
    project(folder, {CONFIG_KEY: raw, CHECKSUM_KEY: checksum.encode()})


class TestRead:
    def test_gives_both_files_of_the_revision(self, tmp_path: Path) -> None:
        show(tmp_path, b"bytes", "abc\n")
        assert mount.read(tmp_path) == Published(b"bytes", "abc")

    def test_gives_the_new_ones_after_a_swap(self, tmp_path: Path) -> None:
        show(tmp_path, b"1", "one")
        before = mount.revision(tmp_path)
        show(tmp_path, b"2", "two")
        assert mount.revision(tmp_path) != before
        assert mount.read(tmp_path) == Published(b"2", "two")

    def test_nothing_is_mounted(self, tmp_path: Path) -> None:
        assert mount.read(tmp_path) is None
        assert mount.read(tmp_path / "absent") is None
        assert mount.revision(tmp_path / "absent") is None

    def test_an_optional_volume_without_its_configmap(self, tmp_path: Path) -> None:
        project(tmp_path, {})
        assert mount.read(tmp_path) is None

    @pytest.mark.parametrize("missing", [CONFIG_KEY, CHECKSUM_KEY])
    def test_half_of_it_is_nothing(self, tmp_path: Path, missing: str) -> None:
        files = {CONFIG_KEY: b"bytes", CHECKSUM_KEY: b"abc"}
        del files[missing]
        project(tmp_path, files)
        assert mount.read(tmp_path) is None

    def test_a_checksum_that_is_no_text_is_read_all_the_same(self, tmp_path: Path) -> None:
        project(tmp_path, {CONFIG_KEY: b"bytes", CHECKSUM_KEY: b"\xff\xfe"})
        found = mount.read(tmp_path)
        assert found is not None
        assert found.raw == b"bytes"

    def test_never_gives_two_revisions_at_once(self, tmp_path: Path) -> None:
        # NB: the kubelet removes the old folder right after its rename; a reader that follows the
        # files' own links, or that reads the link twice, gets one file of each.
        show(tmp_path, b"0", "0")
        ended = threading.Event()

        def swap() -> None:
            for number in range(1, 150):
                show(tmp_path, str(number).encode(), str(number))
            ended.set()

        writer = threading.Thread(target=swap)
        writer.start()
        seen: set[bytes] = set()
        found: Published | None = None
        while not ended.is_set():
            with contextlib.suppress(OSError):  # it changed five times in a row
                found = mount.read(tmp_path)
            if found is not None:
                assert found.raw.decode() == found.checksum
                seen.add(found.raw)
        writer.join(10)
        assert len(seen) > 1

    def test_begins_anew_when_the_revision_goes_away_under_it(
        self, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        show(tmp_path, b"new", "abc")
        now = mount.revision(tmp_path)
        mocker.patch.object(mount, "revision", side_effect=["..gone", now, now])
        assert mount.read(tmp_path) == Published(b"new", "abc")

    def test_a_broken_link_is_nothing(self, tmp_path: Path) -> None:
        show(tmp_path, b"1", "one")
        shutil.rmtree(tmp_path / (mount.revision(tmp_path) or ""))
        assert mount.read(tmp_path) is None


class TestReadFiles:
    def test_gives_all_of_the_revision(self, tmp_path: Path) -> None:
        project(tmp_path, {"a": b"1", "b": b""})
        assert mount.read_files(tmp_path, limit=1) == {"a": b"1", "b": b""}
        project(tmp_path, {"c": b"2"})
        assert mount.read_files(tmp_path, limit=1) == {"c": b"2"}

    def test_a_limit_is_for_all_of_them(self, tmp_path: Path) -> None:
        project(tmp_path, {"a": b"1", "b": b"2"})
        with pytest.raises(OSError, match="holds more than 1 bytes"):
            mount.read_files(tmp_path, limit=1)

    def test_an_empty_volume_and_no_folder(self, tmp_path: Path) -> None:
        project(tmp_path, {})
        assert mount.read_files(tmp_path, limit=1) == {}
        assert mount.read_files(tmp_path / "absent", limit=1) is None

    def test_a_broken_link_is_nothing(self, tmp_path: Path) -> None:
        project(tmp_path, {"a": b"1"})
        shutil.rmtree(tmp_path / (mount.revision(tmp_path) or ""))
        assert mount.read_files(tmp_path, limit=1) is None

    def test_begins_anew_when_the_revision_is_swapped_under_it(
        self, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        project(tmp_path, {"a": b"1"})
        now = mount.revision(tmp_path)
        mocker.patch.object(
            mount, "revision", side_effect=[now, now, "..newer", "..newer"] + [now] * 9
        )
        assert mount.read_files(tmp_path, limit=1) == {"a": b"1"}

    def test_gives_up_on_what_never_stands_still(
        self, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        project(tmp_path, {"a": b"1"})
        now = mount.revision(tmp_path)
        mocker.patch.object(
            mount, "revision", side_effect=[now, *[now, "..newer", "..newest"] * mount.TRIES]
        )
        with pytest.raises(OSError, match="changes faster"):
            mount.read_files(tmp_path, limit=1)


class TestCheck:
    def test_takes_a_mount_an_empty_folder_and_none_yet(self, tmp_path: Path) -> None:
        mount.check(tmp_path)
        mount.check(tmp_path / "absent")
        show(tmp_path, b"1", "one")
        mount.check(tmp_path)

    def test_refuses_a_plain_file(self, tmp_path: Path) -> None:
        (tmp_path / CONFIG_KEY).write_bytes(b"{}")
        with pytest.raises(MountError, match="a subPath mount never changes"):
            mount.check(tmp_path)

    def test_refuses_what_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / CONFIG_KEY).write_bytes(b"{}")
        with pytest.raises(MountError, match="is no folder"):
            mount.check(tmp_path / CONFIG_KEY)
