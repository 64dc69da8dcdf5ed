"""Signing in and out, and the page's own files: plain HTML without a script.

    form -> token -> gate -> session -> cookie

Nobody who has no token gets further than this, so NiceGUI keeps nothing for strangers. A token is
read from the body of a form alone, and is never written into an answer.
"""

import asyncio
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from importlib.resources import files
from urllib.parse import parse_qs, quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route, Router

from llm_operator.admin.errors import AdminError
from llm_operator.admin.page.guard import FILES, ICON, SIGN_IN, SIGN_OUT
from llm_operator.admin.page.session import Session, Sessions, cookie, id_of
from llm_operator.admin.ports import Gate

#: Bytes of a form at most, of which a token of Kubernetes has about a thousand, and seconds for it.
LONGEST, SLOWEST = 16_384, 10.0

#: The page's own files and their types.
OWN = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}

STANDALONE = (
    "The token is in the file <code>admin.token</code> of the data folder, which "
    "<code>llmb up</code> names when it starts: <code>cat llmb-data/admin.token</code>"
)
CLUSTER = (
    "Any token of this cluster will do; you can see and change here what it may see and change "
    "there. For one of a service account: <code>kubectl create token NAME</code>"
)
EXPIRED = "Your token is not accepted any more. Sign in with another one."

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · LLM backends</title>
<link rel="icon" href="/_page/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/_page/style.css">
</head>
<body class="front">
<main class="front-card">
<img class="front-icon" src="/_page/icon.svg" alt="" width="40" height="40">
<h1>LLM backends</h1>
<form method="post" action="{action}">
{problem}<div class="field">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus
 spellcheck="false" aria-describedby="where{described}"{invalid}>
<p class="hint" id="where">{where}</p>
</div>
<button class="button primary wide" type="submit">Sign in</button>
</form>
</main>
</body>
</html>
"""


class Front:
    """The routes that are open to all.

    Args:
        gate: knows tokens.
        sessions: takes who signs in.
        standalone: one machine with a token file.
        ended: is told of a session that ends, to close its pages.
    """

    def __init__(
        self,
        gate: Gate,
        sessions: Sessions,
        *,
        standalone: bool,
        ended: Callable[[Session], None],
    ) -> None:
        self._gate = gate
        self._sessions = sessions
        self._where = STANDALONE if standalone else CLUSTER
        self._ended = ended
        self.routes = Router(
            [
                Route(SIGN_IN, self._form, methods=["GET"]),
                Route(SIGN_IN, self._enter, methods=["POST"]),
                Route(SIGN_OUT, self._leave, methods=["POST"]),
                Route(f"{FILES}{{name}}", _file, methods=["GET"]),
                Route(ICON, _icon, methods=["GET"]),
            ]
        )

    async def _form(self, request: Request) -> Response:
        if self._sessions.find(_key(request)) is not None:
            return RedirectResponse(_next(request), status_code=303)
        expired = request.query_params.get("expired") is not None
        answer = self._page(request, EXPIRED if expired else "", status=200)
        if _key(request):
            # NB: a page that is told of the end may get here before the answer that says so.
            answer.headers["Set-Cookie"] = cookie("", secure=request.url.scheme == "https")
        return answer

    async def _enter(self, request: Request) -> Response:
        token = _token(await _body(request))
        peer = request.client.host if request.client else ""
        try:
            caller = await self._gate.caller(token, peer=peer)
        except AdminError as error:
            answer = self._page(request, _said(error), status=error.status)
            if error.retry_after is not None:
                answer.headers["Retry-After"] = str(max(round(error.retry_after), 1))
            return answer
        before = self._sessions.peek(_key(request))
        if before is not None:
            self._end(before)
        session = self._sessions.open(token=token, name=caller.name, peer=peer)
        answer = RedirectResponse(_next(request), status_code=303)
        answer.headers["Set-Cookie"] = cookie(session.id, secure=request.url.scheme == "https")
        answer.headers["Cache-Control"] = "no-store"
        return answer

    async def _leave(self, request: Request) -> Response:
        session = self._sessions.peek(_key(request))
        if session is not None:
            self._end(session)
        answer = RedirectResponse(SIGN_IN, status_code=303)
        answer.headers["Set-Cookie"] = cookie("", secure=request.url.scheme == "https")
        answer.headers["Clear-Site-Data"] = '"storage"'
        return answer

    def _end(self, session: Session) -> None:
        self._sessions.end(session)
        self._ended(session)

    def _page(self, request: Request, problem: str, *, status: int) -> Response:
        wanted = _next(request)
        action = SIGN_IN if wanted == "/" else f"{SIGN_IN}?next={quote(wanted, safe='/')}"
        shown = f'<p class="notice bad" role="alert" id="problem">{escape(problem)}</p>\n'
        page = PAGE.format(
            action=escape(action),
            problem=shown if problem else "",
            described=" problem" if problem else "",
            invalid=' aria-invalid="true"' if problem else "",
            where=self._where,
        )
        return HTMLResponse(page, status_code=status, headers={"Cache-Control": "no-store"})


def _said(error: AdminError) -> str:
    """What to tell somebody whose token was not taken."""
    if error.status == HTTPStatus.UNAUTHORIZED:
        return "This token is not accepted: it is wrong, or it has expired."
    return f"You can't sign in now: {error.detail}."


async def _body(request: Request) -> bytes:
    """The form, up to its longest; what is longer is no form of ours."""
    raw = b""
    try:
        async with asyncio.timeout(SLOWEST):
            async for part in request.stream():
                raw += part
                if len(raw) > LONGEST:
                    return b""
    except TimeoutError:
        return b""
    return raw


def _token(body: bytes) -> str:
    found = parse_qs(body.decode("ascii", errors="replace")).get("token", [""])
    return found[0].strip()


def _key(request: Request) -> str:
    return id_of(request.headers.get("cookie", ""))


def _next(request: Request) -> str:
    """Where to go then: a path of this site and nothing else."""
    wanted = request.query_params.get("next", "/")
    safe = wanted.startswith("/") and not wanted.startswith(("//", "/\\", SIGN_IN))
    return wanted if safe and wanted.isprintable() and "\\" not in wanted else "/"


async def _icon(_: Request) -> Response:
    return _own("icon.svg")


async def _file(request: Request) -> Response:
    return _own(request.path_params["name"])


def _own(name: str) -> Response:
    if name not in OWN:
        return Response("there is no such file\n", status_code=404, media_type="text/plain")
    content = (files("llm_operator.admin.page") / name).read_bytes()
    headers = {"Cache-Control": "no-cache"}
    return Response(content, media_type=OWN[name], headers=headers)
