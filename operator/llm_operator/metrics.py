"""The operator's Prometheus metrics: what the engine, the publisher and the reporter tell it, as
numbers.

    engine, publisher, reporter -> Metrics -> (a scrape) -> exposition
    resync, watch, record, leader, events <- asked at each scrape

It never waits and decides nothing, and nothing depends on what it holds. Names and labels stand in
`families`.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llm_operator import exposition, families
from llm_operator.exposition import Sample
from llm_operator.families import FAMILIES, Family
from llm_operator.ports import PortError, Status, Unavailable
from llm_operator.publish.outcome import Standing
from llm_operator.publish.publisher import DIGITS, Result
from llm_operator.reasons import Condition
from llm_operator.resource.model import Resource

#: What the pool of the record counts -> the family it is shown as, and what one of it is there.
POOL: Mapping[str, tuple[Family, float]] = {
    "pool_size": (families.POOL_SIZE, 1),
    "pool_available": (families.POOL_IDLE, 1),
    "requests_waiting": (families.POOL_WAITING, 1),
    "requests_num": (families.POOL_REQUESTS, 1),
    "requests_errors": (families.POOL_REFUSED, 1),
    "requests_wait_ms": (families.POOL_WAITED, 0.001),
    "connections_num": (families.POOL_CONNECTS, 1),
    "connections_errors": (families.POOL_FAILED, 1),
    "connections_lost": (families.POOL_LOST, 1),
}

OURS = frozenset(kind.value for kind in Condition)

Reader = Callable[[], Iterable[Sample]]
#: (type, status) of each condition.
States = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Backend:
    """The conditions of one resource.

    Attributes:
        lines: of the exposition. NB: made once; two thousand resources at each scrape would hold
            the event loop up.
        replaced: what stood before these were written.
    """

    states: States
    lines: str
    replaced: States | None = None


class Metrics:
    """Every series of one operator process. It is a `Teller`, and the engine's and the publishers'
    meter.
    """

    def __init__(self) -> None:
        self._counters: dict[Family, Counter[str]] = {
            families.RECONCILES: Counter(),
            families.PUBLISHES: Counter(),
        }
        self._inflight = 0
        self._durations = [0] * (len(families.DURATION.buckets) + 1)
        self._seconds = 0.0
        self._repairs = 0
        #: namespace -> what stands there.
        self._configs: dict[str, Standing] = {}
        #: namespace -> uid -> its conditions.
        self._backends: dict[str, dict[str, _Backend]] = {}
        self._readers: dict[Family, Reader] = {
            families.INFLIGHT: lambda: [((), self._inflight)],
            families.REPAIRS: lambda: [((), self._repairs)],
            families.CONFIG_BYTES: self._sizes,
            families.CONFIG: self._checksums,
        }

    # What the reporter and the publisher tell.

    def listed(self, namespace: str, resources: Sequence[Resource]) -> None:
        """These are all of a namespace; the series of all others go."""
        known = self._backends.pop(namespace, {})
        if resources:
            self._backends[namespace] = {
                resource.identity.uid: _listed(resource, known.get(resource.identity.uid))
                for resource in resources
            }

    def told(self, resource: Resource, before: Status | None, after: Status) -> None:
        """This status has just been written."""
        identity = resource.identity
        self._backends.setdefault(identity.namespace, {})[identity.uid] = _backend(
            resource, _states(after), replaced=_states(before)
        )

    def repaired(self, namespace: str) -> None:
        """A configuration is as it should be again."""
        self._repairs += 1

    def published(self, namespace: str, result: Result, standing: Standing | None) -> None:
        """A pass has ended, and this is what stands now."""
        self._counters[families.PUBLISHES][result] += 1
        if standing is not None and standing.owned and standing.raw is not None:
            self._configs[namespace] = standing
        else:
            self._configs.pop(namespace, None)

    # What the engine tells.

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """A request to reconcile, for as long as it takes."""
        self._inflight += 1
        begun = time.monotonic()
        try:
            yield
        except Unavailable:
            self._ended("unavailable", begun)
            raise
        except PortError:
            self._ended("refused", begun)
            raise
        except Exception:
            self._ended("failed", begun)
            raise
        else:
            self._ended("ok", begun)
        finally:
            # NB: one that was cancelled has no result.
            self._inflight -= 1

    def forget(self, namespace: str) -> None:
        """Nothing is left of a namespace."""
        self._configs.pop(namespace, None)
        self._backends.pop(namespace, None)

    # What is asked at each scrape.

    def observe_record(
        self, up: Callable[[], bool | None], stats: Callable[[], Mapping[str, int]]
    ) -> None:
        """Read at each scrape whether the database answers, and how its connections are used."""
        self._readers[families.DB_UP] = lambda: [] if (now := up()) is None else [((), now)]
        for key, (family, unit) in POOL.items():
            self._readers[family] = partial(_pooled, stats, key, unit)

    def observe_leader(self, leading: Callable[[], bool]) -> None:
        """Read at each scrape whether this replica leads."""
        self._readers[families.LEADER] = lambda: [((), leading())]

    def observe_resync(self, succeeded: Callable[[], float]) -> None:
        """Read at each scrape when the last round without a failure ended."""
        self._readers[families.RESYNCED] = lambda: [((), succeeded())]

    def observe_watch(self, heard: Callable[[], float]) -> None:
        """Read at each scrape when the watch of LLMBackends last brought anything."""
        self._readers[families.WATCHED] = lambda: [((), heard())]

    def observe_events(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Read at each scrape what became of events."""
        self._readers[families.EVENTS] = lambda: [((k,), count) for k, count in counts().items()]

    def observe_build(self, version: str) -> None:
        """Say which release this is."""
        self._readers[families.BUILD] = lambda: [((version,), 1)]

    def render(self) -> bytes:
        """The exposition text."""
        text = []
        for family in FAMILIES:
            text.append(exposition.head(family))
            if family is families.DURATION:
                text += exposition.buckets(family, self._durations, self._seconds)
            elif family is families.CONDITION:
                text += [
                    one.lines for backends in self._backends.values() for one in backends.values()
                ]
            else:
                text += exposition.samples(family, self._values(family))
        return "".join(text).encode()

    def _values(self, family: Family) -> Iterable[Sample]:
        if family in self._counters:
            return [((label,), count) for label, count in self._counters[family].items()]
        reader = self._readers.get(family)
        return reader() if reader else []

    def _ended(self, result: str, begun: float) -> None:
        self._counters[families.RECONCILES][result] += 1
        took = time.monotonic() - begun
        self._durations[bisect_left(families.DURATION.buckets, took)] += 1
        self._seconds += took

    def _sizes(self) -> Iterable[Sample]:
        return [((namespace,), len(one.raw or b"")) for namespace, one in self._configs.items()]

    def _checksums(self) -> Iterable[Sample]:
        return [
            ((namespace, (one.checksum or "")[:DIGITS]), 1)
            for namespace, one in self._configs.items()
        ]


def _pooled(stats: Callable[[], Mapping[str, int]], key: str, unit: float) -> Iterable[Sample]:
    # NB: the pool leaves out what it has not counted yet.
    return [((), stats().get(key, 0) * unit)]


def _listed(resource: Resource, known: _Backend | None) -> _Backend:
    states = _states(resource.status)
    if known is None or states not in (known.states, known.replaced):
        return _backend(resource, states)
    # NB: a list that was begun before a write shows what the write replaced.
    return known if states == known.replaced else replace(known, replaced=None)


def _backend(resource: Resource, states: States, *, replaced: States | None = None) -> _Backend:
    identity = resource.identity
    samples = [((identity.namespace, identity.name, *state), 1) for state in states]
    return _Backend(
        states=states,
        lines="".join(exposition.samples(families.CONDITION, samples)),
        replaced=replaced,
    )


def _states(status: Status | None) -> States:
    found: Any = (status or {}).get("conditions") or ()
    return tuple((one["type"], one["status"]) for one in found if one["type"] in OURS)
