"""Routing configuration <-> bytes.

`dump` is canonical: keys and routes sorted, unset fields left out, numbers in one form, so that
equal configurations are equal bytes on every machine. `parse` accepts any JSON of that shape,
ignores fields it does not know (a newer writer may add optional ones) and names the path of
whatever it refuses. Neither ever does I/O.
"""

import hashlib
import json
import sys
from typing import Any

from llm_contract.errors import ChecksumMismatch, Malformed, NewerVersion
from llm_contract.routing import (
    SCHEMA_VERSION,
    Defaults,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
)

#: The shortest timeout that means something, in seconds.
MIN_SECONDS = 0.001


def dump(config: RoutingConfig) -> bytes:
    """The canonical bytes of a configuration: one JSON document in UTF-8, ended by a newline."""
    document = {
        "schemaVersion": SCHEMA_VERSION,
        "routes": [_route(route) for route in sorted(config.routes, key=lambda r: r.model)],
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def checksum(raw: bytes) -> str:
    """The 64 hex digits of SHA-256 over the bytes as they are published."""
    return hashlib.sha256(raw).hexdigest()


def verify(raw: bytes, expected: str) -> None:
    """Check bytes against the checksum published beside them.

    Raises:
        ChecksumMismatch: they are not the bytes the checksum was taken of.
    """
    actual = checksum(raw)
    if actual != expected.strip():
        raise ChecksumMismatch(f"checksum is {actual}, but {expected.strip()[:64]!r} is published")


def parse(raw: bytes) -> RoutingConfig:
    """The configuration in the bytes.

    Raises:
        Malformed: not JSON, a missing or wrong field, or two routes for one model.
        NewerVersion: a schemaVersion this release does not read.
    """
    try:
        document = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed("", f"not JSON: {error}") from None
    root = _Reader(document, "")
    version = root.integer("schemaVersion", minimum=1)
    if version > SCHEMA_VERSION:
        raise NewerVersion(f"schemaVersion is {version}; this release reads up to {SCHEMA_VERSION}")
    routes = tuple(_read_route(reader) for reader in root.items("routes"))
    seen: dict[str, int] = {}
    for index, route in enumerate(routes):
        if route.model in seen:
            first = seen[route.model]
            raise Malformed(f"routes[{index}].model", f"{route.model!r} is routes[{first}]'s too")
        seen[route.model] = index
    return RoutingConfig(routes=routes)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _route(route: Route) -> dict[str, Any]:
    timeouts, defaults = route.timeouts, route.defaults
    return {
        "model": route.model,
        "uid": route.uid,
        "generation": route.generation,
        "name": route.name,
        "targets": [
            {"name": t.name, "type": t.type.value, "url": t.url, "model": t.model}
            for t in route.targets
        ],
        "timeouts": _set_only(
            total=_number(timeouts.total),
            connect=_number(timeouts.connect),
            firstToken=_number(timeouts.first_token),
            streamIdle=_number(timeouts.stream_idle),
        ),
        "defaults": _set_only(
            maxTokens=defaults.max_tokens,
            temperature=_number(defaults.temperature),
            keepAliveSeconds=defaults.keep_alive_seconds,
        ),
    }


def _set_only(**fields: int | float | None) -> dict[str, int | float]:
    return {name: value for name, value in fields.items() if value is not None}


def _number(value: float | None) -> int | float | None:
    # NB: YAML gives 1 or 1.0 for one meaning; whole numbers are written without a fraction.
    return int(value) if value is not None and value == int(value) else value


def _read_route(at: "_Reader") -> Route:
    targets = tuple(_read_target(reader) for reader in at.items("targets"))
    if not targets:
        raise Malformed(f"{at.path}.targets", "a route needs at least one target")
    timeouts, defaults = at.object("timeouts"), at.object("defaults", required=False)
    return Route(
        model=at.string("model"),
        uid=at.string("uid"),
        generation=at.integer("generation", minimum=1),
        name=at.string("name"),
        targets=targets,
        timeouts=Timeouts(
            total=timeouts.number("total", minimum=MIN_SECONDS),
            connect=timeouts.optional_number("connect", minimum=MIN_SECONDS),
            first_token=timeouts.optional_number("firstToken", minimum=MIN_SECONDS),
            stream_idle=timeouts.optional_number("streamIdle", minimum=MIN_SECONDS),
        ),
        defaults=Defaults(
            max_tokens=defaults.optional_integer("maxTokens", minimum=0),
            temperature=defaults.optional_number("temperature", minimum=0),
            keep_alive_seconds=defaults.optional_integer("keepAliveSeconds", minimum=-1),
        ),
    )


def _read_target(at: "_Reader") -> Target:
    kind = at.string("type")
    if kind not in {known.value for known in TargetType}:
        known = ", ".join(TargetType)
        raise Malformed(f"{at.path}.type", f"{kind!r} is not a target type ({known})")
    url = at.string("url")
    if not url.startswith(("http://", "https://")):
        raise Malformed(f"{at.path}.url", f"{url!r} is not an http or https URL")
    return Target(name=at.string("name"), type=TargetType(kind), url=url, model=at.string("model"))


class _Reader:
    """One JSON object and its path, for errors that say where."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(path, f"must be an object, is {_kind(value)}")
        self.fields: dict[str, Any] = value
        self.path = path

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def get(self, name: str) -> Any:
        if name not in self.fields:
            raise Malformed(self.at(name), "is missing")
        return self.fields[name]

    def string(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str) or not value:
            raise Malformed(self.at(name), f"must be a non-empty string, is {_kind(value)}")
        if not _encodable(value):
            raise Malformed(self.at(name), "holds half of a surrogate pair, which is no text")
        return value

    def integer(self, name: str, *, minimum: int) -> int:
        value = self.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise Malformed(self.at(name), f"must be an integer >= {minimum}, is {_kind(value)}")
        return value

    def optional_integer(self, name: str, *, minimum: int) -> int | None:
        return self.integer(name, minimum=minimum) if name in self.fields else None

    def number(self, name: str, *, minimum: float) -> float:
        value = self.get(name)
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        # NB: 1e999 parses to infinity, and a whole number may be larger than any float.
        if not numeric or not minimum <= value <= sys.float_info.max:
            raise Malformed(self.at(name), f"must be a number >= {minimum}, is {_kind(value)}")
        return float(value)

    def optional_number(self, name: str, *, minimum: float) -> float | None:
        return self.number(name, minimum=minimum) if name in self.fields else None

    def object(self, name: str, *, required: bool = True) -> "_Reader":
        if not required and name not in self.fields:
            return _Reader({}, self.at(name))
        return _Reader(self.get(name), self.at(name))

    def items(self, name: str) -> list["_Reader"]:
        value = self.get(name)
        if not isinstance(value, list):
            raise Malformed(self.at(name), f"must be a list, is {_kind(value)}")
        return [_Reader(item, f"{self.at(name)}[{index}]") for index, item in enumerate(value)]


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    if isinstance(value, str | int | float | bool) or value is None:
        return json.dumps(value)[:64]
    return "a list" if isinstance(value, list) else "an object"
