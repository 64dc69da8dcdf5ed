"""What was found, what routers are given -> whether a resource's references resolve.

Pure. The first thing that is wrong is what a resource is told, in the order of its targets; whether
it can be routed all the same is judged by all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from llm_operator.reasons import ResolvedRefs
from llm_operator.references.model import (
    RESOLVED,
    Found,
    Kind,
    Reference,
    Resolution,
    Supply,
)
from llm_operator.references.sought import key_of, references
from llm_operator.resource.model import GROUP, Resource, Source

#: What a Secret has to be labelled with to be referred to, as kubectl takes it.
LABEL = f"{GROUP}/credential=true"

#: Reasons that say nothing of the reference itself.
UNCERTAIN = frozenset({ResolvedRefs.READ_FAILED, ResolvedRefs.PUBLISH_FAILED})

#: NB: also of a spec that can't be read, of which the plan says all there is to say.
NOTHING = Resolution(reason=ResolvedRefs.RESOLVED, message="It refers to nothing.")
DISABLED = Resolution(
    reason=ResolvedRefs.RESOLVED, message="Disabled: what it refers to is not looked at."
)
PAUSED = Resolution(
    reason=ResolvedRefs.RESOLVED,
    message="Paused: the published route keeps what it refers to; nothing else is looked at.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """One thing that is wrong.

    Attributes:
        usable: routers have something to go by all the same.
        certain: it was seen.
    """

    reason: ResolvedRefs
    message: str
    usable: bool = False
    certain: bool = True


def resolve(resource: Resource, found: Found, supply: Supply) -> Resolution:
    """Whether all that a resource refers to is there for its routers."""
    spec = resource.spec
    if resource.paused:
        return PAUSED
    if spec is None:
        return NOTHING
    if not spec.enabled:
        return DISABLED
    first: tuple[str, _Problem] | None = None
    usable, certain, some = False, True, False
    for place, host in enumerate(spec.hosts):
        if not host.enabled:
            continue
        works = True
        for reference in references(host):
            some = True
            for problem in _problems(reference, found, supply):
                first = first or (f"spec.targets[{place}].{reference.path}", problem)
                works, certain = works and problem.usable, certain and problem.certain
        usable = usable or (works and host.weight > 0)
    if first is None:
        return RESOLVED if some else NOTHING
    path, problem = first
    return Resolution(
        reason=problem.reason,
        message=f"{path}: {problem.message}.",
        usable=usable,
        certain=certain,
    )


def _problems(reference: Reference, found: Found, supply: Supply) -> Iterator[_Problem]:
    if reference.name:
        yield from _of_service(reference.name, found, supply)
    for source in reference:
        yield from _of_source(source, found, supply)


def _of_service(name: str, found: Found, supply: Supply) -> Iterator[_Problem]:
    if why := found.unread.get(Kind.SERVICE):
        # NB: a Service that can't be looked up does not keep a router from its host.
        yield _Problem(
            reason=ResolvedRefs.READ_FAILED, message=f"Services {why}", usable=True, certain=False
        )
    elif name not in found.services:
        message = f"there is no Service {name!r} in this namespace: create it, or name another"
        if supply.right is None:
            message = "there are no Services without a cluster: set endpointURL instead"
        yield _Problem(reason=ResolvedRefs.SERVICE_NOT_FOUND, message=message)


def _of_source(source: Source, found: Found, supply: Supply) -> Iterator[_Problem]:
    kind, key = Kind.of(source), key_of(source)
    present = key in supply.present
    if why := found.unread.get(kind):
        yield _Problem(
            reason=ResolvedRefs.READ_FAILED,
            message=f"{kind}s {why}",
            usable=present,
            certain=False,
        )
    elif found.value(source) is None:
        problem = _lacking(source, found)
        if supply.right is None:
            message = f"there is no file {key!r} in the folder of credentials: write it there"
            problem = replace(problem, message=message)
        yield problem
    elif supply.right is not None and key not in supply.right:
        yield _Problem(
            reason=supply.reason,
            message=supply.message,
            usable=present,
            certain=supply.reason not in UNCERTAIN,
        )


def _lacking(source: Source, found: Found) -> _Problem:
    kind, name, key = Kind.of(source), source.name, source.key
    if kind is Kind.CONFIG_MAP:
        if name not in found.config_maps:
            message = f"there is no ConfigMap {name!r} in this namespace: create it with the key "
            return _Problem(reason=ResolvedRefs.CONFIG_MAP_NOT_FOUND, message=f"{message}{key!r}")
    elif name not in found.secrets:
        message = f"there is no Secret {name!r} in this namespace: create it with the key "
        return _Problem(
            reason=ResolvedRefs.SECRET_NOT_FOUND,
            message=f"{message}{key!r} and the label {LABEL}",
        )
    elif found.secrets[name] is None:
        return _Problem(
            reason=ResolvedRefs.SECRET_NOT_ALLOWED,
            message=f"Secret {name!r} may not be used: allow it by the label {LABEL}",
        )
    return _Problem(
        reason=ResolvedRefs.KEY_MISSING,
        message=f"{kind} {name!r} has no key {key!r}: add it, or name another",
    )
