"""Which routers there are and what each says it runs, for whoever looks.

However many look, one round of questions is under way at a time, and its answers serve for some
seconds. It writes nothing and decides nothing. Data flows `routers.pods` or `standalone.routers`,
`routers.ask` -> a list.
"""

import asyncio
import time
from collections.abc import Sequence

from llm_operator.admin.access.answers import Flights, Kept
from llm_operator.admin.errors import Away
from llm_operator.ports import PortError
from llm_operator.routers.ask import Asking
from llm_operator.routers.report import Answer, Unreachable
from llm_operator.routers.router import Router, Routers

#: Seconds for which answers serve.
KEEP = 2.0
#: Seconds for one round; who was not asked by then is not waited for.
ROUND = 10.0

Told = Sequence[tuple[Router, Answer]]

ENDING = Unreachable("its pod is ending")
NOT_RUNNING = Unreachable("its pod does not run")
NOT_ASKED = Unreachable("there was no time left to ask it")


class Fleet:
    """All routers. It is closed by `close`."""

    def __init__(self, routers: Routers) -> None:
        """Take where routers are known from; ask nobody yet."""
        self._routers = routers
        self._asking = Asking()
        self._kept: Kept[None, Told] = Kept(most=1)
        self._rounds: Flights[None, Told] = Flights()
        self._uids: frozenset[str] = frozenset()

    async def list(self) -> Told:
        """Each router and what it says it runs, by namespace and name.

        Raises:
            Away: nobody can say which routers there are.
        """
        kept = self._kept.get(None, time.monotonic())
        return kept if kept is not None else await self._rounds.join(None, self._round())

    async def close(self) -> None:
        """End all connections."""
        await self._asking.close()

    async def _round(self) -> Told:
        try:
            listed = await self._routers.list(None)
        except PortError as error:
            raise Away(f"the routers can't be listed now: {error}", retry_after=KEEP) from None
        listed = sorted(listed, key=lambda router: (router.namespace, router.name))
        answers = await self._answers(listed)
        told = [(router, answers.get(router.uid, _unasked(router))) for router in listed]
        self._kept.put(None, told, until=time.monotonic() + KEEP)
        return told

    async def _answers(self, listed: Sequence[Router]) -> dict[str, Answer]:
        """By uid, what those said that can be asked and answered in time."""
        uids = frozenset(router.uid for router in listed)
        self._asking.keep(uids, of=self._uids)
        self._uids = uids
        asked = {
            router.uid: asyncio.create_task(self._asking.status(router.uid, router.url))
            for router in listed
            if router.counts
        }
        if asked:
            _, late = await asyncio.wait(asked.values(), timeout=ROUND)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        return {uid: task.result() for uid, task in asked.items() if not task.cancelled()}


def _unasked(router: Router) -> Unreachable:
    if router.counts:
        return NOT_ASKED
    return ENDING if router.terminating else NOT_RUNNING
