"""The reference of the LLMBackend resource, out of its definition.

    python docs/site/reference.py        writes docs/reference/llmbackend.md anew

The definition is the one place where a field is described; a test compares the page with it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = ROOT / "crds" / "llmbackends.yaml"
PAGE = ROOT / "docs" / "reference" / "llmbackend.md"

HEAD = """# LLMBackend

Every field, as the API server knows it: made from `crds/llmbackends.yaml` by
`python docs/site/reference.py`. [The resource](../resource.md) tells what they are for;
`kubectl explain llmbackends.spec --recursive` prints them too. `[]` after a name is one item of a
list.
"""

Schema = Mapping[str, Any]


def page(definition: Schema) -> str:
    """The whole page."""
    names = definition["spec"]["names"]
    parts = [HEAD]
    for version in definition["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]["properties"]
        title = f"{definition['spec']['group']}/{version['name']}"
        short = ", ".join(f"`{name}`" for name in names["shortNames"])
        parts.append(f"## {title}\n\nKind `{names['kind']}`, short name {short}, namespaced.\n")
        for part in ("spec", "status"):
            parts.append(f"### {part}\n\n{_fields(schema[part])}")
        parts.append(f"### Rules\n\n{_rules(schema['spec'])}")
        parts.append(f"### Columns\n\n{_columns(version['additionalPrinterColumns'])}")
    return "\n".join(parts)


def _fields(schema: Schema) -> str:
    rows = ["| Field | Type | Default | Limits | What it is |", "|---|---|---|---|---|"]
    for path, field, required in _walk(schema, ""):
        limits = [*(["required"] if required else []), *_limits(field)]
        default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        cells = (f"`{path}`", _type(field), default, ", ".join(limits), _text(field))
        rows.append(f"| {' | '.join(_cell(each) for each in cells)} |")
    return "\n".join(rows) + "\n"


def _walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    """Each field with its path and whether it has to be there."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield below, field, name in required
        yield from _walk(field, below)
        if field.get("type") == "array":
            yield from _walk(field["items"], f"{below}[]")


def _type(field: Schema) -> str:
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return str(field.get("format") or field.get("type") or "any JSON")


def _limits(field: Schema) -> list[str]:
    """What the schema says besides the type."""
    values = [f"`{value}`" for value in field.get("enum", ())]
    told = ["one of " + " ".join(values)] if values else []
    for low, high, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " entries"),
    ):
        if low in field or high in field:
            bounds = f"{field.get(low, '')} to {field.get(high, '')}".strip()
            told.append(
                f"{bounds.removeprefix('to').strip()}{unit}"
                if low in field
                else f"at most {field[high]}{unit}"
            )
    if "pattern" in field:
        told.append(_code(field["pattern"]))
    return told


def _code(text: str) -> str:
    """Code that no reader of Markdown takes for a link."""
    if "](" not in text:
        return f"`{text}`"
    signs = (sign if sign.isalnum() else f"&#{ord(sign)};" for sign in text)
    return f"<code>{''.join(signs)}</code>"


def _text(field: Schema) -> str:
    return " ".join(str(field.get("description", "")).split())


def _rules(schema: Schema) -> str:
    """What the API server refuses, in its words."""
    rows = ["| Where | Refused with |", "|---|---|"]
    rows += [
        f"| `{path}{rule.get('fieldPath', '')}` | {_cell(_message(rule))} |"
        for path, field in [("spec", schema), *((p, f) for p, f, _ in _below(schema))]
        for rule in field.get("x-kubernetes-validations", ())
    ]
    return "\n".join(rows) + "\n"


def _message(rule: Schema) -> str:
    return str(rule.get("message") or rule["messageExpression"])


def _below(schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    for path, field, required in _walk(schema, ""):
        yield path, field, required
        if field.get("type") == "array":
            yield f"{path}[]", field["items"], False


def _columns(columns: list[Schema]) -> str:
    rows = ["| Column | What it shows |", "|---|---|"]
    for each in columns:
        wide = " Only with `-o wide`." if each.get("priority") else ""
        rows.append(f"| {each['name'].upper()} | {_text(each)}{wide} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(yaml.safe_load(DEFINITION.read_text())))
