"""Every metric of the operator: name, labels and meaning. All of it is API.

The one table that `metrics` fills and the documentation repeats. Label values are names of objects,
words of closed sets, and checksums; what is deleted takes its series with it.
"""

from dataclasses import dataclass
from typing import Literal

#: Seconds; from a namespace that nobody else asks for to one that waits for the API server.
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name as scraped, its labels, what it says."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


def _counter(name: str, labels: str, meaning: str) -> Family:
    return Family(f"llm_operator_{name}", "counter", tuple(labels.split()), meaning)


def _gauge(name: str, labels: str, meaning: str) -> Family:
    return Family(f"llm_operator_{name}", "gauge", tuple(labels.split()), meaning)


RECONCILES = _counter(
    "reconcile_total",
    "result",
    "requests to reconcile a namespace by how they ended: ok, unavailable when something was away, "
    "refused when a right or a rule was in the way, or failed",
)
DURATION = Family(
    "llm_operator_reconcile_duration_seconds",
    "histogram",
    (),
    "from such a request until its namespace was published, the wait for more requests included",
    SECONDS,
)
INFLIGHT = _gauge("reconcile_inflight", "", "such requests that have not ended")
RESYNCED = _gauge(
    "resync_last_success_timestamp_seconds",
    "",
    "when everything was last compared without a failure; 0 before the first time",
)
WATCHED = _gauge(
    "watch_last_event_timestamp_seconds",
    "",
    "when the watch of LLMBackends last brought anything; 0 before that",
)
CONFIG_BYTES = _gauge("config_bytes", "namespace", "size of the routing.json that is published")
PUBLISHES = _counter(
    "config_publish_total",
    "result",
    "passes over a namespace by what came of its configuration: written, unchanged, too_large, "
    "not_owned or failed",
)
REPAIRS = _counter(
    "config_repairs_total", "", "configurations that somebody had changed, put right again"
)
CONFIG = _gauge("config_info", "namespace checksum", "the configuration that is published")
DB_UP = _gauge(
    "db_up",
    "",
    "1 while the database answers, 0 while it does not; absent before it was first asked",
)
POOL_SIZE = _gauge("db_pool_size", "", "connections to the database")
POOL_IDLE = _gauge("db_pool_available", "", "connections to the database that nobody uses")
POOL_WAITING = _gauge("db_pool_waiting", "", "transactions that wait for a connection")
POOL_REQUESTS = _counter("db_pool_requests_total", "", "transactions that asked for a connection")
POOL_REFUSED = _counter("db_pool_request_errors_total", "", "those that got none in time")
POOL_WAITED = _counter("db_pool_wait_seconds_total", "", "what transactions waited, all together")
POOL_CONNECTS = _counter("db_pool_connects_total", "", "attempts to connect to the database")
POOL_FAILED = _counter("db_pool_connect_errors_total", "", "those that failed")
POOL_LOST = _counter("db_pool_connections_lost_total", "", "connections that were found broken")
CONDITION = _gauge(
    "backend_condition",
    "namespace name type status",
    "1 for the status that a condition of an LLMBackend has: True, False or Unknown",
)
EVENTS = _counter(
    "events_total",
    "result",
    "Kubernetes events: created, repeated (counted into one that was there), dropped for want of "
    "room, or failed",
)
LEADER = _gauge("leader", "", "1 while this replica is the one that works")
BUILD = _gauge("build_info", "version", "the operator's release")

#: Every metric, in the order of the documentation.
FAMILIES = (
    *(RECONCILES, DURATION, INFLIGHT, RESYNCED, WATCHED),
    *(CONFIG_BYTES, PUBLISHES, REPAIRS, CONFIG),
    *(DB_UP, POOL_SIZE, POOL_IDLE, POOL_WAITING, POOL_REQUESTS, POOL_REFUSED, POOL_WAITED),
    *(POOL_CONNECTS, POOL_FAILED, POOL_LOST),
    *(CONDITION, EVENTS, LEADER, BUILD),
)
