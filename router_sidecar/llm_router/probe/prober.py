"""The prober: looks at every host of the table, all the time, and tells the standings.

One timer a host and at most `AT_ONCE` looks at once; a host that hangs costs its own timeout and
delays no other. What it knows of a host outlives a swap of the table that keeps the host, and a
look under way at a host that is gone is given up. Lives in one event loop.
"""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_contract import TargetType
from llm_router.probe.confirm import Confirmer
from llm_router.probe.look import Finding, Unknown, look
from llm_router.probe.models import Loaded, full
from llm_router.probe.plan import Look, Plan, plans
from llm_router.standing import Host, Standings
from llm_router.table import Destination, Entry, Table
from llm_router.transport import Pool

log = logging.getLogger(__name__)

#: Looks at the same time.
AT_ONCE = 64

#: A part of the interval by which each look comes earlier or later, so that routers and hosts that
#: began together do not stay together.
JITTER = 0.1

#: Seconds at most until a host that is new is looked at.
SOON = 0.2


@dataclass(slots=True, eq=False)
class Probed:
    """One host that is being probed.

    Attributes:
        failures: bad looks in a row.
        successes: good ones in a row.
        loaded: what it had in memory at the last look.
    """

    plan: Plan
    failures: int = 0
    successes: int = 0
    loaded: Mapping[str, Loaded] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None


class Prober:
    """Probes the hosts of a table and makes the router's own checks."""

    def __init__(self, pool: Pool, standings: Standings) -> None:
        self._pool = pool
        self._standings = standings
        self._hosts: dict[str, Probed] = {}
        self._free = asyncio.Semaphore(AT_ONCE)
        self._confirmer = Confirmer(pool)
        self._running = False

    def follow(self, table: Table) -> None:
        """Probe what this table uses, and nothing else, from now on and while `run` runs."""
        wanted = plans(table)
        for url in self._hosts.keys() - wanted.keys():
            _stop(self._hosts.pop(url))
            self._forget(url)
        for url, plan in wanted.items():
            host = self._hosts.get(url)
            if host is None:
                host = self._hosts[url] = Probed(plan)
            elif host.plan == plan:
                continue
            # NB: a look that is under way is of the old plan; the next one follows at once.
            host.plan = plan
            if host.task is None:
                self._soon(host)

    def confirm(self, destination: Destination, entry: Entry) -> None:
        """Find out by a request of the router's own whether a target can answer."""
        self._confirmer.wish(destination, entry.route.health.passive)

    async def run(self) -> None:
        """Probe until cancelled, and leave nothing behind."""
        self._running = True
        for host in self._hosts.values():
            self._soon(host)
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """End every look and check."""
        self._running = False
        tasks = [host.task for host in self._hosts.values() if host.task is not None]
        for host in self._hosts.values():
            _stop(host)
        self._hosts.clear()
        await asyncio.gather(*tasks, self._confirmer.close(), return_exceptions=True)

    def loaded_models(self, table: Table) -> list[dict[str, Any]]:
        """What the table's hosts have in memory, under the callers' names, in Ollama's words."""
        found: dict[str, Loaded] = {}
        for route in table.config.routes:
            for destination in table.entries[route.model].destinations:
                target = destination.target
                host = self._hosts.get(target.url)
                if host is not None and target.type is TargetType.OLLAMA:
                    seen = host.loaded.get(full(target.model))
                    if seen is not None:
                        found.setdefault(route.model, seen)
        return [_told(name, seen) for name, seen in sorted(found.items())]

    def _soon(self, host: Probed) -> None:
        self._schedule(host, random.uniform(0, SOON))

    def _schedule(self, host: Probed, seconds: float) -> None:
        if not self._running:
            return
        if host.timer is not None:
            host.timer.cancel()
        host.timer = asyncio.get_running_loop().call_later(seconds, self._begin, host)

    def _begin(self, host: Probed) -> None:
        host.timer = None
        host.task = asyncio.create_task(self._probe(host))

    async def _probe(self, host: Probed) -> None:
        plan = host.plan
        try:
            async with self._free:
                found = [await look(self._pool, one, timeout=plan.timeout) for one in plan.looks]
        except Unknown as unknown:
            log.warning("probe_not_made", extra={"url": plan.url, "reason": str(unknown)})
        except Exception:
            # NB: no host may end the probing, whatever it sends.
            log.exception("probe_failed", extra={"url": plan.url})
        else:
            self._take(host, plan, found)
        host.task = None
        if host.plan is not plan:
            self._soon(host)
        else:
            jitter = random.uniform(1 - JITTER, 1 + JITTER)
            self._schedule(host, plan.interval * jitter)

    def _take(self, host: Probed, plan: Plan, found: list[Finding]) -> None:
        now = asyncio.get_running_loop().time()
        known = self._standings.host(plan.url)
        if known is None:
            return
        for one, finding in zip(plan.looks, found, strict=True):
            _tell(one, finding, now=now, until=now + 2 * plan.interval)
        loaded = [finding.loaded for finding in found if finding.loaded is not None]
        host.loaded = loaded[0] if loaded else {}
        reason = next((finding.reason for finding in found if finding.reason), "")
        self._judge(host, known, reason, now=now)

    def _judge(self, host: Probed, known: Host, reason: str, *, now: float) -> None:
        """Count a look, and let it speak when it is one of enough in a row."""
        plan, before = host.plan, known.healthy
        if reason:
            # NB: an answer to a request has proven the last verdict wrong, so it is begun anew.
            proven_wrong = before is None and host.failures >= plan.unhealthy_threshold
            host.failures = 1 if proven_wrong else host.failures + 1
            host.successes = 0
        else:
            host.failures, host.successes = 0, host.successes + 1
        if reason and host.failures >= plan.unhealthy_threshold:
            known.probed(now, healthy=False, reason=reason)
        elif not reason and (before is not False or host.successes >= plan.healthy_threshold):
            known.probed(now, healthy=True)
        else:
            known.probed_at = time.time()
        if before is not known.healthy and not (before is None and known.healthy):
            state = "host_healthy" if known.healthy else "host_unhealthy"
            log.warning(state, extra={"url": plan.url, "reason": reason})

    def _forget(self, url: str) -> None:
        """A host that is no longer probed is neither healthy nor unhealthy, as far as is known."""
        host = self._standings.host(url)
        if host is not None:
            host.unprobed(asyncio.get_running_loop().time())


def _tell(asked: Look, finding: Finding, *, now: float, until: float) -> None:
    """What a look told of each model."""
    name = full if asked.type is TargetType.OLLAMA else str
    for wanted in asked.wanted:
        standing, key = wanted.standing, name(wanted.model)
        if finding.refused:
            standing.refused_until = max(standing.refused_until, until)
            standing.doubt(finding.refused)
        loaded = None if finding.loaded is None else key in finding.loaded
        if finding.names is not None and wanted.required:
            standing.probed(now, missing=key not in finding.names, loaded=loaded)
        else:
            standing.seen(now, loaded=loaded, required=wanted.required)


def _told(name: str, seen: Loaded) -> dict[str, Any]:
    """As an entry of Ollama's GET /api/ps; what the host does not tell is left out."""
    told = {
        "size": seen.size,
        "digest": seen.digest,
        "details": seen.details,
        "expires_at": seen.expires_at,
        "size_vram": seen.size_vram,
        "context_length": seen.context_length,
    }
    known = {key: value for key, value in told.items() if value is not None}
    return {"name": name, "model": name} | known


def _stop(host: Probed) -> None:
    if host.timer is not None:
        host.timer.cancel()
    if host.task is not None:
        host.task.cancel()
