"""Asks the targets of a route: one after the other, within one deadline, none twice.

`begin` gives an answer whose first token has come; until then another target is asked, and after it
none is. `complete` gives a whole answer, whose client has nothing before the end, so there a stream
that breaks half-way is asked for elsewhere too. Whatever ends the caller's task ends the upstream
request at once, which is how a client's disconnect stops a generation. A target that is the only
one is asked a second time where that is cheap and the retry budget allows it.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence

from llm_contract import FallbackOn, OnBusy, TargetType
from llm_router import select
from llm_router.ask.attempt import Limits, attempt
from llm_router.ask.collect import collect
from llm_router.ask.live import Failed, Live
from llm_router.ask.request import Request
from llm_router.budget import Budget
from llm_router.errors import TABLE, AttemptFailed, Cause, Code, Problem, Unanswered
from llm_router.exchange import Answer
from llm_router.table import Destination, Entry
from llm_router.transport import Pool

log = logging.getLogger(__name__)

#: What `fallback.on` calls a cause. Those that are not here always go on to another target.
FALLBACK: dict[Cause, FallbackOn] = {
    Cause.CONNECT_FAILURE: FallbackOn.CONNECT_FAILURE,
    Cause.NO_REPLY: FallbackOn.CONNECT_FAILURE,
    Cause.FIRST_TOKEN_TIMEOUT: FallbackOn.FIRST_TOKEN_TIMEOUT,
    Cause.SERVER_ERROR: FallbackOn.SERVER_ERROR,
    Cause.BROKEN_STREAM: FallbackOn.SERVER_ERROR,
    Cause.RATE_LIMITED: FallbackOn.RATE_LIMITED,
    Cause.MODEL_MISSING: FallbackOn.MODEL_MISSING,
    Cause.BUSY: FallbackOn.BUSY,
}

#: Causes after which the only target is asked once more: the host has done nothing for us yet.
REPEATED = frozenset({Cause.CONNECT_FAILURE, Cause.BUSY, Cause.RATE_LIMITED})

#: Seconds before that, when the host names none, and the most that is waited for it.
PAUSE = (0.05, 0.25)
MAX_PAUSE = 5.0

Suspect = Callable[[Destination, Entry], None]


class Asker:
    """Asks targets, and tells their standings how it went.

    Attributes:
        suspect: called when a check of the router's own should tell whether failures in a row are
            the target's fault; None lets them count at once.
        budget: of second tries.
    """

    def __init__(self, pool: Pool, limits: Limits) -> None:
        self._pool = pool
        self.limits = limits
        self.suspect: Suspect | None = None
        self.budget = Budget()

    async def begin(self, request: Request) -> Live:
        """An answer whose first token has come.

        Raises:
            Unanswered: no target gave one within the deadline.
            Refused: the request is out of the range of the target asked.
        """
        live, _ = await self._ask(request, whole=False)
        return live

    async def complete(self, request: Request) -> tuple[Live, Answer]:
        """A whole answer and where it came from; raises as `begin`."""
        live, answer = await self._ask(request, whole=True)
        assert answer is not None
        return live, answer

    async def _ask(self, request: Request, *, whole: bool) -> tuple[Live, Answer | None]:
        loop = asyncio.get_running_loop()
        entry = request.entry
        self.budget.earn()
        order = select.order(entry, loop.time(), sticky=request.sticky)
        if order is not entry.destinations:
            request.passed = _passed(entry, order, loop.time())
        most = entry.route.fallback.max_attempts or len(order)
        for position, destination in enumerate(order):
            left = min(len(order) - position, most) - 1
            found = await self._tried(request, destination, left=left, whole=whole)
            if found is not None:
                return found
            failure = request.failures[-1].failure
            # NB: a target that can't do what is asked has not been asked.
            most -= not (failure.local and failure.cause is Cause.UNSUPPORTED)
            if not _goes_on(entry, failure.cause) or loop.time() >= request.deadline or not most:
                break
        sole = len(order) == 1 and entry.route.fallback.max_attempts != 1
        pause = self._pause(request, loop.time()) if sole else None
        if pause is not None:
            await asyncio.sleep(pause)
            found = await self._tried(request, order[0], left=0, whole=whole)
            if found is not None:
                return found
        raise _unanswered(request, expired=loop.time() >= request.deadline)

    async def _tried(
        self, request: Request, destination: Destination, *, left: int, whole: bool
    ) -> tuple[Live, Answer | None] | None:
        """The answer of one target; None after noting why there is none."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        live: Live | None = None
        try:
            limit = _first_token_limit(destination, remaining=request.deadline - begun, left=left)
            if destination.full:
                limit -= await _slot(destination, within=limit)
            live = await attempt(self._pool, self.limits, request, destination, limit=limit)
            answer = await collect(live, deadline=request.deadline) if whole else None
        except AttemptFailed as failure:
            now = clock()
            request.failures.append(Failed(destination, _named(failure, destination), now - begun))
            if live is None:
                self._judge(request, destination, failure, now=now, began=begun)
            elif failure.cause is not Cause.DEADLINE:
                self.broke(request, destination, failure)
            _report(request, left=left)
            return None
        live.failures = tuple(request.failures)
        return live, answer

    def broke(self, request: Request, destination: Destination, failure: AttemptFailed) -> None:
        """An answer broke off after its first token."""
        now = asyncio.get_running_loop().time()
        policy = request.entry.route.health.passive
        if destination.standing.broke(now, policy, why=failure.message):
            self._suspect(request.entry, destination, failure, now=now)

    def _judge(
        self,
        request: Request,
        destination: Destination,
        failure: AttemptFailed,
        *,
        now: float,
        began: float,
    ) -> None:
        """Tell the target's standing, if it is to blame."""
        standing, policy = destination.standing, request.entry.route.health.passive
        cold = standing.loaded is False and destination.target.type is TargetType.OLLAMA
        if failure.local or (cold and failure.cause is Cause.FIRST_TOKEN_TIMEOUT):
            return
        if failure.cause is not Cause.CONNECT_FAILURE:
            standing.connected()
        wait = float(failure.retry_after) if failure.retry_after else None
        asked = standing.failed(
            failure.cause, now, policy, why=failure.message, retry_after=wait, began=began
        )
        if asked:
            self._suspect(request.entry, destination, failure, now=now)

    def _suspect(
        self, entry: Entry, destination: Destination, failure: AttemptFailed, *, now: float
    ) -> None:
        if self.suspect is not None:
            self.suspect(destination, entry)
        else:
            policy = entry.route.health.passive
            destination.standing.checked(now, policy, failure=failure.message)

    def _pause(self, request: Request, now: float) -> float | None:
        """Seconds until the only target is asked again; None when it is not."""
        last = request.failures[-1].failure
        if last.cause not in REPEATED or last.local:
            return None
        pause = float(last.retry_after) if last.retry_after else random.uniform(*PAUSE)
        if pause > min(MAX_PAUSE, (request.deadline - now) / 2) or not self.budget.spend():
            return None
        return pause


def _passed(entry: Entry, order: Sequence[Destination], now: float) -> str:
    """What is against the first tier, when the request begins in a later one."""
    first = entry.tiers[0]
    return "" if not order or order[0] in first else select.judge(first[0], now).value


def _goes_on(entry: Entry, cause: Cause) -> bool:
    """Whether another target is asked after this failure."""
    on, named = entry.route.fallback.on, FALLBACK.get(cause)
    return TABLE[cause].falls_over and (on is None or named is None or named in on)


def _first_token_limit(destination: Destination, *, remaining: float, left: int) -> float:
    """Seconds an attempt may take to its first token.

    Where nobody sets any, an attempt that others may follow gets half of what is left, so that a
    host that hangs can't spend the deadline of the host that would have answered; the last one gets
    all of it. A model that its host must load first gets that share too, whatever is set: loading
    takes minutes, and is no fault.
    """
    share = remaining / 2 if left else remaining
    configured = destination.waits.first_token
    if configured is None or destination.standing.loaded is False:
        return share
    return min(configured, remaining)


async def _slot(destination: Destination, *, within: float) -> float:
    """Wait until the target may take one more request; the seconds it took.

    Raises:
        AttemptFailed: it may not in time, or at all.
    """
    target, standing = destination.target, destination.standing
    message = f"it serves {target.max_concurrent} requests, as many as it may"
    if target.on_busy is OnBusy.SPILL:
        raise AttemptFailed(Cause.BUSY, message, local=True)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while destination.full:
        turn: asyncio.Future[None] = loop.create_future()
        # NB: one that has given up is still in the queue; it wakes the next in its place.
        wake = _wake(turn, standing.queue)
        standing.queue.append(wake)
        try:
            async with asyncio.timeout(begun + within - loop.time()):
                await turn
        except TimeoutError:
            _pass_on(turn, standing.queue)
            raise AttemptFailed(
                Cause.BUSY, f"{message}; nothing ended in time", local=True
            ) from None
        except asyncio.CancelledError:
            _pass_on(turn, standing.queue)
            raise
        finally:
            with contextlib.suppress(ValueError):
                standing.queue.remove(wake)
    return loop.time() - begun


def _wake(turn: "asyncio.Future[None]", queue: "deque[Callable[[], None]]") -> Callable[[], None]:
    def wake() -> None:
        if not turn.done():
            turn.set_result(None)
        elif queue:
            queue.popleft()()

    return wake


def _pass_on(turn: "asyncio.Future[None]", queue: "deque[Callable[[], None]]") -> None:
    """A turn that came to one who no longer waits is the next one's."""
    if turn.done() and not turn.cancelled() and queue:
        queue.popleft()()


def _named(failure: AttemptFailed, destination: Destination) -> AttemptFailed:
    target = destination.target
    message = f"{target.name} ({target.url}): {failure.message}"
    return AttemptFailed(
        failure.cause, message, retry_after=failure.retry_after, local=failure.local
    )


def _report(request: Request, *, left: int) -> None:
    failed = request.failures[-1]
    target, failure = failed.destination.target, failed.failure
    event = "attempt_failed"
    if left and TABLE[failure.cause].falls_over and target.type is TargetType.MLX:
        # The predecessor's name for the same thing, which people alert on.
        event = "mlx_failed_falling_back_to_ollama"
    log.warning(
        event,
        extra={
            "model": request.exchange.model,
            "target": target.name,
            "cause": failure.cause.value,
            "reason": failure.message,
        },
    )


def _unanswered(request: Request, *, expired: bool) -> Unanswered:
    model = request.exchange.model
    if not request.failures:
        message = f"model {model!r} has no target that may be asked: see POST /explain"
        return Unanswered(Problem(Code.OVERLOADED, message), ())
    last = request.failures[-1].failure
    code = Code.TIMEOUT if expired else TABLE[last.cause].code
    said = "; ".join(failed.failure.message for failed in request.failures)
    message = f"model {model!r} was not answered: {said}"
    if code is Code.TIMEOUT:
        total = request.entry.route.timeouts.total
        message = f"model {model!r} was not answered within {total:g} s: {said}"
    wait = last.retry_after or ("1" if last.cause is Cause.BUSY else None)
    problem = Problem(code, message, retry_after=wait)
    return Unanswered(problem, tuple(failed.failure for failed in request.failures))
