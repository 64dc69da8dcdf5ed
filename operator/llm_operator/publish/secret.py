"""The credentials of routers as one Secret for each namespace, written by server-side apply.

It holds exactly what the namespace's routes name. It is never deleted, because a pod may mount it;
labels, annotations and keys of others stay. What the API calls look like is `llm_operator.objects`'
matter.
"""

import base64
from collections.abc import Mapping
from typing import Any, Protocol

from llm_operator.cluster import MANAGER
from llm_operator.publish.configmap import LABEL, OPERATOR, Manifest
from llm_operator.publish.outcome import Place
from llm_operator.references.model import Held, Values

NAME = "llm-router-credentials"


class Secrets(Protocol):
    """What is asked of the API server."""

    async def read_secret(self, namespace: str, name: str) -> Manifest | None:
        """The Secret; None when there is none."""

    async def apply_secret(self, manifest: Manifest) -> None:
        """Apply what the manifest holds, and take the fields in it from whoever owns them."""


class SecretVault:
    """A `Vault` of Secrets."""

    place = Place(name=f"Secret {NAME}", remedy=f"delete it, or label it {LABEL}={OPERATOR}")

    def __init__(self, cluster: Secrets) -> None:
        self._cluster = cluster

    async def current(self, namespace: str) -> Held | None:
        """What the Secret of the namespace holds."""
        found = await self._cluster.read_secret(namespace, NAME)
        return None if found is None else held(found)

    async def publish(self, namespace: str, values: Values) -> None:
        """Apply the Secret."""
        await self._cluster.apply_secret(manifest(namespace, values))


def manifest(namespace: str, values: Values) -> Manifest:
    """Every field the operator owns, and no other."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": NAME, "namespace": namespace, "labels": {LABEL: OPERATOR}},
        "data": {key: base64.b64encode(value).decode() for key, value in values.items()},
    }


def held(found: Manifest) -> Held:
    """What a Secret holds."""
    metadata = found["metadata"]
    data = found.get("data") or {}
    return Held(
        values={key: base64.b64decode(text or "") for key, text in data.items()},
        ours=frozenset(_ours(metadata) & data.keys()),
        owned=(metadata.get("labels") or {}).get(LABEL) == OPERATOR,
    )


def _ours(metadata: Mapping[str, Any]) -> set[str]:
    """The keys that were applied as the operator; an apply without one of them removes it."""
    return {
        field.removeprefix("f:")
        for entry in metadata.get("managedFields") or ()
        if (entry["manager"], entry["operation"]) == (MANAGER, "Apply")
        for field in entry.get("fieldsV1", {}).get("f:data", {})
        if field.startswith("f:")
    }
