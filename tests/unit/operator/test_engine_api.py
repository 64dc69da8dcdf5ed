"""What an answer of the API server means, and what kopf is told to remember."""

import json
from collections.abc import AsyncIterator

import kopf
import pytest

from llm_operator import handlers
from llm_operator.api import _failure, _lines
from llm_operator.ports import Gone, PortError, Refused, Unavailable


def answer(code: int, *, causes: list[dict[str, str]] | None = None) -> PortError:
    status = {"kind": "Status", "message": "it said so", "details": {"causes": causes}}
    return _failure("GET /x", code, json.dumps(status).encode())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Refused),
        (401, Refused),
        (403, Refused),
        (404, Gone),
        (408, Unavailable),
        (409, Unavailable),
        (410, Gone),
        (413, Refused),
        (422, Refused),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
def test_codes(code: int, kind: type[PortError]) -> None:
    error = answer(code)
    assert type(error) is kind
    assert str(error) == f"GET /x: HTTP {code}: it said so"


def test_what_is_confidential_is_not_repeated() -> None:
    text = json.dumps({"message": 'admission denied: data.tok = "c2VjcmV0"'}).encode()
    assert str(_failure("PATCH /x", 403, text, confidential=True)) == "PATCH /x: HTTP 403"


async def test_lines_of_a_watch_are_whole_however_they_arrive() -> None:
    long = b"x" * 300_000

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"o", b"ne\ntwo", b"\n\n", long, b"\nunfinished"):
            yield chunk

    assert [line async for line in _lines(chunks())] == [b"one", b"two", long]


def test_a_namespace_on_its_way_out_is_gone() -> None:
    assert type(answer(403, causes=[{"reason": "NamespaceTerminating"}])) is Gone


@pytest.mark.parametrize("text", [b"", b"<html>", b"[]", b"null", b"{}", b'{"message": null}'])
def test_an_answer_of_something_else_is_no_crash(text: bytes) -> None:
    assert isinstance(_failure("GET /x", 502, text), Unavailable)


def test_a_long_answer_is_cut() -> None:
    text = json.dumps({"message": "x" * 100_000}).encode()
    assert len(str(_failure("GET /x", 422, text))) < 1000


def test_kopf_remembers_the_object_and_its_generation_only() -> None:
    body = kopf.Body(
        {
            "metadata": {"uid": "u", "generation": 3, "labels": {"a": "b"}, "annotations": {}},
            "spec": {"modelName": "phi3", "description": "not to be copied"},
            "status": {"conditions": []},
        }
    )
    assert handlers.Handled().build(body=body) == {"metadata": {"uid": "u", "generation": 3}}


def test_a_deletion_is_no_news_to_remember() -> None:
    handled = {"metadata": {"uid": "u", "generation": 3}}
    metadata = {
        "uid": "u",
        "generation": 4,
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"llm.athena.dev/handled": json.dumps(handled)},
    }
    assert handlers.Handled().build(body=kopf.Body({"metadata": metadata})) == handled
    metadata["annotations"] = {}
    fresh = handlers.Handled().build(body=kopf.Body({"metadata": metadata}))
    assert fresh == {"metadata": {"uid": "u", "generation": 4}}


def test_the_names_that_can_not_change() -> None:
    settings = kopf.OperatorSettings()
    handlers.apply(settings)
    assert settings.persistence.finalizer == "llm.athena.dev/cleanup"
    assert isinstance(settings.persistence.diffbase_storage, handlers.Handled)
    assert settings.persistence.diffbase_storage.prefix == "llm.athena.dev"
    assert settings.persistence.diffbase_storage.key == "handled"
    assert settings.peering.standalone
    assert settings.scanning.disabled
