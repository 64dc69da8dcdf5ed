"""Where a request would go now, and why each other target was passed over: POST /explain.

    question, table, time ─> document, by `select` and `fronts` ─> answer

Nothing is sent to any host and nothing is changed; the verdicts are those that `select` decides by.
No credential and no prompt is in the answer.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from llm_contract import OnBusy
from llm_router import select
from llm_router.ask import Limits
from llm_router.errors import Code, Problem, Refused
from llm_router.exchange import Exchange
from llm_router.fronts import ROUTES
from llm_router.select import FIRST, Explained, Verdict
from llm_router.serving import Parts
from llm_router.table import Entry, Table, default_entry
from llm_router.targets import TARGETS

#: The path of a question that names none.
PATH = "/v1/chat/completions"

FIELDS = frozenset({"model", "path", "body", "needs", "sticky"})

_TURN = {"role": "user", "content": "hi"}
_PIXEL = "iVBORw0KGgo="
_TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    },
}
_PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PIXEL}"}}

#: What a chat may need -> the fields that say so, on the path of each family.
NEEDS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "/v1/chat/completions": {
        "tools": {"tools": [_TOOL]},
        "format": {"response_format": {"type": "json_object"}},
        "images": {"messages": [{"role": "user", "content": [_PICTURE]}]},
        "think": {"reasoning_effort": "low"},
        "logprobs": {"logprobs": True},
    },
    "/api/chat": {
        "tools": {"tools": [_TOOL]},
        "format": {"format": "json"},
        "images": {"messages": [_TURN | {"images": [_PIXEL]}]},
        "think": {"think": True},
        "logprobs": {"logprobs": True},
    },
}

#: Path -> the least request.
LEAST: Mapping[str, Mapping[str, Any]] = {
    "/v1/chat/completions": {"messages": [_TURN]},
    "/api/chat": {"messages": [_TURN]},
    "/v1/embeddings": {"input": "hi"},
    "/api/embed": {"input": "hi"},
}
_LEAST_PROMPT = {"prompt": "hi"}


def answer(parts: Parts, body: bytes) -> tuple[dict[str, Any], int]:
    """The document and the status of POST /explain, whose request has this body."""
    url = parts.default_ollama_url

    def default(model: str) -> Entry:
        assert url is not None
        return default_entry(model, url=url, standings=parts.standings)

    now = asyncio.get_running_loop().time()
    try:
        question = orjson.loads(body)
        table = parts.follower.table
        known = default if url is not None else None
        return document(table, question, now, default=known, limits=parts.asker.limits), 200
    except orjson.JSONDecodeError as error:
        return {"detail": f"the question is not JSON: {error}"}, 400
    except Refused as refused:
        return {"detail": refused.problem.message}, refused.problem.status


def document(
    table: Table | None,
    question: object,
    now: float,
    *,
    default: Callable[[str], Entry] | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """The answer of POST /explain.

    Args:
        question: the request's JSON: `model`, and `path`, `body` or `needs`, `sticky` as wanted.
        now: on the clock of the standings.
        default: gives the entry of a model that no route names; None when there is none.
        limits: where a route sets none; without them those are null.

    Raises:
        Refused: the question is wrong; its problem says what to change.
    """
    asked = _object(question)
    path = _text(asked, "path") or PATH
    if path not in ROUTES:
        raise _wrong("path", f"is none of {', '.join(ROUTES)}")
    body = _body(asked, path)
    model = body["model"]
    exchange = ROUTES[path].decode(orjson.dumps(body))
    sticky = _text(asked, "sticky")
    entry, alias = _entry(table, model, default)
    told: dict[str, Any] = {
        "model": model,
        "route": None,
        "alias": alias,
        "config": table.checksum[:12] if table is not None else None,
        "targets": [],
        "would": None,
        "reason": "",
        "deadline": None,
    }
    if table is None:
        return told | {"reason": "no configuration has been loaded yet: the answer would be 503"}
    if entry is None:
        reason = f"no route names model {model!r} and there is no default Ollama: it would be 404"
        return told | {"reason": reason}
    return told | _routed(entry, exchange, now, limits=limits, sticky=sticky)


def _routed(
    entry: Entry, exchange: Exchange, now: float, *, limits: Limits | None, sticky: str | None
) -> dict[str, Any]:
    route = entry.route
    value = sticky.encode() if sticky is not None and entry.sticky else None
    explained = select.explain(entry, exchange, now, sticky=value)
    would = _first(entry, explained)
    reason = _reason(entry, explained, would, sticky=value)
    if would is not None and (refusal := _refusal(would, exchange)):
        reason = (
            f"{would.destination.target.name} would be asked, which would be a refusal: {refusal}"
        )
        would = None
    return {
        "route": {"name": route.name, "uid": route.uid, "generation": route.generation},
        "targets": [_target(one, limits) for one in explained],
        "would": would.destination.target.name if would else None,
        "reason": reason,
        "deadline": route.timeouts.total,
    }


def _first(entry: Entry, explained: list[Explained]) -> Explained | None:
    """The target that would be asked first; a full one that does not queue is skipped."""
    most = entry.route.fallback.max_attempts
    for one in explained:
        spills = one.destination.full and one.destination.target.on_busy is OnBusy.SPILL
        if one.place and not spills and (most is None or one.place <= most):
            return one
    return None


def _refusal(one: Explained, exchange: Exchange) -> str:
    """Why the request can't be written for this target; "" when it can."""
    destination = one.destination
    try:
        TARGETS[destination.target.type].encode(exchange, destination.terms)
    except Refused as refused:
        return refused.problem.message
    return ""


def _target(one: Explained, limits: Limits | None) -> dict[str, Any]:
    destination = one.destination
    target, standing, waits = destination.target, destination.standing, destination.waits
    return {
        "name": target.name,
        "type": target.type.value,
        "url": target.url,
        "model": target.model,
        "tier": target.tier,
        "weight": target.weight,
        "place": one.place,
        "verdict": one.verdict.value,
        "why": one.why,
        "loaded": standing.loaded,
        "active": standing.active,
        "maxConcurrent": target.max_concurrent,
        "since": standing.since or None,
        "tokensPerSecond": round(standing.tokens_per_second, 1) or None,
        "limits": {
            "connect": waits.connect or (limits.connect if limits else None),
            # NB: where nobody sets one it is a share of what is left of the deadline.
            "firstToken": waits.first_token,
            "idle": waits.stream_idle or (limits.stream_idle if limits else None),
        },
    }


def _reason(
    entry: Entry, explained: list[Explained], would: Explained | None, *, sticky: bytes | None
) -> str:
    """One sentence for a person."""
    if would is None:
        said = "; ".join(f"{one.destination.target.name}: {_short(one)}" for one in explained)
        return f"no target can be asked now: {said}"
    name = would.destination.target.name
    # NB: a place says who comes first; whom the configuration would rather ask, its tiers say.
    tier = next(t for t in entry.tiers if would.destination in t)
    before = [d for t in entry.tiers[: entry.tiers.index(tier)] for d in t]
    passed = [one for one in explained if one.destination in (*before, *tier)]
    passed = [one for one in passed if one is not would and one.verdict not in FIRST]
    reason = f"{name} would be asked first: {_short(would)}"
    if would.verdict not in FIRST and would.verdict is not Verdict.BUSY:
        reason = f"{name} would be asked all the same, since no other is better: {_short(would)}"
    if passed:
        said = "; ".join(f"{one.destination.target.name}: {_short(one)}" for one in passed)
        reason += f"; passed over: {said}"
    others = [d for d in tier if d is not would.destination and d.target.weight]
    if others and sticky is None and would.verdict in FIRST:
        total = sum(d.target.weight for d in tier)
        reason += f"; it gets {would.destination.target.weight} of {total} by weight, drawn anew"
    return reason


def _short(one: Explained) -> str:
    return f"{one.verdict.value}, {one.why}" if one.why else one.verdict.value


def _entry(
    table: Table | None, model: str, default: Callable[[str], Entry] | None
) -> tuple[Entry | None, bool]:
    found = table.entries.get(model) if table is not None else None
    if found is not None:
        return found, found.route.model != model
    return (default(model) if default is not None and table is not None else None), False


def _body(asked: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The request that is asked about."""
    given, needs = asked.get("body"), asked.get("needs")
    if given is not None and not isinstance(given, dict):
        raise _wrong("body", "is not an object: give a request as the path takes it")
    if given is not None and needs is not None:
        raise _wrong("needs", "goes without body, which says what it needs itself")
    body: dict[str, Any] = dict(given if given is not None else LEAST.get(path, _LEAST_PROMPT))
    for need in _needs(needs, path):
        body |= NEEDS[path][need]
    model = _text(asked, "model")
    if model is not None:
        body["model"] = model
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise _wrong("model", "is missing: name the model that the request asks for")
    return body


def _needs(needs: object, path: str) -> list[str]:
    if needs is None:
        return []
    known = NEEDS.get(path)
    if known is None:
        raise _wrong("needs", f"goes with {' or '.join(NEEDS)}; for {path} give a body")
    if not isinstance(needs, list) or not all(isinstance(n, str) and n in known for n in needs):
        raise _wrong("needs", f"is not a list of {', '.join(known)}")
    return needs


def _object(question: object) -> Mapping[str, Any]:
    if not isinstance(question, dict):
        raise _wrong("the question", 'is not a JSON object such as {"model": "phi3:mini"}')
    if unknown := sorted(question.keys() - FIELDS):
        raise _wrong(str(unknown[0]), f"is not known: there are {', '.join(sorted(FIELDS))}")
    return question


def _text(asked: Mapping[str, Any], name: str) -> str | None:
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong(name, "is not a text")
    return value


def _wrong(name: str, what: str) -> Refused:
    return Refused(Problem(Code.BAD_REQUEST, f"{name} {what}", param=name))
