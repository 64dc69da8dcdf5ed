"""Who reaches the page, from where, and what a browser may do with it: plain ASGI, before NiceGUI.

    request -> another site's? 403 -> open to all? -> no session? sign in -> NiceGUI
    answer  -> a nonce on its scripts and styles, Content-Security-Policy and the like

A page that came through holds its session in `scope["state"]`. It knows no view, and no token.
"""

import re
import secrets
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import quote, urlsplit

from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_operator.admin.page.session import Sessions, id_of

#: Where one signs in and out, and where the page's own files are.
SIGN_IN, SIGN_OUT, FILES, ICON = "/sign-in", "/sign-out", "/_page/", "/favicon.ico"
#: Where NiceGUI's socket is.
SOCKET = "/_nicegui_ws/"

#: Headers of every answer of the page.
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    # NB: "no-referrer" would take the origin from our own forms too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

#: The one style attribute of NiceGUI's page, by its hash.
_HIDDEN = b64encode(sha256(b"display: none").digest()).decode()

#: What a page of NiceGUI needs, and no more: it runs what the server sends it ('unsafe-eval'), and
#: the scripts and styles in its page, which get a nonce each time. No other host is named.
POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; "
    "style-src-elem 'self' 'nonce-{nonce}'; "
    f"style-src-attr 'unsafe-hashes' 'sha256-{_HIDDEN}'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; object-src 'none'; frame-ancestors 'none'"
)
#: What the sign-in needs: it has no script at all.
PLAIN = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

_TAG = re.compile(rb"<(script|style)(?=[ >])")


class Guard:
    """What stands before the page.

    Args:
        page: NiceGUI's app.
        front: sign-in, sign-out and files, which are open to all.
        sessions: who is signed in.
    """

    def __init__(self, page: ASGIApp, front: ASGIApp, sessions: Sessions) -> None:
        self._page = page
        self._front = front
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one socket."""
        headers, path = Headers(scope=scope), scope["path"]
        if foreign(scope, headers):
            await _refuse(scope, receive, send, 403, "this request comes from another site")
        elif path.startswith((SIGN_IN, SIGN_OUT, FILES, ICON)):
            await self._front(scope, receive, _headed(send, PLAIN))
        elif (session := self._sessions.find(id_of(headers.get("cookie", "")))) is None:
            await _turned_away(scope, receive, send, headers)
        else:
            scope.setdefault("state", {})["session"] = session
            nonce = secrets.token_urlsafe(16)
            policy = POLICY.format(nonce=nonce)
            await self._page(scope, receive, _Marked(_headed(send, policy), nonce.encode()))


def foreign(scope: Scope, headers: Headers) -> bool:
    """Whether a browser says that another site sends this.

    NB: a socket is not held to the same origin by browsers, so one that names none is foreign too.
    The scheme is not compared: a proxy may have ended TLS.
    """
    origin = headers.get("origin")
    if origin is None:
        return bool(scope["type"] == "websocket")
    own: str = headers.get("host", "")
    return urlsplit(origin).netloc != own


class _Marked:
    """A sender that gives every script and style of an HTML page the nonce."""

    def __init__(self, send: Send, nonce: bytes) -> None:
        self._send = send
        self._mark = rb'<\1 nonce="' + nonce + b'"'
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        """Pass a message on; HTML is held back until it is whole."""
        if message["type"] == "http.response.start":
            if Headers(raw=message["headers"]).get("content-type", "").startswith("text/html"):
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            body = _TAG.sub(self._mark, self._body)
            MutableHeaders(raw=self._start["headers"])["content-length"] = str(len(body))
            start, self._start = self._start, None
            await self._send(start)
            message = {**message, "body": body}
        await self._send(message)


def _headed(send: Send, policy: str) -> Send:
    """A sender that adds the headers."""

    async def headed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            headers["Content-Security-Policy"] = policy
            for name, value in ALWAYS.items():
                headers[name] = value
        await send(message)

    return headed


async def _turned_away(scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
    """Send somebody without a session to the sign-in; a program or a socket gets a 401."""
    wants_page = scope["type"] == "http" and scope["method"] == "GET"
    if wants_page and "text/html" in headers.get("accept", ""):
        asked = scope["path"] + (
            f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        )
        where = SIGN_IN if asked == "/" else f"{SIGN_IN}?next={quote(asked, safe='/')}"
        answer = RedirectResponse(where, status_code=303, headers={"Cache-Control": "no-store"})
        await answer(scope, receive, _headed(send, PLAIN))
    else:
        await _refuse(scope, receive, send, 401, "sign in first")


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        # NB: before it is accepted this is a 403 to the browser.
        await send({"type": "websocket.close", "code": 1008, "reason": detail})
        return
    answer = PlainTextResponse(f"{detail}\n", status_code=status)
    await answer(scope, receive, _headed(send, PLAIN))


def matcher(*pages: str) -> Callable[[str], bool]:
    """Whether a path is the page's: one of these (patterns), NiceGUI's, or the front's."""
    own = [*pages, SIGN_IN, SIGN_OUT, ICON, f"{FILES}.*", "/_nicegui/.*", f"{SOCKET}.*"]
    pattern = re.compile("|".join(f"(?:{each})" for each in own))
    return lambda path: pattern.fullmatch(path) is not None
