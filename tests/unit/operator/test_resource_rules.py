"""The CRD and its Python twin say the same, and every rule has an example that breaks it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.resource.fields import SPEC
from llm_operator.resource.model import GROUP, KIND, PLURAL, VERSION
from llm_operator.resource.schema import Field

ROOT = Path(__file__).resolve().parents[3]
INVALID = sorted((ROOT / "tests" / "invalid").glob("*.yaml"))
EXPECT = re.compile(r"^# expect: (?P<path>[A-Za-z0-9.\[\]]+): (?P<message>.+)$", re.MULTILINE)


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


def flat(field: Field, path: str = "spec") -> Iterator[tuple[str, Field]]:
    """Every field of our schema, by its path."""
    yield path, field
    for name, inner in field.fields.items():
        yield from flat(inner, f"{path}.{name}")
    if field.item:
        yield from flat(field.item, f"{path}[*]")


OURS = dict(flat(SPEC))


def in_the_schema_s_words(field: Field) -> dict[str, Any]:
    item = field.item
    said = {
        "type": field.kind.value,
        "minimum": field.minimum,
        "maximum": field.maximum,
        "maxLength": field.max_length,
        "enum": list(field.values) or None,
        "default": field.default,
        "required": list(field.required) or None,
        "minItems": field.min_items,
        "maxItems": field.max_items,
        "maxProperties": field.max_properties,
        "x-kubernetes-preserve-unknown-fields": field.extensible or None,
        "x-kubernetes-list-type": ("map" if field.key else "set") if item else None,
        "x-kubernetes-list-map-keys": [field.key] if field.key else None,
        "properties": list(field.fields) or None,
        "rules": [(rule.field, rule.message) for rule in field.rules] or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def test_fields_and_rules_are_those_of_the_schema(spec: dict[str, Any]) -> None:
    theirs = {}
    for path, part in walk(spec, "spec"):
        said = {k: v for k, v in part.items() if k not in ("description", "items", "format")}
        if "properties" in said:
            said["properties"] = list(said["properties"])
        if rules := said.pop("x-kubernetes-validations", None):
            said["rules"] = [
                (rule.get("fieldPath", "").removeprefix("."), rule["message"]) for rule in rules
            ]
        theirs[path] = said
    assert {path: in_the_schema_s_words(field) for path, field in OURS.items()} == theirs


def test_what_a_rule_reads_exists() -> None:
    for path, field in OURS.items():
        for rule in field.rules:
            for name in (*rule.reads, *([rule.field] if rule.field else [])):
                assert f"{path}.{name}" in OURS


def test_all_urls_keep_the_same_rules(spec: dict[str, Any]) -> None:
    urls = [part for path, part in walk(spec) if path.lower().endswith("endpointurl")]
    assert len(urls) == 3
    rules = [url["x-kubernetes-validations"] for url in urls]
    assert len(rules[0]) == 9
    assert rules[0] == rules[1] == rules[2]


def test_everything_is_bounded(schema: dict[str, Any]) -> None:
    # The API server reckons the cost of a rule from the bounds, and refuses the CRD without them.
    for path, part in walk(schema):
        if part.get("x-kubernetes-preserve-unknown-fields"):
            # Fields of a request body can't be listed; there may only be so many.
            assert path.endswith((".parameters.defaults", ".parameters.overrides"))
            assert "maxProperties" in part
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
    shown = {
        (re.sub(r"\[\d+\]", "[*]", path), message)
        for file in INVALID
        for path, message in EXPECT.findall(file.read_text())
    }
    wanted: set[tuple[str, str]] = set()
    for path, field in OURS.items():
        at = f"{path}."
        wanted |= {
            (f"{at}{rule.field}" if rule.field else path, rule.message) for rule in field.rules
        }
        wanted |= {(f"{at}{name}", "Required value") for name in field.required}
        for bound, phrase in (
            (field.minimum, "should be greater than or equal to {}"),
            (field.maximum, "should be less than or equal to {}"),
            (field.max_length, "may not be more than {}"),
            (field.max_items, "must have at most {} items"),
            (field.max_properties, "must have at most {} items"),
            (field.min_items, "should have at least {} items"),
        ):
            if bound is not None:
                wanted.add((path, phrase.format(bound)))
        if field.values:
            supported = ", ".join(f'"{value}"' for value in field.values)
            wanted.add((path, f"supported values: {supported}"))
    assert wanted - shown == set()


def test_every_type_has_an_example_that_breaks_it() -> None:
    text = "".join(file.read_text() for file in INVALID)
    for kind in {field.kind for field in OURS.values()}:
        assert f"must be of type {kind}\n" in text


def test_every_list_has_an_example_that_repeats_itself() -> None:
    text = "".join(file.read_text() for file in INVALID)
    for path, field in OURS.items():
        if field.item:
            place = re.escape(path).replace(r"\[\*\]", r"\[\d\]")
            assert re.search(rf"{place}\[\d\]: Duplicate value", text), path
