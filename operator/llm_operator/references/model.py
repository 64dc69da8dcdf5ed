"""References as values: what is looked for, what was found, and what routers are given of it.

Pure data. What holds secret values never shows them in its text form.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from llm_contract import SourceKind
from llm_operator.reasons import ResolvedRefs
from llm_operator.resource.model import Source

#: Key -> value, of one Secret or ConfigMap.
Values = Mapping[str, bytes]


class Kind(StrEnum):
    """What a resource can refer to."""

    SECRET = "Secret"
    CONFIG_MAP = "ConfigMap"
    SERVICE = "Service"

    @classmethod
    def of(cls, source: Source) -> "Kind":
        """The kind of the object that a value is copied from."""
        return cls.SECRET if source.kind is SourceKind.SECRET else cls.CONFIG_MAP


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """The names of the objects that a namespace's resources refer to, by kind."""

    secrets: frozenset[str] = frozenset()
    config_maps: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything is referred to."""
        return bool(self.secrets or self.config_maps or self.services)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is there of what was sought.

    Attributes:
        secrets: by name; None for one that is there and may not be used.
        config_maps: by name.
        services: names.
        unread: the kinds that could not be read, and why, as the end of a sentence.
    """

    secrets: Mapping[str, Values | None] = field(default_factory=dict, repr=False)
    config_maps: Mapping[str, Values] = field(default_factory=dict, repr=False)
    services: frozenset[str] = frozenset()
    unread: Mapping[Kind, str] = field(default_factory=dict)

    def value(self, source: Source) -> bytes | None:
        """The value of one key; None when it is not there, or may not be used."""
        objects = self.secrets if source.kind is SourceKind.SECRET else self.config_maps
        return (objects.get(source.name) or {}).get(source.key)


#: Before anybody looked.
UNSEEN = Found(unread=dict.fromkeys(Kind, "can't be read: nobody has looked yet"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What lies in the place of the routers' credentials.

    Attributes:
        ours: the keys that this operator wrote; others' are left alone.
        owned: it carries this operator's mark.
    """

    values: Values = field(default_factory=dict, repr=False)
    ours: frozenset[str] = frozenset()
    owned: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What routers are given.

    Attributes:
        right: the keys that hold what they should; None when routers read the sources themselves.
        present: all keys that hold something.
        reason: why not every key that was wanted is right.
        message: the same for people; "" when there is nothing to say.
    """

    right: frozenset[str] | None = frozenset()
    present: frozenset[str] = frozenset()
    reason: ResolvedRefs = ResolvedRefs.RESOLVED
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Whether what a resource refers to is there for its routers, and why not.

    Attributes:
        usable: one at least of its targets has all it needs.
        certain: what is said against it was seen; False when something could not be read.
    """

    reason: ResolvedRefs
    message: str
    usable: bool = True
    certain: bool = True


#: Of a resource that nothing is known against.
RESOLVED = Resolution(reason=ResolvedRefs.RESOLVED, message="All it refers to is there.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One place in a spec that refers to something.

    Attributes:
        path: of the field below its target, as auth.secretRef.
        name: of the Service; "" for a source.
    """

    path: str
    sources: tuple[Source, ...] = ()
    name: str = ""

    def __iter__(self) -> Iterator[Source]:
        return iter(self.sources)
