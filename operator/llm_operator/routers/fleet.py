"""The routers of one namespace: what they said last, and when they are asked again.

They are asked soon after each publish, once more after a moment when one does not answer that did
before, then again with growing pauses until all run what was published; beyond that whenever the
observer has listed them. It decides nothing about statuses and never raises. Data flows `pods`,
`ask` -> `Seen`.
"""

import asyncio
import logging
import weakref
from collections.abc import Callable, Sequence

from llm_operator.lane import Lane
from llm_operator.ports import PortError
from llm_operator.routers.ask import Asking
from llm_operator.routers.nudge import Nudger
from llm_operator.routers.report import Answer, Report, Seen, Unreachable
from llm_operator.routers.router import Router, Routers

logger = logging.getLogger(__name__)

#: Seconds that a publish is followed by others, at least and at most, before routers are asked.
QUIET, LONGEST = 0.2, 1.0
#: Seconds until routers that lag are asked again: the first time, and at most.
AGAIN, AGAIN_LONGEST = 0.5, 8.0
#: Seconds until one is asked again that has failed to answer once.
DOUBT = 1.0


class Fleet:
    """One namespace's routers.

    Attributes:
        seen: what they said last; None before the first look.
    """

    def __init__(
        self,
        namespace: str,
        *,
        routers: Routers,
        asking: Asking,
        nudger: Nudger | None,
        changed: weakref.WeakMethod[Callable[[], None]],
    ) -> None:
        """Ask nobody yet.

        Args:
            namespace: whose routers.
            routers: where they are known from.
            asking: what asks them.
            nudger: what makes those that lag look; None for nobody.
            changed: called when they say anything new, if whoever it belongs to is still there.
        """
        self.seen: Seen | None = None
        self._namespace = namespace
        self._routers = routers
        self._asking = asking
        self._changed = changed
        self._nudger = nudger
        self._lane = Lane(self._look, name=f"routers {namespace}", quiet=QUIET, longest=LONGEST)
        self._checksum = ""
        #: Looks since the last publish.
        self._looks = 0
        self._listed: Sequence[Router] | None = None
        self._trouble = ""
        #: By uid, what each said last, and those that have failed to answer once.
        self._answers: dict[str, Answer] = {}
        self._doubted: set[str] = set()

    @property
    def forlorn(self) -> bool:
        """Nobody is there any more who would want to know."""
        return self._changed() is None

    def published(self, checksum: str) -> bool:
        """Whether that is news of what they should run."""
        news = checksum != self._checksum
        if news:
            self._checksum, self._looks = checksum, 0
        return news

    def ask(self, listed: Sequence[Router] | None = None) -> None:
        """Ask them soon, those that have just been listed, or whoever is there then."""
        if listed is not None:
            self._listed = listed
        self._lane.nudge()

    async def settled(self, *, within: float) -> None:
        """Return when nobody is asked or about to be, or after so many seconds."""
        await self._lane.settled(within=within)

    async def close(self) -> None:
        """Ask no more, and end what is under way."""
        await self._lane.close()

    async def _look(self) -> None:
        listed, self._listed = self._listed, None
        try:
            if listed is None:
                listed = await self._routers.list(self._namespace)
        except PortError as error:
            self._not_listed(error)
            return
        self._trouble = ""
        running = [router for router in listed if router.counts]
        checksum = self._checksum
        answers = await asyncio.gather(
            *(self._asking.status(router.uid, router.url) for router in running)
        )
        self._take(running, answers)
        if self._nudger is not None and self._looks == 0 and checksum:
            lagging = [r for r in running if self._lags(self._answers[r.uid], checksum)]
            await self._nudger.nudge(lagging, checksum)
        self._again(checksum)

    def _not_listed(self, error: PortError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            extra = {"namespace": self._namespace, "detail": self._trouble}
            logger.warning("routers_not_listed", extra=extra)
        if self.seen is None:
            self._lane.nudge_in(AGAIN_LONGEST)

    def _take(self, running: Sequence[Router], answers: Sequence[Answer]) -> None:
        before, doubted = self._answers, self._doubted
        uids = frozenset(router.uid for router in running)
        self._asking.keep(uids, of=frozenset(before))
        self._answers, self._doubted = {}, set()
        for router, answer in zip(running, answers, strict=True):
            last, uid = before.get(router.uid), router.uid
            lost = isinstance(answer, Unreachable) and isinstance(last, Report)
            if last is not None and lost and uid not in doubted:
                # One answer that is lost is not yet worth a write to every resource.
                self._doubted.add(uid)
                self._answers[uid] = last
            else:
                self._answers[uid] = answer
        told = {router.name: self._answers[router.uid] for router in running}
        if self.seen is None or told != self.seen.answers:
            self.seen = Seen(told, before=self.seen)
            if changed := self._changed():
                changed()

    def _again(self, checksum: str) -> None:
        """Ask again soon, if that may bring news soon."""
        if checksum == self._checksum:
            self._looks += 1
        if self._doubted:
            self._lane.nudge_in(DOUBT)
        reachable = [a for a in self._answers.values() if isinstance(a, Report)]
        lag = any(self._lags(answer, checksum) for answer in reachable)
        pause = AGAIN * 2.0 ** (self._looks - 1)
        if checksum and lag and pause <= AGAIN_LONGEST:
            self._lane.nudge_in(pause)

    def _lags(self, answer: Answer, checksum: str) -> bool:
        """Whether it may run something else than was published."""
        return isinstance(answer, Unreachable) or answer.checksum != checksum
