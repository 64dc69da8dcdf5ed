"""The header Authorization -> whose token it is.

By RFC 6750, and by its header alone: a token in a URL would stand in logs and histories. `known`
and `anybody` are dependencies of routes; they run before anything of a request is read.
"""

from fastapi import Request

from llm_operator.admin.api.edge import call, peer
from llm_operator.admin.errors import TooMany, Unauthorized
from llm_operator.admin.model import Caller


def token(request: Request) -> str:
    """The bearer token of a request; "" for none, or more than one."""
    given = request.headers.getlist("authorization")
    if len(given) != 1:
        return ""
    scheme, _, credentials = given[0].partition(" ")
    return credentials.strip(" ") if scheme.lower() == "bearer" else ""


def caller(request: Request) -> Caller:
    """Who is asking, on a route that needs a token."""
    found = call(request).caller
    assert found is not None, "this route does not ask for a token"
    return found


async def known(request: Request) -> None:
    """Find out who is asking.

    Raises:
        Unauthorized, TooMany, Away: that can't be said.
    """
    one = call(request)
    try:
        one.caller = await one.site.admin.gate.caller(token(request), peer=peer(request.scope))
    except (Unauthorized, TooMany):
        one.site.counts.wrong()
        raise


async def anybody(request: Request) -> None:
    """Let everybody pass where public routes are on, else as `known`."""
    if not call(request).site.public:
        await known(request)
