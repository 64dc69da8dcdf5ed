"""The state of a simulated host, and the requests that control it under /_simulate.

GET    /_simulate            kind, models and behaviour
POST   /_simulate            a JSON object of knobs to change; answers the new behaviour
GET    /_simulate/requests   counts and the last requests (?last=N)
DELETE /_simulate/requests   forget them
"""

from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs

from llm_operator.simulate.behaviour import Behaviour, BehaviourError, Kind
from llm_operator.simulate.http import Request, parsed
from llm_operator.simulate.journal import KEPT, Journal


@dataclass(slots=True)
class Host:
    """What one simulated host is: everything but its sockets."""

    kind: Kind
    models: tuple[str, ...]
    behaviour: Behaviour
    #: Bound to a loopback address, which makes Ollama check the Host header.
    loopback: bool = True
    journal: Journal = field(default_factory=Journal)


def control(host: Host, request: Request) -> tuple[int, dict[str, Any]]:
    """Answer a request under /_simulate. Changes the host, sends nothing."""
    match request.method, request.path:
        case "GET", "/_simulate":
            return 200, _document(host)
        case "POST", "/_simulate":
            return _change(host, request)
        case "GET", "/_simulate/requests":
            last = parse_qs(request.query).get("last", [str(KEPT)])[-1]
            if not last.isdecimal():
                return 400, {"error": f"last is {last!r}; give a whole number"}
            return 200, host.journal.document(int(last))
        case "DELETE", "/_simulate/requests":
            host.journal.clear()
            return 200, host.journal.document()
    return 404, {"error": f"no {request.method} {request.path}; see llmb simulate --help"}


def _document(host: Host) -> dict[str, Any]:
    return {
        "simulated": str(host.kind),
        "models": list(host.models),
        "behaviour": host.behaviour.document(),
    }


def _change(host: Host, request: Request) -> tuple[int, dict[str, Any]]:
    document = parsed(request.body)
    if not isinstance(document, dict):
        return 400, {"error": 'the body must be a JSON object of knobs, as {"mode": "ok"}'}
    try:
        host.behaviour = host.behaviour.changed(document)
    except BehaviourError as error:
        return 400, {"error": str(error)}
    return 200, _document(host)


def died(host: Host) -> None:
    """Let what runs the model die, as a request can make it do; a changed mode revives it."""
    host.behaviour = replace(host.behaviour, mode="generation-died")
