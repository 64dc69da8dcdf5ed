"""Who is told what happened: Kubernetes events and metrics, against a real API server and Postgres.

Mostly the engine runs in the test's own loop with the shipped rights, and the resync stands in for
the watch.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from llm_operator import handlers, health
from llm_operator.api import API
from llm_operator.cluster import Cluster
from llm_operator.engine import Engine
from llm_operator.events import Events
from llm_operator.families import FAMILIES
from llm_operator.metrics import Metrics
from llm_operator.namespace import Ports
from llm_operator.objects import Objects
from llm_operator.plan import Addresses
from llm_operator.publish.configmap import ConfigMapSink
from llm_operator.publish.secret import SecretVault
from llm_operator.reasons import Condition
from llm_operator.record import Record
from llm_operator.resync import Resync
from llm_operator.run import serve
from llm_operator.settings import Settings
from llm_operator.watches import Watches
from parts.access import Rule, User, expect
from parts.control_plane import ControlPlane
from parts.eventually import eventually, eventually_async
from parts.operator import CONFIG_MAP, Backends, Operator, rules
from parts.process import free_port

pytestmark = pytest.mark.usefixtures("crd")

CANARY = "canary-3f9d1c7ab2"
OURS = {kind.value for kind in Condition}


@dataclass(slots=True)
class Told:
    """An engine at work on one namespace, and what it tells."""

    user: User
    metrics: Metrics
    events: Events
    resync: Resync
    port: int

    async def rounds(self, count: int = 3) -> None:
        """Let so many rounds of the resync end well."""
        for _ in range(count):
            seen = self.resync.succeeded
            await eventually_async(lambda seen=seen: self.resync.succeeded > seen, within=10)

    async def scrape(self) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
        """Name -> labels -> value, of /metrics."""
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            answer = await client.get(f"http://127.0.0.1:{self.port}/metrics")
        found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
        for family in text_string_to_metric_families(answer.raise_for_status().text):
            for sample in family.samples:
                labels = frozenset(sample.labels.items())
                found.setdefault(sample.name.removeprefix("llm_operator_"), {})[labels] = (
                    sample.value
                )
        return found


Assemble = Callable[..., Any]


@pytest.fixture
def assemble(
    control_plane: ControlPlane, namespace: str, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> Assemble:
    """Make an engine with tellers; a context manager."""

    @asynccontextmanager
    async def assembled(allowed: list[Rule] | None = None) -> AsyncIterator[Told]:
        user = control_plane.create_user("operator", allowed or rules())
        monkeypatch.setenv("KUBECONFIG", str(user.kubeconfig))
        only = frozenset({namespace})
        async with await API.connect() as api, Record(migrated) as record:
            metrics, events = Metrics(), Events(api)
            cluster = Cluster(api, namespaces=only)
            objects = Objects(api, Watches(api, namespaces=only))
            ports = Ports(
                source=cluster,
                sink=ConfigMapSink(cluster),
                recorder=record,
                writer=cluster,
                finder=objects,
                vault=SecretVault(objects),
                tellers=(metrics, events),
            )
            engine = Engine(ports, addresses=Addresses(ollama=None, mlx=None), meter=metrics)
            resync = Resync(engine, ports, every=0.4, only=only)
            metrics.observe_resync(lambda: resync.succeeded)
            metrics.observe_events(lambda: events.counts)
            metrics.observe_record(lambda: record.up, record.stats)
            tasks = [asyncio.create_task(work) for work in (resync.run(), events.run())]
            try:
                async with health.serving(
                    "127.0.0.1",
                    0,
                    healthy=resync.stale,
                    ready=resync.pending,
                    metrics=metrics.render,
                ) as (_, port):
                    yield Told(user, metrics, events, resync, port)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                await engine.close()

    return assembled


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    return Backends(control_plane, namespace)


def events(backends: Backends) -> list[dict[str, Any]]:
    """All events of the namespace, oldest first."""
    with backends.control_plane.client() as client:
        found = expect(client.get(f"/api/v1/namespaces/{backends.namespace}/events"))["items"]
    return sorted(found, key=lambda event: int(event["metadata"]["resourceVersion"]))


def seen(backends: Backends) -> list[tuple[str, str, str, int]]:
    """The same, in short."""
    return [
        (event["involvedObject"]["name"], event["type"], event["reason"], event["count"])
        for event in events(backends)
    ]


async def apply(backends: Backends, *manifests: Mapping[str, Any]) -> None:
    await asyncio.to_thread(backends.apply, *manifests)


async def told(backends: Backends, expected: list[tuple[str, str, str, int]]) -> None:
    """These events, in any order, and no others."""

    def check() -> bool:
        assert Counter(seen(backends)) == Counter(expected)
        return True

    await eventually_async(lambda: asyncio.to_thread(check), within=15, every=0.1)


@pytest.mark.check(17)
async def test_invalid_is_one_event_and_fixed_another(
    assemble: Assemble, backends: Backends, control_plane: ControlPlane
) -> None:
    async with assemble() as running:
        await apply(backends, backends.manifest("phi", endpointURL=None))
        await told(backends, [("phi", "Warning", "Invalid", 1)])
        assert backends.conditions("phi")["Accepted"] == "False/Invalid"
        assert backends.conditions("phi")["Stalled"] == "True/Invalid"
        await running.rounds()
        described = await asyncio.to_thread(
            control_plane.kubectl, "describe", "llmb", "phi", "-n", backends.namespace
        )
        shown = described.stdout.split("Events:")[1]
        assert "Invalid" in shown
        assert "llm-backend-operator" in shown
        (event,) = events(backends)
        condition = next(
            one for one in backends.get("phi")["status"]["conditions"] if one["type"] == "Accepted"
        )
        assert event["message"] == condition["message"]

        await apply(backends, backends.manifest("phi"))
        expected = [("phi", "Warning", "Invalid", 1), ("phi", "Normal", "Ready", 1)]
        await told(backends, expected)
        await eventually_async(lambda: backends.ready("phi"), within=5)
        assert "Stalled" not in backends.conditions("phi")
        await running.rounds()
        await told(backends, expected)
        # No storm of attempts either.
        writes = control_plane.audit(
            user=running.user.name, verbs=("patch",), resource="llmbackends"
        )
        assert len(writes) <= 6


async def test_a_conflict_names_the_owner_and_is_over_when_that_goes(
    assemble: Assemble, backends: Backends
) -> None:
    async with assemble() as running:
        await apply(backends, backends.manifest("first", modelName="m"))
        await eventually_async(lambda: backends.ready("first"), within=10)
        # NB: times of creation are whole seconds; the names decide between two of one.
        await apply(backends, backends.manifest("second", modelName="m"))
        expected = [
            ("first", "Normal", "Ready", 1),
            ("second", "Warning", "ModelNameConflict", 1),
        ]
        await told(backends, expected)
        conflict = next(e for e in events(backends) if e["reason"] == "ModelNameConflict")
        assert "first" in conflict["message"]
        assert conflict["involvedObject"]["uid"] == backends.get("second")["metadata"]["uid"]
        await asyncio.to_thread(backends.delete, "first")
        await told(backends, [*expected, ("second", "Normal", "Ready", 1)])
        await running.rounds()
        await told(backends, [*expected, ("second", "Normal", "Ready", 1)])


def edit(backends: Backends) -> None:
    """What somebody does with `kubectl edit`."""
    path = f"/api/v1/namespaces/{backends.namespace}/configmaps/{CONFIG_MAP}"
    with backends.control_plane.client() as client:
        expect(
            client.patch(
                path,
                json={"data": {"routing.json": "{}"}},
                headers={"Content-Type": "application/merge-patch+json"},
            )
        )


@pytest.mark.check(21)
async def test_an_edit_of_the_map_is_reverted_with_one_event(
    assemble: Assemble, backends: Backends, control_plane: ControlPlane
) -> None:
    async with assemble() as running:
        await apply(backends, backends.manifest("phi"))
        await eventually_async(lambda: backends.ready("phi"), within=10)
        before = backends.configmap()
        assert before is not None
        ready = ("phi", "Normal", "Ready", 1)
        for times in (1, 2):
            edit(backends)
            # The second within ten minutes is counted into the first.
            await told(backends, [ready, (CONFIG_MAP, "Warning", "DriftRepaired", times)])
            after = backends.configmap()
            assert after is not None
            assert after["data"] == before["data"]
        await running.rounds()
        await told(backends, [ready, (CONFIG_MAP, "Warning", "DriftRepaired", 2)])
        described = await asyncio.to_thread(
            control_plane.kubectl, "describe", "configmap", CONFIG_MAP, "-n", backends.namespace
        )
        assert "DriftRepaired" in described.stdout
        scraped = await running.scrape()
        assert scraped["config_repairs_total"] == {frozenset(): 2}
        assert scraped["events_total"][frozenset({("result", "repeated")})] == 1


async def test_a_restart_tells_nothing_again(assemble: Assemble, backends: Backends) -> None:
    expected = [("phi", "Normal", "Ready", 1), ("bad", "Warning", "Invalid", 1)]
    async with assemble():
        await apply(backends, backends.manifest("phi"), backends.manifest("bad", endpointURL=None))
        await told(backends, expected)
        await eventually_async(lambda: backends.ready("phi"), within=10)
    async with assemble() as running:
        await running.rounds()
        await told(backends, expected)


@pytest.mark.check(20)
async def test_a_secret_is_in_no_event_and_no_metric(
    assemble: Assemble, backends: Backends, control_plane: ControlPlane
) -> None:
    target = {
        "name": "host",
        "type": "openai",
        "endpointURL": "https://host.lan",
        "auth": {"secretRef": {"name": "tok", "key": "token"}},
    }
    full = backends.manifest("phi", backendType=None, endpointURL=None, targets=[target])
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "tok",
            "namespace": backends.namespace,
            "labels": {"llm.athena.dev/credential": "true"},
        },
        "stringData": {"token": CANARY},
    }
    async with assemble() as running:
        await apply(backends, full)
        expected = [("phi", "Warning", "NotResolved", 1)]
        await told(backends, expected)
        await apply(backends, secret)
        await told(backends, [*expected, ("phi", "Normal", "Ready", 1)])
        await running.rounds(1)
        assert CANARY not in str(events(backends))
        assert CANARY not in running.metrics.render().decode()


async def test_without_the_right_everything_else_goes_on(
    assemble: Assemble, backends: Backends, caplog: pytest.LogCaptureFixture
) -> None:
    less = [rule for rule in rules() if "events" not in rule["resources"]]
    async with assemble(less) as running:
        await apply(backends, backends.manifest("phi"))
        await eventually_async(lambda: running.events.counts["failed"] == 1, within=10)
        await apply(backends, backends.manifest("llama"))
        await eventually_async(lambda: backends.all_ready(2), within=10)
        await eventually_async(lambda: running.events.counts["failed"] == 2, within=10)
    assert seen(backends) == []
    said = [record for record in caplog.records if record.message == "events_not_posted"]
    assert len(said) == 1
    assert "HTTP 403" in said[0].__dict__["detail"]


@pytest.mark.check(39)
async def test_condition_series_are_the_statuses(assemble: Assemble, backends: Backends) -> None:
    async with assemble() as running:
        manifests = [backends.manifest(name) for name in ("a", "b", "c")]
        await apply(backends, *manifests, backends.manifest("bad", endpointURL=None))
        await eventually_async(
            lambda: sum(map(backends.ready, ("a", "b", "c"))) == 3, within=15, every=0.2
        )
        await agree(running, backends)
        await apply(backends, backends.manifest("bad"))
        await asyncio.to_thread(backends.delete, "a")
        await eventually_async(lambda: backends.ready("bad"), within=10)
        await agree(running, backends)

        async def measured() -> dict[str, Any]:
            # NB: a map lies there a moment before its size is known to be published.
            scraped = await running.scrape()
            published = await asyncio.to_thread(backends.configmap)
            assert published is not None
            here = ("namespace", backends.namespace)
            size = len(published["data"]["routing.json"].encode())
            assert scraped["config_bytes"] == {frozenset({here}): size}
            short = published["data"]["routing.json.sha256"][:12]
            assert scraped["config_info"] == {frozenset({here, ("checksum", short)}): 1}
            return scraped

        scraped = await eventually_async(measured, within=10)
        assert not [labels for labels in scraped["backend_condition"] if ("name", "a") in labels]
        assert scraped["reconcile_total"][frozenset({("result", "ok")})] >= 2
        assert scraped["reconcile_duration_seconds_count"][frozenset()] >= 2
        assert scraped["config_publish_total"][frozenset({("result", "written")})] >= 2
        assert scraped["resync_last_success_timestamp_seconds"][frozenset()] > 1_700_000_000
        assert scraped["db_up"] == {frozenset(): 1}
        assert scraped["db_pool_requests_total"][frozenset()] >= 1
        for name in ("b", "c", "bad"):
            await asyncio.to_thread(backends.delete, name)
        await running.rounds(2)
        assert "backend_condition" not in await running.scrape()


async def agree(running: Told, backends: Backends) -> None:
    """The condition series are exactly the operator's conditions of the live objects."""

    async def check() -> bool:
        scraped = await running.scrape()
        shown = {tuple(sorted(labels)) for labels in scraped["backend_condition"]}
        live = {
            tuple(
                sorted(
                    {
                        "namespace": backends.namespace,
                        "name": item["metadata"]["name"],
                        "type": one["type"],
                        "status": one["status"],
                    }.items()
                )
            )
            for item in await asyncio.to_thread(backends.items)
            for one in item.get("status", {}).get("conditions", ())
            if one["type"] in OURS
        }
        assert shown == live
        return True

    await eventually_async(check, within=10, every=0.1)


@pytest.mark.check(21)
@pytest.mark.check(39)
def test_a_whole_operator_tells_both(
    make_operator: Callable[..., Operator], backends: Backends
) -> None:
    # NB: of this namespace alone, or what other tests left would be in its metrics.
    only = {"LLMB_NAMESPACES": backends.namespace, "LLMB_RESYNC_SECONDS": "1"}
    operator = make_operator(settings=only)
    operator.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=15)
    edit(backends)
    expected = {
        ("phi", "Normal", "Ready", 1),
        (CONFIG_MAP, "Warning", "DriftRepaired", 1),
    }
    eventually(lambda: set(seen(backends)) == expected, within=15)
    answer = operator.ask("metrics")
    types = [line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE ")]
    assert types == [family.name for family in FAMILIES]
    values = {
        sample.name.removeprefix("llm_operator_"): sample
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert values["leader"].value == values["db_up"].value == 1
    assert values["config_repairs_total"].value == 1
    assert values["build_info"].labels == {"version": version("llm-backend")}
    started = time.time() - 120
    assert values["watch_last_event_timestamp_seconds"].value > started
    assert values["resync_last_success_timestamp_seconds"].value > started
    assert set(values) >= {family.name.removeprefix("llm_operator_") for family in FAMILIES} - {
        # A histogram has other names under its own.
        "reconcile_duration_seconds"
    }


@pytest.mark.check(39)
async def test_health_fails_when_the_task_of_the_watch_is_killed(
    control_plane: ControlPlane,
    backends: Backends,
    namespace: str,
    migrated: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = control_plane.create_user("operator", rules())
    monkeypatch.setenv("KUBECONFIG", str(user.kubeconfig))
    port = free_port()
    settings = Settings.from_environment(
        {
            "LLMB_DATABASE_URL": migrated,
            "LLMB_NAMESPACES": namespace,
            "LLMB_HEALTH_HOST": "127.0.0.1",
            "LLMB_HEALTH_PORT": str(port),
        }
    )
    handle: dict[str, Any] = {}

    async def main() -> None:
        handle["loop"], handle["stop"] = asyncio.get_running_loop(), asyncio.Event()
        await serve(settings, stop=handle["stop"])

    def ask(path: str) -> tuple[int, str]:
        answer = httpx.get(f"http://127.0.0.1:{port}/{path}", trust_env=False, timeout=5)
        return answer.status_code, answer.text

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    await apply(backends, backends.manifest("phi"))
    await eventually_async(lambda: backends.ready("phi"), within=20)
    assert await asyncio.to_thread(ask, "healthz") == (200, "ok\n")

    def kill() -> None:
        (watcher,) = [
            task
            for task in asyncio.all_tasks(handle["loop"])
            if task.get_name().startswith(handlers.WATCHER)
        ]
        watcher.cancel()

    try:
        handle["loop"].call_soon_threadsafe(kill)
        # NB: kopf itself does not notice, so that the kubelet has to.
        lost = (503, "the watch has ended\n")
        await eventually_async(lambda: asyncio.to_thread(lambda: ask("healthz") == lost), within=5)
        assert (await asyncio.to_thread(ask, "readyz"))[0] == 503
    finally:
        handle["loop"].call_soon_threadsafe(handle["stop"].set)
        await asyncio.to_thread(thread.join, 15)
    assert not thread.is_alive()
