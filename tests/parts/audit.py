"""What the API server says was asked of it: its audit policy, and its log as data.

A write appears once, with the body that was sent. A watch appears when it begins (stage
ResponseStarted) and when it ends. NB: the line is written as the answer leaves, so a test that
reads right after its own request asks by `eventually`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*", "/openapi*"]},
        {"level": "Request", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True, slots=True)
class Event:
    """One request as the API server saw it; `raw` is the whole audit event."""

    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    status: int
    stage: str
    body: Any
    raw: dict[str, Any]


def write_policy(path: Path) -> None:
    """The policy as the file that --audit-policy-file names."""
    path.write_text(yaml.safe_dump(POLICY))


def read(
    path: Path,
    *,
    user: str | None = None,
    verbs: tuple[str, ...] = (),
    resource: str | None = None,
    namespace: str | None = None,
) -> list[Event]:
    """The events so far, oldest first, that match everything given."""
    if not path.exists():
        return []
    # NB: the last line may still be in writing.
    whole = path.read_text().rpartition("\n")[0]
    events = (_event(json.loads(line)) for line in whole.splitlines())
    return [
        event
        for event in events
        if (user is None or event.user == user)
        and (not verbs or event.verb in verbs)
        and (resource is None or event.resource == resource)
        and (namespace is None or event.namespace == namespace)
    ]


def _event(raw: dict[str, Any]) -> Event:
    target = raw.get("objectRef", {})
    return Event(
        user=raw["user"].get("username", ""),
        verb=raw["verb"],
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        status=raw.get("responseStatus", {}).get("code", 0),
        stage=raw["stage"],
        body=raw.get("requestObject"),
        raw=raw,
    )
