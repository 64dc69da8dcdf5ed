"""The election and its fences on a real API server: in this process, and as two operators."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from llm_contract import Route, RoutingConfig, Target, TargetType, Timeouts, checksum, dump
from llm_operator.api import API
from llm_operator.cluster import Cluster
from llm_operator.leader import Election, Gated, Pace
from llm_operator.objects import Objects
from llm_operator.ports import Refused, Unavailable
from llm_operator.publish.configmap import ConfigMapSink
from llm_operator.publish.fence import EPOCH, creator
from llm_operator.publish.outcome import decide
from llm_operator.publish.secret import SecretVault
from llm_operator.references.model import Sought
from parts.access import expect
from parts.control_plane import ControlPlane
from parts.eventually import eventually, eventually_async
from parts.operator import Backends, Operator

LEASE = "llmb"
#: Two seconds long, renewed four times in one.
PACE = Pace.of(2)

MakeOperator = Callable[..., Operator]


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    return Backends(control_plane, namespace)


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What connects this process as an administrator."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    return control_plane.kubeconfig


@dataclass(slots=True)
class Candidate:
    """One election, and what it would have ended the process for."""

    election: Election
    ended: list[str] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def gains(self, *, within: float) -> int:
        """Its epoch once it leads."""
        assert await asyncio.wait_for(self.election.gained(self.stop), within)
        return self.election.epoch

    async def waits(self, *, seconds: float) -> None:
        """It does not lead in this time."""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.election.gained(self.stop), seconds)


@asynccontextmanager
async def candidate(namespace: str, me: str) -> AsyncIterator[Candidate]:
    async with await API.connect() as api:
        ended: list[str] = []
        election = Election(
            api,
            namespace=namespace,
            name=LEASE,
            pace=PACE,
            me=me,
            end=lambda: ended.append(me),
        )
        yield Candidate(election, ended)
        await election.release()


def lease_of(control_plane: ControlPlane, namespace: str) -> dict[str, Any]:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}"
    with control_plane.client() as client:
        found: dict[str, Any] = expect(client.get(path))
    return found


# The Lease.


@pytest.mark.usefixtures("kubeconfig")
async def test_one_leads_and_hands_over(control_plane: ControlPlane, namespace: str) -> None:
    async with candidate(namespace, "a") as a, candidate(namespace, "b") as b:
        first = await a.gains(within=5)
        assert first > 0
        assert a.election.leading
        await b.waits(seconds=3)
        assert a.election.leading
        assert not b.election.leading
        spec = lease_of(control_plane, namespace)["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("a", first)
        waiting = asyncio.create_task(b.gains(within=3))
        await a.election.release()
        assert not a.election.leading
        assert await waiting == first + 1
        assert (a.ended, b.ended) == ([], [])


@pytest.mark.usefixtures("kubeconfig")
async def test_one_that_falls_silent_is_replaced_after_its_lease(namespace: str) -> None:
    async with candidate(namespace, "a") as a, candidate(namespace, "b") as b:
        first = await a.gains(within=5)
        assert a.election._renewing is not None
        a.election._renewing.cancel()
        until = a.election._until
        assert await b.gains(within=6) == first + 1
        assert a.ended == ["a"], "it must be over before another leads"
        assert b.election._clock() > until + PACE.lease - PACE.deadline - 0.1


@pytest.mark.usefixtures("kubeconfig")
async def test_what_others_write_on_the_lease_stays(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with candidate(namespace, "a") as a:
        await a.gains(within=5)
        control_plane.kubectl("label", "lease", LEASE, "-n", namespace, "team=a")
        labelled = lease_of(control_plane, namespace)

        def renewed() -> bool:
            found = lease_of(control_plane, namespace)
            assert found["metadata"]["labels"] == {"team": "a"}
            return bool(found["spec"]["renewTime"] > labelled["spec"]["renewTime"])

        await eventually_async(renewed, within=5)
        assert a.election.leading
        assert a.ended == []


@pytest.mark.usefixtures("kubeconfig")
async def test_a_deleted_lease_is_made_anew_by_its_holder(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with candidate(namespace, "a") as a, candidate(namespace, "b") as b:
        epoch = await a.gains(within=5)
        waiting = asyncio.create_task(b.waits(seconds=4))
        await asyncio.to_thread(control_plane.kubectl, "delete", "lease", LEASE, "-n", namespace)
        await waiting
        spec = lease_of(control_plane, namespace)["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("a", epoch)
        assert a.election.leading


@pytest.mark.usefixtures("kubeconfig")
async def test_one_whose_lease_is_taken_ends(control_plane: ControlPlane, namespace: str) -> None:
    async with candidate(namespace, "a") as a:
        await a.gains(within=5)
        patch = '{"spec":{"holderIdentity":"somebody"}}'
        await asyncio.to_thread(
            control_plane.kubectl,
            *("patch", "lease", LEASE, "-n", namespace, "--type=merge", "-p", patch),
        )
        await eventually_async(lambda: a.ended == ["a"], within=2)
        assert not a.election.leading
    assert lease_of(control_plane, namespace)["spec"]["holderIdentity"] == "somebody"


@pytest.mark.usefixtures("kubeconfig")
async def test_a_blocked_event_loop_ends_it_in_time(namespace: str) -> None:
    async with candidate(namespace, "a") as a:
        await a.gains(within=5)
        # Blocks the loop on purpose: the guard is a thread.
        eventually(lambda: a.ended == ["a"], within=PACE.lease)
        assert not a.election.leading


@pytest.mark.usefixtures("kubeconfig")
async def test_many_at_once_make_one_leader(namespace: str) -> None:
    async with (
        candidate(namespace, "a") as a,
        candidate(namespace, "b") as b,
        candidate(namespace, "c") as c,
    ):
        tasks = [asyncio.create_task(one.election.gained(one.stop)) for one in (a, b, c)]
        done, pending = await asyncio.wait(tasks, timeout=4)
        assert len(done) == 1
        assert sum(one.election.leading for one in (a, b, c)) == 1
        for one in (a, b, c):
            one.stop.set()
        assert [await task for task in pending] == [False, False]


@pytest.mark.usefixtures("kubeconfig")
async def test_a_replica_that_does_not_lead_can_ask_but_not_write(namespace: str) -> None:
    leading = True
    async with await Gated.connected(lambda: leading) as api:
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        await api.request("POST", path, body={"metadata": {"name": "one"}})
        server, session = await api.session(connections=1)
        async with session:
            async with session.patch(
                f"{server}{path}/one",
                json={"data": {"a": "b"}},
                headers={"Content-Type": "application/merge-patch+json"},
            ) as answer:
                assert answer.status == 200
            leading = False
            with pytest.raises(Unavailable, match="does not lead"):
                await api.request("POST", path, body={"metadata": {"name": "two"}})
            with pytest.raises(aiohttp.ClientError, match="does not lead"):
                await session.patch(f"{server}{path}/one", json={"data": {"a": "c"}})
            async with session.get(f"{server}{path}/one") as answer:
                assert (await answer.json())["data"] == {"a": "b"}
            names = [item["metadata"]["name"] for item in (await api.get(path))["items"]]
            assert "one" in names
            assert "two" not in names


# What is written.

OLD, NEW = 7, 8
EMPTY = dump(RoutingConfig())


def other(text: str) -> bytes:
    """A configuration unlike others."""
    target = Target(name="host", type=TargetType.OLLAMA, url="http://host:1", model=text)
    return dump(
        RoutingConfig(
            routes=(
                Route(
                    model=text,
                    uid=text,
                    generation=1,
                    name=text,
                    targets=(target,),
                    timeouts=Timeouts(total=60),
                ),
            )
        )
    )


def sink(api: API, epoch: int) -> ConfigMapSink:
    return ConfigMapSink(Cluster(api), epoch=lambda: epoch, create=creator(api, "configmaps"))


async def publish(one: ConfigMapSink, namespace: str, raw: bytes) -> None:
    await one.publish(namespace, raw=raw, checksum=checksum(raw))


async def due(one: ConfigMapSink, namespace: str, raw: bytes) -> bool:
    """Whether the sink has to be written for these bytes to stand there."""
    standing = await one.current(namespace)
    return decide(standing, raw, checksum=checksum(raw), place=one.place).write


@pytest.mark.usefixtures("kubeconfig")
async def test_a_new_leader_stamps_once(backends: Backends, namespace: str) -> None:
    async with await API.connect() as api:
        assert await due(sink(api, OLD), namespace, EMPTY)
        await publish(sink(api, OLD), namespace, EMPTY)
        assert not await due(sink(api, OLD), namespace, EMPTY)
        after = sink(api, NEW)
        assert await due(after, namespace, EMPTY)
        await publish(after, namespace, EMPTY)
        assert not await due(after, namespace, EMPTY)
    found = backends.configmap()
    assert found is not None
    assert found["metadata"]["annotations"][EPOCH] == str(NEW)
    managers = {(m["manager"], m["operation"]) for m in found["metadata"]["managedFields"]}
    assert managers == {("llm-backend-operator", "Apply")}


@pytest.mark.usefixtures("kubeconfig")
async def test_without_an_election_it_is_published_as_ever(
    backends: Backends, namespace: str
) -> None:
    async with await API.connect() as api:
        await publish(sink(api, OLD), namespace, EMPTY)
        plain = ConfigMapSink(Cluster(api))
        assert not await due(plain, namespace, EMPTY)
        await publish(plain, namespace, other("a"))
        assert not await due(plain, namespace, other("a"))
    found = backends.configmap()
    assert found is not None
    assert EPOCH not in found["metadata"]["annotations"]


@pytest.mark.check(33)
@pytest.mark.usefixtures("kubeconfig")
async def test_a_late_configmap_of_a_deposed_leader_is_refused(
    backends: Backends, namespace: str
) -> None:
    async with await API.connect() as api:
        before, after = sink(api, OLD), sink(api, NEW)
        # Both found nothing.
        await before.current(namespace)
        await after.current(namespace)
        await publish(after, namespace, other("new"))
        with pytest.raises(Unavailable, match="409"):
            await publish(before, namespace, other("old"))
        # It looks again, and sees whose it is.
        await before.current(namespace)
        with pytest.raises(Refused, match=f"epoch {NEW}, and this is epoch {OLD}"):
            await publish(before, namespace, other("old"))
        # Without a look it makes one of its own.
        with pytest.raises(Refused):
            await publish(sink(api, OLD), namespace, other("old"))
        # It had looked before the new one wrote.
        await publish(after, namespace, EMPTY)
        late = sink(api, NEW)
        await late.current(namespace)
        await publish(sink(api, NEW + 1), namespace, other("newest"))
        with pytest.raises(Unavailable, match="409"):
            await publish(late, namespace, other("late"))
    found = backends.configmap()
    assert found is not None
    assert found["data"]["routing.json"].encode() == other("newest")


class Unfollowed:
    """No changes are noticed here."""

    def follow(self, namespace: str, look: Sought) -> None:
        pass

    async def close(self) -> None:
        pass


def vault(api: API, epoch: int) -> SecretVault:
    objects = Objects(api, Unfollowed())
    return SecretVault(objects, epoch=lambda: epoch, create=creator(api, "secrets"))


@pytest.mark.usefixtures("kubeconfig")
async def test_a_late_credential_of_a_deposed_leader_is_refused(namespace: str) -> None:
    async with await API.connect() as api:
        before, after = vault(api, OLD), vault(api, NEW)
        await before.current(namespace)
        await after.current(namespace)
        # Twice without a look between, as one pass may.
        await after.publish(namespace, {"a": b"1", "b": b"2"})
        await after.publish(namespace, {"a": b"1"})
        for error in (Unavailable, Refused):
            with pytest.raises(error) as caught:
                await before.publish(namespace, {"a": b"canary"})
            assert "canary" not in str(caught.value)
        found = await after.current(namespace)
        assert found is not None
        assert found.values == {"a": b"1"}
        assert (found.owned, found.ours) == (True, {"a"})


# Two operators.


@pytest.fixture
def settings(namespace: str) -> dict[str, str]:
    return {
        "LLMB_LEASE": f"{namespace}/{LEASE}",
        "LLMB_LEASE_SECONDS": "6",
        "LLMB_RESYNC_SECONDS": "3600",
    }


def epochs(database: str, namespace: str) -> dict[str, int]:
    with psycopg.connect(database, connect_timeout=5) as connection:
        query = "SELECT name, epoch FROM llmb.llm_backends WHERE namespace = %s"
        return dict(connection.execute(query, (namespace,)).fetchall())


@pytest.mark.check(32)
@pytest.mark.usefixtures("crd")
def test_an_operator_that_is_ended_hands_over(
    make_operator: MakeOperator, backends: Backends, migrated: str, settings: dict[str, str]
) -> None:
    first = make_operator(settings=settings)
    first.start()
    assert first.logged("lease_gained")
    second = make_operator(settings=settings)
    second.start()
    assert second.ask("healthz").is_success
    assert not second.logged("lease_gained"), "a standby is ready, and does nothing"
    assert [one.ask("readyz").text for one in (first, second)] == ["ok\n", "standby\n"]
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    epoch = first.logged("lease_gained")[0]["epoch"]

    os.kill(first.process.pid, signal.SIGTERM)
    gained = eventually(lambda: second.logged("lease_gained"), within=3)[0]
    assert gained["epoch"] == epoch + 1
    assert first.process.popen.wait(10) == 0

    eventually(second.ready, within=20)
    backends.patch("phi", {"spec": {"endpointURL": "http://new:1"}})
    eventually(lambda: backends.ready("phi"), within=10)
    assert backends.urls() == {"phi": "http://new:1"}
    found = backends.configmap()
    assert found is not None
    assert found["metadata"]["annotations"][EPOCH] == str(epoch + 1)
    assert epochs(migrated, backends.namespace) == {"phi": epoch + 1}
    assert second.user is not None
    assert first.user is not None
    writes = [
        (event.user == second.user.name, event.raw["requestReceivedTimestamp"])
        for event in backends.control_plane.audit(verbs=("create", "update", "patch"))
        if event.resource not in ("leases", "selfsubjectaccessreviews")
        and event.user in (first.user.name, second.user.name)
    ]
    assert writes == sorted(writes), "the second began to write before the first had ended"
    assert {of_second for of_second, _ in writes} == {False, True}


@pytest.mark.usefixtures("crd")
def test_a_standby_ends_as_asked(make_operator: MakeOperator, settings: dict[str, str]) -> None:
    leader, standby = make_operator(settings=settings), make_operator(settings=settings)
    leader.start()
    standby.start()
    assert standby.end(within=5) == 0
    assert not standby.logged("lease_gained")
    assert leader.ready()


@pytest.mark.usefixtures("crd")
def test_without_the_right_to_the_lease_it_says_so(
    control_plane: ControlPlane, make_operator: MakeOperator, settings: dict[str, str]
) -> None:
    operator = make_operator(settings=settings)
    operator.start()
    assert operator.user is not None
    control_plane.kubectl(
        "delete", "rolebinding", "--all", "-n", settings["LLMB_LEASE"].partition("/")[0]
    )
    assert operator.end() == 0
    eventually(
        lambda: (
            "no"
            in control_plane.kubectl(
                *("auth", "can-i", "get", "leases", "-n", settings["LLMB_LEASE"].partition("/")[0]),
                user=operator.user,
                check=False,
            ).stdout
        ),
        within=10,
    )
    operator.start(ready=False)
    eventually(lambda: not operator.process.running, within=20)
    assert operator.process.popen.returncode == 1
    rights = operator.logged("rights_missing")[-1]["rights"]
    assert any(right.startswith("get leases.coordination.k8s.io in ") for right in rights)
