"""Who may, as the API server says: it knows the tokens, and the rights are those of its RBAC.

    token ─> form ─> kept? ─> limit ─> TokenReview ─> Caller
    caller, verb, namespace ─> kept? ─> SubjectAccessReview ─> yes or no

Answers are kept for seconds, so that a burst costs one question, and never past their time: while
the API server is away, what is no longer kept is `Away`. Nothing is written anywhere.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from llm_operator.admin.access import bearer, reviews
from llm_operator.admin.access.answers import Flights, Kept
from llm_operator.admin.access.guard import NO_TOKEN, PAUSE, Guard
from llm_operator.admin.errors import Away, Unauthorized
from llm_operator.admin.model import Caller, Verb
from llm_operator.api import API
from llm_operator.ports import PortError, Unavailable

logger = logging.getLogger(__name__)

#: Seconds that answers are kept: whose a token is, that it is wrong, and what somebody may.
GOOD_SECONDS, WRONG_SECONDS, RIGHT_SECONDS = 30.0, 5.0, 10.0
#: Seconds after its last review in which a token is still no unknown one for the limit.
KNOWN_SECONDS = 3600.0
#: Answers of each kind that are kept. NB: wrong ones apart, so that they can't drive out good ones.
MOST = 4096
#: Unknown tokens that are asked about at a time, and seconds that the others wait for their turn.
STRANGERS, QUEUE_SECONDS = 16, 5.0
#: Seconds after which to come again; where only a change of rights helps, somebody has to make it.
RETRY, REFUSED_RETRY = 2.0, 15.0
#: What an API server answers with success once it has read all that it decides by.
READY = "/readyz"
#: Seconds between two lines of the log that say the same.
QUIET_SECONDS = 600.0

SILENT = "the API server, which knows who may, does not answer now"
UNCLEAR = "the API server could not find out now"
STARTING = "the API server, which knows who may, is starting"
REFUSED = "the API server refused to be asked who may: this service's own account needs to {right}"


class ClusterGate:
    """A `Gate` that asks an API server."""

    def __init__(
        self,
        api: API,
        *,
        audiences: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        pause: float = PAUSE,
    ) -> None:
        """Ask nothing yet.

        Args:
            api: as the account that may create both kinds of review.
            audiences: one of which a token has to be for; none for the API server's own.
            clock: seconds, monotonic.
            pause: seconds that the answer to a wrong token waits.
        """
        self._api = api
        self._audiences = tuple(audiences)
        self._clock = clock
        self._guard = Guard(clock=clock, pause=pause)
        self._seal = secrets.token_bytes(32)
        self._callers: Kept[bytes, Caller] = Kept(most=MOST)
        self._known: Kept[bytes, bool] = Kept(most=MOST)
        self._wrong: Kept[bytes, bool] = Kept(most=MOST)
        self._rights: Kept[Hashable, bool] = Kept(most=MOST)
        self._callers_asked: Flights[bytes, Caller | None] = Flights()
        self._rights_asked: Flights[Hashable, bool] = Flights()
        self._strangers = asyncio.Semaphore(STRANGERS)
        #: Path and what was told -> when it was logged last.
        self._logged: dict[tuple[str, str], float] = {}

    async def caller(self, token: str, *, peer: str) -> Caller:
        """Whose token it is. Raises as `Gate` says."""
        if not token:
            raise Unauthorized(NO_TOKEN)
        if not bearer.fit(token):
            self._guard.admit(peer)
            await self._guard.refuse(peer)
        key = hashlib.blake2b(token.encode(), key=self._seal).digest()
        if (kept := self._callers.get(key, self._clock())) is not None:
            return kept
        if self._known.get(key, self._clock()):
            found = await self._callers_asked.join(key, self._review(key, token))
        else:
            found = await self._stranger(key, token, peer)
        if found is None:
            await self._guard.refuse(peer)
        return found

    async def may(
        self, caller: Caller, verb: Verb, namespace: str, *, subresource: str = ""
    ) -> bool:
        """Whether they may. Raises as `Gate` says."""
        extra = tuple(sorted((name, tuple(values)) for name, values in caller.extra.items()))
        who = (caller.name, caller.uid, caller.groups, extra)
        key = (who, verb, namespace, subresource)
        if (kept := self._rights.get(key, self._clock())) is not None:
            return kept
        question = reviews.of_right(caller, verb, namespace, subresource)
        return await self._rights_asked.join(key, self._right(key, question))

    async def _stranger(self, key: bytes, token: str, peer: str) -> Caller | None:
        """Whose token it is that was never seen here; None when it is wrong."""
        self._guard.admit(peer)
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await self._strangers.acquire()
        except TimeoutError:
            raise Away(SILENT, retry_after=RETRY) from None
        try:
            # NB: while it waited, the answer may have come, and so many wrong ones as to limit it.
            now = self._clock()
            if (kept := self._callers.get(key, now)) is not None:
                return kept
            self._guard.admit(peer)
            if self._wrong.get(key, now):
                return None
            return await self._callers_asked.join(key, self._review(key, token))
        finally:
            self._strangers.release()

    async def _review(self, key: bytes, token: str) -> Caller | None:
        # NB: an answer is as old as its question.
        asked = self._clock()
        answer = await self._ask(reviews.TOKENS_PATH, reviews.of_token(token, self._audiences))
        try:
            found = reviews.caller_of(answer, self._audiences)
        except reviews.Unclear as error:
            reason = str(error).replace(token, "TOKEN")
            raise self._away(reviews.TOKENS_PATH, UNCLEAR, reason=reason) from None
        if found is None:
            await self._started()
            self._known.drop(key)
            self._wrong.put(key, True, until=asked + WRONG_SECONDS)
            return None
        good = bearer.lifetime(token, most=GOOD_SECONDS, now=time.time())
        self._callers.put(key, found, until=asked + good)
        self._known.put(key, True, until=asked + KNOWN_SECONDS)
        return found

    async def _right(self, key: Hashable, question: Mapping[str, Any]) -> bool:
        asked = self._clock()
        answer = await self._ask(reviews.RIGHTS_PATH, question)
        try:
            may = reviews.allowed(answer)
        except reviews.Unclear as error:
            raise self._away(reviews.RIGHTS_PATH, UNCLEAR, reason=str(error)) from None
        if not may:
            await self._started()
        self._rights.put(key, may, until=asked + RIGHT_SECONDS)
        return may

    async def _started(self) -> None:
        """Pass when the API server has started, so that its no can be believed.

        NB: one that is starting answers before it has read accounts and roles, and says no to all
        that it has not read; a router drops for good what it gets a no for.

        Raises:
            Away: it has not.
        """
        try:
            await self._api.get(READY)
        except Unavailable as error:
            raise self._away(READY, STARTING, reason=str(error)) from error
        except (PortError, ValueError):
            # It says "ok", which is no JSON; or it does not say, and then nobody knows better.
            return

    async def _ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to a review.

        Raises:
            Away: there is none.
        """
        try:
            # NB: confidential, since what refuses a body may quote it.
            return await self._api.request("POST", path, body=body, confidential=True)
        except Unavailable as error:
            raise self._away(path, SILENT, reason=str(error)) from error
        except PortError as error:
            told = REFUSED.format(right=reviews.NEEDED[path])
            raise self._away(path, told, reason=str(error), retry_after=REFUSED_RETRY) from error
        except (ValueError, TypeError):
            # NB: from None, because that error has the whole answer in it, and so the token.
            raise self._away(path, UNCLEAR, reason="what came back is no JSON object") from None

    def _away(self, path: str, told: str, *, reason: str, retry_after: float = RETRY) -> Away:
        """The error for who asked; the reason is logged, but not once for each of them."""
        now = self._clock()
        before = self._logged.get((path, told))
        if before is None or now >= before + QUIET_SECONDS:
            self._logged[path, told] = now
            extra = {"path": path, "told": told, "reason": reason[:300]}
            logger.warning("reviews_not_answered", extra=extra)
        return Away(told, retry_after=retry_after)
