"""The schema of a spec, field by field: the same as in crds/llmbackends.yaml.

Order, types, bounds, defaults and rules are compared with the CRD by a test. What a field means is
told once, in the CRD's descriptions.
"""

from llm_contract import FallbackOn, OnBusy, SourceKind, TargetType
from llm_contract.credentials import MAX_KEY, MAX_NAME
from llm_operator.resource import rules
from llm_operator.resource.model import BackendType
from llm_operator.resource.schema import (
    Field,
    Kind,
    anything,
    flag,
    group,
    one_of,
    several,
    text,
    whole,
)
from llm_operator.resource.urls import URL_RULES

_HOUR = 3600
_DAY = 24 * _HOUR
_MAX_FIELDS = 64

_URL = text(2048, *URL_RULES)
_SOURCE_NAME = text(MAX_NAME, rules.OBJECT_NAME)
_SOURCE_KEY = text(MAX_KEY, rules.DATA_KEY)
_EDITABLE = (rules.HEADER, rules.EDITABLE_HEADER)

_TIMEOUTS = group(
    {
        "connectSeconds": whole(1, _HOUR),
        "firstTokenSeconds": whole(1, _HOUR),
        "streamIdleSeconds": whole(1, _HOUR),
    }
)
_PARAMETERS = group({"defaults": anything(_MAX_FIELDS), "overrides": anything(_MAX_FIELDS)})

_SERVICE = group(
    {
        "name": text(63, rules.LABEL),
        "port": whole(1, 65535),
        "scheme": one_of(("http", "https"), default="http"),
    },
    required=("name", "port"),
)
_AUTH = group(
    {
        "secretRef": group(
            {"name": _SOURCE_NAME, "key": _SOURCE_KEY},
            required=("name", "key"),
        ),
        "header": text(128, *_EDITABLE, default="Authorization"),
        "scheme": text(32, rules.AUTH_SCHEME, default="Bearer"),
        "allowPlaintext": flag(default=False),
    },
    required=("secretRef",),
)
_TLS = group(
    {
        "caRef": group(
            {
                "kind": one_of(
                    (SourceKind.CONFIG_MAP, SourceKind.SECRET), default=SourceKind.CONFIG_MAP
                ),
                "name": _SOURCE_NAME,
                "key": text(MAX_KEY, rules.DATA_KEY, default="ca.crt"),
            },
            required=("name",),
        ),
        "clientCertRef": group({"name": _SOURCE_NAME}, required=("name",)),
        "serverName": text(253, rules.SERVER_NAME),
        "insecureSkipVerify": flag(default=False),
    },
    rules=(rules.TLS,),
)
_HEADERS = group(
    {
        "set": several(
            group(
                {
                    "name": text(128, rules.HEADER, rules.SETTABLE_HEADER),
                    "value": text(1024, rules.PLAIN_TEXT),
                },
                required=("name", "value"),
            ),
            at_most=16,
            key="name",
        ),
        "remove": several(text(128, *_EDITABLE), at_most=16),
    }
)
_TARGET = group(
    {
        "name": text(63, rules.LABEL),
        "type": one_of(tuple(TargetType)),
        "endpointURL": _URL,
        "serviceRef": _SERVICE,
        "model": text(512, rules.PLAIN_TEXT),
        "tier": whole(0, 1000),
        "weight": whole(0, 1_000_000),
        "enabled": flag(default=True),
        "maxConcurrentRequests": whole(1, 100_000),
        "onBusy": one_of(tuple(OnBusy), default=OnBusy.SPILL),
        "auth": _AUTH,
        "tls": _TLS,
        "headers": _HEADERS,
        "timeouts": _TIMEOUTS,
        "healthPath": text(256, rules.HEALTH_PATH),
        "ollama": group(
            {"numCtx": whole(1, 16_777_216), "keepAlive": text(32, rules.KEEP_ALIVE)},
        ),
        "parameters": _PARAMETERS,
    },
    required=("name", "type"),
    rules=rules.TARGET,
)
_HEALTH_CHECK = group(
    {
        "active": group(
            {
                "enabled": flag(default=True),
                "intervalSeconds": whole(1, _HOUR, default=15),
                "timeoutSeconds": whole(1, _HOUR, default=3),
                "unhealthyThreshold": whole(1, 100, default=2),
                "healthyThreshold": whole(1, 100, default=1),
                "requireModel": flag(default=True),
            },
            rules=(rules.ACTIVE_CHECK,),
        ),
        "passive": group(
            {
                "consecutiveFailures": whole(1, 1000, default=3),
                "ejectSeconds": whole(1, _DAY, default=15),
                "maxEjectSeconds": whole(1, _DAY, default=300),
            },
            rules=(rules.PASSIVE_CHECK,),
        ),
    }
)

SPEC: Field = group(
    {
        "modelName": text(253, rules.MODEL_NAME),
        "backendType": one_of(tuple(BackendType)),
        "endpointURL": _URL,
        "fallbackEndpointURL": _URL,
        "upstreamModel": text(512, rules.PLAIN_TEXT),
        "aliases": several(text(253, rules.MODEL_NAME), at_most=16),
        "targets": several(_TARGET, at_least=1, at_most=8, key="name"),
        "stickyHeader": text(128, rules.HEADER),
        "timeouts": _TIMEOUTS,
        "fallback": group(
            {
                "after": several(one_of(tuple(FallbackOn)), at_most=16),
                "maxAttempts": whole(1, 8),
            }
        ),
        "healthCheck": _HEALTH_CHECK,
        "parameters": _PARAMETERS,
        "enabled": flag(default=True),
        "priority": whole(0, 1_000_000, default=100),
        "maxTokens": whole(1, 1_048_576),
        "temperature": Field(kind=Kind.NUMBER, minimum=0, maximum=2),
        "timeoutSeconds": whole(1, _HOUR, default=60),
        "keepAliveSeconds": whole(-1, 365 * _DAY),
        "description": text(1024),
    },
    required=("modelName",),
    rules=rules.SPEC,
)
