"""What to ask each host of a table, and how often. Pure: a table -> one `Plan` a host.

All routes that use a host share one plan: the shortest interval and timeout that any of them asks
for, the lowest thresholds, and one look for each distinct way of asking.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llm_contract import ActiveCheck, TargetType
from llm_router.standing import Standing
from llm_router.table import Destination, Table
from llm_router.transport import Origin

#: A type's own request that tells whether a host lives; where it lists models, it is the list too.
LIVENESS: Mapping[TargetType, bytes] = {
    TargetType.OLLAMA: b"/api/tags",
    TargetType.MLX: b"/health",
    TargetType.OPENAI: b"/v1/models",
}

#: Types whose list of models can be trusted to be all of them. An MLX server lists the hub's cache:
#: a model that is not there may be served, and one that is there may not.
LISTING = frozenset({TargetType.OLLAMA, TargetType.OPENAI})


@dataclass(frozen=True, slots=True)
class Wanted:
    """One model that a host is expected to have.

    Attributes:
        required: a host without it is no place for its requests.
    """

    standing: Standing
    model: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One way to ask a host: its type, and with which credentials.

    Attributes:
        path: of the request that tells whether it lives.
        listed: of its list of models; None where it is not asked.
        secret: the headers hold credentials.
    """

    type: TargetType
    origin: Origin
    headers: tuple[tuple[bytes, bytes], ...]
    path: bytes
    listed: bytes | None
    secret: bool
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one host is probed. Times in seconds."""

    url: str
    interval: float
    timeout: float
    unhealthy_threshold: int
    healthy_threshold: int
    looks: tuple[Look, ...]


def plans(table: Table) -> dict[str, Plan]:
    """The plan of each host that some route wants probed, by URL."""
    found: dict[str, dict[Standing, tuple[Destination, ActiveCheck]]] = {}
    for destination, active in _probed(table):
        shared = found.setdefault(destination.target.url, {})
        before = shared.get(destination.standing)
        # NB: of two routes to one model, one that requires it is enough.
        if before is None or (active.require_model and not before[1].require_model):
            shared[destination.standing] = destination, active
    limits: dict[str, list[ActiveCheck]] = {url: [] for url in found}
    for destination, active in _probed(table):
        limits[destination.target.url].append(active)
    return {url: _plan(url, list(shared.values()), limits[url]) for url, shared in found.items()}


def _probed(table: Table) -> Iterator[tuple[Destination, ActiveCheck]]:
    for route in table.config.routes:
        active = route.health.active
        if active.enabled:
            for destination in table.entries[route.model].destinations:
                if not destination.unusable:
                    yield destination, active


def _plan(
    url: str, shared: list[tuple[Destination, ActiveCheck]], limits: list[ActiveCheck]
) -> Plan:
    return Plan(
        url=url,
        interval=min(active.interval for active in limits),
        timeout=min(active.timeout for active in limits),
        unhealthy_threshold=min(active.unhealthy_threshold for active in limits),
        healthy_threshold=min(active.healthy_threshold for active in limits),
        looks=_looks(shared),
    )


def _looks(shared: list[tuple[Destination, ActiveCheck]]) -> tuple[Look, ...]:
    groups: dict[tuple[object, ...], list[tuple[Destination, ActiveCheck]]] = {}
    for destination, active in shared:
        target = destination.target
        key = (target.type, target.health_path, destination.origin, destination.headers)
        groups.setdefault(key, []).append((destination, active))
    return tuple(_look(group) for group in groups.values())


def _look(group: list[tuple[Destination, ActiveCheck]]) -> Look:
    first = group[0][0]
    target = first.target
    own = LIVENESS[target.type]
    wanted = tuple(Wanted(d.standing, d.target.model, active.require_model) for d, active in group)
    required = any(one.required for one in wanted)
    return Look(
        type=target.type,
        origin=first.origin,
        headers=first.headers,
        path=target.health_path.encode() if target.health_path else own,
        listed=own if target.type in LISTING and required else None,
        secret=target.auth is not None,
        wanted=wanted,
    )
