"""The form of a spec: every field has a control, what is typed becomes the spec, rules are told."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.admin.page import form
from llm_operator.admin.page.form import CHECKED, Control, Hints, Items, Widget
from llm_operator.admin.page.items import with_item, without_item
from llm_operator.resource.fields import SPEC
from llm_operator.resource.schema import Field, Kind

CRD = yaml.safe_load((files("llm_operator.crds") / "llmbackends.yaml").read_text())
HINTS = Hints.of(CRD)
VALID = sorted((Path(__file__).resolve().parents[2] / "valid").glob("*.yaml"))


def drawn(spec: dict[str, Any]) -> form.Group:
    return form.draw(spec, HINTS)


def retyped(spec: dict[str, Any], **typed: str) -> dict[str, Any]:
    """A spec after somebody typed into its form; `__` in a name is a dot."""
    shape = drawn(spec)
    named = {name.replace("__", "."): value for name, value in typed.items()}
    assert named.keys() <= {one.path for one in form.controls(shape)}
    return form.read(shape, form.initial(shape) | named)


def leaves(field: Field, path: str) -> list[str]:
    """Paths of all that can be set, one item in each list of objects."""
    if field.kind is Kind.OBJECT and not field.extensible:
        found = []
        for name, inner in field.fields.items():
            found += leaves(inner, f"{path}.{name}" if path else name)
        return found
    if field.item is not None and field.item.kind is Kind.OBJECT:
        return leaves(field.item, f"{path}[0]")
    return [path]


def test_every_field_of_a_spec_has_a_control_with_a_hint() -> None:
    spec = {"targets": [{"headers": {"set": [{}]}}]}
    found = list(form.controls(drawn(spec)))
    assert [one.path for one in found] == leaves(SPEC, "")
    assert [one.path for one in found if not one.hint] == []


def test_every_part_stands_in_one_section() -> None:
    shape = drawn({})
    placed = [part.path for _, parts in form.sections(shape) for part in parts]
    assert sorted(placed) == sorted(part.path for part in shape.parts)


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.stem)
def test_a_spec_that_nobody_touches_stays_as_it_is_to_the_letter(file: Path) -> None:
    for manifest in yaml.safe_load_all(file.read_text()):
        spec = manifest["spec"]
        again = retyped(spec)
        assert json.dumps(again, sort_keys=True) == json.dumps(spec, sort_keys=True)
        assert form.changes(spec, again) == {}
        assert form.problems(drawn(spec), again) == {}


def test_what_is_typed_becomes_the_value_of_its_type() -> None:
    spec = retyped(
        {"modelName": "a", "backendType": "mlx"},
        priority="7",
        temperature="0.25",
        timeoutSeconds=" 30 ",
        aliases="b\r\n\r\n c \n",
        parameters__defaults='{"top_p": 0.9}',
        description="two\r\nlines",
    )
    assert spec["priority"] == 7
    assert spec["temperature"] == 0.25
    assert spec["timeoutSeconds"] == 30
    assert spec["aliases"] == ["b", "c"]
    assert spec["parameters"] == {"defaults": {"top_p": 0.9}}
    assert spec["description"] == "two\nlines"


def test_an_emptied_field_is_taken_away_and_so_is_an_emptied_group() -> None:
    given = {"modelName": "a", "backendType": "mlx", "timeouts": {"connectSeconds": 3}}
    after = retyped(given, timeouts__connectSeconds="", backendType="")
    assert after == {"modelName": "a"}
    assert form.changes(given, after) == {"backendType": None, "timeouts": None}


def test_a_box_that_is_left_alone_writes_nothing() -> None:
    assert "enabled" not in retyped({"modelName": "a"})
    assert retyped({"modelName": "a"}, enabled="")["enabled"] is False
    assert retyped({"modelName": "a", "enabled": False}, enabled=CHECKED)["enabled"] is True
    assert retyped({"modelName": "a", "enabled": True})["enabled"] is True


def test_an_empty_text_that_means_something_is_kept() -> None:
    auth = {"secretRef": {"name": "s", "key": "k"}, "scheme": ""}
    target = {"name": "t", "type": "openai", "endpointURL": "https://h", "auth": auth}
    spec = {"modelName": "a", "targets": [target]}
    shape = drawn(spec)
    typed = form.initial(shape) | {"targets[0].name": "other"}
    assert form.read(shape, typed)["targets"][0]["auth"] == auth


@pytest.mark.parametrize(
    ("path", "typed", "message"),
    [
        ("modelName", "a b", "must start with a letter or digit"),
        ("timeoutSeconds", "60s", "write a number without quotes or unit"),
        ("timeoutSeconds", "4000", "should be less than or equal to 3600"),
        ("temperature", "nan", "should be greater than or equal to 0"),
        ("endpointURL", "http://u:p@h", "must not hold a user name or password"),
        ("fallbackEndpointURL", "http://h", "only backendType auto has a fallback"),
        ("parameters.defaults", "{", "must be of type object"),
        ("priority", "1.5", "must be of type integer"),
        ("aliases", "a\na", "must not repeat modelName"),
    ],
)
def test_a_rule_is_told_at_its_field(path: str, typed: str, message: str) -> None:
    shape = drawn({"modelName": "a", "backendType": "mlx"})
    spec = form.read(shape, form.initial(shape) | {path: typed})
    found = form.problems(shape, spec)
    assert list(found) == [path]
    assert message in " ".join(found[path])


def test_what_has_no_field_of_its_own_is_told_at_the_nearest_that_has() -> None:
    shape = drawn({"modelName": "a", "unheard": 1, "parameters": {"defaults": {"model": "x"}}})
    found = form.problems(shape, {"modelName": "a", "unheard": 1, "backendType": "mlx"})
    assert found[""] == ("unheard: unknown field",)
    spec = {"modelName": "a", "backendType": "mlx", "parameters": {"defaults": {"model": "x"}}}
    (at, messages), *rest = form.problems(shape, spec).items()
    assert (at, rest) == ("parameters.defaults", [])
    assert messages[0].startswith("model: ")


def test_items_are_added_and_taken_away() -> None:
    spec = {"modelName": "a", "backendType": "mlx"}
    more = with_item(with_item(spec, "targets"), "targets")
    shape = drawn(more)
    items = next(one for one in shape.parts if isinstance(one, Items))
    assert [group.path for group in items.groups] == ["targets[0]", "targets[1]"]
    again = form.read(shape, form.initial(shape) | {"targets[1].name": "second"})
    assert again["targets"] == [{}, {"name": "second"}], "an empty one is one that lacks its name"
    assert form.problems(shape, again)["targets[0].name"] == ("Required value",)
    assert without_item(again, "targets[0]")["targets"] == [{"name": "second"}]
    assert without_item(without_item(again, "targets[0]"), "targets[0]") == spec


def test_items_within_items() -> None:
    spec = with_item({"targets": [{"name": "t"}]}, "targets[0].headers.set")
    assert spec == {"targets": [{"name": "t", "headers": {"set": [{}]}}]}
    assert without_item(spec, "targets[0].headers.set[0]") == {"targets": [{"name": "t"}]}


def test_a_choice_offers_what_the_schema_allows() -> None:
    kind = next(one for one in form.controls(drawn({})) if one.path == "backendType")
    assert isinstance(kind, Control)
    assert kind.widget is Widget.CHOICE
    assert kind.options == ("ollama", "mlx", "openai", "auto")


def test_a_group_says_whether_it_is_given() -> None:
    given = {
        part.path: part.given
        for part in drawn({"timeouts": {"connectSeconds": 1}}).parts
        if isinstance(part, form.Group)
    }
    assert given["timeouts"]
    assert not given["fallback"]
