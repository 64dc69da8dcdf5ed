"""An HTTP server in a thread that answers one method and path as a test says: for commands that ask
a service, what it says being the point and not how it comes to say it.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(slots=True)
class Answering:
    """What it answers, and what it was asked.

    Attributes:
        asked: the body of each POST, or the query of each GET.
        tokens: the Authorization of each.
    """

    port: int
    body: bytes
    status: int = 200
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def answering(method: str, path: str, *, body: Any) -> Iterator[Answering]:
    """Answer this method and path with JSON, all else with 404."""
    made: Answering

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({name: value for name, [value] in parse_qs(self._url.query).items()})

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        @property
        def _url(self) -> Any:
            return urlsplit(self.path)

        def _answer(self, asked: dict[str, Any]) -> None:
            if (self.command, self._url.path) != (method, path):
                self.send_error(404)
                return
            made.asked.append(asked)
            made.tokens.append(self.headers["authorization"])
            self.send_response(made.status)
            self.send_header("Content-Length", str(len(made.body)))
            self.end_headers()
            self.wfile.write(made.body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Answering(server.server_address[1], json.dumps(body).encode())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        server.shutdown()
        thread.join(10)
