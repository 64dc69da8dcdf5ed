"""What the operator asks of a cluster: the resources, their statuses, its ConfigMaps and rights.

It decides nothing and keeps nothing that matters. What the operator owns it writes by server-side
apply under its own field managers. Data flows `api` -> plain values, and back.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from llm_operator.api import API, METADATA
from llm_operator.ports import Gone, Status
from llm_operator.resource.model import API_VERSION, GROUP, KIND, PLURAL, VERSION, Resource
from llm_operator.resource.parse import is_paused, parse

logger = logging.getLogger(__name__)

#: Who owns the fields of a published configuration, and those of a status.
MANAGER = "llm-backend-operator"
STATUS_MANAGER = f"{MANAGER}-status"

#: Connections of the watch and of the writes that follow from it.
#: NB: the API is spoken to over HTTP/1.1; a burst of requests without a bound is a burst of TLS
#: handshakes.
CONNECTIONS = 32

GROUP_PATH = f"/apis/{GROUP}/{VERSION}"
REVIEWS_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One thing the operator is allowed to do.

    Attributes:
        resource: plural, with the subresource after a slash.
        optional: without it the operator does less, and says so once at its start.
        lease: needed where the Lease is alone, and only by an operator that has one.
    """

    verb: str
    resource: str
    group: str = ""
    optional: bool = False
    lease: bool = False

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


#: All the operator does; a Role for less leaves it useless, one for more is not needed.
RIGHTS: tuple[Right, ...] = (
    *(Right(verb=verb, resource=PLURAL, group=GROUP) for verb in ("list", "watch", "patch")),
    Right(verb="patch", resource=f"{PLURAL}/status", group=GROUP),
    *(
        Right(verb=verb, resource="configmaps")
        for verb in ("get", "list", "watch", "create", "patch")
    ),
    *(Right(verb=verb, resource="secrets") for verb in ("list", "watch", "create", "patch")),
    *(Right(verb=verb, resource="services") for verb in ("list", "watch")),
    Right(verb="list", resource="pods"),
    Right(verb="patch", resource="pods", optional=True),
    *(Right(verb=verb, resource="events", optional=True) for verb in ("create", "patch")),
    *(
        Right(verb=verb, resource="leases", group="coordination.k8s.io", lease=True)
        for verb in ("get", "create", "update")
    ),
)


class Cluster:
    """One cluster as a `Source`, a `StatusWriter` and what `publish.configmap` asks of it."""

    def __init__(self, api: API, *, namespaces: frozenset[str] = frozenset()) -> None:
        """Take the API to ask, and the namespaces served; empty for all."""
        self._api = api
        self._namespaces = namespaces
        #: Path of a list -> uid -> what it held last.
        self._parsed: dict[str, dict[str, Resource]] = {}

    # What the core asks.

    async def list(self, namespace: str | None) -> Sequence[Resource]:
        """All LLMBackends of a namespace, or of every namespace served, as they are now."""
        found: dict[str, Resource] = {}
        for path in self._paths(GROUP_PATH, PLURAL, namespace):
            answer = await self._api.get(path)
            before = self._parsed.pop(path, {})
            listed = [_resource(item, before) for item in answer["items"]]
            if listed:
                self._parsed[path] = {resource.identity.uid: resource for resource in listed}
                found |= self._parsed[path]
        return list(found.values())

    async def write(self, resource: Resource, status: Status) -> None:
        """Apply the status of an LLMBackend."""
        identity = resource.identity
        path = f"{GROUP_PATH}/namespaces/{identity.namespace}/{PLURAL}/{identity.name}/status"
        # NB: a uid in it would not be compared; what hits an object of the same name made meanwhile
        # is put right by the pass for that one.
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": identity.name, "namespace": identity.namespace},
            "status": status,
        }
        await self._api.apply(path, body, manager=STATUS_MANAGER)

    async def read_map(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """A ConfigMap; None when there is none."""
        try:
            return await self._api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        except Gone:
            return None

    async def apply_map(self, manifest: Mapping[str, Any]) -> None:
        """Apply a ConfigMap."""
        metadata = manifest["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/configmaps/{metadata['name']}"
        await self._api.apply(path, manifest, manager=MANAGER)

    async def label_namespaces(self, selector: str) -> frozenset[str]:
        """The namespaces of the ConfigMaps that a label selector picks."""
        found: set[str] = set()
        for path in self._paths("/api/v1", "configmaps", None):
            query = {"labelSelector": selector}
            answer = await self._api.get(path, query=query, accept=METADATA)
            # NB: a list of metadata with nothing in it has null there.
            found |= {item["metadata"]["namespace"] for item in answer["items"] or ()}
        return frozenset(found)

    # What the start asks.

    async def serves(self) -> bool:
        """Whether the API server knows LLMBackends."""
        try:
            answer = await self._api.get(GROUP_PATH)
        except Gone:
            return False
        return any(resource["name"] == PLURAL for resource in answer["resources"])

    async def lacking(self, lease_namespace: str = "") -> Sequence[str]:
        """The rights the operator has to have and has not, each with its namespace.

        Optional ones that it has not are logged.

        Args:
            lease_namespace: where its Lease is; "" when it has none.
        """
        missing: dict[bool, list[str]] = {True: [], False: []}
        scopes = [(namespace, False) for namespace in sorted(self._namespaces) or [""]]
        scopes += [(lease_namespace, True)] if lease_namespace else []
        for namespace, lease in scopes:
            rights = [right for right in RIGHTS if right.lease == lease]
            has = await asyncio.gather(*(self._may(right, namespace) for right in rights))
            for right, may in zip(rights, has, strict=True):
                if not may:
                    missing[right.optional].append(f"{right} in {namespace or 'all namespaces'}")
        if missing[True]:
            logger.warning("rights_lacking_optional", extra={"rights": missing[True]})
        return missing[False]

    async def _may(self, right: Right, namespace: str) -> bool:
        name, _, subresource = right.resource.partition("/")
        attributes = {
            "namespace": namespace,
            "verb": right.verb,
            "group": right.group,
            "resource": name,
            "subresource": subresource,
        }
        body = {"spec": {"resourceAttributes": attributes}}
        answer = await self._api.request("POST", REVIEWS_PATH, body=body)
        return bool(answer["status"]["allowed"])

    async def session(self) -> tuple[str, aiohttp.ClientSession]:
        """The API server's address and a new session, for the watch."""
        # NB: each namespace served takes a connection for its watch.
        return await self._api.session(connections=CONNECTIONS + len(self._namespaces))

    def _paths(self, root: str, plural: str, namespace: str | None) -> Sequence[str]:
        scopes = [namespace] if namespace is not None else sorted(self._namespaces)
        return [f"{root}/namespaces/{scope}/{plural}" for scope in scopes] or [f"{root}/{plural}"]


def _resource(item: Mapping[str, Any], before: Mapping[str, Resource]) -> Resource:
    """The object as a value; a spec that was judged before is not judged again."""
    metadata = item["metadata"]
    known = before.get(metadata["uid"])
    if known is None or known.identity.generation != metadata["generation"]:
        return parse(item)
    # NB: these are all that can change without a new generation.
    return replace(
        known,
        deleting="deletionTimestamp" in metadata,
        status=item.get("status"),
        paused=is_paused(metadata),
    )
