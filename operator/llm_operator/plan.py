"""Resources -> what should be: the routing configuration, and a verdict on each resource.

Pure: the same resources give the same plan in any order, on any machine. It never does I/O and
never looks at a clock. A resource that can't be used costs nobody else anything: its own last
published route is kept, and its verdict says why. One whose references resolve for some of its
targets only is routed: the router passes the others over. One that is paused keeps what it has,
before all others. Data flows `resource`, `references` -> `plan` -> `publish`, `record`, `status`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from llm_contract import (
    Auth,
    Defaults,
    Route,
    RoutingConfig,
    SourceKind,
    Target,
    TargetType,
    Timeouts,
    Tls,
    credential_key,
)
from llm_contract.credentials import CLIENT_CERTIFICATE, CLIENT_KEY
from llm_operator.reasons import Accepted
from llm_operator.references.model import RESOLVED, Resolution
from llm_operator.resource.model import (
    BackendType,
    Credential,
    Host,
    Identity,
    Resource,
    Source,
    Spec,
    Verification,
)

#: What mlx_lm.server calls the model it was started with; any other id makes it load, or download,
#: another.
MLX_DEFAULT_MODEL = "default_model"

#: backendType -> the target types tried, in this order.
ORDER: Mapping[BackendType, tuple[TargetType, ...]] = {
    BackendType.OLLAMA: (TargetType.OLLAMA,),
    BackendType.MLX: (TargetType.MLX,),
    BackendType.OPENAI: (TargetType.OPENAI,),
    BackendType.AUTO: (TargetType.MLX, TargetType.OLLAMA),
}

#: Where the API of each type begins, below its address.
API_PATH: Mapping[TargetType, str] = {
    TargetType.OLLAMA: "/api",
    TargetType.MLX: "/v1",
    TargetType.OPENAI: "/v1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the hosts of a type are when a resource does not say; None when nobody does."""

    ollama: str | None = None
    mlx: str | None = None

    def of(self, kind: TargetType) -> str | None:
        """The default URL of one target type."""
        return {TargetType.OLLAMA: self.ollama, TargetType.MLX: self.mlx}.get(kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a resource is accepted, and why not.

    Attributes:
        reason: ModelNameConflict too of one that owns its model name and not all of its aliases.
        routed: it has a route in the planned configuration at its current generation.
    """

    reason: Accepted
    message: str
    routed: bool = False

    @property
    def accepted(self) -> bool:
        """True when the resource is valid and owns its model name."""
        lost_an_alias = self.reason is Accepted.MODEL_NAME_CONFLICT and self.routed
        return self.reason is Accepted.VALID or lost_an_alias


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one namespace should look like.

    Attributes:
        verdicts: by uid, one for each resource that is not being deleted.
    """

    config: RoutingConfig
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


def plan(
    resources: Iterable[Resource],
    *,
    addresses: Addresses,
    published: RoutingConfig,
    resolutions: Mapping[str, Resolution] = MappingProxyType({}),
) -> Plan:
    """Decide the routes of one namespace.

    Args:
        resources: all LLMBackends of the namespace.
        addresses: for resources that name no URL.
        published: what stands now; the source of last good routes.
        resolutions: by uid, whether references resolve; those of a resource that is not in it do.
    """
    good = {route.uid: route for route in published.routes}
    verdicts: dict[str, Verdict] = {}
    claims = _Claims()
    broken, unresolved = [], []
    present = sorted((r for r in resources if not r.deleting), key=_precedence)
    for resource in (one for one in present if one.paused):
        # NB: before anybody's claim, so that nobody takes a name of it meanwhile.
        verdicts[resource.identity.uid] = _paused(claims, good.get(resource.identity.uid), resource)
    for resource in (one for one in present if not one.paused):
        uid, spec = resource.identity.uid, resource.spec
        resolution = resolutions.get(uid, RESOLVED)
        problem = _problem(resource, addresses)
        if spec is None or problem:
            verdicts[uid] = Verdict(reason=Accepted.INVALID, message=problem)
            broken.append(uid)
        elif not spec.enabled:
            verdicts[uid] = Verdict(reason=Accepted.VALID, message="Disabled: it has no route.")
        elif resolution.usable:
            verdicts[uid] = claims.add(_route(resource, spec, addresses))
        elif not resolution.certain and uid in good:
            # Nothing was seen that speaks against it, so it keeps its route and its place.
            verdicts[uid] = claims.keep(good[uid], resource.identity, spec)
        else:
            unresolved.append((resource.identity, spec))
    for identity, spec in unresolved:
        verdicts[identity.uid] = claims.keep(good.get(identity.uid), identity, spec)
    for uid in broken:
        if uid in good:
            claims.add(good[uid])
    return Plan(config=RoutingConfig(routes=tuple(claims.routes)), verdicts=verdicts)


class _Claims:
    """Who answers to which name, a model's or an alias: whoever claims it first."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self._owners: dict[str, str] = {}
        self._paused: set[str] = set()

    def add(self, route: Route, *, paused: bool = False) -> Verdict:
        """Take the route, less the aliases that others own; or none of it, without its model."""
        if route.model in self._owners:
            message = f"Model name {self._belongs(route.model)}."
            return Verdict(reason=Accepted.MODEL_NAME_CONFLICT, message=message)
        lost = [alias for alias in route.aliases if alias in self._owners]
        told = " ".join(("Valid.", *(f"Alias {self._belongs(alias)}." for alias in lost)))
        if lost:
            aliases = tuple(alias for alias in route.aliases if alias not in lost)
            route = replace(route, aliases=aliases)
        self.routes.append(route)
        self._owners |= dict.fromkeys((route.model, *route.aliases), route.name)
        if paused:
            self._paused.add(route.name)
        if lost:
            return Verdict(reason=Accepted.MODEL_NAME_CONFLICT, message=told, routed=True)
        return Verdict(reason=Accepted.VALID, message="Valid.", routed=True)

    def keep(self, last: Route | None, identity: Identity, spec: Spec) -> Verdict:
        """Take the last good route, if there is one, of a resource that can't have its own now."""
        if owner := self._owners.get(spec.model_name):
            message = f"Model name {spec.model_name!r} belongs to {owner} until the references "
            return Verdict(reason=Accepted.MODEL_NAME_CONFLICT, message=f"{message}resolve.")
        kept = self.add(last) if last else None
        if kept and last and last.generation == identity.generation:
            return kept
        return Verdict(reason=Accepted.VALID, message="Valid.")

    def _belongs(self, name: str) -> str:
        owner = self._owners[name]
        why = "is paused" if owner in self._paused else "precedes it"
        return f"{name!r} belongs to {owner}, which {why}"


def _paused(claims: _Claims, kept: Route | None, resource: Resource) -> Verdict:
    if kept is None:
        return Verdict(reason=Accepted.VALID, message="Paused: it had no route, and gets none.")
    claims.add(kept, paused=True)
    return Verdict(
        reason=Accepted.VALID,
        message=f"Paused: the route of generation {kept.generation} stays as it is.",
        routed=kept.generation == resource.identity.generation,
    )


def _precedence(resource: Resource) -> tuple[int, str, str, str]:
    # Lower priority first, then the oldest, then by name. NB: no two of a namespace have one name,
    # but a list may hold both of a deletion and a creation; the uid makes the order total.
    priority = resource.spec.priority if resource.spec else 0
    identity = resource.identity
    return priority, identity.created, identity.name, identity.uid


def _problem(resource: Resource, addresses: Addresses) -> str:
    """Why the resource can't be routed, as one message; "" when it can."""
    if resource.problems or resource.spec is None:
        return "; ".join(str(problem) for problem in resource.problems)
    for position, (kind, url) in enumerate(_addresses(resource.spec, addresses)):
        if url is None:
            field_name = "endpointURL" if position == 0 else "fallbackEndpointURL"
            return (
                f"spec.{field_name}: not set, and the operator has no default {kind} address "
                f"(LLMB_DEFAULT_{kind.upper()}_URL)"
            )
    return ""


def _addresses(spec: Spec, defaults: Addresses) -> list[tuple[TargetType, str | None]]:
    """What the simple form tries, in order, and where; nothing for the full one."""
    kinds = ORDER[spec.backend_type] if spec.backend_type else ()
    own = (spec.endpoint_url, spec.fallback_endpoint_url)
    return [(kind, url or defaults.of(kind)) for kind, url in zip(kinds, own, strict=False)]


def _route(resource: Resource, spec: Spec, addresses: Addresses) -> Route:
    identity, waits = resource.identity, spec.waits
    hosts = [h for h in spec.hosts if h.enabled] if spec.hosts else _hosts(spec, addresses)
    return Route(
        model=spec.model_name,
        uid=identity.uid,
        generation=identity.generation,
        name=identity.name,
        targets=tuple(
            _target(host, place, spec, identity.namespace) for place, host in enumerate(hosts)
        ),
        timeouts=Timeouts(
            total=spec.timeout_seconds,
            connect=waits.connect,
            first_token=waits.first_token,
            stream_idle=waits.stream_idle,
        ),
        defaults=Defaults(
            max_tokens=spec.max_tokens,
            temperature=spec.temperature,
            keep_alive_seconds=spec.keep_alive_seconds,
        ),
        aliases=tuple(sorted(spec.aliases)),
        sticky_header=spec.sticky_header,
        fallback=spec.fallback,
        health=spec.health,
        parameters=spec.parameters,
    )


def _hosts(spec: Spec, addresses: Addresses) -> list[Host]:
    """The targets that the simple form stands for, each named by its type."""
    hosts = [
        Host(name=kind.value, type=kind, endpoint_url=url)
        for kind, url in _addresses(spec, addresses)
    ]
    # NB: upstreamModel is the id at endpointURL; a fallback knows the model by its own name.
    return [replace(hosts[0], model=spec.upstream_model), *hosts[1:]]


def _target(host: Host, place: int, spec: Spec, namespace: str) -> Target:
    default = MLX_DEFAULT_MODEL if host.type is TargetType.MLX else spec.model_name
    return Target(
        name=host.name,
        type=host.type,
        url=_url(host, namespace),
        model=host.model or default,
        # NB: a tier that is the position says nothing, and is written as nothing.
        tier=None if host.tier == place else host.tier,
        weight=host.weight,
        max_concurrent=host.max_concurrent,
        on_busy=host.on_busy,
        auth=_auth(host.credential) if host.credential else None,
        tls=_tls(host.verification) if host.verification else None,
        headers=host.headers,
        waits=host.waits,
        parameters=host.parameters,
        num_ctx=host.num_ctx,
        keep_alive=host.keep_alive,
        health_path=host.health_path,
    )


def _url(host: Host, namespace: str) -> str:
    if host.service is not None:
        service = host.service
        return f"{service.scheme}://{service.name}.{namespace}.svc:{service.port}"
    assert host.endpoint_url is not None, "a rule of the resource, or checked by _problem"
    # NB: an OpenAI client's base URL ends in /v1, and people paste it; the router adds the path.
    return host.endpoint_url.rstrip("/").removesuffix(API_PATH[host.type]).rstrip("/")


def _auth(given: Credential) -> Auth:
    return Auth(credential=_key(given.source), header=given.header, scheme=given.scheme)


def _tls(given: Verification) -> Tls | None:
    own = given.client_certificate
    made = Tls(
        ca=_key(given.ca) if given.ca else None,
        client_certificate=_of_secret(own, CLIENT_CERTIFICATE) if own else None,
        client_key=_of_secret(own, CLIENT_KEY) if own else None,
        server_name=given.server_name,
        insecure=given.insecure,
    )
    return None if made == Tls() else made


def _key(source: Source) -> str:
    return credential_key(source.kind, source.name, source.key)


def _of_secret(name: str, key: str) -> str:
    return credential_key(SourceKind.SECRET, name, key)
