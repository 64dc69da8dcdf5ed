"""The configuration as one ConfigMap for each namespace, written by server-side apply.

It never deletes a ConfigMap and sets no owner: routers keep reading it after the last LLMBackend is
gone. Labels, annotations and keys of others stay. What the API calls look like is
`llm_operator.cluster`'s matter.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from llm_contract import CHECKSUM_KEY, CONFIG_KEY
from llm_operator.publish.outcome import Place, Standing
from llm_operator.resource.model import GROUP

NAME = "llm-router-config"
#: The mark of the operator, and what a list of its ConfigMaps selects by.
LABEL = "app.kubernetes.io/managed-by"
OPERATOR = "llm-backend-operator"
#: The checksum once more, where `kubectl get -o yaml` shows it without the data.
ANNOTATION = f"{GROUP}/checksum"

Manifest = Mapping[str, Any]


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

    def __init__(self, cluster: ConfigMaps) -> None:
        self._cluster = cluster

    async def current(self, namespace: str) -> Standing | None:
        """What the ConfigMap of the namespace holds."""
        found = await self._cluster.read_map(namespace, NAME)
        return None if found is None else standing(found)

    async def publish(self, namespace: str, *, raw: bytes, checksum: str) -> None:
        """Apply the ConfigMap."""
        await self._cluster.apply_map(manifest(namespace, raw=raw, checksum=checksum))

    async def namespaces(self) -> frozenset[str]:
        """Where ConfigMaps with the operator's label are."""
        return await self._cluster.label_namespaces(f"{LABEL}={OPERATOR}")


def manifest(namespace: str, *, raw: bytes, checksum: str) -> Manifest:
    """Every field the operator owns, and no other."""
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


def standing(found: Manifest) -> Standing:
    """What a ConfigMap holds."""
    metadata, data = found["metadata"], found.get("data") or {}
    raw, checksum = data.get(CONFIG_KEY), data.get(CHECKSUM_KEY)
    annotation = (metadata.get("annotations") or {}).get(ANNOTATION)
    return Standing(
        raw=None if raw is None else raw.encode(),
        checksum=checksum,
        owned=(metadata.get("labels") or {}).get(LABEL) == OPERATOR,
        empty=not data and not found.get("binaryData"),
        intact=annotation is not None and annotation == checksum,
    )
