"""The client's errors: one class a kind of status, and texts that say what to do."""

import pickle

import pytest

from llm_router.client import errors
from llm_router.client.errors import (
    InvalidRequest,
    LLMRouterError,
    ModelNotFound,
    Overloaded,
    UpstreamFailed,
    refused,
)
from llm_router.errors import STATUS, Code

KINDS = {
    **{400: InvalidRequest, 403: InvalidRequest, 404: ModelNotFound, 405: InvalidRequest},
    **{413: InvalidRequest, 422: InvalidRequest, 429: Overloaded, 500: LLMRouterError},
    **{502: UpstreamFailed, 503: Overloaded, 504: UpstreamFailed},
}


@pytest.mark.parametrize(("status", "kind"), KINDS.items())
def test_a_status_is_a_class(status: int, kind: type[LLMRouterError]) -> None:
    assert type(refused("no", status=status)) is kind


def test_every_status_of_the_router_has_a_class_and_a_code() -> None:
    assert set(STATUS.values()) <= KINDS.keys()
    known = {code.value for code in Code}
    for status in set(STATUS.values()):
        assert refused("no", status=status).code in known


def test_the_router_s_own_code_is_kept() -> None:
    assert refused("no", status=400, code="unsupported").code == "unsupported"
    assert refused("no", status=503, code="").code == "overloaded"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("", None), ("soon", None), ("-1", None), ("inf", None)],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    error = refused("no", status=429, retry_after=header)
    assert isinstance(error, Overloaded)
    assert error.retry_after == seconds


def test_a_text_names_what_is_known_and_what_to_do() -> None:
    about = {"model": "phi3:mini", "router": "http://127.0.0.1:11434", "request_id": "r-1"}
    error = refused("mlx did not answer", status=502, attempts=2, **about)  # type: ignore[arg-type]
    assert str(error).startswith(
        "mlx did not answer (model phi3:mini, router http://127.0.0.1:11434, request r-1); look at "
    )
    assert (error.message, error.attempts) == ("mlx did not answer", 2)


def test_every_class_has_advice_of_its_own() -> None:
    classes = [LLMRouterError, *LLMRouterError.__subclasses__()]
    assert len({each.advice for each in classes}) == len(classes)


def test_the_tree_of_the_docstring_is_the_tree() -> None:
    tree = {each.__name__ for each in LLMRouterError.__subclasses__()}
    assert errors.__doc__ is not None
    drawn = {line.split()[1] for line in errors.__doc__.splitlines() if "── " in line}
    assert drawn == tree


def test_an_error_may_go_to_another_process() -> None:
    error = refused("no", status=503, retry_after="2", model="m", request_id="r")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (Overloaded, str(error), vars(error))
