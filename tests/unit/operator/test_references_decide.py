"""References: what is looked for, whether it resolves, and what is written for the routers."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from llm_contract import RoutingConfig, SourceKind
from llm_operator.plan import Addresses, plan
from llm_operator.publish import secret
from llm_operator.publish.outcome import Place
from llm_operator.reasons import ResolvedRefs
from llm_operator.references.model import UNSEEN, Found, Held, Kind, Resolution, Sought, Supply
from llm_operator.references.resolve import resolve
from llm_operator.references.sought import key_of, named, sought, source_of, wanted
from llm_operator.references.supply import LIMIT, Decision, decide, unwritten
from llm_operator.resource.model import Resource, Source
from llm_operator.resource.parse import parse

PLACE = Place(name="Secret x", remedy="delete it")
VALUE = b"s3cret"
TOKEN = Source(kind=SourceKind.SECRET, name="tok", key="token")

AUTH: dict[str, Any] = {"auth": {"secretRef": {"name": "tok", "key": "token"}}}
CA: dict[str, Any] = {"tls": {"caRef": {"name": "home-ca"}}}
PAIR: dict[str, Any] = {"tls": {"clientCertRef": {"name": "pair"}}}

ALL = Found(
    secrets={"tok": {"token": VALUE}, "pair": {"tls.crt": b"C", "tls.key": b"K"}},
    config_maps={"home-ca": {"ca.crt": b"PEM"}},
    services=frozenset({"host"}),
)
GIVEN = frozenset({"tok_token", "pair_tls.crt", "pair_tls.key", "_home-ca_ca.crt"})
FULL = Supply(right=GIVEN, present=GIVEN)


def target(name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "openai", "endpointURL": f"https://{name}:8443"} | fields


def service(name: str = "s") -> dict[str, Any]:
    return {"name": name, "type": "ollama", "serviceRef": {"name": "host", "port": 80}}


def resource(*targets: dict[str, Any], name: str = "phi", **spec: Any) -> Resource:
    made = parse(
        {
            "apiVersion": "llm.athena.dev/v1alpha1",
            "kind": "LLMBackend",
            "metadata": {"name": name, "namespace": "ai", "uid": f"uid-{name}"},
            "spec": {"modelName": "phi3:mini", "targets": list(targets)} | spec,
        }
    )
    assert made.problems == ()
    return made


def routed(*resources: Resource) -> RoutingConfig:
    return plan(resources, addresses=Addresses(), published=RoutingConfig()).config


def without(kind: str, name: str, value: Any = None) -> Found:
    """All but one object, or with another in its place."""
    objects = dict(getattr(ALL, kind))
    del objects[name]
    if value is not None:
        objects[name] = value
    return replace(ALL, **{kind: objects})


class TestPaused:
    def test_only_what_its_published_route_refers_to_is_looked_for(self) -> None:
        published = routed(resource(target(**AUTH), target("b", **CA)))
        edited = replace(resource(target(**PAIR), service()), paused=True)
        assert sought([edited], published) == Sought(
            secrets=frozenset({"tok"}), config_maps=frozenset({"home-ca"})
        )
        assert wanted([edited], published) == {"tok_token", "_home-ca_ca.crt"}

    def test_what_its_spec_refers_to_is_nothing_against_it(self) -> None:
        edited = replace(resource(target(**PAIR)), paused=True)
        told = resolve(edited, Found(), Supply())
        assert (told.reason, told.usable) == (ResolvedRefs.RESOLVED, True)
        assert told.message.startswith("Paused")


class TestSought:
    def test_everything_of_enabled_targets(self) -> None:
        given = resource(
            target(**AUTH), target("b", **CA), target("c", **PAIR), service(), target("d")
        )
        assert sought([given]) == Sought(
            secrets=frozenset({"tok", "pair"}),
            config_maps=frozenset({"home-ca"}),
            services=frozenset({"host"}),
        )
        assert wanted([given]) == GIVEN

    def test_nothing_of_what_is_off_going_or_simple(self) -> None:
        off = resource(target(enabled=False, **AUTH), target("b"))
        going = replace(resource(target(**AUTH)), deleting=True)
        simple = parse({**_manifest(), "spec": {"modelName": "x", "backendType": "ollama"}})
        given = [off, going, resource(target(**AUTH), enabled=False), simple]
        assert not sought(given)
        assert wanted(given) == frozenset()

    def test_what_stands_is_looked_for_too(self) -> None:
        config = routed(resource(target(**AUTH), target("b", **CA), target("c", **PAIR)))
        assert named(config) == GIVEN
        assert wanted([], config) == GIVEN
        assert sought([], config).config_maps == {"home-ca"}

    @pytest.mark.parametrize("kind", list(SourceKind))
    @pytest.mark.parametrize(("name", "key"), [("a", "b"), ("a-b.c", "_x_y"), ("a", "tls.key")])
    def test_a_key_leads_back_to_its_source(self, kind: SourceKind, name: str, key: str) -> None:
        source = Source(kind=kind, name=name, key=key)
        assert source_of(key_of(source)) == source


def _manifest() -> dict[str, Any]:
    return {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": "x", "namespace": "ai"},
    }


class TestResolve:
    def test_all_is_there(self) -> None:
        given = resource(target(**AUTH), target("b", **CA), target("c", **PAIR), service())
        assert resolve(given, ALL, FULL).reason is ResolvedRefs.RESOLVED

    def test_nothing_is_referred_to(self) -> None:
        assert resolve(resource(target()), UNSEEN, Supply()).reason is ResolvedRefs.RESOLVED

    @pytest.mark.parametrize(
        ("found", "fields", "reason", "words"),
        [
            (without("secrets", "tok"), AUTH, "SecretNotFound", ("'tok'", "'token'", "label")),
            (
                replace(ALL, secrets={"tok": None}),
                AUTH,
                "SecretNotAllowed",
                ("'tok'", "llm.athena.dev/credential=true"),
            ),
            (without("secrets", "tok", {"other": b"x"}), AUTH, "KeyMissing", ("'tok'", "'token'")),
            (without("config_maps", "home-ca"), CA, "ConfigMapNotFound", ("'home-ca'", "ca.crt")),
            (without("config_maps", "home-ca", {"x": b""}), CA, "KeyMissing", ("ConfigMap",)),
            (without("secrets", "pair", {"tls.crt": b"C"}), PAIR, "KeyMissing", ("'tls.key'",)),
        ],
    )
    def test_what_is_not_there(
        self, found: Found, fields: dict[str, Any], reason: str, words: tuple[str, ...]
    ) -> None:
        resolution = resolve(resource(target(**fields)), found, FULL)
        assert (resolution.reason, resolution.usable, resolution.certain) == (reason, False, True)
        assert all(word in resolution.message for word in words)
        assert resolution.message.startswith("spec.targets[0].")
        assert resolution.message.endswith(".")
        assert VALUE.decode() not in resolution.message

    def test_a_service_that_is_not_there(self) -> None:
        resolution = resolve(resource(service()), replace(ALL, services=frozenset()), FULL)
        assert resolution.reason is ResolvedRefs.SERVICE_NOT_FOUND
        assert "'host'" in resolution.message

    def test_the_first_problem_is_told_and_all_targets_are_judged(self) -> None:
        broken = without("secrets", "tok")
        both = resource(target(**AUTH), target("b", **CA))
        resolution = resolve(both, broken, FULL)
        assert (resolution.reason, resolution.usable) == (ResolvedRefs.SECRET_NOT_FOUND, True)
        drained = resource(target(tier=0, **AUTH), target("b", tier=0, weight=0))
        assert not resolve(drained, broken, FULL).usable

    def test_what_can_not_be_read_is_uncertain_and_what_routers_hold_is_used(self) -> None:
        found = replace(ALL, secrets={}, unread={Kind.SECRET: "can't be read: HTTP 403"})
        given = resource(target(**AUTH))
        held = resolve(given, found, FULL)
        assert (held.reason, held.usable, held.certain) == (ResolvedRefs.READ_FAILED, True, False)
        assert held.message.endswith("Secrets can't be read: HTTP 403.")
        assert not resolve(given, found, Supply()).usable

    def test_a_service_that_can_not_be_looked_up_is_used(self) -> None:
        found = replace(ALL, unread={Kind.SERVICE: "can't be read"})
        resolution = resolve(resource(service()), found, FULL)
        assert (resolution.reason, resolution.usable) == (ResolvedRefs.READ_FAILED, True)

    @pytest.mark.parametrize(
        ("reason", "certain"),
        [
            (ResolvedRefs.NOT_OWNED, True),
            (ResolvedRefs.TOO_LARGE, True),
            (ResolvedRefs.PUBLISH_FAILED, False),
            (ResolvedRefs.READ_FAILED, False),
        ],
    )
    def test_what_routers_are_not_given(self, reason: ResolvedRefs, certain: bool) -> None:
        supply = Supply(reason=reason, message="It is so")
        resolution = resolve(resource(target(**AUTH)), ALL, supply)
        assert (resolution.reason, resolution.usable, resolution.certain) == (
            reason,
            False,
            certain,
        )
        old = replace(supply, present=GIVEN)
        assert resolve(resource(target(**AUTH)), ALL, old).usable, "an older value serves on"

    def test_without_a_cluster_a_file_is_asked_for(self) -> None:
        folder = Supply(right=None)
        assert resolve(resource(target(**AUTH)), ALL, folder).reason is ResolvedRefs.RESOLVED
        lacking = resolve(resource(target(**AUTH)), Found(), folder)
        assert (lacking.reason, "'tok_token'" in lacking.message) == ("SecretNotFound", True)
        assert "endpointURL" in resolve(resource(service()), Found(), folder).message


class TestSupply:
    KEYS = frozenset({"tok_token"})
    RIGHT = Held(values={"tok_token": VALUE}, ours=KEYS)

    def decided(self, held: Held | None, found: Found = ALL, keys: Any = KEYS) -> Decision:
        return decide(held, found, keys, place=PLACE)

    def test_what_is_right_is_not_written(self) -> None:
        decision = self.decided(self.RIGHT)
        assert decision.write is None
        assert decision.supply == Supply(right=self.KEYS, present=self.KEYS)

    def test_nothing_is_made_where_nothing_is_needed(self) -> None:
        assert self.decided(None, keys=frozenset()).write is None
        theirs = Held(values={"theirs": b"x"}, owned=False)
        assert self.decided(theirs, keys=frozenset()).write is None

    @pytest.mark.parametrize(
        "held",
        [
            None,
            Held(),
            Held(owned=False),
            Held(values={"tok_token": b"old"}, ours=KEYS),
            Held(values={"tok_token": VALUE, "gone_x": b"x"}, ours=KEYS | {"gone_x"}),
            Held(values={"tok_token": b"edited"}),
        ],
        ids=["absent", "empty", "foreign but empty", "old", "too much", "edited"],
    )
    def test_whatever_differs_is_written_whole(self, held: Held | None) -> None:
        decision = self.decided(held)
        assert decision.write == {"tok_token": VALUE}
        assert decision.supply.right == self.KEYS

    def test_the_last_key_goes(self) -> None:
        assert self.decided(self.RIGHT, keys=frozenset()).write == {}

    def test_keys_of_others_stay_and_cost_nothing(self) -> None:
        held = replace(self.RIGHT, values={"tok_token": VALUE, "theirs": b"x"})
        assert self.decided(held).write is None

    def test_what_is_withdrawn_goes(self) -> None:
        assert self.decided(self.RIGHT, replace(ALL, secrets={"tok": None})).write == {}

    def test_what_can_not_be_read_stays(self) -> None:
        unread = replace(ALL, secrets={}, unread={Kind.SECRET: "can't be read"})
        assert self.decided(self.RIGHT, unread).write is None

    def test_a_foreign_one_is_left_alone(self) -> None:
        decision = self.decided(Held(values={"tok_token": b"theirs"}, owned=False))
        assert (decision.write, decision.supply.reason) == (None, ResolvedRefs.NOT_OWNED)
        assert "Secret x" in decision.supply.message
        assert "delete it" in decision.supply.message

    def test_the_limit_is_the_last_size_that_is_written(self) -> None:
        for size, reason in ((LIMIT, "Resolved"), (LIMIT + 1, "TooLarge")):
            found = replace(ALL, secrets={"tok": {"token": b"x" * size}})
            decision = self.decided(self.RIGHT, found)
            assert (decision.supply.reason, decision.write is None) == (
                reason,
                reason == "TooLarge",
            )

    def test_what_could_not_be_written_leaves_what_was_there(self) -> None:
        held = Held(values={"tok_token": b"old", "_home-ca_ca.crt": b"PEM"})
        supply = unwritten(held, ALL, why="HTTP 500")
        assert supply.right == frozenset({"_home-ca_ca.crt"})
        assert supply.present == held.values.keys()
        assert unwritten(None, ALL, why="x").present == frozenset()


class TestPlan:
    BROKEN = Resolution(reason=ResolvedRefs.SECRET_NOT_FOUND, message="x", usable=False)
    UNKNOWN = replace(BROKEN, reason=ResolvedRefs.READ_FAILED, certain=False)

    def planned(
        self, *resources: Resource, published: RoutingConfig | None = None, **of: Resolution
    ) -> Any:
        return plan(
            resources,
            addresses=Addresses(),
            published=published or RoutingConfig(),
            resolutions={f"uid-{name}": resolution for name, resolution in of.items()},
        )

    def test_a_new_one_has_no_route(self) -> None:
        made = self.planned(resource(target(**AUTH)), phi=self.BROKEN)
        assert made.config.routes == ()
        assert made.verdicts["uid-phi"].accepted
        assert not made.verdicts["uid-phi"].routed

    def test_one_target_is_enough(self) -> None:
        given = resource(target(**AUTH), target("b"))
        made = self.planned(given, phi=replace(self.BROKEN, usable=True))
        assert made.config == routed(given)

    @pytest.mark.parametrize("resolution", [BROKEN, UNKNOWN])
    def test_the_last_good_form_stays(self, resolution: Resolution) -> None:
        good = resource(target())
        edited = resource(target("new", **AUTH))
        edited = replace(edited, identity=replace(edited.identity, generation=9))
        made = self.planned(edited, published=routed(good), phi=resolution)
        assert made.config == routed(good)

    def test_a_working_resource_gets_the_name_until_the_references_resolve(self) -> None:
        first, second = resource(target(**AUTH), priority=1), resource(target("b"), name="llama")
        standing = routed(first)
        made = self.planned(first, second, published=standing, phi=self.BROKEN)
        assert [route.name for route in made.config.routes] == ["llama"]
        assert made.verdicts["uid-phi"].reason == "ModelNameConflict"
        assert "until the references resolve" in made.verdicts["uid-phi"].message
        back = self.planned(first, second, published=made.config)
        assert [route.name for route in back.config.routes] == ["phi"]

    def test_what_could_not_be_read_costs_no_name(self) -> None:
        first, second = resource(target(**AUTH), priority=1), resource(target("b"), name="llama")
        made = self.planned(first, second, published=routed(first), phi=self.UNKNOWN)
        assert made.config == routed(first)


class TestSecret:
    def test_a_written_secret_reads_back(self) -> None:
        made = dict(secret.manifest("ns", {"a": b"\x00\xff"}))
        assert made["type"] == "Opaque"
        assert made["data"] == {"a": base64.b64encode(b"\x00\xff").decode()}
        applied = {"manager": "llm-backend-operator", "operation": "Apply"}
        fields: dict[str, Any] = {"f:data": {".": {}, "f:a": {}, "f:gone": {}}}
        made["metadata"] = {**made["metadata"], "managedFields": [applied | {"fieldsV1": fields}]}
        assert secret.held(made) == Held(values={"a": b"\x00\xff"}, ours=frozenset({"a"}))

    def test_keys_of_other_managers_are_theirs(self) -> None:
        edited = {"manager": "kubectl-edit", "operation": "Update"}
        found = {
            "metadata": {"managedFields": [edited | {"fieldsV1": {"f:data": {"f:a": {}}}}]},
            "data": {"a": "eA=="},
        }
        assert secret.held(found) == Held(values={"a": b"x"}, owned=False)


def test_no_text_form_holds_a_value() -> None:
    decision = decide(None, ALL, frozenset({"tok_token"}), place=PLACE)
    shown = repr((ALL, decision, Held(values={"a": VALUE}), FULL))
    assert VALUE.decode() not in shown
