"""Resources -> routes and verdicts: pure, in any order, and one's mistake costs nobody else."""

import random
from collections.abc import Callable
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
from llm_operator.reasons import Accepted, ResolvedRefs
from llm_operator.references.model import Resolution
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

    def test_then_the_uid_where_a_list_holds_a_name_twice(self) -> None:
        first, second = resource(uid="u1"), resource(uid="u2")
        assert only_route(planned(second, first)).uid == "u1"

    def test_the_loser_is_told_the_owner(self) -> None:
        given = planned(resource("a"), resource("b"))
        message = given.verdicts["uid-b"].message
        assert message == "Model name 'phi3:mini' belongs to a, which precedes it."

    @pytest.mark.check(18)
    def test_an_alias_has_one_owner_by_the_same_order(self) -> None:
        old = resource("old", model_name="m1", aliases=("fast",))
        young = resource(
            "young", model_name="m2", aliases=("fast", "own"), created="2026-02-01T00:00:00Z"
        )
        given = planned(young, old)
        assert {r.name: r.aliases for r in given.config.routes} == {
            "old": ("fast",),
            "young": ("own",),
        }
        loser = given.verdicts["uid-young"]
        assert (loser.reason, loser.accepted, loser.routed) == (
            Accepted.MODEL_NAME_CONFLICT,
            True,
            True,
        )
        assert loser.message == "Valid. Alias 'fast' belongs to old, which precedes it."
        after = planned(young, replace(old, deleting=True), published=given.config)
        assert only_route(after).aliases == ("fast", "own")
        assert after.verdicts["uid-young"].reason is Accepted.VALID

    def test_a_model_name_and_an_alias_are_names_of_one_kind(self) -> None:
        first = resource("a", model_name="m", aliases=("phi3:mini",))
        given = planned(first, resource("b"))
        assert only_route(given).name == "a"
        verdict = given.verdicts["uid-b"]
        assert (verdict.reason, verdict.accepted) == (Accepted.MODEL_NAME_CONFLICT, False)

    def test_who_loses_its_model_name_claims_no_alias(self) -> None:
        loser = resource("b", aliases=("fast",))
        last = resource("c", model_name="m", aliases=("fast",))
        given = planned(resource("a"), loser, last)
        assert {r.name: r.aliases for r in given.config.routes} == {"a": (), "c": ("fast",)}


class TestPaused:
    @pytest.mark.parametrize(
        "change",
        [
            lambda r: replace(r, spec=replace(r.spec, max_tokens=9, model_name="other")),
            lambda r: replace(r, spec=replace(r.spec, enabled=False)),
            lambda r: invalid(r, "must be text"),
        ],
        ids=["changed", "disabled", "invalid"],
    )
    def test_keeps_its_route_whatever_becomes_of_its_spec(
        self, change: Callable[[Resource], Resource]
    ) -> None:
        before = planned(resource(generation=3, aliases=("fast",)))
        edited = replace(change(resource(generation=4, aliases=("fast",))), paused=True)
        after = planned(edited, published=before.config)
        assert dump(after.config) == dump(before.config)
        verdict = after.verdicts["uid-phi"]
        assert (verdict.accepted, verdict.routed) == (True, False)
        assert verdict.message == "Paused: the route of generation 3 stays as it is."

    def test_keeps_it_without_a_default_address(self) -> None:
        before = planned(resource())
        paused = replace(resource(), paused=True)
        after = planned(paused, addresses=Addresses(), published=before.config)
        assert after.config == before.config
        assert after.verdicts["uid-phi"].routed

    def test_keeps_it_whatever_its_references_say(self) -> None:
        before = planned(resource())
        lost = Resolution(reason=ResolvedRefs.SECRET_NOT_FOUND, message="x", usable=False)
        after = plan(
            [replace(resource(generation=2), paused=True)],
            addresses=ADDRESSES,
            published=before.config,
            resolutions={"uid-phi": lost},
        )
        assert after.config == before.config

    def test_gets_no_route_if_it_had_none(self) -> None:
        given = planned(replace(resource(), paused=True))
        assert given.config == NOTHING
        assert given.verdicts["uid-phi"].message == "Paused: it had no route, and gets none."

    def test_and_holds_no_name_then(self) -> None:
        given = planned(replace(resource("a"), paused=True), resource("b"))
        assert only_route(given).name == "b"

    def test_owns_its_names_against_whoever_would_precede_it(self) -> None:
        before = planned(resource("old", aliases=("fast",)))
        paused = replace(resource("old", generation=2, model_name="renamed"), paused=True)
        model = resource("new", priority=1, created="2020-01-01T00:00:00Z")
        alias = resource("also", priority=1, model_name="m", aliases=("fast",))
        after = planned(model, alias, paused, published=before.config)
        assert {r.name: (r.model, r.aliases) for r in after.config.routes} == {
            "old": ("phi3:mini", ("fast",)),
            "also": ("m", ()),
        }
        told = after.verdicts["uid-new"]
        assert told.reason is Accepted.MODEL_NAME_CONFLICT
        assert told.message == "Model name 'phi3:mini' belongs to old, which is paused."

    def test_goes_when_it_is_deleted(self) -> None:
        before = planned(resource())
        after = planned(replace(resource(), paused=True, deleting=True), published=before.config)
        assert (after.config, after.verdicts) == (NOTHING, {})

    def test_its_spec_goes_through_once_it_is_not(self) -> None:
        before = planned(resource(max_tokens=1))
        edited = resource(max_tokens=2, generation=2)
        held = planned(replace(edited, paused=True), published=before.config)
        assert only_route(planned(edited, published=held.config)).defaults.max_tokens == 2


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
    many = [replace(r, paused=True) if n % 13 == 0 else r for n, r in enumerate(many)]
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
