"""Which routers there are: the pods with the router label, as the API server lists them.

It asks no router and keeps nothing. The one thing it writes is an annotation: a pod that changes is
a pod its kubelet looks at, mounted folders included, so a router has a new configuration in a
second instead of a minute. Data flows API server -> `Router` values.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm_operator.api import API
from llm_operator.resource.model import GROUP
from llm_operator.routers.router import DIGITS, Router

#: Of the pods with a router in them, whatever its value.
LABEL = f"{GROUP}/router"
#: The management port of a pod's router, where that is not the usual one.
PORT = f"{GROUP}/router-port"
#: The configuration that a pod's kubelet was last asked to look for.
NUDGED = f"{GROUP}/nudged"

#: Pods in one answer of the API server at most.
PAGE = 500
MANAGER = "llm-backend-operator"
MERGE = "application/merge-patch+json"


class Pods:
    """`Routers` that are pods of a cluster."""

    def __init__(
        self, api: API, *, port: int = 8081, namespaces: frozenset[str] = frozenset()
    ) -> None:
        """Take the API to ask, the usual management port, the namespaces served; empty for all."""
        self._api = api
        self._port = port
        self._namespaces = namespaces

    async def list(self, namespace: str | None) -> Sequence[Router]:
        """All pods with the label."""
        scopes = [namespace] if namespace is not None else sorted(self._namespaces)
        paths = [f"/api/v1/namespaces/{scope}/pods" for scope in scopes] or ["/api/v1/pods"]
        found: list[Router] = []
        for path in paths:
            query = {"labelSelector": LABEL, "limit": str(PAGE)}
            more = True
            while more:
                answer = await self._api.get(path, query=query)
                found += routers(answer.get("items") or (), port=self._port)
                query["continue"] = answer["metadata"].get("continue") or ""
                more = bool(query["continue"])
        return found

    async def nudge(self, router: Router, checksum: str) -> None:
        """Set the annotation, which is all that changes on the pod."""
        await self._api.request(
            "PATCH",
            f"/api/v1/namespaces/{router.namespace}/pods/{router.name}",
            query={"fieldManager": MANAGER},
            # NB: the uid makes it a conflict, not a change, when the pod is another one by now.
            body={"metadata": {"uid": router.uid, "annotations": {NUDGED: checksum[:DIGITS]}}},
            content=MERGE,
        )


def routers(items: Iterable[Mapping[str, Any]], *, port: int) -> list[Router]:
    """Pods as the API server has them -> routers."""
    return [_router(item, port) for item in items]


def _router(pod: Mapping[str, Any], port: int) -> Router:
    metadata, status = pod["metadata"], pod.get("status") or {}
    annotations = metadata.get("annotations") or {}
    conditions = status.get("conditions") or ()
    return Router(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        url=_url(status.get("podIP") or "", _port(annotations.get(PORT), port)),
        running=status.get("phase") == "Running",
        ready=any(one["type"] == "Ready" and one["status"] == "True" for one in conditions),
        terminating="deletionTimestamp" in metadata,
        nudged=annotations.get(NUDGED, ""),
    )


def _url(address: str, port: int) -> str:
    if not address:
        return ""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _port(text: str | None, usual: int) -> int:
    """The port in an annotation; whatever else somebody wrote there is no port."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 5:
        return usual
    return int(text) if 0 < int(text) <= 65_535 else usual
