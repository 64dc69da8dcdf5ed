"""Who is signed in: sessions in the memory of this process, and nowhere else.

A browser holds a random id in a cookie that no script can read; the token that it was given for
stays here. So a token is in no URL, no storage of the browser and no page, and ends with the
process. Pure but for drawing ids; the time is handed in.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

#: The name of the cookie.
COOKIE = "llmb_session"
#: Seconds without a page or an act after which a session ends.
IDLE = 8 * 3600.0
#: Sessions at one time; one more ends the one that was longest without an act.
MOST = 1000


class Scheme(StrEnum):
    """Which colours: those of the system, or one of the two."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One browser that is signed in.

    Attributes:
        token: as it was given.
        name: whose it is.
        peer: the address it came from.
        seen: when it last did something.
        clients: ids of NiceGUI's clients, which are its open pages.
    """

    id: str = field(repr=False)
    token: str = field(repr=False)
    name: str
    peer: str
    seen: float
    scheme: Scheme = Scheme.SYSTEM
    clients: set[str] = field(default_factory=set)


class Sessions:
    """All sessions.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float], *, most: int = MOST, idle: float = IDLE) -> None:
        self._clock = clock
        self._most = most
        self._idle = idle
        self._by_id: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def open(self, *, token: str, name: str, peer: str) -> Session:
        """A new one. The one that was longest without an act ends when there are too many."""
        self._expire()
        while len(self._by_id) >= self._most:
            # NB: whoever does something goes to the end, so the first is the one.
            del self._by_id[next(iter(self._by_id))]
        made = Session(
            id=secrets.token_urlsafe(32), token=token, name=name, peer=peer, seen=self._clock()
        )
        self._by_id[made.id] = made
        return made

    def find(self, key: str) -> Session | None:
        """The one of that id, which did something just now."""
        found = self.peek(key)
        if found is not None:
            found.seen = self._clock()
            self._by_id[key] = self._by_id.pop(key)
        return found

    def peek(self, key: str) -> Session | None:
        """The one of that id, without prolonging it."""
        found = self._by_id.get(key)
        if found is not None and self._clock() - found.seen > self._idle:
            del self._by_id[key]
            return None
        return found

    def end(self, session: Session) -> None:
        """Forget it."""
        self._by_id.pop(session.id, None)

    def _expire(self) -> None:
        limit = self._clock() - self._idle
        for one in [one for one in self._by_id.values() if one.seen < limit]:
            del self._by_id[one.id]


def id_of(cookies: str) -> str:
    """The session's id in a Cookie header; "" when there is none."""
    # NB: http.cookies gives up on all of them when one, of whatever program, is not well formed.
    for pair in cookies.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def cookie(key: str, *, secure: bool) -> str:
    """A Set-Cookie header; of "" one that takes the cookie away."""
    parts = [f"{COOKIE}={key}", "Path=/", "HttpOnly", "SameSite=Strict"]
    if secure:
        parts.append("Secure")
    if not key:
        parts.append("Max-Age=0")
    return "; ".join(parts)
