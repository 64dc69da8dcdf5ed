"""Wrong tokens are slowed, and refused for a while when they are many; for every kind of gate.

    peer ─> admit   may an unknown token from there be looked at?
    peer ─> refuse  one was wrong: count it, wait, answer

A token that is known to be good never comes here: behind one address there can be many people, and
one who sends wrong tokens must not lock the others out. An unknown token from a limited address is
refused without being looked at, right or not.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NoReturn

from llm_operator.admin.access import limit
from llm_operator.admin.access.limit import Tally
from llm_operator.admin.errors import TooMany, Unauthorized

logger = logging.getLogger(__name__)

#: Seconds that the answer to a wrong token waits.
PAUSE = 0.3
#: Answers that wait at a time; past it a wrong token is told to come back instead.
WAITING = 64
#: Addresses that are remembered. NB: who has more than these meets the limit of all.
PEERS = 4096

NO_TOKEN = "a token is needed: send it in the header Authorization: Bearer TOKEN"
WRONG = "the token is unknown here, or has ended"
TOO_MANY = "too many wrong tokens came from this address; a new one is looked at in {seconds:.0f} s"
ALL_BUSY = "too many wrong tokens came; a new one is looked at in {seconds:.0f} s"


class Guard:
    """The limit on wrong tokens, of each address and of all together."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, pause: float = PAUSE
    ) -> None:
        """Begin with no wrong token.

        Args:
            clock: seconds, monotonic.
            pause: seconds that the answer to a wrong token waits.
        """
        self._clock = clock
        self._pause = pause
        self._waiting = 0
        self._all = Tally()
        self._peers: OrderedDict[str, Tally] = OrderedDict()

    def admit(self, peer: str) -> None:
        """Let an unknown token from an address be looked at.

        Raises:
            TooMany: not now.
        """
        now = self._clock()
        tally = self._peers.get(limit.origin(peer))
        if tally is not None and (wait := tally.wait(now)):
            raise TooMany(TOO_MANY.format(seconds=max(1.0, wait)), retry_after=wait)
        if wait := self._all.wait(now):
            raise TooMany(ALL_BUSY.format(seconds=max(1.0, wait)), retry_after=wait)

    async def refuse(self, peer: str) -> NoReturn:
        """Answer a wrong token.

        Raises:
            Unauthorized: after a pause.
            TooMany: at once, when too many such answers wait already.
        """
        self._count(limit.origin(peer))
        if self._waiting >= WAITING:
            raise TooMany(ALL_BUSY.format(seconds=1.0), retry_after=1.0)
        self._waiting += 1
        try:
            await asyncio.sleep(self._pause)
        finally:
            self._waiting -= 1
        raise Unauthorized(WRONG)

    def _count(self, origin: str) -> None:
        now = self._clock()
        before = self._peers.pop(origin, Tally())
        after = self._peers[origin] = before.counted(now, limit.PEER)
        if len(self._peers) > PEERS:
            self._peers.popitem(last=False)
        if after.until != before.until:
            extra = {"peer": origin, "seconds": after.wait(now)}
            logger.warning("wrong_tokens_limited", extra=extra)
        everyone, self._all = self._all, self._all.counted(now, limit.ALL)
        if self._all.until != everyone.until:
            extra = {"peer": "all", "seconds": self._all.wait(now)}
            logger.warning("wrong_tokens_limited", extra=extra)
