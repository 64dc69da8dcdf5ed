"""Users of the test control plane: service accounts with the rights that a test gives, no more."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from parts.eventually import eventually

#: A rule as RBAC has it: {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}.
Rule = Mapping[str, Sequence[str]]

RBAC = "/apis/rbac.authorization.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class User:
    """Someone who may ask the API server: full user name, bearer token, a kubeconfig with it."""

    name: str
    token: str
    kubeconfig: Path


def service_account(client: httpx.Client, *, namespace: str, name: str) -> None:
    """Make a service account, if it is not there yet."""
    body = {"metadata": {"name": name}}
    answer = client.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", json=body)
    if answer.status_code != httpx.codes.CONFLICT:
        expect(answer)


def token(client: httpx.Client, *, namespace: str, name: str) -> str:
    """A new bearer token of a service account, good for an hour."""
    answer = client.post(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
        json={"spec": {"expirationSeconds": 3600}},
    )
    return str(expect(answer)["status"]["token"])


def bind(
    client: httpx.Client, *, user: str, rules: Sequence[Rule], namespace: str | None = None
) -> None:
    """Give a user rights: in one namespace, or without one in the whole cluster.

    They hold when it returns: the API server reads what was bound a moment later.
    """
    scope = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
    cluster = "" if namespace else "Cluster"
    name = f"test-{uuid.uuid4().hex[:8]}"
    group = "rbac.authorization.k8s.io"
    role = {"metadata": {"name": name}, "rules": [dict(rule) for rule in rules]}
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": f"{cluster}Role", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    expect(client.post(f"{scope}/{cluster.lower()}roles", json=role))
    expect(client.post(f"{scope}/{cluster.lower()}rolebindings", json=binding))
    asked = [_attributes(rule, namespace) for rule in rules if rule.get("resources")]
    if asked:
        review = {"spec": {"user": user, "resourceAttributes": asked[-1]}}
        url = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

        def holds() -> bool:
            return bool(expect(client.post(url, json=review))["status"]["allowed"])

        eventually(holds, within=20, every=0.02)


def _attributes(rule: Rule, namespace: str | None) -> dict[str, str]:
    """One thing that a rule allows, as a review asks for it."""
    resource, _, subresource = rule["resources"][0].partition("/")
    return {
        "group": rule["apiGroups"][0],
        "resource": resource,
        "subresource": subresource,
        "verb": rule["verbs"][0],
        "namespace": namespace or "",
        "name": next(iter(rule.get("resourceNames", ())), ""),
    }


def expect(answer: httpx.Response) -> Any:
    """The decoded answer, or an assertion that shows what the API server said."""
    asked = f"{answer.request.method} {answer.request.url.path}"
    assert answer.is_success, f"{asked}: {answer.status_code} {answer.text}"
    return answer.json()
