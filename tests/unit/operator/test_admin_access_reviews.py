"""What answers of the API server mean, as it has given them."""

from typing import Any

import pytest

from llm_operator.admin.access import reviews
from llm_operator.admin.model import Caller, Verb

ISSUER = "https://kubernetes.default.svc"


def answered(**status: Any) -> dict[str, Any]:
    review = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1"}
    return review | {"spec": {"token": "t"}, "status": {"user": {}} | status}


def accepted(name: str = "system:serviceaccount:models:router", **more: Any) -> dict[str, Any]:
    return answered(authenticated=True, user={"username": name} | more, audiences=[ISSUER])


def test_a_service_account() -> None:
    extra = {"authentication.kubernetes.io/pod-name": ["router-1"]}
    answer = accepted(uid="u", groups=["system:serviceaccounts", "g"], extra=extra)
    assert reviews.caller_of(answer, ()) == Caller(
        name="system:serviceaccount:models:router",
        uid="u",
        groups=("system:serviceaccounts", "g"),
        extra={"authentication.kubernetes.io/pod-name": ("router-1",)},
        namespace="models",
    )


@pytest.mark.parametrize(
    "name",
    [
        "jane",
        "",
        "system:serviceaccount:",
        "system:serviceaccount:a",
        "system:serviceaccount:a:",
        "system:serviceaccount::b",
        "system:serviceaccount:a:b:c",
        "x:system:serviceaccount:a:b",
    ],
)
def test_a_name_that_is_no_service_account_has_no_namespace(name: str) -> None:
    caller = reviews.caller_of(accepted(name), ())
    assert caller is not None
    assert (caller.name, caller.namespace) == (name, "")


@pytest.mark.parametrize(
    "error",
    [
        "invalid bearer token",
        "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]",
        '[invalid bearer token, serviceaccounts "etcd-2-gone" not found]',
        "[invalid bearer token, service account token has been invalidated]",
        "[invalid bearer token, service account token has expired]",
        '[invalid bearer token, token audiences ["a"] is invalid for the target audiences ["b"]]',
        "",
    ],
)
def test_wrong_for_good(error: str) -> None:
    assert reviews.caller_of(answered(error=error), ()) is None


def test_a_no_without_a_reason_is_one() -> None:
    assert reviews.caller_of(answered(), ()) is None


@pytest.mark.parametrize(
    "error",
    [
        '[invalid bearer token, Get "https://127.0.0.1:6443/api/v1/namespaces/a/serviceaccounts/b":'
        " context deadline exceeded]",
        "[invalid bearer token, etcdserver: request timed out]",
        "[invalid bearer token, oidc: authenticator not initialized]",
        '[invalid bearer token, Post "https://auth/": dial tcp 10.0.0.1:443: connect: refused]',
        '[invalid bearer token, Post "https://auth/": dial: lookup auth on 10.0.0.10:53: gone]',
    ],
)
def test_what_could_not_be_found_out_is_no_wrong_token(error: str) -> None:
    with pytest.raises(reviews.Unclear) as unclear:
        reviews.caller_of(answered(error=error), ())
    assert str(unclear.value) == error


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"kind": "Status", "status": "Success"},
        {"kind": "TokenReview"},
        {"kind": "TokenReview", "status": None},
        {"kind": "SubjectAccessReview", "status": {"allowed": True}},
    ],
)
def test_what_is_no_answer_says_nothing(answer: dict[str, Any]) -> None:
    with pytest.raises(reviews.Unclear):
        reviews.caller_of(answer, ())


def test_an_audience_has_to_be_one_of_those_wanted() -> None:
    answer = accepted()
    assert reviews.caller_of(answer, ("other", ISSUER))
    assert reviews.caller_of(answer, ("other",)) is None
    del answer["status"]["audiences"]
    assert reviews.caller_of(answer, (ISSUER,)) is None
    assert reviews.caller_of(answer, ())


def test_what_is_asked() -> None:
    assert reviews.of_token("t", ()) == {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": "t"},
    }
    assert reviews.of_token("t", ("a", "b"))["spec"] == {"token": "t", "audiences": ["a", "b"]}
    caller = Caller(name="n", uid="u", groups=("g",), extra={"k": ("v",)})
    assert reviews.of_right(caller, Verb.CREATE, "models", "usage") == {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "n",
            "uid": "u",
            "groups": ["g"],
            "extra": {"k": ["v"]},
            "resourceAttributes": {
                "namespace": "models",
                "verb": "create",
                "group": "llm.athena.dev",
                "resource": "llmbackends",
                "subresource": "usage",
            },
        },
    }


@pytest.mark.parametrize(
    ("status", "may"),
    [
        ({"allowed": True}, True),
        ({"allowed": False}, False),
        ({}, False),
        ({"allowed": "true"}, False),
        ({"denied": True}, False),
    ],
)
def test_a_right_is_there_or_not(status: dict[str, Any], may: bool) -> None:
    assert reviews.allowed({"kind": "SubjectAccessReview", "status": status}) is may


def test_a_right_is_not_taken_from_what_is_no_answer() -> None:
    with pytest.raises(reviews.Unclear):
        reviews.allowed({"kind": "Status", "status": {"allowed": True}})
