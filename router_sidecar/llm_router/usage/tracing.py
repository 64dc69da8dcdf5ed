"""Whether spans are exported, decided without importing what exports them."""

from collections.abc import Mapping

#: OpenTelemetry's variables that name a collector; one of them switches tracing on.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def wanted(environment: Mapping[str, str]) -> bool:
    """A collector is named and OTEL_SDK_DISABLED is not true."""
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(environment.get(name) for name in ENDPOINTS)
