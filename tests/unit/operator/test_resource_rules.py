"""The CRD and its Python twin say the same, and every rule has an example that breaks it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.resource.model import GROUP, KIND, PLURAL, VERSION
from llm_operator.resource.rules import FIELDS, REQUIRED, RULES

ROOT = Path(__file__).resolve().parents[3]
INVALID = sorted((ROOT / "tests" / "invalid").glob("*.yaml"))
EXPECT = re.compile(r"^# expect: (?P<path>[A-Za-z.]+): (?P<message>.+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def crd() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "crds" / "llmbackends.yaml").read_text())


@pytest.fixture(scope="module")
def schema(crd: dict[str, Any]) -> dict[str, Any]:
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


@pytest.fixture(scope="module")
def spec(schema: dict[str, Any]) -> dict[str, Any]:
    return schema["properties"]["spec"]


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[*]")


def test_names_of_the_resource(crd: dict[str, Any]) -> None:
    names = crd["spec"]["names"]
    version = crd["spec"]["versions"][0]
    assert crd["metadata"]["name"] == f"{PLURAL}.{GROUP}"
    assert (crd["spec"]["group"], version["name"]) == (GROUP, VERSION)
    assert (names["plural"], names["kind"]) == (PLURAL, KIND)


def test_fields_are_those_of_the_schema(spec: dict[str, Any]) -> None:
    ours = {
        name: {
            "type": field.kind.value,
            "minimum": field.minimum,
            "maximum": field.maximum,
            "maxLength": field.max_length,
            "enum": list(field.values) or None,
            "default": field.default,
        }
        for name, field in FIELDS.items()
    }
    keys = ("type", "minimum", "maximum", "maxLength", "enum", "default")
    theirs = {
        name: {key: field.get(key) for key in keys} for name, field in spec["properties"].items()
    }
    assert ours == theirs
    assert list(REQUIRED) == spec["required"]


def test_rules_are_those_of_the_schema(spec: dict[str, Any]) -> None:
    theirs = [
        (rule["fieldPath"].removeprefix("."), rule["message"])
        for rule in spec["x-kubernetes-validations"]
    ]
    for name, field in spec["properties"].items():
        theirs += [(name, rule["message"]) for rule in field.get("x-kubernetes-validations", [])]
    assert [(rule.field, rule.message) for rule in RULES] == theirs


def test_both_urls_keep_the_same_rules(spec: dict[str, Any]) -> None:
    fields = spec["properties"]
    rules = fields["endpointURL"]["x-kubernetes-validations"]
    assert len(rules) == 9
    assert fields["fallbackEndpointURL"]["x-kubernetes-validations"] == rules


def test_everything_is_bounded(schema: dict[str, Any]) -> None:
    # The API server reckons the cost of a rule from the bounds, and refuses the CRD without them.
    for path, part in walk(schema):
        assert "x-kubernetes-preserve-unknown-fields" not in part, path
        if path.startswith((".spec.", ".status.")):
            match part["type"]:
                case "string":
                    assert part.keys() & {"maxLength", "enum", "format"}, path
                case "integer" | "number":
                    assert "minimum" in part, path
                    assert "maximum" in part or path.startswith(".status."), path
                case "array":
                    assert "maxItems" in part, path


def test_kubectl_explain_has_words_for_everything(schema: dict[str, Any]) -> None:
    silent = [path for path, part in walk(schema) if not part.get("description", "").endswith(".")]
    assert silent == [".metadata"]


def test_every_rule_has_an_example_that_breaks_it() -> None:
    shown = {match.groups() for file in INVALID for match in EXPECT.finditer(file.read_text())}
    wanted = {(f"spec.{rule.field}", rule.message) for rule in RULES}
    for name, field in FIELDS.items():
        path = f"spec.{name}"
        if name in REQUIRED:
            wanted.add((path, "Required value"))
        if field.minimum is not None:
            wanted.add((path, f"should be greater than or equal to {field.minimum}"))
        if field.maximum is not None:
            wanted.add((path, f"should be less than or equal to {field.maximum}"))
        if field.max_length is not None:
            wanted.add((path, f"may not be more than {field.max_length}"))
        if field.values:
            supported = ", ".join(f'"{value}"' for value in field.values)
            wanted.add((path, f"supported values: {supported}"))
    assert wanted - shown == set()


def test_every_type_has_an_example_that_breaks_it() -> None:
    text = "".join(file.read_text() for file in INVALID)
    for kind in {field.kind for field in FIELDS.values()}:
        assert f"must be of type {kind}\n" in text
