"""How many requests may be sent to a host a second time.

A token bucket: every request adds a fifth of a token, every second try takes one, so at most 20 %
of recent requests are repeats and a host that is overloaded is not buried under them. Going on to
another host is no repeat; that is bounded by each host being asked once.
"""

#: Tokens for each request, and the most that are kept: a quiet router may still repeat some.
SHARE = 0.2
MOST = 10.0


class Budget:
    """The bucket of one router.

    Attributes:
        refused: repeats that were not allowed, so far.
    """

    __slots__ = ("_tokens", "refused")

    def __init__(self) -> None:
        self._tokens = MOST
        self.refused = 0

    def earn(self) -> None:
        """A request has come."""
        if self._tokens < MOST:
            self._tokens += SHARE

    def spend(self) -> bool:
        """Whether one more repeat may be sent; counts it."""
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        return True
