"""A host's lists of models, as bytes -> names. Pure; a list of an unknown shape is None."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

T = TypeVar("T")

#: Where Ollama's names come from when they do not say.
_HOME = ("registry.ollama.ai/", "library/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model in a host's memory, as its host tells; None for what it does not."""

    name: str
    size: int | None = None
    size_vram: int | None = None
    expires_at: str | None = None
    context_length: int | None = None
    digest: str | None = None
    details: Mapping[str, Any] | None = None


def full(name: str) -> str:
    """An Ollama name as it compares: with its tag, without the default registry, in lower case."""
    for prefix in _HOME:
        name = name.removeprefix(prefix)
    return (name if ":" in name.rpartition("/")[2] else f"{name}:latest").lower()


def tags(body: bytes) -> dict[str, str] | None:
    """The models of Ollama's GET /api/tags, by full name, with their digests ("" for none)."""
    listed = _objects(body, "models")
    if listed is None:
        return None
    return {
        full(name): _of(str, one.get("digest")) or ""
        for one in listed
        for key in ("name", "model")
        if isinstance(name := one.get(key), str) and name
    }


def running(body: bytes) -> dict[str, Loaded] | None:
    """The models of Ollama's GET /api/ps, by full name."""
    listed = _objects(body, "models")
    if listed is None:
        return None
    found: dict[str, Loaded] = {}
    for one in listed:
        name = one.get("model") or one.get("name")
        if isinstance(name, str) and name:
            found[full(name)] = Loaded(
                name=name,
                size=_of(int, one.get("size")),
                size_vram=_of(int, one.get("size_vram")),
                expires_at=_of(str, one.get("expires_at")),
                context_length=_of(int, one.get("context_length")),
                digest=_of(str, one.get("digest")),
                details=_of(dict, one.get("details")),
            )
    return found


def with_copies(loaded: Mapping[str, Loaded], listed: Mapping[str, str]) -> dict[str, Loaded]:
    """Loaded models under all their names.

    NB: Ollama runs a model and its copies as one, and names the one that was asked for first.
    """
    digests = {one.digest: one for one in loaded.values() if one.digest}
    copies = {name: digests[digest] for name, digest in listed.items() if digest in digests}
    return {**copies, **loaded}


def ids(body: bytes) -> frozenset[str] | None:
    """The models of an OpenAI server's GET /v1/models; None for a list that holds none."""
    listed = _objects(body, "data")
    names = (one.get("id") for one in listed or ())
    # NB: some servers have the route and fill it with nothing.
    return frozenset(name for name in names if isinstance(name, str)) or None


def _objects(body: bytes, name: str) -> list[dict[str, Any]] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    listed = document.get(name) if isinstance(document, dict) else None
    if listed is None:
        return None
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else None


def _of(kind: type[T], value: object) -> T | None:
    return value if isinstance(value, kind) else None
