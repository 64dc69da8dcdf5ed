"""The routing configuration: what the operator publishes and every router reads.

Frozen values only: no I/O, no defaults that differ between the two sides, nothing from outside the
standard library. Data flows `llm_operator.plan` -> these types -> canonical bytes -> these types ->
`llm_router.table`. A configuration never holds a secret, a timestamp or a counter: equal inputs
must give equal bytes.
"""

from dataclasses import dataclass, field
from enum import StrEnum

SCHEMA_VERSION = 1

#: The two keys of the ConfigMap, which are the two files of the mounted folder.
CONFIG_KEY = "routing.json"
CHECKSUM_KEY = "routing.json.sha256"


class TargetType(StrEnum):
    """Which wire protocol a target speaks; also its `x-llm-backend-type`."""

    OLLAMA = "ollama"
    MLX = "mlx"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One place a model is served.

    Attributes:
        name: unique in its route; a label in metrics and headers.
        type: the wire protocol.
        url: http(s) origin with an optional path prefix, without a trailing slash.
        model: the id sent upstream; never the caller's name unless they are equal.
    """

    name: str
    type: TargetType
    url: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The limits of one request, in seconds. What is None the router fills in.

    Attributes:
        total: one deadline for all attempts; for a streamed answer until its first token.
        connect: until a connection stands, per attempt.
        first_token: until the first token, per attempt.
        stream_idle: between two tokens.
    """

    total: float
    connect: float | None = None
    first_token: float | None = None
    stream_idle: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a request gets when it sets nothing; a value it does set, 0 included, is kept.

    Attributes:
        max_tokens: tokens to generate at most.
        temperature: sampling temperature.
        keep_alive_seconds: how long Ollama keeps the model loaded; -1 for ever.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    keep_alive_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One model name and where its requests go, in order of trying.

    Attributes:
        model: the name callers ask for; unique in a configuration.
        uid: of the LLMBackend it was compiled from.
        generation: of that LLMBackend.
        name: of that LLMBackend, for people.
        targets: at least one.
    """

    model: str
    uid: str
    generation: int
    name: str
    targets: tuple[Target, ...]
    timeouts: Timeouts
    defaults: Defaults = field(default_factory=Defaults)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingConfig:
    """All routes of one namespace. Their order carries no meaning."""

    routes: tuple[Route, ...] = ()
