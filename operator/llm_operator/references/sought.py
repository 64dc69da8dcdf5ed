"""Resources and configurations -> the objects and keys they refer to.

Pure. A configuration is asked besides the resources because a last good route, which a resource
does not ask for any more, or not while it is paused, still needs what it was published with.
"""

from collections.abc import Iterable, Iterator

from llm_contract import RoutingConfig, SourceKind, Target, credential_key
from llm_contract.credentials import CLIENT_CERTIFICATE, CLIENT_KEY
from llm_operator.references.model import Reference, Sought
from llm_operator.resource.model import Host, Resource, Source


def references(host: Host) -> Iterator[Reference]:
    """What a target refers to, in the order of its fields."""
    if host.service is not None:
        yield Reference(path="serviceRef", name=host.service.name)
    if host.credential is not None:
        yield Reference(path="auth.secretRef", sources=(host.credential.source,))
    given = host.verification
    if given is not None and given.ca is not None:
        yield Reference(path="tls.caRef", sources=(given.ca,))
    if given is not None and given.client_certificate is not None:
        yield Reference(
            path="tls.clientCertRef",
            sources=tuple(
                Source(kind=SourceKind.SECRET, name=given.client_certificate, key=key)
                for key in (CLIENT_CERTIFICATE, CLIENT_KEY)
            ),
        )


def sought(resources: Iterable[Resource], *configs: RoutingConfig) -> Sought:
    """The objects to look for."""
    given = [one for host in _hosts(resources) for one in references(host)]
    sources = {source for one in given for source in one}
    sources |= {source_of(key) for config in configs for key in named(config)}
    names = {
        kind: frozenset(one.name for one in sources if one.kind is kind) for kind in SourceKind
    }
    return Sought(
        secrets=names[SourceKind.SECRET],
        config_maps=names[SourceKind.CONFIG_MAP],
        services=frozenset(one.name for one in given if one.name),
    )


def wanted(resources: Iterable[Resource], *configs: RoutingConfig) -> frozenset[str]:
    """The keys that routers need, now or once a resource gets its route."""
    keys = {
        key_of(source)
        for host in _hosts(resources)
        for reference in references(host)
        for source in reference
    }
    return frozenset(keys.union(*(named(config) for config in configs)))


def named(config: RoutingConfig) -> frozenset[str]:
    """The keys that stand in a configuration."""
    return frozenset(
        key for route in config.routes for target in route.targets for key in _keys(target)
    )


def key_of(source: Source) -> str:
    """The key under which routers find a value."""
    return credential_key(source.kind, source.name, source.key)


def source_of(key: str) -> Source:
    """What a key is copied from: `key_of` turned round."""
    kind = SourceKind.CONFIG_MAP if key.startswith("_") else SourceKind.SECRET
    name, _, own = key.removeprefix("_").partition("_")
    return Source(kind=kind, name=name, key=own)


def live(resource: Resource) -> bool:
    """Whether it wants a route. One that is paused wants none beside the one it has."""
    wants = not resource.deleting and not resource.paused
    return wants and resource.spec is not None and resource.spec.enabled


def _hosts(resources: Iterable[Resource]) -> Iterator[Host]:
    for resource in resources:
        if live(resource) and resource.spec is not None:
            yield from (host for host in resource.spec.hosts if host.enabled)


def _keys(target: Target) -> Iterator[str]:
    if target.auth is not None:
        yield target.auth.credential
    if target.tls is not None:
        given = (target.tls.ca, target.tls.client_certificate, target.tls.client_key)
        yield from (key for key in given if key is not None)
