"""docs/resource.md says what the CRD says: each field, its kind, its default and its meaning.

The tables are written from the CRD's descriptions, so that `kubectl explain` and the document are
one text. Whoever changes a field writes them anew and reads the difference:

    python tests/unit/test_docs_resource.py
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.resource.parse import parse
from llm_operator.resource.rules import SIMPLE

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "resource.md"
HEAD = "| Field | Kind | Default | Meaning |\n|---|---|---|---|\n"

#: Heading -> the fields of the spec below it; None for all that are under no other.
TABLES: dict[str, tuple[str, ...] | None] = {
    "The simple form": SIMPLE,
    "The full form": ("targets",),
    "Both forms": None,
}


def spec_of_the_crd() -> dict[str, Any]:
    crd = yaml.safe_load((ROOT / "crds" / "llmbackends.yaml").read_text())
    spec: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(spec["properties"]["spec"])


def fields(schema: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a schema by its path, a list's items as `name[]`."""
    for name, field in schema.get("properties", {}).items():
        path = f"{at}.{name}" if at else name
        yield path, field
        if "items" in field:
            yield from fields(field["items"], f"{path}[]")
        yield from fields(field, path)


def kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{word}`" for word in field["enum"])
    if field["type"] == "array":
        # What an item is stands in the rows below it, or is a word of the list itself.
        return f"up to {field['maxItems']}" + (
            f" of {kind(field['items'])}" if "enum" in field["items"] else ""
        )
    if "minimum" in field:
        return f"{field['type']}, {field['minimum']} to {field['maximum']}"
    if "maxLength" in field:
        return f"text, up to {field['maxLength']}"
    if "maxProperties" in field:
        return f"any fields, up to {field['maxProperties']}"
    return {"boolean": "true or false", "object": "group"}.get(field["type"], field["type"])


def told(field: dict[str, Any]) -> tuple[str, str]:
    """The default and the meaning, which a description ends and begins with."""
    text: str = field["description"]
    meaning, _, required = text.removesuffix(".").partition(". Required")
    if required or text.endswith(". Required."):
        return f"required{required}", f"{meaning}."
    meaning, _, default = text.partition(" Default: ")
    return default.removesuffix(".") or "unset", meaning


def rows(names: tuple[str, ...] | None) -> list[str]:
    chosen = {
        name: field
        for name, field in spec_of_the_crd()["properties"].items()
        if (name in names if names else all(name not in (t or ()) for t in TABLES.values()))
    }
    return [
        f"| `{path}` | {kind(field)} | {told(field)[0]} | {told(field)[1]} |"
        for path, field in fields({"properties": chosen})
    ]


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", DOCUMENT.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("heading", TABLES)
def test_the_table_is_the_crd_s(heading: str) -> None:
    documented = [line for line in sections()[heading].splitlines() if line.startswith("|")]
    assert documented == [*HEAD.splitlines(), *rows(TABLES[heading])]


def test_every_default_of_the_schema_is_told() -> None:
    for path, field in fields(spec_of_the_crd()):
        if "default" in field:
            default = field["default"]
            word = str(default).lower() if isinstance(default, bool) else str(default)
            assert told(field)[0] == word, path


def test_what_is_required_is_told() -> None:
    def required(schema: dict[str, Any], at: str = "") -> Iterator[str]:
        yield from (f"{at}{name}" for name in schema.get("required", ()))
        for name, field in schema.get("properties", {}).items():
            yield from required(field, f"{at}{name}.")
            yield from required(field.get("items", {}), f"{at}{name}[].")

    said = {path for path, field in fields(spec_of_the_crd()) if told(field)[0] == "required"}
    assert said == set(required(spec_of_the_crd()))


def test_the_examples_are_resources() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(examples) == 2
    simple, full = (parse(yaml.safe_load(example)) for example in examples)
    assert simple.problems == full.problems == ()
    assert simple.spec is not None
    assert full.spec is not None
    assert not simple.spec.hosts
    assert len(full.spec.hosts) == 3


def write() -> None:
    """Write the tables anew."""
    text = DOCUMENT.read_text()
    for heading, names in TABLES.items():
        start = text.index(f"## {heading}\n") + len(f"## {heading}\n")
        end = text.index("\n## ", start)
        table = HEAD + "".join(f"{row}\n" for row in rows(names))
        text = f"{text[:start]}\n{table}{text[end:]}"
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    write()
