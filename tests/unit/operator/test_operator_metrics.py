"""The operator's metrics: what it is told becomes series, and the text is what Prometheus reads."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg_pool import AsyncConnectionPool

from llm_operator import health
from llm_operator.families import FAMILIES
from llm_operator.metrics import POOL, Metrics
from llm_operator.ports import Refused, Unavailable
from llm_operator.publish.outcome import Standing
from llm_operator.publish.publisher import Meter, Result
from llm_operator.resource.model import Identity, Resource

P = "llm_operator_"


def status(**conditions: str) -> dict[str, Any]:
    """A status with these conditions."""
    return {
        "conditions": [
            {"type": kind, "status": value, "reason": "R", "message": "M."}
            for kind, value in conditions.items()
        ]
    }


def resource(name: str, *, namespace: str = "ns", **conditions: str) -> Resource:
    identity = Identity(namespace=namespace, name=name, uid=f"uid-{name}", generation=1)
    return Resource(
        identity=identity, spec=None, status=status(**conditions) if conditions else None
    )


def series(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Label values in the order of the table -> value, of one metric as a parser reads it."""
    labels = next(family.labels for family in FAMILIES if family.name == f"{P}{name}")
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == f"{P}{name}"
    }


def observed(metrics: Metrics) -> Metrics:
    """Everything that a running operator wires."""
    metrics.observe_record(lambda: True, lambda: {"pool_size": 3, "requests_wait_ms": 1500})
    metrics.observe_leader(lambda: True)
    metrics.observe_resync(lambda: 5.0)
    metrics.observe_watch(lambda: 6.0)
    metrics.observe_events(lambda: {"created": 2, "dropped": 0})
    metrics.observe_build("1.2.3")
    return metrics


@pytest.mark.check(39)
def test_every_documented_name_is_there_from_the_start() -> None:
    told: dict[str, str] = {}
    text = observed(Metrics()).render().decode()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            told[name] = kind
    assert told == {family.name: family.kind for family in FAMILIES}
    assert len(FAMILIES) == len({family.name for family in FAMILIES})
    for family in FAMILIES:
        assert (family.kind == "counter") == family.name.endswith("_total")
        assert family.meaning[-1] != "."


def test_every_line_is_of_a_family_and_its_labels() -> None:
    metrics = observed(Metrics())
    metrics.listed("ns", [resource("phi", Ready="True")])
    metrics.published("ns", Result.WRITTEN, Standing(raw=b"{}", checksum="ab" * 32))
    with metrics.reconciling():
        pass
    labels = {family.name: set(family.labels) for family in FAMILIES}
    seen = set()
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            name = sample.name
            for suffix in ("_bucket", "_count", "_sum"):
                if name == f"{P}reconcile_duration_seconds{suffix}":
                    name = f"{P}reconcile_duration_seconds"
            assert set(sample.labels) - {"le"} == labels[name]
            seen.add(name)
    assert seen == set(labels)


class TestConditions:
    @pytest.mark.check(39)
    def test_are_those_of_the_status(self) -> None:
        metrics = Metrics()
        metrics.listed("ns", [resource("phi", Ready="False", Accepted="True"), resource("born")])
        metrics.listed("other", [resource("phi", namespace="other", Ready="Unknown")])
        assert series(metrics, "backend_condition") == {
            ("ns", "phi", "Ready", "False"): 1,
            ("ns", "phi", "Accepted", "True"): 1,
            ("other", "phi", "Ready", "Unknown"): 1,
        }
        before = resource("phi", Ready="False", Accepted="True")
        metrics.told(before, before.status, status(Ready="True", Accepted="True"))
        assert ("ns", "phi", "Ready", "True") in series(metrics, "backend_condition")
        assert ("ns", "phi", "Ready", "False") not in series(metrics, "backend_condition")

    def test_of_others_are_not_shown(self) -> None:
        metrics = Metrics()
        metrics.listed("ns", [resource("phi", Ready="True", Theirs="True")])
        assert set(series(metrics, "backend_condition")) == {("ns", "phi", "Ready", "True")}

    @pytest.mark.check(39)
    def test_of_what_is_deleted_vanish(self) -> None:
        metrics = Metrics()
        metrics.listed("ns", [resource("phi", Ready="True"), resource("llama", Ready="True")])
        metrics.listed("ns", [resource("llama", Ready="True")])
        assert set(series(metrics, "backend_condition")) == {("ns", "llama", "Ready", "True")}
        metrics.listed("ns", [])
        assert series(metrics, "backend_condition") == {}

    def test_a_list_from_before_a_write_does_not_undo_it(self) -> None:
        metrics = Metrics()
        old = resource("phi", Ready="False")
        metrics.listed("ns", [old])
        metrics.told(old, old.status, status(Ready="True"))
        metrics.listed("ns", [old])
        assert set(series(metrics, "backend_condition")) == {("ns", "phi", "Ready", "True")}
        metrics.listed("ns", [resource("phi", Ready="True")])
        metrics.listed("ns", [old])
        assert set(series(metrics, "backend_condition")) == {("ns", "phi", "Ready", "False")}, (
            "what was written is long past"
        )

    def test_two_thousand_resources_are_rendered_soon(self) -> None:
        metrics = Metrics()
        kinds = {f"{kind}": "True" for kind in ("Accepted", "ResolvedRefs", "ConfigPublished")}
        kinds |= {"DatabaseSynced": "True", "Programmed": "True", "Available": "True"}
        kinds |= {"Degraded": "False", "Ready": "True"}
        metrics.listed("ns", [resource(f"model-{n}", **kinds) for n in range(2000)])
        took = min(_timed(metrics.render) for _ in range(5))
        assert metrics.render().count(b"backend_condition{") == 16_000
        # The event loop waits for it; alone on a machine it takes a twentieth of this.
        assert took < 0.1


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class TestPublishing:
    def test_is_counted_by_what_came_of_it(self) -> None:
        metrics = Metrics()
        assert isinstance(metrics, Meter)
        standing = Standing(raw=b"12345", checksum="0123456789abcdef")
        metrics.published("ns", Result.WRITTEN, standing)
        metrics.published("ns", Result.UNCHANGED, standing)
        metrics.published("ns", Result.UNCHANGED, standing)
        metrics.repaired("ns")
        assert series(metrics, "config_publish_total") == {("written",): 1, ("unchanged",): 2}
        assert series(metrics, "config_bytes") == {("ns",): 5}
        assert series(metrics, "config_info") == {("ns", "0123456789ab"): 1}
        assert series(metrics, "config_repairs_total") == {(): 1}

    def test_what_is_not_ours_has_no_size(self) -> None:
        metrics = Metrics()
        metrics.published("ns", Result.WRITTEN, Standing(raw=b"12345", checksum="0"))
        foreign = Standing(raw=b"theirs", checksum=None, owned=False)
        metrics.published("ns", Result.NOT_OWNED, foreign)
        assert series(metrics, "config_bytes") == series(metrics, "config_info") == {}

    def test_a_namespace_without_anything_left_vanishes(self) -> None:
        metrics = Metrics()
        metrics.published("ns", Result.WRITTEN, Standing(raw=b"12345", checksum="0"))
        metrics.forget("ns")
        assert series(metrics, "config_bytes") == {}
        assert series(metrics, "config_publish_total") == {("written",): 1}


class TestReconciling:
    @pytest.mark.parametrize(
        ("error", "result"),
        [(Unavailable("x"), "unavailable"), (Refused("x"), "refused"), (KeyError("x"), "failed")],
    )
    def test_is_counted_by_how_it_ended(self, error: Exception, result: str) -> None:
        metrics = Metrics()

        def reconcile() -> None:
            with metrics.reconciling():
                assert series(metrics, "reconcile_inflight") == {(): 1}
                raise error

        with pytest.raises(type(error)):
            reconcile()
        with metrics.reconciling():
            pass
        assert series(metrics, "reconcile_total") == {("ok",): 1, (result,): 1}
        assert series(metrics, "reconcile_inflight") == {(): 0}
        assert f"{P}reconcile_duration_seconds_count 2.0" in metrics.render().decode()

    def test_that_was_cancelled_has_no_result(self) -> None:
        metrics = Metrics()
        with pytest.raises(asyncio.CancelledError), metrics.reconciling():
            raise asyncio.CancelledError
        assert series(metrics, "reconcile_total") == {}
        assert series(metrics, "reconcile_inflight") == {(): 0}

    def test_is_timed(self) -> None:
        metrics = Metrics()
        with metrics.reconciling():
            pass
        text = metrics.render().decode()
        assert f'{P}reconcile_duration_seconds_bucket{{le="0.05"}} 1.0' in text
        assert f'{P}reconcile_duration_seconds_bucket{{le="+Inf"}} 1.0' in text


class TestWhatIsAsked:
    @pytest.mark.parametrize(("up", "shown"), [(True, {(): 1}), (False, {(): 0}), (None, {})])
    def test_the_database(self, up: bool | None, shown: dict[tuple[str, ...], float]) -> None:
        metrics = Metrics()
        metrics.observe_record(lambda: up, dict)
        assert series(metrics, "db_up") == shown

    def test_the_pool(self) -> None:
        metrics = observed(Metrics())
        assert series(metrics, "db_pool_size") == {(): 3}
        assert series(metrics, "db_pool_wait_seconds_total") == {(): 1.5}
        assert series(metrics, "db_pool_connections_lost_total") == {(): 0}

    def test_the_pool_has_these_names(self) -> None:
        known = {getattr(AsyncConnectionPool, name) for name in ("_" + key.upper() for key in POOL)}
        assert known == set(POOL)

    def test_leadership_changes(self) -> None:
        leading = [False]
        metrics = Metrics()
        metrics.observe_leader(lambda: leading[0])
        assert series(metrics, "leader") == {(): 0}
        leading[0] = True
        assert series(metrics, "leader") == {(): 1}

    def test_the_rest(self) -> None:
        metrics = observed(Metrics())
        assert series(metrics, "resync_last_success_timestamp_seconds") == {(): 5}
        assert series(metrics, "watch_last_event_timestamp_seconds") == {(): 6}
        assert series(metrics, "events_total") == {("created",): 2, ("dropped",): 0}
        assert series(metrics, "build_info") == {("1.2.3",): 1}


async def test_they_are_served_beside_health() -> None:
    metrics = observed(Metrics())
    async with (
        health.serving("127.0.0.1", 0, healthy=str, ready=str, metrics=metrics.render) as (_, port),
        httpx.AsyncClient(trust_env=False, timeout=5) as client,
    ):
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
        assert answer.content == metrics.render()
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["connection"] == "close"
    async with (
        health.serving("127.0.0.1", 0, healthy=str, ready=str) as (_, port),
        httpx.AsyncClient(trust_env=False, timeout=5) as client,
    ):
        assert (await client.get(f"http://127.0.0.1:{port}/metrics")).status_code == 404
