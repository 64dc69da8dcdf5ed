"""Keeps the late write of a replica that does not lead any more out of what the one after it wrote.

Each write carries its leader's epoch as an annotation, and the version of the object that was read
before it, so that the API server refuses it when anybody has written since. Where nothing was read,
an empty object is made first, which fails if there is one by now. Without an election nothing of
this happens. It knows neither what is written nor why.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llm_operator.ports import Refused
from llm_operator.resource.model import GROUP

#: Whose write it was.
EPOCH = f"{GROUP}/epoch"

Manifest = Mapping[str, Any]
Read = Callable[[str], Awaitable[Manifest | None]]
#: Makes an object, and returns it as it is then; fails when it is there.
Create = Callable[[Manifest], Awaitable[Manifest]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Which version of an object was read, and which leader's it was."""

    version: str
    epoch: int


def no_epoch() -> int:
    """The epoch where there is no election."""
    return 0


class Requests(Protocol):
    """What is asked of the API server."""

    async def request(self, method: str, path: str, *, body: Manifest) -> Manifest:
        """The JSON that answers a request."""


def creator(api: Requests, plural: str) -> Create:
    """What makes objects of one kind."""

    async def create(manifest: Manifest) -> Manifest:
        path = f"/api/v1/namespaces/{manifest['metadata']['namespace']}/{plural}"
        return await api.request("POST", path, body=manifest)

    return create


class Fence:
    """Around the objects of one name, one in each namespace."""

    def __init__(self, epoch: Callable[[], int], create: Create | None) -> None:
        """Take the epoch of the writer, 0 for none, and what makes an object."""
        self._epoch = epoch
        self._create = create
        self._seen: dict[str, Mark | None] = {}

    def saw(self, namespace: str, found: Manifest | None) -> None:
        """Remember what was read; the next write goes by it."""
        if self._epoch():
            self._seen[namespace] = mark(found)

    def stamped(self, found: Manifest) -> bool:
        """Whether the object carries the epoch that a write would put on it."""
        return self._epoch() in (0, epoch_of(found))

    async def passed(self, manifest: Manifest, read: Read) -> Manifest:
        """What to apply in place of a manifest.

        Args:
            manifest: every field that the operator owns.
            read: reads the object, where its last version is not known.

        Raises:
            Refused: a later leader wrote it.
        """
        own, metadata = self._epoch(), manifest["metadata"]
        if not own:
            return manifest
        namespace, name = metadata["namespace"], metadata["name"]
        # NB: what was seen is good for one write, which changes the version.
        known = namespace in self._seen
        seen = self._seen.pop(namespace) if known else mark(await read(namespace))
        if seen is None and self._create is not None:
            seen = mark(await self._create(bare(manifest)))
        if seen is not None and seen.epoch > own:
            raise Refused(
                f"{manifest['kind']} {name} in {namespace} was written by the leader of epoch "
                f"{seen.epoch}, and this is epoch {own}: it is not overwritten"
            )
        annotations = {**metadata.get("annotations", {}), EPOCH: str(own)}
        version = {"resourceVersion": seen.version} if seen is not None else {}
        return {**manifest, "metadata": {**metadata, **version, "annotations": annotations}}


def mark(found: Manifest | None) -> Mark | None:
    """What is kept of an object that was read."""
    if found is None:
        return None
    return Mark(version=found["metadata"]["resourceVersion"], epoch=epoch_of(found))


def bare(manifest: Manifest) -> Manifest:
    """The object with nothing in it. NB: what it held, an apply would share and never take away."""
    metadata = manifest["metadata"]
    return {
        **{key: manifest[key] for key in ("apiVersion", "kind", "type") if key in manifest},
        "metadata": {key: metadata[key] for key in ("namespace", "name")},
    }


def epoch_of(found: Manifest) -> int:
    """The epoch that an object carries; 0 for none, or for what somebody else put there."""
    text = (found["metadata"].get("annotations") or {}).get(EPOCH, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
