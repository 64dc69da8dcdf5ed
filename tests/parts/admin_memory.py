"""What is behind the admin side, in memory: for decisions and races, seldom seen on real servers.

behind = memory()                         # a service with nothing in it
made = behind.store.add(SPEC)             # a resource that the operator has taken
async with client(behind) as api: ...     # the API on it

Rules, reading and order are the real ones; only keeping is not.
"""

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import httpx

from llm_operator.admin.api import app
from llm_operator.admin.backends import Backends
from llm_operator.admin.errors import Away, Changed, Invalid, Missing, Unauthorized
from llm_operator.admin.model import Backend, Caller, Generation, Sample, Totals, Verb
from llm_operator.admin.store import objects, refusals
from llm_operator.admin.store.names import resource_name
from llm_operator.admin.store.shelf import Shelf
from llm_operator.admin.traffic import Traffic
from llm_operator.admin.wiring import Admin
from llm_operator.compare.model import Arm, Point
from llm_operator.resource.model import API_VERSION, KIND
from llm_operator.routers.report import Answer
from llm_operator.routers.router import Router

ME = Caller(name="me", namespace="home")
TOKEN = "good"
SPEC: Mapping[str, Any] = {"modelName": "phi3:mini", "backendType": "ollama"}


@dataclass(slots=True)
class Gate:
    """Knows one token, and a list of what its owner may not.

    Attributes:
        denied: (verb, namespace); "*" for every namespace one by one, not for all at once.
    """

    denied: set[tuple[str, str]] = field(default_factory=set)
    away: bool = False

    async def caller(self, token: str, *, peer: str) -> Caller:
        if self.away:
            raise Away("who that is can't be asked now", retry_after=1.5)
        if token != TOKEN:
            raise Unauthorized("the token is unknown here" if token else "a token is needed")
        return ME

    async def may(
        self, caller: Caller, verb: Verb, namespace: str, *, subresource: str = ""
    ) -> bool:
        word = f"{verb}/{subresource}" if subresource else str(verb)
        return not {(word, namespace), (word, "*")} & self.denied


class Store(Shelf):
    """Resources, and an operator that takes each at once unless it is told not to.

    Attributes:
        taking: whether the operator is there.
        before: called right before a write, for what comes between.
    """

    namespace = "home"

    def __init__(self) -> None:
        super().__init__()
        self.taking = True
        self.before: Callable[[], None] = lambda: None
        self._versions = itertools.count(1)
        self.tell(fresh=True)

    def add(
        self, spec: Mapping[str, Any], *, name: str = "", namespace: str = "home", **metadata: Any
    ) -> Backend:
        """A resource of any spec, also one that no API server would take."""
        made = name or resource_name(str(spec.get("modelName", "")), self.names(namespace))
        uid = f"00000000-0000-4000-8000-{next(self._versions):012x}"
        identity = {"name": made, "namespace": namespace, "uid": uid, "generation": 1}
        created = {"creationTimestamp": "2026-01-05T09:00:00Z"}
        return self._put({**identity, **created, **metadata}, spec)

    def change(self, backend: Backend, spec: Mapping[str, Any]) -> Backend:
        """Give it another spec."""
        now = self.get(backend.uid)
        assert now is not None, "it is gone"
        metadata = now.manifest["metadata"]
        return self._put({**metadata, "generation": metadata["generation"] + 1}, spec)

    def remove(self, backend: Backend) -> None:
        """Take it away."""
        self.put([], gone=[backend.uid])

    async def create(
        self, *, namespace: str, name: str, spec: Mapping[str, Any], by: str
    ) -> Backend:
        self.before()
        refusals.check(_manifest({"name": name or "any", "namespace": namespace}, spec))
        if name in self.names(namespace):
            raise refusals.Exists(f"{namespace}/{name}")
        return self.add(spec, name=name, namespace=namespace)

    async def replace(self, backend: Backend, spec: Mapping[str, Any], *, by: str) -> Backend:
        self._check(backend)
        refusals.check(_manifest(backend.manifest["metadata"], spec))
        return self.change(backend, spec)

    async def delete(self, backend: Backend) -> None:
        self._check(backend)
        self.remove(backend)

    def _check(self, backend: Backend) -> None:
        self.before()
        now = self.get(backend.uid)
        if now is None:
            raise Missing("it is gone")
        if now.resource.identity.generation != backend.resource.identity.generation:
            raise Changed("it was changed in the meantime")

    def _put(self, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> Backend:
        item = _manifest({**metadata, "resourceVersion": str(next(self._versions))}, spec)
        if self.taking:
            item["status"] = _status(metadata["generation"])
        made = objects.backend(item)
        self.put([made])
        return made


class Archive:
    """What was recorded.

    Attributes:
        away: nothing answers.
        unrecorded: uids that have no row yet.
        questions: how often ids were asked for.
    """

    def __init__(self, store: Store) -> None:
        self.away = False
        self.unrecorded: set[str] = set()
        self.questions = 0
        self.generations: list[Generation] = []
        self.records: dict[str, Mapping[str, object]] = {}
        self.told: list[Sample] = []
        self.sums: list[Arm] = []
        self._store = store
        self._numbers: dict[str, int] = {}

    async def ids(self) -> Mapping[str, int]:
        self.questions += 1
        self._up()
        for one in self._store.list():
            if one.uid not in self.unrecorded:
                self._numbers.setdefault(one.uid, len(self._numbers) + 1)
        return dict(self._numbers)

    async def totals(self) -> Mapping[str, Totals]:
        self._up()
        return {}

    async def history(self, uid: str, *, before: int | None, limit: int) -> Sequence[Generation]:
        self._up()
        found = [one for one in self.generations if before is None or one.generation < before]
        return sorted(found, key=lambda one: -one.generation)[:limit]

    async def samples(
        self, *, model: str | None, backend: str | None, before: str | None, limit: int
    ) -> Sequence[Sample]:
        self._up()
        if before is not None and before not in {one.key for one in self.told}:
            raise Invalid("before: must be the key of a sample")
        found = [one for one in self.told if before is None or one.key < before]
        return [one for one in found if model in (None, one.model)][:limit]

    async def store(self, records: Sequence[Mapping[str, object]], *, namespace: str) -> int:
        self._up()
        new = {str(one["request_id"]): one for one in records} | self.records
        count = len(new) - len(self.records)
        self.records = new
        return count

    async def arms(
        self, *, model: str, namespace: str | None, since: datetime, until: datetime, by: str
    ) -> Sequence[Arm]:
        self._up()
        return self.sums

    async def series(
        self,
        *,
        model: str,
        namespace: str | None,
        since: datetime,
        until: datetime,
        by: str,
        step: int,
    ) -> Sequence[Point]:
        self._up()
        return [
            Point(
                at=since,
                key=arm.key,
                requests=arm.requests,
                errors=arm.errors,
                average_seconds=arm.average_seconds,
                average_tokens_per_second=arm.average_tokens_per_second,
            )
            for arm in self.sums
        ]

    def _up(self) -> None:
        if self.away:
            raise Away("the database can't be used now", retry_after=0.4)


@dataclass(slots=True)
class Fleet:
    """Routers that are given."""

    told: list[tuple[Router, Answer]] = field(default_factory=list)

    async def list(self) -> Sequence[tuple[Router, Answer]]:
        return self.told


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A service, and what is behind it."""

    admin: Admin
    gate: Gate
    store: Store
    archive: Archive
    fleet: Fleet


def memory(*, wait: float = 0.3) -> Memory:
    """A service with nothing in it.

    Args:
        wait: seconds that a write waits for the operator.
    """
    gate, store, fleet = Gate(), Store(), Fleet()
    archive = Archive(store)
    admin = Admin(
        gate=gate,
        store=store,
        archive=archive,
        backends=Backends(gate=gate, store=store, archive=archive, wait=wait),
        traffic=Traffic(gate=gate, store=store, archive=archive),
        fleet=fleet,
        trial=None,
        namespace=store.namespace,
        standalone=False,
    )
    return Memory(admin=admin, gate=gate, store=store, archive=archive, fleet=fleet)


@asynccontextmanager
async def client(of: Memory, *, public: bool = True, token: str = TOKEN) -> AsyncIterator[Any]:
    """The API of a service, asked without a socket."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(
        cast(Any, app.build(of.admin, public=public)), raise_app_exceptions=False
    )
    async with httpx.AsyncClient(
        transport=transport, base_url="http://admin/api/llm-backends", headers=headers
    ) as made:
        yield made


def generation(number: int, spec: Mapping[str, Any], change: str = "changed") -> Generation:
    """An entry of a history."""
    now = datetime(2026, 1, 5, 9, number, tzinfo=UTC)
    return Generation(
        generation=number,
        change=change,
        changed_by="me",
        changed_at=now,
        recorded_at=now,
        name="phi3-mini",
        namespace="home",
        spec=spec,
    )


def _manifest(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": dict(metadata),
        "spec": dict(spec),
    }


def _status(generation: int) -> dict[str, object]:
    since = {"observedGeneration": generation, "lastTransitionTime": "2026-01-05T09:00:01Z"}
    return {
        "conditions": [
            {"type": kind, "status": "True", "reason": "Valid", "message": "It is.", **since}
            for kind in ("Accepted", "Ready")
        ]
    }
