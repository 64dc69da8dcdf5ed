"""Resources -> what should be: the routing configuration, and a verdict on each resource.

Pure: the same resources give the same plan in any order, on any machine. It never does I/O and
    never looks at
a clock. A resource that can't be used costs nobody else anything: its own last published route is
kept, and its verdict says why. Data flows `resource` -> `plan` -> `publish`, `record`, `status`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llm_contract import Defaults, Route, RoutingConfig, Target, TargetType, Timeouts
from llm_operator.reasons import Accepted
from llm_operator.resource.model import BackendType, Resource, Spec

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
        routed: it has a route in the planned configuration at its current generation.
    """

    reason: Accepted
    message: str
    routed: bool = False

    @property
    def accepted(self) -> bool:
        """True when the resource is valid and owns its model name."""
        return self.reason is Accepted.VALID


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one namespace should look like.

    Attributes:
        verdicts: by uid, one for each resource that is not being deleted.
    """

    config: RoutingConfig
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


def plan(resources: Iterable[Resource], *, addresses: Addresses, published: RoutingConfig) -> Plan:
    """Decide the routes of one namespace.

    Args:
        resources: all LLMBackends of the namespace.
        addresses: for resources that name no URL.
        published: what stands now; the source of last good routes.
    """
    live = sorted((r for r in resources if not r.deleting), key=_precedence)
    last_good = {route.uid: route for route in published.routes}
    verdicts: dict[str, Verdict] = {}
    routes: dict[str, Route] = {}
    broken: list[Resource] = []
    for resource in live:
        uid, spec = resource.identity.uid, resource.spec
        problem = _problem(resource, addresses)
        if spec is None or problem:
            verdicts[uid] = Verdict(reason=Accepted.INVALID, message=problem)
            broken.append(resource)
        elif not spec.enabled:
            verdicts[uid] = Verdict(reason=Accepted.VALID, message="Disabled: it has no route.")
        elif spec.model_name in routes:
            owner = routes[spec.model_name].name
            message = f"Model name {spec.model_name!r} belongs to {owner}, which precedes it."
            verdicts[uid] = Verdict(reason=Accepted.MODEL_NAME_CONFLICT, message=message)
        else:
            routes[spec.model_name] = _route(resource, spec, addresses)
            verdicts[uid] = Verdict(reason=Accepted.VALID, message="Valid.", routed=True)
    for resource in broken:
        kept = last_good.get(resource.identity.uid)
        if kept is not None and kept.model not in routes:
            routes[kept.model] = kept
    return Plan(config=RoutingConfig(routes=tuple(routes.values())), verdicts=verdicts)


def _precedence(resource: Resource) -> tuple[int, str, str]:
    # Lower priority first, then the oldest, then by name (design: one owner per model name).
    priority = resource.spec.priority if resource.spec else 0
    return priority, resource.identity.created, resource.identity.name


def _problem(resource: Resource, addresses: Addresses) -> str:
    """Why the resource can't be routed, as one message; "" when it can."""
    if resource.problems or resource.spec is None:
        return "; ".join(str(problem) for problem in resource.problems)
    spec = resource.spec
    for position, kind in enumerate(ORDER[spec.backend_type]):
        if _url(spec, kind, position, addresses) is None:
            field_name = "endpointURL" if position == 0 else "fallbackEndpointURL"
            return (
                f"spec.{field_name}: not set, and the operator has no default {kind} address "
                f"(LLMB_DEFAULT_{kind.upper()}_URL)"
            )
    return ""


def _url(spec: Spec, kind: TargetType, position: int, addresses: Addresses) -> str | None:
    own = spec.endpoint_url if position == 0 else spec.fallback_endpoint_url
    found = own or addresses.of(kind)
    # NB: an OpenAI client's base URL ends in /v1, and people paste it; the router adds the path.
    return found.rstrip("/").removesuffix(API_PATH[kind]).rstrip("/") if found else None


def _route(resource: Resource, spec: Spec, addresses: Addresses) -> Route:
    targets = []
    for position, kind in enumerate(ORDER[spec.backend_type]):
        url = _url(spec, kind, position, addresses)
        assert url is not None, "checked by _problem"
        default = MLX_DEFAULT_MODEL if kind is TargetType.MLX else spec.model_name
        named = spec.upstream_model if position == 0 else None
        targets.append(Target(name=kind.value, type=kind, url=url, model=named or default))
    return Route(
        model=spec.model_name,
        uid=resource.identity.uid,
        generation=resource.identity.generation,
        name=resource.identity.name,
        targets=tuple(targets),
        timeouts=Timeouts(total=spec.timeout_seconds),
        defaults=Defaults(
            max_tokens=spec.max_tokens,
            temperature=spec.temperature,
            keep_alive_seconds=spec.keep_alive_seconds,
        ),
    )
