"""The full form of a resource: every field arrives, and what only the operator can see is told."""

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

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
from llm_operator.resource.parse import parse

VALID = Path(__file__).resolve().parents[2] / "valid"


def target(**more: Any) -> dict[str, Any]:
    return {"name": "a", "type": "ollama", "endpointURL": "https://a"} | more


def manifest(*targets: Any, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": "phi3-mini"},
        "spec": {"modelName": "phi3:mini", "targets": list(targets)} | spec,
    }


def parsed(*targets: Any, **spec: Any) -> Spec:
    resource = parse(manifest(*targets, **spec))
    assert resource.problems == ()
    assert resource.spec is not None
    return resource.spec


def problems(*targets: Any, **spec: Any) -> list[str]:
    return [str(problem) for problem in parse(manifest(*targets, **spec)).problems]


def test_every_field_arrives() -> None:
    full = parse(yaml.safe_load((VALID / "15-targets.yaml").read_text())).spec
    assert full == Spec(
        model_name="phi3:mini",
        hosts=(
            Host(
                name="mlx-a",
                type=TargetType.MLX,
                endpoint_url="https://mac-a.lan:8443",
                model="mlx-community/Phi-3-mini-4k-instruct-4bit",
                tier=0,
                weight=90,
                max_concurrent=2,
                on_busy=OnBusy.QUEUE,
                credential=Credential(
                    source=Source(kind=SourceKind.SECRET, name="mac-a-token", key="token"),
                    header="X-Api-Key",
                    scheme="",
                ),
                verification=Verification(
                    ca=Source(kind=SourceKind.CONFIG_MAP, name="home-ca", key="ca.crt"),
                    client_certificate="router-client",
                    server_name="mac-a.lan",
                ),
                headers=HeaderEdits(
                    set=(("X-Team", "platform"),), remove=("Cookie", "Authorization")
                ),
                waits=Waits(connect=1, first_token=5, stream_idle=10),
                health_path="/health",
                parameters=Parameters(defaults={"top_p": 0.9}, overrides={"think": False}),
            ),
            Host(
                name="mlx-b",
                type=TargetType.MLX,
                endpoint_url="http://mac-b.lan:8080",
                tier=0,
                weight=10,
            ),
            Host(
                name="ollama",
                type=TargetType.OLLAMA,
                service=Service(name="ollama", port=11434),
                model="phi3:mini",
                tier=1,
                num_ctx=8192,
                keep_alive="30m",
            ),
        ),
        aliases=("phi3", "phi3-latest"),
        sticky_header="X-Session-Id",
        waits=Waits(connect=3, first_token=20, stream_idle=30),
        fallback=Fallback(on=frozenset(FallbackOn), max_attempts=3),
        health=HealthCheck(),
        parameters=Parameters(
            defaults={"top_p": 0.9, "stop": ["\n"]}, overrides={"options": {"mirostat": None}}
        ),
        max_tokens=2048,
        temperature=0.7,
        keep_alive_seconds=-1,
        description="Fast intent classifier",
    )


def test_defaults_below_a_target() -> None:
    (host,) = parsed(
        target(auth={"secretRef": {"name": "s", "key": "k"}}, tls={"caRef": {"name": "c"}})
    ).hosts
    assert (host.enabled, host.weight, host.tier, host.on_busy) == (True, 1, None, OnBusy.SPILL)
    assert host.credential == Credential(source=Source(kind=SourceKind.SECRET, name="s", key="k"))
    ca = Source(kind=SourceKind.CONFIG_MAP, name="c", key="ca.crt")
    assert host.verification == Verification(ca=ca)


def test_defaults_of_the_health_check_are_the_contract_s() -> None:
    # NB: what the API server fills in must be what a router takes a missing field for.
    for given in ({}, {"active": {}}, {"passive": {}}, {"active": {}, "passive": {}}):
        assert parsed(target(), healthCheck=given).health == HealthCheck(
            active=ActiveCheck(), passive=PassiveCheck()
        )


@pytest.mark.parametrize(
    ("given", "expected"),
    [("30m", "30m"), ("1h30m", "1h30m"), ("300", 300), ("0", 0), ("-1", -1)],
)
def test_seconds_to_keep_alive_are_a_number(given: str, expected: str | int) -> None:
    (host,) = parsed(target(ollama={"keepAlive": given})).hosts
    assert host.keep_alive == expected


def test_no_fallback_at_all_is_not_the_default() -> None:
    assert parsed(target(), fallback={"after": []}).fallback == Fallback(on=frozenset())
    assert parsed(target(), fallback={}).fallback == Fallback()


class TestKind:
    def test_of_the_simple_form_is_its_type(self) -> None:
        assert Spec(model_name="m", backend_type=BackendType.AUTO).kind == "auto"

    def test_of_targets_is_the_type_they_share(self) -> None:
        spec = parsed(target(), target(name="b"))
        assert spec.kind == "ollama"
        other = replace(spec.hosts[0], type=TargetType.MLX)
        assert replace(spec, hosts=(*spec.hosts, other)).kind == "mixed"


class TestPlaces:
    """A problem deep inside is named by its place, and what stands beside it is still checked."""

    def test_all_at_once(self) -> None:
        assert problems(
            target(teir=1, auth={"secretRef": {"name": "s"}}),
            target(name="b", type="vllm", weight=-1),
            "mac",
            fallback={"after": ["Busy", "Sometimes"]},
            healthCheck={"active": {"intervalSeconds": 3}},
        ) == [
            "spec.targets[0].teir: unknown field; did you mean tier?",
            "spec.targets[0].auth.secretRef.key: Required value",
            'spec.targets[1].type: "vllm" is none of the supported values: '
            '"ollama", "mlx", "openai"',
            "spec.targets[1].weight: should be greater than or equal to 0, is -1",
            'spec.targets[2]: must be of type object, is "mac"',
            'spec.fallback.after[1]: "Sometimes" is none of the supported values: '
            '"ConnectFailure", "FirstTokenTimeout", "ServerError", "RateLimited", '
            '"ModelMissing", "Busy"',
            "spec.healthCheck.active.timeoutSeconds: must be less than intervalSeconds",
        ]

    def test_a_number_for_keep_alive_is_told_to_be_quoted(self) -> None:
        assert problems(target(ollama={"keepAlive": -1})) == [
            "spec.targets[0].ollama.keepAlive: must be of type string, is -1; put it in quotes"
        ]

    def test_a_duplicate_is_told_once(self) -> None:
        assert problems(target(), target(), target()) == [
            'spec.targets[1]: Duplicate value: {"name":"a"}'
        ]


class TestParameters:
    """What the API server can't see, since its schema takes any field there."""

    @pytest.mark.parametrize("group", ["defaults", "overrides"])
    @pytest.mark.parametrize(
        "name", ["model", "messages", "prompt", "input", "stream", "stream_options"]
    )
    def test_never_hold_what_the_caller_or_the_router_says(self, group: str, name: str) -> None:
        message = "is the caller's to say, or the router's; remove it"
        assert problems(target(), parameters={group: {name: 1}}) == [
            f"spec.parameters.{group}.{name}: {message}"
        ]
        assert problems(target(parameters={group: {name: 1}})) == [
            f"spec.targets[0].parameters.{group}.{name}: {message}"
        ]

    @pytest.mark.parametrize(
        ("value", "place", "message"),
        [
            ({"a": float("nan")}, ".a", "must be a finite number"),
            ({"a": [1, float("-inf")]}, ".a[1]", "must be a finite number"),
            ({"a": {"b": datetime.date(2026, 1, 5)}}, ".a.b", "is no JSON; put it in quotes"),
            ({1: 2}, "", "holds a field whose name is no text; put it in quotes"),
            ({"a": "\ud800"}, ".a", "holds half of a surrogate pair, which is no text"),
            ({"a": {"\ud800": 1}}, ".a", "holds a field whose name is no text; put it in quotes"),
        ],
    )
    def test_hold_json_alone(self, value: Any, place: str, message: str) -> None:
        said = problems(target(), parameters={"defaults": value})
        assert said == [f"spec.parameters.defaults{place}: {message}"]

    def test_nest_no_deeper_than_a_configuration_may(self) -> None:
        deep: Any = {}
        for _ in range(14):
            deep = {"a": deep}
        assert parsed(target(), parameters={"defaults": {"a": deep}})
        place = "spec.parameters.defaults" + ".a" * 16
        assert problems(target(), parameters={"defaults": {"a": {"a": deep}}}) == [
            f"{place}: nests deeper than 16 levels"
        ]
