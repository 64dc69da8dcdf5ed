"""References on one machine: files of a folder, by their names alone."""

import asyncio
from pathlib import Path

import pytest

from llm_operator.ports import Refused
from llm_operator.standalone import credentials, files
from llm_operator.standalone.credentials import FolderFinder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tok_token", "tok_other", "_home-ca_ca.crt", "unasked_x", ".tok_token.swp"):
        (tmp_path / name).write_text("s3cret")
    (tmp_path / "folder_x").mkdir()
    return tmp_path


async def test_files_are_keys(folder: Path) -> None:
    finder = FolderFinder(folder)
    names = frozenset({"tok", "home-ca", "folder", "none"})
    found = await finder.secrets("default", names)
    assert {name: set(values or ()) for name, values in found.items()} == {
        "tok": {"token", "other"}
    }
    maps = await finder.config_maps("default", names)
    assert {name: set(values) for name, values in maps.items()} == {"home-ca": {"ca.crt"}}
    assert await finder.services("default", names) == frozenset()
    assert "s3cret" not in repr((found, maps)), "nothing is read"


async def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="none"):
        await FolderFinder(tmp_path / "none").secrets("default", frozenset({"tok"}))
    assert credentials.look(tmp_path / "none") == ()


async def test_a_change_is_seen(folder: Path) -> None:
    seen = asyncio.Event()

    async def changed() -> None:
        seen.set()

    watching = asyncio.create_task(files.watch(lambda: credentials.look(folder), changed))
    try:
        await asyncio.sleep(0)
        (folder / "new_token").write_text("x")
        async with asyncio.timeout(5):
            await seen.wait()
    finally:
        watching.cancel()
        await asyncio.wait([watching])
