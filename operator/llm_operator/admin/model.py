"""What the admin side speaks of, as values: backends, who is asking, what a record says.

Pure data, no I/O. `service` makes decisions on them, `api` and `page` show them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from llm_operator.resource.model import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The pipeline that manages a resource: what is changed here it would change back.

    Attributes:
        tool: "Argo CD" or "Flux".
        name: of the Application, Kustomization or HelmRelease; NAMESPACE/NAME where both are known.
    """

    tool: str
    name: str

    def __str__(self) -> str:
        return f"{self.tool} ({self.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One LLMBackend as it is now.

    Attributes:
        resource: read, with its problems and its status.
        manifest: as it lies there: apiVersion, kind, metadata, spec; without status.
        version: changes whenever anything of it does: a resourceVersion, or a file's digest.
        owner: the GitOps pipeline it belongs to; None where there is none.
    """

    resource: Resource
    manifest: Mapping[str, Any]
    version: str
    owner: Owner | None = None

    @property
    def uid(self) -> str:
        """Of the object; another object of the same name has another."""
        return self.resource.identity.uid

    @property
    def spec(self) -> Mapping[str, Any]:
        """As it was given, without defaults; empty when it is no mapping."""
        given = self.manifest.get("spec")
        return given if isinstance(given, Mapping) else {}

    @property
    def model(self) -> str:
        """The name that callers use; "" in a resource that names none."""
        name = self.spec.get("modelName")
        return name if isinstance(name, str) else ""


class Verb(StrEnum):
    """What somebody wants to do, by the words of Kubernetes RBAC."""

    GET = "get"
    LIST = "list"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


#: The virtual subresource of llmbackends that routers send usage to.
USAGE = "usage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, as the API server knows the token, or "token" where one file is all there is.

    Attributes:
        name: the user name.
        uid: of the user; may be "".
        groups: of the user.
        extra: as the TokenReview told it, for the review of rights.
        namespace: of the service account it is; "" when it is none.
    """

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What recorded traffic says of one resource; averages are None where nothing was measured."""

    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    average_seconds: float | None = None
    average_tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One entry of the history of a resource.

    Attributes:
        change: created, changed or deleted.
        spec: under the resource's field names, defaults filled in.
    """

    generation: int
    change: str
    changed_by: str
    changed_at: datetime
    recorded_at: datetime
    name: str
    namespace: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One recorded request, as GET /metrics shows it.

    Attributes:
        key: orders samples, newest first; a page goes on below the last one's.
        at: start, Unix seconds.
    """

    key: str
    request_id: str
    at: float
    model: str
    backend: str
    target: str
    outcome: str
    latency_seconds: float
    tokens: int | None = None
    prompt_tokens: int | None = None
    tokens_per_second: float | None = None
    first_token_seconds: float | None = None
    fallback_reason: str = ""
    session_id: str | None = None
    user_id: str | None = None
    zone: str | None = None
    intent: str | None = None
    source: str | None = None
    stage: str | None = None
