"""Text of YAML that is changed in one place, and values that every reader takes for the same."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llm_operator.admin.store import edit, words
from llm_operator.command.syntax import bodies

#: As people write them: comments at every place, quotes of both kinds, odd spaces, anchors, a flow
#: mapping, a block of text, another document.
ODD = """\
# The models of the study.
# Ask before you change one.

apiVersion: llm.athena.dev/v1alpha1
kind: LLMBackend   # not to be changed
metadata:
    name: phi
    labels: {team: "voice", 'tier': gold}   # both are ours
spec:
    modelName:   phi3:mini      # what callers say
    # MLX first: it is twice as fast.
    backendType: 'auto'

    endpointURL: &mac "http://mac:8080"    # the studio
    parameters: {defaults: {seed: 7, stop: ["a", 'b']}, overrides: {}}
    targets:
    - name: first   # the first
      type: mlx
      endpointURL: *mac
      tier: 0

    # the second is slow
    - {name: second, type: ollama, endpointURL: http://slow}
    description: |
      One line.

      Another: with a colon.   # no comment

    # the last word
# The end.
---
# Somebody else's.
apiVersion: llm.athena.dev/v1alpha1
kind: LLMBackend
metadata: {name: other}
spec: {modelName: other, backendType: ollama}
"""

Change = Callable[[dict[str, Any]], object]


def changed(text: str, change: Change, *, number: int = 0) -> str:
    """The text after a change of its spec, which is checked to read as wanted."""
    wanted = list(yaml.safe_load_all(text))
    change(wanted[number]["spec"])
    after = edit.replaced(text, number, wanted[number])
    assert list(yaml.safe_load_all(after)) == wanted
    return after


def difference(before: str, after: str) -> tuple[list[str], list[str]]:
    """The lines that went, and those that came."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return [line.rstrip("\n") for line in old], [line.rstrip("\n") for line in new]


@pytest.mark.parametrize(
    ("change", "went", "came"),
    [
        (
            lambda spec: spec.update(modelName="phi4"),
            ["    modelName:   phi3:mini      # what callers say"],
            ["    modelName:   phi4      # what callers say"],
        ),
        (
            lambda spec: spec.update(backendType="mlx"),
            ["    backendType: 'auto'"],
            ["    backendType: 'mlx'"],
        ),
        (lambda spec: spec.pop("backendType"), ["    backendType: 'auto'"], []),
        (
            lambda spec: spec["parameters"]["defaults"].update(seed=8),
            ["    parameters: {defaults: {seed: 7, stop: [\"a\", 'b']}, overrides: {}}"],
            ["    parameters: {defaults: {seed: 8, stop: [\"a\", 'b']}, overrides: {}}"],
        ),
        (
            lambda spec: spec["parameters"]["defaults"]["stop"].append("on"),
            ["    parameters: {defaults: {seed: 7, stop: [\"a\", 'b']}, overrides: {}}"],
            ['    parameters: {defaults: {seed: 7, stop: ["a", \'b\', "on"]}, overrides: {}}'],
        ),
        (
            lambda spec: spec["parameters"].pop("defaults"),
            ["    parameters: {defaults: {seed: 7, stop: [\"a\", 'b']}, overrides: {}}"],
            ["    parameters: {overrides: {}}"],
        ),
        (
            lambda spec: spec["targets"][0].update(tier=1),
            ["      tier: 0"],
            ["      tier: 1"],
        ),
        (
            lambda spec: spec["targets"][0].pop("name"),
            ["    - name: first   # the first", "      type: mlx"],
            ["    - type: mlx"],
        ),
        (
            lambda spec: spec["targets"].pop(1),
            ["    - {name: second, type: ollama, endpointURL: http://slow}"],
            [],
        ),
        (
            lambda spec: spec["targets"].reverse(),
            [
                "    - name: first   # the first",
                "      type: mlx",
                "      endpointURL: *mac",
                "      tier: 0",
                "",
                "    # the second is slow",
                "    - {name: second, type: ollama, endpointURL: http://slow}",
            ],
            [
                "    - name: second",
                "      type: ollama",
                "      endpointURL: http://slow",
                "    - name: first   # the first",
                "      type: mlx",
                "      endpointURL: *mac",
                "      tier: 0",
                "",
                "    # the second is slow",
            ],
        ),
        (
            lambda spec: spec["targets"].append({"name": "third", "headers": {"remove": ["X"]}}),
            [],
            ["    - name: third", "      headers:", "        remove:", "          - X"],
        ),
        (
            lambda spec: spec.update(description="One.\nTwo."),
            [
                "    description: |",
                "      One line.",
                "",
                "      Another: with a colon.   # no comment",
            ],
            ["    description: |-", "      One.", "      Two."],
        ),
        (
            lambda spec: spec.update(temperature=0.5),
            [],
            ["    temperature: 0.5"],
        ),
        (
            # NB: who refers to it keeps the value that was referred to.
            lambda spec: spec.update(endpointURL="http://new"),
            [
                '    endpointURL: &mac "http://mac:8080"    # the studio',
                "    parameters: {defaults: {seed: 7, stop: [\"a\", 'b']}, overrides: {}}",
                "    targets:",
                "    - name: first   # the first",
                "      type: mlx",
                "      endpointURL: *mac",
            ],
            [
                '    endpointURL: &mac "http://new"    # the studio',
                "    parameters: {defaults: {seed: 7, stop: [\"a\", 'b']}, overrides: {}}",
                "    targets:",
                "    - name: first   # the first",
                "      type: mlx",
                "      endpointURL: http://mac:8080",
            ],
        ),
        (
            lambda spec: spec["targets"][0].update(endpointURL="http://new"),
            ["      endpointURL: *mac"],
            ["      endpointURL: http://new"],
        ),
        (
            lambda spec: spec["parameters"].clear(),
            ["    parameters: {defaults: {seed: 7, stop: [\"a\", 'b']}, overrides: {}}"],
            ["    parameters: {}"],
        ),
    ],
)
def test_one_change_is_all_that_changes(change: Change, went: list[str], came: list[str]) -> None:
    assert difference(ODD, changed(ODD, change)) == (went, came)


def test_what_comes_takes_its_place_in_order() -> None:
    text = "spec:\n  modelName: a\n  backendType: mlx # c\n\n  priority: 3\n"

    def change(spec: dict[str, Any]) -> None:
        before = dict(spec)
        spec.clear()
        spec |= {"modelName": "a", "backendType": "mlx", "endpointURL": "http://x"}
        spec |= {"priority": before["priority"], "description": "d"}

    assert changed(text, change) == (
        "spec:\n  modelName: a\n  backendType: mlx # c\n  endpointURL: http://x\n\n"
        "  priority: 3\n  description: d\n"
    )


def test_the_other_document_is_changed_alone() -> None:
    after = changed(ODD, lambda spec: spec.update(enabled=False), number=1)
    assert difference(ODD, after) == (
        ["spec: {modelName: other, backendType: ollama}"],
        ["spec: {modelName: other, backendType: ollama, enabled: false}"],
    )


def test_line_ends_of_another_system_stay() -> None:
    text = ODD.replace("\n", "\r\n")
    after = changed(text, lambda spec: spec.update(temperature=0.5, description="a\nb\n"))
    assert after.count("\r\n") == after.count("\n")
    assert "    temperature: 0.5\r\n" in after
    assert "    description: |\r\n      a\r\n      b\r\n" in after


def test_a_file_without_a_last_line_end() -> None:
    text = "spec:\n  modelName: a"
    assert changed(text, lambda spec: spec.update(priority=1)) == (
        "spec:\n  modelName: a\n  priority: 1"
    )


def test_a_text_takes_no_comment_that_stands_deep_for_its_own() -> None:
    text = "spec:\n  a: 1\n\n      # deep\n  b: 2\n"
    after = changed(text, lambda spec: spec.update(a="one\ntwo\n"))
    assert after == 'spec:\n  a: "one\\ntwo\\n"\n\n      # deep\n  b: 2\n'
    after = changed(text, lambda spec: spec.update(a={"c": "one\ntwo\n"}))
    assert after == 'spec:\n  a:\n    c: "one\\ntwo\\n"\n\n      # deep\n  b: 2\n'


def test_json_stays_json() -> None:
    text = json.dumps({"spec": {"modelName": "a", "targets": [{"name": "x"}]}}, indent=2)

    def change(spec: dict[str, Any]) -> None:
        spec["modelName"] = "b"
        spec["targets"].append({"name": "y", "tier": 1})
        spec["description"] = 'say "on"\n'
        spec["enabled"] = True

    after = changed(text, change)
    assert json.loads(after)["spec"]["description"] == 'say "on"\n'
    assert '\n    "enabled": true' in after


def test_json_on_one_line() -> None:
    text = '{"spec": {"modelName": "a", "priority": 1, "enabled": true}}'
    assert changed(text, lambda spec: spec.pop("modelName")) == (
        '{"spec": {"priority": 1, "enabled": true}}'
    )
    assert changed(text, lambda spec: spec.pop("enabled")) == (
        '{"spec": {"modelName": "a", "priority": 1}}'
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.update(priority=2),
        lambda spec: spec.pop("priority"),
        lambda spec: spec.pop("enabled"),
        lambda spec: (spec.pop("priority"), spec.update(enabled=True)),
        lambda spec: spec.clear() or spec.update(modelName="b"),
    ],
)
def test_what_is_merged_in_is_overridden_or_written_out(change: Change) -> None:
    text = (
        "base: &base {priority: 1, enabled: false}  # of all\n"
        "spec:\n  <<: *base\n  modelName: a  # a\n  enabled: true\n"
    )
    after = changed(text, change)
    assert "base: &base {priority: 1, enabled: false}  # of all\n" in after


def test_an_anchor_that_goes_leaves_its_value() -> None:
    text = "spec:\n  timeouts: &t\n    connectSeconds: 1\n  more: *t\n  name: a\n"
    after = changed(text, lambda spec: spec.pop("timeouts"))
    assert after == "spec:\n  more: {connectSeconds: 1}\n  name: a\n"


def test_within_an_anchor() -> None:
    text = "spec:\n  timeouts: &t\n    connectSeconds: 1 # s\n  more: *t\n"
    after = changed(text, lambda spec: spec["timeouts"].update(connectSeconds=2) or None)
    # NB: PyYAML gives both names one mapping, so that both were meant.
    assert after == "spec:\n  timeouts: &t\n    connectSeconds: 2 # s\n  more: *t\n"
    other = edit.replaced(
        text, 0, {"spec": {"timeouts": {"connectSeconds": 2}, "more": {"connectSeconds": 1}}}
    )
    assert "connectSeconds: 2 # s\n" in other
    assert yaml.safe_load(other)["spec"]["more"] == {"connectSeconds": 1}


@pytest.mark.parametrize("text", ["- a\n", "~\n", "a\n", "{}\n", "---\n"])
def test_what_can_not_be_changed_is_said(text: str) -> None:
    with pytest.raises(edit.Unwritable):
        edit.replaced(text, 0, {"spec": {}})


def test_an_anchor_and_who_refers_to_it_change_together() -> None:
    text = "spec:\n  a: &url http://a # a\n  b: *url # b\n"
    after = changed(text, lambda spec: spec.update(a="http://n", b="http://n"))
    assert after == "spec:\n  a: &url http://n # a\n  b: *url # b\n"


def test_documents_that_go() -> None:
    first = ODD[ODD.index("apiVersion") : ODD.index("---")]
    assert edit.removed(ODD, 1) == ODD[: ODD.index("---")]
    assert edit.removed(ODD, 0) == ODD.replace(first, "")
    three = "a: 1\n--- # two\nb: 2\n...\n---\nc: 3\n"
    assert edit.removed(three, 1) == "a: 1\n---\nc: 3\n"


# Values that all readers take for the same.

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LOOKALIKES = """
y n Y N yes no on off true false null ~ NULL 012 0x1f 0o17 1e3 1_000 12:30 2026-01-01 .5 .inf 1.0 -1
+1 - -- --- ... ? : , [ ] { } # & * ! | > ' " % @ ` = << a:b a: a#b http://x:1/y phi3:mini key:
""".split()
SPACED = ["", " ", " a", "a ", "a: b", "a #b", "a\n", "a\nb", "a\nb\n", "a\n\n", "\n", "a\n b\n"]
UNSHOWN = [
    "\x85",
    "\u2028",
    "\ufeff",
    "\x7f",
    "\x00",
    "a\r\nb",
    "\t",
    "a:\tb",
    "\U0001f600",
    "\uffff",
]
awkward = st.sampled_from([*LOOKALIKES, *SPACED, *UNSHOWN])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | awkward,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | awkward, inner, max_size=3),
    max_leaves=8,
)


def read_alike(text: str, wanted: object) -> None:
    ours = yaml.safe_load(text)
    assert edit.same(ours, wanted), text
    ((kubectl, fault),) = bodies("x.yaml", text)
    assert fault == ""
    assert edit.same(kubectl, wanted), text


@settings(deadline=None, max_examples=150)
@given(values)
def test_a_value_is_read_alike(value: object) -> None:
    read_alike(f"# c\nk:{words.after_key(value, 0)}\nz: 1\n", {"k": value, "z": 1})
    read_alike(f"# c\n-{words.item(value, 0)}\n- 1\n", [value, 1])
    for style in ("", "'", '"'):
        read_alike(f"# c\n[{words.scalar(value, style=style, flow=True)}, 1]", [value, 1])


@pytest.mark.parametrize("text", ["phi3:mini", "http://mac:8080/v1", "a b", "/x", "MLX", "a.b-c_d"])
def test_a_plain_text_needs_no_quotes(text: str) -> None:
    assert words.scalar(text) == text


@pytest.mark.parametrize("text", ["on", "Y", "null", "12", "1e3", "0x1", "a: b", "a #b", "", "~"])
def test_a_text_that_some_reader_mistakes_has_quotes(text: str) -> None:
    assert words.scalar(text) == f'"{text}"'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        words.scalar(value)


# Whatever a person wrote, one field that changes changes its own lines.

comments = st.sampled_from(["", " # c", "   # a: b", "\t# tab", " #"])
ABOVE = ([], [""], ["# above"], ["  # above: 'it", ""])
#: NB: a comment that stands deeper than a text before it is part of that text.
DEEP = ["", "", "        # deep"]
leaves = st.sampled_from(
    ["phi3:mini", "'it''s'", '"a\\tb"', "7", "-1", "0.50", "true", "off", "~", "''", "1_000"]
)


@st.composite
def written(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Lines before the entries of a spec, and the lines of each entry."""
    indent = " " * draw(st.integers(1, 5))
    head = [f"spec:{draw(comments)}"]
    entries: list[list[str]] = []
    kinds, above = ["leaf", "flow", "map", "list", "same"], [*ABOVE]
    if draw(st.booleans()):
        kinds += ["text", "folded"]
    else:
        above += [DEEP]
    for number in range(draw(st.integers(2, 6))):
        key = draw(st.sampled_from(["k{}", "'k{}'", '"k{}"'])).format(number)
        before, kind = draw(st.sampled_from(above)), draw(st.sampled_from(kinds))
        gap = " " * draw(st.integers(1, 3))
        # NB: no |+ and no >+, to which the empty lines of whatever goes would be added.
        if kind == "leaf":
            lines = [f"{indent}{key}:{gap}{draw(leaves)}{draw(comments)}"]
        elif kind == "flow":
            lines = [f"{indent}{key}:{gap}{{a:  {draw(leaves)}, b: [ 1,2 ]}}{draw(comments)}"]
        elif kind == "map":
            lines = [f"{indent}{key}:{draw(comments)}", f"{indent}  a: {draw(leaves)}"]
        elif kind == "list":
            lines = [
                f"{indent}{key}:",
                f"{indent}-  {draw(leaves)}",
                f"{indent}-  x{draw(comments)}",
            ]
        elif kind == "same":
            lines = [f"{indent}{key}:", f"{indent}    - name: a", f"{indent}      b: 1"]
        else:
            mark = ">" if kind == "folded" else "|"
            lines = [f"{indent}{key}:{gap}{mark}{draw(st.sampled_from(['', '-']))}"]
            lines += [f"{indent}   one # none", "", f"{indent}   two"]
        entries.append([*before, *lines])
    return head, entries


@settings(deadline=None, max_examples=120)
@given(written(), st.data())
def test_every_other_line_stays(text_of: tuple[list[str], list[list[str]]], data: Any) -> None:
    head, entries = text_of
    newline = data.draw(st.sampled_from(["\n", "\r\n"]))
    tail = data.draw(st.sampled_from([[], ["# end"], ["", "# end", "---", "b: 2 # b"]]))
    number = data.draw(st.integers(0, len(entries) - 1))
    lines = [line for part in (head, *entries, tail) for line in part]
    text = newline.join(lines) + newline
    try:
        before = list(yaml.safe_load_all(text))
    except yaml.YAMLError:
        assume(False)
    wanted = json.loads(json.dumps(before[0]))
    gone = data.draw(st.booleans())
    if gone:
        del wanted["spec"][f"k{number}"]
    else:
        wanted["spec"][f"k{number}"] = data.draw(values)
    after = edit.replaced(text, 0, wanted)
    assert edit.same(list(yaml.safe_load_all(after)), [wanted, *before[1:]])
    own = [line for line in entries[number] if line.strip() and not line.strip().startswith("#")]
    others = [part for at, part in enumerate(entries) if at != number]
    kept = [line for part in (head, *others, tail) for line in part]
    left = after.split(newline)
    for line in kept:
        assert line in left, "a line of others is gone"
        left.remove(line)
    if gone:
        assert not [line for line in left if line in own and line not in kept and line.strip()]
