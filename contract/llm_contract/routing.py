"""The routing configuration: what the operator publishes and every router reads.

Frozen values only: no I/O, no defaults that differ between the two sides, nothing from outside the
standard library. Data flows `llm_operator.plan` -> these types -> canonical bytes -> these types ->
`llm_router.table`. A configuration never holds a secret, a timestamp or a counter: equal inputs
must give equal bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 1

#: The two keys of the ConfigMap, which are the two files of the mounted folder.
CONFIG_KEY = "routing.json"
CHECKSUM_KEY = "routing.json.sha256"


class TargetType(StrEnum):
    """Which wire protocol a target speaks; also its `x-llm-backend-type`."""

    OLLAMA = "ollama"
    MLX = "mlx"
    OPENAI = "openai"


class OnBusy(StrEnum):
    """What happens to a request for a target that serves as many as it may.

    A reader takes a word that it does not know for Spill.
    """

    SPILL = "Spill"
    QUEUE = "Queue"


class FallbackOn(StrEnum):
    """A kind of failure that another target may be tried after.

    A reader ignores a word that it does not know.
    """

    CONNECT_FAILURE = "ConnectFailure"
    FIRST_TOKEN_TIMEOUT = "FirstTokenTimeout"
    SERVER_ERROR = "ServerError"
    RATE_LIMITED = "RateLimited"
    MODEL_MISSING = "ModelMissing"
    BUSY = "Busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """How a router says to a target who asks.

    Attributes:
        credential: the key of the mounted Secret that holds the value, as made by
            `llm_contract.credential_key`; never the value.
        header: the header it goes into.
        scheme: the word before the value; "" for none.
    """

    credential: str
    header: str = "Authorization"
    scheme: str = "Bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a target's https is verified, and what a router shows it. Names are credential keys.

    Attributes:
        ca: PEM of the authorities; None for the system's.
        client_certificate: PEM shown to the target; None for none.
        client_key: PEM of its key; set exactly when the certificate is.
        server_name: the name verified and sent for SNI; None for the URL's host.
        insecure: nothing is verified.
    """

    ca: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    server_name: str | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEdits:
    """Changes to the request headers that a target gets.

    Attributes:
        set: name and value; replaces a client's header of that name.
        remove: names that are not forwarded.
    """

    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long one attempt may wait, in seconds. What is None the route or the router fills in.

    Attributes:
        connect: until a connection stands.
        first_token: until the first token.
        stream_idle: between two tokens.
    """

    connect: float | None = None
    first_token: float | None = None
    stream_idle: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Fields of the request body, by the names of the target's protocol, values as in JSON.

    Attributes:
        defaults: used when the request does not set the field.
        overrides: always used; null is a value.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One place a model is served.

    Attributes:
        name: unique in its route; a label in metrics and headers.
        type: the wire protocol.
        url: http(s) origin with an optional path prefix, without a trailing slash.
        model: the id sent upstream; never the caller's name unless they are equal.
        tier: lower is tried first; targets of one tier share by weight. None is the position in
            the route's list.
        weight: its share within the tier; 0 gets no new traffic.
        max_concurrent: requests at once from one router; None for no cap.
        on_busy: what becomes of the one too many.
        waits: instead of the route's.
        parameters: on top of the route's.
        num_ctx: Ollama's context length, one value so that the model is not loaded anew.
        keep_alive: Ollama's, as it writes it: seconds or a duration; -1 for ever.
        health_path: instead of the type's own probe path.
    """

    name: str
    type: TargetType
    url: str
    model: str
    tier: int | None = None
    weight: int = 1
    max_concurrent: int | None = None
    on_busy: OnBusy = OnBusy.SPILL
    auth: Auth | None = None
    tls: Tls | None = None
    headers: HeaderEdits = field(default_factory=HeaderEdits)
    waits: Waits = field(default_factory=Waits)
    parameters: Parameters = field(default_factory=Parameters)
    num_ctx: int | None = None
    keep_alive: str | int | None = None
    health_path: str | None = None


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
class Fallback:
    """When another target is tried.

    Attributes:
        on: the failures after which one is; None for all of `FallbackOn`.
        max_attempts: attempts for one request; None for one a target.
    """

    on: frozenset[FallbackOn] | None = None
    max_attempts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveCheck:
    """Probes of a host, which cost no tokens. Times in seconds.

    Attributes:
        unhealthy_threshold: failed probes in a row that make it unhealthy.
        healthy_threshold: good ones in a row that make it healthy again.
        require_model: it is also asked whether it has the model.
    """

    enabled: bool = True
    interval: float = 15
    timeout: float = 3
    unhealthy_threshold: int = 2
    healthy_threshold: int = 1
    require_model: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PassiveCheck:
    """What requests tell of a target: the breaker. Times in seconds.

    Attributes:
        failures: in a row, that eject it.
        eject: how long it is ejected first; doubled each time in a row.
        max_eject: the longest.
    """

    failures: int = 3
    eject: float = 15
    max_eject: float = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How the router knows which targets can answer."""

    active: ActiveCheck = field(default_factory=ActiveCheck)
    passive: PassiveCheck = field(default_factory=PassiveCheck)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One model name and where its requests go.

    Attributes:
        model: the name callers ask for; unique in a configuration, aliases included.
        uid: of the LLMBackend it was compiled from.
        generation: of that LLMBackend.
        name: of that LLMBackend, for people.
        targets: at least one.
        aliases: other names for the same.
        sticky_header: the request header whose value keeps a caller on one target of a tier.
    """

    model: str
    uid: str
    generation: int
    name: str
    targets: tuple[Target, ...]
    timeouts: Timeouts
    defaults: Defaults = field(default_factory=Defaults)
    aliases: tuple[str, ...] = ()
    sticky_header: str | None = None
    fallback: Fallback = field(default_factory=Fallback)
    health: HealthCheck = field(default_factory=HealthCheck)
    parameters: Parameters = field(default_factory=Parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingConfig:
    """All routes of one namespace. Their order carries no meaning."""

    routes: tuple[Route, ...] = ()
