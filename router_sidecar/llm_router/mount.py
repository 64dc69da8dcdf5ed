"""The mounted folder: what the kubelet wrote, read as one revision.

The kubelet swaps a ConfigMap's files all at once by renaming the link `..data`, so a revision is
resolved once and read below its real folder. This module reads and nothing else: it never parses
and never writes.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from llm_contract import CHECKSUM_KEY, CONFIG_KEY

#: The link that the kubelet renames onto, see k8s.io/kubernetes/pkg/volume/util/atomic_writer.go.
DATA_LINK = "..data"

#: How often a read is begun anew when the revision goes away under it.
TRIES = 5


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
    """The current revision, whole; None while there is none.

    Raises:
        OSError: the files can't be read.
    """
    for _ in range(TRIES):
        name = revision(folder)
        if name is None:
            return None
        try:
            raw = (folder / name / CONFIG_KEY).read_bytes()
            checksum = (folder / name / CHECKSUM_KEY).read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            # NB: the kubelet removes the old revision after its rename; begin anew with the new
            # one.
            if name == revision(folder):
                return None
            continue
        return Published(raw, checksum.strip())
    return None
