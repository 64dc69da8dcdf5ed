"""The router's Prometheus metrics. Names and labels are API; label values come from configuration
only.

    Recorder -> take(records) -> sums -> (a scrape) -> exposition

A model that no route names is `other`, so that clients can't make series. Requests never come here:
records do, in batches, after they ended. The sums are plain numbers, as an observation by the
client library costs more than all else that is done with a record.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from llm_router import exposition, families
from llm_router.families import FAMILIES, Family, Labels
from llm_router.follow import Follower
from llm_router.transport import Pool
from llm_router.usage.record import Outcome, Record
from llm_router.usage.recorder import Recorder
from llm_router.usage.spool import Counts

#: Label values and the value under them.
Sample = tuple[Labels, float]
#: The same of a histogram: observations in each bucket, and their sum.
Observed = tuple[Labels, list[int], float]
Reader = Callable[[], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class TargetState:
    """One target of one route at the moment of a scrape."""

    model: str
    target: str
    state: str
    active: int


class Buckets:
    """A histogram's one series."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """One more; a bound belongs to its bucket."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Path:
    """What the requests of one (model, front, target, type, outcome) add to; looked up once."""

    __slots__ = (
        *("requests", "duration", "first_token", "per_token", "input", "output"),
        *("decode", "prefill", "load"),
    )

    def __init__(self, sums: "_Sums", *, model: str, target: str, target_type: str) -> None:
        self.requests = 0
        self.duration = sums.buckets(families.DURATION, model, target_type)
        self.first_token = sums.buckets(families.FIRST_TOKEN, model, target_type)
        self.per_token = sums.buckets(families.PER_TOKEN, model, target_type)
        self.input = sums.buckets(families.TOKEN_USAGE, model, target_type, "input")
        self.output = sums.buckets(families.TOKEN_USAGE, model, target_type, "output")
        self.decode = sums.buckets(families.DECODE, model, target)
        self.prefill = sums.buckets(families.PREFILL, model, target)
        self.load = sums.buckets(families.LOAD, model, target)

    def add(self, record: Record) -> None:
        self.requests += 1
        if record.outcome is Outcome.OK and record.target:
            self.duration.observe(record.total_seconds)
        measures = record.measures
        if measures.first_token_seconds is not None:
            self.first_token.observe(measures.first_token_seconds)
        if measures.prompt_tokens is not None:
            self.input.observe(measures.prompt_tokens)
        if measures.completion_tokens is not None:
            self.output.observe(measures.completion_tokens)
        if rate := measures.decode_tokens_per_second:
            self.decode.observe(rate)
            self.per_token.observe(1 / rate)
        if measures.prefill_tokens_per_second:
            self.prefill.observe(measures.prefill_tokens_per_second)
        if measures.load_seconds is not None:
            self.load.observe(measures.load_seconds)


class _Sums:
    """What has been counted since the start, by family and label values."""

    def __init__(self) -> None:
        self.counters: dict[Family, dict[Labels, int]] = {}
        self.histograms: dict[Family, dict[Labels, Buckets]] = {}
        self.paths: dict[tuple[str, str, str, str, str], _Path] = {}

    def count(self, family: Family, *labels: str) -> None:
        series = self.counters.setdefault(family, {})
        series[labels] = series.get(labels, 0) + 1

    def buckets(self, family: Family, *labels: str) -> Buckets:
        series = self.histograms.setdefault(family, {})
        found = series.get(labels)
        if found is None:
            found = series[labels] = Buckets(family.buckets)
        return found

    def add(self, record: Record) -> None:
        failures, target, target_type = record.failures, record.target, record.backend_type
        if failures and len(failures) >= record.attempts:
            # Nobody answered; the record names the last that was asked.
            target = target_type = ""
        key = (record.model, record.front, target, target_type, record.outcome)
        path = self.paths.get(key)
        if path is None:
            path = _Path(self, model=record.model, target=target, target_type=target_type)
            self.paths[key] = path
        path.add(record)
        if failures:
            self._failed(record)

    def _failed(self, record: Record) -> None:
        failures, model = record.failures, record.model
        went_on = [failure.target for failure in failures[1:]]
        if len(failures) < record.attempts:
            went_on.append(record.target)
        for failure in failures:
            self.count(families.FAILURES, model, failure.target, failure.cause)
        for failure, to in zip(failures, went_on, strict=False):
            if failure.target != to:
                self.count(families.FALLBACKS, model, failure.target, to, failure.cause)

    def observed(self, family: Family) -> Iterator[Observed]:
        for labels, found in self.histograms.get(family, {}).items():
            # NB: a path has all its series from the start; those that nothing fell into don't show.
            if any(found.counts):
                yield labels, found.counts, found.total

    def requests(self) -> dict[Labels, int]:
        """The targets of one type make one series."""
        series: dict[Labels, int] = {}
        for (model, front, _, target_type, outcome), path in self.paths.items():
            labels = (model, front, target_type, str(outcome))
            series[labels] = series.get(labels, 0) + path.requests
        return series


class Metrics(Collector):
    """Every series of one router process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sums = _Sums()
        self._readers: list[tuple[Family, Reader]] = []
        self.registry.register(self)

    def take(self, records: Sequence[Record]) -> None:
        """Requests have ended."""
        add = self._sums.add
        for record in records:
            add(record)

    def read(self, family: Family, reader: Reader) -> None:
        """Ask for this family's (label values, value) at each scrape."""
        self._readers.append((family, reader))

    def observe(self, follower: Follower, pool: Pool) -> None:
        """Read these two at each scrape."""
        follower.on_read = lambda result: self._sums.count(families.READS, result)
        self.read(
            families.CONFIG, lambda: [((t.checksum[:12],), 1)] if (t := follower.table) else []
        )
        self.read(families.LOADED, lambda: [((), follower.loaded_at)])
        self.read(families.REJECTED, lambda: [((), follower.rejection is not None)])
        self.read(families.CONNECTIONS, lambda: _connections(pool))

    def observe_active(self, count: Callable[[], int]) -> None:
        """Ask at each scrape how many requests are being answered."""
        self.read(families.ACTIVE, lambda: [((), count())])

    def observe_targets(self, states: Callable[[], Iterable[TargetState]]) -> None:
        """Ask for the state of every target at each scrape."""
        self.read(
            families.TARGET_STATE, lambda: [((s.model, s.target, s.state), 1) for s in states()]
        )
        self.read(
            families.TARGET_ACTIVE, lambda: [((s.model, s.target), s.active) for s in states()]
        )

    def observe_usage(self, recorder: Recorder, counts: Callable[[], Counts] = Counts) -> None:
        """Read at each scrape how usage records fare, and their delivery where there is one."""
        self.read(families.USAGE, lambda: _results(counts(), recorder.dropped))
        self.read(families.SPOOL_BYTES, lambda: [((), counts().waiting_bytes)])
        self.read(families.SPOOL_RECORDS, lambda: [((), counts().waiting)])

    def observe_dropped(self, **counts: Callable[[], int]) -> None:
        """Read at each scrape how much of the log or the spans has been lost."""
        self.read(families.TELEMETRY, lambda: [((k,), read()) for k, read in counts.items()])

    def observe_build(self, version: str) -> None:
        """Say which release this is."""
        self.read(families.BUILD, lambda: [((version,), 1)])

    def render(self) -> bytes:
        """The exposition text."""
        values, text = self._values(), []
        for family in FAMILIES:
            text.append(exposition.head(family))
            if family.kind == "histogram":
                text += exposition.buckets(family, self._sums.observed(family))
            else:
                text += exposition.samples(family, values[family])
        return "".join(text).encode()

    def collect(self) -> Iterable[Metric]:
        """The families, as a registry of prometheus_client asks for them."""
        values = self._values()
        for family in FAMILIES:
            if family.kind == "histogram":
                yield _histogram(family, self._sums.observed(family))
            else:
                yield _plain(family, values[family])

    def _values(self) -> dict[Family, list[Sample]]:
        values: dict[Family, list[Sample]] = {family: [] for family in FAMILIES}
        values[families.REQUESTS] += self._sums.requests().items()
        for family, counters in self._sums.counters.items():
            values[family] += counters.items()
        for family, reader in self._readers:
            values[family] += reader()
        for family, samples in values.items():
            # NB: a series without labels is there from the start; a rate of it is never absent.
            if not samples and not family.labels:
                samples.append(((), 0.0))
        return values


def _plain(family: Family, values: list[Sample]) -> Metric:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    made = kind(family.name, exposition.sentence(family), labels=family.labels)
    for labels, value in values:
        made.add_metric(labels, value)
    return made


def _histogram(family: Family, series: Iterable[Observed]) -> Metric:
    made = HistogramMetricFamily(family.name, exposition.sentence(family), labels=family.labels)
    bounds = [*map(floatToGoString, family.buckets), "+Inf"]
    for labels, counts, total in series:
        cumulative = map(float, accumulate(counts))
        made.add_metric(labels, list(zip(bounds, cumulative, strict=True)), total)
    return made


def _connections(pool: Pool) -> list[Sample]:
    counts = pool.counts()
    return [(("open",), counts.open), (("idle",), counts.idle)]


def _results(counts: Counts, lost: int) -> list[Sample]:
    return [
        (("sent",), counts.sent),
        (("spooled",), counts.spooled),
        (("dropped",), counts.dropped + lost),
        (("rejected",), counts.rejected),
    ]
