"""Recorded traffic: taken in from routers and from the predecessor's programs, and shown.

    router -> POST /usage -> archive        program -> POST /metrics -> archive
    archive -> samples, comparison

A batch is answered when Postgres has it, so that a router that was told so may forget it; else it
is told to come again. It never keeps a record in memory.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llm_operator.admin import rights
from llm_operator.admin.errors import Invalid, TooLarge, TooMany
from llm_operator.admin.model import USAGE, Caller, Sample, Verb
from llm_operator.admin.ports import Archive, Gate, Store
from llm_operator.compare.model import Point
from llm_operator.compare.statistics import Comparison, compare

#: Records of one batch; a router sends at most 500.
MOST_RECORDS = 1000
#: Batches that are being stored at once; one more is asked to come again in so many seconds.
BATCHES = 8
BUSY_SECONDS = 1.0

#: Seconds since 1970 that a date can be made of, up to the year 9999; no time is longer.
LATEST = 253_402_300_799

#: What backends are told apart by.
ARMS = ("backend_type", "target")

#: Longest span of a comparison, in days: records are kept for a month.
LONGEST_DAYS = 31

#: Field of the predecessor's metric -> field of a usage record. NB: its tokens_per_second is left
#: out: it was divided by the whole time, and so is not a rate of decoding.
METRIC: Mapping[str, str] = {
    "timestamp": "at",
    "model": "model",
    "backend": "backend_type",
    "latency_seconds": "total_seconds",
    "tokens": "completion_tokens",
    "tokens_generated": "completion_tokens",
    "prompt_tokens": "prompt_tokens",
    "request_id": "request_id",
    "session_id": "session",
    "user_id": "user",
    "zone": "zone",
    "intent": "intent",
    "source": "source",
    "stage": "stage",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a comparison is of."""

    model: str
    since: datetime
    until: datetime
    by: str = ARMS[0]
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a batch.

    Attributes:
        new: records that were stored now.
        known: those that were there already, or have a value that Postgres can't store.
        refused: why each of the others is no record.
    """

    new: int
    known: int
    refused: tuple[str, ...] = ()


class Traffic:
    """Usage records, for whoever may."""

    def __init__(self, *, gate: Gate, store: Store, archive: Archive) -> None:
        self._gate = gate
        self._store = store
        self._archive = archive
        self._batches = asyncio.Semaphore(BATCHES)

    async def take(self, caller: Caller, records: Sequence[object]) -> Taken:
        """Store a batch of usage records of a router. One that is none costs no other its place.

        Raises:
            Forbidden: the caller may not send usage for its namespace.
            Invalid: there is no record among them.
            TooLarge: more than are taken at once.
            TooMany, Away: nothing is stored as far as anybody knows; come again.
        """
        namespace = await self._sender(caller)
        if len(records) > MOST_RECORDS:
            raise TooLarge(f"records: {len(records)} of them; at most {MOST_RECORDS} at once")
        good: list[Mapping[str, object]] = []
        refused: list[str] = []
        for place, one in enumerate(records):
            try:
                good.append(_record(one, f"records[{place}]"))
            except Invalid as error:
                refused.append(error.detail)
        if refused and not good:
            raise Invalid(refused[0])
        new = await self._store_all(good, namespace) if good else 0
        return Taken(new=new, known=len(good) - new, refused=tuple(refused))

    async def add(self, caller: Caller, metric: Mapping[str, Any]) -> str:
        """Store one metric of the predecessor's form; its key."""
        namespace = await self._sender(caller)
        given = {METRIC[name]: metric[name] for name in METRIC if metric.get(name) is not None}
        record = {"outcome": "ok", "request_id": uuid.uuid4().hex, **given}
        checked = _record(record, "metric")
        await self._store_all([checked], namespace)
        return str(checked["request_id"])

    async def samples(
        self,
        caller: Caller,
        *,
        model: str | None,
        backend: str | None,
        before: str | None,
        limit: int,
    ) -> Sequence[Sample]:
        """Recorded requests, newest first."""
        await self._reader(caller, None)
        return await self._archive.samples(model=model, backend=backend, before=before, limit=limit)

    async def compare(self, caller: Caller, span: Span, *, baseline: str | None) -> Comparison:
        """What each backend of a model did, beside one of them.

        Raises:
            Invalid: a span that can't be, or a baseline that did nothing in it.
        """
        _check(span)
        await self._reader(caller, span.namespace)
        arms = await self._archive.arms(
            model=span.model,
            namespace=span.namespace,
            since=span.since,
            until=span.until,
            by=span.by,
        )
        try:
            return compare(arms, baseline=baseline)
        except ValueError as error:
            raise Invalid(f"baseline: {error}") from None

    async def series(self, caller: Caller, span: Span, *, step: int) -> Sequence[Point]:
        """The same over time, in steps of so many seconds."""
        _check(span)
        if step < 1 or (span.until - span.since).total_seconds() / step > 1000:
            raise Invalid(f"step: {step} s gives more than 1,000 points; make it longer")
        await self._reader(caller, span.namespace)
        return await self._archive.series(
            model=span.model,
            namespace=span.namespace,
            since=span.since,
            until=span.until,
            by=span.by,
            step=step,
        )

    async def _reader(self, caller: Caller, namespace: str | None) -> None:
        await rights.need(self._gate, caller, Verb.LIST, namespace or "")

    async def _sender(self, caller: Caller) -> str:
        """The namespace whose usage the caller may send."""
        namespace = caller.namespace or self._store.namespace
        await rights.need(self._gate, caller, Verb.CREATE, namespace, subresource=USAGE)
        return namespace

    async def _store_all(self, records: Sequence[Mapping[str, object]], namespace: str) -> int:
        if self._batches.locked():
            raise TooMany("too many batches at once", retry_after=BUSY_SECONDS)
        async with self._batches:
            return await self._archive.store(records, namespace=namespace)


def _record(given: object, at: str) -> Mapping[str, object]:
    """A record with what no row can do without."""
    if not isinstance(given, Mapping):
        raise Invalid(f"{at}: must be an object")
    for name in ("request_id", "model", "outcome"):
        if not isinstance(given.get(name), str) or not given[name]:
            raise Invalid(f"{at}.{name}: must be text")
    for name in ("at", "total_seconds"):
        value = given.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid(f"{at}.{name}: must be a number of seconds")
        if not 0 <= value <= LATEST:
            raise Invalid(f"{at}.{name}: must be a number of seconds from 0 to {LATEST}")
    return given


def _check(span: Span) -> None:
    if span.by not in ARMS:
        raise Invalid(f"by: must be one of {', '.join(ARMS)}, is {span.by!r}")
    if span.since >= span.until:
        raise Invalid("since: must be before until")
    if (span.until - span.since).days > LONGEST_DAYS:
        raise Invalid(f"since: at most {LONGEST_DAYS} days before until, as records are kept")
