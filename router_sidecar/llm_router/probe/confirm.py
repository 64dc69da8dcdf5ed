"""The router's own check of a target: one request of one token, so that no client's request
decides.

Failures in a row may be the target's fault or their requests'. A target that answers this request
is not to blame, however many others it failed; one that does not is ejected. It finds an MLX server
whose health route answers while its generation is dead. At most one check of a standing at a time
and one every `SPACING` seconds; a wish that comes sooner waits.
"""

import asyncio
import contextlib
import logging
import math
import time
from dataclasses import dataclass

from llm_contract import PassiveCheck, TargetType
from llm_router.errors import AttemptFailed, RouterError
from llm_router.exchange import Dialect, Exchange, Kind, Message, Sampling
from llm_router.standing import Standing
from llm_router.table import Destination
from llm_router.targets import TARGETS, Decoder, decoded
from llm_router.transport import ConnectFailed, Pool, Reply, TimedOut, TransportError

log = logging.getLogger(__name__)

#: Seconds from the end of a standing's check to its next one.
SPACING = 5.0

#: Seconds a target has for its token, and one that must load the model first.
PATIENCE = 10.0
COLD_PATIENCE = 60.0

#: Tokens asked of a target whose answers have broken off after their first.
LONGER = 16

#: Seconds after the token in which the answer may still break off.
TAIL = 1.0

#: Checks at the same time.
AT_ONCE = 32

#: Bytes of an answer that are read; a token is far below it.
MAX_ANSWER = 256 * 1024

#: Statuses below 500 that do not prove that the target can answer.
NO_PROOF = frozenset({404, 408})

#: Statuses that tell of neither: credentials and rates have standings of their own.
ASIDE = frozenset({401, 403, 429})


class Undecided(Exception):
    """The check told nothing of the target."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A check that is to be made."""

    destination: Destination
    policy: PassiveCheck


class Confirmer:
    """Makes checks and tells the standings. Belongs to one event loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._wishes: dict[Standing, Wish] = {}
        self._tasks: dict[Standing, asyncio.Task[None]] = {}
        self._free = asyncio.Semaphore(AT_ONCE)

    def wish(self, destination: Destination, policy: PassiveCheck) -> None:
        """Check a target as soon as it may be checked."""
        standing = destination.standing
        # NB: a standing that ends with its request is one of a model that a client has named; no
        # client may set the router to work by naming many.
        if standing not in standing.host.standings:
            return
        self._wishes[standing] = Wish(destination, policy)
        if standing not in self._tasks:
            self._tasks[standing] = asyncio.create_task(self._serve(standing))

    async def close(self) -> None:
        """End every check."""
        tasks = list(self._tasks.values())
        self._wishes.clear()
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, standing: Standing) -> None:
        while (wish := self._wishes.pop(standing, None)) is not None:
            try:
                async with self._free:
                    await self._check(wish)
            except Exception:
                log.exception("check_failed", extra={"url": standing.host.url})
            finally:
                # NB: left at False, no failure would ever be asked about again.
                if standing.proven is False:
                    standing.proven = None
            await asyncio.sleep(SPACING)
        # NB: in the turn of that last look, so that no wish falls between the two.
        del self._tasks[standing]

    async def _check(self, wish: Wish) -> None:
        destination, standing = wish.destination, wish.destination.standing
        begun = time.monotonic_ns()
        try:
            failure = await answers(self._pool, destination, longer=standing.breaks > 0)
        except Undecided as undecided:
            log.info("check_undecided", extra=_about(destination, str(undecided)))
            return
        if failure and standing.heard > begun:
            # NB: a host that answers one request after another has let the check wait.
            log.info("check_undecided", extra=_about(destination, "it is answering others"))
            return
        # NB: a request that was answered meanwhile knows better.
        if standing.proven is False or not failure:
            now = asyncio.get_running_loop().time()
            standing.checked(now, wish.policy, failure=failure)
        state = "target_confirmed_failing" if failure else "target_confirmed_able"
        log.warning(state, extra=_about(destination, failure))


def patience(destination: Destination) -> float:
    """Seconds a target has for its token."""
    if destination.target.type is TargetType.OLLAMA and destination.standing.loaded is False:
        return COLD_PATIENCE
    return min(destination.waits.first_token or PATIENCE, PATIENCE)


def question(model: str, tokens: int) -> Exchange:
    """The request: a short answer to the shortest text."""
    turn = {"role": "user", "content": "hi"}
    return Exchange(
        kind=Kind.CHAT,
        dialect=Dialect.OPENAI,
        body={"model": model, "messages": [turn], "max_tokens": tokens, "stream": True},
        model=model,
        stream=True,
        messages=(Message(role="user", text="hi"),),
        sampling=Sampling(max_tokens=tokens),
    )


async def answers(pool: Pool, destination: Destination, *, longer: bool = False) -> str:
    """Ask a target for one token.

    Args:
        longer: for `LONGER` of them and a proper end, as its answers have broken off before.

    Returns:
        why it can't answer; "" when it can.

    Raises:
        Undecided: that was not to be learnt.
    """
    limit = patience(destination)
    try:
        return await _asked(pool, destination, limit=limit, longer=longer)
    except TimedOut:
        return f"gave the router's own check no token within {limit:g} s"
    except ConnectFailed as error:
        # NB: connections are the host's to answer for, and are counted there.
        raise Undecided(str(error)) from None
    except (TransportError, AttemptFailed) as error:
        return f"failed the router's own check: {error}"
    except RouterError as error:
        raise Undecided(str(error)) from None


async def _asked(pool: Pool, destination: Destination, *, limit: float, longer: bool) -> str:
    clock = asyncio.get_running_loop().time
    until = clock() + limit
    kind = TARGETS[destination.target.type]
    asked = question(destination.target.model, LONGER if longer else 1)
    outgoing = kind.encode(asked, destination.terms)
    reply = await pool.send(
        destination.origin,
        method=b"POST",
        path=outgoing.path,
        headers=destination.headers,
        body=outgoing.body,
        connect_timeout=min(destination.waits.connect or limit, limit),
        timeout=limit,
    )
    with contextlib.closing(reply):
        status = reply.status
        if status in ASIDE:
            raise Undecided(f"the host answered {status}")
        if 400 <= status < 500 and status not in NO_PROOF:
            return ""
        if status != 200:
            return f"answered {status} to the router's own check"
        decoder, size = outgoing.reader(), 0
        while not decoder.started:
            data = await reply.read(until - clock())
            size += len(data)
            decoded(decoder, data)
            if not decoder.started and (not data or size > MAX_ANSWER):
                return "ended its answer to the router's own check without a token"
        if longer:
            idle = destination.waits.stream_idle or PATIENCE
            return await _tail(reply, decoder, seconds=PATIENCE, idle=idle)
        return await _tail(reply, decoder, seconds=TAIL, idle=math.inf)


async def _tail(reply: Reply, decoder: Decoder, *, seconds: float, idle: float) -> str:
    """Whether an answer that has begun breaks off; one that merely goes on is none that does."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    while not decoder.done and (left := until - clock()) > 0:
        try:
            data = await reply.read(min(left, idle))
        except TimedOut:
            still = f"stood still for {idle:g} s in its answer to the router's own check"
            return still if idle <= left else ""
        decoded(decoder, data)
        if not data and not decoder.done:
            return "broke off its answer to the router's own check"
    return ""


def _about(destination: Destination, reason: str) -> dict[str, str]:
    target = destination.target
    return {"target": target.name, "url": target.url, "model": target.model, "reason": reason}
