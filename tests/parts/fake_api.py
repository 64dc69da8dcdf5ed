"""An API server of the tests' own, for what a real one can't be told to do: lists that fail, an
error inside a watch, an object that goes unseen.

Discovery, lists, watches and patches of one LLMBackend kind, and of kopf's peerings. Everything
else is tested against the real one, `parts.control_plane`.
"""

import asyncio
import copy
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import jsonpatch
import pytest
from aiohttp import web

GROUP, VERSION, PLURAL = "llm.athena.dev", "v1alpha1", "llmbackends"
PEERING_GROUP, PEERINGS = "kopf.dev", "clusterkopfpeerings"
CRD_GROUP, CRDS = "apiextensions.k8s.io", "customresourcedefinitions"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeAPI:
    """The objects of one kind, who watches them, and what it gets wrong.

    Attributes:
        failing: lists that will be answered with 500.
        listed: lists that were asked for.
        peering_fails: whether writes of peerings are answered with 500.
        peering_asked: methods of all requests about peerings.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.failing = 0
        self.listed = 0
        self.peering_fails = False
        self.peering_asked: list[str] = []
        self.url = ""
        self._loop = loop
        self._objects: dict[str, dict[str, Any]] = {}
        self._version = 100
        self._watches: set[asyncio.Queue[dict[str, Any] | None]] = set()

    @property
    def watched(self) -> bool:
        return bool(self._watches)

    def finalizers(self, name: str) -> list[str]:
        return list(self._objects[name]["metadata"].get("finalizers", []))

    def create(self, name: str) -> None:
        """A new object, and who watches learns of it."""
        self._objects[name] = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "LLMBackend",
            "metadata": {
                "name": name,
                "namespace": "prod",
                "uid": f"uid-{name}",
                "generation": 1,
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"modelName": name},
        }
        self._tell("ADDED", self._objects[name])

    def vanish(self, name: str) -> None:
        """An object goes, and nobody is told."""
        del self._objects[name]

    def tell_error(self, code: int) -> None:
        """An ERROR event on every watch, which ends there."""
        error = {"kind": "Status", "status": "Failure", "code": code, "message": "injected"}
        self._send({"type": "ERROR", "object": error})
        self.end_watches()

    def end_watches(self) -> None:
        self._send(None)

    def _tell(self, kind: str, item: dict[str, Any]) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self._send({"type": kind, "object": copy.deepcopy(item)})

    def _send(self, event: dict[str, Any] | None) -> None:
        for watch in list(self._watches):
            self._loop.call_soon_threadsafe(watch.put_nowait, event)

    # What is served.

    def routes(self) -> list[web.RouteDef]:
        base, peering = f"/apis/{GROUP}/{VERSION}", f"/apis/{PEERING_GROUP}/v1"
        # NB: kopf begins nothing until it has seen that there are namespaces and CRDs.
        namespaces, crds = ("namespaces", "Namespace"), (CRDS, "CustomResourceDefinition")
        groups = [_group(GROUP, VERSION), _group(PEERING_GROUP), _group(CRD_GROUP)]
        return [
            web.get("/api", _always({"versions": ["v1"]})),
            web.get("/api/v1", _resources(*namespaces)),
            web.get("/apis", _always({"groups": groups})),
            web.get(f"/apis/{CRD_GROUP}/v1", _resources(*crds)),
            web.get(base, _resources(PLURAL, "LLMBackend", namespaced=True)),
            web.get(peering, _resources(PEERINGS, "ClusterKopfPeering")),
            web.get(f"{base}/{PLURAL}", self._list),
            web.patch(f"{base}/namespaces/{{namespace}}/{PLURAL}/{{name}}", self._patch),
            web.route("*", f"{peering}/{PEERINGS}{{tail:.*}}", self._peering),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch"):
            return await self._watch(request)
        self.listed += 1
        if self.failing:
            self.failing -= 1
            return _failure(500)
        version = {"resourceVersion": str(self._version)}
        return web.json_response({"metadata": version, "items": list(self._objects.values())})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        watch: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._watches.add(watch)
        try:
            while (event := await watch.get()) is not None:
                await answer.write(json.dumps(event).encode() + b"\n")
        finally:
            self._watches.discard(watch)
        return answer

    async def _patch(self, request: web.Request) -> web.Response:
        name, patch = request.match_info["name"], await request.json()
        if name not in self._objects:
            return _failure(404)
        if request.content_type == "application/json-patch+json":
            try:
                self._objects[name] = jsonpatch.apply_patch(self._objects[name], patch)
            except jsonpatch.JsonPatchTestFailed:
                return _failure(422)
        else:
            _merge(self._objects[name], patch)
        self._tell("MODIFIED", self._objects[name])
        return web.json_response(self._objects[name])

    async def _peering(self, request: web.Request) -> web.StreamResponse:
        self.peering_asked.append(request.method)
        if request.method == "PATCH":
            return _failure(500) if self.peering_fails else web.json_response({})
        if request.query.get("watch"):
            return await self._watch(request)
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})


def _group(name: str, version: str = "v1") -> dict[str, Any]:
    preferred = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [preferred], "preferredVersion": preferred}


def _resources(plural: str, kind: str, *, namespaced: bool = False) -> Handler:
    verbs, singular = ["list", "watch", "patch", "get"], kind.lower()
    resource = {"name": plural, "singularName": singular, "kind": kind, "verbs": verbs}
    return _always({"resources": [resource | {"namespaced": namespaced}]})


def _always(answer: dict[str, Any]) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(answer)

    return handle


def _failure(code: int) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "message": "injected"}
    return web.json_response(body, status=code)


def _merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


@pytest.fixture
def fake_api() -> Iterator[FakeAPI]:
    """Served from a thread of its own: kopf takes tasks of its own loop for tasks of its own, and
    at its end waits for them.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="api", daemon=True)
    thread.start()
    made = FakeAPI(loop)

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.add_routes(made.routes())
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    runner = asyncio.run_coroutine_threadsafe(serve(), loop).result(5)
    yield made
    made.end_watches()
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()
