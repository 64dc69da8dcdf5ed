"""Has kubelets look at once at the pods whose routers lag behind what was published.

A kubelet refreshes mounted folders once a minute, and when a pod changes; so a pod gets one
annotation. It may be forbidden to, or fail: the minute's path holds, so that nothing here is an
error and nothing waits for it.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence

from llm_operator.ports import PortError, Refused
from llm_operator.routers.router import DIGITS, Router, Routers

logger = logging.getLogger(__name__)

#: Pods patched at once, by all namespaces together.
WIDTH = 20


class Nudger:
    """All nudges. Each pod is nudged once for a configuration, by whoever operates."""

    def __init__(self, routers: Routers) -> None:
        self._routers = routers
        self._slots = asyncio.Semaphore(WIDTH)
        self._refused = False

    async def nudge(self, routers: Sequence[Router], checksum: str) -> None:
        """Nudge those that were not yet, for this configuration."""
        due = iter([router for router in routers if router.nudged != checksum[:DIGITS]])
        await asyncio.gather(*(self._work(due, checksum) for _ in range(WIDTH)))

    async def _work(self, due: Iterator[Router], checksum: str) -> None:
        for router in due:
            try:
                async with self._slots:
                    await self._routers.nudge(router, checksum)
            except Refused as error:
                self._tell(error)
                # The others of the namespace would be refused just so; the next publish asks again,
                # because a right may come.
                return
            except PortError as error:
                extra = {"pod": f"{router.namespace}/{router.name}", "detail": str(error)}
                logger.debug("not_nudged", extra=extra)

    def _tell(self, error: Refused) -> None:
        if not self._refused:
            self._refused = True
            logger.warning("nudge_refused", extra={"detail": str(error)})
