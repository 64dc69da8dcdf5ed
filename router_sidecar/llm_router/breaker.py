"""The circuit breaker: failures in a row -> ejected for a while -> one trial -> closed, or ejected
for longer.

Pure values: every event gives a new breaker, and time is an argument, in seconds of one monotonic
clock. Which failures count is for `standing` to say.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from llm_contract import PassiveCheck


class Phase(StrEnum):
    """Closed lets everything through, open nothing, half-open one trial."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """One breaker at one moment.

    Attributes:
        failures: in a row.
        ejections: in a row, without a success between them.
        until: when the ejection ends; 0 when there is none.
        trial: the number of the request that is out and decides; 0 for none.
    """

    failures: int = 0
    ejections: int = 0
    until: float = 0.0
    trial: int = 0

    def phase(self, now: float) -> Phase:
        """Where it stands."""
        if not self.until:
            return Phase.CLOSED
        return Phase.OPEN if now < self.until else Phase.HALF_OPEN

    def admits(self, now: float) -> bool:
        """Whether a request may be sent in its ordinary turn."""
        return not self.until or (now >= self.until and not self.trial)

    def failed(
        self, now: float, policy: PassiveCheck, *, proven: bool = True, began: float | None = None
    ) -> "Breaker":
        """A failure that counts.

        Args:
            proven: the failures are the target's own and not their requests'; without it no number
                of them ejects.
            began: when the request was sent; None for just now.
        """
        failures = self.failures + 1
        if self.until:
            # NB: a request that was sent before the ejection ended says nothing of the time after.
            after = (now if began is None else began) >= self.until
            return self._ejected(failures, now, policy) if after else self
        if failures >= policy.failures and proven:
            return self._ejected(failures, now, policy)
        return replace(self, failures=failures)

    def _ejected(self, failures: int, now: float, policy: PassiveCheck) -> "Breaker":
        # NB: the exponent is bounded, so that a target down for a week can't overflow.
        seconds = min(policy.eject * 2 ** min(self.ejections, 16), policy.max_eject)
        return Breaker(failures, self.ejections + 1, now + seconds)

    def tried(self, now: float, number: int) -> "Breaker":
        """A request is sent; in the half-open phase the first one is the trial."""
        if self.until and now >= self.until and not self.trial:
            return replace(self, trial=number)
        return self

    def released(self, number: int | None = None) -> "Breaker":
        """The request of this number ended; if it was the trial, another may be.

        NB: None takes back whichever trial there is.
        """
        if self.trial and number in (None, self.trial):
            return replace(self, trial=0)
        return self


#: Nothing against the target. A success gives this one.
CLOSED = Breaker()
