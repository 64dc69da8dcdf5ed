"""What goes over the wire, as forms: bodies are checked by them, answers are described by them.

An answer is never checked when it is given, only by tests. Backends to write have no form here:
their rules are the resource's.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Text that a record takes.
Text = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0, le=2**31 - 1)]

#: What each field of a backend means.
FIELDS: Mapping[str, str] = {
    "id": "Of its row in Postgres; null until it is recorded, and for one that never can be.",
    "uid": "Of the resource; good for an id in any path.",
    "name": "Of the resource.",
    "namespace": "Of the resource.",
    "generation": "Goes up with each change of its spec.",
    "model_name": "The name callers ask for.",
    "aliases": "Other names for the model.",
    "backend_type": "ollama, mlx, openai or auto (MLX, then Ollama); of targets their type, or "
    "mixed.",
    "endpoint_url": "Where it is served; for auto the MLX server. Null: the type's default.",
    "fallback_endpoint_url": "For auto: the Ollama to fall back to.",
    "upstream_model": "The model's name at that server; null for the same.",
    "targets": "Instead of backend_type and endpoint_url: several servers, under the names of the "
    "resource.",
    "sticky_header": "The header that keeps a session on one target.",
    "enabled": "Whether it is served.",
    "priority": "Of several for one model the lower is served.",
    "max_tokens": "Tokens of an answer where the request sets none; null: the server decides.",
    "temperature_default": "Where the request sets none, 0 to 2; null: the server decides.",
    "parameters": "Further parameters of requests: defaults and overrides.",
    "timeout_seconds": "For all attempts together; of a streamed answer until its first token.",
    "timeouts": "Of a connection, a first token, a pause.",
    "fallback": "After which failures another target is asked, and how many.",
    "health_check": "How its targets are looked after.",
    "keep_alive_seconds": "How long Ollama keeps the model loaded: -1 for ever, 0 not at all.",
    "description": "For people.",
    "avg_tokens_per_sec": "Of decoding, over recorded requests; null before the first.",
    "avg_latency_ms": "Of whole requests, likewise.",
    "total_requests": "Recorded requests; null while Postgres is away.",
    "total_errors": "Those among them that failed.",
    "created_by": "Who made it, where that was done here or in the predecessor.",
    "changed_by": "Who changed its spec last, as far as the resource says.",
    "created_at": "RFC 3339.",
    "updated_at": "RFC 3339; when its spec was changed last.",
    "state": "Whether the operator has taken this generation: accepted, pending or refused.",
    "ready": "Its condition Ready; null while that is not known.",
    "paused": "Whether the operator leaves it as it is.",
    "managed_by": "The GitOps pipeline that it is to be changed by; null for none.",
    "problems": "What is wrong with its spec.",
    "conditions": "Of its status, as Kubernetes has them.",
    "live_targets": "Of its status: its targets as routers see them.",
    "summary": "Of its status: what kubectl's columns show.",
}


def _told(name: str) -> Any:
    return Field(description=FIELDS[name])


class Strict(BaseModel):
    """A body: no field but these."""

    model_config = ConfigDict(extra="forbid")


class Refusal(BaseModel):
    """Any answer that is no success."""

    model_config = ConfigDict(extra="allow", title="Error")

    detail: str = Field(description="One sentence for people.")


class Public(BaseModel):
    """A backend, as anybody may see it."""

    id: int | None = _told("id")
    model_name: str | None = _told("model_name")
    backend_type: str | None = _told("backend_type")
    endpoint_url: str | None = _told("endpoint_url")
    enabled: bool | None = _told("enabled")
    priority: int | None = _told("priority")
    max_tokens: int | None = _told("max_tokens")
    temperature_default: float | None = _told("temperature_default")
    timeout_seconds: int | None = _told("timeout_seconds")
    keep_alive_seconds: int | None = _told("keep_alive_seconds")
    description: str | None = _told("description")
    created_at: str | None = _told("created_at")
    updated_at: str | None = _told("updated_at")


class Backend(Public):
    """A backend with its state and what recorded traffic says of it."""

    uid: str = _told("uid")
    name: str = _told("name")
    namespace: str = _told("namespace")
    generation: int = _told("generation")
    aliases: list[str] | None = _told("aliases")
    fallback_endpoint_url: str | None = _told("fallback_endpoint_url")
    upstream_model: str | None = _told("upstream_model")
    targets: list[dict[str, Any]] | None = _told("targets")
    sticky_header: str | None = _told("sticky_header")
    parameters: dict[str, Any] | None = _told("parameters")
    timeouts: dict[str, Any] | None = _told("timeouts")
    fallback: dict[str, Any] | None = _told("fallback")
    health_check: dict[str, Any] | None = _told("health_check")
    avg_tokens_per_sec: float | None = _told("avg_tokens_per_sec")
    avg_latency_ms: float | None = _told("avg_latency_ms")
    total_requests: int | None = _told("total_requests")
    total_errors: int | None = _told("total_errors")
    created_by: str | None = _told("created_by")
    changed_by: str | None = _told("changed_by")
    state: Literal["accepted", "pending", "refused"] = _told("state")
    ready: bool | None = _told("ready")
    paused: bool = _told("paused")
    managed_by: str | None = _told("managed_by")
    problems: list[str] = _told("problems")
    conditions: list[dict[str, Any]] = _told("conditions")
    live_targets: list[dict[str, Any]] = _told("live_targets")
    summary: dict[str, Any] = _told("summary")


class Deleted(BaseModel):
    """What DELETE answers."""

    message: str
    id: int | None


class Toggled(BaseModel):
    """What a toggle answers."""

    id: int | None
    model_name: str | None
    enabled: bool
    message: str = Field(description='"Backend enabled" or "Backend disabled".')


class Restore(Strict):
    """Which generation to go back to."""

    generation: int = Field(ge=1, le=2**63 - 2, description="One of its history.")


class Difference(BaseModel):
    """One place of a spec."""

    path: str = Field(description="As `targets[mac-a].weight`.")
    before: Any = Field(description="Null when it was not there.")
    after: Any = Field(description="Null when it is not there any more.")


class Generation(BaseModel):
    """One entry of a history."""

    generation: int = Field(description="Its number.")
    change: str = Field(description="created, changed or deleted.")
    changed_by: str = Field(description="Who, as far as the resource said.")
    changed_at: str = Field(description="RFC 3339.")
    recorded_at: str = Field(description="RFC 3339; when Postgres was told.")
    name: str = Field(description="Of the resource then.")
    namespace: str = Field(description="Of the resource then.")
    spec: dict[str, Any] = Field(description="Under the resource's names, defaults filled in.")
    differences: list[Difference] | None = Field(
        description="To the entry before it; null when that is not kept."
    )


class Metric(Strict):
    """One request, as the predecessor's programs tell of it."""

    timestamp: float = Field(
        ge=0, le=253_402_300_799, allow_inf_nan=False, description="Its start, Unix seconds."
    )
    model: Name = Field(description="The model that was asked for.")
    backend: Name = Field(description="The type of backend that answered: ollama, mlx, ...")
    latency_seconds: Seconds = Field(description="From the request to its end.")
    tokens: Tokens | None = Field(None, description="Of the answer.")
    tokens_generated: Tokens | None = Field(None, description="The same; tokens goes first.")
    prompt_tokens: Tokens | None = Field(None, description="Of the prompt.")
    tokens_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="Taken and not kept: it was divided by the whole time."
    )
    request_id: Text | None = Field(None, description="The same id is kept once.")
    session_id: Text | None = Field(None, description="Of the conversation.")
    user_id: Text | None = Field(None, description="Of the person.")
    zone: Text | None = Field(None, description="Where it was asked.")
    intent: Text | None = Field(None, description="What it was about.")
    source: Text | None = Field(None, description="gateway, orchestrator, rag_... or another.")
    stage: Text | None = Field(None, description="classify, summarize, synthesize or another.")


class Stored(BaseModel):
    """What POST /metrics answers."""

    id: str = Field(description="The request's id.")
    status: Literal["created"]


class Sample(BaseModel):
    """One recorded request."""

    key: str = Field(description="Its place: `before` of the next page.")
    timestamp: float = Field(description="Its start, Unix seconds.")
    model: str = Field(description="The model, by the name the configuration has for it.")
    backend: str = Field(description="The type of backend that answered; may be empty.")
    target: str = Field(description="Its target that answered; may be empty.")
    outcome: str = Field(description="ok, error, broken or cancelled.")
    latency_seconds: float = Field(description="From the request to its end.")
    tokens: int | None = Field(description="Of the answer.")
    prompt_tokens: int | None = Field(description="Of the prompt.")
    tokens_per_second: float | None = Field(description="Of decoding alone.")
    first_token_seconds: float | None = Field(description="From the request to its first token.")
    fallback_reason: str = Field(description="Why the first target failed; empty if it did not.")
    request_id: str = Field(description="As its x-request-id.")
    session_id: str | None = Field(description="Of the conversation.")
    user_id: str | None = Field(description="Of the person.")
    zone: str | None = Field(description="Where it was asked.")
    intent: str | None = Field(description="What it was about.")
    source: str | None = Field(description="Which program asked.")
    stage: str | None = Field(description="What for.")


class Batch(BaseModel):
    """Usage records of a router."""

    records: list[dict[str, Any]] = Field(
        max_length=1000, description="Each as in docs/router.md, Usage records."
    )


class Intake(BaseModel):
    """What became of a batch."""

    stored: int = Field(description="Records that are new.")
    known: int = Field(description="Those that were there, or hold what can't be stored.")
    refused: list[str] = Field(description="Why each of the others is no record.")


class TargetState(BaseModel):
    """How one target stands with one router."""

    name: str
    state: str = Field(description="Healthy, Unhealthy, Ejected and so on.")
    failure: str | None = Field(description="What is against it; null for nothing.")
    since: float | None = Field(description="Unix seconds of the last change.")
    tokens_per_second: float | None = Field(description="Of its recent answers.")
    first_token_seconds: float | None = Field(description="Of its recent answers.")


class RouteState(BaseModel):
    """One route of one router."""

    uid: str = Field(description="Of the backend.")
    generation: int = Field(description="Of it that this router runs.")
    targets: list[TargetState]


class RouterState(BaseModel):
    """One router and what it says it runs."""

    namespace: str = Field(description="Of its pod.")
    name: str = Field(description="Of its pod.")
    uid: str = Field(description="Of its pod.")
    url: str = Field(description="Of its management port.")
    ready: bool = Field(description="Whether it takes requests.")
    terminating: bool = Field(description="Whether it is on its way out.")
    unreachable: str | None = Field(description="Why it says nothing; null when it does.")
    checksum: str | None = Field(description="Of its configuration; null for none.")
    rejected: str | None = Field(description="Why it could not take what is mounted.")
    routes: list[RouteState] = Field(description="In its table.")


Interval = Annotated[list[float], Field(min_length=2, max_length=2)] | None


class ComparedBackend(BaseModel):
    """One backend beside the baseline; null is what is not known."""

    backend: str = Field(description="Its type, or its name where targets are compared.")
    requests: int = Field(description="All of them, whatever came of them.")
    errors: int = Field(description="Refused or broken off.")
    fallbacks: int = Field(description="Those whose first target failed.")
    measured: int = Field(description="Those that times and rates are of.")
    average_seconds: float | None = Field(description="From the request to its end.")
    p50_seconds: float | None = Field(description="Half of the requests took less.")
    p95_seconds: float | None = Field(description="95 % of the requests took less.")
    first_token_seconds: float | None = Field(
        description="From the request to a token, on average."
    )
    tokens_per_second: float | None = Field(description="Of decoding alone.")
    speedup: float | None = Field(description="The baseline's average time by this one's.")
    speedup_interval: Interval = Field(description="Of 95 %, as all intervals here.")
    difference_seconds: float | None = Field(description="This average less the baseline's.")
    difference_interval: Interval = Field(description="Of that.")
    rate_ratio: float | None = Field(description="This rate of tokens by the baseline's.")
    rate_ratio_interval: Interval = Field(description="Of that.")
    verdict: str = Field(
        description="baseline, faster, slower, no difference seen or not enough data."
    )
    note: str = Field(description="Why a number is missing; empty where none is.")


class ComparedPoint(BaseModel):
    """One backend in one step of time."""

    at: str = Field(description="RFC 3339; where the step begins.")
    backend: str
    requests: int
    errors: int
    average_seconds: float | None
    tokens_per_second: float | None


class Compared(BaseModel):
    """The backends of one model beside one of them."""

    model: str
    since: str = Field(description="RFC 3339.")
    until: str = Field(description="RFC 3339.")
    by: str = Field(description="backend_type or target.")
    baseline: str | None = Field(description="What the others are compared with; null for none.")
    backends: list[ComparedBackend] = Field(description="The baseline first, then the fastest.")
    step: int | None = Field(None, description="Seconds of a point; with `series` alone.")
    series: list[ComparedPoint] | None = Field(None, description="Over time, where asked for.")
