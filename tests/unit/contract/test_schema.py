"""routing.schema.json and `parse` take and refuse the same documents.

Every place of a full document is replaced by every kind of value, so a rule that stands in one of
the two only shows here.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import astuple
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from llm_contract import (
    SCHEMA_VERSION,
    ActiveCheck,
    Auth,
    ContractError,
    PassiveCheck,
    TargetType,
    headers,
    parse,
)

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
                {
                    "name": "a",
                    "type": "mlx",
                    "url": "http://mac:8080",
                    "model": "default_model",
                    "tier": 0,
                    "weight": 90,
                    "maxConcurrent": 2,
                    "onBusy": "Queue",
                    "auth": {"credential": "mac_token", "header": "X-Api-Key", "scheme": ""},
                    "tls": {
                        "ca": "_ca_ca.crt",
                        "clientCertificate": "me_tls.crt",
                        "clientKey": "me_tls.key",
                        "serverName": "mac.lan",
                        "insecure": False,
                    },
                    "headers": {
                        "set": [{"name": "X-Team", "value": "a b"}],
                        "remove": ["Cookie", "Authorization"],
                    },
                    "timeouts": {"connect": 1, "firstToken": 5.5, "streamIdle": 2},
                    "parameters": {"defaults": {"n": 1}, "overrides": {"think": False}},
                    "numCtx": 8192,
                    "keepAlive": "30m",
                    "healthPath": "/health",
                },
                {"name": "o", "type": "ollama", "url": "https://o", "model": "phi3:mini"},
            ],
            "timeouts": {"total": 60, "connect": 3, "firstToken": 30.5, "streamIdle": 15},
            "defaults": {"maxTokens": 2048, "temperature": 0.7, "keepAliveSeconds": -1},
            "aliases": ["phi3", "phi"],
            "stickyHeader": "X-Session-Id",
            "parameters": {"defaults": {"top_p": 0.9}, "overrides": {"stop": ["a", None]}},
            "fallback": {"on": ["ConnectFailure", "Busy"], "maxAttempts": 3},
            "health": {
                "active": {
                    "enabled": True,
                    "interval": 15,
                    "timeout": 3,
                    "unhealthyThreshold": 2,
                    "healthyThreshold": 1,
                    "requireModel": False,
                },
                "passive": {"failures": 3, "eject": 15, "maxEject": 300},
            },
        }
    ],
}

MISSING = object()
VALUES: list[object] = [
    *(MISSING, None, True, False),
    *(-2, -1, 0, 1, 2, 7, -0.5, 0.0005, 0.001, 0.5, 1.5),
    *("", "x", "mlx", "ollama", "openai", "1", "http://h", "https://h", "ftp://h", "HTTP://h"),
    *("Host", "cOOKIE", "aUTHORIZATION", "Accept-Encoding", "x y", " x", "x ", "\u00e4", "/"),
    *([], ["x"], ["x", "x"], ["Host"], [{}], {}, {"x": 1}, {"": 1}),
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


def test_both_refuse_every_reserved_header_in_any_case() -> None:
    edits = ("routes", 0, "targets", 0, "headers")
    for name in (*headers.RESERVED, *headers.SECRET):
        for spelt in (name, name.upper(), name.title()):
            removed = replaced((*edits, "remove", 0), spelt)
            may = name in headers.SECRET
            assert (parses(removed), VALIDATOR.is_valid(removed)) == (may, may)
            assert not parses(replaced((*edits, "set", 0, "name"), spelt))
            assert not VALIDATOR.is_valid(replaced((*edits, "set", 0, "name"), spelt))


def test_defaults_are_those_of_the_values() -> None:
    route, target = SCHEMA["$defs"]["route"], SCHEMA["$defs"]["target"]
    health = route["properties"]["health"]["properties"]
    assert {
        group: [field["default"] for field in health[group]["properties"].values()]
        for group in health
    } == {
        "active": list(astuple(ActiveCheck())),
        "passive": list(astuple(PassiveCheck())),
    }
    auth = target["properties"]["auth"]["properties"]
    usual = Auth(credential="x")
    assert (auth["header"]["default"], auth["scheme"]["default"]) == (usual.header, usual.scheme)


def test_both_know_the_same_version_and_types() -> None:
    assert SCHEMA["properties"]["schemaVersion"]["maximum"] == SCHEMA_VERSION
    assert SCHEMA["$defs"]["target"]["properties"]["type"]["enum"] == list(TargetType)
