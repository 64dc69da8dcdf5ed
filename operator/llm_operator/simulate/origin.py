"""Who may speak to a simulated Ollama: its checks of the Origin and Host headers.

The real server refuses, with 403 and no body, a page of a foreign site, and on a loopback address a
request that calls it by a foreign name. A router has to send neither of the client's headers on.
"""

import ipaddress
import re
import socket

from llm_operator.simulate.framing import Headers
from llm_operator.simulate.http import Request

_ORIGIN = re.compile(
    r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:\d+)?|(app|file|tauri|vscode-(webview|file))://.*"
)
_LOCAL_DOMAINS = (".localhost", ".local", ".internal")


def trusted(request: Request, *, loopback: bool) -> bool:
    """Whether the server answers at all."""
    if request.header("origin") and not _allowed(request):
        return False
    return not loopback or _local(request.header("host") or "")


def cors(request: Request) -> Headers:
    """The headers that let the page of an allowed origin read the response."""
    origin = request.header("origin")
    if not origin or not _allowed(request):
        return ()
    return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))


def _allowed(request: Request) -> bool:
    origin, host = request.header("origin") or "", request.header("host")
    same = origin in (f"http://{host}", f"https://{host}")
    return same or _ORIGIN.fullmatch(origin) is not None


def _local(host: str) -> bool:
    name = re.sub(r":\d*$", "", host).strip("[]").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        return name in ("", "localhost", own) or name.endswith(_LOCAL_DOMAINS)
    return address.is_loopback or address.is_private or address.is_unspecified
