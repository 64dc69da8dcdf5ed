"""routing.schema.json and `parse` take and refuse the same documents.

Every place of a full document is replaced by every kind of value, so a rule that stands in one of
the two only shows here.
"""

import copy
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from llm_contract import SCHEMA_VERSION, ContractError, TargetType, parse

SCHEMA = json.loads(files("llm_contract").joinpath("routing.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

FULL: dict[str, Any] = {
    "schemaVersion": 1,
    "routes": [
        {
            "model": "phi3:mini",
            "uid": "u-1",
            "generation": 3,
            "name": "phi3-mini",
            "targets": [
                {"name": "mlx", "type": "mlx", "url": "http://mac:8080", "model": "default_model"},
                {"name": "o", "type": "ollama", "url": "https://o", "model": "phi3:mini"},
            ],
            "timeouts": {"total": 60, "connect": 3, "firstToken": 30.5, "streamIdle": 15},
            "defaults": {"maxTokens": 2048, "temperature": 0.7, "keepAliveSeconds": -1},
        }
    ],
}

MISSING = object()
VALUES: list[object] = [
    *(MISSING, None, True, False),
    *(-2, -1, 0, 1, 2, 7, -0.5, 0.0005, 0.001, 0.5, 1.5),
    *("", "x", "mlx", "ollama", "openai", "1", "http://h", "https://h", "ftp://h", "HTTP://h"),
    *([], ["x"], [{}], {}, {"x": 1}),
]


def places(value: object, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every path of a document, its root excepted."""
    if way:
        yield way
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*way, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*way, index))


PLACES = list(places(FULL))


def replaced(way: tuple[str | int, ...], value: object) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    place: Any = document
    for step in way[:-1]:
        place = place[step]
    if value is MISSING:
        del place[way[-1]]
    else:
        place[way[-1]] = value
    return document


def parses(document: object) -> bool:
    try:
        parse(json.dumps(document).encode())
    except ContractError:
        return False
    return True


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_both_take_the_full_document() -> None:
    assert parses(FULL)
    assert VALIDATOR.is_valid(FULL)


@pytest.mark.parametrize("way", PLACES, ids=lambda way: ".".join(map(str, way)))
def test_both_judge_each_place_alike(way: tuple[str | int, ...]) -> None:
    documents = [replaced(way, value) for value in VALUES]
    differ = [
        value if value is not MISSING else "missing"
        for value, document in zip(VALUES, documents, strict=True)
        if parses(document) != VALIDATOR.is_valid(document)
    ]
    assert differ == []


@pytest.mark.parametrize("document", [None, [], "x", 5, {}, {"routes": []}, {"schemaVersion": 1}])
def test_both_refuse_what_is_no_configuration(document: object) -> None:
    assert not parses(document)
    assert not VALIDATOR.is_valid(document)


def test_both_ignore_fields_they_do_not_know() -> None:
    for way in PLACES:
        newer = copy.deepcopy(FULL)
        place: Any = newer
        for step in way:
            place = place[step]
        if isinstance(place, dict):
            place["aNewerField"] = {"x": [1]}
            assert parses(newer)
            assert VALIDATOR.is_valid(newer)


def test_both_know_the_same_version_and_types() -> None:
    assert SCHEMA["properties"]["schemaVersion"]["maximum"] == SCHEMA_VERSION
    assert SCHEMA["$defs"]["target"]["properties"]["type"]["enum"] == list(TargetType)
