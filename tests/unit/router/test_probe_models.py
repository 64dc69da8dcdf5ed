"""Lists of models as hosts send them, and as they should not."""

import pytest

from llm_router.probe import models

JUNK = [b"", b"null", b"[]", b"{}", b'"x"', b"\xff", b'{"models": 3, "data": 3}', b"<html>"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("phi3", "phi3:latest"),
        ("phi3:mini", "PHI3:Mini"),
        ("phi3:mini", "library/phi3:mini"),
        ("phi3", "registry.ollama.ai/library/phi3:latest"),
        ("hf.co/Org/Model-GGUF", "hf.co/org/model-gguf:latest"),
        ("host:5000/org/model", "host:5000/org/model:latest"),
    ],
)
def test_names_that_are_one(one: str, other: str) -> None:
    assert models.full(one) == models.full(other)


@pytest.mark.parametrize(
    ("one", "other"), [("phi3", "phi3:mini"), ("phi3:mini", "phi4:mini"), ("a/phi3", "phi3")]
)
def test_names_that_are_two(one: str, other: str) -> None:
    assert models.full(one) != models.full(other)


def test_tags() -> None:
    body = b"""{"models": [{"name": "phi3:mini", "model": "phi3:mini", "digest": "ab"},
        {"name": "Qwen:7b"}, 3, {}]}"""
    assert models.tags(body) == {"phi3:mini": "ab", "qwen:7b": ""}
    assert models.tags(b'{"models": []}') == {}, "a host without models says so"


def test_ids() -> None:
    assert models.ids(b'{"object": "list", "data": [{"id": "a"}, {"id": 3}, {}]}') == frozenset("a")
    assert models.ids(b'{"data": []}') is None, "an empty list is none"


def test_running() -> None:
    body = b"""{"models": [
        {"name": "phi3:mini", "size": 5, "size_vram": 4, "expires_at": "2026-01-01T00:00:00Z",
         "context_length": 4096, "digest": "ab", "details": {"family": "phi3"}},
        {"model": "odd", "size": "large", "details": []}]}"""
    found = models.running(body)
    assert found is not None
    one, odd = found["phi3:mini"], found["odd:latest"]
    assert (one.size_vram, one.context_length, one.details) == (4, 4096, {"family": "phi3"})
    assert (odd.name, odd.size, odd.details) == ("odd", None, None)


def test_a_copy_is_loaded_with_its_original() -> None:
    loaded = models.running(b'{"models": [{"name": "a", "digest": "ab"}, {"name": "c"}]}')
    assert loaded is not None
    listed = {"a:latest": "ab", "b:latest": "ab", "c:latest": "", "d:latest": "cd", "e:latest": ""}
    found = models.with_copies(loaded, listed)
    assert found.keys() == {"a:latest", "b:latest", "c:latest"}
    assert found["b:latest"] is found["a:latest"]


@pytest.mark.parametrize("body", JUNK)
def test_what_is_no_list_is_none(body: bytes) -> None:
    assert models.tags(body) is None
    assert models.running(body) is None
    assert models.ids(body) is None
