"""Manifest -> Resource: the defaults, the schema and the rules that the API server also applies.

A bad spec never raises: the Resource carries all its problems at once, so that one resource's
mistake stays its own. Only what is no LLMBackend at all raises. No I/O, and the manifest is never
changed.
"""

import datetime
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from llm_operator.resource.model import (
    API_VERSION,
    KIND,
    BackendType,
    Identity,
    Problem,
    Resource,
    Spec,
)
from llm_operator.resource.rules import FIELDS, REQUIRED, RULES, Field, Kind

_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}([.]{_LABEL})*")
_NAMESPACE = re.compile(_LABEL)
_YAML_BOOLEANS = ("y", "n", "yes", "no", "on", "off", "true", "false")


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
    fields, problems = _fields(manifest.get("spec"))
    problems = [*_bad_names(metadata), *_unknown(manifest, known=_TOP, at=""), *problems]
    status = manifest.get("status")
    return Resource(
        identity=_identity(metadata),
        spec=None if problems else _spec(fields),
        problems=tuple(problems),
        deleting=metadata.get("deletionTimestamp") is not None,
        status=dict(status) if isinstance(status, Mapping) else None,
    )


def _metadata(manifest: object) -> Mapping[str, Any]:
    if not isinstance(manifest, Mapping):
        raise NotAResource(f"a manifest is a mapping, this is {_show(manifest)}")
    for key, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if manifest.get(key) != expected:
            raise NotAResource(f"{key} is {_show(manifest.get(key))}, not {expected}")
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(metadata, Mapping) or not isinstance(name, str) or not name:
        raise NotAResource(f"metadata.name is {_show(name)}; a {KIND} needs a name, as text")
    return metadata


def _identity(metadata: Mapping[str, Any]) -> Identity:
    generation, created = metadata.get("generation"), metadata.get("creationTimestamp")
    if isinstance(created, datetime.datetime):
        # NB: YAML makes this of an unquoted time; one without an offset is UTC there, not local.
        created = created if created.tzinfo else created.replace(tzinfo=datetime.UTC)
        created = created.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Identity(
        namespace=str(metadata.get("namespace") or "default"),
        name=metadata["name"],
        uid=str(metadata.get("uid") or ""),
        generation=generation if isinstance(generation, int) and generation > 0 else 1,
        created=created if isinstance(created, str) else "",
    )


def _bad_names(metadata: Mapping[str, Any]) -> Iterator[Problem]:
    name = metadata["name"]
    if not _NAME.fullmatch(name) or len(name) > 253:
        yield Problem(
            path="metadata.name",
            message=f"must be a lowercase RFC 1123 subdomain (a-z, 0-9, - and ., at most 253), "
            f"is {_show(name)}; how callers name the model goes into spec.modelName",
        )
    namespace = metadata.get("namespace") or "default"
    if not _NAMESPACE.fullmatch(str(namespace)) or len(str(namespace)) > 63:
        yield Problem(
            path="metadata.namespace",
            message=f"must be a lowercase RFC 1123 label (a-z, 0-9 and -, at most 63), "
            f"is {_show(namespace)}",
        )


def _unknown(given: Mapping[Any, Any], *, known: tuple[str, ...], at: str) -> Iterator[Problem]:
    by_small = {name.lower(): name for name in known}
    for name in given:
        if name in known:
            continue
        close = difflib.get_close_matches(str(name).lower(), by_small, n=1, cutoff=0.6)
        hint = f"; did you mean {by_small[close[0]]}?" if close else ""
        yield Problem(path=f"{at}{name}", message=f"unknown field{hint}")


def _fields(raw: object) -> tuple[dict[str, Any], list[Problem]]:
    """The fields that are set, defaults included, and what is wrong with them."""
    if raw is None:
        return {}, [Problem(path="spec", message="Required value: it says which model is where")]
    if not isinstance(raw, Mapping):
        return {}, [Problem(path="spec", message=f"must be of type object, is {_show(raw)}")]
    problems = list(_unknown(raw, known=tuple(FIELDS), at="spec."))
    fields: dict[str, Any] = {}
    bad: set[str] = set()
    for name, field in FIELDS.items():
        value = raw.get(name)
        if value is None:
            # NB: the API server, too, takes null for "not set".
            value = field.default
        if value is None:
            message = "Required value" if name in REQUIRED else ""
        else:
            fields[name] = value = _whole(field, value)
            message = _against(field, value)
        if message:
            bad.add(name)
            problems.append(Problem(path=f"spec.{name}", message=message))
    problems += (
        Problem(path=f"spec.{rule.field}", message=rule.message)
        for rule in RULES
        if bad.isdisjoint(rule.reads) and not rule.holds(fields)
    )
    return fields, problems


def _whole(field: Field, value: Any) -> Any:
    # NB: JSON has one kind of number, so 5.0 is an integer to the API server.
    if field.kind is Kind.INTEGER and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _against(field: Field, value: Any) -> str:
    """What the field's schema has against a value; "" for nothing."""
    if not _is(field.kind, value):
        return f"must be of type {field.kind}, is {_show(value)}{_advice(field.kind, value)}"
    if field.values and value not in field.values:
        supported = ", ".join(f'"{one}"' for one in field.values)
        return f"{_show(value)} is none of the supported values: {supported}"
    if field.max_length is not None and len(value) > field.max_length:
        return f"Too long: has {len(value)} characters, may not be more than {field.max_length}"
    # NB: written so that NaN, which is neither below nor above, is refused.
    if field.minimum is not None and not value >= field.minimum:
        return f"should be greater than or equal to {field.minimum}, is {_show(value)}"
    if field.maximum is not None and not value <= field.maximum:
        return f"should be less than or equal to {field.maximum}, is {_show(value)}"
    return ""


def _is(kind: Kind, value: object) -> bool:
    match kind:
        case Kind.BOOLEAN:
            return isinstance(value, bool)
        case Kind.STRING:
            return isinstance(value, str)
        case Kind.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)


def _advice(kind: Kind, value: object) -> str:
    """How a value of the wrong type most likely came about, as the end of a sentence."""
    if kind is Kind.STRING:
        if isinstance(value, bool):
            return "; put it in quotes (YAML reads yes, no, on and off as true and false)"
        return "" if isinstance(value, Mapping | list) else "; put it in quotes"
    if kind is Kind.BOOLEAN:
        quoted = isinstance(value, str) and value.lower() in _YAML_BOOLEANS
        return "; write true or false without quotes" if quoted else "; write true or false"
    return "; write a number without quotes or unit" if isinstance(value, str) else ""


def _show(value: object) -> str:
    """A value as YAML would have it, short."""
    if isinstance(value, str | int | float | bool) or value is None:
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 64 else f"{text[:60]}..."
    if isinstance(value, datetime.date):
        return value.isoformat()
    return "a list" if isinstance(value, list) else "a mapping"


def _spec(fields: Mapping[str, Any]) -> Spec:
    temperature = fields.get("temperature")
    return Spec(
        model_name=fields["modelName"],
        backend_type=BackendType(fields["backendType"]),
        endpoint_url=fields.get("endpointURL"),
        fallback_endpoint_url=fields.get("fallbackEndpointURL"),
        upstream_model=fields.get("upstreamModel"),
        enabled=fields["enabled"],
        priority=fields["priority"],
        max_tokens=fields.get("maxTokens"),
        temperature=None if temperature is None else float(temperature),
        timeout_seconds=fields["timeoutSeconds"],
        keep_alive_seconds=fields.get("keepAliveSeconds"),
        description=fields.get("description", ""),
    )
