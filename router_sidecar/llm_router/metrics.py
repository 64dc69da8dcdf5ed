"""The router's Prometheus metrics. Names and labels are API; label values come from configuration
only.

A model that no route names is `other`, so that clients can't make series.
"""

from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from llm_router.errors import AttemptFailed
from llm_router.exchange import Timing
from llm_router.follow import Follower
from llm_router.table import Entry
from llm_router.transport import Pool

#: Seconds; from a warm small model's first token to a cold large one's last.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

M = TypeVar("M", Counter, Histogram)


class Metrics:
    """Every series of one router process."""

    def __init__(self) -> None:
        # NB: a `_created` series for each child would double their number and say nothing of use.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._children: dict[tuple[object, tuple[str, ...]], Any] = {}
        self.requests = Counter(
            "llm_router_requests",
            "Requests by how they ended: ok, error, broken or cancelled.",
            ["model", "front", "target_type", "outcome"],
            registry=self.registry,
        )
        self.failures = Counter(
            "llm_router_attempt_failures",
            "Attempts that failed, by cause.",
            ["model", "target", "cause"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From the request to the last token of a whole answer.",
            ["model", "target_type"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the request to its first token, failed attempts included.",
            ["model", "target_type"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.active = Gauge(
            "llm_router_active_requests", "Requests being answered.", registry=self.registry
        )
        self.reads = Counter(
            "llm_router_config_reads",
            "Reads of the mounted folder: loaded, unchanged, rejected or absent.",
            ["result"],
            registry=self.registry,
        )

    def observe(self, follower: Follower, pool: Pool) -> None:
        """Add what is read off these two at each scrape."""
        follower.on_read = lambda result: self.reads.labels(result).inc()
        self.registry.register(_State(follower, pool))

    def answered(self, entry: Entry, *, front: str, target_type: str, timing: Timing) -> None:
        """A request got its proper end."""
        self._child(self.requests, entry.label, front, target_type, "ok").inc()
        self._child(self.duration, entry.label, target_type).observe(timing.total_ns() / 1e9)

    def ended(self, label: str, *, front: str, target_type: str, outcome: str) -> None:
        """A request ended otherwise: error, broken or cancelled."""
        self.requests.labels(label, front, target_type, outcome).inc()

    def began(self, entry: Entry, *, target_type: str, timing: Timing) -> None:
        """A request got its first token."""
        self._child(self.first_token, entry.label, target_type).observe(timing.prefill_ns() / 1e9)

    def failed(self, entry: Entry, failures: tuple[AttemptFailed, ...]) -> None:
        """Attempts at a request failed, one for each target tried in order."""
        for destination, failure in zip(entry.destinations, failures, strict=False):
            self.failures.labels(entry.label, destination.target.name, failure.cause).inc()

    def _child(self, metric: M, *labels: str) -> M:
        """A metric's series for these labels, looked up once: it is asked for at every request."""
        key = (metric, labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)


class _State(Collector):
    """What is true at the moment of a scrape."""

    def __init__(self, follower: Follower, pool: Pool) -> None:
        self._follower = follower
        self._pool = pool

    def collect(self) -> list[GaugeMetricFamily]:
        """The families, as prometheus_client asks for them."""
        table = self._follower.table
        info = GaugeMetricFamily(
            "llm_router_config_info", "The configuration in use.", labels=["checksum"]
        )
        if table is not None:
            info.add_metric([table.checksum[:12]], 1)
        loaded = GaugeMetricFamily(
            "llm_router_config_loaded_timestamp_seconds",
            "When it was swapped in.",
            value=self._follower.loaded_at,
        )
        rejected = GaugeMetricFamily(
            "llm_router_config_rejected",
            "1 while the mounted revision can't be used and the last good one serves.",
            value=float(self._follower.rejection is not None),
        )
        connections = GaugeMetricFamily(
            "llm_router_upstream_connections", "Connections to hosts.", labels=["state"]
        )
        counts = self._pool.counts()
        connections.add_metric(["open"], counts.open)
        connections.add_metric(["idle"], counts.idle)
        return [info, loaded, rejected, connections]
