"""The admin API's Prometheus metrics: what edge, callers and usage intake tell, as numbers.

It never waits, and nothing depends on what it holds. All names are API; labels are words of closed
sets: methods, routes by their templates, statuses.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from llm_operator import exposition
from llm_operator.admin.traffic import Taken
from llm_operator.families import Family

#: Seconds; from a lookup to a write that waits for the operator.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

REQUESTS = Family(
    "llm_admin_requests_total",
    "counter",
    ("method", "route", "status"),
    "requests by the template of their route; other for what no route is of",
)
DURATION = Family(
    "llm_admin_request_duration_seconds",
    "histogram",
    (),
    "from a request's head to the end of its answer",
    SECONDS,
)
USAGE = Family(
    "llm_admin_usage_records_total",
    "counter",
    ("result",),
    "usage records that were sent: stored, known (or nothing that Postgres can store), or refused",
)
WRONG = Family(
    "llm_admin_wrong_tokens_total",
    "counter",
    (),
    "requests that were refused for their token, or for too many wrong ones before",
)
FAMILIES = (REQUESTS, DURATION, USAGE, WRONG)


class Counts:
    """Every series of one admin process."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._durations = [0] * (len(SECONDS) + 1)
        self._seconds = 0.0
        self._usage: Counter[str] = Counter(stored=0, known=0, refused=0)
        self._wrong = 0

    def answered(self, method: str, route: str, *, status: int, seconds: float) -> None:
        """A request has its answer."""
        self._requests[method, route, str(status)] += 1
        self._durations[bisect_left(SECONDS, seconds)] += 1
        self._seconds += seconds

    def took(self, taken: Taken) -> None:
        """A batch of usage records is stored."""
        self._usage["stored"] += taken.new
        self._usage["known"] += taken.known
        self._usage["refused"] += len(taken.refused)

    def wrong(self) -> None:
        """A token was refused."""
        self._wrong += 1

    def render(self) -> bytes:
        """The exposition text."""
        lines: list[str] = []
        for family in FAMILIES:
            lines.append(exposition.head(family))
            lines += self._lines(family)
        return "".join(lines).encode()

    def _lines(self, family: Family) -> Iterable[str]:
        if family is DURATION:
            return exposition.buckets(family, self._durations, self._seconds)
        if family is REQUESTS:
            return exposition.samples(family, self._requests.items())
        if family is USAGE:
            return exposition.samples(family, (((k,), n) for k, n in self._usage.items()))
        return exposition.samples(family, [((), self._wrong)])
