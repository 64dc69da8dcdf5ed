"""The last calls of this process, and what they say of models and backends.

Pure but for a lock: calls of any thread and task are added, and anyone may ask. The router's own
metrics and usage records cover all its callers; this is one caller's view.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a call ended; LEFT is by its caller, before it had its answer."""

    OK = "ok"
    ERROR = "error"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One call.

    Attributes:
        backend: type of the host that answered; "" where none did.
        seconds: from the call to its end.
        tokens_per_second: of the answer's decoding; None where it is not known.
    """

    model: str
    outcome: Outcome
    seconds: float
    backend: str = ""
    tokens_per_second: float | None = None


class Window:
    """The last so many calls."""

    def __init__(self, size: int) -> None:
        """Keep so many calls.

        Raises:
            ValueError: there must be room for one.
        """
        if size < 1:
            raise ValueError(f"metrics_window_size is {size}; give 1 or more")
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque(maxlen=size)

    def add(self, sample: Sample) -> None:
        """One more."""
        with self._lock:
            self._samples.append(sample)

    def samples(self) -> Sequence[Sample]:
        """Those there are, oldest first."""
        with self._lock:
            return tuple(self._samples)


def report(samples: Sequence[Sample]) -> dict[str, Any]:
    """The figures of `LLMRouter.report_metrics`."""
    counted = _counted(samples)
    return {
        "total_requests": counted.pop("requests"),
        **counted,
        "by_model": _by(samples, lambda sample: sample.model),
        "by_backend": _by(samples, lambda sample: sample.backend),
    }


def _by(samples: Iterable[Sample], key: Callable[[Sample], str]) -> dict[str, dict[str, Any]]:
    grouped: dict[str, list[Sample]] = {}
    for sample in samples:
        if name := key(sample):
            grouped.setdefault(name, []).append(sample)
    return {name: _counted(group) for name, group in grouped.items()}


def _counted(samples: Sequence[Sample]) -> dict[str, Any]:
    """Counts of all, seconds of the answered ones, speed of those whose decoding was measured."""
    answered = [sample for sample in samples if sample.outcome is Outcome.OK]
    speeds = [s.tokens_per_second for s in answered if s.tokens_per_second is not None]
    return {
        "requests": len(samples),
        "errors": sum(sample.outcome is Outcome.ERROR for sample in samples),
        "cancelled": sum(sample.outcome is Outcome.LEFT for sample in samples),
        "avg_latency_seconds": _mean([sample.seconds for sample in answered]),
        "avg_tokens_per_second": _mean(speeds),
    }


def _mean(values: Sequence[float]) -> float:
    """The average; 0.0 of nothing, as callers print it."""
    return sum(values) / len(values) if values else 0.0
