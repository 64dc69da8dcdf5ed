"""Checked fields -> Spec: the values under the names that the rest of the operator knows.

It trusts what it is given: only `llm_operator.resource.parse` calls it, with fields that keep every
rule, their defaults filled in.
"""

from collections.abc import Mapping
from typing import Any

from llm_contract import (
    ActiveCheck,
    Fallback,
    FallbackOn,
    HeaderEdits,
    HealthCheck,
    OnBusy,
    Parameters,
    PassiveCheck,
    SourceKind,
    TargetType,
    Waits,
)
from llm_operator.resource.model import (
    BackendType,
    Credential,
    Host,
    Service,
    Source,
    Spec,
    Verification,
)

_Fields = Mapping[str, Any]


def spec(given: _Fields) -> Spec:
    """The spec of checked fields."""
    kind, temperature = given.get("backendType"), given.get("temperature")
    return Spec(
        model_name=given["modelName"],
        backend_type=None if kind is None else BackendType(kind),
        endpoint_url=given.get("endpointURL"),
        fallback_endpoint_url=given.get("fallbackEndpointURL"),
        upstream_model=given.get("upstreamModel"),
        hosts=tuple(_host(target) for target in given.get("targets", ())),
        aliases=tuple(given.get("aliases", ())),
        sticky_header=given.get("stickyHeader"),
        waits=_waits(given.get("timeouts", {})),
        fallback=_fallback(given.get("fallback", {})),
        health=_health(given.get("healthCheck", {})),
        parameters=_parameters(given.get("parameters", {})),
        enabled=given["enabled"],
        priority=given["priority"],
        max_tokens=given.get("maxTokens"),
        temperature=None if temperature is None else float(temperature),
        timeout_seconds=given["timeoutSeconds"],
        keep_alive_seconds=given.get("keepAliveSeconds"),
        description=given.get("description", ""),
        fields=given,
    )


def _host(given: _Fields) -> Host:
    ollama = given.get("ollama", {})
    return Host(
        name=given["name"],
        type=TargetType(given["type"]),
        endpoint_url=given.get("endpointURL"),
        service=Service(**given["serviceRef"]) if "serviceRef" in given else None,
        model=given.get("model"),
        tier=given.get("tier"),
        weight=given.get("weight", 1),
        enabled=given["enabled"],
        max_concurrent=given.get("maxConcurrentRequests"),
        on_busy=OnBusy(given["onBusy"]),
        credential=_credential(given["auth"]) if "auth" in given else None,
        verification=_verification(given["tls"]) if "tls" in given else None,
        headers=_headers(given.get("headers", {})),
        waits=_waits(given.get("timeouts", {})),
        health_path=given.get("healthPath"),
        num_ctx=ollama.get("numCtx"),
        keep_alive=_keep_alive(ollama.get("keepAlive")),
        parameters=_parameters(given.get("parameters", {})),
    )


def _credential(given: _Fields) -> Credential:
    return Credential(
        source=Source(kind=SourceKind.SECRET, **given["secretRef"]),
        header=given["header"],
        scheme=given["scheme"],
    )


def _verification(given: _Fields) -> Verification:
    ca = given.get("caRef")
    return Verification(
        ca=Source(kind=SourceKind(ca["kind"]), name=ca["name"], key=ca["key"]) if ca else None,
        client_certificate=given.get("clientCertRef", {}).get("name"),
        server_name=given.get("serverName"),
        insecure=given["insecureSkipVerify"],
    )


def _headers(given: _Fields) -> HeaderEdits:
    return HeaderEdits(
        set=tuple((edit["name"], edit["value"]) for edit in given.get("set", ())),
        remove=tuple(given.get("remove", ())),
    )


def _waits(given: _Fields) -> Waits:
    return Waits(
        connect=given.get("connectSeconds"),
        first_token=given.get("firstTokenSeconds"),
        stream_idle=given.get("streamIdleSeconds"),
    )


def _fallback(given: _Fields) -> Fallback:
    after = given.get("after")
    return Fallback(
        on=None if after is None else frozenset(FallbackOn(word) for word in after),
        max_attempts=given.get("maxAttempts"),
    )


def _health(given: _Fields) -> HealthCheck:
    active, passive = given.get("active"), given.get("passive")
    return HealthCheck(
        active=ActiveCheck(
            enabled=active["enabled"],
            interval=active["intervalSeconds"],
            timeout=active["timeoutSeconds"],
            unhealthy_threshold=active["unhealthyThreshold"],
            healthy_threshold=active["healthyThreshold"],
            require_model=active["requireModel"],
        )
        if active is not None
        else ActiveCheck(),
        passive=PassiveCheck(
            failures=passive["consecutiveFailures"],
            eject=passive["ejectSeconds"],
            max_eject=passive["maxEjectSeconds"],
        )
        if passive is not None
        else PassiveCheck(),
    )


def _parameters(given: _Fields) -> Parameters:
    return Parameters(defaults=given.get("defaults", {}), overrides=given.get("overrides", {}))


def _keep_alive(given: str | None) -> str | int | None:
    # NB: Ollama takes a number of seconds as a number only; "300" would be a duration without unit.
    return int(given) if given is not None and given.lstrip("-").isdecimal() else given
