"""Resources -> routes and verdicts: pure, in any order, and one's mistake costs nobody else."""

import random
from dataclasses import replace
from typing import Any

import pytest

from llm_contract import (
    Defaults,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
    dump,
)
from llm_operator.plan import MLX_DEFAULT_MODEL, Addresses, Plan, Verdict, plan
from llm_operator.reasons import Accepted
from llm_operator.resource.model import BackendType, Identity, Problem, Resource, Spec

ADDRESSES = Addresses(ollama="http://ollama:11434", mlx="http://mlx:8080")
NOTHING = RoutingConfig()


def resource(
    name: str = "phi",
    *,
    uid: str = "",
    generation: int = 1,
    created: str = "2026-01-01T00:00:00Z",
    deleting: bool = False,
    **spec: Any,
) -> Resource:
    given = {"model_name": "phi3:mini", "backend_type": BackendType.AUTO} | spec
    identity = Identity(
        namespace="ai",
        name=name,
        uid=uid or f"uid-{name}",
        generation=generation,
        created=created,
    )
    return Resource(identity=identity, spec=Spec(**given), deleting=deleting)


def invalid(of: Resource, *messages: str) -> Resource:
    """The resource after an edit that broke it."""
    problems = tuple(Problem(path="spec.modelName", message=message) for message in messages)
    return replace(of, spec=None, problems=problems)


def planned(
    *resources: Resource,
    addresses: Addresses = ADDRESSES,
    published: RoutingConfig = NOTHING,
) -> Plan:
    return plan(resources, addresses=addresses, published=published)


def only_route(given: Plan) -> Route:
    (route,) = given.config.routes
    return route


def targets(given: Plan) -> list[tuple[str, str, str]]:
    return [(target.type.value, target.url, target.model) for target in only_route(given).targets]


class TestTargets:
    def test_auto_is_mlx_then_ollama_at_the_default_addresses(self) -> None:
        assert targets(planned(resource())) == [
            ("mlx", "http://mlx:8080", "default_model"),
            ("ollama", "http://ollama:11434", "phi3:mini"),
        ]

    def test_auto_with_both_addresses(self) -> None:
        given = resource(endpoint_url="http://mac:8080", fallback_endpoint_url="http://mac:11434")
        assert targets(planned(given, addresses=Addresses())) == [
            ("mlx", "http://mac:8080", "default_model"),
            ("ollama", "http://mac:11434", "phi3:mini"),
        ]

    def test_the_endpoint_of_auto_is_the_mlx_server_and_never_the_ollama(self) -> None:
        given = planned(resource(endpoint_url="http://mac:8080"))
        assert [url for _, url, _ in targets(given)] == ["http://mac:8080", "http://ollama:11434"]

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            (BackendType.OLLAMA, ("ollama", "http://ollama:11434", "phi3:mini")),
            (BackendType.MLX, ("mlx", "http://mlx:8080", "default_model")),
        ],
    )
    def test_one_type_is_one_target(
        self, kind: BackendType, expected: tuple[str, str, str]
    ) -> None:
        assert targets(planned(resource(backend_type=kind))) == [expected]

    def test_openai_goes_to_its_own_address_under_the_callers_name(self) -> None:
        given = resource(backend_type=BackendType.OPENAI, endpoint_url="https://api.example/x")
        assert targets(planned(given)) == [("openai", "https://api.example/x", "phi3:mini")]

    def test_a_target_is_named_by_its_type(self) -> None:
        names = [target.name for target in only_route(planned(resource())).targets]
        assert names == ["mlx", "ollama"]

    def test_a_trailing_slash_makes_no_other_address(self) -> None:
        plain = resource(endpoint_url="http://mac:8080", fallback_endpoint_url="http://o")
        slashed = resource(endpoint_url="http://mac:8080/", fallback_endpoint_url="http://o/")
        assert planned(slashed).config == planned(plain).config
        of_default = planned(resource(), addresses=Addresses(ollama="http://o/", mlx="http://m/"))
        assert [url for _, url, _ in targets(of_default)] == ["http://m", "http://o"]


class TestUpstreamModel:
    def test_goes_to_the_first_target_only(self) -> None:
        given = planned(resource(upstream_model="mlx-community/Phi-3"))
        assert [model for *_, model in targets(given)] == ["mlx-community/Phi-3", "phi3:mini"]

    @pytest.mark.parametrize("kind", [BackendType.OLLAMA, BackendType.MLX, BackendType.OPENAI])
    def test_of_one_target_is_its_own(self, kind: BackendType) -> None:
        given = resource(backend_type=kind, endpoint_url="http://h", upstream_model="other:1b")
        assert [model for *_, model in targets(planned(given))] == ["other:1b"]

    def test_an_mlx_target_never_gets_the_ollama_name(self) -> None:
        # NB: mlx_lm.server would load, or download, a model of that name.
        names = ("phi3:mini", "llama3.1:8b", "default", "org/model")
        for name in names:
            for kind in (BackendType.AUTO, BackendType.MLX):
                first = only_route(planned(resource(model_name=name, backend_type=kind))).targets[0]
                assert (first.type, first.model) == (TargetType.MLX, MLX_DEFAULT_MODEL)


class TestRoute:
    def test_carries_all_that_the_spec_says(self) -> None:
        given = resource(
            "phi3-mini",
            uid="6f1c",
            generation=7,
            model_name="phi3:mini",
            backend_type=BackendType.OLLAMA,
            endpoint_url="http://h:1",
            timeout_seconds=30,
            max_tokens=2048,
            temperature=0.0,
            keep_alive_seconds=-1,
            description="never published",
        )
        assert only_route(planned(given)) == Route(
            model="phi3:mini",
            uid="6f1c",
            generation=7,
            name="phi3-mini",
            targets=(
                Target(name="ollama", type=TargetType.OLLAMA, url="http://h:1", model="phi3:mini"),
            ),
            timeouts=Timeouts(total=30),
            defaults=Defaults(max_tokens=2048, temperature=0.0, keep_alive_seconds=-1),
        )

    def test_what_the_spec_leaves_out_stays_unset(self) -> None:
        route = only_route(planned(resource()))
        assert route.defaults == Defaults()
        assert route.timeouts == Timeouts(total=60)


class TestVerdicts:
    def test_of_a_good_one(self) -> None:
        given = planned(resource())
        assert given.verdicts == {
            "uid-phi": Verdict(reason=Accepted.VALID, message="Valid.", routed=True)
        }
        assert given.verdicts["uid-phi"].accepted

    def test_a_disabled_one_is_valid_and_has_no_route(self) -> None:
        given = planned(resource(enabled=False), published=planned(resource()).config)
        assert given.config == NOTHING
        verdict = given.verdicts["uid-phi"]
        assert (verdict.reason, verdict.accepted, verdict.routed) == (Accepted.VALID, True, False)
        assert "Disabled" in verdict.message

    def test_one_being_deleted_has_neither_route_nor_verdict(self) -> None:
        given = planned(resource(deleting=True), published=planned(resource()).config)
        assert given.config == NOTHING
        assert given.verdicts == {}

    def test_nothing_gives_nothing(self) -> None:
        assert planned(published=planned(resource()).config).config == NOTHING

    @pytest.mark.parametrize(
        ("kind", "addresses", "field", "variable"),
        [
            (BackendType.OLLAMA, Addresses(), "endpointURL", "LLMB_DEFAULT_OLLAMA_URL"),
            (BackendType.MLX, Addresses(), "endpointURL", "LLMB_DEFAULT_MLX_URL"),
            (
                BackendType.AUTO,
                Addresses(mlx="http://m"),
                "fallbackEndpointURL",
                "LLMB_DEFAULT_OLLAMA_URL",
            ),
            (BackendType.AUTO, Addresses(ollama="http://o"), "endpointURL", "LLMB_DEFAULT_MLX_URL"),
        ],
    )
    def test_no_address_is_said_with_the_field_and_the_setting(
        self, kind: BackendType, addresses: Addresses, field: str, variable: str
    ) -> None:
        given = planned(resource(backend_type=kind), addresses=addresses)
        verdict = given.verdicts["uid-phi"]
        assert verdict.reason is Accepted.INVALID
        assert verdict.message.startswith(f"spec.{field}: not set")
        assert variable in verdict.message
        assert given.config == NOTHING

    def test_all_problems_are_in_the_message(self) -> None:
        given = planned(invalid(resource(), "is missing", "must be text"))
        message = given.verdicts["uid-phi"].message
        assert message == "spec.modelName: is missing; spec.modelName: must be text"


class TestConflict:
    def test_the_lower_priority_number_wins(self) -> None:
        low = resource("zzz", priority=5, created="2026-02-01T00:00:00Z")
        high = resource("aaa", priority=6, created="2026-01-01T00:00:00Z")
        given = planned(high, low)
        assert only_route(given).name == "zzz"
        assert given.verdicts["uid-zzz"].routed
        loser = given.verdicts["uid-aaa"]
        assert loser.reason is Accepted.MODEL_NAME_CONFLICT
        assert not loser.accepted
        assert "'phi3:mini'" in loser.message
        assert "zzz" in loser.message

    def test_then_the_oldest(self) -> None:
        old = resource("zzz", created="2026-01-01T00:00:00Z")
        young = resource("aaa", created="2026-01-01T00:00:01Z")
        assert only_route(planned(young, old)).name == "zzz"

    def test_then_the_name(self) -> None:
        assert only_route(planned(resource("b"), resource("a"))).name == "a"

    def test_a_disabled_one_claims_nothing(self) -> None:
        first = resource("a", priority=1, enabled=False)
        given = planned(first, resource("b"))
        assert only_route(given).name == "b"
        assert given.verdicts["uid-a"].accepted

    def test_the_loser_takes_over_when_the_owner_goes(self) -> None:
        before = planned(resource("a"), resource("b"))
        after = planned(resource("a", deleting=True), resource("b"), published=before.config)
        assert only_route(after).name == "b"

    def test_other_names_are_no_conflict(self) -> None:
        given = planned(resource("a"), resource("b", model_name="other"))
        assert {route.model for route in given.config.routes} == {"phi3:mini", "other"}


class TestLastGood:
    def test_an_invalid_edit_keeps_the_published_route_as_it_was(self) -> None:
        before = planned(resource(generation=3, max_tokens=5))
        broken = invalid(resource(generation=4), "must be text")
        after = planned(broken, published=before.config)
        assert after.config == before.config
        assert only_route(after).generation == 3
        verdict = after.verdicts["uid-phi"]
        assert (verdict.reason, verdict.routed) == (Accepted.INVALID, False)

    def test_a_lost_default_address_keeps_it_too(self) -> None:
        before = planned(resource())
        after = planned(resource(), addresses=Addresses(), published=before.config)
        assert after.config == before.config
        assert not after.verdicts["uid-phi"].accepted

    def test_without_one_there_is_no_route(self) -> None:
        assert planned(invalid(resource(), "x")).config == NOTHING

    def test_a_new_object_of_the_same_name_has_none(self) -> None:
        before = planned(resource(uid="first"))
        after = planned(invalid(resource(uid="second"), "x"), published=before.config)
        assert after.config == NOTHING

    def test_a_valid_claim_goes_before_the_kept_one(self) -> None:
        before = planned(resource("a"))
        after = planned(
            invalid(resource("a"), "x"), resource("b", priority=999), published=before.config
        )
        assert only_route(after).name == "b"
        assert after.verdicts["uid-b"].routed

    def test_one_bad_resource_costs_nobody_else_anything(self) -> None:
        good = [resource(f"r{n}", model_name=f"m{n}") for n in range(5)]
        without = planned(*good)
        beside = planned(*good, invalid(resource("bad"), "x"))
        assert beside.config == without.config


def test_any_order_gives_an_equal_plan() -> None:
    kinds = list(BackendType)
    many = [
        resource(
            f"r{n}",
            model_name=f"m{n % 17}",
            priority=n % 3,
            created=f"2026-01-{n % 5 + 1:02}T00:00:00Z",
            backend_type=kinds[n % 4],
            endpoint_url=f"http://h{n}",
            enabled=n % 7 != 0,
            deleting=n % 11 == 0,
        )
        for n in range(60)
    ]
    published = planned(*many).config
    many = [invalid(r, "x") if n % 6 == 0 else r for n, r in enumerate(many)]
    first = planned(*many, published=published)
    assert first.config.routes
    assert {v.reason for v in first.verdicts.values()} == set(Accepted)
    for _ in range(20):
        random.shuffle(many)
        again = planned(*many, published=published)
        assert again == first
        assert dump(again.config) == dump(first.config)


def test_planning_the_plan_again_changes_nothing() -> None:
    given = [resource("a"), resource("b", model_name="other"), invalid(resource("c"), "x")]
    first = planned(*given)
    assert planned(*given, published=first.config) == first
