"""Puts one router together from its settings: the only place that knows all its parts.

Nothing runs yet when it returns; `running` gives what must, and `close` ends it in order.
"""

import asyncio
import logging
import os
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol, runtime_checkable

from llm_router import families, select
from llm_router.ask import Asker, Limits
from llm_router.follow import Follower
from llm_router.logs import LineWriter
from llm_router.metrics import Metrics, TargetState
from llm_router.probe import Prober
from llm_router.server import Limits as ServerLimits
from llm_router.serving import Parts
from llm_router.settings import Settings
from llm_router.standing import Standings
from llm_router.table import Destination, Table
from llm_router.transport import Pool
from llm_router.usage import Record, Recorder, tracing
from llm_router.usage.access_log import AccessLog
from llm_router.usage.spool import Counts

log = logging.getLogger(__name__)

#: Seconds at the end in which usage records and spans are still delivered.
LAST_SECONDS = 2.0


class Delivering(Protocol):
    """What hands records on to another process: usage delivery, spans."""

    def take(self, records: Sequence[Record]) -> None:
        """Requests have ended."""

    async def run(self) -> None:
        """Deliver until cancelled."""

    async def close(self, seconds: float) -> None:
        """Deliver what can be within so many seconds."""


@runtime_checkable
class Counting(Protocol):
    """What says how its deliveries fare."""

    def counts(self) -> Counts:
        """How they stand."""


@dataclass(slots=True, kw_only=True)
class Router:
    """The parts of one router.

    Attributes:
        delivering: where records go to, besides metrics and the access log.
    """

    parts: Parts
    pool: Pool
    limits: ServerLimits
    delivering: Sequence[Delivering]

    def running(self) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the router does; none of these ends by itself."""
        parts = self.parts
        return [
            parts.follower.run(),
            parts.prober.run(),
            parts.recorder.run(),
            *(delivery.run() for delivery in self.delivering),
        ]

    async def close(self) -> None:
        """After the last request: hand on what was recorded, close what is open."""
        self.parts.recorder.flush()
        await asyncio.gather(*(delivery.close(LAST_SECONDS) for delivery in self.delivering))
        await self.parts.prober.close()
        await self.pool.close()


def assemble(settings: Settings, *, writer: LineWriter | None = None) -> Router:
    """The router of these settings.

    Args:
        writer: of the process's log, for the access log; None for none.
    """
    pool, standings, metrics = Pool(), Standings(), Metrics()
    follower = Follower(
        settings.config,
        reread_seconds=settings.reread_seconds,
        credentials=settings.credentials,
        standings=standings,
    )
    prober = Prober(pool, standings)
    follower.on_swap = prober.follow
    limits = Limits(connect=settings.connect_seconds, stream_idle=settings.stream_idle_seconds)
    asker = Asker(pool, limits)
    asker.suspect = prober.confirm
    delivering = _delivering(settings)
    sinks = [metrics.take, *(delivery.take for delivery in delivering)]
    if settings.access_log and writer is not None:
        sinks.append(AccessLog(writer).take)
    parts = Parts(
        follower=follower,
        standings=standings,
        prober=prober,
        asker=asker,
        recorder=Recorder(sinks),
        metrics=metrics,
        default_ollama_url=settings.default_ollama_url,
        trace_ratio=settings.trace_ratio,
    )
    _observe(parts, pool, delivering, writer)
    return Router(
        parts=parts,
        pool=pool,
        limits=ServerLimits(
            max_body=settings.max_body_bytes,
            max_head=settings.max_head_bytes,
            max_active=settings.max_requests,
        ),
        delivering=delivering,
    )


def _delivering(settings: Settings) -> list[Delivering]:
    delivering: list[Delivering] = []
    # NB: both bring large libraries along, so they are imported where they are switched on.
    if settings.usage_url is not None:
        from llm_router.usage.delivery import Delivery

        delivering.append(
            Delivery(
                url=settings.usage_url,
                token_file=settings.usage_token_file,
                folder=settings.usage_spool,
                limit=settings.usage_spool_bytes,
            )
        )
    if tracing.wanted(os.environ):
        delivering += _spans()
    return delivering


def _spans() -> list[Delivering]:
    """The exporter of spans, or none where the extra `tracing` is not installed.

    NB: what injects OpenTelemetry into a cluster sets the variable in every pod; that must not keep
    a router from serving.
    """
    try:
        from llm_router.usage.spans import Spans
    except ModuleNotFoundError as error:
        detail = f"there is no module {error.name}: install the extra tracing"
        log.warning("spans_not_exported", extra={"detail": detail})
        return []
    return [Spans()]


def _observe(
    parts: Parts, pool: Pool, delivering: Sequence[Delivering], writer: LineWriter | None
) -> None:
    """Say what is read off the parts at each scrape."""
    metrics, asker = parts.metrics, parts.asker
    metrics.observe(parts.follower, pool)
    metrics.observe_targets(lambda: _states(parts.follower.table))
    metrics.observe_build(version("llm-backend"))
    metrics.read(families.BUDGET, lambda: [((), asker.budget.refused)])
    counts = [part.counts for part in delivering if isinstance(part, Counting)]
    metrics.observe_usage(parts.recorder, *counts)
    spans = next((part for part in delivering if not isinstance(part, Counting)), None)
    losing = {"spans": spans, "log": writer}
    metrics.observe_dropped(
        **{kind: partial(getattr, part, "dropped") for kind, part in losing.items() if part}
    )
    metrics.read(families.TRANSITIONS, lambda: _transitions(parts.follower.table))


def _states(table: Table | None) -> Iterator[TargetState]:
    now = asyncio.get_running_loop().time()
    for model, one in _targets(table):
        yield TargetState(model, one.target.name, select.judge(one, now).value, one.standing.active)


def _transitions(table: Table | None) -> Iterator[tuple[tuple[str, str, str], float]]:
    for model, one in _targets(table):
        standing, host = one.standing, one.standing.host
        yield (model, one.target.name, "open"), standing.opened + host.opened
        yield (model, one.target.name, "closed"), standing.closed + host.closed


def _targets(table: Table | None) -> Iterator[tuple[str, Destination]]:
    """Every target, with the model of its route."""
    if table is not None:
        for route in table.config.routes:
            for one in table.entries[route.model].destinations:
                yield route.model, one
