"""Usage delivery as one part: the spool and what empties it.

Recorder -> Delivery.take -> spool -> shipper -> usage_url
"""

import asyncio
import contextlib
import logging
from dataclasses import replace
from pathlib import Path

from llm_router.usage.shipper import PERIOD, Shipper
from llm_router.usage.spool import Counts, Spool

log = logging.getLogger(__name__)


class Delivery:
    """Delivers the records of one router."""

    def __init__(
        self,
        *,
        url: str,
        token_file: Path | None,
        folder: Path | None,
        limit: int,
        period: float = PERIOD,
    ) -> None:
        self._spool = Spool(folder, limit=limit)
        self._shipper = Shipper(self._spool, url=url, token_file=token_file, period=period)
        self._running: asyncio.Future[tuple[None, None]] | None = None
        self._closed = False
        self.take = self._spool.take

    async def run(self) -> None:
        """Write and send until closed."""
        if self._closed:
            return
        self._running = asyncio.gather(self._spool.run(), self._shipper.run())
        await self._running

    async def close(self, seconds: float) -> None:
        """Send what can be sent within so many seconds; the rest stays on disk, or is lost."""
        self._closed = True
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._shipper.empty()
        await self._shipper.close()
        # NB: a disk that hangs must not hold up the end.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 1.0)):
                if lost := await self._spool.close():
                    log.warning("usage_lost", extra={"records": lost})

    def counts(self) -> Counts:
        """How it stands."""
        shipper = self._shipper
        return replace(self._spool.counts(), sent=shipper.sent, rejected=shipper.rejected)
