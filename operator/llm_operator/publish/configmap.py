"""The configuration as one ConfigMap for each namespace, written by server-side apply.

It never deletes a ConfigMap and sets no owner: routers keep reading it after the last LLMBackend is
gone. Labels, annotations and keys of others stay. What the API calls look like is
`llm_operator.cluster`'s matter.
"""

from collections.abc import Callable
from typing import Protocol

from llm_contract import CHECKSUM_KEY, CONFIG_KEY
from llm_operator.publish.fence import Create, Fence, Manifest, no_epoch
from llm_operator.publish.outcome import Place, Standing
from llm_operator.resource.model import GROUP

NAME = "llm-router-config"
#: The mark of the operator, and what a list of its ConfigMaps selects by.
LABEL = "app.kubernetes.io/managed-by"
OPERATOR = "llm-backend-operator"
#: The checksum once more, where `kubectl get -o yaml` shows it without the data.
ANNOTATION = f"{GROUP}/checksum"


class ConfigMaps(Protocol):
    """What is asked of the API server."""

    async def read_map(self, namespace: str, name: str) -> Manifest | None:
        """The ConfigMap; None when there is none."""

    async def apply_map(self, manifest: Manifest) -> None:
        """Apply what the manifest holds, and take the fields in it from whoever owns them."""

    async def label_namespaces(self, selector: str) -> frozenset[str]:
        """The namespaces of the ConfigMaps that a label selector picks."""


class ConfigMapSink:
    """A `Sink` of ConfigMaps."""

    place = Place(name=f"ConfigMap {NAME}", remedy=f"delete it, or label it {LABEL}={OPERATOR}")

    def __init__(
        self,
        cluster: ConfigMaps,
        *,
        epoch: Callable[[], int] = no_epoch,
        create: Create | None = None,
    ) -> None:
        """Take the API server.

        Args:
            cluster: what reads and applies.
            epoch: of the leader that publishes; 0 where there is no election.
            create: makes a ConfigMap that is not there; needed where there is one.
        """
        self._cluster = cluster
        self._fence = Fence(epoch, create)

    async def current(self, namespace: str) -> Standing | None:
        """What the ConfigMap of the namespace holds."""
        found = await self._read(namespace)
        self._fence.saw(namespace, found)
        return None if found is None else standing(found, stamped=self._fence.stamped(found))

    async def publish(self, namespace: str, *, raw: bytes, checksum: str) -> None:
        """Apply the ConfigMap, unless somebody has changed it since it was looked at.

        Raises:
            Refused: a later leader wrote it.
        """
        plain = manifest(namespace, raw=raw, checksum=checksum)
        await self._cluster.apply_map(await self._fence.passed(plain, self._read))

    async def namespaces(self) -> frozenset[str]:
        """Where ConfigMaps with the operator's label are."""
        return await self._cluster.label_namespaces(f"{LABEL}={OPERATOR}")

    async def _read(self, namespace: str) -> Manifest | None:
        return await self._cluster.read_map(namespace, NAME)


def manifest(namespace: str, *, raw: bytes, checksum: str) -> Manifest:
    """Every field the operator owns, and no other, but the epoch."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "labels": {LABEL: OPERATOR},
            "annotations": {ANNOTATION: checksum},
        },
        "data": {CONFIG_KEY: raw.decode(), CHECKSUM_KEY: checksum},
    }


def standing(found: Manifest, *, stamped: bool = True) -> Standing:
    """What a ConfigMap holds, and whether it carries its leader's epoch."""
    metadata, data = found["metadata"], found.get("data") or {}
    raw, checksum = data.get(CONFIG_KEY), data.get(CHECKSUM_KEY)
    annotation = (metadata.get("annotations") or {}).get(ANNOTATION)
    return Standing(
        raw=None if raw is None else raw.encode(),
        checksum=checksum,
        owned=(metadata.get("labels") or {}).get(LABEL) == OPERATOR,
        empty=not data and not found.get("binaryData"),
        intact=stamped and annotation is not None and annotation == checksum,
    )
