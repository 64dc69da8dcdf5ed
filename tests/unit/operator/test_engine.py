"""The engine on ports in memory: what is published, recorded and reported, and what never waits."""

import asyncio
import gc
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from llm_contract import RoutingConfig, SourceKind, TargetType, checksum, dump, parse
from llm_operator.engine import Engine, utc_now
from llm_operator.namespace import Pace, Ports
from llm_operator.plan import Addresses, plan
from llm_operator.ports import Gone, PortError, Refused, Status, Unavailable
from llm_operator.publish.outcome import LIMIT, Place, Standing, readable
from llm_operator.reasons import ConfigPublished, DatabaseSynced
from llm_operator.references.model import Held, Sought, Values
from llm_operator.references.sought import named
from llm_operator.resource.model import (
    BackendType,
    Credential,
    Host,
    Identity,
    Problem,
    Resource,
    Source,
    Spec,
)
from llm_operator.resync import Resync
from llm_operator.status.conditions import Facts
from llm_operator.status.reporter import Reporter

PACE = Pace(quiet=0.01, longest=0.1)
PROBLEM = Problem(path="spec.modelName", message="must not be empty")


class Memory:
    """Source, sink, recorder and writer of one cluster that is a few dictionaries."""

    place = Place(name="ConfigMap x", remedy="delete it")
    retry_after = 0.02

    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}
        self.maps: dict[str, Standing] = {}
        self.rows: dict[str, dict[str, int]] = {}
        self.lists = self.syncs = 0
        self.published: list[bytes] = []
        self.written: list[tuple[str, Status]] = []
        self.fail: dict[str, PortError] = {}
        self.database = asyncio.Event()
        self.database.set()
        self.slowness = 0.0
        self.tried = 0
        self.away: DatabaseSynced | None = None
        self._numbers = itertools.count(1)

    # What a test does to the cluster.

    def apply(self, name: str, *, namespace: str = "ns", **fields: Any) -> str:
        """Create or change a resource. Returns its uid."""
        before = self.resources.get(f"{namespace}/{name}")
        number = next(self._numbers)
        identity = Identity(
            namespace=namespace,
            name=name,
            uid=before.identity.uid if before else f"u{number}",
            generation=before.identity.generation + 1 if before else 1,
            created=before.identity.created if before else f"2026-01-01T00:00:{number:02}Z",
        )
        spec = Spec(
            model_name=fields.pop("model", name),
            backend_type=fields.pop("backend_type", BackendType.OLLAMA),
            endpoint_url=fields.pop("url", f"http://{name}:11434"),
            **fields,
        )
        status = before.status if before else None
        self.resources[f"{namespace}/{name}"] = Resource(
            identity=identity, spec=spec, status=status
        )
        return identity.uid

    def spoil(self, name: str, *, namespace: str = "ns") -> None:
        """A new generation that is not valid."""
        key = f"{namespace}/{name}"
        before = self.resources[key]
        identity = replace(before.identity, generation=before.identity.generation + 1)
        self.resources[key] = replace(before, identity=identity, spec=None, problems=(PROBLEM,))

    def delete(self, name: str, *, namespace: str = "ns", held: bool = True) -> None:
        """Mark as being deleted, or with nothing to hold it back, remove."""
        key = f"{namespace}/{name}"
        if held:
            self.resources[key] = replace(self.resources[key], deleting=True)
        else:
            del self.resources[key]

    def config(self, namespace: str = "ns") -> RoutingConfig:
        raw = self.maps[namespace].raw
        assert raw is not None
        assert self.maps[namespace].checksum == checksum(raw)
        return parse(raw)

    def urls(self, namespace: str = "ns") -> dict[str, str]:
        return {route.model: route.targets[0].url for route in self.config(namespace).routes}

    def condition(self, name: str, kind: str, *, namespace: str = "ns") -> tuple[str, str, int]:
        status: Any = self.resources[f"{namespace}/{name}"].status or {"conditions": []}
        found = next((one for one in status["conditions"] if one["type"] == kind), {})
        return found.get("status"), found.get("reason"), found.get("observedGeneration")

    # The ports.

    async def list(self, namespace: str | None) -> Sequence[Resource]:
        self.lists += 1
        await asyncio.sleep(0)
        self._raise("list")
        return [
            resource
            for resource in self.resources.values()
            if namespace in (None, resource.identity.namespace)
        ]

    async def current(self, namespace: str) -> Standing | None:
        self._raise("current")
        return self.maps.get(namespace)

    async def publish(self, namespace: str, *, raw: bytes, checksum: str) -> None:
        await asyncio.sleep(0)
        self._raise("publish")
        self.published.append(raw)
        self.maps[namespace] = Standing(raw=raw, checksum=checksum)

    async def sync(
        self, namespace: str, resources: Sequence[Resource]
    ) -> Mapping[str, DatabaseSynced]:
        self.syncs += 1
        await self.database.wait()
        await asyncio.sleep(self.slowness)
        if self.away:
            return {resource.identity.uid: self.away for resource in resources}
        self.rows[namespace] = {
            r.identity.uid: r.identity.generation for r in resources if not r.deleting
        }
        return {resource.identity.uid: DatabaseSynced.SYNCED for resource in resources}

    async def write(self, resource: Resource, status: Status) -> None:
        self.tried += 1
        await asyncio.sleep(0)
        self._raise("write")
        key = str(resource.identity)
        if key not in self.resources:
            raise Gone(key)
        self.written.append((resource.identity.name, status))
        self.resources[key] = replace(self.resources[key], status=status)

    def _raise(self, where: str) -> None:
        if where in self.fail:
            raise self.fail[where]


class MapSink:
    """The sink half of `Memory`, whose `namespaces` would otherwise be the recorder's."""

    def __init__(self, memory: Memory) -> None:
        self.place = memory.place
        self.current, self.publish, self._memory = memory.current, memory.publish, memory

    async def namespaces(self) -> frozenset[str]:
        self._memory._raise("maps")
        return frozenset(self._memory.maps)


class Rows:
    """The recorder half."""

    def __init__(self, memory: Memory) -> None:
        self.sync, self._memory = memory.sync, memory

    @property
    def retry_after(self) -> float:
        return self._memory.retry_after

    async def namespaces(self) -> frozenset[str]:
        return frozenset(name for name, rows in self._memory.rows.items() if rows)


class Objects:
    """A finder and a vault: Secrets, ConfigMaps and Services that are a few dictionaries."""

    place = Place(name="Secret x", remedy="delete it")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.labelled: dict[str, Values | None] = {}
        self.maps: dict[str, Values] = {}
        self.names: set[str] = set()
        self.vault: Held | None = None
        self.looks: list[Sought] = []
        #: What was done to the vault and the configuration, in turn.
        self.writes: list[tuple[frozenset[str], frozenset[str]]] = []
        self.closed = False

    async def secrets(self, namespace: str, names: frozenset[str]) -> dict[str, Values | None]:
        await asyncio.sleep(0)
        self._memory._raise("secrets")
        return {name: self.labelled[name] for name in names & self.labelled.keys()}

    async def config_maps(self, namespace: str, names: frozenset[str]) -> dict[str, Values]:
        self._memory._raise("config_maps")
        return {name: self.maps[name] for name in names & self.maps.keys()}

    async def services(self, namespace: str, names: frozenset[str]) -> frozenset[str]:
        self._memory._raise("services")
        return names & self.names

    def follow(self, namespace: str, look: Sought) -> None:
        self.looks.append(look)

    async def close(self) -> None:
        self.closed = True

    async def current(self, namespace: str) -> Held | None:
        self._memory._raise("vault")
        return self.vault

    async def publish(self, namespace: str, values: Values) -> None:
        self._memory._raise("keep")
        others = {} if self.vault is None else dict(self.vault.values)
        ours = self.vault.ours if self.vault else frozenset[str]()
        others = {key: value for key, value in others.items() if key not in ours}
        self.vault = Held(values=others | dict(values), ours=frozenset(values))
        standing = self._memory.maps.get(namespace)
        config = (standing and readable(standing)) or RoutingConfig()
        self.writes.append((frozenset(values), named(config)))


@pytest.fixture
async def memory() -> Memory:
    return Memory()


@pytest.fixture
async def objects(memory: Memory) -> Objects:
    return Objects(memory)


@pytest.fixture
def ports(memory: Memory, objects: Objects) -> Ports:
    return Ports(
        source=memory,
        sink=MapSink(memory),
        recorder=Rows(memory),
        writer=memory,
        finder=objects,
        vault=objects,
    )


@pytest.fixture
async def engine(ports: Ports) -> AsyncIterator[Engine]:
    made = Engine(ports, addresses=Addresses(), pace=PACE)
    yield made
    await made.close()


async def until(check: Callable[[], object], *, within: float = 5) -> None:
    async with asyncio.timeout(within):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def quiet(memory: Memory, *, for_seconds: float = 0.12) -> None:
    """Return when nothing has been written for so long."""
    async with asyncio.timeout(5):
        while True:
            before = len(memory.written), len(memory.published)
            await asyncio.sleep(for_seconds)
            if before == (len(memory.written), len(memory.published)):
                return


# What a reconcile does.


async def test_published_recorded_and_reported(memory: Memory, engine: Engine) -> None:
    uid = memory.apply("phi")
    await engine.reconcile("ns")
    assert memory.urls() == {"phi": "http://phi:11434"}
    await until(lambda: memory.condition("phi", "DatabaseSynced") == ("True", "Synced", 1))
    assert memory.condition("phi", "Ready") == ("True", "Ready", 1)
    assert memory.rows["ns"] == {uid: 1}


async def test_the_bytes_are_the_plan_in_canonical_form(memory: Memory, engine: Engine) -> None:
    for name in ("b", "a", "c"):
        memory.apply(name)
    await engine.reconcile("ns")
    expected = plan(
        reversed(memory.resources.values()), addresses=Addresses(), published=RoutingConfig()
    )
    assert memory.maps["ns"].raw == dump(expected.config)


async def test_a_change_travels_and_the_times_of_others_stay(
    memory: Memory, engine: Engine
) -> None:
    memory.apply("phi")
    memory.apply("llama")
    await engine.reconcile("ns")
    await quiet(memory)
    memory.written.clear()
    memory.apply("phi", url="http://new:1")
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "DatabaseSynced") == ("True", "Synced", 2))
    await quiet(memory)
    assert memory.urls()["phi"] == "http://new:1"
    assert {name for name, _ in memory.written} == {"phi"}


async def test_one_change_is_one_status_write(memory: Memory, engine: Engine) -> None:
    memory.slowness = 0.1
    memory.apply("phi")
    await engine.reconcile("ns")
    await quiet(memory)
    assert len(memory.written) == 1


async def test_nothing_changed_is_nothing_written(memory: Memory, engine: Engine) -> None:
    memory.apply("phi")
    await engine.reconcile("ns")
    await quiet(memory)
    before = len(memory.written), len(memory.published)
    for _ in range(3):
        await engine.reconcile("ns")
    await quiet(memory)
    assert (len(memory.written), len(memory.published)) == before
    memory.apply("phi", url="http://new:1")
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "Ready") == ("True", "Ready", 2))


async def test_a_restart_writes_nothing(memory: Memory, ports: Ports, engine: Engine) -> None:
    memory.apply("phi")
    memory.apply("other", model="phi")
    memory.apply("off", enabled=False)
    await engine.reconcile("ns")
    await quiet(memory)
    await engine.close()
    memory.written.clear()
    memory.published.clear()
    again = Engine(ports, addresses=Addresses(), pace=PACE, now=lambda: "2030-01-01T00:00:00Z")
    await again.reconcile("ns")
    await quiet(memory)
    await again.close()
    assert (memory.written, memory.published) == ([], [])


async def test_a_burst_is_a_handful_of_passes(memory: Memory, engine: Engine) -> None:
    async def arrive(number: int) -> None:
        await asyncio.sleep(number * 0.0005)
        memory.apply(f"m{number}")
        await engine.reconcile("ns")

    await asyncio.gather(*(arrive(number) for number in range(500)))
    assert len(memory.config().routes) == 500
    assert len(memory.published) <= 12


async def test_a_reconcile_sees_what_was_there_when_it_was_called(
    memory: Memory, engine: Engine
) -> None:
    for number in range(20):
        memory.apply("phi", url=f"http://host:{number + 1}")
        await engine.reconcile("ns")
        assert memory.urls() == {"phi": f"http://host:{number + 1}"}


# What goes away.


async def test_the_last_resource_leaves_an_empty_configuration(
    memory: Memory, engine: Engine
) -> None:
    uid = memory.apply("phi")
    await engine.reconcile("ns")
    memory.delete("phi")
    await engine.reconcile("ns")
    assert memory.config() == RoutingConfig()
    assert await engine.forgotten("ns", uid, within=5)
    assert memory.rows["ns"] == {}
    await quiet(memory)
    assert all(name != "phi" or "deleting" not in status for name, status in memory.written)


async def test_nothing_is_made_where_nothing_ever_was(memory: Memory, engine: Engine) -> None:
    await engine.reconcile("ns")
    assert memory.maps == {}


async def test_a_row_that_can_not_be_removed_now_is_removed_later(
    memory: Memory, engine: Engine
) -> None:
    uid = memory.apply("phi")
    await engine.reconcile("ns")
    await until(lambda: memory.rows.get("ns"))
    memory.away = DatabaseSynced.DATABASE_UNAVAILABLE
    memory.delete("phi")
    await engine.reconcile("ns")
    assert memory.urls() == {}
    assert not await engine.forgotten("ns", uid, within=0.1)
    memory.delete("phi", held=False)
    await engine.reconcile("ns")
    memory.away = None
    await until(lambda: memory.rows["ns"] == {})
    assert await engine.forgotten("ns", uid, within=5)


async def test_what_vanished_while_the_database_was_away(memory: Memory, engine: Engine) -> None:
    memory.apply("phi")
    await engine.reconcile("ns")
    await until(lambda: memory.rows.get("ns"))
    memory.away = DatabaseSynced.DATABASE_UNAVAILABLE
    memory.delete("phi", held=False)
    await engine.reconcile("ns")
    await quiet(memory)
    memory.away = None
    await until(lambda: memory.rows["ns"] == {})


async def test_what_vanished_unseen_is_forgotten(memory: Memory, engine: Engine) -> None:
    uid = memory.apply("phi")
    await engine.reconcile("ns")
    memory.delete("phi", held=False)
    await engine.reconcile("ns")
    assert await engine.forgotten("ns", uid, within=5)
    assert memory.rows["ns"] == {}


async def test_a_hanging_record_holds_a_deletion_for_its_time_only(
    memory: Memory, engine: Engine
) -> None:
    uid = memory.apply("phi")
    await engine.reconcile("ns")
    memory.database.clear()
    memory.delete("phi")
    await engine.reconcile("ns")
    begun = asyncio.get_running_loop().time()
    assert not await engine.forgotten("ns", uid, within=0.2)
    assert asyncio.get_running_loop().time() - begun < 1


async def test_a_new_object_of_the_same_name_is_another(memory: Memory, engine: Engine) -> None:
    old = memory.apply("phi")
    await engine.reconcile("ns")
    memory.delete("phi", held=False)
    new = memory.apply("phi")
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "DatabaseSynced")[0] == "True")
    assert old != new
    assert memory.rows["ns"] == {new: 1}


# What must not wait, or be lost.


@pytest.mark.parametrize("away", ["hangs", "refuses"])
async def test_a_lost_database_delays_no_route(memory: Memory, engine: Engine, away: str) -> None:
    if away == "hangs":
        memory.database.clear()
    memory.away = DatabaseSynced.DATABASE_UNAVAILABLE
    for number in range(5):
        memory.apply("phi", url=f"http://host:{number + 1}")
        async with asyncio.timeout(0.5):
            await engine.reconcile("ns")
        assert memory.urls() == {"phi": f"http://host:{number + 1}"}
    await until(lambda: memory.condition("phi", "Ready") == ("True", "Ready", 5))
    memory.database.set()
    await until(lambda: memory.condition("phi", "DatabaseSynced")[1] == "DatabaseUnavailable")
    memory.away = None
    await until(lambda: memory.condition("phi", "DatabaseSynced") == ("True", "Synced", 5))


async def test_what_was_recorded_of_an_older_generation_says_nothing(
    memory: Memory, engine: Engine
) -> None:
    memory.apply("phi")
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "DatabaseSynced") == ("True", "Synced", 1))
    memory.database.clear()
    memory.apply("phi", url="http://new:1")
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "Ready") == ("True", "Ready", 2))
    assert memory.condition("phi", "DatabaseSynced") == ("Unknown", "Pending", 2)


async def test_an_outdated_schema_is_told_and_tried_again(memory: Memory, engine: Engine) -> None:
    memory.away = DatabaseSynced.SCHEMA_OUTDATED
    memory.apply("phi")
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "DatabaseSynced")[1] == "SchemaOutdated")
    memory.away = None
    await until(lambda: memory.condition("phi", "DatabaseSynced")[0] == "True")


async def test_while_the_database_is_away_no_status_is_written_again(
    memory: Memory, engine: Engine
) -> None:
    memory.away = DatabaseSynced.DATABASE_UNAVAILABLE
    memory.apply("phi")
    await engine.reconcile("ns")
    await quiet(memory)
    syncs, written = memory.syncs, len(memory.written)
    await until(lambda: memory.syncs > syncs + 3)
    assert len(memory.written) == written


async def test_an_invalid_resource_keeps_its_last_route(memory: Memory, engine: Engine) -> None:
    memory.apply("phi")
    memory.apply("llama")
    await engine.reconcile("ns")
    memory.spoil("phi")
    memory.apply("llama", url="http://new:1")
    await engine.reconcile("ns")
    assert memory.urls() == {"phi": "http://phi:11434", "llama": "http://new:1"}
    await until(lambda: memory.condition("phi", "Stalled") == ("True", "Invalid", 2))
    assert memory.condition("phi", "Ready") == ("False", "Invalid", 2)


async def test_a_fresh_operator_finds_last_routes_in_what_is_published(
    memory: Memory, ports: Ports, engine: Engine
) -> None:
    memory.apply("phi")
    await engine.reconcile("ns")
    memory.spoil("phi")
    again = Engine(ports, addresses=Addresses(), pace=PACE)
    await again.reconcile("ns")
    await again.close()
    assert memory.urls() == {"phi": "http://phi:11434"}


@pytest.mark.parametrize("damage", ["edited", "emptied", "removed"])
async def test_last_routes_outlive_a_damaged_configuration(
    memory: Memory, engine: Engine, damage: str
) -> None:
    memory.apply("phi")
    await engine.reconcile("ns")
    memory.spoil("phi")
    if damage == "removed":
        del memory.maps["ns"]
    else:
        raw = {"edited": b"{}", "emptied": None}[damage]
        memory.maps["ns"] = replace(memory.maps["ns"], raw=raw)
    await engine.reconcile("ns")
    assert memory.urls() == {"phi": "http://phi:11434"}


async def test_a_foreign_configuration_is_left_alone(memory: Memory, engine: Engine) -> None:
    foreign = Standing(raw=b"theirs", checksum=None, owned=False)
    memory.maps["ns"] = foreign
    memory.apply("phi")
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "ConfigPublished") == ("False", "NotOwned", 1))
    assert memory.maps["ns"] == foreign
    del memory.maps["ns"]
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "Ready") == ("True", "Ready", 1))


async def test_what_is_too_large_keeps_the_last_version(memory: Memory, engine: Engine) -> None:
    memory.apply("phi")
    await engine.reconcile("ns")
    await quiet(memory)
    before = memory.maps["ns"]
    for number in range(LIMIT // 2000):
        memory.apply(f"m{number}", url=f"http://host/{'p' * 2000}")
    await engine.reconcile("ns")
    await until(lambda: memory.condition("m0", "ConfigPublished") == ("False", "TooLarge", 1))
    assert memory.maps["ns"] == before
    assert memory.condition("phi", "Ready") == ("True", "Ready", 1)
    for number in range(LIMIT // 2000):
        memory.delete(f"m{number}", held=False)
    memory.apply("m0")
    await engine.reconcile("ns")
    assert set(memory.urls()) == {"phi", "m0"}


# What fails.


async def test_a_failed_write_is_raised_told_and_made_good(memory: Memory, engine: Engine) -> None:
    memory.apply("phi")
    await engine.reconcile("ns")
    memory.fail["publish"] = Unavailable("HTTP 500")
    memory.apply("llama")
    with pytest.raises(Unavailable):
        await engine.reconcile("ns")
    await until(lambda: memory.condition("llama", "ConfigPublished")[1] == "PublishFailed")
    assert memory.condition("phi", "ConfigPublished")[0] == "True"
    await until(lambda: memory.condition("llama", "DatabaseSynced")[0] == "True")
    del memory.fail["publish"]
    await engine.reconcile("ns")
    await until(lambda: memory.condition("llama", "Ready")[0] == "True")


async def test_what_could_not_be_looked_at_is_not_told(memory: Memory, engine: Engine) -> None:
    memory.apply("phi")
    memory.fail["current"] = Unavailable("HTTP 500")
    with pytest.raises(Unavailable):
        await engine.reconcile("ns")
    await quiet(memory)
    assert memory.written == []
    memory.fail["current"] = Refused("HTTP 403: no right to get configmaps")
    with pytest.raises(Refused):
        await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "ConfigPublished")[1] == "PublishFailed")


async def test_what_could_not_be_listed_changes_nothing(memory: Memory, engine: Engine) -> None:
    memory.apply("phi")
    await engine.reconcile("ns")
    await until(lambda: memory.rows.get("ns"))
    before = memory.maps["ns"], dict(memory.rows)
    memory.resources.clear()
    memory.fail["list"] = Unavailable("HTTP 500")
    with pytest.raises(Unavailable):
        await engine.reconcile("ns")
    await quiet(memory)
    assert (memory.maps["ns"], memory.rows) == before


async def test_a_namespace_on_its_way_out_holds_nobody_up(memory: Memory, engine: Engine) -> None:
    uid = memory.apply("phi")
    memory.fail["publish"] = Gone("the namespace is being terminated")
    await engine.reconcile("ns")
    memory.delete("phi")
    await engine.reconcile("ns")
    assert await engine.forgotten("ns", uid, within=5)


async def test_statuses_that_could_not_be_written_are_tried_again(
    memory: Memory, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    memory.apply("phi")
    memory.fail["write"] = Unavailable("HTTP 500")
    with caplog.at_level(logging.WARNING):
        await engine.reconcile("ns")
        await until(lambda: "status_not_written" in caplog.messages)
    del memory.fail["write"]
    await until(lambda: memory.condition("phi", "Ready")[0] == "True")


async def test_an_unavailable_cluster_is_not_asked_for_each_status(
    memory: Memory, engine: Engine
) -> None:
    for number in range(100):
        memory.apply(f"m{number}")
    memory.fail["write"] = Unavailable("timed out")
    await engine.reconcile("ns")
    await quiet(memory)
    assert 0 < memory.tried <= PACE.reporting


async def test_a_listing_older_than_a_write_does_not_undo_it(memory: Memory) -> None:
    reporter = Reporter(memory, now=utc_now, slots=asyncio.Semaphore(1), width=1)
    memory.apply("phi")
    resource = memory.resources["ns/phi"]
    uid = resource.identity.uid
    planned = plan([resource], addresses=Addresses(), published=RoutingConfig())
    facts = Facts(
        verdict=planned.verdicts[uid],
        planned=planned.config.routes[0],
        standing=planned.config.routes[0],
        checksum="0" * 64,
        published=ConfigPublished.PUBLISHED,
        recorded=DatabaseSynced.SYNCED,
    )
    begun = asyncio.get_running_loop().time()
    for listed, writes in ((begun, 1), (begun, 1), (begun + 60, 2)):
        reporter.take([resource], begun=listed)
        assert await reporter.report([uid], lambda _: (resource, facts))
        assert len(memory.written) == writes


async def test_one_status_that_is_refused_keeps_no_other_back(
    memory: Memory, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = memory.write

    async def picky(resource: Resource, status: Status) -> None:
        if resource.identity.name == "bad":
            raise Refused("HTTP 422")
        await write(resource, status)

    monkeypatch.setattr(memory, "write", picky)
    for name in ("a", "bad", "z"):
        memory.apply(name)
    await engine.reconcile("ns")
    await until(lambda: {name for name, _ in memory.written} == {"a", "z"})


async def test_the_status_of_an_object_that_is_gone_is_no_failure(
    memory: Memory, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    memory.apply("phi")
    memory.fail["write"] = Gone("phi")
    with caplog.at_level(logging.WARNING):
        await engine.reconcile("ns")
        await quiet(memory)
    assert caplog.messages == []


async def test_a_status_edited_by_hand_is_repaired(memory: Memory, engine: Engine) -> None:
    memory.apply("phi")
    await engine.reconcile("ns")
    await quiet(memory)
    right = memory.resources["ns/phi"].status
    memory.resources["ns/phi"] = replace(memory.resources["ns/phi"], status={"conditions": []})
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "Ready")[0] == "True")
    assert {**(right or {}), "conditions": 0} == {
        **(memory.resources["ns/phi"].status or {}),
        "conditions": 0,
    }


async def test_closing_ends_all_tasks(memory: Memory, engine: Engine) -> None:
    memory.database.clear()
    memory.apply("phi")
    await engine.reconcile("ns")
    waiting = asyncio.create_task(engine.forgotten("ns", "u", within=60))
    await until(lambda: memory.syncs)
    await engine.close()
    await asyncio.wait([waiting], timeout=1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


# References.


def referring(name: str = "a", *, secret: str = "tok", key: str = "token", **more: Any) -> Host:
    source = Source(kind=SourceKind.SECRET, name=secret, key=key)
    return host(name, credential=Credential(source=source), **more)


def host(name: str = "a", **more: Any) -> Host:
    return Host(name=name, type=TargetType.OPENAI, endpoint_url=f"https://{name}:1", **more)


def full(*hosts: Host) -> dict[str, Any]:
    return {"backend_type": None, "url": None, "hosts": hosts}


async def test_credentials_stand_first_and_go_last(
    memory: Memory, objects: Objects, engine: Engine
) -> None:
    objects.labelled = {"tok": {"token": b"1"}, "tok2": {"token": b"2"}}
    memory.apply("phi", **full(referring()))
    await engine.reconcile("ns")
    memory.apply("phi", **full(referring(secret="tok2")))
    await engine.reconcile("ns")
    one, two = frozenset({"tok_token"}), frozenset({"tok2_token"})
    assert objects.writes == [(one, frozenset()), (one | two, one), (two, two)]
    assert objects.looks[-1].secrets == {"tok", "tok2"}
    await until(lambda: memory.condition("phi", "ResolvedRefs") == ("True", "Resolved", 2))
    memory.delete("phi")
    await engine.reconcile("ns")
    assert objects.writes[3:] == [(frozenset(), frozenset())]
    await engine.reconcile("ns")
    assert not objects.looks[-1], "nothing is followed that nobody refers to"
    assert len(objects.writes) == 4


async def test_a_reference_that_comes_later(
    memory: Memory, objects: Objects, engine: Engine
) -> None:
    memory.apply("phi", **full(referring()))
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "Ready") == ("False", "SecretNotFound", 1))
    assert memory.urls() == {}
    objects.labelled["tok"] = None
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "Ready") == ("False", "SecretNotAllowed", 1))
    objects.labelled["tok"] = {"token": b"1"}
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "Ready") == ("True", "Ready", 1))
    assert objects.vault == Held(values={"tok_token": b"1"}, ours=frozenset({"tok_token"}))


@pytest.mark.parametrize("where", ["secrets", "vault", "keep"])
@pytest.mark.parametrize("error", [Unavailable("timed out"), Refused("HTTP 403"), Gone("ns")])
async def test_what_can_not_be_read_or_kept_holds_no_other_up(
    memory: Memory, objects: Objects, engine: Engine, where: str, error: PortError
) -> None:
    memory.apply("phi", **full(referring()))
    memory.apply("llama")
    objects.labelled = {"tok": {"token": b"1"}}
    memory.fail[where] = error
    again = isinstance(error, Unavailable)
    with pytest.raises(Unavailable) if again else nullcontext():
        await engine.reconcile("ns")
    assert memory.urls() == {"llama": "http://llama:11434"}
    reason = "PublishFailed" if where == "keep" else "ReadFailed"
    await until(lambda: memory.condition("phi", "ResolvedRefs") == ("False", reason, 1))
    await until(lambda: memory.condition("llama", "Ready") == ("True", "Ready", 1))
    del memory.fail[where]
    await engine.reconcile("ns")
    await until(lambda: memory.condition("phi", "Ready") == ("True", "Ready", 1))


@pytest.mark.parametrize("where", ["secrets", "vault"])
async def test_a_route_outlives_a_fresh_operator_that_can_read_nothing(
    memory: Memory, objects: Objects, ports: Ports, engine: Engine, where: str
) -> None:
    objects.labelled = {"tok": {"token": b"1"}}
    memory.apply("phi", **full(referring()))
    memory.apply("second", model="phi")
    await engine.reconcile("ns")
    before, kept = memory.config(), objects.vault
    memory.fail[where] = Refused("HTTP 403")
    again = Engine(ports, addresses=Addresses(), pace=PACE)
    await again.reconcile("ns")
    await until(lambda: memory.condition("phi", "Ready") == ("False", "ReadFailed", 1))
    await again.close()
    assert (memory.config(), objects.vault) == (before, kept)


async def test_a_configuration_that_does_not_change_keeps_its_credentials(
    memory: Memory, objects: Objects, engine: Engine
) -> None:
    """While the new configuration can't be published, routers need what the old one names."""
    objects.labelled = {"tok": {"token": b"1"}, "tok2": {"token": b"2"}}
    memory.apply("phi", **full(referring()))
    await engine.reconcile("ns")
    memory.fail["publish"] = Unavailable("HTTP 500")
    memory.apply("phi", **full(referring(secret="tok2")))
    with pytest.raises(Unavailable):
        await engine.reconcile("ns")
    assert objects.vault is not None
    assert set(objects.vault.values) == {"tok_token", "tok2_token"}
    foreign = Standing(raw=b"theirs", checksum=None, owned=False)
    memory.fail, memory.maps["ns"] = {}, foreign
    for _ in range(2):
        await engine.reconcile("ns")
    assert set(objects.vault.values) >= {"tok_token"}


async def test_references_at_rest_cost_no_write(
    memory: Memory, objects: Objects, ports: Ports, engine: Engine
) -> None:
    objects.labelled = {"tok": {"token": b"1"}}
    memory.apply("phi", **full(referring(), host("b")))
    memory.apply("bad", **full(referring(secret="none")))
    memory.apply("half", **full(referring(secret="none"), host("b")))
    await engine.reconcile("ns")
    await quiet(memory)
    before = len(memory.written), len(memory.published), len(objects.writes)
    for _ in range(3):
        await engine.reconcile("ns")
    await engine.close()
    again = Engine(ports, addresses=Addresses(), pace=PACE)
    await again.reconcile("ns")
    await quiet(memory)
    await again.close()
    assert (len(memory.written), len(memory.published), len(objects.writes)) == before
    assert memory.urls() == {"phi": "https://a:1", "half": "https://a:1"}


async def test_values_are_let_go_after_each_pass(
    memory: Memory, objects: Objects, engine: Engine
) -> None:
    class Weighty(bytes):
        """A value that can be looked for."""

    objects.labelled = {"tok": {"token": Weighty(b"1")}}
    memory.apply("phi", **full(referring()))
    await engine.reconcile("ns")
    await quiet(memory)
    objects.labelled, objects.vault = {}, None
    gc.collect()
    assert [one for one in gc.get_objects() if isinstance(one, Weighty)] == []


async def test_closing_ends_what_notices_changes(objects: Objects, engine: Engine) -> None:
    await engine.close()
    assert objects.closed


async def test_a_trouble_is_logged_once(
    memory: Memory, objects: Objects, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    memory.apply("phi", **full(referring()))
    memory.fail["secrets"] = Refused("HTTP 403: no right")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await engine.reconcile("ns")
    assert caplog.messages == ["references_troubled"]


# Resync.


async def test_a_round_repairs_everything(memory: Memory, ports: Ports, engine: Engine) -> None:
    memory.apply("phi")
    memory.apply("llama", namespace="two")
    resync = Resync(engine, ports, every=60)
    assert await resync.round() == 0
    await quiet(memory)
    memory.maps["ns"] = replace(memory.maps["ns"], raw=b"edited")
    del memory.maps["two"]
    memory.rows["gone"] = {"u9": 1}
    memory.maps["left"] = Standing(raw=b"x", checksum="y")
    assert await resync.round() == 0
    assert memory.urls() == {"phi": "http://phi:11434"}
    assert memory.urls("two") == {"llama": "http://llama:11434"}
    assert memory.config("left") == RoutingConfig()
    await until(lambda: memory.rows["gone"] == {})


async def test_rounds_go_on_whatever_fails(memory: Memory, ports: Ports, engine: Engine) -> None:
    memory.apply("phi")
    resync = Resync(engine, ports, every=0.02)
    task = asyncio.create_task(resync.run())
    memory.fail["list"] = Unavailable("HTTP 500")
    await until(lambda: memory.lists > 3)
    memory.fail = {"maps": Refused("HTTP 403")}
    await until(lambda: memory.maps)
    assert resync.pending()
    memory.fail = {"list": RuntimeError("a defect")}  # type: ignore[dict-item]
    lists = memory.lists
    await until(lambda: memory.lists > lists + 3)
    memory.fail = {}
    await until(lambda: not resync.pending())
    assert not resync.stale()
    task.cancel()
    await asyncio.wait([task])


async def test_a_failed_round_is_repeated_soon(
    memory: Memory, ports: Ports, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_operator.resync.SOON", 0.01)
    resync = Resync(engine, ports, every=3600)
    memory.fail["list"] = Unavailable("HTTP 500")
    task = asyncio.create_task(resync.run())
    await until(lambda: memory.lists > 2)
    memory.fail = {}
    await until(lambda: not resync.pending())
    task.cancel()
    await asyncio.wait([task])


async def test_a_stuck_round_is_stale(
    memory: Memory, ports: Ports, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.apply("phi")
    resync = Resync(engine, ports, every=60)
    assert not resync.stale(), "before it runs nothing is overdue"
    never = asyncio.Event()

    async def hang(_: str | None) -> Sequence[Resource]:
        await never.wait()
        raise AssertionError

    monkeypatch.setattr(memory, "list", hang)
    task = asyncio.create_task(resync.run())
    await asyncio.sleep(0.01)
    assert not resync.stale()
    loop = asyncio.get_running_loop()
    later = loop.time() + 181
    monkeypatch.setattr(loop, "time", lambda: later)
    assert "181 s" in resync.stale()
    monkeypatch.undo()
    task.cancel()
    await asyncio.wait([task])


async def test_only_what_is_served(memory: Memory, ports: Ports, engine: Engine) -> None:
    memory.apply("phi")
    memory.rows["elsewhere"] = {"u9": 1}
    resync = Resync(engine, ports, every=60, only=frozenset({"ns"}))
    assert await resync.round() == 0
    await quiet(memory)
    assert set(memory.maps) == {"ns"}
    assert memory.rows["elsewhere"] == {"u9": 1}


async def test_an_unavailable_cluster_ends_a_round_soon(
    memory: Memory, ports: Ports, engine: Engine
) -> None:
    for number in range(50):
        memory.apply("phi", namespace=f"n{number}")
    resync = Resync(engine, ports, every=60, width=2)
    memory.fail["current"] = Unavailable("timed out")
    memory.lists = 0
    assert await resync.round() == 2
    assert memory.lists <= 3


def test_a_time_is_as_the_api_server_writes_it() -> None:
    assert len(utc_now()) == len("2026-01-01T00:00:00Z")
    assert utc_now().endswith("Z")
