"""A folder of YAML files as the source of resources, and as the place of their statuses.

Reads `*.yaml` and `*.yml`, several documents a file. A file that is half-written or broken keeps
what was in it: the resource stays, with the file's error as its problem, and its route stays the
last good one. Nothing here writes to the folder of the resources; statuses go to a folder of their
own, one JSON file each.
"""

import asyncio
import json
import logging
import os
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from llm_operator.engine import utc_now
from llm_operator.ports import Status
from llm_operator.resource.model import Identity, Problem, Resource
from llm_operator.resource.parse import NotAResource, parse
from llm_operator.standalone.identity import Ledger

log = logging.getLogger(__name__)

#: On one machine there is one namespace, and one router that reads it.
NAMESPACE = "default"

#: Seconds between two looks at the folder; a change counts once it has stood still for one look.
LOOK_SECONDS = 0.2

Look = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What one reading of the folder gave.

    Attributes:
        manifests: name -> the file and the manifest.
        broken: file -> why it can't be used.
    """

    manifests: Mapping[str, tuple[str, Mapping[str, Any]]]
    broken: Mapping[str, str]


class FolderSource:
    """A `Source` of the YAML files in a folder.

    Attributes:
        broken: file -> why it can't be used, as of the last list.
    """

    def __init__(self, folder: Path, *, ledger: Path, statuses: Path) -> None:
        self._folder = folder
        self._ledger = ledger
        self._statuses = statuses
        self._listing = asyncio.Lock()
        self.broken: Mapping[str, str] = {}

    async def list(self, namespace: str | None) -> Sequence[Resource]:
        """The resources as the files have them now."""
        if namespace not in (None, NAMESPACE):
            return []
        async with self._listing:
            return await asyncio.to_thread(self._list)

    def _list(self) -> Sequence[Resource]:
        found = read(self._folder)
        for file in found.broken.keys() - self.broken.keys():
            log.warning("file_broken", extra={"file": file, "reason": found.broken[file]})
        self.broken = found.broken
        before = Ledger.parse(_bytes(self._ledger))
        specs = {n: (file, body.get("spec")) for n, (file, body) in found.manifests.items()}
        after = before.seen(
            specs, kept=frozenset(found.broken), now=utc_now(), new_uid=lambda: str(uuid.uuid4())
        )
        if after != before:
            replace_file(self._ledger, after.dump())
        return [self._resource(name, after, found) for name in sorted(after.known)]

    def _resource(self, name: str, ledger: Ledger, found: Found) -> Resource:
        known = ledger.known[name]
        identity = Identity(
            namespace=NAMESPACE,
            name=name,
            uid=known.uid,
            generation=known.generation,
            created=known.created,
        )
        status = status_of(self._statuses, name)
        if name not in found.manifests:
            problem = Problem(path=known.file, message=found.broken[known.file])
            return Resource(identity=identity, spec=None, problems=(problem,), status=status)
        return replace(parse(found.manifests[name][1]), identity=identity, status=status)


class FolderStatus:
    """A `StatusWriter` of JSON files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(self, resource: Resource, status: Status) -> None:
        """Replace the resource's status file."""
        raw = json.dumps({"uid": resource.identity.uid, "status": status}, indent=1).encode()
        path = self._folder / f"{resource.identity.name}.json"
        await asyncio.to_thread(replace_file, path, raw + b"\n")


def status_of(folder: Path, name: str) -> Status | None:
    """The status written last, or None."""
    try:
        status = json.loads(_bytes(folder / f"{name}.json"))["status"]
    except (ValueError, KeyError, TypeError):
        return None
    return status if isinstance(status, dict) else None


def read(folder: Path) -> Found:
    """Every manifest in the folder's files. A file is used whole or not at all."""
    manifests: dict[str, tuple[str, Mapping[str, Any]]] = {}
    broken: dict[str, str] = {}
    for path in _paths(folder):
        try:
            documents = list(_documents(path))
            for name, _ in documents:
                if name in manifests:
                    raise NotAResource(f"{name} is in {manifests[name][0]} too")
        except (NotAResource, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            broken[path.name] = " ".join(str(error).split())
            continue
        manifests |= {name: (path.name, manifest) for name, manifest in documents}
    return Found(manifests, broken)


def _documents(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    some = False
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if document is not None:
            some = True
            yield parse(document).identity.name, document
    if not some:
        # NB: an editor may truncate before it writes; deleting the file is how to delete.
        raise NotAResource("the file holds no LLMBackend; delete the file to delete what was in it")


def _paths(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.y*ml") if p.suffix in (".yaml", ".yml"))


async def watch(look: Callable[[], Look], changed: Callable[[], Awaitable[None]]) -> None:
    """Await `changed` when what `look` sees has changed and then stood still for one look."""
    told = look()
    before = told
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = look()
        if now == before and now != told:
            told = now
            await changed()
        before = now


def look(folder: Path) -> Look:
    """Names, times and sizes of the resources' files: what a change shows in."""
    return stats(_paths(folder))


def stats(paths: Iterable[Path]) -> Look:
    """Names, times and sizes of files."""
    found = []
    for path in paths:
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found.append((path.name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, meets the old one or the new one whole."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
