"""The admin API by its own OpenAPI document, on `llmb up` with a real Postgres behind it: no 5xx,
no status that is not declared, no answer of another form.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from fuzz.profile import fuzz, fuzz_each
from fuzz.shapes import SCALARS, documents
from llm_operator.admin.change import FIELDS
from parts.up import Up, folder

BASE = "/api/llm-backends"

#: A body or a question can be of its form and be refused all the same: rules between fields, an id
#: of nothing, a moment that is none. And wrong tokens, of which this check sends many, are limited.
LEFT_OUT = (checks.positive_data_acceptance, checks.ignored_auth)


@pytest.fixture(scope="module")
def up(part_folder: Path) -> Iterator[Up]:
    with folder(part_folder) as one:
        one.start()
        yield one


@pytest.fixture(scope="module")
def api(up: Up) -> Iterator[httpx.Client]:
    with up.client() as made:
        yield made


@pytest.fixture(scope="module")
def schema(up: Up) -> Any:
    return schemathesis.openapi.from_url(f"{up.admin}/openapi.json")


def operations() -> list[str]:
    """Every operation, for the ids of tests."""
    one = [f"GET {BASE}", f"POST {BASE}", "GET /healthz", "GET /readyz", "GET /metrics"]
    one += [f"{method} {BASE}/{{id}}" for method in ("GET", "PUT", "DELETE")]
    one += [f"POST {BASE}/{{id}}/{word}" for word in ("toggle", "restore")]
    one += [f"GET {BASE}/{{id}}/{word}" for word in ("history", "yaml")]
    one += [f"GET {BASE}/{word}" for word in ("public", "metrics", "compare", "routers")]
    one += [f"POST {BASE}/{word}" for word in ("metrics", "usage")]
    return [*one, f"GET {BASE}/model/{{model_name}}"]


def test_these_are_all_operations(schema: Any) -> None:
    found = [one.ok() for one in schema.get_all_operations()]
    assert sorted(one.label for one in found) == sorted(operations())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("label", operations())
def test_every_operation_as_described(up: Up, api: httpx.Client, schema: Any, label: str) -> None:
    operation = next(
        one for one in (found.ok() for found in schema.get_all_operations()) if one.label == label
    )
    headers = {"Authorization": f"Bearer {up.token}"}

    @fuzz_each
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy())
        if "id" in case.path_parameters and data.draw(st.booleans()):
            case.path_parameters["id"] = str(there(api))
        case.call_and_validate(headers=headers, timeout=30, excluded_checks=list(LEFT_OUT))

    ask()


def there(api: httpx.Client) -> object:
    """The id or uid of a backend."""
    found = api.get("", params={"search": "fuzzed", "limit": 1}).json()
    if found:
        return found[0]["id"] or found[0]["uid"]
    body = {"model_name": f"fuzzed-{uuid.uuid4().hex[:8]}", "backend_type": "ollama"}
    return api.post("", json=body).json()["id"]


PATHS = ["", "/public", "/metrics", "/usage", "/compare", "/routers", "/1", "/1/toggle", "/x/yaml"]


@pytest.mark.parametrize("path", PATHS)
@fuzz_each
@given(
    method=st.sampled_from("GET HEAD POST PUT PATCH DELETE OPTIONS TRACE".split()),
    query=st.dictionaries(
        st.one_of(st.text(max_size=4), st.sampled_from("limit offset since before id".split())),
        st.text(max_size=6),
        max_size=3,
    ),
    headers=st.dictionaries(
        st.sampled_from(["if-match", "if-none-match", "x-request-id", "content-type"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).map(str.strip),
        max_size=3,
    ),
    body=st.one_of(st.binary(max_size=30), st.just(b'{"records": [{}]}')),
)
def test_no_request_makes_a_fault(
    api: httpx.Client,
    path: str,
    method: str,
    query: dict[str, str],
    headers: dict[str, str],
    body: bytes,
) -> None:
    told = api.request(method, path, params=query, headers=headers, content=body)
    assert told.status_code in (200, 304, 400, 404, 405, 412, 415)
    assert method == "HEAD" or told.is_success or told.status_code == 304 or told.json()["detail"]


#: Values of a backend's fields that are near to proper ones.
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    documents(st.sampled_from(["name", "type", "endpointURL", "weight", "active", "defaults"])),
    st.sampled_from(["ollama", "auto", "http://a:1", "openai"]),
)


@fuzz
@given(given=st.dictionaries(st.sampled_from([*FIELDS, "name", "namespace"]), VALUES, max_size=5))
def test_any_change_is_taken_or_refused(api: httpx.Client, given: dict[str, Any]) -> None:
    told = api.put(f"/{there(api)}", content=_json(given))
    assert told.status_code in (200, 400, 409), told.text
    assert told.status_code == 200 or told.json()["detail"]


RECORD = st.fixed_dictionaries(
    {"request_id": SCALARS, "at": SCALARS, "model": SCALARS, "outcome": SCALARS},
    optional={
        "total_seconds": SCALARS,
        "failures": documents(st.text(max_size=3)),
        "zone": SCALARS,
    },
)


@fuzz
@given(records=st.lists(st.one_of(RECORD, SCALARS), max_size=4), good=st.booleans())
def test_any_usage_costs_a_good_record_nothing(
    api: httpx.Client, records: list[Any], good: bool
) -> None:
    mine = {
        "request_id": uuid.uuid4().hex,
        "at": 1763200000,
        "model": "m",
        "outcome": "ok",
        "total_seconds": 1,
    }
    sent = [*records, mine] if good else records
    told = api.post("/usage", content=_json({"records": sent}))
    assert told.status_code in (200, 400), told.text
    # NB: a batch with NaN in it is no JSON, and none of it can be read.
    if told.status_code == 200 and good:
        assert told.json()["stored"] >= 1
    elif good:
        assert "body: must be JSON" in told.json()["detail"]


def _json(value: object) -> bytes:
    """NB: with NaN and Infinity where they are, which are no JSON."""
    return json.dumps(value).encode()
