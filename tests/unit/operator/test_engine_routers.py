"""The engine and its witness: who follows whom, what is passed on, and what ends with what."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from llm_operator.engine import Engine
from llm_operator.namespace import Pace, Ports
from llm_operator.plan import Addresses
from llm_operator.ports import Status
from llm_operator.publish.outcome import Place, Standing
from llm_operator.reasons import DatabaseSynced
from llm_operator.references.model import Sought, Values
from llm_operator.resource.model import BackendType, Identity, Resource, Spec
from llm_operator.routers.report import Report, RouteReport, Seen

PHI = Resource(
    identity=Identity(namespace="ns", name="phi", uid="u1", generation=1),
    spec=Spec(model_name="phi", backend_type=BackendType.OLLAMA, endpoint_url="http://o:1"),
)


class Everything:
    """All other ports, as little of each as it takes."""

    place = Place(name="ConfigMap x", remedy="delete it")
    retry_after = 1.0

    def __init__(self) -> None:
        self.resources = {PHI.identity.name: PHI}
        self.standing: Standing | None = None
        self.written: list[Any] = []

    async def list(self, namespace: str | None) -> Sequence[Resource]:
        return list(self.resources.values())

    async def current(self, namespace: str) -> Standing | None:
        return self.standing

    async def publish(self, namespace: str, *, raw: bytes, checksum: str) -> None:
        self.standing = Standing(raw=raw, checksum=checksum)

    async def namespaces(self) -> frozenset[str]:
        return frozenset(["ns"])

    async def sync(
        self, namespace: str, resources: Sequence[Resource]
    ) -> Mapping[str, DatabaseSynced]:
        return {each.identity.uid: DatabaseSynced.SYNCED for each in resources}

    async def write(self, resource: Resource, status: Status) -> None:
        self.written.append(status)
        self.resources[resource.identity.name] = replace(resource, status=status)

    async def secrets(self, namespace: str, names: frozenset[str]) -> Mapping[str, Values | None]:
        return {}

    async def config_maps(self, namespace: str, names: frozenset[str]) -> Mapping[str, Values]:
        return {}

    async def services(self, namespace: str, names: frozenset[str]) -> frozenset[str]:
        return frozenset()

    def follow(self, namespace: str, look: Sought) -> None:
        """Nothing is looked for."""

    async def close(self) -> None:
        """Nothing is open."""


class Heard:
    """A witness that a test speaks through."""

    def __init__(self) -> None:
        self.followed: dict[str, Callable[[], None]] = {}
        self.checksums: list[str] = []
        self.forgotten: list[str] = []
        self.now: Seen | None = None
        self.waited = 0

    def follow(self, namespace: str, changed: Callable[[], None]) -> None:
        self.followed[namespace] = changed

    def published(self, namespace: str, checksum: str) -> None:
        self.checksums.append(checksum)

    def seen(self, namespace: str) -> Seen | None:
        return self.now

    async def settled(self, namespace: str, *, within: float) -> None:
        self.waited += 1

    async def forget(self, namespace: str) -> None:
        self.forgotten.append(namespace)
        self.followed.pop(namespace, None)

    def say(self, **reports: Report) -> None:
        self.now = Seen(reports, before=self.now)
        self.followed["ns"]()


@pytest.fixture
async def everything() -> Everything:
    return Everything()


@pytest.fixture
async def heard() -> Heard:
    return Heard()


@pytest.fixture
async def engine(everything: Everything, heard: Heard) -> AsyncIterator[Engine]:
    ports = Ports(
        source=everything,
        sink=everything,
        recorder=everything,
        writer=everything,
        finder=everything,
        routers=heard,
    )
    made = Engine(ports, addresses=Addresses(), pace=Pace(quiet=0.01, longest=0.1))
    yield made
    await made.close()


def runs(everything: Everything, *, generation: int = 1) -> Report:
    assert everything.standing is not None
    assert everything.standing.checksum is not None
    route = RouteReport(generation=generation, targets=())
    return Report(checksum=everything.standing.checksum, routes={"u1": route})


def condition(everything: Everything, kind: str) -> str | None:
    found = everything.written[-1]["conditions"] if everything.written else []
    return next((f"{one['status']}/{one['reason']}" for one in found if one["type"] == kind), None)


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_what_routers_say_gets_into_the_status(
    everything: Everything, heard: Heard, engine: Engine
) -> None:
    await engine.reconcile("ns")
    await until(lambda: condition(everything, "Ready") == "True/Ready")
    assert condition(everything, "Programmed") is None
    assert everything.standing is not None
    assert heard.checksums == [everything.standing.checksum]
    assert heard.waited, "before the first look, the first status waits for it"
    waited = heard.waited
    heard.say(a=runs(everything, generation=0))
    await until(lambda: condition(everything, "Programmed") == "False/Pending")
    assert heard.waited == waited


async def test_an_older_form_of_a_generation_is_not_what_is_published(
    everything: Everything, heard: Heard, engine: Engine
) -> None:
    spec = replace(PHI.spec, aliases=("mini",))  # type: ignore[type-var]
    identity = replace(PHI.identity, created="2026-01-01T00:00:00Z")
    everything.resources["phi"] = replace(PHI, spec=spec, identity=identity)
    await engine.reconcile("ns")
    old = runs(everything)
    # An older resource claims the alias, so the route changes and its generation does not.
    other = replace(PHI.identity, name="a", uid="u2", created="2025-01-01T00:00:00Z")
    named = replace(PHI.spec, model_name="mini")  # type: ignore[type-var]
    everything.resources["a"] = replace(PHI, spec=named, identity=other)
    heard.now = Seen({"a": old})
    await engine.reconcile("ns")
    await until(lambda: len(everything.written) >= 2)

    def programmed() -> dict[str, str]:
        found: Any = everything.resources["phi"].status
        return {one["type"]: one["status"] for one in found["conditions"]}

    await until(lambda: programmed().get("Programmed") == "False")
    heard.say(a=runs(everything))
    await until(lambda: programmed()["Programmed"] == "True")


async def test_the_questions_end_with_the_engine(heard: Heard, engine: Engine) -> None:
    await engine.reconcile("ns")
    assert list(heard.followed) == ["ns"]
    await engine.close()
    assert heard.forgotten == ["ns"]
