"""One open page of somebody who is signed in: who they are now, what goes wrong, when to look anew.

    view -> visit.caller -> gate        view -> visit.act -> a service -> or the sentence why not

The token is asked about at every call, so a page of somebody whose token was revoked ends at its
next breath. A visit holds nothing of what is shown.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nicegui import Client, background_tasks, ui

from llm_operator.admin.errors import AdminError, Unauthorized
from llm_operator.admin.model import Caller
from llm_operator.admin.page.form import Hints
from llm_operator.admin.page.guard import SIGN_IN
from llm_operator.admin.page.pulse import Pulse
from llm_operator.admin.page.rows import Rows
from llm_operator.admin.page.session import Session, Sessions
from llm_operator.admin.wiring import Admin

logger = logging.getLogger(__name__)

#: What is said where something failed that nobody foresaw.
UNFORESEEN = "Something went wrong here; the log of the server says what. Try it again."

Act = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What all pages share."""

    admin: Admin
    sessions: Sessions
    pulse: Pulse
    hints: Hints
    rows: Rows = field(default_factory=Rows)


class Visit:
    """One open page."""

    def __init__(self, parts: Parts, session: Session, client: Client) -> None:
        self.parts = parts
        self.session = session
        self.client = client
        #: Where a failure is told; a frame puts its own here.
        self.complain: Callable[[str, Mapping[str, object]], None] = lambda *_: None
        session.clients.add(client.id)
        client.on_delete(lambda: session.clients.discard(client.id))

    @property
    def admin(self) -> Admin:
        """The services."""
        return self.parts.admin

    async def caller(self) -> Caller:
        """Who they are, asked now.

        Raises:
            Unauthorized: nobody any more; the session has ended.
            TooMany, Away: it can't be said now.
        """
        if self.parts.sessions.peek(self.session.id) is not self.session:
            raise Unauthorized("the session has ended")
        try:
            return await self.admin.gate.caller(self.session.token, peer=self.session.peer)
        except Unauthorized:
            self.parts.sessions.end(self.session)
            raise

    async def act(self, work: Act) -> bool:
        """Do something that may fail, and say so where it did; whether it was done."""
        try:
            await work()
        except Unauthorized:
            self.leave()
        except AdminError as error:
            self.complain(error.detail, error.more)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("page_failed", extra={"path": self.client.page.path})
            self.complain(UNFORESEEN, {})
        else:
            return True
        return False

    def acting(self, work: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """A handler of an event that does this by `act`."""

        async def handler(*arguments: Any) -> None:
            self.parts.sessions.find(self.session.id)
            await self.act(lambda: work(*arguments))

        return handler

    def leave(self) -> None:
        """Go to the sign-in, since the token is not accepted any more."""
        self.client.open(f"{SIGN_IN}?expired=1")

    def go(self, path: str) -> None:
        """Go to another page."""
        self.client.open(path)

    def follow(self, look: Act) -> None:
        """Look anew at each beat, as long as the page is open."""

        async def run() -> None:
            while not self.client.is_deleted:
                await self.parts.pulse.next()
                if self.client.has_socket_connection:
                    with self.client.content:
                        await self.act(look)

        task = background_tasks.create(run(), name=f"follow {self.client.id}")
        self.client.on_delete(lambda: task.cancel() and None)

    def title(self, text: str) -> None:
        """Have this title."""
        ui.page_title(f"{text} · LLM backends")
