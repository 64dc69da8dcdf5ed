"""The mounted folders: what the kubelet wrote, read as one revision.

The kubelet swaps the files of a ConfigMap or a Secret all at once by renaming the link `..data`, so
a revision is resolved once and read below its real folder. This module reads and nothing else: it
never parses and never writes.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from llm_contract import CHECKSUM_KEY, CONFIG_KEY

#: The link that the kubelet renames onto, see k8s.io/kubernetes/pkg/volume/util/atomic_writer.go.
DATA_LINK = "..data"

#: How often a read is begun anew when the revision goes away under it.
TRIES = 5

T = TypeVar("T")


class MountError(Exception):
    """The folder can't be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Published:
    """The two files of one revision."""

    raw: bytes
    checksum: str


def check(folder: Path) -> None:
    """Refuse a folder that would never change under us.

    Raises:
        MountError: routing.json is a plain file: a subPath mount, or a folder written by hand; or
            the folder is none.
    """
    if folder.exists() and not folder.is_dir():
        raise MountError(f"{folder} is no folder. Name the one that the ConfigMap is mounted as.")
    if (folder / CONFIG_KEY).exists() and not (folder / DATA_LINK).is_symlink():
        raise MountError(
            f"{folder / CONFIG_KEY} is there, but {folder / DATA_LINK} is no link: a subPath mount "
            "never changes. Mount the ConfigMap as a folder."
        )


def revision(folder: Path) -> str | None:
    """What `..data` points to now; None while nothing is mounted. One system call."""
    try:
        return os.readlink(folder / DATA_LINK)
    except OSError:
        return None


def read(folder: Path) -> Published | None:
    """The current configuration, whole; None while there is none.

    Raises:
        OSError: the files can't be read.
    """
    return _whole(folder, _published)


def read_files(folder: Path, *, limit: int) -> dict[str, bytes | OSError] | None:
    """All files of the current revision by name, or why one can't be read; None for no folder.

    A folder without the kubelet's link, as somebody writes it by hand, is read as it stands.

    Raises:
        OSError: the folder can't be read, or holds more than `limit` bytes.
    """

    def look(revised: Path) -> dict[str, bytes | OSError]:
        found = _files(revised, limit)
        # NB: a folder that is being removed lists what is left of it.
        if revision(folder) != revised.name:
            raise FileNotFoundError(revised)
        return found

    if revision(folder) is not None:
        return _whole(folder, look)
    try:
        return _files(folder, limit)
    except FileNotFoundError:
        return None


def _whole(folder: Path, look: Callable[[Path], T]) -> T | None:
    for _ in range(TRIES):
        name = revision(folder)
        if name is None:
            return None
        try:
            found = look(folder / name)
        except FileNotFoundError:
            # NB: the kubelet removes the old revision after its rename; begin anew with the new
            # one.
            if name == revision(folder):
                return None
            continue
        return found
    raise OSError(f"{folder} changes faster than it can be read")


def _published(revised: Path) -> Published:
    raw = (revised / CONFIG_KEY).read_bytes()
    checksum = (revised / CHECKSUM_KEY).read_text(encoding="ascii", errors="replace")
    return Published(raw, checksum.strip())


def _files(folder: Path, limit: int) -> dict[str, bytes | OSError]:
    found: dict[str, bytes | OSError] = {}
    left = limit
    for path in sorted(folder.iterdir()):
        # NB: the kubelet's own entries beside the files begin with two dots.
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                data = file.read(left + 1)
        except OSError as error:
            found[path.name] = error
            continue
        left -= len(data)
        if left < 0:
            raise OSError(f"{folder} holds more than {limit} bytes")
        found[path.name] = data
    return found
