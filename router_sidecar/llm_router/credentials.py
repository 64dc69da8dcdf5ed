"""The mounted credentials: what targets are asked with, by key.

    mounted Secret ─> read ─> Credentials ─> access

The keys are those that stand in the configuration; what they are made of is the operator's matter.
A value never leaves this process but to the target that it is for: not in a log, an error, a digest
that anyone is shown, or `/status`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llm_router import mount

#: Where the Secret is mounted unless a setting says otherwise.
DEFAULT_FOLDER = Path("/etc/llm-router-credentials")

#: Bytes of all files: what the API server lets a Secret hold.
MAX_BYTES = 1024 * 1024


class CredentialError(Exception):
    """A credential is not there; the message is a sentence for whoever wrote the resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The files of the mounted Secret at one moment.

    Attributes:
        digest: changes when any of them does.
        folder: where they were read; "" for nowhere.
        faults: by key, why a file that is there could not be read.
    """

    values: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    digest: str = field(default="", repr=False)
    folder: str = ""
    faults: Mapping[str, str] = field(default_factory=dict)

    def value(self, key: str) -> bytes:
        """The bytes of one file.

        Raises:
            CredentialError: there is no such file, or it could not be read.
        """
        found = self.values.get(key)
        if found is not None:
            return found
        if key in self.faults:
            raise CredentialError(f"credential {key!r} can't be read: {self.faults[key]}")
        if not self.folder:
            raise CredentialError(f"credential {key!r} is not mounted: no folder of them is set")
        raise CredentialError(
            f"credential {key!r} is not mounted in {self.folder}: see that what it is copied from "
            "exists, has the key and may be used for targets"
        )


#: No Secret is mounted.
NONE = Credentials()


def read(folder: Path | None) -> Credentials:
    """What is mounted now; nothing when there is no folder, or no Secret in it yet.

    Raises:
        OSError: the folder can't be read, or holds more than `MAX_BYTES`.
    """
    if folder is None:
        return NONE
    files = mount.read_files(folder, limit=MAX_BYTES) or {}
    values = {key: data for key, data in files.items() if isinstance(data, bytes)}
    faults = {
        key: error.strerror or type(error).__name__
        for key, error in files.items()
        if isinstance(error, OSError)
    }
    return Credentials(
        values=values, digest=_digest(values, faults), folder=str(folder), faults=faults
    )


def _digest(values: Mapping[str, bytes], faults: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for key, data in sorted([*values.items(), *((k, w.encode()) for k, w in faults.items())]):
        digest.update(b"%d %d " % (len(key), len(data)))
        digest.update(key.encode(errors="surrogateescape"))
        digest.update(data)
    return digest.hexdigest()
