"""What the API server gives an object and a file lacks: a uid, a generation, the time it was made.

Pure: a `Ledger` of what was known and the specs found now give the next ledger. A name that stays
    keeps its uid; a spec that changes raises its generation; a name that goes and comes again is a
    new object.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One resource as it was last seen.

    Attributes:
        digest: of its spec, to notice a change.
        file: the name of the file it was in.
    """

    uid: str
    generation: int
    created: str
    digest: str
    file: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """All resources by name."""

    known: Mapping[str, Known] = field(default_factory=dict)

    def seen(
        self,
        specs: Mapping[str, tuple[str, Any]],
        *,
        kept: frozenset[str],
        now: str,
        new_uid: Callable[[], str],
    ) -> "Ledger":
        """The ledger after a look at the folder.

        Args:
            specs: name -> the file it is in and its spec.
            kept: files that could not be read; what was in them stays as it was.
            now: RFC 3339, for what is new.
            new_uid: makes a uid.
        """
        after = {name: known for name, known in self.known.items() if known.file in kept}
        for name, (file, spec) in specs.items():
            digest = digest_of(spec)
            before = self.known.get(name)
            if before is None:
                uid, generation, created = new_uid(), 1, now
            else:
                uid, created = before.uid, before.created
                generation = before.generation + (before.digest != digest)
            after[name] = Known(
                uid=uid, generation=generation, created=created, digest=digest, file=file
            )
        return Ledger(after)

    def dump(self) -> bytes:
        """The ledger as a JSON file."""
        document = {
            name: {slot: getattr(known, slot) for slot in Known.__dataclass_fields__}
            for name, known in sorted(self.known.items())
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, raw: bytes) -> "Ledger":
        """The ledger in the bytes; a damaged one is an empty one, and every file a new object."""
        try:
            return cls({name: Known(**fields) for name, fields in json.loads(raw).items()})
        except (ValueError, TypeError, AttributeError):
            return cls()


def digest_of(spec: Any) -> str:
    """A spec's fingerprint: equal for equal values, whatever order or comments the file has."""
    text = json.dumps(spec, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
