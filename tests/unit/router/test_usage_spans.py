"""Spans of records reach an OTLP collector, and say how the request went."""

import asyncio
import importlib.util
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from llm_router import assemble
from llm_router.settings import Settings
from llm_router.trace import Trace
from llm_router.usage import Failure, Measures, Outcome, Record, tracing
from parts.absent import absent
from parts.eventually import eventually_async

TRACE = Trace(
    "0af7651916cd43dd8448eb211c80319c", "c7ad6b7169203331", "b7ad6b7169203331", True, "a=b"
)


class Collector(ThreadingHTTPServer):
    """An OTLP collector that keeps the bodies it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[tuple[str, bytes]] = []
        self.status = 200

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[Any]:
        """What arrived."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        return [
            span
            for _, body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.status == 200:
            self.server.bodies.append((self.path, body))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, and the variable that names it."""
    if importlib.util.find_spec("opentelemetry.exporter") is None:
        absent("the OTLP exporter", remedy='pip install -e ".[tracing]"')
    made = Collector()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    yield made
    made.shutdown()
    thread.join(10)
    made.server_close()


def record(**given: Any) -> Record:
    """An answer by the second target."""
    told = {
        "request_id": "r1",
        "at": 1700000000.0,
        "front": "openai_chat",
        "outcome": Outcome.OK,
        "status": 200,
        "total_seconds": 3.0,
        "model": "phi3:mini",
        "route": "phi3",
        "target": "ollama",
        "backend_type": "ollama",
        "upstream_model": "phi3:mini-4k",
        "kind": "chat",
        "attempts": 2,
        "fallback_reason": "ConnectFailure",
        "failures": (Failure("mlx", "mlx", "ConnectFailure", 1.0),),
        "measures": Measures(prompt_tokens=5, completion_tokens=7, counted="host"),
        "trace": TRACE,
    }
    return Record(**told | given)


def attributes(span: Any) -> dict[str, Any]:
    """A span's attributes as plain values."""
    kinds = {each.key: each.value.WhichOneof("value") for each in span.attributes}
    return {each.key: getattr(each.value, kinds[each.key]) for each in span.attributes}


async def exported(collector: Collector, *records: Record) -> list[Any]:
    """The spans of these records, as they arrived."""
    from llm_router.usage.spans import Spans

    spans = Spans()
    spans.take(records)
    await spans.close(5)
    assert spans.dropped == 0
    assert {path for path, _ in collector.bodies} <= {"/v1/traces"}
    return collector.spans()


async def test_a_request_and_its_attempts(collector: Collector) -> None:
    server, first, second = await exported(collector, record())
    assert server.name == "chat phi3:mini"
    assert {span.trace_id.hex() for span in (server, first, second)} == {TRACE.trace_id}
    assert server.span_id.hex() == TRACE.span_id
    assert server.parent_span_id.hex() == TRACE.parent_id
    assert (server.kind, first.kind, second.kind) == (2, 3, 3), "server, client, client"
    assert first.parent_span_id == second.parent_span_id == server.span_id
    sent = [TRACE.header(attempt)[36:52].decode() for attempt in range(2)]
    assert [first.span_id.hex(), second.span_id.hex()] == sent, "as the hosts were told"
    second_ns = 10**9
    begun = 1700000000 * second_ns
    times = [
        (s.start_time_unix_nano - begun, s.end_time_unix_nano - begun) for s in (first, second)
    ]
    assert times == [(0, second_ns), (second_ns, 3 * second_ns)]
    assert (server.start_time_unix_nano, server.end_time_unix_nano) == (
        begun,
        begun + 3 * second_ns,
    )
    assert (server.status.code, first.status.code, second.status.code) == (0, 2, 0)
    assert (
        attributes(server).items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "phi3:mini",
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.output_tokens": 7,
            "http.response.status_code": 200,
            "llm_router.fallback_reason": "ConnectFailure",
        }.items()
    )
    assert attributes(first)["error.type"] == "ConnectFailure"
    assert attributes(second)["gen_ai.response.model"] == "phi3:mini-4k"


async def test_a_request_that_nobody_answered(collector: Collector) -> None:
    failed = record(outcome=Outcome.ERROR, status=502, error="upstream_error", attempts=1)
    server, attempt = await exported(collector, failed)
    assert (server.status.code, server.status.message) == (2, "upstream_error")
    assert attributes(server)["error.type"] == "upstream_error"
    assert attributes(attempt)["llm_router.target"] == "mlx"


async def test_an_answer_that_broke(collector: Collector) -> None:
    broken = record(outcome=Outcome.BROKEN, error="BrokenStream", attempts=1, failures=())
    server, attempt = await exported(collector, broken)
    assert (server.status.code, attempt.status.code) == (2, 2)
    assert attributes(attempt)["error.type"] == "BrokenStream"


async def test_what_is_not_sampled_is_not_sent(collector: Collector) -> None:
    unsampled = Trace(TRACE.trace_id, TRACE.span_id)
    assert await exported(collector, record(trace=None), record(trace=unsampled)) == []


async def test_it_runs_by_itself(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_router.usage import spans as module

    monkeypatch.setattr(module, "PERIOD", 0.05)
    spans = module.Spans()
    running = asyncio.create_task(spans.run())
    spans.take([record() for _ in range(300)])
    await eventually_async(lambda: len(collector.spans()) == 900, within=10)
    running.cancel()
    await spans.close(1)


async def test_a_collector_that_is_away_costs_spans_only(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_router.usage import spans as module

    monkeypatch.setattr(module, "LIMIT", 10)
    spans = module.Spans()
    spans.take([record() for _ in range(15)])
    assert spans.dropped == 5
    collector.status = 400
    await spans.close(5)
    assert spans.dropped == 15


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_a_collector_switches_it_on(environment: dict[str, str], wanted: bool) -> None:
    assert tracing.wanted(environment) is wanted


def test_without_the_extra_the_router_says_so_and_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenTelemetry's operator sets the variable in every pod of a namespace."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.delitem(sys.modules, "llm_router.usage.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in [name for name in sys.modules if name.startswith("opentelemetry.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level("WARNING", logger="llm_router.assemble"):
        assert assemble._delivering(Settings.from_environment({})) == []
    assert [each.message for each in caplog.records] == ["spans_not_exported"]
