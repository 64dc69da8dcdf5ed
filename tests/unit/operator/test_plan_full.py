"""The full form as a route: each target as it was written, and names with one owner each."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_contract import (
    Auth,
    Fallback,
    FallbackOn,
    HeaderEdits,
    OnBusy,
    Parameters,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
    Tls,
    Waits,
    dump,
)
from llm_contract import parse as parse_config
from llm_operator.plan import Addresses, Plan, plan
from llm_operator.reasons import Accepted
from llm_operator.resource.model import Problem, Resource
from llm_operator.resource.parse import parse

VALID = sorted((Path(__file__).resolve().parents[2] / "valid").glob("*.yaml"))
ADDRESSES = Addresses(ollama="http://ollama:11434", mlx="http://mlx:8080")
NOTHING = RoutingConfig()
MLX = {"name": "mlx", "type": "mlx", "endpointURL": "http://mac:8080"}
OLLAMA = {"name": "ollama", "type": "ollama", "endpointURL": "http://mac:11434"}


def resource(
    name: str = "phi", *, created: str = "", deleting: bool = False, **spec: Any
) -> Resource:
    made = parse(
        {
            "apiVersion": "llm.athena.dev/v1alpha1",
            "kind": "LLMBackend",
            "metadata": {
                "name": name,
                "namespace": "ai",
                "uid": f"uid-{name}",
                "creationTimestamp": created or "2026-01-01T00:00:00Z",
            },
            "spec": {"modelName": "phi3:mini"} | spec,
        }
    )
    assert made.problems == ()
    return replace(made, deleting=deleting)


def invalid(of: Resource) -> Resource:
    return replace(of, spec=None, problems=(Problem(path="spec", message="is wrong"),))


def planned(*resources: Resource, published: RoutingConfig = NOTHING) -> Plan:
    return plan(resources, addresses=ADDRESSES, published=published)


def route(*targets: Any, **spec: Any) -> Route:
    (made,) = planned(resource(targets=list(targets), **spec)).config.routes
    return made


def names(given: Plan) -> dict[str, tuple[str, ...]]:
    """Resource -> the names it answers to."""
    return {made.name: (made.model, *made.aliases) for made in given.config.routes}


class TestTargets:
    def test_every_field_of_the_example_arrives(self) -> None:
        example = next(file for file in VALID if file.stem == "15-targets")
        spec = yaml.safe_load(example.read_text())["spec"]
        (made,) = planned(resource(**spec)).config.routes
        assert made == Route(
            model="phi3:mini",
            uid="uid-phi",
            generation=1,
            name="phi",
            targets=(
                Target(
                    name="mlx-a",
                    type=TargetType.MLX,
                    url="https://mac-a.lan:8443",
                    model="mlx-community/Phi-3-mini-4k-instruct-4bit",
                    weight=90,
                    max_concurrent=2,
                    on_busy=OnBusy.QUEUE,
                    auth=Auth(credential="mac-a-token_token", header="X-Api-Key", scheme=""),
                    tls=Tls(
                        ca="_home-ca_ca.crt",
                        client_certificate="router-client_tls.crt",
                        client_key="router-client_tls.key",
                        server_name="mac-a.lan",
                    ),
                    headers=HeaderEdits(
                        set=(("X-Team", "platform"),), remove=("Cookie", "Authorization")
                    ),
                    waits=Waits(connect=1, first_token=5, stream_idle=10),
                    parameters=Parameters(defaults={"top_p": 0.9}, overrides={"think": False}),
                    health_path="/health",
                ),
                Target(
                    name="mlx-b",
                    type=TargetType.MLX,
                    url="http://mac-b.lan:8080",
                    model="default_model",
                    tier=0,
                    weight=10,
                ),
                Target(
                    name="ollama",
                    type=TargetType.OLLAMA,
                    url="http://ollama.ai.svc:11434",
                    model="phi3:mini",
                    tier=1,
                    num_ctx=8192,
                    keep_alive="30m",
                ),
            ),
            timeouts=Timeouts(total=60, connect=3, first_token=20, stream_idle=30),
            defaults=replace(
                made.defaults, max_tokens=2048, temperature=0.7, keep_alive_seconds=-1
            ),
            aliases=("phi3", "phi3-latest"),
            sticky_header="X-Session-Id",
            fallback=Fallback(on=frozenset(FallbackOn), max_attempts=3),
            parameters=Parameters(
                defaults={"top_p": 0.9, "stop": ["\n"]}, overrides={"options": {"mirostat": None}}
            ),
        )

    def test_a_disabled_one_is_left_out_and_the_order_closes_up(self) -> None:
        made = route(MLX | {"enabled": False}, OLLAMA)
        assert [(t.name, t.tier) for t in made.targets] == [("ollama", None)]

    def test_one_without_weight_stays_for_what_it_has_begun(self) -> None:
        made = route(MLX | {"tier": 0, "weight": 0}, OLLAMA | {"tier": 0})
        assert [(t.name, t.weight) for t in made.targets] == [("mlx", 0), ("ollama", 1)]

    @pytest.mark.parametrize(
        ("kind", "model"),
        [("ollama", "phi3:mini"), ("openai", "phi3:mini"), ("mlx", "default_model")],
    )
    def test_the_model_has_a_default_by_type(self, kind: str, model: str) -> None:
        made = route({"name": "a", "type": kind, "endpointURL": "http://a"})
        assert made.targets[0].model == model
        own = route({"name": "a", "type": kind, "endpointURL": "http://a", "model": "x"})
        assert own.targets[0].model == "x"

    def test_a_service_is_named_in_its_namespace(self) -> None:
        service = {"name": "llm", "port": 8443, "scheme": "https"}
        made = route({"name": "a", "type": "openai", "serviceRef": service})
        assert made.targets[0].url == "https://llm.ai.svc:8443"

    def test_a_pasted_api_path_is_left_out(self) -> None:
        made = route(
            {"name": "a", "type": "openai", "endpointURL": "http://a/x/v1/"},
            OLLAMA | {"endpointURL": "http://o/api"},
        )
        assert [t.url for t in made.targets] == ["http://a/x", "http://o"]

    def test_tiers_that_are_the_order_say_nothing(self) -> None:
        def bytes_of(*targets: Any) -> bytes:
            return dump(RoutingConfig(routes=(route(*targets),)))

        assert bytes_of(MLX | {"tier": 0}, OLLAMA | {"tier": 1}) == bytes_of(MLX, OLLAMA)
        assert bytes_of(MLX | {"tier": 1}, OLLAMA | {"tier": 0}) != bytes_of(MLX, OLLAMA)

    def test_tls_of_defaults_alone_is_none(self) -> None:
        made = route(MLX | {"endpointURL": "https://a", "tls": {}})
        assert made.targets[0].tls is None
        made = route(MLX | {"endpointURL": "https://a", "tls": {"insecureSkipVerify": True}})
        assert made.targets[0].tls == Tls(insecure=True)

    def test_a_secret_and_a_config_map_of_one_name_are_told_apart(self) -> None:
        def ca(kind: str) -> str | None:
            tls = {"caRef": {"kind": kind, "name": "ca", "key": "ca.crt"}}
            found = route(MLX | {"endpointURL": "https://a", "tls": tls}).targets[0].tls
            return found and found.ca

        assert ca("Secret") == "ca_ca.crt"
        assert ca("ConfigMap") == "_ca_ca.crt"


class TestSugar:
    """The simple form says in one field what the full form says in a list."""

    def test_auto_is_two_targets(self) -> None:
        simple = resource(
            backendType="auto",
            endpointURL="http://mac:8080",
            fallbackEndpointURL="http://mac:11434",
            upstreamModel="mlx-community/Phi-3",
            timeoutSeconds=30,
            maxTokens=5,
            keepAliveSeconds=-1,
        )
        full = resource(
            targets=[MLX | {"model": "mlx-community/Phi-3"}, OLLAMA],
            timeoutSeconds=30,
            maxTokens=5,
            keepAliveSeconds=-1,
        )
        assert planned(simple).config == planned(full).config
        tiers = [MLX | {"model": "mlx-community/Phi-3", "tier": 0}, OLLAMA | {"tier": 1}]
        assert planned(replace(full, spec=resource(**full_spec(full, tiers)).spec)).config == (
            planned(simple).config
        )

    @pytest.mark.parametrize("kind", ["ollama", "mlx", "openai"])
    def test_one_type_is_one_target(self, kind: str) -> None:
        simple = resource(backendType=kind, endpointURL="http://h/v1/")
        full = resource(targets=[{"name": kind, "type": kind, "endpointURL": "http://h/v1/"}])
        assert planned(simple).config == planned(full).config

    def test_other_names_of_targets_are_the_only_difference(self) -> None:
        simple = planned(resource(backendType="auto", endpointURL="http://mac:8080"))
        full = planned(
            resource(
                targets=[
                    MLX | {"name": "studio"},
                    OLLAMA | {"name": "cluster", "endpointURL": "http://ollama:11434"},
                ]
            )
        )
        (one,), (other,) = simple.config.routes, full.config.routes
        renamed = tuple(
            replace(t, name=name)
            for t, name in zip(one.targets, ("studio", "cluster"), strict=True)
        )
        assert replace(one, targets=renamed) == other


def full_spec(of: Resource, targets: list[Any]) -> dict[str, Any]:
    assert of.spec is not None
    return dict(of.spec.fields) | {"targets": targets}


class TestNames:
    def test_an_alias_has_one_owner_and_the_loser_keeps_its_route(self) -> None:
        given = planned(
            resource("first", backendType="mlx", aliases=["phi", "a"]),
            resource("second", modelName="m", backendType="mlx", aliases=["b", "phi"]),
        )
        assert names(given) == {"first": ("phi3:mini", "a", "phi"), "second": ("m", "b")}
        verdict = given.verdicts["uid-second"]
        assert verdict.accepted
        assert verdict.routed
        assert verdict.message == "Valid. Alias 'phi' belongs to first, which precedes it."

    def test_a_model_name_loses_to_an_alias_that_precedes_it(self) -> None:
        given = planned(
            resource("first", backendType="mlx", aliases=["m"]),
            resource("second", modelName="m", backendType="mlx", aliases=["free"]),
        )
        assert names(given) == {"first": ("phi3:mini", "m")}
        verdict = given.verdicts["uid-second"]
        assert verdict.reason is Accepted.MODEL_NAME_CONFLICT
        assert verdict.message == "Model name 'm' belongs to first, which precedes it."

    def test_a_loser_of_its_model_name_claims_no_alias(self) -> None:
        given = planned(
            resource("a", backendType="mlx"),
            resource("b", backendType="mlx", aliases=["free"]),
            resource("c", modelName="c", backendType="mlx", aliases=["free"]),
        )
        assert names(given) == {"a": ("phi3:mini",), "c": ("c", "free")}

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ({"priority": 5}, {"priority": 6, "created": "2025-01-01T00:00:00Z"}),
            ({"created": "2025-01-01T00:00:00Z"}, {"created": "2025-01-01T00:00:01Z"}),
        ],
    )
    def test_priority_then_age_decide(self, first: dict[str, Any], second: dict[str, Any]) -> None:
        given = planned(
            resource("aaa", modelName="a", backendType="mlx", aliases=["x"], **second),
            resource("zzz", modelName="z", backendType="mlx", aliases=["x"], **first),
        )
        assert names(given) == {"zzz": ("z", "x"), "aaa": ("a",)}

    def test_a_disabled_or_deleted_one_claims_nothing(self) -> None:
        for gone in (
            resource("a", backendType="mlx", aliases=["x"], enabled=False),
            resource("a", backendType="mlx", aliases=["x"], deleting=True),
        ):
            given = planned(gone, resource("b", modelName="x", backendType="mlx"))
            assert names(given) == {"b": ("x",)}

    def test_a_kept_route_gives_up_the_aliases_that_a_valid_one_claims(self) -> None:
        kept = resource("kept", backendType="mlx", aliases=["x", "y"])
        before = planned(kept).config
        after = planned(
            invalid(kept), resource("new", modelName="x", backendType="mlx"), published=before
        )
        assert names(after) == {"new": ("x",), "kept": ("phi3:mini", "y")}
        assert after.verdicts["uid-kept"].reason is Accepted.INVALID

    def test_a_kept_route_goes_when_its_model_is_another_s_alias(self) -> None:
        kept = resource("kept", backendType="mlx", aliases=["x"])
        before = planned(kept).config
        new = resource("new", modelName="n", backendType="mlx", aliases=["phi3:mini"])
        assert names(planned(invalid(kept), new, published=before)) == {"new": ("n", "phi3:mini")}

    def test_two_kept_routes_never_collide(self) -> None:
        first, second = (
            resource(name, modelName=name, backendType="mlx", aliases=["x"]) for name in "ab"
        )
        published = RoutingConfig(
            routes=(*planned(first).config.routes, *planned(second).config.routes)
        )
        after = planned(invalid(second), invalid(first), published=published)
        assert names(after) == {"a": ("a", "x"), "b": ("b",)}

    def test_whatever_is_planned_can_be_read_again(self) -> None:
        many = [
            resource(
                f"r{n}",
                modelName=f"m{n % 7}",
                backendType="mlx",
                priority=n % 3,
                aliases=sorted({f"m{(n * 5 + 1) % 11}", f"x{n % 4}"} - {f"m{n % 7}"}),
            )
            for n in range(30)
        ]
        first = planned(*many)
        broken = [invalid(r) if n % 2 else r for n, r in enumerate(many)]
        second = planned(*broken, published=first.config)
        for each in (first, second):
            assert parse_config(dump(each.config)).routes == tuple(
                sorted(each.config.routes, key=lambda made: made.model)
            )
        random.shuffle(broken)
        again = planned(*broken, published=first.config)
        assert dump(again.config) == dump(second.config)
        assert again.verdicts == second.verdicts


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.stem)
def test_every_valid_example_is_a_route_that_routers_read(file: Path) -> None:
    spec = yaml.safe_load(file.read_text())["spec"]
    config = planned(resource(**spec)).config
    assert parse_config(dump(config)) == config
