"""Asks all running routers what they run, every few seconds and soon after a publish.

It is the operator's `Witness`: it hears what is published, asks, and calls back the namespaces
whose routers say anything new. One LIST serves a whole round; a namespace without LLMBackends is
not asked about. While `run` does not run nothing is asked, so the leader alone asks. Data flows
`pods` -> `fleet` -> `Seen` -> whoever follows.
"""

import asyncio
import logging
import random
import weakref
from collections.abc import Callable

from llm_operator.ports import PortError
from llm_operator.routers.ask import Asking
from llm_operator.routers.fleet import Fleet
from llm_operator.routers.nudge import Nudger
from llm_operator.routers.report import Seen
from llm_operator.routers.router import Router, Routers

logger = logging.getLogger(__name__)


class Observer:
    """The routers of all namespaces. It lives in one event loop, and runs while `run` does."""

    def __init__(self, routers: Routers, *, every: float = 10.0, nudge: bool = True) -> None:
        """Ask nobody yet.

        Args:
            routers: where they are known from.
            every: seconds between two rounds, about.
            nudge: whether routers that lag are told to look at once.
        """
        self._routers = routers
        self._every = every
        self._asking = Asking()
        self._nudger = Nudger(routers) if nudge else None
        self._fleets: dict[str, Fleet] = {}
        self._running = False
        self._trouble = ""

    # The Witness.

    def follow(self, namespace: str, changed: Callable[[], None]) -> None:
        """From now on ask the routers of the namespace, and call the method when they say anything
        new. Whoever it belongs to is not kept alive by it.
        """
        fleet = self._fleets[namespace] = Fleet(
            namespace,
            routers=self._routers,
            asking=self._asking,
            nudger=self._nudger,
            # NB: a namespace that the engine drops is not told.
            changed=weakref.WeakMethod(changed),
        )
        if self._running:
            fleet.ask()

    def published(self, namespace: str, checksum: str) -> None:
        """This is what the routers of a namespace should run now: ask them in a moment."""
        fleet = self._fleets.get(namespace)
        if fleet is not None and fleet.published(checksum) and self._running:
            fleet.ask()

    def seen(self, namespace: str) -> Seen | None:
        """What they said last; None when they have not been asked yet."""
        fleet = self._fleets.get(namespace)
        return fleet.seen if fleet is not None else None

    async def settled(self, namespace: str, *, within: float) -> None:
        """Return when none of them is being asked or about to be, or after so many seconds."""
        fleet = self._fleets.get(namespace)
        if fleet is not None:
            await fleet.settled(within=within)

    async def forget(self, namespace: str) -> None:
        """Ask them no more, and end what is under way."""
        fleet = self._fleets.pop(namespace, None)
        if fleet is not None:
            await fleet.close()

    # The rounds.

    async def run(self) -> None:
        """Go round for ever, at once at first."""
        self._running = True
        try:
            while True:
                try:
                    await self._round()
                except Exception:
                    # NB: this task is all that keeps statuses true; no error may end it.
                    logger.exception("routers_failed")
                # Several operators started together must not ask together for ever.
                await asyncio.sleep(self._every * random.uniform(0.8, 1.2))
        finally:
            self._running = False
            for namespace in list(self._fleets):
                await self.forget(namespace)
            await self._asking.close()

    async def _round(self) -> None:
        for namespace in [name for name, fleet in self._fleets.items() if fleet.forlorn]:
            await self.forget(namespace)
        if not self._fleets:
            return
        try:
            listed = await self._routers.list(None)
        except PortError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                logger.warning("routers_not_listed", extra={"detail": self._trouble})
            return
        self._trouble = ""
        found: dict[str, list[Router]] = {namespace: [] for namespace in self._fleets}
        for router in listed:
            if router.namespace in found:
                found[router.namespace].append(router)
        for namespace, routers in found.items():
            self._fleets[namespace].ask(routers)
