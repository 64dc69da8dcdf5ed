"""A resource as a row: every field is there, and 0 is not nothing."""

from pathlib import Path

import yaml

from llm_operator.record.rows import COLUMNS, document, row
from llm_operator.resource.model import BackendType, Identity, Resource, Spec
from llm_operator.resource.parse import parse

VALID = Path(__file__).resolve().parents[2] / "valid"

IDENTITY = Identity(namespace="prod", name="phi", uid="u-1", generation=3)
FULL = Spec(
    model_name="phi3:mini",
    backend_type=BackendType.AUTO,
    endpoint_url="http://mac:8080",
    fallback_endpoint_url="http://mac:11434",
    upstream_model="mlx-community/Phi-3",
    enabled=False,
    priority=5,
    max_tokens=1,
    temperature=0.5,
    timeout_seconds=9,
    keep_alive_seconds=-1,
    description="Fast",
)


def made(spec: Spec) -> dict[str, object]:
    return row(Resource(identity=IDENTITY, spec=spec), spec)


def test_has_exactly_the_columns_that_the_statements_name() -> None:
    assert list(made(FULL)) == list(COLUMNS)


def test_carries_the_fields() -> None:
    columns = made(FULL)
    assert columns["uid"] == "u-1"
    assert columns["generation"] == 3
    assert columns["backend_type"] == "auto"
    assert columns["temperature_default"] == 0.5
    assert columns["enabled"] is False


def test_the_document_has_every_field_of_the_spec() -> None:
    for file in sorted(VALID.glob("*.yaml")):
        spec = parse(yaml.safe_load(file.read_text())).spec
        assert spec is not None
        assert document(spec) == {"description": ""} | spec.fields, file.name
    assert document(FULL)["fallbackEndpointURL"] == "http://mac:11434"


def test_the_document_leaves_out_what_is_not_set_and_keeps_zero() -> None:
    spec = Spec(
        model_name="m",
        backend_type=BackendType.OLLAMA,
        max_tokens=0,
        temperature=0.0,
        keep_alive_seconds=0,
    )
    assert document(spec) == {
        "modelName": "m",
        "backendType": "ollama",
        "enabled": True,
        "priority": 100,
        "maxTokens": 0,
        "temperature": 0.0,
        "timeoutSeconds": 60,
        "keepAliveSeconds": 0,
        "description": "",
    }
    columns = made(spec)
    assert columns["max_tokens"] == 0
    assert columns["temperature_default"] == 0.0
    assert columns["endpoint_url"] is None
