"""Answers that are kept for a while, and questions that are asked once at a time.

It knows neither tokens nor rights. `Kept` takes the time as an argument; `Flights` waits and keeps
no time.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """A bounded number of values, each until its time; over the bound the oldest one goes."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K, now: float) -> V | None:
        """The value, or None when there is none or its time is over."""
        found = self._values.get(key)
        if found is None:
            return None
        value, until = found
        if now < until:
            return value
        del self._values[key]
        return None

    def put(self, key: K, value: V, *, until: float) -> None:
        """Keep a value, in place of the one that was there."""
        self.drop(key)
        while len(self._values) >= self._most:
            self._values.popitem(last=False)
        self._values[key] = (value, until)

    def drop(self, key: K) -> None:
        """Keep it no more."""
        self._values.pop(key, None)


class Flights(Generic[K, V]):
    """Questions under way. Who asks what is being asked already gets the same answer or error."""

    def __init__(self) -> None:
        self._flights: dict[K, asyncio.Task[V]] = {}

    async def join(self, key: K, question: Coroutine[Any, Any, V]) -> V:
        """The answer to a question, asked here or already under way.

        A caller that is cancelled ends its own wait and nobody else's: the question goes on, so it
        owes a timeout.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(question)
            flight.add_done_callback(lambda ended: self._landed(key, ended))
        else:
            question.close()
        # NB: unlike `await flight`, this leaves it alone when the caller is cancelled.
        await asyncio.wait([flight])
        return flight.result()

    def _landed(self, key: K, flight: asyncio.Task[V]) -> None:
        del self._flights[key]
        # NB: looked at, since an error that nobody waits for any more would be logged as a fault.
        if not flight.cancelled():
            flight.exception()
