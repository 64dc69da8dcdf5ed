"""Any configuration as bytes and back; any bytes in place of one: a configuration or a clear no."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.profile import fuzz, fuzz_each
from fuzz.shapes import changed, documents
from llm_contract import (
    ActiveCheck,
    Auth,
    ContractError,
    Defaults,
    Fallback,
    FallbackOn,
    HeaderEdits,
    HealthCheck,
    OnBusy,
    Parameters,
    PassiveCheck,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
    Tls,
    Waits,
    dump,
    parse,
)

TEXT = st.text(min_size=1, max_size=6)
SECONDS = st.floats(0.001, 1e300) | st.integers(1, 10**6).map(float)
MAYBE_SECONDS = st.none() | SECONDS
COUNT = st.integers(1, 10**20)
HEADER = st.from_regex(r"X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,6}", fullmatch=True)
VALUE = st.from_regex(r"[!-~]([ -~\t]{0,4}[!-~])?", fullmatch=True)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(TEXT, JSON, max_size=3)
PARAMETERS = st.builds(Parameters, defaults=FIELDS, overrides=FIELDS)

AUTH = st.builds(
    Auth,
    credential=TEXT,
    header=HEADER,
    scheme=st.just("") | st.from_regex(r"[A-Za-z]{1,5}", fullmatch=True),
)
PAIRS = st.none() | st.tuples(TEXT, TEXT)
TLS = st.builds(
    lambda pair, **more: Tls(
        client_certificate=pair[0] if pair else None, client_key=pair[1] if pair else None, **more
    ),
    pair=PAIRS,
    ca=st.none() | TEXT,
    server_name=st.none() | TEXT,
    insecure=st.booleans(),
).filter(lambda tls: tls != Tls())
HEADERS = st.builds(
    HeaderEdits,
    set=st.lists(st.tuples(HEADER, VALUE), max_size=2).map(tuple),
    remove=st.lists(HEADER, max_size=2).map(tuple),
)
TARGETS = st.builds(
    Target,
    name=TEXT,
    type=st.sampled_from(TargetType),
    url=TEXT.map(lambda text: f"http://{text}"),
    model=TEXT,
    tier=st.none() | st.integers(0, 9),
    weight=st.integers(0, 100),
    max_concurrent=st.none() | COUNT,
    on_busy=st.sampled_from(OnBusy),
    auth=st.none() | AUTH,
    tls=st.none() | TLS,
    headers=HEADERS,
    waits=st.builds(
        Waits, connect=MAYBE_SECONDS, first_token=MAYBE_SECONDS, stream_idle=MAYBE_SECONDS
    ),
    parameters=PARAMETERS,
    num_ctx=st.none() | COUNT,
    keep_alive=st.none() | TEXT | st.integers(-1, 10**9),
    health_path=st.none() | TEXT.map(lambda text: f"/{text}"),
)
HEALTH = st.builds(
    HealthCheck,
    active=st.builds(
        ActiveCheck,
        enabled=st.booleans(),
        interval=SECONDS,
        timeout=SECONDS,
        unhealthy_threshold=COUNT,
        healthy_threshold=COUNT,
        require_model=st.booleans(),
    ),
    passive=st.builds(PassiveCheck, failures=COUNT, eject=SECONDS, max_eject=SECONDS),
)
ROUTES = st.builds(
    Route,
    model=TEXT,
    uid=TEXT,
    generation=COUNT,
    name=TEXT,
    targets=st.lists(TARGETS, min_size=1, max_size=3, unique_by=lambda t: t.name).map(tuple),
    timeouts=st.builds(
        Timeouts,
        total=SECONDS,
        connect=MAYBE_SECONDS,
        first_token=MAYBE_SECONDS,
        stream_idle=MAYBE_SECONDS,
    ),
    defaults=st.builds(
        Defaults,
        max_tokens=st.none() | st.integers(0, 10**9),
        temperature=st.none() | st.floats(0, 1e9),
        keep_alive_seconds=st.none() | st.integers(-1, 10**9),
    ),
    sticky_header=st.none() | HEADER,
    fallback=st.builds(
        Fallback,
        on=st.none() | st.frozensets(st.sampled_from(FallbackOn)),
        max_attempts=st.none() | COUNT,
    ),
    health=HEALTH,
    parameters=PARAMETERS,
)


@st.composite
def configurations(draw: st.DrawFn) -> RoutingConfig:
    routes = draw(st.lists(ROUTES, max_size=3, unique_by=lambda route: route.model))
    names = {route.model for route in routes}
    aliased = []
    for route in routes:
        aliases = draw(st.lists(TEXT, max_size=2, unique=True))
        free = tuple(alias for alias in aliases if alias not in names)
        names.update(free)
        aliased.append(replace(route, aliases=free))
    return RoutingConfig(routes=tuple(aliased))


def canonical(config: RoutingConfig) -> RoutingConfig:
    """The same with what carries no meaning in the one order of a published configuration."""
    return RoutingConfig(
        routes=tuple(
            replace(
                route,
                aliases=tuple(sorted(route.aliases)),
                # NB: a tier that is the place in the list is the default.
                targets=tuple(
                    replace(target, tier=None if target.tier == place else target.tier)
                    for place, target in enumerate(route.targets)
                ),
            )
            for route in sorted(config.routes, key=lambda route: route.model)
        )
    )


@fuzz_each
@given(config=configurations())
def test_there_and_back(config: RoutingConfig) -> None:
    raw = dump(config)
    assert parse(raw) == canonical(config)
    assert dump(parse(raw)) == raw


@fuzz_each
@given(config=configurations(), data=st.data())
def test_changed_bytes_are_a_configuration_or_refused(
    config: RoutingConfig, data: st.DataObject
) -> None:
    words = (
        b"null",
        b"[]",
        b"{}",
        b"-1",
        b"1e999",
        b"NaN",
        b"\\ud800",
        b"\xff",
        b"[" * 50,
        b"true",
    )
    raw = data.draw(changed(dump(config), words=words))
    tried(raw)


@fuzz_each
@given(config=configurations(), data=st.data())
def test_other_values_are_a_configuration_or_refused(
    config: RoutingConfig, data: st.DataObject
) -> None:
    document = json.loads(dump(config))
    places = list(gathered(document))
    into, name = data.draw(st.sampled_from(places))
    into[name] = data.draw(documents(TEXT))
    tried(json.dumps(document).encode())


@fuzz
@given(raw=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_rubbish_is_refused(raw: bytes) -> None:
    with pytest.raises(ContractError):
        parse(raw)


def tried(raw: bytes) -> None:
    """It is refused in words, or is a configuration that can be published again."""
    try:
        config = parse(raw)
    except ContractError:
        return
    assert parse(dump(config)) == canonical(config)


def gathered(value: Any) -> Any:
    """Every place in a document: what it is in, and its name there."""
    named = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in list(named):
        yield value, name
        if isinstance(inner, dict | list):
            yield from gathered(inner)
