"""What happened to one request, noted as it goes; becomes its record when it ends."""

import time
from collections.abc import Iterable, Sequence

from llm_router.ask import Failed, Live, Request
from llm_router.errors import Code
from llm_router.exchange import Timing
from llm_router.table import Destination
from llm_router.usage import Failure, Outcome, Record, caller, measure

#: How much one answer's speed changes the smoothed one.
WEIGHT = 0.2


class Account:
    """One request so far.

    Attributes:
        at: its start, Unix seconds.
        request: once it is known what is asked and where it may go.
        live: the answer that began.
    """

    __slots__ = (
        "_error",
        "_outcome",
        "_status",
        "at",
        "front",
        "live",
        "request",
        "timing",
    )

    def __init__(self, *, at: float, timing: Timing, front: str) -> None:
        self.at = at
        self.timing = timing
        self.front = front
        self.request: Request | None = None
        self.live: Live | None = None
        # NB: what a bug leaves unsaid is an error.
        self._outcome, self._status, self._error = Outcome.ERROR, 500, str(Code.INTERNAL)

    def ended(self, outcome: Outcome, status: int, *, error: str = "") -> None:
        """It ended so."""
        self._outcome, self._status, self._error = outcome, status, error

    @property
    def failures(self) -> Sequence[Failed]:
        """Attempts that failed, in order."""
        return self.request.failures if self.request is not None else ()

    @property
    def fallback_reason(self) -> str:
        """Why the first target did not answer; "" when it did."""
        request = self.request
        if request is None:
            return ""
        if request.passed:
            return request.passed
        return request.failures[0].failure.cause.value if request.failures else ""

    def record(self, headers: Iterable[tuple[bytes, bytes]], *, request_id: str) -> Record:
        """The record of it; to be made once."""
        record = Record(
            request_id=request_id,
            at=self.at,
            front=self.front,
            outcome=self._outcome,
            status=self._status,
            error=self._error,
            total_seconds=(time.monotonic_ns() - self.timing.started) / 1e9,
            caller=caller(headers),
        )
        if (request := self.request) is not None:
            _asked(record, request)
            record.fallback_reason = self.fallback_reason
            if (live := self.live) is not None:
                _answered(record, live, request)
            elif request.failures:
                _where(record, request.failures[-1].destination, request)
        return record


def _asked(record: Record, request: Request) -> None:
    route, exchange, failures = request.entry.route, request.exchange, request.failures
    record.model = request.entry.label
    record.route = route.name
    record.route_uid = route.uid
    record.generation = route.generation
    record.kind = exchange.kind.value
    record.stream = exchange.stream
    record.trace = request.trace
    record.attempts = len(failures)
    if failures:
        record.failures = tuple(map(_failure, failures))


def _answered(record: Record, live: Live, request: Request) -> None:
    _where(record, live.destination, request)
    record.attempts += 1
    record.measures = measures = measure(
        live.usage, live.timing, pieces=live.pieces, attempt_started=live.asked
    )
    standing = live.destination.standing
    speed, wait = measures.decode_tokens_per_second, measures.first_token_seconds
    if speed is not None:
        before = standing.tokens_per_second or speed
        standing.tokens_per_second = before + WEIGHT * (speed - before)
    if wait is not None:
        before = standing.first_token_seconds or wait
        standing.first_token_seconds = before + WEIGHT * (wait - before)


def _where(record: Record, destination: Destination, request: Request) -> None:
    target = destination.target
    record.target = target.name
    record.backend_type = target.type.value
    # NB: what a client calls a model that no route names must not get into records.
    record.upstream_model = "" if request.entry.label == "other" else target.model


def _failure(failed: Failed) -> Failure:
    target, cause = failed.destination.target, failed.failure.cause
    return Failure(target.name, target.type.value, cause.value, round(failed.seconds, 6))
