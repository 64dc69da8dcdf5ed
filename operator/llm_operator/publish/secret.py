"""The credentials of routers as one Secret for each namespace, written by server-side apply.

It holds exactly what the namespace's routes name. It is never deleted, because a pod may mount it;
labels, annotations and keys of others stay. What the API calls look like is `llm_operator.objects`'
matter.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from llm_operator.cluster import MANAGER
from llm_operator.publish.configmap import LABEL, OPERATOR
from llm_operator.publish.fence import Create, Fence, Manifest, no_epoch
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

    def __init__(
        self,
        cluster: Secrets,
        *,
        epoch: Callable[[], int] = no_epoch,
        create: Create | None = None,
    ) -> None:
        """Take the API server.

        Args:
            cluster: what reads and applies.
            epoch: of the leader that publishes; 0 where there is no election.
            create: makes a Secret that is not there; needed where there is one.
        """
        self._cluster = cluster
        self._fence = Fence(epoch, create)

    async def current(self, namespace: str) -> Held | None:
        """What the Secret of the namespace holds."""
        found = await self._read(namespace)
        self._fence.saw(namespace, found)
        return None if found is None else held(found)

    async def publish(self, namespace: str, values: Values) -> None:
        """Apply the Secret, unless somebody has changed it since it was looked at.

        Raises:
            Refused: a later leader wrote it.
        """
        plain = manifest(namespace, values)
        await self._cluster.apply_secret(await self._fence.passed(plain, self._read))

    async def _read(self, namespace: str) -> Manifest | None:
        return await self._cluster.read_secret(namespace, NAME)


def manifest(namespace: str, values: Values) -> Manifest:
    """Every field the operator owns, and no other, but the epoch."""
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
