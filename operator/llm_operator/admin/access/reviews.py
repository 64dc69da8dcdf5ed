"""What the API server is asked about tokens and rights, and what its answers mean.

Pure: values -> the JSON of a review, the JSON that answers it -> values. A review of a token holds
the token, and so does its answer; neither goes anywhere but to the API server.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llm_operator.admin.model import Caller, Verb
from llm_operator.resource.model import GROUP, PLURAL

TOKENS_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
RIGHTS_PATH = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

#: Path of a review -> the right to ask for it, as RBAC names it.
NEEDED: Mapping[str, str] = {
    TOKENS_PATH: "create tokenreviews.authentication.k8s.io",
    RIGHTS_PATH: "create subjectaccessreviews.authorization.k8s.io",
}

_ACCOUNT = "system:serviceaccount:"

# NB: the API server has one field for "wrong" and for "could not find out", and no code; these are
# what the latter's errors have in them, of its own storage, of OIDC and of a webhook.
_PASSING = re.compile(
    r"etcdserver|dial tcp|connection re(?:fused|set)|timed? ?out|deadline exceeded|canceled"
    r"|unavailable|not initialized|not yet|try again|too many requests|unexpected EOF|no such host"
    r"|internal error|lookup .+ on ",
    re.IGNORECASE,
)


class Unclear(Exception):
    """The answer does not say. The message is the API server's own error, or what it should be."""


def of_token(token: str, audiences: Sequence[str]) -> dict[str, Any]:
    """Whose token is this? Without audiences it has to be one for the API server itself."""
    wanted = {"audiences": list(audiences)} if audiences else {}
    return _review("authentication", "TokenReview", {"token": token, **wanted})


def caller_of(answer: Mapping[str, Any], audiences: Sequence[str]) -> Caller | None:
    """Whose token it was; None when it is wrong, has ended, or is for somebody else.

    Raises:
        Unclear: the API server could not find out.
    """
    status = _status(answer, "TokenReview")
    if not status.get("authenticated"):
        error = status.get("error")
        if isinstance(error, str) and _PASSING.search(error):
            raise Unclear(error)
        return None
    # NB: an API server that knows no audiences leaves them out, and has not compared them.
    if audiences and not set(audiences) & set(status.get("audiences") or ()):
        return None
    user = status["user"]
    return Caller(
        name=user["username"],
        uid=user.get("uid") or "",
        groups=tuple(user.get("groups") or ()),
        extra={key: tuple(values) for key, values in (user.get("extra") or {}).items()},
        namespace=namespace_of(user["username"]),
    )


def namespace_of(name: str) -> str:
    """The namespace of a service account by its user name; "" for any other user."""
    parts = name.removeprefix(_ACCOUNT).split(":") if name.startswith(_ACCOUNT) else ()
    return parts[0] if len(parts) == 2 and all(parts) else ""


def of_right(caller: Caller, verb: Verb, namespace: str, subresource: str) -> dict[str, Any]:
    """May they do this to LLMBackends there?"""
    spec = {
        "user": caller.name,
        "uid": caller.uid,
        "groups": list(caller.groups),
        "extra": {key: list(values) for key, values in caller.extra.items()},
        "resourceAttributes": {
            "namespace": namespace,
            "verb": verb.value,
            "group": GROUP,
            "resource": PLURAL,
            "subresource": subresource,
        },
    }
    return _review("authorization", "SubjectAccessReview", spec)


def allowed(answer: Mapping[str, Any]) -> bool:
    """Whether they may.

    Raises:
        Unclear: it is no answer to such a question.
    """
    return _status(answer, "SubjectAccessReview").get("allowed") is True


def _review(group: str, kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{group}.k8s.io/v1", "kind": kind, "spec": spec}


def _status(answer: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    # NB: `false` is left out of an answer, so one that is something else would be a no.
    status = answer.get("status")
    if answer.get("kind") != kind or not isinstance(status, Mapping):
        raise Unclear(f"what came back is no {kind}")
    return status
