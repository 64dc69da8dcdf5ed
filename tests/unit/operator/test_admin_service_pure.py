"""The pure parts of the admin service: fields, differences, what is told of a backend."""

import json
from datetime import date
from typing import Any

import pytest

from llm_operator.admin import change, rights, view
from llm_operator.admin.difference import Difference, differences, same
from llm_operator.admin.errors import Forbidden, Invalid
from llm_operator.admin.model import Totals, Verb
from llm_operator.resource.fields import SPEC as SCHEMA
from parts.admin_memory import ME, SPEC, Gate, Store

SIMPLE = {"model_name": "m", "backend_type": "ollama"}


class TestChange:
    def test_every_field_of_a_spec_has_a_name(self) -> None:
        assert set(change.FIELDS.values()) == set(SCHEMA.fields)

    def test_a_simple_backend_gets_the_predecessor_s_defaults(self) -> None:
        assert change.created(SIMPLE) == {
            "modelName": "m",
            "backendType": "ollama",
            "enabled": True,
            "priority": 100,
            "maxTokens": 2048,
            "temperature": 0.7,
            "timeoutSeconds": 60,
            "keepAliveSeconds": -1,
        }

    def test_what_is_given_wins_and_null_leaves_it_to_the_host(self) -> None:
        made = change.created({**SIMPLE, "temperature_default": 0, "max_tokens": None})
        assert made["temperature"] == 0
        assert "maxTokens" not in made

    def test_the_full_form_gets_none(self) -> None:
        assert change.created({"model_name": "m", "targets": []}) == {
            "modelName": "m",
            "targets": [],
        }

    def test_a_change_is_of_what_is_given(self) -> None:
        spec = {"modelName": "m", "maxTokens": 5, "description": "x", "future": 1}
        changed = change.changed(spec, {"max_tokens": 6, "description": None, "priority": 0})
        assert changed == {"modelName": "m", "priority": 0, "maxTokens": 6, "future": 1}
        assert list(changed) == ["modelName", "priority", "maxTokens", "future"]

    def test_what_is_sent_back_as_it_was_told_is_no_change(self) -> None:
        spec = {"modelName": "m", "targets": [1]}
        told = {"backend_type": "mixed", "priority": 100, "targets": [1]}
        assert change.changed(spec, told, told=told) == spec
        assert change.changed(spec, {"priority": 5}, told=told)["priority"] == 5

    def test_one_is_not_true(self) -> None:
        changed = change.changed({"enabled": True}, {"enabled": 1}, told={"enabled": True})
        assert changed["enabled"] == 1
        assert not isinstance(changed["enabled"], bool)

    @pytest.mark.parametrize(
        ("name", "detail"),
        [
            ("endpoint", "endpoint: unknown field; did you mean endpoint_url?"),
            ("zzz", "zzz: unknown field"),
            ("maxTokens", "maxTokens: unknown field; did you mean max_tokens?"),
        ],
    )
    def test_a_field_that_nobody_knows(self, name: str, detail: str) -> None:
        for write in (change.created, lambda given: change.changed({}, given)):
            with pytest.raises(Invalid) as refused:
                write({name: 1})
            assert refused.value.detail == detail

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("spec.maxTokens", "max_tokens"),
            ("spec.temperature", "temperature_default"),
            ("spec.targets[0].endpointURL", "targets[0].endpointURL"),
            ("spec.healthCheck.active", "health_check.active"),
            ("spec", "spec"),
            ("metadata.name", "metadata.name"),
            ("spec.unheard", "unheard"),
        ],
    )
    def test_a_place_by_its_name_here(self, path: str, name: str) -> None:
        assert change.named(path) == name


class TestDifference:
    @pytest.mark.parametrize(
        ("one", "other", "equal"),
        [
            (1, True, False),
            (0, False, False),
            (1, 1.0, True),
            ([1, {"a": 0}], [True, {"a": False}], False),
            ({"a": [1]}, {"a": [1]}, True),
            ({"a": None}, {}, False),
            ([], {}, False),
            ("1", 1, False),
        ],
    )
    def test_the_same_to_json(self, one: object, other: object, equal: bool) -> None:
        assert same(one, other) is equal

    def test_place_by_place(self) -> None:
        before = {"a": 1, "b": {"c": 2, "d": 3}, "gone": "x", "same": [1]}
        after = {"a": 2, "b": {"c": 2, "d": 4}, "same": [1], "new": True}
        assert differences(before, after) == (
            Difference("a", 1, 2),
            Difference("b.d", 3, 4),
            Difference("gone", "x", None),
            Difference("new", None, True),
        )

    def test_targets_go_by_their_names(self) -> None:
        mac, gpu = {"name": "mac", "weight": 1}, {"name": "gpu", "weight": 1}
        changed = differences({"targets": [mac, gpu]}, {"targets": [gpu, {**mac, "weight": 2}]})
        assert changed == (Difference("targets[mac].weight", 1, 2),)
        swapped = differences({"targets": [mac, gpu]}, {"targets": [gpu, mac]})
        assert [one.path for one in swapped] == ["targets"]
        fewer = differences({"targets": [mac, gpu]}, {"targets": [gpu]})
        assert fewer == (Difference("targets[mac]", mac, None),)

    def test_nothing(self) -> None:
        assert differences(SPEC, dict(SPEC)) == ()


class TestView:
    def test_the_public_sees_what_the_predecessor_s_did(self) -> None:
        told = view.public(Store().add(SPEC), number=4)
        assert tuple(told) == tuple(view.PUBLIC)
        assert (told["id"], told["model_name"]) == (4, "phi3:mini")

    def test_a_full_form_tells_its_targets_type(self) -> None:
        targets = [{"name": "a", "type": "ollama", "endpointURL": "http://a:1"}]
        backend = Store().add({"modelName": "m", "targets": targets})
        assert view.fields(backend)["backend_type"] == "ollama"

    def test_of_any_spec_it_is_json(self) -> None:
        odd: dict[str, Any] = {
            "modelName": {"a": date(2026, 1, 5)},
            "maxTokens": float("inf"),
            "parameters": {1: {2}},
            "targets": [None, (1, 2)],
        }
        told = view.shown(Store().add(odd, name="odd"), number=None, totals=None)
        assert json.loads(json.dumps(told, allow_nan=False))["max_tokens"] == "inf"
        assert told["problems"]

    def test_traffic_is_unknown_or_none(self) -> None:
        backend = Store().add(SPEC)
        assert view.shown(backend, number=1, totals=None)["total_requests"] is None
        none = view.shown(backend, number=1, totals=Totals())
        assert (none["total_requests"], none["avg_latency_ms"]) == (0, None)
        some = Totals(requests=2, errors=1, average_seconds=1.5, average_tokens_per_second=30.0)
        told = view.shown(backend, number=1, totals=some)
        assert (told["avg_latency_ms"], told["avg_tokens_per_sec"]) == (1500, 30.0)

    def test_a_state_is_of_this_generation(self) -> None:
        store = Store()
        backend = store.add(SPEC)
        assert (view.state(backend), view.ready(backend)) == ("accepted", True)
        store.taking = False
        changed = store.change(backend, {**SPEC, "priority": 1})
        assert (view.state(changed), view.ready(changed)) == ("pending", None)


class TestRights:
    async def test_a_right_in_all_namespaces_asks_for_no_other(self) -> None:
        gate = Gate(denied={("list", "a"), ("list", "b")})
        assert await rights.readable(gate, ME, ["a", "b"]) == {"a", "b"}

    async def test_those_that_may_be_read(self) -> None:
        gate = Gate(denied={("list", ""), ("list", "b")})
        assert await rights.readable(gate, ME, ["a", "b"]) == {"a"}
        with pytest.raises(Forbidden, match=r"me may not list llmbackends\.llm\.athena\.dev in b"):
            await rights.readable(gate, ME, ["b"])

    async def test_what_lacks_is_named(self) -> None:
        gate = Gate(denied={("create/usage", "a")})
        with pytest.raises(Forbidden, match=r"create llmbackends.*/usage in namespace a"):
            await rights.need(gate, ME, Verb.CREATE, "a", subresource="usage")
