"""Metrics: records become series, and the exposition is what Prometheus reads."""

import re
from itertools import accumulate
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llm_router import families
from llm_router.families import FAMILIES
from llm_router.follow import Follower
from llm_router.metrics import Buckets, Metrics, TargetState
from llm_router.standing import Standings
from llm_router.transport import Pool
from llm_router.usage import Failure, Measures, Outcome, Record, Recorder
from llm_router.usage.spool import Counts


def record(**given: object) -> Record:
    """A whole answer of one target."""
    told: dict[str, object] = {
        "request_id": "r",
        "at": 1.0,
        "front": "openai_chat",
        "outcome": Outcome.OK,
        "status": 200,
        "total_seconds": 2.0,
        "model": "phi",
        "target": "mlx",
        "backend_type": "mlx",
        "attempts": 1,
    }
    return Record(**told | given)  # type: ignore[arg-type]


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of nothing yet."""
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample."""
    return metrics.registry.get_sample_value(name, labels)


class TestRequests:
    def test_count_by_how_they_ended(self, metrics: Metrics) -> None:
        metrics.take([record(), record(target="mlx-2"), record(outcome=Outcome.BROKEN)])
        name, labels = "llm_router_requests_total", {"model": "phi", "front": "openai_chat"}
        of = labels | {"target_type": "mlx"}
        assert value(metrics, name, **of, outcome="ok") == 2, "targets of one type are one series"
        assert value(metrics, name, **of, outcome="broken") == 1
        metrics.take([record()])
        assert value(metrics, name, **of, outcome="ok") == 3

    def test_have_no_target_type_when_nobody_answered(self, metrics: Metrics) -> None:
        failed = (Failure("mlx", "mlx", "ConnectFailure", 0.1),)
        metrics.take([record(outcome=Outcome.ERROR, status=502, failures=failed)])
        metrics.take([record(outcome=Outcome.ERROR, target="", backend_type="", attempts=0)])
        of = {"model": "phi", "front": "openai_chat", "target_type": "", "outcome": "error"}
        assert value(metrics, "llm_router_requests_total", **of) == 2

    def test_go_on_from_target_to_target(self, metrics: Metrics) -> None:
        failures = (
            Failure("a", "mlx", "ConnectFailure", 0.1),
            Failure("a", "mlx", "NoReply", 0.1),
            Failure("b", "ollama", "Busy", 0.1),
        )
        metrics.take([record(target="c", attempts=4, failures=failures)])
        metrics.take([record(target="b", attempts=3, failures=failures, outcome=Outcome.ERROR)])
        name = "llm_router_fallbacks_total"
        went = {
            tuple(sample.labels[label] for label in ("from", "to", "cause")): sample.value
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name == name
        }
        assert went == {("a", "b", "NoReply"): 2, ("b", "c", "Busy"): 1}, "again is not elsewhere"
        failed = "llm_router_attempt_failures_total"
        assert value(metrics, failed, model="phi", target="a", cause="ConnectFailure") == 2
        assert value(metrics, failed, model="phi", target="b", cause="Busy") == 2


class TestHistograms:
    def test_hold_what_was_measured(self, metrics: Metrics) -> None:
        measures = Measures(
            prompt_tokens=64,
            completion_tokens=10,
            counted="host",
            load_seconds=4.0,
            first_token_seconds=0.02,
            prefill_tokens_per_second=300.0,
            decode_tokens_per_second=40.0,
        )
        metrics.take([record(measures=measures)])
        typed = {"model": "phi", "target_type": "mlx"}
        named = {"model": "phi", "target": "mlx"}
        expected = [
            ("gen_ai_server_request_duration_seconds", typed, 2.0),
            ("gen_ai_server_time_to_first_token_seconds", typed, 0.02),
            ("gen_ai_server_time_per_output_token_seconds", typed, 0.025),
            ("gen_ai_client_token_usage", typed | {"token_type": "input"}, 64),
            ("gen_ai_client_token_usage", typed | {"token_type": "output"}, 10),
            ("llm_router_decode_tokens_per_second", named, 40.0),
            ("llm_router_prefill_tokens_per_second", named, 300.0),
            ("llm_router_model_load_seconds", named, 4.0),
        ]
        for name, labels, total in expected:
            assert value(metrics, f"{name}_sum", **labels) == total, name
            assert value(metrics, f"{name}_count", **labels) == 1, name

    def test_have_no_series_for_what_was_not(self, metrics: Metrics) -> None:
        metrics.take([record(outcome=Outcome.CANCELLED)])
        assert "_bucket{" not in metrics.render().decode()

    def test_tokens_have_the_standard_s_buckets(self, metrics: Metrics) -> None:
        metrics.take([record(measures=Measures(prompt_tokens=4))])
        text = metrics.render().decode()
        bounds = re.findall(r'token_usage_bucket\{le="([^"]+)"', text)
        assert [float(bound) for bound in bounds[:-1]] == [4.0**power for power in range(14)]
        of = {"model": "phi", "target_type": "mlx", "token_type": "input"}
        assert value(metrics, "gen_ai_client_token_usage_bucket", **of, le="1.0") == 0
        assert value(metrics, "gen_ai_client_token_usage_bucket", **of, le="4.0") == 1
        assert value(metrics, "gen_ai_client_token_usage_bucket", **of, le="+Inf") == 1

    @pytest.mark.parametrize(
        ("observed", "counts"),
        [(0.5, [1, 1, 1]), (1.0, [1, 1, 1]), (1.5, [0, 1, 1]), (9.0, [0, 0, 1])],
    )
    def test_a_bound_is_in_its_bucket(self, observed: float, counts: list[int]) -> None:
        buckets = Buckets((1.0, 2.0))
        buckets.observe(observed)
        assert list(accumulate(buckets.counts)) == counts


class TestScrape:
    def test_reads_what_is_true_then(self, metrics: Metrics) -> None:
        state = [TargetState("phi", "mlx", "closed", 2)]
        counts = [Counts(sent=3, dropped=1, waiting=7, waiting_bytes=70)]
        recorder = Recorder(limit=0)
        metrics.observe_targets(lambda: state)
        metrics.observe_usage(recorder, lambda: counts[0])
        metrics.observe_build("1.2.3")
        metrics.observe_dropped(log=lambda: 4, spans=lambda: 5)
        target = {"model": "phi", "target": "mlx"}
        assert value(metrics, "llm_router_target_state", **target, state="closed") == 1
        assert value(metrics, "llm_router_target_active_requests", **target) == 2
        assert value(metrics, "llm_router_usage_records_total", result="sent") == 3
        assert value(metrics, "llm_router_usage_spool_bytes") == 70
        assert value(metrics, "llm_router_usage_spool_records") == 7
        assert value(metrics, "llm_router_build_info", version="1.2.3") == 1
        assert value(metrics, "llm_router_telemetry_dropped_total", kind="log") == 4
        assert value(metrics, "llm_router_telemetry_dropped_total", kind="spans") == 5
        state[:] = [TargetState("phi", "mlx", "open", 0)]
        recorder.add(record())
        assert value(metrics, "llm_router_target_state", **target, state="open") == 1
        assert value(metrics, "llm_router_target_state", **target, state="closed") is None
        assert value(metrics, "llm_router_usage_records_total", result="dropped") == 2

    def test_events_and_requests_under_way(self, metrics: Metrics) -> None:
        assert value(metrics, "llm_router_retry_budget_exhausted_total") == 0
        metrics.read(families.BUDGET, lambda: [((), 1)])
        metrics.read(families.TRANSITIONS, lambda: [(("phi", "mlx", "open"), 1)])
        metrics.observe_active(lambda: 1)
        assert value(metrics, "llm_router_retry_budget_exhausted_total") == 1
        of = {"model": "phi", "target": "mlx", "to": "open"}
        assert value(metrics, "llm_router_breaker_transitions_total", **of) == 1
        assert value(metrics, "llm_router_active_requests") == 1

    async def test_every_family_is_there_and_parses(self, metrics: Metrics, tmp_path: Path) -> None:
        pool = Pool()
        follower = Follower(tmp_path, reread_seconds=60, standings=Standings())
        metrics.observe(follower, pool)
        measures = Measures(
            prompt_tokens=4, load_seconds=2e7, decode_tokens_per_second=1e-7, counted="host"
        )
        metrics.take([record(measures=measures, model='a"b\\c\nd')] * 1_000_001)
        metrics.observe_active(lambda: 12_345_678)
        metrics.observe_build("1.0")
        text = metrics.render().decode()
        parsed = {each.name: each for each in text_string_to_metric_families(text)}
        assert list(parsed) == [family.name.removesuffix("_total") for family in FAMILIES]
        for family in FAMILIES:
            assert parsed[family.name.removesuffix("_total")].type == family.kind
        labels = {sample.labels.get("model") for each in parsed.values() for sample in each.samples}
        assert 'a"b\\c\nd' in labels
        await pool.close()
