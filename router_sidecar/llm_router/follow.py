"""Keeps the routing table equal to the mounted folders, and the last good one when it can't be.

    configuration, credentials ─> table ─> requests, on_swap

Looks at the `..data` link of both every second and reads everything again at least every minute.
Reading and building happen in a thread, off the request path; requests see one reference change. A
configuration that can't be used is reported and left alone until another comes. Credentials never
stop a table: what they lack makes the targets that need it unusable.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llm_contract import CHECKSUM_KEY, CONFIG_KEY, ContractError, checksum
from llm_router import credentials, mount
from llm_router.credentials import NONE, Credentials
from llm_router.standing import Standings
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
        on_swap: called with each new table, in the loop, when requests use it already.
    """

    def __init__(
        self,
        folder: Path,
        *,
        reread_seconds: float,
        standings: Standings,
        credentials: Path | None = None,
    ) -> None:
        """A follower that has read nothing.

        Args:
            folder: of the configuration.
            reread_seconds: between two reads of folders whose links stay.
            standings: what is known of targets; those that no table uses any more are forgotten.
            credentials: the folder of the credentials; None for none. It need not be there yet.
        """
        self.folder = folder
        self.table: Table | None = None
        self.loaded_at = 0.0
        self.read_at = 0.0
        self.rejection: Rejection | None = None
        self.on_read: Callable[[str], None] = lambda result: None
        self.on_swap: Callable[[Table], None] = lambda table: None
        self._reread_seconds = reread_seconds
        self._standings = standings
        self._credentials_folder = credentials
        self._credentials = NONE
        self._reading = asyncio.Lock()

    async def run(self) -> None:
        """Follow the folders until cancelled."""
        seen = self._revisions()
        await self.reload()
        due = time.monotonic() + self._reread_seconds
        while True:
            await asyncio.sleep(POLL_SECONDS)
            found = self._revisions()
            if found != seen or time.monotonic() >= due:
                seen = found
                await self.reload()
                due = time.monotonic() + self._reread_seconds

    async def reload(self) -> str:
        """Read the folders now; the result is that of `on_read`. Never raises for what is there."""
        async with self._reading:
            try:
                read, table = await asyncio.to_thread(self._load)
            except (ContractError, OSError, ValueError) as error:
                result = self._reject(str(error))
            except Exception as error:
                # NB: no content may end the follower, and with it the process.
                log.exception("configuration_unreadable")
                result = self._reject(f"{type(error).__name__}: {error}")
            else:
                result = self._take(table, read)
        self.on_read(result)
        return result

    def _revisions(self) -> tuple[str | None, str | None]:
        folder = self._credentials_folder
        return mount.revision(self.folder), None if folder is None else mount.revision(folder)

    def _load(self) -> tuple[Credentials, Table | None]:
        """Runs in a thread, one at a time: `reload` holds the lock."""
        published = mount.read(self.folder)
        read = self._read_credentials()
        if published is None:
            return read, None
        current = self.table
        # NB: hash the bytes, not only compare the file beside them: either may have been damaged.
        same = current and published.checksum == checksum(published.raw) == current.checksum
        if current is not None and same and read.digest == self._credentials.digest:
            return read, current
        return read, Table.build(published, self._standings, read)

    def _read_credentials(self) -> Credentials:
        try:
            return credentials.read(self._credentials_folder)
        except OSError as error:
            # NB: a folder that can't be read says nothing of what is in it; the last are kept.
            log.error("credentials_unreadable", extra={"reason": str(error)})
            folder = str(self._credentials_folder)
            return Credentials(folder=folder) if self._credentials is NONE else self._credentials

    def _take(self, table: Table | None, read: Credentials) -> str:
        if table is None:
            if self.table is not None:
                names = f"{CONFIG_KEY} and {CHECKSUM_KEY}"
                return self._reject(f"{self.folder} does not hold {names}")
            return "absent"
        self.rejection = None
        self.read_at = time.time()
        if table is self.table:
            return "unchanged"
        self.table, self._credentials = table, read
        self.loaded_at = self.read_at
        log.info(
            "configuration_loaded",
            extra={
                "checksum": table.checksum[:12],
                "routes": len(table.config.routes),
                "credentials": len(read.values),
            },
        )
        _warn(table)
        # NB: not before the swap, for it forgets what the table in use does not have; and with the
        # lock held, for building adds to it in a thread.
        self._standings.keep(table.standings())
        self.on_swap(table)
        return "loaded"

    def _reject(self, reason: str) -> str:
        if self.rejection is None or self.rejection.reason != reason:
            self.rejection = Rejection(reason, time.time())
            log.error(
                "configuration_rejected",
                extra={"reason": reason, "serving": self.table is not None},
            )
        return "rejected"


def _warn(table: Table) -> None:
    for route in table.config.routes:
        for destination in table.entries[route.model].destinations:
            if destination.unusable:
                log.warning(
                    "target_unusable",
                    extra={
                        "route": route.name,
                        "target": destination.target.name,
                        "reason": destination.unusable,
                    },
                )
