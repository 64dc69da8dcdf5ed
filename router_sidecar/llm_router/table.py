"""The routing table: an immutable snapshot that requests are looked up in.

Built off the request path from the bytes of one revision and swapped as one reference; a request
keeps the table it began with. Never does I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_contract import Route, RoutingConfig, Target, TargetType, Timeouts, checksum, parse, verify
from llm_router.mount import Published
from llm_router.transport import Origin

#: Seconds for a model that no route names and the default Ollama serves.
DEFAULT_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Destination:
    """A target, its URL parsed once."""

    target: Target
    origin: Origin


@dataclass(frozen=True, slots=True)
class Entry:
    """A route, ready to be used.

    Attributes:
        label: what metrics call the model; the callers' name only if the configuration has it.
    """

    route: Route
    destinations: tuple[Destination, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Table:
    """Everything a request needs of one configuration.

    Attributes:
        checksum: of the published bytes, in hex.
    """

    config: RoutingConfig
    checksum: str
    entries: Mapping[str, Entry] = field(default_factory=dict)

    @classmethod
    def build(cls, published: Published) -> "Table":
        """The table of one revision.

        Raises:
            ContractError: the bytes are not those of the checksum, or no configuration.
            ValueError: a target's URL can't be used.
        """
        verify(published.raw, published.checksum)
        config = parse(published.raw)
        entries = {route.model: _entry(route, label=route.model) for route in config.routes}
        return cls(config, checksum(published.raw), entries)


def default_entry(model: str, *, url: str) -> Entry:
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
    # NB: a client chooses this model's name, so it is no metric label (unbounded series).
    return _entry(route, label="other")


def _entry(route: Route, *, label: str) -> Entry:
    destinations = tuple(Destination(t, Origin.parse(t.url)) for t in route.targets)
    return Entry(route, destinations, label)
