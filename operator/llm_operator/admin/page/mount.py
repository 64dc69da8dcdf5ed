"""The page on the app of the API: NiceGUI, behind a guard, for the paths that are the page's.

    app -> Pages (a route) -> Guard -> sign-in, or NiceGUI -> the view of a path

Every other path stays the API's, with its own 404 and 405. NiceGUI is one to a process, and so is
the page.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files

import yaml
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from nicegui import Client, core, ui
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from llm_operator.admin.errors import Unauthorized
from llm_operator.admin.page import (
    backend,
    comparing,
    detail,
    edit,
    fleet,
    guard,
    history,
    listing,
    trying,
)
from llm_operator.admin.page.form import Hints
from llm_operator.admin.page.pulse import Pulse
from llm_operator.admin.page.rows import Query
from llm_operator.admin.page.session import Session, Sessions, cookie, id_of
from llm_operator.admin.page.signin import Front
from llm_operator.admin.page.visit import Parts, Visit
from llm_operator.admin.wiring import Admin

logger = logging.getLogger(__name__)

#: The paths of views, as patterns.
PATHS = ("/", "/new", "/compare", "/routers", r"/backends/[^/]+(/edit|/history|/try)?")

#: Seconds that a page may take until it is sent, and that it is kept for a browser that is gone.
RESPONSE, RECONNECT = 20.0, 20.0

View = Callable[[Visit], Awaitable[None]]


def mount(app: FastAPI, admin: Admin) -> None:
    """Serve the page at / of the app.

    It may be called once in a process, before the app serves.
    """
    sessions = Sessions(time.monotonic)
    parts = Parts(
        admin=admin,
        sessions=sessions,
        pulse=Pulse(lambda within: admin.store.changed(within=within)),
        hints=hints(),
    )
    _views(parts)
    # NB: no bar at the top at each request that a script makes.
    core.app.config.quasar_config["loadingBar"] = {"skipHijack": True}
    ui.run_with(
        app,
        title="LLM backends",
        dark=None,
        language="en-US",
        tailwind=False,
        reconnect_timeout=RECONNECT,
        binding_refresh_interval=None,
        gzip_middleware_factory=None,
        show_welcome_message=False,
    )
    _own_only(sessions)
    core.app.on_startup(parts.pulse.start)
    core.app.on_shutdown(parts.pulse.stop)
    front = Front(admin.gate, sessions, standalone=admin.standalone, ended=_closed)
    guarded = guard.Guard(core.app, front.routes, sessions)
    # NB: NiceGUI mounts itself for every path, which would take the API's 404 and 405 from it.
    app.router.routes.pop()
    app.router.routes.append(Pages(GZipMiddleware(guarded, minimum_size=1000)))


class Pages(BaseRoute):
    """The one route to the page: its own paths, unchanged."""

    def __init__(self, page: ASGIApp) -> None:
        self._page = page
        self._ours = guard.matcher(*PATHS)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for the page."""
        ours = scope["type"] in ("http", "websocket") and self._ours(scope["path"])
        return (Match.FULL, {"endpoint": self._page}) if ours else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        await self._page(scope, receive, send)


def hints() -> Hints:
    """What fields mean, from the CRD."""
    text = (files("llm_operator.crds") / "llmbackends.yaml").read_text()
    # NB: the loader in C takes a tenth of the time.
    return Hints.of(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _views(parts: Parts) -> None:
    """Register the views at their paths."""

    @_at("/")
    async def _(request: Request, client: Client) -> Response | None:
        query = Query.of(request.query_params)
        return await _drawn(parts, request, client, lambda visit: listing.show(visit, query))

    @_at("/new")
    async def _(request: Request, client: Client) -> Response | None:
        return await _drawn(parts, request, client, edit.make)

    @_at("/compare")
    async def _(request: Request, client: Client) -> Response | None:
        asked = comparing.Asked.of(request.query_params)
        return await _drawn(parts, request, client, lambda visit: comparing.show(visit, asked))

    @_at("/routers")
    async def _(request: Request, client: Client) -> Response | None:
        return await _drawn(parts, request, client, fleet.show)

    for below, show in {
        "": detail.show,
        "/edit": edit.show,
        "/history": history.show,
        "/try": trying.show,
    }.items():
        _of_backend(parts, below, show)


def _of_backend(parts: Parts, below: str, show: Callable[..., Awaitable[None]]) -> None:
    @_at(f"/backends/{{key}}{below}")
    async def _(request: Request, client: Client, key: str) -> Response | None:
        async def view(visit: Visit) -> None:
            standing = await backend.found(visit, key)
            if standing is not None:
                await show(visit, standing)

        return await _drawn(parts, request, client, view)


def _at(path: str) -> Callable[..., object]:
    page: Callable[..., object] = ui.page(path, response_timeout=RESPONSE)
    return page


async def _drawn(parts: Parts, request: Request, client: Client, view: View) -> Response | None:
    """A page with the view; for somebody whose token is not accepted any more, the sign-in."""
    session: Session = request.state.session
    try:
        await view(Visit(parts, session, client))
    except Unauthorized:
        answer = RedirectResponse(f"{guard.SIGN_IN}?expired=1", status_code=303)
        answer.headers["Set-Cookie"] = cookie("", secure=request.url.scheme == "https")
        return answer
    return None


def _closed(session: Session) -> None:
    """Take the open pages of a session that has ended to the sign-in."""
    for key in tuple(session.clients):
        if (client := Client.instances.get(key)) is not None:
            client.open(guard.SIGN_IN)


def _own_only(sessions: Sessions) -> None:
    """Let a socket speak for the pages of its own session alone.

    NB: to NiceGUI, who knows a page's random id may speak for it; here the cookie has to be that of
    whoever was sent the page.
    """
    for name, inner in dict(core.sio.handlers["/"]).items():
        if name in ("handshake", "event", "javascript_response", "ack", "log"):
            core.sio.on(name, _owned(inner, sessions))


def _owned(inner: Callable[..., object], sessions: Sessions) -> Callable[..., object]:
    async def checked(sid: str, message: dict[str, object]) -> object:
        environ = core.sio.get_environ(sid) or {}
        session = sessions.peek(id_of(environ.get("HTTP_COOKIE", "")))
        if session is None or message.get("client_id") not in session.clients:
            return False
        answer = inner(sid, message)
        return await answer if isinstance(answer, Awaitable) else answer

    return checked
