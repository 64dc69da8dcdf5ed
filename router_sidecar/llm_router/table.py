"""The routing table: an immutable snapshot that requests are looked up in.

Built off the request path from the bytes of one revision and swapped as one reference; a request
keeps the table it began with. Never does I/O.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from llm_contract import (
    Parameters,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
    Waits,
    checksum,
    parse,
    verify,
)
from llm_router.access import Access, reach
from llm_router.credentials import NONE, Credentials
from llm_router.mount import Published
from llm_router.standing import Standing, Standings
from llm_router.targets import Terms
from llm_router.transport import Origin

#: Seconds for a model that no route names and the default Ollama serves.
DEFAULT_TIMEOUT = 60.0

#: URL and upstream model -> the standing of one on the other.
Find = Callable[[str, str], Standing]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Destination:
    """A target, with all that asking it needs made ready.

    Attributes:
        terms: what its requests are encoded with.
        waits: its own limits, else the route's; None for the router's.
        headers: of every request to it, credentials included.
        removed: names of a client's headers that it does not get, in lower case.
        unusable: why it can't be asked at all; "" when it can.
        told: the headers that name it in an answer.
    """

    target: Target
    origin: Origin
    standing: Standing
    terms: Terms
    waits: Waits
    headers: tuple[tuple[bytes, bytes], ...] = ()
    removed: frozenset[bytes] = frozenset()
    unusable: str = ""
    told: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def full(self) -> bool:
        """It serves as many requests as it may."""
        most = self.target.max_concurrent
        return most is not None and self.standing.active >= most


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A route, ready to be used.

    Attributes:
        label: what metrics call the model; the callers' name only if the configuration has it.
        tiers: the same destinations by tier.
        plain: one destination a tier, and all can be asked, so their order is fixed.
        sticky: the sticky header's name in lower case; None for none.
    """

    route: Route
    destinations: tuple[Destination, ...]
    label: str
    tiers: tuple[tuple[Destination, ...], ...]
    plain: bool
    sticky: bytes | None


@dataclass(frozen=True, slots=True)
class Table:
    """Everything a request needs of one configuration.

    Attributes:
        checksum: of the published bytes, in hex.
        entries: by every name that callers may use: models and aliases.
        header: that names it in an answer.
    """

    config: RoutingConfig
    checksum: str
    entries: Mapping[str, Entry] = field(default_factory=dict)
    header: tuple[bytes, bytes] = (b"x-llm-config", b"")

    @classmethod
    def build(cls, published: Published, standings: Standings, credentials: Credentials) -> "Table":
        """The table of one revision.

        Raises:
            ContractError: the bytes are not those of the checksum, or no configuration.
            ValueError: a target's URL can't be used.
        """
        verify(published.raw, published.checksum)
        config = parse(published.raw)
        # NB: all that can fail comes first; a configuration that is not taken leaves no standings.
        reached = [[reach(t, credentials) for t in route.targets] for route in config.routes]
        entries: dict[str, Entry] = {}
        for route, accesses in zip(config.routes, reached, strict=True):
            made = entry(route, standings.of, accesses, label=route.model)
            for name in (route.model, *route.aliases):
                entries[name] = made
        found = checksum(published.raw)
        return cls(config, found, entries, (b"x-llm-config", found[:12].encode()))

    def standings(self) -> Iterator[Standing]:
        """Every standing that this table uses."""
        for made in self.entries.values():
            for destination in made.destinations:
                yield destination.standing


def default_entry(model: str, *, url: str, standings: Standings) -> Entry:
    """Where a model goes that no route names: the default Ollama, under its own name."""
    target = Target(name="ollama", type=TargetType.OLLAMA, url=url, model=model)
    route = Route(
        model=model,
        uid="default",
        generation=1,
        name="default",
        targets=(target,),
        timeouts=Timeouts(total=DEFAULT_TIMEOUT),
    )
    # NB: a client chooses this model's name, so it is no metric label (unbounded series), and has
    # no standing that is kept.
    return entry(route, standings.passing, [reach(target, NONE)], label="other")


def entry(route: Route, standing: Find, accesses: Iterable[Access], *, label: str) -> Entry:
    """A route, ready to be used; `accesses` are those of its targets."""
    made = tuple(
        destination(route, target, standing, access)
        for target, access in zip(route.targets, accesses, strict=True)
    )
    by_tier: dict[int, list[Destination]] = {}
    for position, one in enumerate(made):
        tier = position if one.target.tier is None else one.target.tier
        by_tier.setdefault(tier, []).append(one)
    tiers = tuple(tuple(by_tier[tier]) for tier in sorted(by_tier))
    ordered = tuple(one for tier in tiers for one in tier)
    plain = all(len(tier) == 1 for tier in tiers)
    return Entry(
        route=route,
        destinations=ordered,
        label=label,
        tiers=tiers,
        plain=plain and all(one.target.weight and not one.unusable for one in made),
        sticky=route.sticky_header.lower().encode() if route.sticky_header else None,
    )


def destination(route: Route, target: Target, standing: Find, access: Access) -> Destination:
    """One target of a route, ready to be asked."""
    own, of_route = target.waits, route.timeouts
    return Destination(
        target=target,
        origin=access.origin,
        standing=standing(target.url, target.model),
        terms=Terms(
            model=target.model,
            defaults=route.defaults,
            parameters=_merged(route.parameters, target.parameters),
            num_ctx=target.num_ctx,
            keep_alive=target.keep_alive,
        ),
        waits=Waits(
            connect=_first(own.connect, of_route.connect),
            first_token=_first(own.first_token, of_route.first_token),
            stream_idle=_first(own.stream_idle, of_route.stream_idle),
        ),
        headers=access.headers,
        removed=access.removed,
        unusable=access.unusable,
        told=_told(route, target),
    )


def _told(route: Route, target: Target) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-llm-backend", _printable(f"{route.name}/{target.name}")),
        (b"x-llm-backend-type", target.type.encode()),
        (b"x-llm-upstream-model", _printable(target.model)),
    )


def _printable(text: str) -> bytes:
    """A name for a header, percent-encoded where it holds what a header may not."""
    # NB: the default Ollama's models are named by clients, and a name may hold a line end.
    plain = text.isascii() and text.isprintable()
    return (text if plain else quote(text, safe="/:@+", errors="replace")).encode()


def _merged(route: Parameters, target: Parameters) -> Parameters:
    return Parameters(
        defaults={**route.defaults, **target.defaults},
        overrides={**route.overrides, **target.overrides},
    )


def _first(own: float | None, other: float | None) -> float | None:
    return other if own is None else own
