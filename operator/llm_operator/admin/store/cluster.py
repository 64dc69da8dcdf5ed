"""LLMBackends of a cluster: read from the mirror, written by server-side apply.

    create   an apply that names a version which no object has: it is made, or it is there already
    replace  look, hand over what is to go (`fields`), apply all of the spec at the version seen
    delete   at the version seen

Nothing is written that is not at the generation the caller saw; a status that was written between
is no reason to give up. What a write made is on the shelf when it returns. Labels, annotations and
status of others are never touched.

NB: what the admin changed it owns. `kubectl apply` of the manifest by its author puts what the
manifest names back and leaves what it never named; where the admin went from targets to the simple
form, or back, both at once are refused and `kubectl replace` is the way. `kubectl apply
--server-side` names the fields in which the two differ as conflicts, until the author takes them
back by --force-conflicts. What both say alike both own.
"""

from collections.abc import Mapping
from typing import Any

from llm_operator.admin.errors import Changed, Missing
from llm_operator.admin.model import Backend
from llm_operator.admin.store import fields, refusals
from llm_operator.admin.store.mirror import Mirror
from llm_operator.admin.store.names import resource_name, who
from llm_operator.admin.store.shelf import Shelf
from llm_operator.api import API
from llm_operator.cluster import GROUP_PATH
from llm_operator.ports import Gone, PortError, Unavailable
from llm_operator.resource.model import ADMIN, API_VERSION, CHANGED_BY, CREATED_BY, KIND, PLURAL

#: Who owns the fields that the admin wrote.
MANAGER = ADMIN

#: What the admin's service account has to be allowed to do to LLMBackends.
VERBS = ("get", "list", "watch", "create", "patch", "delete")

MERGE = "application/merge-patch+json"

#: Writes that are tried again because somebody else's came between.
TRIES = 20
#: Names that are tried for a resource that was given none.
NAMES = 20

#: A version that no object has, since the store's first write is later: an apply that names it
#: makes an object, or is refused because there is one.
NO_VERSION = "1"


class ClusterStore(Shelf):
    """The `Store` of a cluster. It follows while `run` does."""

    def __init__(
        self, api: API, *, namespace: str, namespaces: frozenset[str] = frozenset()
    ) -> None:
        """Take the API to ask.

        Args:
            namespace: of a backend for which none is named.
            namespaces: those served; empty for all.
        """
        super().__init__()
        self.namespace = namespace
        self._api = api
        self._namespaces = namespaces
        self._mirror = Mirror(api, self, namespaces=namespaces)

    async def run(self) -> None:
        """Follow the cluster, for ever."""
        await self._mirror.run()

    async def create(
        self, *, namespace: str, name: str, spec: Mapping[str, Any], by: str
    ) -> Backend:
        """Make a new one. See `ports.Store`."""
        if self._namespaces and namespace not in self._namespaces:
            served = ", ".join(sorted(self._namespaces))
            raise Missing(f"namespace {namespace} is not served here; these are: {served}")
        if name:
            return await self._create(namespace, name, spec, by)
        taken = set(self.names(namespace))
        for _ in range(NAMES):
            made = resource_name(str(spec.get("modelName") or ""), taken)
            try:
                return await self._create(namespace, made, spec, by)
            except refusals.Exists:
                # NB: one that is not on the shelf yet.
                taken.add(made)
        raise refusals.Exists(f"{namespace}/{made}")

    async def replace(self, backend: Backend, spec: Mapping[str, Any], *, by: str) -> Backend:
        """Make this the spec of a backend. See `ports.Store`."""
        body = _body(backend.manifest["metadata"], spec, by)
        refusals.check(body)
        path, what = _place(backend)
        for _ in range(TRIES):
            try:
                item = await self._current(path, backend)
                metadata = item["metadata"]
                managed = fields.handed_over(item, spec, manager=MANAGER)
                if managed is not None:
                    metadata = await self._hand_over(path, metadata, managed)
                seen = {key: metadata[key] for key in ("uid", "resourceVersion")}
                made = await self._api.apply(
                    path, body | {"metadata": body["metadata"] | seen}, manager=MANAGER
                )
                return self._mirror.saw(made)
            except PortError as error:
                if not _came_between(error):
                    raise self._told(error, backend, what) from error
        raise _busy(what)

    async def delete(self, backend: Backend) -> None:
        """Delete it. See `ports.Store`."""
        path, what = _place(backend)
        version = backend.version
        for _ in range(TRIES):
            conditions = {"uid": backend.uid, "resourceVersion": version}
            try:
                left = await self._api.request("DELETE", path, body={"preconditions": conditions})
                # NB: an object that something holds back comes back as it is; else a Status does.
                if left.get("kind") == KIND:
                    self._mirror.saw(left)
                else:
                    self._mirror.lost(backend.uid)
                return
            except PortError as error:
                if not _came_between(error):
                    raise self._told(error, backend, what) from error
            try:
                version = (await self._current(path, backend))["metadata"]["resourceVersion"]
            except PortError as error:
                raise self._told(error, backend, what) from error
        raise _busy(what)

    async def _create(self, namespace: str, name: str, spec: Mapping[str, Any], by: str) -> Backend:
        what = f"{namespace}/{name}"
        annotations = {CREATED_BY: who(by)}
        named = {"name": name, "namespace": namespace, "annotations": annotations}
        body = _body(named, spec, by)
        refusals.check(body)
        body["metadata"]["resourceVersion"] = NO_VERSION
        try:
            made = await self._api.apply(_path(namespace, name), body, manager=MANAGER, force=False)
        except PortError as error:
            if _came_between(error):
                raise refusals.Exists(what) from error
            raise refusals.refusal(error, what=what) from error
        return self._mirror.saw(made)

    async def _current(self, path: str, backend: Backend) -> dict[str, Any]:
        """The object as it is now.

        Raises:
            Changed: it is at another generation.
            Missing: it is another object of that name.
        """
        item = await self._api.get(path)
        metadata = item["metadata"]
        if metadata["uid"] != backend.uid:
            self._mirror.lost(backend.uid)
            raise Missing(f"{backend.resource.identity} is gone; another has its name")
        self._mirror.saw(item)
        if metadata["generation"] != backend.resource.identity.generation:
            raise Changed(f"{backend.resource.identity} was changed in the meantime")
        return item

    async def _hand_over(
        self, path: str, metadata: Mapping[str, Any], managed: list[dict[str, Any]]
    ) -> Mapping[str, Any]:
        seen = {key: metadata[key] for key in ("uid", "resourceVersion")}
        body = {"metadata": seen | {"managedFields": managed}}
        query = {"fieldManager": MANAGER}
        answer = await self._api.request("PATCH", path, query=query, body=body, content=MERGE)
        found: Mapping[str, Any] = answer["metadata"]
        return found

    def _told(self, error: PortError, backend: Backend, what: str) -> Exception:
        told = refusals.refusal(error, what=what)
        if isinstance(error, Gone) and isinstance(told, Missing):
            self._mirror.lost(backend.uid)
        return told


def _came_between(error: PortError) -> bool:
    """Whether the object was another by then."""
    return isinstance(error, Unavailable) and error.said is not None and error.said.code == 409


def _busy(what: str) -> Changed:
    return Changed(f"{what} is changed by others all the time; try again")


def _place(backend: Backend) -> tuple[str, str]:
    identity = backend.resource.identity
    return _path(identity.namespace, identity.name), str(identity)


def _path(namespace: str, name: str) -> str:
    # NB: whatever is no name is refused by the rules before it comes here.
    return f"{GROUP_PATH}/namespaces/{namespace}/{PLURAL}/{name}"


def _body(metadata: Mapping[str, Any], spec: Mapping[str, Any], by: str) -> dict[str, Any]:
    """What is applied: nothing of others' metadata."""
    names = {key: metadata[key] for key in ("name", "namespace")}
    annotations = {CHANGED_BY: who(by)}
    # NB: who applies what it has applied before without a field takes that field away.
    if CREATED_BY in (before := metadata.get("annotations") or {}):
        annotations[CREATED_BY] = before[CREATED_BY]
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": names | {"annotations": annotations},
        "spec": dict(spec),
    }
