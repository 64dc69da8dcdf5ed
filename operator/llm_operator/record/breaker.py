"""When a database that failed may be tried again: one answer shared by all who ask.

Pure but for the clock and the jitter it is given; it never waits. Without it, N callers would each
spend a connect timeout on a database that one of them has just found away.
"""

import random
from collections.abc import Callable
from enum import Enum, auto


class State(Enum):
    """closed: all may try; open: nobody, until its time; half open: one is trying for all."""

    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()


class Breaker:
    """Opens at the first failure; closes at the first success.

    Who was admitted owes one of `succeed`, `fail` or `release`: a probe that never reports would
    keep all others out.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
        first: float = 0.5,
        cap: float = 5.0,
    ) -> None:
        """Start closed.

        Args:
            clock: seconds, monotonic.
            jitter: a number in [0, 1), new at each call.
            first: the longest wait after one failure; it doubles with each further one.
            cap: the longest wait.
        """
        self._clock = clock
        self._jitter = jitter
        self._first = first
        self._cap = cap
        self._failures = 0
        self._due = 0.0
        self.state = State.CLOSED

    @property
    def admits(self) -> bool:
        """Whether a caller that asks now would be let through."""
        return self.state is State.CLOSED or (
            self.state is State.OPEN and self._clock() >= self._due
        )

    def admit(self) -> bool:
        """Whether the caller may try now; when open and due, this caller becomes the probe."""
        admitted = self.admits
        if admitted and self.state is State.OPEN:
            self.state = State.HALF_OPEN
        return admitted

    def succeed(self) -> None:
        """An admitted try reached the database."""
        self._failures = 0
        self.state = State.CLOSED

    def fail(self) -> None:
        """An admitted try did not."""
        # NB: a try admitted while closed can fail long after others did; it must not push the probe
        # further away.
        if self.state is State.OPEN:
            return
        # Half of the wait is fixed, so that no wait is nothing; the other half spreads several
        # operators.
        longest = min(self._cap, self._first * 2.0 ** min(self._failures, 16))
        self._failures += 1
        self._due = self._clock() + longest * (0.5 + 0.5 * self._jitter())
        self.state = State.OPEN

    def release(self) -> None:
        """An admitted try ended without an answer, cancelled say: the next caller may probe."""
        if self.state is State.HALF_OPEN:
            self._due = self._clock()
            self.state = State.OPEN

    @property
    def wait(self) -> float:
        """Seconds a caller that was turned away should let pass; never 0."""
        if self.state is State.OPEN:
            return max(self._first, self._due - self._clock())
        return self._first
