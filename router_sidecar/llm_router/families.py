"""Every metric of the router: name, labels and meaning. All of it is API.

The one table that `metrics` fills and the documentation repeats. Label values come from
configuration only.
"""

from dataclasses import dataclass
from typing import Literal

#: Seconds; from a warm small model's first token to a cold large one's last.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
LOAD_SECONDS = (0.01, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
#: OpenTelemetry's for the two, with faster hosts below.
TOKEN_SECONDS = (
    0.002,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1,
    2.5,
)
TOKENS = tuple(4**power for power in range(14))
DECODE_RATES = (1, 2, 5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000, 2500)
PREFILL_RATES = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 100_000)

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name as scraped, its labels, what it says."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    meaning: str
    buckets: tuple[float, ...] = ()


def _counter(name: str, labels: str, meaning: str) -> Family:
    return Family(name, "counter", tuple(labels.split()), meaning)


def _gauge(name: str, labels: str, meaning: str) -> Family:
    return Family(name, "gauge", tuple(labels.split()), meaning)


def _histogram(name: str, labels: str, meaning: str, buckets: tuple[float, ...]) -> Family:
    return Family(name, "histogram", tuple(labels.split()), meaning, buckets)


REQUESTS = _counter(
    "llm_router_requests_total",
    "model front target_type outcome",
    "requests by how they ended: ok, error, broken or cancelled; target_type is empty where no "
    "host answered",
)
FAILURES = _counter(
    "llm_router_attempt_failures_total", "model target cause", "attempts that failed"
)
FALLBACKS = _counter(
    "llm_router_fallbacks_total",
    "model from to cause",
    "requests that went on to another target, and why",
)
ACTIVE = _gauge("llm_router_active_requests", "", "requests being answered")
TARGET_ACTIVE = _gauge(
    "llm_router_target_active_requests", "model target", "requests that a target is answering"
)
TARGET_STATE = _gauge(
    "llm_router_target_state", "model target state", "1 for the state a target is in"
)
TRANSITIONS = _counter(
    "llm_router_breaker_transitions_total", "model target to", "changes of a target's breaker"
)
BUDGET = _counter(
    "llm_router_retry_budget_exhausted_total",
    "",
    "requests that were not tried elsewhere, as too many had been",
)
DURATION = _histogram(
    "gen_ai_server_request_duration_seconds",
    "model target_type",
    "from the request to the last token of a whole answer",
    SECONDS,
)
FIRST_TOKEN = _histogram(
    "gen_ai_server_time_to_first_token_seconds",
    "model target_type",
    "from the request to the first token, failed attempts included",
    SECONDS,
)
PER_TOKEN = _histogram(
    "gen_ai_server_time_per_output_token_seconds",
    "model target_type",
    "between two tokens, after the first",
    TOKEN_SECONDS,
)
TOKEN_USAGE = _histogram(
    "gen_ai_client_token_usage",
    "model target_type token_type",
    "tokens of a request: input or output",
    TOKENS,
)
DECODE = _histogram(
    "llm_router_decode_tokens_per_second",
    "model target",
    "speed of the answer, after the first token",
    DECODE_RATES,
)
PREFILL = _histogram(
    "llm_router_prefill_tokens_per_second",
    "model target",
    "speed of reading the prompt",
    PREFILL_RATES,
)
LOAD = _histogram(
    "llm_router_model_load_seconds", "model target", "a host loading the model", LOAD_SECONDS
)
USAGE = _counter(
    "llm_router_usage_records_total",
    "result",
    "usage records: sent, spooled to disk, dropped for want of room, or rejected by the receiver",
)
SPOOL_BYTES = _gauge("llm_router_usage_spool_bytes", "", "size of the usage records that wait")
SPOOL_RECORDS = _gauge("llm_router_usage_spool_records", "", "usage records that wait")
TELEMETRY = _counter(
    "llm_router_telemetry_dropped_total",
    "kind",
    "log lines, and requests whose spans were lost, as their reader was too slow: log or spans",
)
READS = _counter(
    "llm_router_config_reads_total",
    "result",
    "reads of the mounted folder: loaded, unchanged, rejected or absent",
)
CONFIG = _gauge("llm_router_config_info", "checksum", "the configuration in use")
LOADED = _gauge("llm_router_config_loaded_timestamp_seconds", "", "when it was swapped in")
REJECTED = _gauge(
    "llm_router_config_rejected",
    "",
    "1 while the mounted revision can't be used and the last good one serves",
)
CONNECTIONS = _gauge("llm_router_upstream_connections", "state", "connections to hosts")
BUILD = _gauge("llm_router_build_info", "version", "the router's release")

#: Every metric, in the order of the documentation.
FAMILIES = (
    *(REQUESTS, FAILURES, FALLBACKS, ACTIVE, TARGET_ACTIVE, TARGET_STATE, TRANSITIONS, BUDGET),
    *(DURATION, FIRST_TOKEN, PER_TOKEN, TOKEN_USAGE, DECODE, PREFILL, LOAD),
    *(USAGE, SPOOL_BYTES, SPOOL_RECORDS, TELEMETRY),
    *(READS, CONFIG, LOADED, REJECTED, CONNECTIONS, BUILD),
)
