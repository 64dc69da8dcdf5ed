"""Keeps the routing table equal to the mounted folder, and the last good one when it can't be.

Looks at the `..data` link every second and reads everything again at least every minute. Reading
and building happen in a thread, off the request path; requests see one reference change. A revision
that can't be used is reported and left alone until another comes.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llm_contract import CHECKSUM_KEY, CONFIG_KEY, ContractError, checksum
from llm_router import mount
from llm_router.table import Table

log = logging.getLogger(__name__)

#: Seconds between two looks at the link.
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Rejection:
    """A revision that was not taken: why, and when in Unix seconds."""

    reason: str
    at: float


class Follower:
    """The current table and how it came about.

    Attributes:
        table: what requests use; None until a first good revision was read.
        loaded_at: Unix seconds of the swap to it; 0 before.
        read_at: Unix seconds of the last complete look at the folder that found it good.
        rejection: of the revision now mounted; None when it is the one in use.
        on_read: called with "loaded", "unchanged", "rejected" or "absent" after each read.
    """

    def __init__(self, folder: Path, *, reread_seconds: float) -> None:
        self.folder = folder
        self.table: Table | None = None
        self.loaded_at = 0.0
        self.read_at = 0.0
        self.rejection: Rejection | None = None
        self.on_read: Callable[[str], None] = lambda result: None
        self._reread_seconds = reread_seconds
        self._reading = asyncio.Lock()

    async def run(self) -> None:
        """Follow the folder until cancelled."""
        seen = mount.revision(self.folder)
        await self.reload()
        due = time.monotonic() + self._reread_seconds
        while True:
            await asyncio.sleep(POLL_SECONDS)
            found = mount.revision(self.folder)
            if found != seen or time.monotonic() >= due:
                seen = found
                await self.reload()
                due = time.monotonic() + self._reread_seconds

    async def reload(self) -> str:
        """Read the folder now; the result is that of `on_read`. Never raises for what is there."""
        async with self._reading:
            try:
                table = await asyncio.to_thread(_load, self.folder, self.table)
            except (ContractError, OSError, ValueError) as error:
                result = self._reject(str(error))
            except Exception as error:
                # NB: no content may end the follower, and with it the process.
                log.exception("configuration_unreadable")
                result = self._reject(f"{type(error).__name__}: {error}")
            else:
                result = self._take(table)
        self.on_read(result)
        return result

    def _take(self, table: Table | None) -> str:
        if table is None:
            if self.table is not None:
                names = f"{CONFIG_KEY} and {CHECKSUM_KEY}"
                return self._reject(f"{self.folder} does not hold {names}")
            return "absent"
        self.rejection = None
        self.read_at = time.time()
        if table is self.table:
            return "unchanged"
        self.table = table
        self.loaded_at = self.read_at
        log.info(
            "configuration_loaded",
            extra={"checksum": table.checksum[:12], "routes": len(table.entries)},
        )
        return "loaded"

    def _reject(self, reason: str) -> str:
        if self.rejection is None or self.rejection.reason != reason:
            self.rejection = Rejection(reason, time.time())
            log.error(
                "configuration_rejected",
                extra={"reason": reason, "serving": self.table is not None},
            )
        return "rejected"


def _load(folder: Path, current: Table | None) -> Table | None:
    published = mount.read(folder)
    if published is None:
        return None
    # NB: hash the bytes, not only compare the file beside them: either may have been damaged.
    if current is not None and published.checksum == checksum(published.raw) == current.checksum:
        return current
    return Table.build(published)
