"""An example of each body and each answer, for the OpenAPI document; tests hold it to its form."""

from collections.abc import Mapping
from typing import Any

from llm_operator.admin.view import PUBLIC as PUBLIC_FIELDS

BACKEND: Mapping[str, Any] = {
    "id": 1,
    "uid": "0b0c0f6e-6f0e-4f38-9f5c-6d8f6a2e3a11",
    "name": "phi3-mini",
    "namespace": "default",
    "generation": 1,
    "model_name": "phi3:mini",
    "aliases": None,
    "backend_type": "ollama",
    "endpoint_url": "http://localhost:11434",
    "fallback_endpoint_url": None,
    "upstream_model": None,
    "targets": None,
    "sticky_header": None,
    "enabled": True,
    "priority": 100,
    "max_tokens": 2048,
    "temperature_default": 0.7,
    "parameters": None,
    "timeout_seconds": 60,
    "timeouts": None,
    "fallback": None,
    "health_check": None,
    "keep_alive_seconds": -1,
    "description": "Phi-3 Mini via Ollama for fast classification",
    "avg_tokens_per_sec": None,
    "avg_latency_ms": None,
    "total_requests": 0,
    "total_errors": 0,
    "created_by": "system:serviceaccount:ai:orchestrator",
    "changed_by": "alice (llm-backend-admin)",
    "created_at": "2026-01-05T09:00:00Z",
    "updated_at": "2026-01-05T09:00:00Z",
    "state": "accepted",
    "ready": True,
    "paused": False,
    "managed_by": None,
    "problems": [],
    "conditions": [],
    "live_targets": [],
    "summary": {},
}
#: The body of the predecessor's own example.
CREATE: Mapping[str, Any] = {
    "model_name": "phi3:mini",
    "backend_type": "ollama",
    "endpoint_url": "http://localhost:11434",
    "enabled": True,
    "max_tokens": 2048,
    "temperature_default": 0.7,
    "timeout_seconds": 60,
    "description": "Phi-3 Mini via Ollama for fast classification",
}
CHANGE: Mapping[str, Any] = {"backend_type": "mlx", "endpoint_url": "http://localhost:8080"}
METRIC: Mapping[str, Any] = {
    "timestamp": 1763200000.25,
    "model": "phi3:mini",
    "backend": "ollama",
    "latency_seconds": 7.1,
    "tokens": 96,
    "request_id": "a1b2c3",
    "source": "gateway",
    "stage": "classify",
}
RECORD: Mapping[str, Any] = {
    "request_id": "5f0c2a",
    "at": 1763200000.25,
    "model": "phi3:mini",
    "target": "ollama",
    "backend_type": "ollama",
    "outcome": "ok",
    "completion_tokens": 96,
    "total_seconds": 7.1,
}
PUBLIC: Mapping[str, Any] = {name: BACKEND[name] for name in PUBLIC_FIELDS}
TOGGLED: Mapping[str, Any] = {
    "id": 1,
    "model_name": "phi3:mini",
    "enabled": False,
    "message": "Backend disabled",
}
GENERATION: Mapping[str, Any] = {
    "generation": 2,
    "change": "changed",
    "changed_by": "llm-backend-admin",
    "changed_at": "2026-01-05T09:10:00+00:00",
    "recorded_at": "2026-01-05T09:10:00.120000+00:00",
    "name": "phi3-mini",
    "namespace": "default",
    "spec": {
        "modelName": "phi3:mini",
        "backendType": "mlx",
        "endpointURL": "http://localhost:8080",
        "enabled": True,
        "priority": 100,
        "timeoutSeconds": 60,
    },
    "differences": [{"path": "backendType", "before": "ollama", "after": "mlx"}],
}
YAML = """\
apiVersion: llm.athena.dev/v1alpha1
kind: LLMBackend
metadata:
  name: phi3-mini
  namespace: default
spec:
  modelName: phi3:mini
  backendType: ollama
  endpointURL: http://localhost:11434
"""
SAMPLE: Mapping[str, Any] = {
    "key": "MTc2MzIwMDAwMDI1MDAwMDphMWIyYzM",
    "timestamp": 1763200000.25,
    "request_id": "a1b2c3",
    "model": "phi3:mini",
    "backend": "ollama",
    "target": "",
    "outcome": "ok",
    "latency_seconds": 7.1,
    "tokens": 96,
    "prompt_tokens": None,
    "tokens_per_second": None,
    "first_token_seconds": None,
    "fallback_reason": "",
    "session_id": None,
    "user_id": None,
    "zone": None,
    "intent": None,
    "source": "gateway",
    "stage": "classify",
}
ROUTER: Mapping[str, Any] = {
    "namespace": "default",
    "name": "orchestrator-7d9c5b6f4-x2x7k",
    "uid": "3f1c5c1e-52a4-4d7d-a5f0-1b9a9f1f0c55",
    "url": "http://10.0.0.12:8081",
    "ready": True,
    "terminating": False,
    "unreachable": None,
    "checksum": "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a",
    "rejected": None,
    "routes": [
        {
            "uid": "0b0c0f6e-6f0e-4f38-9f5c-6d8f6a2e3a11",
            "generation": 1,
            "targets": [
                {
                    "name": "ollama",
                    "state": "Healthy",
                    "failure": None,
                    "since": 1763200000.0,
                    "tokens_per_second": 14.2,
                    "first_token_seconds": 0.4,
                }
            ],
        }
    ],
}
COMPARED: Mapping[str, Any] = {
    "model": "phi3:mini",
    "since": "2026-01-04T09:00:00Z",
    "until": "2026-01-05T09:00:00Z",
    "by": "backend_type",
    "baseline": "ollama",
    "backends": [
        {
            "backend": "ollama",
            "requests": 120,
            "errors": 0,
            "fallbacks": 0,
            "measured": 120,
            "average_seconds": 7.0,
            "p50_seconds": 6.9,
            "p95_seconds": 8.4,
            "first_token_seconds": 0.4,
            "tokens_per_second": 14.0,
            "speedup": 1.0,
            "speedup_interval": None,
            "difference_seconds": None,
            "difference_interval": None,
            "rate_ratio": None,
            "rate_ratio_interval": None,
            "verdict": "baseline",
            "note": "",
        }
    ],
}
