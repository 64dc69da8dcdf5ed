"""The OpenAPI document: whole, of real examples, and the same as what is checked."""

import json
from typing import Any

import jsonschema
import pytest
import schemathesis
from pydantic import BaseModel

from llm_operator.admin import view
from llm_operator.admin.api import app, examples, schema, shapes, traffic
from llm_operator.admin.change import FIELDS, NAMING
from llm_operator.compare import document as compared
from llm_operator.resource.fields import SPEC
from llm_operator.routers.report import Report
from llm_operator.routers.router import Router
from parts.admin_memory import SPEC as SIMPLE
from parts.admin_memory import client, memory


@pytest.fixture(scope="module")
def document() -> Any:
    made = app.build(memory().admin, public=True).openapi()
    return json.loads(json.dumps(made))


def operations(document: Any) -> list[tuple[str, Any]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


async def test_it_is_served_without_a_token() -> None:
    async with client(memory(), token="") as api:
        told = await api.get("http://admin/openapi.json")
    assert told.status_code == 200
    assert told.json()["openapi"].startswith("3.1")


def test_it_loads(document: Any) -> None:
    loaded = schemathesis.openapi.from_dict(document)
    assert len([one.ok() for one in loaded.get_all_operations()]) == len(operations(document))


def test_it_holds_nothing_that_is_not_there(document: Any) -> None:
    schemas, text = document["components"]["schemas"], json.dumps(document)
    named = {one.split('"')[0] for one in text.split("#/components/schemas/")[1:]}
    assert named == schemas.keys()
    assert "$defs" not in text
    for found in schemas.values():
        jsonschema.Draft202012Validator.check_schema(found)


def test_every_operation_says_what_it_does(document: Any) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        assert {*operation["responses"]} & {"200", "201"}, name
        assert "422" not in operation["responses"], name
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (name, parameter["name"])
        for status, answer in operation["responses"].items():
            assert answer["description"], (name, status)


def test_every_example_is_of_its_form(document: Any) -> None:
    counted = 0
    for _, operation in operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for described in (*operation["responses"].values(), *bodies):
            content = described.get("content", {}).get("application/json", {})
            if "example" in content:
                counted += 1
                whole = {**content["schema"], "components": document["components"]}
                jsonschema.validate(content["example"], whole)
    assert counted > 15


@pytest.mark.parametrize(
    ("example", "form"),
    [
        (examples.BACKEND, shapes.Backend),
        (examples.PUBLIC, shapes.Public),
        (examples.TOGGLED, shapes.Toggled),
        (examples.GENERATION, shapes.Generation),
        (examples.SAMPLE, shapes.Sample),
        (examples.ROUTER, shapes.RouterState),
        (examples.COMPARED, shapes.Compared),
        (examples.METRIC, shapes.Metric),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_examples_are_of_their_forms(example: dict[str, Any], form: type[BaseModel]) -> None:
    form.model_validate(example, strict=True)
    required = {name for name, field in form.model_fields.items() if field.is_required()}
    assert required <= example.keys() <= set(form.model_fields)


def test_a_backend_s_form_is_what_is_told() -> None:
    behind = memory()
    backend = behind.store.add(SIMPLE)
    told = view.shown(backend, number=1, totals=None)
    assert (
        set(told) == set(shapes.Backend.model_fields) == set(shapes.FIELDS) == {*examples.BACKEND}
    )
    shapes.Backend.model_validate(told, strict=True)
    assert list(view.public(backend, number=1)) == list(shapes.Public.model_fields)


def test_a_comparison_s_form_is_what_is_told() -> None:
    assert tuple(shapes.ComparedBackend.model_fields) == compared.FIELDS
    compared.read(examples.COMPARED)


def test_a_router_s_form_is_what_is_told() -> None:
    router = Router(namespace="a", name="b", uid="c", url="http://d")
    shapes.RouterState.model_validate(traffic._router(router, Report()), strict=True)


def test_the_bodies_have_the_resource_s_fields_and_bounds() -> None:
    for body in (schema.created(), schema.changed()):
        assert set(body["properties"]) == {*FIELDS, *NAMING}
    tokens = schema.changed()["properties"]["max_tokens"]
    assert tokens["type"] == ["integer", "null"]
    assert tokens["maximum"] == SPEC.fields["maxTokens"].maximum
    assert schema.created()["properties"]["priority"]["default"] == 100
    kinds = schema.created()["properties"]["backend_type"]["enum"]
    assert kinds == ["ollama", "mlx", "openai", "auto", None]


def test_public_routes_say_that_they_may_be_closed(document: Any) -> None:
    for path in ("/api/llm-backends/public", "/api/llm-backends/model/{model_name}"):
        operation = document["paths"][path]["get"]
        assert operation["security"] == [{}, {"bearer": []}]
        assert {"401", "403"} <= operation["responses"].keys()
