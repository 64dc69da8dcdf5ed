"""When tokens come and how a generation fails: the part of the behaviour that both hosts share.

A host asks before its headers (`admit`), during prefill and before each token (`Pace`), and turns
the exceptions raised here into its own bytes. Nothing is written to the client here.
"""

import asyncio

from llm_operator.simulate.behaviour import Behaviour, Mode
from llm_operator.simulate.http import Exchange


class Refusal(Exception):
    """An answer of {"error": text} with a status, before anything was generated."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Failure(Exception):
    """A failure that the behaviour asks for."""


class Cut(Failure):
    """Close the connection now."""


class Status(Failure):
    """Answer with this status."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Refused(Failure):
    """Answer as if the model were not there."""


class Died(Failure):
    """Answer as if what runs the model had died."""


class ErrorLine(Failure):
    """Say in the stream that generation failed."""


async def admit(exchange: Exchange, behaviour: Behaviour, *, generates: bool) -> None:
    """Fail before anything is sent, where the behaviour says so."""
    mode = behaviour.failure
    if mode is Mode.CLOSE_WITHOUT_RESPONSE:
        raise Cut
    if mode is Mode.HANG_BEFORE_HEADERS or (generates and mode is Mode.ZOMBIE):
        await exchange.hang()
    if not generates:
        return
    if mode is Mode.STATUS:
        raise Status(behaviour.number)
    if mode is Mode.REFUSE_MODEL:
        raise Refused
    if mode is Mode.GENERATION_DIED:
        raise Died


class Pace:
    """The timing of one generation, each wait ended by the client's going."""

    def __init__(self, exchange: Exchange, behaviour: Behaviour, *, warm: bool = False) -> None:
        self._exchange = exchange
        # NB: read once, since this runs for every token of every stream.
        self._rate = behaviour.tokens_per_second
        self._failure, self._limit = behaviour.failure, behaviour.number
        loads = behaviour.fails(Mode.COLD_LOAD)
        self.prefill_seconds = 0.0 if loads and warm else behaviour.ttft_ms / 1000
        self._clock = asyncio.get_running_loop().time
        self._first = 0.0
        self._made = 0

    async def prefill(self, part: float = 1.0) -> None:
        """A share of the time to the first token."""
        await self._exchange.wait(self.prefill_seconds * part)

    async def token(self) -> None:
        """Wait until the next token is due."""
        await self._fail()
        if self._made == 0:
            self._first = self._clock()
        if self._rate:
            # NB: due times are reckoned from the first token, so that late wakes do not add up.
            due = self._first + self._made / self._rate
            await self._exchange.wait(due - self._clock())
        self._made += 1
        self._exchange.received.tokens += 1

    async def end(self) -> None:
        """After the last token: fail here if the behaviour allowed more tokens than there were."""
        self._made = max(self._made, self._limit)
        await self._fail()

    async def _fail(self) -> None:
        if self._made < self._limit:
            return
        match self._failure:
            case Mode.HANG_MID_STREAM:
                await self._exchange.hang()
            case Mode.CUT_MID_STREAM:
                raise Cut
            case Mode.ERROR_LINE:
                raise ErrorLine
