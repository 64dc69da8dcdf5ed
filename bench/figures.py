"""What is measured, as values: nothing here measures or writes."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Short requests: microseconds, medians of the rounds."""

    p50: float
    p99: float
    rate: float
    count: int
    errors: int
    cpu_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """One pattern of streams: [p50, p99] in microseconds, as bench.streams tells them."""

    first: list[float]
    held: list[float]
    gap: list[float]
    events: int
    ended: int
    asked: int
    seconds: float
    cpu_us: float
    grown_kib: float

    @property
    def cpu_per_event(self) -> float:
        """Microseconds of the subject's CPU for each event."""
        return self.cpu_us / self.events if self.events else float("nan")


@dataclass(slots=True, kw_only=True)
class Figures:
    """Everything measured of one way through one subject; `direct` is without it."""

    name: str
    way: str
    version: str
    start: float = 0.0
    rss_start: int = 0
    rss_after: int = 0
    served: int = 0
    one: Requests | None = None
    one_direct: Requests | None = None
    many: Requests | None = None
    many_direct: Requests | None = None
    spoken: dict[int, tuple[Streams, Streams]] = field(default_factory=dict)
    steady: Streams | None = None
    fast: Streams | None = None
    failure: str = ""
