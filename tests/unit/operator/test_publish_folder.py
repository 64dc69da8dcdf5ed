"""The folder sink: one swap for all files, and nothing half-done whatever happens."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from llm_contract import CHECKSUM_KEY, CONFIG_KEY, checksum
from llm_operator.ports import Refused
from llm_operator.publish import folder
from llm_operator.publish.folder import FolderSink, read, swap
from llm_operator.publish.outcome import Standing

NEW, OLD = b"new", b"old"


def files(content: bytes) -> dict[str, bytes]:
    return {CONFIG_KEY: content, CHECKSUM_KEY: checksum(content).encode()}


def versions(path: Path) -> list[Path]:
    return [p for p in path.iterdir() if p.is_dir() and not p.is_symlink()]


async def test_what_is_published_stands(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path)
    assert await sink.current("ns") is None
    assert await sink.namespaces() == frozenset()
    await sink.publish("ns", raw=NEW, checksum="abc")
    assert await sink.current("ns") == Standing(raw=NEW, checksum="abc")
    assert await sink.current("other") is None
    assert await sink.namespaces() == {"ns"}


def test_it_looks_as_a_mounted_configmap_does(tmp_path: Path) -> None:
    swap(tmp_path, files(NEW))
    (version,) = versions(tmp_path)
    assert version.name.startswith("..2")
    assert os.readlink(tmp_path / "..data") == version.name
    assert os.readlink(tmp_path / CONFIG_KEY) == f"..data/{CONFIG_KEY}"
    assert (tmp_path / CONFIG_KEY).read_bytes() == NEW
    assert {p.name for p in tmp_path.iterdir()} == {
        version.name,
        "..data",
        CONFIG_KEY,
        CHECKSUM_KEY,
    }
    assert version.stat().st_mode & 0o777 == 0o755
    assert (version / CONFIG_KEY).stat().st_mode & 0o777 == 0o644


def test_a_swap_replaces_the_version_and_no_link_of_a_file(tmp_path: Path) -> None:
    swap(tmp_path, files(OLD))
    before, link = versions(tmp_path), os.lstat(tmp_path / CONFIG_KEY).st_ino
    swap(tmp_path, files(NEW))
    assert len(versions(tmp_path)) == 1
    assert versions(tmp_path) != before
    assert os.lstat(tmp_path / CONFIG_KEY).st_ino == link


@pytest.mark.parametrize("step", ["_write", "_link", "_sync"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_crash_at_any_step_leaves_one_whole_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    swap(tmp_path, files(OLD))
    calls, whole = 0, getattr(folder, step)

    def crash(*arguments: object, **named: object) -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise KeyboardInterrupt
        whole(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(folder, step, crash)
        try:
            swap(tmp_path, files(NEW))
        except KeyboardInterrupt:
            pass
        else:
            assert calls < nth, "the step ran, and so should have crashed"
    found = read(tmp_path)
    assert found is not None
    assert found.raw in (OLD, NEW)
    assert found.checksum == checksum(found.raw or b"")
    swap(tmp_path, files(b"next"))
    assert read(tmp_path) == Standing(raw=b"next", checksum=checksum(b"next"))
    assert len(versions(tmp_path)) == 1


def test_what_a_crash_left_does_not_block_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "..2020_01_01_00_00_00.half").mkdir()
    (tmp_path / "..data_tmp").symlink_to("..2020_01_01_00_00_00.half")
    assert read(tmp_path) is None
    swap(tmp_path, files(NEW))
    assert read(tmp_path) == Standing(raw=NEW, checksum=checksum(NEW))
    assert len(versions(tmp_path)) == 1
    assert not (tmp_path / "..data_tmp").is_symlink()


def test_a_version_without_a_file_is_seen(tmp_path: Path) -> None:
    swap(tmp_path, files(NEW))
    (versions(tmp_path)[0] / CHECKSUM_KEY).unlink()
    assert read(tmp_path) == Standing(raw=NEW, checksum=None)


def test_a_missing_link_is_not_intact(tmp_path: Path) -> None:
    swap(tmp_path, files(NEW))
    (tmp_path / CONFIG_KEY).unlink()
    assert read(tmp_path) == Standing(raw=NEW, checksum=checksum(NEW), intact=False)


def test_files_of_somebody_else_are_foreign(tmp_path: Path) -> None:
    (tmp_path / CONFIG_KEY).write_text("mine")
    found = read(tmp_path)
    assert found is not None
    assert not found.owned
    assert not found.empty


def test_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "..mine").mkdir()
    swap(tmp_path, files(NEW))
    swap(tmp_path, files(OLD))
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "..mine").is_dir()


async def test_a_folder_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ns").write_text("a file where the folder should be")
    with pytest.raises(Refused, match="ns"):
        await FolderSink(tmp_path).publish("ns", raw=NEW, checksum="abc")


async def test_a_reader_never_meets_a_mixture(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path)
    torn: list[tuple[bytes, str]] = []
    done = threading.Event()

    def follow() -> None:
        while not done.is_set():
            try:
                version = (tmp_path / "ns" / "..data").resolve(strict=True)
                raw = (version / CONFIG_KEY).read_bytes()
                digest = (version / CHECKSUM_KEY).read_text()
            except FileNotFoundError:
                continue  # swapped away in between: a reader looks again
            if checksum(raw) != digest:
                torn.append((raw, digest))

    reader = threading.Thread(target=follow)
    reader.start()
    try:
        for number in range(60):
            raw = str(number).encode() * 5000
            await sink.publish("ns", raw=raw, checksum=checksum(raw))
            await asyncio.sleep(0)
    finally:
        done.set()
        reader.join(10)
    assert torn == []
