"""A folder of files as what resources refer to on one machine; the router reads the same folder.

A file is named as the router looks for it, such as mac-a-token_token for the key `token` of the
Secret `mac-a-token`, and _home-ca_ca.crt for the key `ca.crt` of the ConfigMap `home-ca`. Whoever
can write the file may use it, so no label is asked for. No file is read here but by its name.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from llm_contract import SourceKind
from llm_operator.ports import Refused
from llm_operator.references.model import Sought, Values
from llm_operator.references.sought import source_of
from llm_operator.standalone.files import Look, stats


class FolderFinder:
    """A `Finder` of the files in a folder. There are no Services on one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def secrets(self, namespace: str, names: frozenset[str]) -> Mapping[str, Values | None]:
        """Those of the Secrets that have files."""
        return await asyncio.to_thread(self._of, SourceKind.SECRET, names)

    async def config_maps(self, namespace: str, names: frozenset[str]) -> Mapping[str, Values]:
        """Those of the ConfigMaps that have files."""
        return await asyncio.to_thread(self._of, SourceKind.CONFIG_MAP, names)

    async def services(self, namespace: str, names: frozenset[str]) -> frozenset[str]:
        """None."""
        return frozenset()

    def follow(self, namespace: str, look: Sought) -> None:
        """Nothing to do: the whole folder is looked at."""

    async def close(self) -> None:
        """Nothing to do."""

    def _of(self, kind: SourceKind, names: frozenset[str]) -> dict[str, dict[str, bytes]]:
        found: dict[str, dict[str, bytes]] = {}
        for path in paths(self._folder):
            source = source_of(path.name)
            if source.kind is kind and source.name in names:
                # NB: that it is there is all that anybody asks; the router reads it.
                found.setdefault(source.name, {})[source.key] = b""
        return found


def paths(folder: Path) -> list[Path]:
    """The files, without an editor's hidden ones.

    Raises:
        Refused: the folder can't be read.
    """
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file())
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror}") from error


def look(folder: Path) -> Look:
    """What a change of the files shows in."""
    try:
        return stats(paths(folder))
    except Refused:
        return ()
