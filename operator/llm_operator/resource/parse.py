"""Manifest -> Resource: the defaults, the schema and the rules that the API server also applies.

A bad spec never raises: the Resource carries all its problems at once, so that one resource's
mistake stays its own. Only what is no LLMBackend at all raises. No I/O, and the manifest is never
changed.
"""

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any

from llm_operator.resource.build import spec
from llm_operator.resource.check import Finding, check, show, unknown
from llm_operator.resource.fields import SPEC
from llm_operator.resource.model import (
    ADMIN,
    API_VERSION,
    CHANGED_BY,
    KIND,
    PAUSED,
    Identity,
    Problem,
    Resource,
)

_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}([.]{_LABEL})*")
_NAMESPACE = re.compile(_LABEL)


class NotAResource(ValueError):
    """The manifest is not an LLMBackend of this version, or has no name to speak of it by."""


def parse(manifest: Mapping[str, Any]) -> Resource:
    """One LLMBackend, with its spec or with what is wrong with it.

    A manifest from a folder has no uid, generation or namespace: they become "", 1 and "default",
    and whoever read the folder puts its own in their place.

    Raises:
        NotAResource: another kind or version, or no metadata.name.
    """
    metadata = _metadata(manifest)
    fields: Any = {}
    given = manifest.get("spec")
    found = [*_bad_names(metadata), *unknown(manifest, known=_TOP, at="")]
    if given is None:
        found.append(Finding("spec", "Required value: it says which model is where"))
    else:
        fields, more = check(SPEC, given, "spec")
        found += more
    status = manifest.get("status")
    changed_by, changed_at = _changed(metadata)
    return Resource(
        identity=_identity(metadata),
        spec=None if found else spec(fields),
        problems=tuple(Problem(path=one.path, message=one.message) for one in found),
        deleting=metadata.get("deletionTimestamp") is not None,
        status=dict(status) if isinstance(status, Mapping) else None,
        paused=is_paused(metadata),
        changed_by=changed_by,
        changed_at=changed_at,
    )


def is_paused(metadata: Mapping[str, Any]) -> bool:
    """Whether the annotation says so. NB: it makes no new generation, so it has to be looked at
    each time.
    """
    annotations = metadata.get("annotations")
    return isinstance(annotations, Mapping) and annotations.get(PAUSED) == "true"


def _metadata(manifest: object) -> Mapping[str, Any]:
    if not isinstance(manifest, Mapping):
        raise NotAResource(f"a manifest is a mapping, this is {show(manifest)}")
    for key, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if manifest.get(key) != expected:
            raise NotAResource(f"{key} is {show(manifest.get(key))}, not {expected}")
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(metadata, Mapping) or not isinstance(name, str) or not name:
        raise NotAResource(f"metadata.name is {show(name)}; a {KIND} needs a name, as text")
    return metadata


def _identity(metadata: Mapping[str, Any]) -> Identity:
    generation = metadata.get("generation")
    return Identity(
        namespace=str(metadata.get("namespace") or "default"),
        name=metadata["name"],
        uid=str(metadata.get("uid") or ""),
        generation=generation if isinstance(generation, int) and generation > 0 else 1,
        created=_time(metadata.get("creationTimestamp")),
    )


def _changed(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Who changed the spec last, and when."""
    entries = metadata.get("managedFields")
    changes = [
        (_time(entry.get("time")), str(entry.get("manager") or ""))
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, Mapping) and not entry.get("subresource") and _owns_spec(entry)
    ]
    # NB: times are whole seconds, and of two in one second nothing says which was the later.
    at, by = max(reversed(changes), key=lambda change: change[0], default=("", ""))
    annotations = metadata.get("annotations")
    if by == ADMIN and isinstance(annotations, Mapping) and (person := annotations.get(CHANGED_BY)):
        by = f"{person} ({ADMIN})"
    return by, at


def _owns_spec(entry: Mapping[str, Any]) -> bool:
    fields = entry.get("fieldsV1")
    return isinstance(fields, Mapping) and "f:spec" in fields


def _time(given: object) -> str:
    if isinstance(given, datetime.datetime):
        # NB: YAML makes this of an unquoted time; one without an offset is UTC there, not local.
        given = given if given.tzinfo else given.replace(tzinfo=datetime.UTC)
        return given.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return given if isinstance(given, str) else ""


def _bad_names(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    name = metadata["name"]
    if not _NAME.fullmatch(name) or len(name) > 253:
        yield Finding(
            "metadata.name",
            f"must be a lowercase RFC 1123 subdomain (a-z, 0-9, - and ., at most 253), "
            f"is {show(name)}; how callers name the model goes into spec.modelName",
        )
    namespace = metadata.get("namespace") or "default"
    if not _NAMESPACE.fullmatch(str(namespace)) or len(str(namespace)) > 63:
        yield Finding(
            "metadata.namespace",
            f"must be a lowercase RFC 1123 label (a-z, 0-9 and -, at most 63), "
            f"is {show(namespace)}",
        )
