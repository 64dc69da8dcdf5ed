"""Every field of the full form as bytes: there and back, its default left out, its faults named."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest

from llm_contract import (
    ActiveCheck,
    Auth,
    Defaults,
    Fallback,
    FallbackOn,
    HeaderEdits,
    HealthCheck,
    Malformed,
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

FULL_TARGET = Target(
    name="mlx-a",
    type=TargetType.MLX,
    url="https://mac-a:8443",
    model="default_model",
    tier=3,
    weight=90,
    max_concurrent=2,
    on_busy=OnBusy.QUEUE,
    auth=Auth(credential="mac-a_token", header="X-Api-Key", scheme=""),
    tls=Tls(
        ca="_home-ca_ca.crt",
        client_certificate="me_tls.crt",
        client_key="me_tls.key",
        server_name="mac-a.lan",
        insecure=True,
    ),
    headers=HeaderEdits(set=(("X-Team", "b"), ("X-App", "a")), remove=("Cookie",)),
    waits=Waits(connect=1, first_token=5.5, stream_idle=2),
    parameters=Parameters(defaults={"top_p": 0.9}, overrides={"think": False}),
    num_ctx=8192,
    keep_alive="30m",
    health_path="/health",
)
PLAIN_TARGET = Target(
    name="ollama", type=TargetType.OLLAMA, url="http://o:11434", model="phi3:mini"
)
FULL = Route(
    model="phi3:mini",
    uid="6f1c",
    generation=7,
    name="phi3-mini",
    targets=(FULL_TARGET, PLAIN_TARGET),
    timeouts=Timeouts(total=60, connect=0.25, first_token=30, stream_idle=15.5),
    defaults=Defaults(max_tokens=1, temperature=0.5, keep_alive_seconds=5),
    aliases=("phi", "phi3"),
    sticky_header="X-Session-Id",
    fallback=Fallback(on=frozenset({FallbackOn.BUSY, FallbackOn.CONNECT_FAILURE}), max_attempts=3),
    health=HealthCheck(
        active=ActiveCheck(
            enabled=False,
            interval=7.5,
            timeout=2,
            unhealthy_threshold=4,
            healthy_threshold=5,
            require_model=False,
        ),
        passive=PassiveCheck(failures=9, eject=1.5, max_eject=20),
    ),
    parameters=Parameters(defaults={"stop": ["a", {"b": None}]}, overrides={"n": 1}),
)
PLAIN = Route(
    model="m",
    uid="u",
    generation=1,
    name="m",
    targets=(PLAIN_TARGET,),
    timeouts=Timeouts(total=60),
)

CANONICAL = (
    b'{"aliases":["phi","phi3"],"defaults":{"keepAliveSeconds":5,"maxTokens":1,"temperature":0.5},'
    b'"fallback":{"maxAttempts":3,"on":["Busy","ConnectFailure"]},"generation":7,'
    b'"health":{"active":{"enabled":false,"healthyThreshold":5,"interval":7.5,'
    b'"requireModel":false,"timeout":2,"unhealthyThreshold":4},'
    b'"passive":{"eject":1.5,"failures":9,"maxEject":20}},'
    b'"model":"phi3:mini","name":"phi3-mini",'
    b'"parameters":{"defaults":{"stop":["a",{"b":null}]},"overrides":{"n":1}},'
    b'"stickyHeader":"X-Session-Id","targets":[{'
    b'"auth":{"credential":"mac-a_token","header":"X-Api-Key","scheme":""},'
    b'"headers":{"remove":["Cookie"],"set":[{"name":"X-Team","value":"b"},'
    b'{"name":"X-App","value":"a"}]},"healthPath":"/health","keepAlive":"30m","maxConcurrent":2,'
    b'"model":"default_model","name":"mlx-a","numCtx":8192,"onBusy":"Queue",'
    b'"parameters":{"defaults":{"top_p":0.9},"overrides":{"think":false}},"tier":3,'
    b'"timeouts":{"connect":1,"firstToken":5.5,"streamIdle":2},'
    b'"tls":{"ca":"_home-ca_ca.crt","clientCertificate":"me_tls.crt","clientKey":"me_tls.key",'
    b'"insecure":true,"serverName":"mac-a.lan"},"type":"mlx","url":"https://mac-a:8443",'
    b'"weight":90},{"model":"phi3:mini","name":"ollama","type":"ollama","url":"http://o:11434"}],'
    b'"timeouts":{"connect":0.25,"firstToken":30,"streamIdle":15.5,"total":60},"uid":"6f1c"}'
)


def published(route: Route) -> bytes:
    return dump(RoutingConfig(routes=(route,)))


def document(route: Route = FULL) -> Any:
    return json.loads(published(route))


def read(changed: Any) -> Route:
    (route,) = parse(json.dumps(changed).encode()).routes
    return route


class TestCanonicalForm:
    def test_is_these_bytes(self) -> None:
        assert published(FULL) == b'{"routes":[' + CANONICAL + b'],"schemaVersion":1}\n'

    def test_the_full_route_differs_from_the_plain_one_in_every_field(self) -> None:
        # NB: without this a field could be forgotten by the codec and by this file alike.
        for full, plain in (
            (FULL, PLAIN),
            (FULL_TARGET, PLAIN_TARGET),
            (FULL.health.active, ActiveCheck()),
            (FULL.health.passive, PassiveCheck()),
        ):
            same = [
                field.name
                for field in fields(full)
                if getattr(full, field.name) == getattr(plain, field.name)
            ]
            assert same == []

    def test_comes_back_whole(self) -> None:
        assert parse(published(FULL)).routes == (FULL,)

    def test_what_is_at_its_default_is_left_out(self) -> None:
        explicit = replace(
            PLAIN,
            targets=(
                replace(PLAIN_TARGET, tier=0, tls=Tls()),
                replace(PLAIN_TARGET, name="second", tier=1, weight=1),
            ),
            health=HealthCheck(active=ActiveCheck(interval=15.0)),
        )
        first, second = document(explicit)["routes"][0]["targets"]
        assert first.keys() == second.keys() == {"name", "type", "url", "model"}
        assert "health" not in document(explicit)["routes"][0]

    def test_a_tier_that_is_not_the_position_is_kept(self) -> None:
        same = replace(PLAIN, targets=(PLAIN_TARGET, replace(PLAIN_TARGET, name="b", tier=0)))
        assert document(same)["routes"][0]["targets"][1]["tier"] == 0
        assert parse(published(same)).routes == (same,)

    def test_no_fallback_at_all_is_not_the_default(self) -> None:
        never = replace(PLAIN, fallback=Fallback(on=frozenset()))
        assert document(never)["routes"][0]["fallback"] == {"on": []}
        assert parse(published(never)).routes == (never,)

    def test_does_not_depend_on_the_order_of_sets(self) -> None:
        words = list(FallbackOn)
        turned = replace(
            FULL, aliases=FULL.aliases[::-1], fallback=Fallback(on=frozenset(words[::-1]))
        )
        straight = replace(FULL, fallback=Fallback(on=frozenset(words)))
        assert published(turned) == published(straight)

    def test_one_number_has_one_form_in_parameters_too(self) -> None:
        def with_value(value: Any) -> bytes:
            return published(replace(PLAIN, parameters=Parameters(defaults={"a": [{"b": value}]})))

        assert with_value(1.0) == with_value(1)
        assert b'{"b":0.1}' in with_value(0.1)
        for value in (float("nan"), float("inf")):
            with pytest.raises((ValueError, OverflowError)):
                with_value(value)


class TestNewerWords:
    def test_an_unknown_failure_is_ignored(self) -> None:
        newer = document()
        newer["routes"][0]["fallback"]["on"] = ["Busy", "PhaseOfTheMoon"]
        assert read(newer).fallback.on == {FallbackOn.BUSY}

    def test_only_unknown_failures_are_none_at_all(self) -> None:
        newer = document()
        newer["routes"][0]["fallback"]["on"] = ["PhaseOfTheMoon"]
        assert read(newer).fallback.on == frozenset()

    def test_an_unknown_on_busy_spills(self) -> None:
        newer = document()
        newer["routes"][0]["targets"][0]["onBusy"] = "Shed"
        assert read(newer).targets[0].on_busy is OnBusy.SPILL

    def test_unknown_fields_are_ignored_at_every_level(self) -> None:
        def objects(value: Any, way: str = "") -> Iterator[Any]:
            if isinstance(value, dict) and not way.endswith(("defaults", "overrides")):
                yield value
                for name, inner in value.items():
                    yield from objects(inner, f"{way}.{name}")
            elif isinstance(value, list):
                for inner in value:
                    yield from objects(inner, way)

        newer = document()
        for each in list(objects({k: v for k, v in newer.items() if k == "routes"})):
            each["aNewerField"] = {"x": [1]}
        assert read(newer) == FULL


T = "routes[0].targets[0]"
SPOILT: list[tuple[str, object, str]] = [
    ("aliases", "phi", "must be a list"),
    ("aliases[1]", 7, "must be a non-empty string, is 7"),
    ("aliases[1]", "phi", "'phi' is routes[0]'s too"),
    ("aliases[1]", "phi3:mini", "'phi3:mini' is routes[0]'s too"),
    ("stickyHeader", "X Session", "'X Session' is not a header name"),
    ("fallback.on", "Busy", "must be a list"),
    ("fallback.on[0]", None, "must be a non-empty string, is null"),
    ("fallback.maxAttempts", 0, "must be an integer >= 1, is 0"),
    ("health.active.enabled", "yes", 'must be true or false, is "yes"'),
    ("health.active.interval", 0, "must be a number >= 0.001, is 0"),
    ("health.active.unhealthyThreshold", 0, "must be an integer >= 1, is 0"),
    ("health.passive.failures", True, "must be an integer >= 1, is true"),
    ("health.passive.eject", None, "must be a number >= 0.001, is null"),
    ("parameters", [], "must be an object, is a list"),
    ("parameters.defaults", None, "must be an object, is null"),
    ("targets[1].name", "mlx-a", "'mlx-a' is routes[0].targets[0]'s too"),
    ("targets[0].tier", -1, "must be an integer >= 0, is -1"),
    ("targets[0].weight", -1, "must be an integer >= 0, is -1"),
    ("targets[0].weight", None, "must be an integer >= 0, is null"),
    ("targets[0].maxConcurrent", 0, "must be an integer >= 1, is 0"),
    ("targets[0].onBusy", 1, "must be a non-empty string, is 1"),
    ("targets[0].auth", "token", 'must be an object, is "token"'),
    ("targets[0].auth.credential", "", 'must be a non-empty string, is ""'),
    ("targets[0].auth.header", "Host", "'Host' is the router's own"),
    ("targets[0].auth.header", "X:Y", "'X:Y' is not a header name"),
    ("targets[0].auth.scheme", "Bearer\r\nX: y", "is not one word of plain ASCII"),
    ("targets[0].tls.clientKey", None, "must be a non-empty string, is null"),
    ("targets[0].tls.insecure", 1, "must be true or false, is 1"),
    ("targets[0].headers.set", {}, "must be a list, is an object"),
    ("targets[0].headers.set[0].name", "X-Team\n", "is not a header name"),
    ("targets[0].headers.set[0].name", "HOST", "'HOST' is the router's own"),
    ("targets[0].headers.set[0].name", "authorization", "is the router's own"),
    ("targets[0].headers.set[0].value", "a\r\nX: y", "holds what is no plain ASCII text"),
    ("targets[0].headers.set[0].value", "a\x00b", "holds what is no plain ASCII text"),
    ("targets[0].headers.set[0].value", "a ", "holds what is no plain ASCII text"),
    ("targets[0].headers.remove[0]", "Connection", "'Connection' can't be removed"),
    ("targets[0].headers.remove[0]", "a b", "'a b' can't be removed"),
    ("targets[0].timeouts.connect", 0, "must be a number >= 0.001, is 0"),
    ("targets[0].numCtx", 0, "must be an integer >= 1, is 0"),
    ("targets[0].keepAlive", "", 'must be a non-empty string, is ""'),
    ("targets[0].keepAlive", -2, "must be an integer >= -1, is -2"),
    ("targets[0].healthPath", "health", "'health' does not start with /"),
]


def changed(path: str, value: object) -> Any:
    spoilt = document()
    *way, last = path.replace("[", ".").replace("]", "").split(".")
    place: Any = spoilt["routes"][0]
    for step in way:
        place = place[int(step) if step.isdecimal() else step]
    place[int(last) if last.isdecimal() else last] = value
    return spoilt


@pytest.mark.parametrize(("path", "value", "reason"), SPOILT)
def test_what_is_refused_is_named(path: str, value: object, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(changed(path, value))
    assert caught.value.path == f"routes[0].{path}"
    assert reason in caught.value.reason


def test_a_certificate_without_its_key_is_refused() -> None:
    for name in ("clientCertificate", "clientKey"):
        half = document()
        del half["routes"][0]["targets"][0]["tls"][name]
        with pytest.raises(Malformed) as caught:
            read(half)
        assert caught.value.path == f"{T}.tls.{name}"


@pytest.mark.parametrize("name", ["phi3:mini", "phi"])
@pytest.mark.parametrize("place", ["model", "aliases[0]"])
def test_two_routes_never_answer_to_one_name(place: str, name: str) -> None:
    both = document()
    (other,) = document(replace(PLAIN, aliases=("free",)))["routes"]
    both["routes"].append(other)
    if place == "model":
        other["model"] = name
    else:
        other["aliases"][0] = name
    with pytest.raises(Malformed) as caught:
        read(both)
    assert str(caught.value) == f"routes[1].{place}: {name!r} is routes[0]'s too"


def nested(depth: int) -> Any:
    return [] if depth == 1 else [nested(depth - 1)]


class TestParameters:
    def test_take_any_json_value(self) -> None:
        values = {"a": None, "b": [True, 1, 0.5, "ä", {}], "": {"c": []}, "d": nested(15)}
        route = replace(PLAIN, parameters=Parameters(overrides=values))
        assert parse(published(route)).routes == (route,)

    @pytest.mark.parametrize(
        ("raw", "path", "reason"),
        [
            (b'{"a":[0,1e999]}', "a[1]", "must be a finite number"),
            (b'{"a":[0,-1e999]}', "a[1]", "must be a finite number"),
            (b'{"a":{"b":"\\ud800"}}', "a.b", "half of a surrogate pair"),
            (b'{"a":{"\\ud800":1}}', "a", "is no name of a field"),
        ],
    )
    def test_take_nothing_else(self, raw: bytes, path: str, reason: str) -> None:
        body = (
            published(PLAIN)
            .replace(b'"schemaVersion"', b'"x":0,"schemaVersion"')
            .replace(b'"model":"m"', b'"parameters":{"defaults":' + raw + b'},"model":"m"')
        )
        with pytest.raises(Malformed) as caught:
            parse(body)
        assert caught.value.path == f"routes[0].parameters.defaults.{path}"
        assert reason in caught.value.reason

    @pytest.mark.parametrize("depth", [16, 900])
    def test_do_not_nest_without_end(self, depth: int) -> None:
        deep = document()
        deep["routes"][0]["parameters"]["defaults"] = {"a": nested(depth)}
        with pytest.raises(Malformed, match="nests deeper than 16 levels"):
            read(deep)
