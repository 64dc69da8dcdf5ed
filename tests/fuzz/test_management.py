"""The management port by its own OpenAPI document, and its questions with any body."""

import json
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from fuzz.profile import fuzz, fuzz_each
from fuzz.shapes import SCALARS, documents
from llm_contract import Timeouts
from llm_router.explain import FIELDS, NEEDS
from llm_router.fronts import ROUTES
from parts.router import PLAIN, Router, mlx, ollama, route

#: A question can be well-formed and still be wrong: a need that its path has not, an empty name.
LEFT_OUT = {"/explain": (checks.positive_data_acceptance,)}

PATHS = ("/healthz", "/readyz", "/metrics", "/status", "/reload", "/explain")


@pytest.fixture(scope="module")
def published(router: Router) -> Router:
    """The router with a model that nobody serves, so that nothing can be sent by mistake."""
    nobody = "http://127.0.0.1:9"
    router.publish(route("m", ollama(nobody), mlx(nobody), timeouts=Timeouts(total=1)))
    return router


@pytest.fixture(scope="module")
def management(published: Router) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=published.management, timeout=10, **PLAIN) as made:
        yield made


@pytest.mark.parametrize("path", PATHS)
def test_every_route_as_described(published: Router, path: str) -> None:
    schema = schemathesis.openapi.from_url(f"{published.management}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.path for operation in operations} == set(PATHS)

    @fuzz_each
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        for operation in operations:
            if operation.path == path:
                case = data.draw(operation.as_strategy())
                # NB: `call` keeps to the document; the checks are status, type, headers and body.
                case.call_and_validate(timeout=10, excluded_checks=list(LEFT_OUT.get(path, ())))

    ask()


@pytest.mark.parametrize("path", [*PATHS, "/openapi.json", "/nothing"])
@fuzz_each
@given(
    method=st.sampled_from("GET HEAD POST PUT PATCH DELETE OPTIONS TRACE".split()),
    query=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
    body=st.binary(max_size=30),
)
def test_no_request_makes_a_fault(
    management: httpx.Client, path: str, method: str, query: dict[str, str], body: bytes
) -> None:
    answer = management.request(method, path, params=query, content=body)
    assert answer.status_code in (200, 400, 404, 405, 422)


NAMES = st.sampled_from([*sorted(FIELDS), "messages", "prompt", "role", "content", "stream"])
NEED = st.sampled_from(sorted({name for needs in NEEDS.values() for name in needs}))


@fuzz
@given(
    question=st.one_of(
        documents(NAMES),
        st.fixed_dictionaries(
            {"model": st.sampled_from(["m", "nope", "", 3])},
            optional={
                "path": st.one_of(st.sampled_from(sorted(ROUTES)), SCALARS),
                "body": documents(NAMES),
                "needs": st.one_of(st.lists(NEED), documents(NAMES)),
                "sticky": SCALARS,
            },
        ),
    )
)
def test_any_question(management: httpx.Client, question: object) -> None:
    answer = management.post("/explain", content=json.dumps(question).encode())
    told = answer.json()
    assert answer.status_code in (200, 400, 404), told
    assert answer.status_code == 200 or told["detail"]
