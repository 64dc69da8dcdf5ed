"""Secrets, ConfigMaps and Services of a cluster: those that resources refer to, and the one Secret
that routers mount.

Only what is named is read, and of Secrets only labelled ones: of any other it is asked whether it
is there, in a form that holds nothing of it. It decides nothing. Data flows `api` -> plain values,
and back.
"""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any, Protocol

from llm_operator.api import API, METADATA, TABLE
from llm_operator.cluster import MANAGER
from llm_operator.ports import Gone
from llm_operator.references.model import Sought, Values
from llm_operator.references.resolve import LABEL


class Followed(Protocol):
    """Who notices changes: `watches`."""

    def follow(self, namespace: str, look: Sought) -> None:
        """From now on notice changes of these, and of no others in the namespace."""

    async def close(self) -> None:
        """Notice nothing any more."""


class Objects:
    """A `Finder`, and what `publish.secret` asks of the API server."""

    def __init__(self, api: API, watches: Followed) -> None:
        self._api = api
        self.follow, self.close = watches.follow, watches.close

    async def secrets(self, namespace: str, names: frozenset[str]) -> Mapping[str, Values | None]:
        """Those of the Secrets that are there; None for one without the label."""
        path = f"/api/v1/namespaces/{namespace}/secrets"
        answer = await self._api.get(path, query={"labelSelector": LABEL})
        found: dict[str, Values | None] = {
            item["metadata"]["name"]: decoded(item)
            for item in answer["items"]
            if item["metadata"]["name"] in names
        }
        # NB: one request each; a resource that names what is not there is the exception.
        others = sorted(names - found.keys())
        there = await asyncio.gather(*(self._is_there(path, name) for name in others))
        return found | {
            name: None for name, is_there in zip(others, there, strict=True) if is_there
        }

    async def config_maps(self, namespace: str, names: frozenset[str]) -> Mapping[str, Values]:
        """Those of the ConfigMaps that are there."""
        found = {}
        for name in sorted(names):
            try:
                item = await self._api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
            except Gone:
                continue
            texts = {key: text.encode() for key, text in (item.get("data") or {}).items()}
            found[name] = texts | _bytes(item.get("binaryData"))
        return found

    async def services(self, namespace: str, names: frozenset[str]) -> frozenset[str]:
        """Those of the Services that are there."""
        answer = await self._api.get(f"/api/v1/namespaces/{namespace}/services", accept=METADATA)
        # NB: a list of metadata with nothing in it has null there.
        return names & {item["metadata"]["name"] for item in answer["items"] or ()}

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """A Secret; None when there is none."""
        # NB: a list of one needs no right of its own beside that to list labelled ones.
        path = f"/api/v1/namespaces/{namespace}/secrets"
        answer = await self._api.get(path, query={"fieldSelector": f"metadata.name={name}"})
        return next(iter(answer["items"]), None)

    async def apply_secret(self, manifest: Mapping[str, Any]) -> None:
        """Apply a Secret. An error says nothing of what the API server made of it."""
        metadata = manifest["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/secrets/{metadata['name']}"
        await self._api.apply(path, manifest, manager=MANAGER, confidential=True)

    async def _is_there(self, path: str, name: str) -> bool:
        # NB: not even the metadata: kubectl keeps whole manifests, values too, in an annotation.
        query = {"fieldSelector": f"metadata.name={name}", "includeObject": "None"}
        answer = await self._api.get(path, query=query, accept=TABLE)
        return bool(answer.get("rows"))


def decoded(item: Mapping[str, Any]) -> dict[str, bytes]:
    """The values of a Secret as the API has it."""
    return _bytes(item.get("data"))


def _bytes(given: Mapping[str, str] | None) -> dict[str, bytes]:
    return {key: base64.b64decode(text or "") for key, text in (given or {}).items()}
