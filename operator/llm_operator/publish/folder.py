"""The configuration as a folder for each namespace, swapped exactly as the kubelet swaps a mounted
ConfigMap.

    NAMESPACE/..2025_11_24_15_40_01.x7k2p9qa/routing.json     the bytes, in a new folder each time
    NAMESPACE/..data -> ..2025_11_24_15_40_01.x7k2p9qa        one rename switches all files at once
    NAMESPACE/routing.json -> ..data/routing.json             what a reader opens

So a router reads a folder and a mount alike. A crash at any point leaves the old version or the new
one whole; what it left behind besides is removed by the next write.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from llm_contract import CHECKSUM_KEY, CONFIG_KEY
from llm_operator.ports import Refused
from llm_operator.publish.outcome import Place, Standing

#: The link that names the current version, and the name it has until it is renamed onto it.
DATA = "..data"
DATA_NEW = "..data_tmp"
#: How the folder of a version is named; what begins with it and is not current is left over.
VERSION = "..%Y_%m_%d_%H_%M_%S."

T = TypeVar("T")


class FolderSink:
    """A `Sink` of folders below one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.place = Place(name=f"Folder {root}", remedy="move its files away")

    async def current(self, namespace: str) -> Standing | None:
        """What the folder of the namespace holds."""
        return await _apart(lambda: read(self._root / namespace))

    async def publish(self, namespace: str, *, raw: bytes, checksum: str) -> None:
        """Swap the content of the namespace's folder."""
        files = {CONFIG_KEY: raw, CHECKSUM_KEY: checksum.encode()}
        await _apart(lambda: swap(self._root / namespace, files))

    async def namespaces(self) -> frozenset[str]:
        """The names of the folders that hold a configuration."""
        return await _apart(lambda: frozenset(p.parent.name for p in self._root.glob(f"*/{DATA}")))


def read(folder: Path) -> Standing | None:
    """What a folder holds; None when it holds no configuration."""
    foreign = [name for name in (CONFIG_KEY, CHECKSUM_KEY) if _foreign(folder / name)]
    if foreign or _foreign(folder / DATA):
        return Standing(raw=None, checksum=None, owned=False)
    try:
        version = folder / os.readlink(folder / DATA)
    except FileNotFoundError:
        return None
    raw, checksum = _content(version / CONFIG_KEY), _content(version / CHECKSUM_KEY)
    links = all((folder / name).is_symlink() for name in (CONFIG_KEY, CHECKSUM_KEY))
    return Standing(
        raw=raw,
        checksum=None if checksum is None else checksum.decode(errors="replace"),
        intact=links,
    )


def swap(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make the files the folder's content, all at once."""
    folder.mkdir(parents=True, exist_ok=True)
    version = Path(tempfile.mkdtemp(prefix=time.strftime(VERSION, time.gmtime()), dir=folder))
    # NB: mkdtemp closes the folder to others, and a router may run as another user.
    version.chmod(0o755)
    for name, content in files.items():
        _write(version / name, content)
    _sync(version)
    _link(version.name, folder / DATA, by=folder / DATA_NEW)
    for name in files:
        if not (folder / name).is_symlink():
            _link(f"{DATA}/{name}", folder / name, by=folder / f"..{name}_tmp")
    _sync(folder)
    for other in folder.glob("..[0-9]*"):
        if other != version and other.is_dir() and not other.is_symlink():
            shutil.rmtree(other, ignore_errors=True)


def _foreign(path: Path) -> bool:
    return os.path.lexists(path) and not path.is_symlink()


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())


def _link(target: str, path: Path, *, by: Path) -> None:
    """Point a link at the target; at every moment it points at the old target or the new one."""
    by.unlink(missing_ok=True)
    by.symlink_to(target)
    by.rename(path)


def _sync(folder: Path) -> None:
    # What a rename or a new name says lasts only once the folder itself is on disk.
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


async def _apart(work: Callable[[], T]) -> T:
    """Run file work off the event loop, because fsync takes as long as the disk likes."""
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}") from error
