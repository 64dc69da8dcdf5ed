"""The router's HTTP/1.1 server: the only code that takes sockets from clients.

    Server ─> Connection (bytes) ─> check (a head) ─> Call ─> the handler
    handler ─> Call.respond, or begin, write, end ─> head, Connection ─> the socket

It knows sockets, bytes and the framing of messages; what a request asks for and what an answer
says is for the layers above. A request reaches the handler whole or not at all.
"""

from llm_router.server.call import Call
from llm_router.server.limits import Limits
from llm_router.server.server import Server

__all__ = ["Call", "Limits", "Server"]
