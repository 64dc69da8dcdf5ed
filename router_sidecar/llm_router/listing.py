"""The life of a request that no host is asked for: a list, a refusal, or a path that is not served.

Lists come from the table the router serves from; without one they are 503, as everything else.
Paths outside all tables are 404 in the words of the family they look like.
"""

from dataclasses import dataclass

from llm_router.asgi import Disconnected, Headers, Receive, Scope, Send, read, respond
from llm_router.errors import Code, Problem, Refused
from llm_router.fronts import LISTS, OLLAMA, OPENAI, REFUSED, ROUTES, Front, List
from llm_router.fronts.lists import Asked
from llm_router.serving import Parts

#: Stands in a row for the rest of a path, which may hold `/` and `:`.
REST = "{id}"

NOT_READY = Problem(Code.NOT_READY, "no configuration has been loaded yet", retry_after="1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A request that no row serves, and why."""

    family: Front
    problem: Problem
    headers: tuple[tuple[bytes, bytes], ...] = ()


async def answer(
    parts: Parts, scope: Scope, receive: Receive, send: Send, *, request_id: str
) -> None:
    """Answer one request from the table, or say why not."""
    headers: Headers = [(b"x-request-id", request_id.encode())]
    head = scope["method"] == "HEAD"
    found = find("GET" if head else scope["method"], scope["path"])
    if isinstance(found, Lost):
        problem, family = found.problem, found.family
        headers += found.headers
    else:
        row, name = found
        family = row.family
        try:
            body = await _answered(parts, row, receive, name=name, headers=headers)
        except Disconnected:
            return
        except Refused as refused:
            problem = refused.problem
        else:
            kind = row.content_type
            await respond(send, 200, headers=headers, body=body, content_type=kind, head=head)
            return
    if problem.retry_after:
        headers.append((b"retry-after", problem.retry_after.encode()))
    told = family.problem(problem)
    await respond(send, problem.status, headers=headers, body=told, head=head)


async def _answered(
    parts: Parts, row: List, receive: Receive, *, name: str, headers: Headers
) -> bytes:
    table = parts.follower.table
    if table is None:
        raise Refused(NOT_READY)
    headers.append((b"x-llm-config", table.checksum[:12].encode()))
    sent = await read(receive, limit=parts.max_body_bytes)
    asked = Asked(table=table, since=parts.follower.loaded_at, name=name, body=sent)
    return row.answer(asked)


def find(method: str, path: str) -> tuple[List, str] | Lost:
    """The row for a request, and what stands in its path for the rest; or why there is none."""
    allowed = []
    for (served, pattern), row in LISTS.items():
        rest = _rest(pattern, path)
        if rest is None:
            continue
        if served == method:
            return row, rest
        allowed += ["GET", "HEAD"] if served == "GET" else [served]
    if path in ROUTES:
        allowed.append("POST")
    family = _family(path)
    for pattern, what in REFUSED.items():
        if _rest(pattern, path) is not None:
            message = f"{what} is not allowed through the router; do it at the host itself"
            return Lost(family=family, problem=Problem(Code.FORBIDDEN, message))
    if allowed:
        message = f"{method} {path} is not served; use {' or '.join(allowed)}"
        headers = ((b"allow", ", ".join(allowed).encode()),)
        problem = Problem(Code.METHOD_NOT_ALLOWED, message)
        return Lost(family=family, problem=problem, headers=headers)
    problem = Problem(Code.PATH_NOT_FOUND, f"{path} is not served by this router")
    return Lost(family=family, problem=problem)


def _rest(pattern: str, path: str) -> str | None:
    """What stands for `{id}`, "" in a pattern without it; None when the path is another."""
    prefix, rest, _ = pattern.partition(REST)
    if rest and path.startswith(prefix):
        return path[len(prefix) :] or None
    return "" if path == pattern else None


def _family(path: str) -> Front:
    """Whose words a path is answered in."""
    if path in ROUTES:
        return ROUTES[path]
    return OLLAMA if path == "/" or path.startswith("/api") else OPENAI
