"""What a simulated host saw: the last requests, and how each ended.

Tests and people read it; the hosts write it. It never decides anything. Headers are kept as they
came, credentials too, because a test must be able to say that none was forwarded.
"""

from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from enum import StrEnum

KEPT = 1000


class Outcome(StrEnum):
    """How a request ended."""

    OPEN = "open"
    #: A complete response was sent, an error status included.
    ANSWERED = "answered"
    #: The client closed the connection first.
    CANCELLED = "cancelled"
    #: The simulator broke it off, as its behaviour says.
    FAILED = "failed"


@dataclass(slots=True)
class Received:
    """One request: what came, and what became of it. `body` is parsed if it is JSON."""

    method: str
    path: str
    headers: dict[str, str]
    body: object = None
    outcome: Outcome = Outcome.OPEN
    #: HTTP status sent; 0 while none has been.
    status: int = 0
    #: Tokens generated, whether or not anyone was there to read them.
    tokens: int = 0


@dataclass(slots=True)
class Journal:
    """The last KEPT requests, and counts over all of them."""

    requests: deque[Received] = field(default_factory=lambda: deque(maxlen=KEPT))
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, received: Received) -> Received:
        self.requests.append(received)
        self.counts["received"] += 1
        self.counts[Outcome.OPEN] += 1
        return received

    def end(self, received: Received, outcome: Outcome) -> None:
        """The first outcome counts: what follows a cancellation does not undo it."""
        if received.outcome is not Outcome.OPEN:
            return
        received.outcome = outcome
        self.counts[Outcome.OPEN] -= 1
        self.counts[outcome] += 1

    def clear(self) -> None:
        """Forget what has ended; what is still open ends as always."""
        still_open = [entry for entry in self.requests if entry.outcome is Outcome.OPEN]
        self.requests.clear()
        self.requests.extend(still_open)
        self.counts.clear()
        self.counts["received"] = self.counts[Outcome.OPEN] = len(still_open)

    def document(self, last: int = KEPT) -> dict[str, object]:
        """As JSON: the counts, and the newest requests, oldest of them first."""
        counts = {"received": self.counts["received"]}
        counts |= {str(outcome): self.counts[outcome] for outcome in Outcome}
        newest = list(self.requests)[-last:] if last > 0 else []
        return {"counts": counts, "requests": [asdict(entry) for entry in newest]}
