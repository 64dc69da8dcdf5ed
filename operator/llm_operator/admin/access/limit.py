"""How many wrong tokens are too many: (what came so far, now) -> what came so far, and a wait.

Pure values; time is an argument, in seconds of one monotonic clock. It knows no token.
"""

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a limit begins and how long it lasts, in seconds.

    Attributes:
        most: so many wrong tokens within `within` begin a limit.
        first: how long the first limit lasts; each further one lasts twice as long.
        longest: what no limit exceeds.
        calm: after so long without a limit the next one is a first one again.
    """

    most: int
    within: float
    first: float
    longest: float
    calm: float


#: Of one address.
PEER = Policy(most=10, within=60, first=10, longest=300, calm=900)
#: Of all addresses together. NB: short, because it bars whoever has not been here yet.
ALL = Policy(most=200, within=60, first=5, longest=30, calm=300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The wrong tokens of one address, or of all.

    Attributes:
        times: when the last ones came, that began no limit yet; oldest first.
        limits: begun in a row.
        until: when the last limit ends.
    """

    times: tuple[float, ...] = ()
    limits: int = 0
    until: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until its limit ends; 0 where there is none."""
        return max(0.0, self.until - now)

    def counted(self, now: float, policy: Policy) -> "Tally":
        """With one more wrong token."""
        if self.wait(now):
            # It was on its way when the limit began, and makes it no longer.
            return self
        limits = self.limits if now < self.until + policy.calm else 0
        times = (*(time for time in self.times if time > now - policy.within), now)
        if len(times) < policy.most:
            return Tally(times=times, limits=limits, until=self.until)
        # NB: the exponent is bounded, so that years of wrong tokens can't overflow.
        seconds = min(policy.first * 2.0 ** min(limits, 16), policy.longest)
        return Tally(limits=limits + 1, until=now + seconds)


def origin(peer: str) -> str:
    """Whom an address stands for: itself, or for IPv6 its /64, which one machine has to itself."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
