"""An LLMBackend as values: what the rest of the operator reads instead of a manifest.

Pure data, no I/O and no rules; `llm_operator.resource.parse` makes it from a manifest that keeps
the rules.
"""

from dataclasses import dataclass
from enum import StrEnum

#: The API of the resource, as the CRD under crds/ serves it.
GROUP = "llm.athena.dev"
VERSION = "v1alpha1"
PLURAL = "llmbackends"
KIND = "LLMBackend"
API_VERSION = f"{GROUP}/{VERSION}"


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
class Spec:
    """A valid spec in the simple form, the API server's defaults applied."""

    model_name: str
    backend_type: BackendType
    endpoint_url: str | None = None
    fallback_endpoint_url: str | None = None
    upstream_model: str | None = None
    enabled: bool = True
    priority: int = 100
    max_tokens: int | None = None
    temperature: float | None = None
    timeout_seconds: int = 60
    keep_alive_seconds: int | None = None
    description: str = ""


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
    """

    identity: Identity
    spec: Spec | None
    problems: tuple[Problem, ...] = ()
    deleting: bool = False
    status: dict[str, object] | None = None
