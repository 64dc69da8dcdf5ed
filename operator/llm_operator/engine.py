"""One idempotent reconcile for each namespace: whoever calls it, and however often, the result is
the same.

It hands out the namespaces and bounds what all of them do at once; what a reconcile is stands in
`namespace`. It knows no Kubernetes and no Postgres, only `ports`. Data flows `handlers`, `watches`,
`resync` -> `engine` -> `namespace`.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import nullcontext
from datetime import UTC, datetime

from llm_operator.metrics import Metrics
from llm_operator.namespace import Namespace, Pace, Ports, Shared
from llm_operator.plan import Addresses


def utc_now() -> str:
    """The time as a status writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Engine:
    """All namespaces. It makes tasks, so it lives and is closed in one event loop."""

    def __init__(
        self,
        ports: Ports,
        *,
        addresses: Addresses,
        pace: Pace | None = None,
        now: Callable[[], str] = utc_now,
        meter: Metrics | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            ports: where everything comes from and goes.
            addresses: for resources that name no URL.
            pace: how fast, and how much at once.
            now: the time for a status, RFC 3339.
            meter: what counts and times the requests.
        """
        self._meter = meter
        pace = pace or Pace()
        self._shared = Shared(
            ports=ports,
            addresses=addresses,
            pace=pace,
            now=now,
            publishing=asyncio.Semaphore(pace.publishing),
            reporting=asyncio.Semaphore(pace.reporting),
        )
        self._namespaces: dict[str, Namespace] = {}

    async def reconcile(self, namespace: str) -> None:
        """Return when a pass that started after this call has published the namespace.

        What the plan refuses is no failure, nor is a configuration that is too large or not the
        operator's: the statuses say so.

        Raises:
            PortError: it could not be published; resync tries again, and the caller may.
        """
        with self._meter.reconciling() if self._meter else nullcontext():
            await self._of(namespace).publishing.run()

    async def forgotten(self, namespace: str, uid: str, *, within: float) -> bool:
        """Whether the row of a resource that is being deleted is gone, waiting so many seconds at
        most.

        Call it after a reconcile that saw the deletion.
        """
        here = self._of(namespace)
        try:
            async with asyncio.timeout(within):
                await here.recording.run()
                while not here.forgot(uid):
                    await asyncio.sleep(self._shared.ports.recorder.retry_after)
                    await here.recording.run()
        except TimeoutError:
            return False
        return True

    def keep(self, namespaces: Collection[str]) -> None:
        """Drop what is remembered of namespaces that have nothing left and are not at work."""
        for name, namespace in list(self._namespaces.items()):
            if name not in namespaces and namespace.idle:
                del self._namespaces[name]
                if self._meter:
                    self._meter.forget(name)

    async def close(self) -> None:
        """End all work. What it leaves undone the next start does."""
        await self._shared.ports.finder.close()
        await asyncio.gather(*(namespace.close() for namespace in self._namespaces.values()))

    def _of(self, name: str) -> Namespace:
        if name not in self._namespaces:
            self._namespaces[name] = Namespace(name, self._shared)
        return self._namespaces[name]
