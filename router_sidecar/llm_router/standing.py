"""What this router knows of the hosts and targets of its table, beyond their configuration.

One `Host` a URL and one `Standing` a (URL, upstream model): they outlive a swap of the table, so
that a new configuration forgets nothing it need not. Requests report how attempts went, the prober
what it found; `select` reads. Nothing a client sends can eject a target: failed connections are the
host's own, and any other failures count only when a check of the router's own failed as well. Lives
in one event loop; does no I/O.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from llm_contract import PassiveCheck
from llm_router.breaker import CLOSED, Breaker
from llm_router.errors import Cause

#: Connections refused in a row that eject a host: a dead one should cost few requests.
DEAD_AFTER = 2

#: Seconds that a host's «not found» is believed, and its refusal of our credentials.
MISSING_SECONDS = 60.0
REFUSED_SECONDS = 30.0

#: Seconds a host that is busy gets when it names no time, and the most it can ask for.
COOL_SECONDS = 1.0
MAX_COOL_SECONDS = 60.0

#: What counts against a target, once it is proven to be the target's own fault.
COUNTED = frozenset(
    {Cause.NO_REPLY, Cause.FIRST_TOKEN_TIMEOUT, Cause.SERVER_ERROR, Cause.BROKEN_STREAM}
)

#: Numbers of attempts, so that only the trial itself takes its place back.
_NUMBERS = itertools.count(1)


@dataclass(slots=True, eq=False)
class Host:
    """One server, by its URL.

    Attributes:
        breaker: of connections that could not be made.
        healthy: what the last probes say; None before the first, or where none are made.
        reason: what is against it, in words.
        probed_at: Unix seconds of the last probe; 0 before.
        opened: how often its breaker has opened so far.
        closed: how often it has closed again.
        standings: of the models on it.
    """

    url: str
    breaker: Breaker = CLOSED
    healthy: bool | None = None
    reason: str = ""
    probed_at: float = 0.0
    opened: int = 0
    closed: int = 0
    standings: list["Standing"] = field(default_factory=list)

    def probed(self, now: float, *, healthy: bool, reason: str = "") -> None:
        """The prober has judged it."""
        self.probed_at = time.time()
        changed = self.healthy is not healthy
        self.healthy, self.reason = healthy, reason
        if healthy:
            _turn(self, CLOSED)
        for standing in self.standings:
            if healthy:
                standing.settle(now)
            elif changed:
                standing.doubt(reason)

    def unprobed(self, now: float) -> None:
        """No probe looks at it any more, so what the last ones said is no longer known."""
        self.healthy = None
        for standing in self.standings:
            standing.seen(now, loaded=None, required=False)

    def refused(
        self, now: float, policy: PassiveCheck, *, why: str, began: float | None = None
    ) -> None:
        """No connection to it was made, by an attempt that began then."""
        fast = replace(policy, failures=min(policy.failures, DEAD_AFTER))
        _turn(self, self.breaker.failed(now, fast, began=began))
        self.reason = why
        for standing in self.standings:
            standing.doubt(why)


@dataclass(slots=True, eq=False)
class Standing:
    """One model on one host.

    Attributes:
        breaker: of requests that got no proper answer.
        proven: whether failures in a row are known to be the target's own: None while nothing asks,
            False while a check is under way, True after one that failed.
        cooling_until: it said 429 or 503.
        missing_until: it said that it has no such model.
        refused_until: it did not take our credentials.
        missing: the prober did not find the model among the host's.
        loaded: whether the model is in memory; None where the host does not tell.
        breaks: answers in a row that broke off after their first token.
        active: requests of this router that it is answering.
        queue: requests that wait for one of those to end; each entry wakes one.
        since: Unix seconds of the last change of what a person would call its state.
        why: the last failure, in words.
        tokens_per_second: decode speed, smoothed over recent answers; 0 before.
        first_token_seconds: from a request to its first token, smoothed likewise; 0 before.
        opened: how often its breaker has opened so far.
        closed: how often it has closed again.
        heard: monotonic nanoseconds of its last token.
    """

    host: Host
    model: str
    breaker: Breaker = CLOSED
    proven: bool | None = None
    cooling_until: float = 0.0
    missing_until: float = 0.0
    refused_until: float = 0.0
    missing: bool = False
    loaded: bool | None = None
    breaks: int = 0
    active: int = 0
    queue: deque[Callable[[], None]] = field(default_factory=deque)
    since: float = 0.0
    why: str = ""
    tokens_per_second: float = 0.0
    first_token_seconds: float = 0.0
    opened: int = 0
    closed: int = 0
    heard: int = 0
    #: False only when nothing at all is against it: the one test of an ordinary request.
    doubted: bool = False

    def begun(self, now: float) -> int:
        """An attempt is sent. Every one must be followed by `ended`.

        Returns:
            its number, which `ended` is to be given; 0 when it can't be a trial.
        """
        self.active += 1
        if not self.doubted:
            return 0
        number = next(_NUMBERS)
        self.breaker = self.breaker.tried(now, number)
        self.host.breaker = self.host.breaker.tried(now, number)
        return number

    def ended(self, number: int | None = None) -> None:
        """The attempt is over, however; another may be the trial if this one was it."""
        self.active -= 1
        if self.queue:
            self.queue.popleft()()
        if self.doubted:
            self.breaker = self.breaker.released(number)
            self.host.breaker = self.host.breaker.released(number)

    def connected(self) -> None:
        """The host took a connection."""
        if self.host.breaker is not CLOSED:
            _turn(self.host, CLOSED)

    def answered(self) -> None:
        """It gave a token, which is the only proof that it can."""
        if self.doubted:
            _turn(self, CLOSED)
            _turn(self.host, CLOSED)
            self.proven, self.why = None, ""
            self.cooling_until = self.missing_until = self.refused_until = 0.0
            self.missing = False
            self.host.healthy = None if self.host.healthy is False else self.host.healthy
            self.doubted = False
            self.since = time.time()

    def failed(
        self,
        cause: Cause,
        now: float,
        policy: PassiveCheck,
        *,
        why: str,
        retry_after: float | None = None,
        began: float | None = None,
    ) -> bool:
        """An attempt failed.

        Args:
            began: when it was sent; None for just now.

        Returns:
            whether a check of the router's own should tell whose fault it was.
        """
        match cause:
            case Cause.CONNECT_FAILURE:
                self.host.refused(now, policy, why=why, began=began)
            case Cause.BUSY | Cause.RATE_LIMITED:
                seconds = COOL_SECONDS if retry_after is None else retry_after
                self.cooling_until = now + min(seconds, MAX_COOL_SECONDS)
            case Cause.MODEL_MISSING:
                self.missing_until = now + MISSING_SECONDS
            case Cause.MISCONFIGURED:
                self.refused_until = now + REFUSED_SECONDS
            case _ if cause in COUNTED:
                proven = bool(self.proven)
                _turn(self, self.breaker.failed(now, policy, proven=proven, began=began))
            case _:
                return False
        self.doubt(why)
        if cause not in COUNTED or self.proven is not None:
            return False
        self.proven = False
        return True

    def broke(self, now: float, policy: PassiveCheck, *, why: str) -> bool:
        """An answer broke off after its first token; returns as `failed`.

        NB: the token of each such answer closes the breaker, so these are counted apart.
        """
        self.breaks += 1
        if not self.breaker.until:
            self.breaker = replace(self.breaker, failures=self.breaks - 1)
        return self.failed(Cause.BROKEN_STREAM, now, policy, why=why)

    def finished(self) -> None:
        """An answer came to its proper end."""
        self.breaks = 0

    def checked(self, now: float, policy: PassiveCheck, *, failure: str) -> None:
        """The router's own check is over.

        Args:
            failure: why it failed; "" when the target answered, and then the failures in a row were
                those of their requests.
        """
        if not failure:
            self.proven = None
            if not self.breaker.until:
                self.breaker = CLOSED
            self.settle(now)
            return
        self.proven = True
        if self.breaker.failures >= policy.failures:
            _turn(self, self.breaker.failed(now, policy))
        self.doubt(failure)

    def probed(self, now: float, *, missing: bool, loaded: bool | None) -> None:
        """The prober has looked at this model on its host."""
        if missing and not self.missing:
            self.doubt("the host does not list the model")
        self.missing, self.loaded = missing, loaded
        if not missing:
            # NB: the list is newer than what an answer said.
            self.missing_until = 0.0
        self.settle(now)

    def seen(self, now: float, *, loaded: bool | None, required: bool) -> None:
        """The prober has looked at the host, and was told nothing of whether it has this model.

        Args:
            required: it would matter.
        """
        self.loaded = loaded
        self.missing = self.missing and required
        self.settle(now)

    def settle(self, now: float) -> None:
        """Take back the doubt when its last reason is gone."""
        if self.doubted and self.breaker == CLOSED and self.host.breaker == CLOSED:
            timed = max(self.cooling_until, self.missing_until, self.refused_until)
            if timed <= now and not self.missing and self.host.healthy is not False:
                self.doubted, self.why, self.proven = False, "", None
                self.since = time.time()

    def doubt(self, why: str) -> None:
        """Something is against it."""
        if not self.doubted:
            self.since = time.time()
        self.doubted, self.why = True, why


def _turn(holder: Host | Standing, breaker: Breaker) -> None:
    """Give it this breaker, and count what that changes."""
    before = holder.breaker.until
    if breaker.until > before:
        holder.opened += 1
    elif before and not breaker.until:
        holder.closed += 1
    holder.breaker = breaker


class Standings:
    """Every standing of a router, by URL and upstream model."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}
        self._standings: dict[tuple[str, str], Standing] = {}

    def of(self, url: str, model: str) -> Standing:
        """The one standing of a model on a host; a new one begins as its host stands."""
        found = self._standings.get((url, model))
        if found is None:
            found = self._standings[url, model] = self.passing(url, model)
            found.host.standings.append(found)
        return found

    def passing(self, url: str, model: str) -> Standing:
        """A standing that is forgotten with its request, on a host that is not."""
        host = self._hosts.get(url)
        if host is None:
            host = self._hosts[url] = Host(url)
        made = Standing(host, model)
        if host.healthy is False or host.breaker.until:
            made.doubt(host.reason)
        return made

    def host(self, url: str) -> Host | None:
        """The host of this URL; None when nothing is known of it."""
        return self._hosts.get(url)

    def hosts(self) -> list[Host]:
        """All hosts."""
        return list(self._hosts.values())

    def keep(self, used: Iterable[Standing]) -> None:
        """Forget what no table uses any more."""
        kept = {id(standing) for standing in used}
        self._standings = {k: s for k, s in self._standings.items() if id(s) in kept or s.active}
        for host in self._hosts.values():
            host.standings = []
        for standing in self._standings.values():
            standing.host.standings.append(standing)
        self._hosts = {url: host for url, host in self._hosts.items() if host.standings}
