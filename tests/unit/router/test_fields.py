"""A client's document, field by field: types, null, zero, and documents that would do harm."""

from typing import Any

import orjson
import pytest

from llm_router import fields
from llm_router.errors import Code, Refused
from llm_router.fronts import ROUTES


def refused(read: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(Refused) as caught:
        read(*arguments, **named)
    problem = caught.value.problem
    assert problem.code is Code.BAD_REQUEST
    return problem.message


class TestNumbers:
    @pytest.mark.parametrize("value", [0, 0.0, -0.0, 1, 1.5, -3])
    def test_are_kept_as_written(self, value: float) -> None:
        read = fields.number({"x": value}, "x")
        assert read == value
        assert type(read) is type(value)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_are_finite(self, value: float) -> None:
        assert "finite" in refused(fields.number, {"x": value}, "x")

    @pytest.mark.parametrize(("value", "read"), [(5, 5), (5.0, 5), (0, 0), (-1, -1), (None, None)])
    def test_whole_ones(self, value: object, read: object) -> None:
        found = fields.integer({"x": value}, "x")
        assert found == read
        assert not isinstance(found, float)

    @pytest.mark.parametrize("value", [2**63, -(2**63), 2**64 - 1, 1e300, -1e300])
    def test_larger_than_hosts_can_read(self, value: float) -> None:
        assert "64 bits" in refused(fields.integer, {"x": value}, "x")

    def test_a_minimum(self) -> None:
        assert fields.integer({"x": 0}, "x", minimum=0) == 0
        said = refused(fields.integer, {"x": -1}, "x", path="options.", minimum=0)
        assert said == "options.x: must be at least 0, is -1"


class TestOthers:
    def test_flags(self) -> None:
        assert fields.flag({"x": False}, "x", default=True) is False
        assert fields.flag({"x": None}, "x", default=True) is True
        assert fields.flag({}, "x", default=False) is False

    def test_texts(self) -> None:
        assert fields.text({"x": ""}, "x", default="d") == ""
        assert fields.text({"x": None}, "x", default="d") == "d"
        assert refused(fields.required, {"x": ""}, "x", path="a.") == "a.x: is required"

    def test_lists_of_texts(self) -> None:
        assert fields.strings({"x": "a"}, "x") == ("a",)
        assert fields.strings({"x": ["a", "b"]}, "x") == ("a", "b")
        assert fields.strings({"x": None}, "x") == ()
        assert fields.strings({"x": []}, "x") == ()

    def test_every_type_has_a_name(self) -> None:
        values = [None, True, "a", 1, 1.5, [], {}]
        names = ["null", "a boolean", "a string", "a number", "a number", "a list", "an object"]
        assert [fields.kind(value) for value in values] == names


class TestHarmful:
    """Bodies that parse, but that could not be written again for a host."""

    def test_deep_ones_are_refused_by_every_front(self) -> None:
        deep: Any = {}
        for _ in range(300):
            deep = {"a": deep}
        for path, front in ROUTES.items():
            body = {"model": "x", "prompt": "x", "tools": [deep]}
            body["messages"] = [
                {"role": "user", "content": "x", "tool_calls": [{"function": {"arguments": deep}}]}
            ]
            # NB: orjson itself can't write it.
            raw = orjson.dumps({**body, "tools": 0, "messages": 0}).replace(
                b'"tools":0', b'"tools":[' + b'{"a":' * 300 + b"{}" + b"}" * 300 + b"]"
            )
            with pytest.raises(Refused, match="nested deeper than 240 levels"):
                front.decode(raw)
            assert path

    def test_as_deep_as_allowed_can_be_written_in_every_translation(self) -> None:
        raw = b'{"a":' * 239 + b"{}" + b"}" * 239
        schema = fields.document(raw)
        assert orjson.dumps({"response_format": {"json_schema": {"schema": schema}}})

    def test_broad_ones_are_not(self) -> None:
        broad = {"messages": [{"role": "user", "content": "x"}] * 1000}
        assert len(fields.document(orjson.dumps(broad))["messages"]) == 1000

    @pytest.mark.parametrize("body", [b'"\\ud800"', b"[" * 100_000, b'{"a":1}x', b"\xef\xbb\xbf{}"])
    def test_broken_ones_are_no_json(self, body: bytes) -> None:
        assert "is not JSON" in refused(fields.document, body)
