"""The numbers by which the API knows resources: the ids of their rows, learnt from the archive.

A resource keeps its number for as long as it lives, so what was learnt once holds while Postgres is
away. All are asked for at once, when one is missed, and not more often than several times a second
however many ask. Who only wants to show a number does not wait long for it.
"""

import asyncio
import time
from collections.abc import Mapping

from llm_operator.admin.errors import Away
from llm_operator.admin.ports import Archive

#: Seconds between two questions for what was not there.
PAUSE = 0.2
#: Seconds after which a backend is shown without its number.
PATIENCE = 1.0


class Numbers:
    """uid <-> id of all live resources."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._ids: Mapping[str, int] = {}
        self._uids: Mapping[int, str] = {}
        #: When the last question began and ended, why it had no answer, and the one under way.
        self._began = self._ended = float("-inf")
        self._away: Away | None = None
        self._asking: asyncio.Task[None] | None = None

    async def of(self, uids: frozenset[str]) -> Mapping[str, int]:
        """The ids of these, of those that have one; what is known while Postgres is away."""
        if not uids <= self._ids.keys() and time.monotonic() >= self._ended + PAUSE:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._ask()
            except TimeoutError:
                pass
        return self._ids

    async def uid(self, number: int) -> str | None:
        """The resource of an id.

        Raises:
            Away: it is not known yet, and Postgres can't say.
        """
        missed = time.monotonic()
        while number not in self._uids and self._began < missed:
            if self._asking is None and (left := self._ended + PAUSE - time.monotonic()) > 0:
                await asyncio.sleep(left)
            await self._ask()
            if self._away is not None and number not in self._uids:
                raise Away(self._away.detail, retry_after=self._away.retry_after)
        return self._uids.get(number)

    async def wait(self, uid: str, *, within: float) -> int | None:
        """The id of a resource, as soon as its row is there, or None after so many seconds."""
        until = time.monotonic() + within
        while True:
            number = (await self.of(frozenset({uid}))).get(uid)
            if number is not None or time.monotonic() + PAUSE > until:
                return number
            await asyncio.sleep(PAUSE)

    async def _ask(self) -> None:
        """Join the question that is under way, or begin one."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._learn())
        # NB: who asked first may be gone before the answer, and the others still want it.
        await asyncio.shield(self._asking)

    async def _learn(self) -> None:
        began = time.monotonic()
        try:
            found = await self._archive.ids()
        except Away as away:
            self._away = away
        else:
            self._away = None
            self._ids = found
            self._uids = {number: uid for uid, number in found.items()}
        finally:
            self._began, self._ended = began, time.monotonic()
            self._asking = None
