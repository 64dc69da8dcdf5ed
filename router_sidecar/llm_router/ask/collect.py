"""A whole answer, joined from its events.

Its client has nothing before the end, so a stream that breaks half-way costs nothing: another
target is asked.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from llm_router.ask.live import Live
from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import Answer, Call, Delta, Event, Finish

#: Characters of a whole answer that are collected; far above any model's context.
MAX_ANSWER = 64 * 1024 * 1024


class Gathered:
    """The events so far."""

    __slots__ = ("answer", "calls", "extras", "size", "texts", "thoughts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[Call] = []
        self.extras: dict[str, Any] = {}
        self.size = 0
        self.answer: Answer | None = None

    def take(self, events: list[Event]) -> None:
        """More of them.

        Raises:
            AttemptFailed: there are more than an answer can have.
        """
        for event in events:
            if isinstance(event, Delta):
                self._delta(event)
            elif isinstance(event, Finish):
                if event.extras:
                    _join(self.extras, event.extras)
                told = "".join(self.texts), "".join(self.thoughts), tuple(self.calls)
                self.answer = Answer(*told, event, self.extras or None)
        if self.size > MAX_ANSWER:
            raise AttemptFailed(Cause.BROKEN_STREAM, "the answer has no end")

    def _delta(self, delta: Delta) -> None:
        if delta.text:
            self.texts.append(delta.text)
        if delta.thinking:
            self.thoughts.append(delta.thinking)
        if delta.calls:
            self.calls.extend(delta.calls)
        if delta.extras:
            _join(self.extras, delta.extras)
        self.size += len(delta.text) + len(delta.thinking)


async def collect(live: Live, *, deadline: float) -> Answer:
    """The whole answer; the live one is closed when this returns or raises.

    Args:
        deadline: on the loop's clock.

    Raises:
        AttemptFailed: it broke, or the deadline came first.
    """
    gathered = Gathered()
    try:
        gathered.take(live.events)
        if gathered.answer is None:
            await _rest(live, gathered, deadline=deadline)
    finally:
        live.close()
    assert gathered.answer is not None
    return gathered.answer


async def _rest(live: Live, gathered: Gathered, *, deadline: float) -> None:
    over = live.pipe(gathered.take)
    late = asyncio.get_running_loop().call_at(deadline, _expire, over)
    try:
        failure = await over
    finally:
        late.cancel()
    if failure is not None:
        raise failure


def _expire(over: "asyncio.Future[AttemptFailed | None]") -> None:
    if not over.done():
        over.set_result(AttemptFailed(Cause.DEADLINE, "its answer was not complete in time"))


def _join(extras: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Lists that come in pieces, as logprobs do, are one list in a whole answer."""
    for name, value in more.items():
        before = extras.get(name)
        both = isinstance(before, list) and isinstance(value, list)
        extras[name] = before + value if both else value
