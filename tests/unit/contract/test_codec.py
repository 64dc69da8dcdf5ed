"""The routing configuration as bytes: one form out, every good form in, every bad one named."""

import copy
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llm_contract import (
    ChecksumMismatch,
    ContractError,
    Defaults,
    Malformed,
    NewerVersion,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
    checksum,
    dump,
    parse,
    verify,
)

FULL = Route(
    model="phi3:mini",
    uid="6f1c",
    generation=7,
    name="phi3-mini",
    targets=(
        Target(name="mlx", type=TargetType.MLX, url="http://mac:8080", model="default_model"),
        Target(name="ollama", type=TargetType.OLLAMA, url="http://mac:11434", model="phi3:mini"),
    ),
    timeouts=Timeouts(total=60, connect=0.25, first_token=30, stream_idle=15.5),
    defaults=Defaults(max_tokens=0, temperature=0.7, keep_alive_seconds=-1),
)
SMALL = Route(
    model="müller/ab",
    uid="u-2",
    generation=1,
    name="b",
    targets=(Target(name="openai", type=TargetType.OPENAI, url="https://h/x", model="m"),),
    timeouts=Timeouts(total=1),
)
CONFIG = RoutingConfig(routes=(SMALL, FULL))

CANONICAL = (
    b'{"routes":[{"defaults":{},"generation":1,"model":"m\xc3\xbcller/ab","name":"b","targets":['
    b'{"model":"m","name":"openai","type":"openai","url":"https://h/x"}],'
    b'"timeouts":{"total":1},"uid":"u-2"},'
    b'{"defaults":{"keepAliveSeconds":-1,"maxTokens":0,"temperature":0.7},'
    b'"generation":7,"model":"phi3:mini","name":"phi3-mini","targets":['
    b'{"model":"default_model","name":"mlx","type":"mlx","url":"http://mac:8080"},'
    b'{"model":"phi3:mini","name":"ollama","type":"ollama","url":"http://mac:11434"}],'
    b'"timeouts":{"connect":0.25,"firstToken":30,"streamIdle":15.5,"total":60},"uid":"6f1c"}],'
    b'"schemaVersion":1}\n'
)

MISSING = object()


def document() -> dict[str, Any]:
    """A good document, to be spoilt."""
    parsed: dict[str, Any] = json.loads(dump(RoutingConfig(routes=(FULL,))))
    return parsed


def changed(path: str, value: object) -> bytes:
    """The good document with one place changed, or removed: `routes.0.timeouts.total`."""
    spoilt = copy.deepcopy(document())
    *way, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    place: Any = spoilt
    for step in way:
        place = place[step]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return json.dumps(spoilt).encode()


class TestCanonicalForm:
    def test_is_these_bytes(self) -> None:
        # NB: written out, so that a change of the form is a change of this test: it makes every
        # router of every cluster load a "new" configuration.
        assert dump(CONFIG) == CANONICAL

    def test_an_empty_configuration(self) -> None:
        assert dump(RoutingConfig()) == b'{"routes":[],"schemaVersion":1}\n'

    def test_does_not_depend_on_the_order_of_routes(self) -> None:
        routes = [replace(SMALL, model=f"m{number}", uid=str(number)) for number in range(50)]
        first = dump(RoutingConfig(routes=tuple(routes)))
        random.shuffle(routes)
        assert dump(RoutingConfig(routes=tuple(routes))) == first

    def test_keeps_the_order_of_targets(self) -> None:
        other = replace(FULL, targets=FULL.targets[::-1])
        assert dump(RoutingConfig(routes=(other,))) != dump(RoutingConfig(routes=(FULL,)))

    def test_one_number_has_one_form(self) -> None:
        def with_number(value: float) -> bytes:
            timeouts, defaults = Timeouts(total=value), Defaults(temperature=value)
            return dump(
                RoutingConfig(routes=(replace(SMALL, timeouts=timeouts, defaults=defaults),))
            )

        assert with_number(1.0) == with_number(1)
        assert b'"temperature":1}' in with_number(1.0)
        assert b'"temperature":0.1}' in with_number(0.1)

    def test_never_writes_what_is_not_json(self) -> None:
        for value in (float("nan"), float("inf")):
            with pytest.raises((ValueError, OverflowError)):
                dump(RoutingConfig(routes=(replace(SMALL, timeouts=Timeouts(total=value)),)))


class TestRoundTrip:
    @pytest.mark.parametrize("config", [CONFIG, RoutingConfig()], ids=["full", "empty"])
    def test_parse_gives_back_what_was_dumped(self, config: RoutingConfig) -> None:
        assert parse(dump(config)) == config
        assert dump(parse(dump(config))) == dump(config)

    def test_zero_is_not_unset(self) -> None:
        zero = Defaults(max_tokens=0, temperature=0.0, keep_alive_seconds=0)
        config = RoutingConfig(routes=(replace(FULL, defaults=zero),))
        assert parse(dump(config)).routes[0].defaults == zero
        unset = RoutingConfig(routes=(replace(FULL, defaults=Defaults()),))
        assert dump(unset) != dump(config)

    def test_any_spelling_of_the_same_document_is_the_same_configuration(self) -> None:
        pretty = json.dumps(json.loads(CANONICAL), indent=2, ensure_ascii=True).encode()
        assert parse(pretty) == CONFIG

    def test_unknown_fields_are_ignored_at_every_level(self) -> None:
        newer = document()
        newer["aliases"] = {"a": "b"}
        newer["routes"][0]["colour"] = "x-session"
        newer["routes"][0]["targets"][0]["height"] = 3
        newer["routes"][0]["timeouts"]["queue"] = 5
        newer["routes"][0]["defaults"]["topP"] = 0.9
        assert parse(json.dumps(newer).encode()) == RoutingConfig(routes=(FULL,))

    def test_defaults_may_be_left_out(self) -> None:
        config = parse(changed("routes.0.defaults", MISSING))
        assert config.routes[0].defaults == Defaults()


class TestChecksum:
    def test_is_sha256_in_hex(self) -> None:
        assert checksum(CANONICAL) == hashlib.sha256(CANONICAL).hexdigest()

    def test_its_own_bytes_verify_and_a_line_end_is_no_matter(self) -> None:
        verify(CANONICAL, checksum(CANONICAL))
        verify(CANONICAL, checksum(CANONICAL) + "\n")

    @pytest.mark.parametrize("expected", ["", "0" * 64, checksum(CANONICAL).upper()])
    def test_another_one_does_not(self, expected: str) -> None:
        with pytest.raises(ChecksumMismatch, match=checksum(CANONICAL)):
            verify(CANONICAL, expected)

    def test_one_changed_byte_is_noticed(self) -> None:
        spoilt = CANONICAL.replace(b"mac", b"mad", 1)
        with pytest.raises(ChecksumMismatch):
            verify(spoilt, checksum(CANONICAL))


#: path changed, value, path named, part of the reason.
SPOILT: list[tuple[str, object, str, str]] = [
    ("schemaVersion", MISSING, "schemaVersion", "is missing"),
    ("schemaVersion", 0, "schemaVersion", "must be an integer >= 1, is 0"),
    ("schemaVersion", "1", "schemaVersion", 'must be an integer >= 1, is "1"'),
    ("schemaVersion", True, "schemaVersion", "must be an integer >= 1, is true"),
    ("schemaVersion", None, "schemaVersion", "must be an integer >= 1, is null"),
    ("routes", MISSING, "routes", "is missing"),
    ("routes", None, "routes", "must be a list, is null"),
    ("routes", {}, "routes", "must be a list, is an object"),
    ("routes.0", "x", "routes[0]", 'must be an object, is "x"'),
    *(
        (f"routes.0.{name}", value, f"routes[0].{name}", reason)
        for name in ("model", "uid", "name")
        for value, reason in (
            (MISSING, "is missing"),
            ("", 'must be a non-empty string, is ""'),
            (5, "must be a non-empty string, is 5"),
            (None, "must be a non-empty string, is null"),
            (["a"], "must be a non-empty string, is a list"),
        )
    ),
    ("routes.0.generation", MISSING, "routes[0].generation", "is missing"),
    ("routes.0.generation", 0, "routes[0].generation", "must be an integer >= 1, is 0"),
    ("routes.0.generation", 1.5, "routes[0].generation", "must be an integer >= 1, is 1.5"),
    ("routes.0.targets", MISSING, "routes[0].targets", "is missing"),
    ("routes.0.targets", [], "routes[0].targets", "a route needs at least one target"),
    ("routes.0.targets", {}, "routes[0].targets", "must be a list, is an object"),
    ("routes.0.targets.1", 3, "routes[0].targets[1]", "must be an object, is 3"),
    *(
        (f"routes.0.targets.1.{name}", value, f"routes[0].targets[1].{name}", reason)
        for name in ("name", "type", "url", "model")
        for value, reason in (
            (MISSING, "is missing"),
            ("", 'must be a non-empty string, is ""'),
            (5, "must be a non-empty string, is 5"),
        )
    ),
    ("routes.0.targets.0.type", "vllm", "routes[0].targets[0].type", "(ollama, mlx, openai)"),
    ("routes.0.targets.0.url", "ftp://h", "routes[0].targets[0].url", "not an http or https URL"),
    ("routes.0.timeouts", MISSING, "routes[0].timeouts", "is missing"),
    ("routes.0.timeouts", 60, "routes[0].timeouts", "must be an object, is 60"),
    ("routes.0.timeouts.total", MISSING, "routes[0].timeouts.total", "is missing"),
    *(
        (f"routes.0.timeouts.{name}", value, f"routes[0].timeouts.{name}", "must be a number >= ")
        for name in ("total", "connect", "firstToken", "streamIdle")
        for value in (0, -1, "60", True, None, [])
    ),
    ("routes.0.defaults", None, "routes[0].defaults", "must be an object, is null"),
    ("routes.0.defaults.maxTokens", -1, "routes[0].defaults.maxTokens", "must be an integer >= 0"),
    ("routes.0.defaults.maxTokens", 1.5, "routes[0].defaults.maxTokens", "is 1.5"),
    ("routes.0.defaults.temperature", -0.1, "routes[0].defaults.temperature", "is -0.1"),
    ("routes.0.defaults.temperature", "0", "routes[0].defaults.temperature", 'is "0"'),
    (
        "routes.0.defaults.keepAliveSeconds",
        -2,
        "routes[0].defaults.keepAliveSeconds",
        "must be an integer >= -1, is -2",
    ),
]


class TestMalformed:
    @pytest.mark.parametrize(
        ("path", "value", "named", "reason"),
        SPOILT,
        ids=[
            f"{path}={value if value is not MISSING else 'missing'}" for path, value, *_ in SPOILT
        ],
    )
    def test_names_the_place_and_the_value(
        self, path: str, value: object, named: str, reason: str
    ) -> None:
        with pytest.raises(Malformed) as caught:
            parse(changed(path, value))
        assert caught.value.path == named
        assert reason in caught.value.reason
        assert str(caught.value) == f"{named}: {caught.value.reason}"

    @pytest.mark.parametrize(
        "raw", [b"", b"{", CANONICAL[:-20], b"\xff\xfe\x00", b'{"a":1}{"b":2}']
    )
    def test_what_is_no_json_is_said_so(self, raw: bytes) -> None:
        with pytest.raises(Malformed, match="not JSON") as caught:
            parse(raw)
        assert caught.value.path == ""

    @pytest.mark.parametrize("raw", [b"[]", b"null", b'"text"', b"5"])
    def test_what_is_no_object_is_said_so(self, raw: bytes) -> None:
        with pytest.raises(Malformed, match="must be an object"):
            parse(raw)

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
    def test_pythons_own_numbers_are_no_json(self, number: str) -> None:
        raw = dump(CONFIG).replace(b'"total":60', f'"total":{number}'.encode())
        with pytest.raises(Malformed, match=f"{number} is not a JSON number"):
            parse(raw)

    def test_a_number_too_large_to_count_is_no_timeout(self) -> None:
        raw = dump(CONFIG).replace(b'"total":60', b'"total":1e999')
        with pytest.raises(Malformed) as caught:
            parse(raw)
        assert caught.value.path == "routes[1].timeouts.total"

    def test_two_routes_for_one_model(self) -> None:
        twice = document()
        twice["routes"] *= 2
        with pytest.raises(Malformed) as caught:
            parse(json.dumps(twice).encode())
        assert str(caught.value) == "routes[1].model: 'phi3:mini' is routes[0]'s too"

    def test_a_reason_never_repeats_a_long_value(self) -> None:
        with pytest.raises(Malformed) as caught:
            parse(changed("routes.0.generation", "x" * 10_000))
        assert len(str(caught.value)) < 200


class TestNewerVersion:
    def test_is_an_error_of_its_own(self) -> None:
        with pytest.raises(NewerVersion, match="schemaVersion is 2; this release reads up to 1"):
            parse(changed("schemaVersion", 2))

    def test_is_found_before_anything_else_is_read(self) -> None:
        with pytest.raises(NewerVersion):
            parse(b'{"schemaVersion": 2, "routes": "of another shape"}')


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda: parse(b"{"), id="malformed"),
        pytest.param(lambda: parse(b'{"schemaVersion": 9}'), id="newer"),
        pytest.param(lambda: verify(b"", "x"), id="checksum"),
    ],
)
def test_every_error_is_a_contract_error(broken: Callable[[], object]) -> None:
    with pytest.raises(ContractError):
        broken()


#: What a folder that anyone can write to may hold.
HOSTILE = {
    "deep": b"[" * 200_000,
    "deep-routes": b'{"schemaVersion":1,"routes":' + b"[" * 100_000,
    "huge-generation": CANONICAL.replace(b'"generation":7', b'"generation":' + b"9" * 5000),
    "huge-total": CANONICAL.replace(b'"total":60', b'"total":' + b"9" * 400),
    "lone-surrogate": CANONICAL.replace(b"phi3:mini", b"\\ud800"),
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_a_contract_error_too(raw: bytes) -> None:
    with pytest.raises(ContractError):
        parse(raw)
