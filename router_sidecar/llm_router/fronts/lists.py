"""What the data port answers by itself: which models there are, under the callers' names.

Every answer comes from the routing table and from what the router has learned of its hosts anyway;
no host is asked. What is not known (a model's size, its family) is given as empty, never guessed.
An alias is a model like any other.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from llm_contract import Defaults, Route
from llm_router import fields
from llm_router.errors import Code, Problem, Refused
from llm_router.fronts.front import JSON, Front
from llm_router.table import Table

#: The level of Ollama's API that the Ollama fronts speak.
OLLAMA_API = "0.17.4"

#: What every type of target can do; a host may do more, which is said where it is known.
CAPABILITIES = ("completion", "tools")

#: What is told of a loaded model, in so far as it is known.
LOADED = ("size", "size_vram", "expires_at", "context_length")

TEXT = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question about the table.

    Attributes:
        since: Unix time since when this table is in use.
        name: what stands in the path for `{id}`.
        loaded: the models that some host has loaded, by a name of the callers', and what is known
            of each, by Ollama's own names.
        capabilities: what models can do, by a name of the callers', in Ollama's own words.
    """

    table: Table
    since: float
    name: str = ""
    body: bytes = b""
    loaded: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    capabilities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def route(self, model: str) -> Route:
        """The route of a model.

        Raises:
            Refused: there is none.
        """
        entry = self.table.entries.get(model)
        if entry is None:
            message = f"model {model!r} not found"
            raise Refused(Problem(Code.MODEL_NOT_FOUND, message, param="model"))
        return entry.route

    def routes(self) -> list[tuple[str, Route]]:
        """Every name that callers may use, aliases included, and its route."""
        return [(name, self.table.entries[name].route) for name in sorted(self.table.entries)]


@dataclass(frozen=True, slots=True)
class List:
    """One route of the data port that no host is asked for.

    Attributes:
        family: in whose words an error is told.
        answer: the body; raises Refused.
    """

    family: Front
    answer: Callable[[Asked], bytes]
    content_type: bytes = JSON


def models(asked: Asked) -> bytes:
    """GET /v1/models."""
    listed = [_model(name, asked) for name, _ in asked.routes()]
    return orjson.dumps({"object": "list", "data": listed})


def model(asked: Asked) -> bytes:
    """GET /v1/models/{id}."""
    asked.route(asked.name)
    return orjson.dumps(_model(asked.name, asked))


def _model(name: str, asked: Asked) -> dict[str, Any]:
    created = int(asked.since)
    return {"id": name, "object": "model", "created": created, "owned_by": "llm-router"}


def tags(asked: Asked) -> bytes:
    """GET /api/tags."""
    since = _date(asked.since)
    return orjson.dumps({"models": [_tag(*of) | {"modified_at": since} for of in asked.routes()]})


def _tag(name: str, route: Route) -> dict[str, Any]:
    # NB: clients compare digests to see a change; this one changes with the resource.
    told = f"{route.uid}/{route.generation}".encode()
    digest = hashlib.sha256(told).hexdigest()
    return {"name": name, "model": name, "size": 0, "digest": digest, "details": _details()}


def _details() -> dict[str, Any]:
    # NB: Ollama leaves none of these out, and clients read them unchecked.
    names = ("parent_model", "format", "family", "parameter_size", "quantization_level")
    return {**dict.fromkeys(names, ""), "families": []}


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def running(asked: Asked) -> bytes:
    """GET /api/ps: the models that a host was last seen to have loaded."""
    models = []
    for name, route in asked.routes():
        known = asked.loaded.get(name, asked.loaded.get(route.model))
        if known is not None:
            told = {field: known[field] for field in LOADED if known.get(field) is not None}
            models.append(_tag(name, route) | told)
    return orjson.dumps({"models": models})


def version(asked: Asked) -> bytes:
    """GET /api/version."""
    return orjson.dumps({"version": OLLAMA_API})


def show(asked: Asked) -> bytes:
    """POST /api/show."""
    sent = fields.document(asked.body)
    # NB: `name` is what Ollama's clients before 0.3 send.
    named = fields.text(sent, "model") or fields.text(sent, "name")
    if not named:
        fields.refuse("model", "is required")
    route = asked.route(named)
    known = asked.capabilities.get(named) or asked.capabilities.get(route.model)
    return orjson.dumps(
        {
            "license": "",
            "modelfile": "",
            "parameters": _parameters(route.defaults),
            "template": "",
            "details": _details(),
            "model_info": {},
            "capabilities": known or CAPABILITIES,
            "modified_at": _date(asked.since),
        }
    )


def _parameters(defaults: Defaults) -> str:
    """The route's defaults as Ollama writes a model's parameters: a name and a value a line."""
    values = {"num_predict": defaults.max_tokens, "temperature": defaults.temperature}
    return "\n".join(f"{name} {value}" for name, value in values.items() if value is not None)


def greeting(asked: Asked) -> bytes:
    """GET /, by which Ollama's clients see whether it runs."""
    return b"Ollama is running"
