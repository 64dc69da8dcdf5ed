"""JSON values -> routes, with the path of whatever is refused.

What is not there gets the default of `llm_contract.routing`. Fields it does not know are ignored,
because a newer writer may add optional ones; so are words it does not know in `fallback.on`, and an
`onBusy` it does not know is Spill: an older router then does less than asked and goes on serving.
"""

import itertools
from collections.abc import Iterable

from llm_contract import headers
from llm_contract.errors import Malformed
from llm_contract.reader import Reader
from llm_contract.routing import (
    ActiveCheck,
    Auth,
    Defaults,
    Fallback,
    FallbackOn,
    HeaderEdits,
    HealthCheck,
    OnBusy,
    Parameters,
    PassiveCheck,
    Route,
    Target,
    TargetType,
    Timeouts,
    Tls,
    Waits,
)

#: The shortest time that means something, in seconds.
MIN_SECONDS = 0.001

_FALLBACK_ON = {word.value: word for word in FallbackOn}


def routes(given: Iterable[Reader]) -> tuple[Route, ...]:
    """The elements of `routes`; no two of them answer to one name."""
    read = []
    owners: dict[str, str] = {}
    for at in given:
        route = _route(at)
        places = itertools.chain(["model"], (f"aliases[{n}]" for n in range(len(route.aliases))))
        for name, place in zip((route.model, *route.aliases), places, strict=True):
            _claim(owners, name, at.at(place), at.path)
        read.append(route)
    return tuple(read)


def _claim(owners: dict[str, str], name: str, path: str, owner: str) -> None:
    if name in owners:
        raise Malformed(path, f"{name!r} is {owners[name]}'s too")
    owners[name] = owner


def _route(at: Reader) -> Route:
    targets = tuple(_target(reader) for reader in at.items("targets"))
    if not targets:
        raise Malformed(f"{at.path}.targets", "a route needs at least one target")
    names: dict[str, str] = {}
    for index, target in enumerate(targets):
        place = f"{at.path}.targets[{index}]"
        _claim(names, target.name, f"{place}.name", place)
    waits, defaults = at.object("timeouts"), at.object("defaults", required=False)
    return Route(
        model=at.string("model"),
        uid=at.string("uid"),
        generation=at.integer("generation", minimum=1),
        name=at.string("name"),
        targets=targets,
        timeouts=Timeouts(
            total=waits.number("total", minimum=MIN_SECONDS),
            connect=waits.optional_number("connect", minimum=MIN_SECONDS),
            first_token=waits.optional_number("firstToken", minimum=MIN_SECONDS),
            stream_idle=waits.optional_number("streamIdle", minimum=MIN_SECONDS),
        ),
        defaults=Defaults(
            max_tokens=defaults.optional_integer("maxTokens", minimum=0),
            temperature=defaults.optional_number("temperature", minimum=0),
            keep_alive_seconds=defaults.optional_integer("keepAliveSeconds", minimum=-1),
        ),
        aliases=at.strings("aliases"),
        sticky_header=_header(at, "stickyHeader") if "stickyHeader" in at.fields else None,
        fallback=_fallback(at.object("fallback", required=False)),
        health=_health(at.object("health", required=False)),
        parameters=_parameters(at.object("parameters", required=False)),
    )


def _fallback(at: Reader) -> Fallback:
    words = at.strings("on")
    return Fallback(
        on=frozenset(_FALLBACK_ON[word] for word in words if word in _FALLBACK_ON)
        if "on" in at.fields
        else None,
        max_attempts=at.optional_integer("maxAttempts", minimum=1),
    )


def _health(at: Reader) -> HealthCheck:
    active, passive = at.object("active", required=False), at.object("passive", required=False)
    probe, breaker = ActiveCheck(), PassiveCheck()
    return HealthCheck(
        active=ActiveCheck(
            enabled=active.boolean("enabled", probe.enabled),
            interval=_seconds(active, "interval", probe.interval),
            timeout=_seconds(active, "timeout", probe.timeout),
            unhealthy_threshold=_times(active, "unhealthyThreshold", probe.unhealthy_threshold),
            healthy_threshold=_times(active, "healthyThreshold", probe.healthy_threshold),
            require_model=active.boolean("requireModel", probe.require_model),
        ),
        passive=PassiveCheck(
            failures=_times(passive, "failures", breaker.failures),
            eject=_seconds(passive, "eject", breaker.eject),
            max_eject=_seconds(passive, "maxEject", breaker.max_eject),
        ),
    )


def _seconds(at: Reader, name: str, default: float) -> float:
    return at.number(name, minimum=MIN_SECONDS, default=default)


def _times(at: Reader, name: str, default: int) -> int:
    return at.integer(name, minimum=1, default=default)


def _parameters(at: Reader) -> Parameters:
    return Parameters(defaults=at.values("defaults"), overrides=at.values("overrides"))


def _target(at: Reader) -> Target:
    kind = at.string("type")
    if kind not in {known.value for known in TargetType}:
        known = ", ".join(TargetType)
        raise Malformed(f"{at.path}.type", f"{kind!r} is not a target type ({known})")
    url = at.string("url")
    if not url.startswith(("http://", "https://")):
        raise Malformed(f"{at.path}.url", f"{url!r} is not an http or https URL")
    busy = at.optional_string("onBusy")
    waits = at.object("timeouts", required=False)
    return Target(
        name=at.string("name"),
        type=TargetType(kind),
        url=url,
        model=at.string("model"),
        tier=at.optional_integer("tier", minimum=0),
        weight=at.integer("weight", minimum=0, default=1),
        max_concurrent=at.optional_integer("maxConcurrent", minimum=1),
        on_busy=OnBusy.QUEUE if busy == OnBusy.QUEUE else OnBusy.SPILL,
        auth=_auth(at.object("auth")) if "auth" in at.fields else None,
        tls=_tls(at.object("tls")) if "tls" in at.fields else None,
        headers=_headers(at.object("headers", required=False)),
        waits=Waits(
            connect=waits.optional_number("connect", minimum=MIN_SECONDS),
            first_token=waits.optional_number("firstToken", minimum=MIN_SECONDS),
            stream_idle=waits.optional_number("streamIdle", minimum=MIN_SECONDS),
        ),
        parameters=_parameters(at.object("parameters", required=False)),
        num_ctx=at.optional_integer("numCtx", minimum=1),
        keep_alive=_keep_alive(at),
        health_path=_path(at),
    )


def _auth(at: Reader) -> Auth:
    usual = Auth(credential=at.string("credential"))
    header = _header(at, "header") if "header" in at.fields else usual.header
    if not headers.may_edit(header):
        raise Malformed(at.at("header"), f"{header!r} is the router's own")
    return Auth(credential=usual.credential, header=header, scheme=_scheme(at, usual.scheme))


def _scheme(at: Reader, default: str) -> str:
    # NB: "" is a value here: the credential alone.
    if at.fields.get("scheme") == "":
        return ""
    scheme = at.optional_string("scheme") or default
    if not headers.is_name(scheme):
        raise Malformed(at.at("scheme"), f"{scheme[:64]!r} is not one word of plain ASCII")
    return scheme


def _tls(at: Reader) -> Tls:
    certificate, key = at.optional_string("clientCertificate"), at.optional_string("clientKey")
    if (certificate is None) != (key is None):
        missing = "clientKey" if key is None else "clientCertificate"
        raise Malformed(at.at(missing), "is missing; a certificate and its key go together")
    return Tls(
        ca=at.optional_string("ca"),
        client_certificate=certificate,
        client_key=key,
        server_name=at.optional_string("serverName"),
        insecure=at.boolean("insecure", default=False),
    )


def _headers(at: Reader) -> HeaderEdits:
    changes, removed = [], at.strings("remove")
    for edit in at.items("set", required=False):
        name, value = _header(edit, "name"), edit.string("value")
        if not headers.may_set(name):
            raise Malformed(edit.at("name"), f"{name!r} is the router's own")
        if not headers.is_value(value):
            raise Malformed(edit.at("value"), "holds what is no plain ASCII text")
        changes.append((name, value))
    for index, name in enumerate(removed):
        if not headers.is_name(name) or not headers.may_edit(name):
            raise Malformed(f"{at.at('remove')}[{index}]", f"{name[:64]!r} can't be removed")
    return HeaderEdits(set=tuple(changes), remove=removed)


def _header(at: Reader, field: str) -> str:
    name = at.string(field)
    if not headers.is_name(name):
        raise Malformed(at.at(field), f"{name[:64]!r} is not a header name")
    return name


def _keep_alive(at: Reader) -> str | int | None:
    if isinstance(at.fields.get("keepAlive"), str):
        return at.string("keepAlive")
    return at.optional_integer("keepAlive", minimum=-1)


def _path(at: Reader) -> str | None:
    path = at.optional_string("healthPath")
    if path is not None and not path.startswith("/"):
        raise Malformed(at.at("healthPath"), f"{path[:64]!r} does not start with /")
    return path
