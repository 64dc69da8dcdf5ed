"""Routing configuration <-> bytes.

`dump` is canonical: keys, routes and sets sorted, fields at their defaults left out, numbers in one
form, so that equal configurations are equal bytes on every machine. `parse` accepts any JSON of
that shape, ignores fields it does not know (a newer writer may add optional ones) and names the
path of whatever it refuses. Neither ever does I/O. Data flows values -> `encode` -> bytes ->
`decode` -> values.
"""

import hashlib
import json

from llm_contract import decode, encode
from llm_contract.errors import ChecksumMismatch, Malformed, NewerVersion
from llm_contract.reader import Reader
from llm_contract.routing import SCHEMA_VERSION, RoutingConfig


def dump(config: RoutingConfig) -> bytes:
    """The canonical bytes of a configuration: one JSON document in UTF-8, ended by a newline."""
    document = {
        "schemaVersion": SCHEMA_VERSION,
        "routes": [encode.route(route) for route in sorted(config.routes, key=lambda r: r.model)],
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
        Malformed: not JSON, a missing or wrong field, or two routes for one name.
        NewerVersion: a schemaVersion this release does not read.
    """
    try:
        document = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed("", f"not JSON: {error}") from None
    root = Reader(document, "")
    version = root.integer("schemaVersion", minimum=1)
    if version > SCHEMA_VERSION:
        raise NewerVersion(f"schemaVersion is {version}; this release reads up to {SCHEMA_VERSION}")
    return RoutingConfig(routes=decode.routes(root.items("routes")))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
