"""LLMBackends in a folder of YAML: read as the operator reads them, written into their files.

    files.watch -> FolderSource, files.read -> shelf
    create, replace, delete -> edit (splices) -> the file, replaced whole

A write changes the lines that it has to and no others. A file that can't be read is nobody's to
write but who broke it. Nothing is written that is not at the generation the caller saw, or while
somebody else saves the same file: it is read again right before it is replaced.

NB: between that and the replacing there is a moment in which an editor's save would be lost; a
file has no better lock. Who asked is not noted in a file: on one machine there is one token.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from llm_operator.admin.errors import AdminError, Away, Changed, Conflict, Missing
from llm_operator.admin.model import Backend
from llm_operator.admin.store import edit, refusals
from llm_operator.admin.store.commit import commit_yaml, ordered
from llm_operator.admin.store.names import resource_name
from llm_operator.admin.store.nodes import documents
from llm_operator.admin.store.shelf import Shelf
from llm_operator.resource.model import API_VERSION, KIND, Resource
from llm_operator.standalone import files
from llm_operator.standalone.files import NAMESPACE, FolderSource, Found
from llm_operator.standalone.identity import digest_of

logger = logging.getLogger(__name__)

#: Readings of the folder until two in a row saw the same files.
TRIES = 5

T = TypeVar("T")


class _Moving(Exception):
    """The files change while they are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where in the folder a backend is.

    Attributes:
        number: of the document in its file, empty ones counted, from 0.
        alone: nothing else is in the file.
    """

    path: Path
    text: str
    number: int
    alone: bool
    manifest: Mapping[str, Any]


class FolderStore(Shelf):
    """The `Store` of one machine. It follows while `run` does."""

    namespace = NAMESPACE

    def __init__(self, data: Path, *, source: FolderSource | None = None) -> None:
        """Take the data folder of `llmb up`.

        Args:
            source: the one that an operator in this process reads the folder by. NB: two at once
                would give a new file two uids.
        """
        super().__init__()
        self._folder = data / "resources"
        self._statuses = data / "status"
        self._source = source or FolderSource(
            self._folder, ledger=data / "identities.json", statuses=self._statuses
        )
        self._writing = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._files: Mapping[str, str] = {}

    async def run(self) -> None:
        """Follow the folder, for ever."""
        await self._follow()
        async with asyncio.TaskGroup() as both:
            both.create_task(files.watch(lambda: files.look(self._folder), self._follow))
            both.create_task(files.watch(self._look_at_statuses, self._follow))

    async def create(
        self, *, namespace: str, name: str, spec: Mapping[str, Any], by: str
    ) -> Backend:
        """Make a new file, NAME.yaml. See `ports.Store`."""
        if namespace != NAMESPACE:
            raise Missing(f"there is no namespace {namespace}; on one machine there is {NAMESPACE}")
        async with self._writing:
            await self._read()
            taken = self.names(NAMESPACE)
            if name in taken:
                raise refusals.Exists(f"{NAMESPACE}/{name}")
            stems = frozenset(path.stem for path in self._folder.glob("*.y*ml"))
            made = name or resource_name(str(spec.get("modelName") or ""), taken | stems)
            manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": made}}
            refusals.check(manifest | {"spec": spec})
            raw = commit_yaml(manifest, spec).encode()
            await self._writes(lambda: _write_new(self._folder / f"{made}.yaml", raw))
            return await self._written(made)

    async def replace(self, backend: Backend, spec: Mapping[str, Any], *, by: str) -> Backend:
        """Make this the spec in the file. See `ports.Store`."""
        name = backend.resource.identity.name
        async with self._writing:
            found = await self._found(backend)
            wanted = {**found.manifest, "spec": ordered(spec)}
            refusals.check(wanted)
            await self._writes(lambda: _rewrite(found, wanted))
            return await self._written(name)

    async def delete(self, backend: Backend) -> None:
        """Take it out of its file, and the file away when nothing else is in it."""
        async with self._writing:
            found = await self._found(backend)
            await self._writes(lambda: _rewrite(found, None))
            await self._read()

    # Reading.

    async def _follow(self) -> None:
        """Read the folder again; what goes wrong ends no following."""
        try:
            await self._read()
        except AdminError as error:
            logger.warning("folder_unread", extra={"detail": error.detail})
            self.tell(fresh=False)

    async def _read(self) -> None:
        """Make the shelf equal to the folder.

        Raises:
            Away: it can't be read, or never stands still.
        """
        async with self._reading:
            for _ in range(TRIES):
                try:
                    resources, found, raw = await self._seen()
                    break
                except _Moving:
                    await asyncio.sleep(files.LOOK_SECONDS)
                except (OSError, ValueError) as error:
                    raise Away(f"the folder of resources can't be read: {error}") from error
            else:
                raise Away("the files are being changed all the time; try again", retry_after=1)
            self._files = raw
            backends = [self._backend(resource, found) for resource in resources]
            gone = {one.uid for one in self.held()} - {one.uid for one in backends}
            self.put(backends, gone=gone)
            self.tell(fresh=True)

    async def _seen(self) -> tuple[Sequence[Resource], Found, Mapping[str, str]]:
        """The folder as one look at it saw it.

        Raises:
            _Moving: it was changed meanwhile.
        """
        before = await asyncio.to_thread(files.look, self._folder)
        resources = await self._source.list(NAMESPACE)
        found = await asyncio.to_thread(files.read, self._folder)
        if await asyncio.to_thread(files.look, self._folder) != before:
            raise _Moving
        if {r.identity.name for r in resources if r.spec} - found.manifests.keys():
            raise _Moving
        return resources, found, {name: file for name, (file, _) in found.manifests.items()}

    def _backend(self, resource: Resource, found: Found) -> Backend:
        identity = resource.identity
        _, body = found.manifests.get(identity.name, ("", {}))
        metadata = body.get("metadata") or {}
        manifest: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                **metadata,
                "name": identity.name,
                "namespace": identity.namespace,
                "uid": identity.uid,
                "generation": identity.generation,
                "creationTimestamp": identity.created,
            },
        }
        if "spec" in body:
            manifest["spec"] = body["spec"]
        version = digest_of([manifest, resource.status, [str(one) for one in resource.problems]])
        known = self.get(identity.uid)
        if known is not None and known.version == version:
            return known
        return Backend(resource=resource, manifest=manifest, version=version)

    def _look_at_statuses(self) -> files.Look:
        return files.stats(sorted(self._statuses.glob("*.json")))

    # Writing.

    async def _found(self, backend: Backend) -> _Place:
        """Where the backend is now, at the generation given.

        Raises:
            Missing, Changed: it is gone, or at another generation.
            Conflict: its file can't be read.
        """
        # NB: nothing but this file is read for a write to what was not touched meanwhile.
        place = await self._located(backend)
        if place is not None:
            return place
        await self._read()
        identity = backend.resource.identity
        now = self.get(backend.uid)
        if now is None:
            raise Missing(f"{identity} is gone")
        if identity.name not in self._files:
            problems = "; ".join(str(problem) for problem in now.resource.problems)
            raise Conflict(f"its file has to be put right first: {problems}")
        place = await self._located(backend)
        if place is None:
            raise Changed(f"{identity} was changed in the meantime")
        return place

    async def _located(self, backend: Backend) -> _Place | None:
        """Where it is, if it is what it was both on the shelf and in its file."""
        identity = backend.resource.identity
        now, file = self.get(backend.uid), self._files.get(identity.name)
        if now is None or file is None or now.resource.identity != identity:
            return None
        try:
            place = await asyncio.to_thread(_place, self._folder / file, identity.name)
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return None
        return (
            place if edit.same(place.manifest.get("spec"), backend.manifest.get("spec")) else None
        )

    async def _writes(self, write: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(write)
        except OSError as error:
            told = error.strerror or str(error)
            raise Away(f"the file can't be written: {told}") from error

    async def _written(self, name: str) -> Backend:
        await self._read()
        for backend in self.held():
            if backend.resource.identity.name == name:
                return backend
        raise Missing(f"{NAMESPACE}/{name} is gone")


def _place(named: Path, name: str) -> _Place:
    # NB: a link stays one; what it leads to is replaced.
    path = named.resolve()
    text = path.read_bytes().decode()
    found = [document.root.value for document in documents(text)]
    for number, manifest in enumerate(found):
        if isinstance(manifest, dict) and (manifest.get("metadata") or {}).get("name") == name:
            alone = all(one is None for one in found if one is not manifest)
            return _Place(path=path, text=text, number=number, alone=alone, manifest=manifest)
    raise yaml.YAMLError(f"{name} is not in it any more")


def _rewrite(place: _Place, wanted: Mapping[str, Any] | None) -> None:
    """Write the file with the document as wanted, None for without it."""
    path = place.path
    try:
        if wanted is not None:
            text = edit.replaced(place.text, place.number, wanted)
        else:
            text = "" if place.alone else edit.removed(place.text, place.number)
    except edit.Unwritable as error:
        raise Conflict(f"{path.name}: {error}; edit it by hand") from error
    raw = text.encode()
    mode = path.stat().st_mode
    if path.read_bytes() != place.text.encode():
        raise Changed(f"{path.name} was changed at the same moment; look again")
    if not raw:
        path.unlink()
        return
    files.replace_file(path, raw)
    path.chmod(mode)


def _write_new(path: Path, raw: bytes) -> None:
    """Write a file that is not there yet; whoever reads the folder sees all of it or nothing."""
    fresh = path.with_name(f".{path.name}.made")
    files.replace_file(fresh, raw)
    try:
        os.link(fresh, path)
    except FileExistsError:
        raise Conflict(
            f"the file {path.name} is there already; choose another name, or take it away"
        ) from None
    finally:
        fresh.unlink()
