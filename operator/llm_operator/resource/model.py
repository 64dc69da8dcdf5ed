"""An LLMBackend as values: what the rest of the operator reads instead of a manifest.

Pure data, no I/O and no rules; `llm_operator.resource.parse` makes it from a manifest that keeps
the rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llm_contract import (
    Fallback,
    HeaderEdits,
    HealthCheck,
    OnBusy,
    Parameters,
    SourceKind,
    TargetType,
    Waits,
)

#: The API of the resource, as the CRD under crds/ serves it.
GROUP = "llm.athena.dev"
VERSION = "v1alpha1"
PLURAL = "llmbackends"
KIND = "LLMBackend"
API_VERSION = f"{GROUP}/{VERSION}"

#: What holds a resource back while it is being deleted, until its route and its row are gone.
FINALIZER = f"{GROUP}/cleanup"
#: The annotation that, when it is "true", keeps a resource as it is published.
PAUSED = f"{GROUP}/paused"
#: Annotations of the admin API: who asked it for the last change, and who for the resource.
CHANGED_BY, CREATED_BY = f"{GROUP}/changed-by", f"{GROUP}/created-by"
#: What the names of `llmb import`'s annotations begin with; the column follows, its `_` as `-`.
IMPORTED = f"{GROUP}/imported-"
#: The field manager under which it writes.
ADMIN = "llm-backend-admin"


class BackendType(StrEnum):
    """`spec.backendType`; auto is MLX first, then Ollama."""

    OLLAMA = "ollama"
    MLX = "mlx"
    OPENAI = "openai"
    AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which object, at which state of its spec.

    Attributes:
        created: RFC 3339 as the API server writes it, so that text order is time order; "" when
            unknown.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    created: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One key of a Secret or ConfigMap of the resource's namespace."""

    kind: SourceKind
    name: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """`auth` of a target: where its secret is, and how it is said."""

    source: Source
    header: str = "Authorization"
    scheme: str = "Bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """`tls` of a target.

    Attributes:
        client_certificate: name of a Secret of type kubernetes.io/tls.
    """

    ca: Source | None = None
    client_certificate: str | None = None
    server_name: str | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """`serviceRef` of a target: a Service of the resource's namespace."""

    name: str
    port: int
    scheme: str = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One of `targets`: a host and how it is asked. Either endpoint_url or service is set."""

    name: str
    type: TargetType
    endpoint_url: str | None = None
    service: Service | None = None
    model: str | None = None
    tier: int | None = None
    weight: int = 1
    enabled: bool = True
    max_concurrent: int | None = None
    on_busy: OnBusy = OnBusy.SPILL
    credential: Credential | None = None
    verification: Verification | None = None
    headers: HeaderEdits = field(default_factory=HeaderEdits)
    waits: Waits = field(default_factory=Waits)
    health_path: str | None = None
    num_ctx: int | None = None
    keep_alive: str | int | None = None
    parameters: Parameters = field(default_factory=Parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A valid spec, the API server's defaults applied.

    Attributes:
        backend_type: of the simple form; None exactly when there are hosts.
        hosts: `targets` of the full form.
        fields: the same under the resource's own field names; not compared.
    """

    model_name: str
    backend_type: BackendType | None = None
    endpoint_url: str | None = None
    fallback_endpoint_url: str | None = None
    upstream_model: str | None = None
    hosts: tuple[Host, ...] = ()
    aliases: tuple[str, ...] = ()
    sticky_header: str | None = None
    waits: Waits = field(default_factory=Waits)
    fallback: Fallback = field(default_factory=Fallback)
    health: HealthCheck = field(default_factory=HealthCheck)
    parameters: Parameters = field(default_factory=Parameters)
    enabled: bool = True
    priority: int = 100
    max_tokens: int | None = None
    temperature: float | None = None
    timeout_seconds: int = 60
    keep_alive_seconds: int | None = None
    description: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def kind(self) -> str:
        """What serves the model, in one word: the backendType, or the type of all targets."""
        if self.backend_type is not None:
            return self.backend_type.value
        types = {host.type.value for host in self.hosts}
        return types.pop() if len(types) == 1 else "mixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a spec: the field's path, and the sentence that helps."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One LLMBackend as it was listed.

    Attributes:
        spec: None when `problems` says why it can't be used.
        deleting: it has a deletionTimestamp, so it is out of the plan.
        status: the status as it stands, so that an equal one is not written again.
        paused: what is published and recorded of it stays as it is, whatever the spec says.
        changed_by: the field manager that changed the spec last, the person before it where the
            admin API was asked, as `alice (llm-backend-admin)`; "" when unknown.
        changed_at: when that was, RFC 3339; "" when unknown.
    """

    identity: Identity
    spec: Spec | None
    problems: tuple[Problem, ...] = ()
    deleting: bool = False
    status: dict[str, object] | None = None
    paused: bool = False
    changed_by: str = ""
    changed_at: str = ""
