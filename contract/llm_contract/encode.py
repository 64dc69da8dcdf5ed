"""Routes -> JSON values, in the one form that `llm_contract.codec` writes.

What stands at its default is left out, so a configuration that uses nothing new keeps its bytes
from release to release, and readers apply the same defaults. A default here is therefore for ever:
to change one is to change what published bytes mean.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from llm_contract.routing import (
    ActiveCheck,
    Auth,
    HealthCheck,
    OnBusy,
    Parameters,
    PassiveCheck,
    Route,
    Target,
    Timeouts,
    Tls,
    Waits,
)

_T = TypeVar("_T")

_AUTH = Auth(credential="any")
_ACTIVE = ActiveCheck()
_PASSIVE = PassiveCheck()


def route(given: Route) -> dict[str, Any]:
    """One element of `routes`."""
    fallback = given.fallback
    return {
        "model": given.model,
        "uid": given.uid,
        "generation": given.generation,
        "name": given.name,
        "targets": [_target(target, place) for place, target in enumerate(given.targets)],
        "timeouts": _timeouts(given.timeouts),
        "defaults": _set_only(
            maxTokens=given.defaults.max_tokens,
            temperature=_number(given.defaults.temperature),
            keepAliveSeconds=given.defaults.keep_alive_seconds,
        ),
        **_filled(
            # NB: sorted, because the order of aliases carries no meaning.
            aliases=sorted(given.aliases),
            fallback=_set_only(
                on=None if fallback.on is None else sorted(fallback.on),
                maxAttempts=fallback.max_attempts,
            ),
            health=_health(given.health),
            parameters=_parameters(given.parameters),
        ),
        **_set_only(stickyHeader=given.sticky_header),
    }


def _target(given: Target, place: int) -> dict[str, Any]:
    edits = given.headers
    return {
        "name": given.name,
        "type": given.type.value,
        "url": given.url,
        "model": given.model,
        **_set_only(
            tier=_unless(place, given.tier),
            weight=_unless(1, given.weight),
            maxConcurrent=given.max_concurrent,
            onBusy=_unless(OnBusy.SPILL, given.on_busy),
            auth=None if given.auth is None else _auth(given.auth),
            numCtx=given.num_ctx,
            keepAlive=given.keep_alive,
            healthPath=given.health_path,
        ),
        **_filled(
            tls={} if given.tls is None else _tls(given.tls),
            headers=_filled(
                set=[{"name": name, "value": value} for name, value in edits.set],
                remove=list(edits.remove),
            ),
            timeouts=_timeouts(given.waits),
            parameters=_parameters(given.parameters),
        ),
    }


def _timeouts(given: Timeouts | Waits) -> dict[str, Any]:
    return _set_only(
        total=_number(given.total) if isinstance(given, Timeouts) else None,
        connect=_number(given.connect),
        firstToken=_number(given.first_token),
        streamIdle=_number(given.stream_idle),
    )


def _auth(given: Auth) -> dict[str, Any]:
    return _set_only(
        credential=given.credential,
        header=_unless(_AUTH.header, given.header),
        scheme=_unless(_AUTH.scheme, given.scheme),
    )


def _tls(given: Tls) -> dict[str, Any]:
    return _set_only(
        ca=given.ca,
        clientCertificate=given.client_certificate,
        clientKey=given.client_key,
        serverName=given.server_name,
        insecure=given.insecure or None,
    )


def _health(given: HealthCheck) -> dict[str, Any]:
    active, passive = given.active, given.passive
    return _filled(
        active=_set_only(
            enabled=_unless(_ACTIVE.enabled, active.enabled),
            interval=_number(_unless(_ACTIVE.interval, active.interval)),
            timeout=_number(_unless(_ACTIVE.timeout, active.timeout)),
            unhealthyThreshold=_unless(_ACTIVE.unhealthy_threshold, active.unhealthy_threshold),
            healthyThreshold=_unless(_ACTIVE.healthy_threshold, active.healthy_threshold),
            requireModel=_unless(_ACTIVE.require_model, active.require_model),
        ),
        passive=_set_only(
            failures=_unless(_PASSIVE.failures, passive.failures),
            eject=_number(_unless(_PASSIVE.eject, passive.eject)),
            maxEject=_number(_unless(_PASSIVE.max_eject, passive.max_eject)),
        ),
    )


def _parameters(given: Parameters) -> dict[str, Any]:
    return _filled(defaults=_json(given.defaults), overrides=_json(given.overrides))


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    return _number(value) if isinstance(value, float) else value


def _set_only(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _filled(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _unless(default: _T, value: _T) -> _T | None:
    return None if value == default else value


def _number(value: float | None) -> int | float | None:
    # NB: YAML gives 1 or 1.0 for one meaning; whole numbers are written without a fraction.
    return int(value) if value is not None and value == int(value) else value
