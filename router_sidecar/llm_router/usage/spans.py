"""Records as OpenTelemetry spans, exported by OTLP over HTTP.

    Recorder -> take -> (a thread) -> spans -> exporter

One span for the request and one for each attempt, with the standard's gen_ai.* attributes and
never a prompt. Made of records after the fact, so that tracing costs a request nothing; the ids of
attempts are those that `Trace` sent upstream. The exporter is OpenTelemetry's own (the `tracing`
extra), with all its OTEL_* variables. NB: import this only where tracing is on; it is large.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import AttributeValue

from llm_router.trace import Trace
from llm_router.usage.record import Outcome, Record

log = logging.getLogger(__name__)

#: Seconds between two exports.
PERIOD = 2.0

#: Records that wait at most, and that one export carries.
LIMIT = 8192
BATCH = 256

#: A record's kind -> the operation's name in the GenAI conventions.
OPERATIONS = {"chat": "chat", "prompt": "text_completion", "embed": "embeddings"}

Attributes = dict[str, AttributeValue]


class Spans:
    """Exports the sampled records.

    Attributes:
        dropped: records whose spans were lost, as the collector was too slow or away.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        self._exporter = exporter or OTLPSpanExporter()
        self._resource = Resource.create({"service.name": "llm-router"})
        self._scope = InstrumentationScope("llm_router", version("llm-backend"))
        self._thread = ThreadPoolExecutor(1, "spans")
        self._records: deque[Record] = deque()
        self._closed = False
        self.dropped = 0

    def take(self, records: Sequence[Record]) -> None:
        """Requests have ended."""
        for record in records:
            if record.trace is not None and record.trace.sampled:
                if len(self._records) < LIMIT:
                    self._records.append(record)
                else:
                    self.dropped += 1

    async def run(self) -> None:
        """Export what has gathered, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PERIOD)
            while self._records and not self._closed:
                await loop.run_in_executor(self._thread, self._export)

    async def close(self, seconds: float) -> None:
        """Export the rest within so many seconds."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                while self._records:
                    await loop.run_in_executor(self._thread, self._export)
        except TimeoutError:
            self.dropped += len(self._records)
        self._closed = True
        # NB: ends an export that waits to try again.
        self._exporter.shutdown()
        self._thread.shutdown(wait=False)

    def _export(self) -> None:
        records = [self._records.popleft() for _ in range(min(BATCH, len(self._records)))]
        try:
            made = [span for record in records for span in self.spans(record)]
            result = self._exporter.export(made)
        except Exception:
            # NB: spans are no reason to end the router.
            log.exception("spans_failed")
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self.dropped += len(records)

    def spans(self, record: Record) -> Iterator[ReadableSpan]:
        """The request's span, then its attempts'."""
        trace = record.trace
        assert trace is not None
        start, end = _nanoseconds(record.at), _nanoseconds(record.at + record.total_seconds)
        own = _context(trace, trace.span_id)
        yield ReadableSpan(
            name=_name(record, record.model),
            context=own,
            parent=_context(trace, trace.parent_id, remote=True) if trace.parent_id else None,
            resource=self._resource,
            instrumentation_scope=self._scope,
            kind=SpanKind.SERVER,
            attributes=_attributes(record),
            status=_status(record),
            start_time=start,
            end_time=end,
        )
        for number, (begun, ended, attributes) in enumerate(_attempts(record, start, end)):
            error = attributes.get("error.type")
            status = Status(StatusCode.ERROR, str(error)) if error else Status()
            yield ReadableSpan(
                name=_name(record, str(attributes["llm_router.target"])),
                context=_context(trace, trace.attempt_id(number)),
                parent=own,
                resource=self._resource,
                instrumentation_scope=self._scope,
                kind=SpanKind.CLIENT,
                attributes=attributes,
                status=status,
                start_time=begun,
                end_time=ended,
            )


def _attempts(record: Record, start: int, end: int) -> Iterator[tuple[int, int, Attributes]]:
    """Start, end and attributes of each, one after the other as they were made."""
    for failure in record.failures:
        ended = min(start + _nanoseconds(failure.seconds), end)
        attributes = _asked(record, target=failure.target, backend_type=failure.backend_type)
        yield start, ended, attributes | {"error.type": failure.cause}
        start = ended
    if record.attempts > len(record.failures):
        attributes = _asked(record, target=record.target, backend_type=record.backend_type)
        if record.upstream_model:
            attributes["gen_ai.response.model"] = record.upstream_model
        if record.outcome is Outcome.BROKEN:
            attributes["error.type"] = record.error
        yield start, end, attributes | _tokens(record)


def _attributes(record: Record) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": OPERATIONS.get(record.kind, record.kind or "list"),
        "gen_ai.request.model": record.model,
        "http.response.status_code": record.status,
        "llm_router.request_id": record.request_id,
        "llm_router.front": record.front,
        "llm_router.outcome": record.outcome.value,
        "llm_router.stream": record.stream,
        "llm_router.attempts": record.attempts,
    }
    told = {
        "gen_ai.provider.name": record.backend_type,
        "llm_router.route": record.route,
        "llm_router.target": record.target,
        "llm_router.fallback_reason": record.fallback_reason,
        "error.type": record.error,
    }
    attributes |= {name: value for name, value in told.items() if value}
    return attributes | _tokens(record)


def _tokens(record: Record) -> Attributes:
    measures = record.measures
    told = {
        "gen_ai.usage.input_tokens": measures.prompt_tokens,
        "gen_ai.usage.output_tokens": measures.completion_tokens,
        "llm_router.first_token_seconds": measures.first_token_seconds,
        "llm_router.decode_tokens_per_second": measures.decode_tokens_per_second,
    }
    return {name: value for name, value in told.items() if value is not None}


def _asked(record: Record, *, target: str, backend_type: str) -> Attributes:
    return {
        "gen_ai.operation.name": OPERATIONS.get(record.kind, record.kind),
        "gen_ai.provider.name": backend_type,
        "gen_ai.request.model": record.model,
        "llm_router.target": target,
    }


def _name(record: Record, what: str) -> str:
    return f"{OPERATIONS.get(record.kind, 'list')} {what}"


def _status(record: Record) -> Status:
    if record.outcome in (Outcome.BROKEN, Outcome.ERROR) and record.status in (
        200,
        *range(500, 600),
    ):
        return Status(StatusCode.ERROR, record.error or None)
    return Status()


def _context(trace: Trace, span_id: str, *, remote: bool = False) -> SpanContext:
    return SpanContext(
        int(trace.trace_id, 16),
        int(span_id, 16),
        is_remote=remote,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([trace.state]) if trace.state else None,
    )


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
