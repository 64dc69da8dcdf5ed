"""The life of a request that no host is asked for: a list, a refusal, or a path that is not served.

Lists come from the table the router serves from; without one they are 503, as everything else.
Paths outside all tables are 404 in the words of the family they look like.
"""

import logging
import time
from dataclasses import dataclass

from llm_router.errors import Code, Problem, Refused
from llm_router.fronts import LISTS, OLLAMA, OPENAI, REFUSED, ROUTES, Front, List
from llm_router.fronts.lists import Asked
from llm_router.server import Call
from llm_router.serving import ENDING, JSON, NOT_READY, Parts
from llm_router.usage import Outcome, Record

log = logging.getLogger(__name__)

#: The first word of a front's name -> the metric label of what its family answers without a host.
LABEL = {"openai": "openai_list", "ollama": "ollama_list"}

#: Stands in a row for the rest of a path, which may hold `/` and `:`.
REST = "{id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A request that no row serves, and why."""

    family: Front
    problem: Problem
    headers: tuple[tuple[bytes, bytes], ...] = ()


def answer(parts: Parts, call: Call, *, request_id: str) -> None:
    """Answer one request from the table, or say why not."""
    begun, at = time.monotonic(), time.time()
    headers = [(b"x-request-id", request_id.encode())]
    found = find("GET" if call.method == "HEAD" else call.method, call.path)
    if isinstance(found, Lost):
        problem, family = found.problem, found.family
        headers += found.headers
    else:
        row, name = found
        family = row.family
        try:
            body = _answered(parts, row, call, name=name, headers=headers)
        except Refused as refused:
            problem = refused.problem
        except Exception:
            log.exception("list_failed", extra={"request_id": request_id})
            message = f"the router failed; its log says why (request {request_id})"
            problem = Problem(Code.INTERNAL, message)
        else:
            headers.append((b"content-type", row.content_type))
            call.respond(200, headers=headers, body=body)
            _note(parts, family, at, begun, request_id=request_id)
            return
    headers.append(JSON)
    if problem.retry_after:
        headers.append((b"retry-after", problem.retry_after.encode()))
    call.respond(problem.status, headers=headers, body=family.problem(problem))
    _note(parts, family, at, begun, request_id=request_id, problem=problem)


def _answered(
    parts: Parts, row: List, call: Call, *, name: str, headers: list[tuple[bytes, bytes]]
) -> bytes:
    if call.refusal is not None:
        raise Refused(call.refusal)
    if parts.draining:
        raise Refused(ENDING)
    table = parts.follower.table
    if table is None:
        raise Refused(NOT_READY)
    headers.append((b"x-llm-config", table.checksum[:12].encode()))
    asked = Asked(
        table=table,
        since=parts.follower.loaded_at,
        name=name,
        body=call.body,
        loaded={seen["name"]: seen for seen in parts.prober.loaded_models(table)},
    )
    return row.answer(asked)


def _note(
    parts: Parts,
    family: Front,
    at: float,
    begun: float,
    *,
    request_id: str,
    problem: Problem | None = None,
) -> None:
    parts.recorder.add(
        Record(
            request_id=request_id,
            at=at,
            front=LABEL.get(family.name.partition("_")[0], "unified_list"),
            outcome=Outcome.OK if problem is None else Outcome.ERROR,
            status=200 if problem is None else problem.status,
            error="" if problem is None else problem.code,
            total_seconds=time.monotonic() - begun,
        )
    )


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
