"""Truth about the data plane: real routers, the real API server, and what the statuses say of them.

The operator's core runs here without its watch, so that a test says when a namespace is reconciled;
it has the rights that are shipped. There is no node: a test makes the pods and sets their status,
and a `Kubelet` of tests/parts writes the folders.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_contract import CHECKSUM_KEY, CONFIG_KEY
from llm_operator.api import API
from llm_operator.cluster import Cluster
from llm_operator.engine import Engine
from llm_operator.namespace import Pace, Ports
from llm_operator.objects import Objects
from llm_operator.plan import Addresses
from llm_operator.publish.configmap import ConfigMapSink
from llm_operator.record import Record
from llm_operator.routers.observer import Observer
from llm_operator.routers.pods import Pods
from llm_operator.watches import Watches
from parts import process
from parts.access import Rule, User, expect
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.kubelet import Kubelet
from parts.operator import CONFIG_MAP, Backends, Operator, rules
from parts.process import Process, free_port
from parts.router import Router

pytestmark = pytest.mark.usefixtures("crd")

WRITES = ("create", "update", "patch", "delete")
#: So that a dead host is known in a moment.
PROBED = {
    "active": {
        "intervalSeconds": 2,
        "timeoutSeconds": 1,
        "unhealthyThreshold": 1,
        "requireModel": False,
    }
}


class Core:
    """The operator's core in a thread and a loop of its own."""

    def __init__(self, database: str, *, every: float, nudge: bool) -> None:
        self._database, self._every, self._nudge = database, every, nudge
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(20)

    def reconcile(self, namespace: str) -> None:
        """What the watch would ask for."""
        work = self._engine.reconcile(namespace)
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)
            assert not self._thread.is_alive()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with await API.connect() as api, Record(self._database) as record:
            cluster = Cluster(api)
            observer = Observer(Pods(api), every=self._every, nudge=self._nudge)
            ports = Ports(
                source=cluster,
                sink=ConfigMapSink(cluster),
                recorder=record,
                writer=cluster,
                finder=Objects(api, Watches(api)),
                routers=observer,
            )
            self._engine = Engine(ports, addresses=Addresses(), pace=Pace(quiet=0.05))
            rounds = asyncio.create_task(observer.run())
            self._started.set()
            await self._stop.wait()
            rounds.cancel()
            await asyncio.wait([rounds])
            await self._engine.close()
        # NB: a TLS connection is gone only some turns of the loop after its session is closed.
        await asyncio.sleep(0.25)


@pytest.fixture
def user(control_plane: ControlPlane) -> User:
    return control_plane.create_user("operator", rules())


@pytest.fixture
def start_core(
    user: User, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Core]]:
    """Start the core as `user`, or as another one."""
    made: list[Core] = []

    def start(*, by: User = user, every: float = 0.5, nudge: bool = True) -> Core:
        monkeypatch.setenv("KUBECONFIG", str(by.kubeconfig))
        made.append(Core(migrated, every=every, nudge=nudge))
        made[-1].start()
        return made[-1]

    yield start
    for core in made:
        core.stop()


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    return Backends(control_plane, namespace)


@pytest.fixture
def running(make_router: Callable[..., Router]) -> Router:
    """A router that runs, with nothing mounted."""
    router = make_router()
    router.start()
    return router


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Process]:
    """A simulated Ollama that a test may end."""
    port = free_port()
    command = [sys.executable, "-m", "llm_operator.cli", "simulate", "ollama", "--model", "*"]
    made = process.start([*command, "--port", str(port)], log=tmp_path / f"host-{port}.log")
    yield made
    made.kill()


def url_of(host: Process) -> str:
    return f"http://127.0.0.1:{host.log.stem.removeprefix('host-')}"


class Pod:
    """A pod with a router in it, as far as an API server knows of one."""

    def __init__(self, control_plane: ControlPlane, namespace: str, name: str) -> None:
        self._control_plane = control_plane
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self.name = name

    def make(self, router: Router, *, phase: str = "Running", held: bool = False) -> "Pod":
        """Its router, which runs elsewhere; `held` by a finalizer when it is deleted."""
        body = {
            "metadata": {
                "name": self.name,
                "labels": {"llm.athena.dev/router": "sidecar"},
                "annotations": {"llm.athena.dev/router-port": str(router.management_port)},
                "finalizers": ["test.dev/held"] if held else [],
            },
            "spec": {"containers": [{"name": "app", "image": "app"}]},
        }
        status = {"phase": phase, "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
        with self._control_plane.client() as client:
            expect(client.post(self._pods, json=body))
            expect(
                client.patch(
                    f"{self._pods}/{self.name}/status",
                    json={"status": status},
                    headers={"Content-Type": "application/merge-patch+json"},
                )
            )
        return self

    def delete(self) -> None:
        with self._control_plane.client() as client:
            expect(client.delete(f"{self._pods}/{self.name}", params={"gracePeriodSeconds": 0}))

    @property
    def nudged(self) -> str | None:
        with self._control_plane.client() as client:
            metadata = expect(client.get(f"{self._pods}/{self.name}"))["metadata"]
        told: str | None = metadata["annotations"].get("llm.athena.dev/nudged")
        return told


@pytest.fixture
def make_pod(control_plane: ControlPlane, namespace: str) -> Callable[..., Pod]:
    def make(router: Router, name: str = "app-1", **more: Any) -> Pod:
        return Pod(control_plane, namespace, name).make(router, **more)

    return make


def mount(control_plane: ControlPlane, namespace: str, router: Router) -> None:
    """What the pod's kubelet does at its next look."""
    Kubelet(control_plane, namespace, CONFIG_MAP, router.mount).sync()


def programmed(backends: Backends, name: str) -> tuple[str | None, str | None]:
    """The condition and the column."""
    status = backends.get(name).get("status", {})
    return backends.conditions(name).get("Programmed"), status.get("summary", {}).get("routers")


def is_programmed(backends: Backends, name: str, condition: str, column: str) -> bool:
    found = programmed(backends, name)
    assert found == (condition, column), found
    return True


def message(backends: Backends, name: str, kind: str) -> str:
    found = backends.get(name)["status"]["conditions"]
    return next(str(one["message"]) for one in found if one["type"] == kind)


def transition(backends: Backends, name: str, kind: str) -> str:
    found = backends.get(name)["status"]["conditions"]
    return next(str(one["lastTransitionTime"]) for one in found if one["type"] == kind)


def test_programmed_once_the_router_has_read_it(
    start_core: Callable[..., Core],
    control_plane: ControlPlane,
    backends: Backends,
    running: Router,
    make_pod: Callable[..., Pod],
) -> None:
    core, pod = start_core(), make_pod(running)
    backends.apply(backends.manifest("phi"))
    core.reconcile(backends.namespace)
    eventually(lambda: is_programmed(backends, "phi", "False/Pending", "0/1"), within=10)
    assert backends.conditions("phi")["Ready"] == "True/Ready"
    assert message(backends, "phi", "Programmed") == (
        "Generation 1 is not in use by 1 of 1 router: app-1 has not read it yet."
    )
    # Nudged: with a node, its kubelet would now do what comes next.
    eventually(lambda: pod.nudged == backends.get("phi")["status"]["configChecksum"], within=10)

    mount(control_plane, backends.namespace, running)
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "1/1"), within=15)

    backends.patch("phi", {"spec": {"endpointURL": "http://other:11434"}})
    core.reconcile(backends.namespace)
    eventually(lambda: is_programmed(backends, "phi", "False/Pending", "0/1"), within=15)
    mount(control_plane, backends.namespace, running)
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "1/1"), within=15)


def test_a_disabled_resource_is_programmed_once_no_router_has_it(
    start_core: Callable[..., Core],
    control_plane: ControlPlane,
    backends: Backends,
    running: Router,
    make_pod: Callable[..., Pod],
) -> None:
    core = start_core()
    make_pod(running)
    backends.apply(backends.manifest("phi"))
    core.reconcile(backends.namespace)
    mount(control_plane, backends.namespace, running)
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "1/1"), within=15)
    backends.patch("phi", {"spec": {"enabled": False}})
    core.reconcile(backends.namespace)
    eventually(lambda: is_programmed(backends, "phi", "False/Pending", "0/1"), within=15)
    assert backends.conditions("phi")["Available"] == "False/Disabled"
    mount(control_plane, backends.namespace, running)
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "1/1"), within=15)
    assert backends.conditions("phi")["Ready"] == "True/Ready"


def test_a_router_that_rejects_the_configuration_keeps_its_last_and_says_so(
    start_core: Callable[..., Core],
    control_plane: ControlPlane,
    backends: Backends,
    running: Router,
    make_pod: Callable[..., Pod],
) -> None:
    core = start_core()
    make_pod(running)
    backends.apply(backends.manifest("phi"), backends.manifest("llama"))
    core.reconcile(backends.namespace)
    mount(control_plane, backends.namespace, running)
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "1/1"), within=15)

    backends.patch("phi", {"spec": {"endpointURL": "http://other:11434"}})
    core.reconcile(backends.namespace)
    running.project({CONFIG_KEY: b"{}", CHECKSUM_KEY: b"0" * 64})
    reason = "False/RejectedKeptLastGood"
    eventually(lambda: is_programmed(backends, "phi", reason, "0/1"), within=15)
    assert "app-1 keeps its last good (checksum is " in message(backends, "phi", "Programmed")
    assert backends.conditions("phi")["Ready"] == "True/Ready"
    # What the router still has of others is as it should be.
    assert programmed(backends, "llama") == ("True/Programmed", "1/1")

    mount(control_plane, backends.namespace, running)
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "1/1"), within=15)


def test_a_dead_router_is_unreachable_and_the_other_one_counts(
    start_core: Callable[..., Core],
    control_plane: ControlPlane,
    backends: Backends,
    make_router: Callable[..., Router],
    make_pod: Callable[..., Pod],
) -> None:
    core = start_core()
    first, second = make_router(), make_router()
    backends.apply(backends.manifest("phi"))
    core.reconcile(backends.namespace)
    for name, router in (("app-1", first), ("app-2", second)):
        router.start()
        mount(control_plane, backends.namespace, router)
        make_pod(router, name)
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "2/2"), within=15)
    ready = transition(backends, "phi", "Ready")

    assert second.process is not None
    second.process.kill()
    reason = "False/RouterUnreachable"
    eventually(lambda: is_programmed(backends, "phi", reason, "1/2"), within=15)
    assert message(backends, "phi", "Programmed") == (
        "Generation 1 is not in use by 1 of 2 routers: app-2 can't be asked (no connection)."
    )
    assert backends.conditions("phi")["Ready"] == "True/Ready"

    second.start()
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "2/2"), within=15)
    assert transition(backends, "phi", "Ready") == ready


def test_pods_that_end_or_have_not_begun_do_not_count(
    start_core: Callable[..., Core],
    control_plane: ControlPlane,
    backends: Backends,
    running: Router,
    make_pod: Callable[..., Pod],
) -> None:
    core = start_core()
    make_pod(running, "app-1", phase="Pending")
    make_pod(running, "app-2", phase="Succeeded")
    make_pod(running, "app-3", held=True).delete()
    backends.apply(backends.manifest("phi"))
    core.reconcile(backends.namespace)
    eventually(lambda: is_programmed(backends, "phi", "False/NoRouters", "0/0"), within=15)
    mount(control_plane, backends.namespace, running)
    make_pod(running, "app-4")
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "1/1"), within=15)


def test_dead_hosts_are_told_and_ready_stays(
    start_core: Callable[..., Core],
    control_plane: ControlPlane,
    backends: Backends,
    running: Router,
    make_pod: Callable[..., Pod],
    host: Process,
) -> None:
    core = start_core()
    make_pod(running)
    dead = {"name": "mac", "type": "mlx", "endpointURL": f"http://127.0.0.1:{free_port()}"}
    alive = {"name": "box", "type": "ollama", "endpointURL": url_of(host)}
    fields = {"backendType": None, "endpointURL": None, "healthCheck": PROBED}
    backends.apply(backends.manifest("phi", targets=[dead, alive], **fields))
    core.reconcile(backends.namespace)
    mount(control_plane, backends.namespace, running)

    def one_down() -> bool:
        found = backends.conditions("phi")
        assert (found["Available"], found["Degraded"]) == (
            "True/TargetsHealthy",
            "True/TargetsDown",
        )
        return True

    eventually(one_down, within=20, retry=(KeyError,))
    status = backends.get("phi")["status"]
    assert status["summary"]["targets"] == "1/2"
    states = {each["name"]: (each["state"], each["reason"]) for each in status["targets"]}
    assert states == {"mac": ("Down", "Unhealthy"), "box": ("Healthy", "Healthy")}
    mac, _ = status["targets"]
    assert mac["message"].endswith(".")
    assert mac["since"].endswith("Z")
    assert mac["message"].rstrip(".") in message(backends, "phi", "Degraded")

    host.kill()

    def all_down() -> bool:
        found = backends.conditions("phi")
        told = (found["Available"], found["Degraded"])
        assert told == ("False/AllTargetsDown", "True/TargetsDown"), found
        return True

    eventually(all_down, within=20)
    assert backends.get("phi")["status"]["summary"]["targets"] == "0/2"
    assert backends.conditions("phi")["Ready"] == "True/Ready"
    assert backends.conditions("phi")["Programmed"] == "True/Programmed"


def without(verb: str, resource: str) -> Sequence[Rule]:
    """The shipped rights but for one."""
    return [
        {
            **rule,
            "verbs": [v for v in rule["verbs"] if v != verb or resource not in rule["resources"]],
        }
        for rule in rules()
    ]


def test_no_right_to_nudge_is_no_error(
    start_core: Callable[..., Core],
    control_plane: ControlPlane,
    backends: Backends,
    running: Router,
    make_pod: Callable[..., Pod],
    caplog: pytest.LogCaptureFixture,
) -> None:
    core = start_core(by=control_plane.create_user("less", without("patch", "pods")))
    pod = make_pod(running)
    for generation in (1, 2):
        backends.apply(backends.manifest("phi", endpointURL=f"http://host-{generation}:1"))
        core.reconcile(backends.namespace)
        mount(control_plane, backends.namespace, running)
        eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "1/1"), within=15)
    assert pod.nudged is None
    refused = [record for record in caplog.records if record.message == "nudge_refused"]
    assert len(refused) == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_nudging_can_be_off(
    start_core: Callable[..., Core],
    control_plane: ControlPlane,
    backends: Backends,
    running: Router,
    make_pod: Callable[..., Pod],
) -> None:
    core, pod = start_core(nudge=False), make_pod(running)
    backends.apply(backends.manifest("phi"))
    core.reconcile(backends.namespace)
    eventually(lambda: is_programmed(backends, "phi", "False/Pending", "0/1"), within=15)
    mount(control_plane, backends.namespace, running)
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "1/1"), within=15)
    assert pod.nudged is None


def test_at_rest_nothing_is_written(
    start_core: Callable[..., Core],
    control_plane: ControlPlane,
    user: User,
    backends: Backends,
    running: Router,
    make_pod: Callable[..., Pod],
    host: Process,
) -> None:
    core = start_core(every=0.2)
    make_pod(running)
    backends.apply(
        *(
            backends.manifest(f"m{n}", endpointURL=url_of(host), healthCheck=PROBED)
            for n in range(5)
        ),
        backends.manifest("dead", endpointURL="http://127.0.0.1:9", healthCheck=PROBED),
    )
    core.reconcile(backends.namespace)
    mount(control_plane, backends.namespace, running)

    def settled() -> bool:
        found = {n: backends.conditions(f"m{n}") for n in range(5)}
        for one in found.values():
            told = (one["Programmed"], one["Available"], one["DatabaseSynced"])
            assert told == ("True/Programmed", "True/TargetsHealthy", "True/Synced"), found
        dead = backends.conditions("dead")
        assert dead["Available"] == "False/AllTargetsDown", dead
        return True

    eventually(settled, within=30, retry=(KeyError,))

    def asked(*verbs: str) -> int:
        return len(control_plane.audit(user=user.name, verbs=verbs))

    writes, lists = asked(*WRITES), asked("list")
    # As long as it takes for many rounds, each of which lists pods.
    eventually(lambda: asked("list") >= lists + 25, within=30)
    assert asked(*WRITES) == writes


def test_the_operator_ends_soon_and_a_fresh_one_writes_nothing(
    make_operator: Callable[..., Operator],
    control_plane: ControlPlane,
    backends: Backends,
    running: Router,
    make_pod: Callable[..., Pod],
) -> None:
    operator = make_operator(settings={"LLMB_ROUTER_SECONDS": "1"})
    operator.start()
    assert operator.user is not None
    user = operator.user.name
    pod = make_pod(running)
    backends.apply(backends.manifest("phi"))
    eventually(lambda: pod.nudged, within=20)
    mount(control_plane, backends.namespace, running)
    eventually(lambda: is_programmed(backends, "phi", "True/Programmed", "1/1"), within=20)
    eventually(lambda: backends.ready("phi"), within=20)

    begun = time.monotonic()
    assert operator.end() == 0
    assert time.monotonic() - begun < 5

    def asked(*verbs: str, resource: str) -> int:
        return len(control_plane.audit(user=user, verbs=verbs, resource=resource))

    writes = asked(*WRITES, resource="llmbackends"), asked(*WRITES, resource="pods")
    lists = asked("list", resource="pods")
    operator.start()
    eventually(lambda: asked("list", resource="pods") >= lists + 5, within=30)
    assert (asked(*WRITES, resource="llmbackends"), asked(*WRITES, resource="pods")) == writes
    assert programmed(backends, "phi") == ("True/Programmed", "1/1")
