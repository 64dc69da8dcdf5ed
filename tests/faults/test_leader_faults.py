"""Leaders that die, are cut off, fall asleep or are ended, and watches that go deaf in silence."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from llm_operator.handlers import WORKER
from llm_operator.record import Record
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.operator import Backends, Operator, rows
from parts.proxy import Address, Link, Proxy

pytestmark = [pytest.mark.usefixtures("crd"), pytest.mark.timeout(240)]

#: Seconds. NB: on a busy machine much less would be lost by those who are well.
LEASE = 6

EPOCH = "llm.athena.dev/epoch"
WRITES = ("create", "update", "patch", "delete")

MakeOperator = Callable[..., Operator]


@pytest.fixture
def make_operator(
    control_plane: ControlPlane, migrated: str, namespace: str, tmp_path: Path
) -> Iterator[MakeOperator]:
    """Make a replica that is not started; killed at the end whatever became of it."""
    made: list[Operator] = []
    usual = {
        "LLMB_LEASE": f"{namespace}/operator",
        "LLMB_LEASE_SECONDS": str(LEASE),
        "LLMB_RESYNC_SECONDS": "3600",
    }

    def make(*, settings: dict[str, str] | None = None, **fields: Any) -> Operator:
        folder = tmp_path / f"operator-{len(made)}"
        folder.mkdir()
        fields = {"database": migrated, "settings": usual | (settings or {})} | fields
        made.append(Operator(control_plane, folder=folder, **fields))
        return made[-1]

    yield make
    for operator in made:
        operator.kill()


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    return Backends(control_plane, namespace)


def gained(operator: Operator, *, within: float) -> dict[str, Any]:
    """The log line with which it began to lead."""
    return eventually(lambda: operator.logged("lease_gained"), within=within)[0]


def epochs(database: str, namespace: str) -> set[int]:
    with psycopg.connect(database, connect_timeout=5) as connection:
        query = "SELECT epoch FROM llmb.llm_backends WHERE namespace = %s"
        return {epoch for (epoch,) in connection.execute(query, (namespace,))}


def published_epoch(backends: Backends) -> int:
    found = backends.configmap()
    assert found is not None
    return int(found["metadata"]["annotations"][EPOCH])


def written_after(operator: Operator, moment: str) -> list[tuple[str, str, str]]:
    """What the API server took from it after a time, its questions about rights aside."""
    assert operator.user is not None
    return [
        (event.verb, event.resource, event.name)
        for event in operator.control_plane.audit(user=operator.user.name, verbs=WRITES)
        if event.raw["requestReceivedTimestamp"] > moment
        and event.status < 400
        and not event.resource.startswith("selfsubject")
    ]


def routed(backends: Backends, name: str, url: str, *, within: float = 10) -> None:
    """Point a model elsewhere, and see it published, ready and recorded."""
    backends.patch(name, {"spec": {"endpointURL": url}})
    eventually(lambda: backends.urls().get(name) == url, within=within)
    eventually(lambda: backends.ready(name), within=within)


@pytest.mark.check(32)
def test_a_killed_leader_is_replaced(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    leader, standby = make_operator(), make_operator()
    leader.start()
    standby.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    before = leader.logged("lease_gained")[0]["epoch"]
    assert published_epoch(backends) == before
    assert epochs(migrated, backends.namespace) == {before}
    leader.kill()
    after = gained(standby, within=LEASE + 5)["epoch"]
    assert after == before + 1
    # A new leader puts its mark on every map, though nothing has changed.
    eventually(lambda: published_epoch(backends) == after, within=10)
    routed(backends, "phi", "http://new:1")
    assert epochs(migrated, backends.namespace) == {after}
    # What died comes back as a standby.
    leader.start()
    assert len(leader.logged("lease_gained")) == 1
    assert standby.ready()


@pytest.mark.check(33)
@pytest.mark.parametrize("fault", ["stopped", "half-open"])
def test_a_leader_without_the_api_server_ends_before_another_leads(
    control_plane: ControlPlane,
    make_operator: MakeOperator,
    backends: Backends,
    migrated: str,
    make_proxy: Callable[[Address], Proxy],
    fault: str,
) -> None:
    proxy = make_proxy(("127.0.0.1", control_plane.port))
    leader = make_operator(server=f"https://127.0.0.1:{proxy.port}")
    standby = make_operator()
    leader.start()
    standby.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    before = leader.logged("lease_gained")[0]["epoch"]
    if fault == "stopped":
        proxy.stop()
    else:
        proxy.drop()
    assert leader.process.popen.wait(LEASE + 1) == 1
    lost = leader.logged("lease_lost")[0]
    after = gained(standby, within=LEASE + 5)
    assert lost["time"] < after["time"], "there were two leaders"
    eventually(standby.ready, within=20)
    routed(backends, "phi", "http://new:1")
    assert epochs(migrated, backends.namespace) == {after["epoch"]}

    async def late() -> None:
        async with Record(migrated, epoch=lambda: before) as record:
            # Of an older listing, in which there was nothing.
            await record.sync(backends.namespace, [])

    asyncio.run(late())
    assert rows(migrated, backends.namespace) == {"phi": (2, True)}


@pytest.mark.check(32)
@pytest.mark.check(33)
def test_a_leader_that_slept_through_its_lease_writes_nothing(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    leader, standby = make_operator(), make_operator()
    leader.start()
    standby.start()
    names = [f"m{number:02}" for number in range(40)]
    backends.apply(*(backends.manifest(name) for name in names))
    # In the midst of its work: statuses and rows are on their way.
    eventually(backends.urls, within=10, every=0.01)
    os.kill(leader.process.pid, signal.SIGSTOP)
    try:
        taken = gained(standby, within=LEASE + 5)
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        eventually(lambda: backends.all_ready(40), within=60, every=0.3)
        routed(backends, "m00", "http://new:1")
    finally:
        os.kill(leader.process.pid, signal.SIGCONT)
    assert leader.process.popen.wait(5) == 1
    assert leader.logged("lease_lost")
    assert written_after(leader, moment) == []
    assert backends.urls()["m00"] == "http://new:1"
    assert backends.all_ready(40)
    assert published_epoch(backends) == taken["epoch"]
    assert rows(migrated, backends.namespace)["m00"] == (2, True)
    with psycopg.connect(migrated, connect_timeout=5) as connection:
        standing = connection.execute("SELECT epoch FROM llmb.leadership").fetchall()
    assert standing == [(taken["epoch"],)]


@pytest.mark.check(36)
def test_ended_under_load(make_operator: MakeOperator, backends: Backends, migrated: str) -> None:
    leader, standby = make_operator(), make_operator()
    leader.start()
    standby.start()
    names = [f"m{number:03}" for number in range(200)]
    burst = threading.Thread(
        target=lambda: backends.apply(*(backends.manifest(name) for name in names))
    )
    burst.start()
    try:
        eventually(backends.urls, within=20, every=0.01)
        begun = time.monotonic()
        assert leader.end(within=12) == 0
        assert time.monotonic() - begun < 10
    finally:
        burst.join(120)
    gained(standby, within=3)
    taken = set(rows(migrated, backends.namespace).values())
    assert taken <= {(1, True)}, "a row that is half of something"
    eventually(lambda: backends.all_ready(200), within=90, every=0.5)
    assert rows(migrated, backends.namespace) == dict.fromkeys(names, (1, True))
    with psycopg.connect(migrated, connect_timeout=5) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        assert connection.execute(query).fetchone() == (0,)


# Watches that carry nothing any more, with no error to tell of it.


#: Seconds after which a connection on which the client says nothing is taken for a watch's: other
#: requests are answered sooner.
SILENT = 4.0


class Hushing(Proxy):
    """A proxy that can fall silent on the connections of watches: whatever comes on one whose
    client has said nothing for a while vanishes. All others are served, new ones too.
    """

    def __init__(self, upstream: Address) -> None:
        super().__init__(upstream)
        self.hushed = False
        self.said: dict[Link, float] = {}

    def hush(self) -> None:
        """From now on, and for what is connected now: return once all of that is silent or gone."""
        begun = time.monotonic()
        self.hushed = True
        eventually(lambda: time.monotonic() > begun + SILENT, within=SILENT + 1)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link
    ) -> None:
        self.said.setdefault(link, time.monotonic())
        through: Any = Ear(self, reader, link, client=writer is link.server)
        await super()._pump(through, writer, link)

    def deaf(self, link: Link) -> bool:
        """Whether what comes for the client vanishes."""
        return self.hushed and time.monotonic() - self.said[link] > SILENT


class Ear:
    """One direction of a connection, which may swallow what comes."""

    def __init__(
        self, proxy: Hushing, reader: asyncio.StreamReader, link: Link, *, client: bool
    ) -> None:
        self._proxy, self._reader, self._link, self._client = proxy, reader, link, client

    async def read(self, most: int) -> bytes:
        while data := await self._reader.read(most):
            if self._client:
                self._proxy.said[self._link] = time.monotonic()
            elif self._proxy.deaf(self._link):
                continue
            return data
        return data


@pytest.fixture
def hushing(control_plane: ControlPlane) -> Iterator[Hushing]:
    proxy = Hushing(("127.0.0.1", control_plane.port))
    proxy.start()
    yield proxy
    proxy.close()


@pytest.mark.check(34)
def test_a_deaf_watch_ends_the_process(
    make_operator: MakeOperator, backends: Backends, hushing: Hushing
) -> None:
    settings = {"LLMB_LEASE": "", "LLMB_RESYNC_SECONDS": "2"}
    operator = make_operator(server=f"https://127.0.0.1:{hushing.port}", settings=settings)
    operator.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    hushing.hush()
    begun = time.monotonic()
    backends.apply(backends.manifest("llama"))
    # By the resync, that sees what the watch does not.
    eventually(lambda: backends.ready("llama"), within=20)
    assert operator.process.popen.wait(60) == 1
    assert time.monotonic() - begun < 60
    told = operator.logged("watch_deaf")[0]["detail"]
    assert f"generation 1 of {backends.namespace}/llama" in told
    operator.start()
    routed(backends, "llama", "http://new:1")


@pytest.mark.check(35)
def test_a_half_open_watch_recovers(
    make_operator: MakeOperator, backends: Backends, hushing: Hushing
) -> None:
    settings = {"LLMB_LEASE": ""}
    operator = make_operator(server=f"https://127.0.0.1:{hushing.port}", settings=settings)
    operator.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    hushing.hush()
    backends.apply(backends.manifest("llama"))
    # NB: the resync is an hour away.
    eventually(lambda: backends.ready("llama"), within=80, every=0.3)
    assert operator.process.running


def test_what_kopf_calls_the_work_on_one_object() -> None:
    """`handlers.at_work` goes by it."""
    from kopf._core.reactor import queueing

    assert f"name=f'{WORKER}{{key}}'" in Path(queueing.__file__).read_text()
