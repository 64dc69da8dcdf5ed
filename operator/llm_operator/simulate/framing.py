"""Response bytes as each real host writes them: Go's net/http with gin, and Python's http.server.

Pure functions from a status and headers to bytes. The order and the case of the headers, what is
chunked and what has a length are the real servers' own.
"""

import html
import json
import re
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any

from llm_operator.simulate.http import Request

Headers = tuple[tuple[str, str], ...]

#: net/http sends a longer body in chunks, because it has to flush before it knows the length.
GO_BUFFER = 2048
LAST_CHUNK = b"0\r\n\r\n"

_TEXTS = {int(code): texts for code, texts in BaseHTTPRequestHandler.responses.items()}
#: What encoding/json escapes so that its output is safe inside HTML.
_UNSAFE = re.compile("[<>&\u2028\u2029]")
_GO_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def go_json(value: Any) -> bytes:
    """JSON as Go's encoding/json writes it."""
    text = _GO_JSON.encode(value)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def go_reply(request: Request, status: int, headers: Headers, body: bytes) -> bytes:
    """A whole response."""
    if request.version == "HTTP/1.1" and len(body) > GO_BUFFER and request.method != "HEAD":
        head = go_stream_head(request, status, headers)
        return head + go_chunk(request, body) + LAST_CHUNK
    head = _go_head(request, status, headers, ("Content-Length", str(len(body))))
    return head if request.method == "HEAD" else head + body


def go_stream_head(request: Request, status: int, headers: Headers) -> bytes:
    """The head of a response of unknown length."""
    chunked = ("Transfer-Encoding", "chunked")
    return _go_head(request, status, headers, chunked if request.version == "HTTP/1.1" else None)


def go_chunk(request: Request, data: bytes) -> bytes:
    """Data as one chunk; HTTP/1.0 knows none."""
    return b"%x\r\n%b\r\n" % (len(data), data) if request.version == "HTTP/1.1" else data


def go_end(request: Request) -> bytes:
    """What ends a body of unknown length; in HTTP/1.0 the connection's end does."""
    return LAST_CHUNK if request.version == "HTTP/1.1" else b""


def go_bad_request(reason: str = "") -> bytes:
    """The response to bytes that are no request."""
    text = f"400 Bad Request{': ' if reason else ''}{reason}"
    headers = (("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close"))
    return _head("HTTP/1.1 400 Bad Request", headers) + text.encode()


def _go_head(
    request: Request, status: int, headers: Headers, length: tuple[str, str] | None
) -> bytes:
    # NB: net/http sorts the handler's headers and writes its own after them, in this order.
    own = [("Date", formatdate(usegmt=True)), length]
    closes = request.closes() and request.version == "HTTP/1.1"
    close = ("Connection", "close") if closes else None
    own.insert(1 if length == ("Transfer-Encoding", "chunked") else 2, close)
    known = (pair for pair in own if pair)
    return _head(f"{request.version} {status} {_go_phrase(status)}", (*sorted(headers), *known))


def _go_phrase(status: int) -> str:
    return _TEXTS.get(status, (f"status code {status}", ""))[0]


def python_head(status: int, headers: Headers, phrase: str | None = None) -> bytes:
    """The head that BaseHTTPRequestHandler writes in its default HTTP/1.0."""
    server = f"{BaseHTTPRequestHandler.server_version} {BaseHTTPRequestHandler.sys_version}"
    standard = (("Server", server), ("Date", formatdate(usegmt=True)))
    text = _TEXTS.get(status, ("", ""))[0] if phrase is None else phrase
    return _head(f"HTTP/1.0 {status} {text}", (*standard, *headers))


def python_error(status: int, message: str, *, method: str = "GET") -> bytes:
    """The page that BaseHTTPRequestHandler sends for what it cannot handle itself."""
    page = BaseHTTPRequestHandler.error_message_format % {
        "code": status,
        "message": html.escape(message, quote=False),
        "explain": html.escape(_TEXTS.get(status, ("", "???"))[1], quote=False),
    }
    body = page.encode()
    headers = (
        ("Connection", "close"),
        ("Content-Type", BaseHTTPRequestHandler.error_content_type),
        ("Content-Length", str(len(body))),
    )
    head = python_head(status, headers, message)
    return head if method == "HEAD" else head + body


def _head(line: str, headers: Headers) -> bytes:
    lines = (line, *(f"{name}: {value}" for name, value in headers), "", "")
    return "\r\n".join(lines).encode("latin-1")
