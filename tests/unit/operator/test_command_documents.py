"""Files, folders and standard input -> documents, and the LLMBackends in them."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_operator.command.documents import Document, Unreadable, documents, read
from llm_operator.command.manifests import load


def backend(name: str = "phi", *, namespace: str = "", **metadata: Any) -> dict[str, Any]:
    where = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": name, **where, **metadata},
        "spec": {"modelName": name, "backendType": "ollama", "endpointURL": "http://h:11434"},
    }


def found(text: str, file: str = "a.yaml") -> list[tuple[int, Any, str]]:
    return [(one.number, one.body, one.fault) for one in documents(file, text)]


def given(*bodies: Any) -> list[Document]:
    return [Document(file="a.yaml", number=n, body=body) for n, body in enumerate(bodies, start=1)]


class TestDocuments:
    def test_of_yaml_are_counted_with_the_empty_ones(self) -> None:
        text = "a: 1\n---\n# nothing\n---\nb: 2\n"
        assert found(text) == [(1, {"a": 1}, ""), (3, {"b": 2}, "")]

    def test_of_json_may_follow_each_other_and_hold_tabs(self) -> None:
        assert found('{\t"a": 1}\n\n{"b":\t2}', "a.json") == [(1, {"a": 1}, ""), (2, {"b": 2}, "")]

    def test_on_stdin_may_be_either(self) -> None:
        assert found('{\t"a": 1}', "stdin") == [(1, {"a": 1}, "")]
        assert found("{a: 1}", "stdin") == [(1, {"a": 1}, "")]

    def test_a_syntax_error_is_told_with_its_line(self) -> None:
        first, second = found("a: 1\n---\nb: [\n")
        assert first == (1, {"a": 1}, "")
        assert second[0] == 2
        assert second[2].startswith("line 4, column 1: ")

    def test_of_json_too(self) -> None:
        ((number, body, fault),) = found('{"a": }', "a.json")
        assert (number, body) == (1, None)
        assert fault.startswith("line 1, column 7: ")

    def test_a_key_that_is_there_twice_is_told_and_hides_nothing_after_it(self) -> None:
        first, second = found("s:\n  a: 1\n  a: 2\n---\nb: 2\n")
        assert first == (1, None, "line 3: the key 'a' is in line 2 already")
        assert second == (2, {"b": 2}, "")

    def test_in_json_too(self) -> None:
        ((_, _, fault),) = found('{"a": 1, "a": 2}', "a.json")
        assert fault == 'the key "a" is there twice'

    def test_merge_keys_and_anchors_are_no_repetition(self) -> None:
        ((_, body, fault),) = found("x: &x {a: 1}\ny: &y {b: 1}\nz: {<<: *x, <<: *y, a: 2}\n")
        assert fault == ""
        assert body["z"] == {"a": 2, "b": 1}

    @pytest.mark.parametrize(
        ("file", "text"), [("a.yaml", "[" * 5000), ("a.json", "[" * 200_000)], ids=["yaml", "json"]
    )
    def test_depth_without_end_is_a_fault_like_any_other(self, file: str, text: str) -> None:
        ((_, _, fault),) = found(text, file)
        assert fault

    @pytest.mark.parametrize(
        ("word", "value"),
        [
            ("n", False),
            ("Y", True),
            ("off", False),
            ("yes", True),
            ("'n'", "n"),
            ("none", "none"),
            ("1e3", 1000.0),
            ("1e-1", 0.1),
            (".5", 0.5),
            ("0o17", 15),
            ("017", 15),
            ("08", 8.0),
            ("0x1F", 31),
            ("1_000", 1000),
            ("-3", -3),
            ("12:30", "12:30"),
            ("2026-01-01", "2026-01-01"),
            ("2026-13-45", "2026-13-45"),
            ("phi3:3.8b", "phi3:3.8b"),
            ("~", None),
        ],
    )
    def test_a_word_without_quotes_is_what_it_is_to_kubectl(self, word: str, value: object) -> None:
        assert found(f"a: {word}\n") == [(1, {"a": value}, "")]

    def test_a_tag_that_does_not_fit_is_a_fault(self) -> None:
        ((_, _, fault),) = found("a: !!int x\n")
        assert fault.startswith("line 1")

    def test_a_list_is_taken_apart(self) -> None:
        items = {"kind": "List", "apiVersion": "v1", "items": [{"a": 1}, {"b": 2}]}
        assert [(one.place, one.within) for one in documents("x", json.dumps(items))] == [
            ("x:1", "items[0]."),
            ("x:1", "items[1]."),
        ]


class TestRead:
    def test_a_folder_is_every_manifest_in_it_and_below(self, tmp_path: Path) -> None:
        for name in ("b.yaml", "a.yml", "deep/c.json", ".git/d.yaml", "e.txt"):
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text("{}")
        names = [Path(one.file).relative_to(tmp_path) for one in read([str(tmp_path)])]
        assert [str(name) for name in names] == ["a.yml", "b.yaml", "deep/c.json"]

    def test_a_dash_is_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("a: ü".encode())))
        assert read(["-"]) == [Document(file="stdin", number=1, body={"a": "ü"})]

    def test_what_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(Unreadable, match=r"nix\.yaml: No such file"):
            read([str(tmp_path / "nix.yaml")])

    def test_an_empty_folder_too(self, tmp_path: Path) -> None:
        with pytest.raises(Unreadable, match="there is no"):
            read([str(tmp_path)])

    def test_bytes_that_are_no_text_too(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\xfa")
        with pytest.raises(Unreadable, match="UTF-8"):
            read([str(tmp_path / "a.yaml")])

    def test_standard_input_is_there_once(self) -> None:
        with pytest.raises(Unreadable, match="once"):
            read(["-", "-"])


class TestLoad:
    def test_other_kinds_are_counted_and_left_alone(self) -> None:
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": 5}
        loaded = load(given(deployment, backend(), deployment, {"replicas": 2}))
        assert loaded.skipped == {"Deployment": 2, "no kind": 1}
        assert (loaded.checked, len(loaded.manifests), loaded.findings) == (1, 1, ())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"apiVersion": "llm.athena.dev/v2"}, "apiVersion is"),
            ({"apiVersion": "other.dev/v1"}, "apiVersion is"),
            ({"kind": "LLMbackend"}, "kind is"),
            ({"metadata": {}}, "metadata.name is"),
        ],
    )
    def test_what_is_meant_to_be_one_and_is_none_is_an_error(
        self, change: dict[str, Any], message: str
    ) -> None:
        loaded = load(given(backend() | change))
        (finding,) = loaded.findings
        assert (finding.warning, loaded.manifests) == (False, ())
        assert finding.message.startswith(message)

    def test_so_is_what_is_no_manifest_at_all(self) -> None:
        (finding,) = load(given(["x"])).findings
        assert str(finding) == "a.yaml:1: a manifest is a mapping, this is a list"

    def test_a_namespace_is_given_to_those_that_name_none(self) -> None:
        loaded = load(given(backend("a"), backend("b", namespace="own")), namespace="ai")
        names = [str(one.resource.identity) for one in loaded.manifests]
        assert names == ["ai/a", "own/b"]

    def test_the_place_of_a_mistake_in_a_list_is_told(self) -> None:
        wrong = backend() | {"spec": {"backendType": "ollama"}}
        items = {"kind": "List", "items": [backend("ok"), wrong]}
        (finding,) = load(documents("stdin", json.dumps(items))).findings
        assert str(finding) == "stdin:1: items[1].spec.modelName: Required value"

    def test_of_two_under_one_name_the_last_counts_and_it_is_said(self) -> None:
        loaded = load(given(backend(generation=1), backend(generation=2)))
        (one,) = loaded.manifests
        assert one.resource.identity.generation == 2
        (finding,) = loaded.findings
        assert finding.warning
        assert "a.yaml:1 too" in finding.message

    def test_a_uid_is_made_where_there_is_none_and_where_it_is_a_copy(self) -> None:
        bodies = backend("a"), backend("b", uid="u"), backend("c", uid="u")
        once, again = (load(given(*bodies)).manifests for _ in range(2))
        uids = [one.resource.identity.uid for one in once]
        assert uids[1] == "u"
        assert len(set(uids)) == 3
        assert [one.named for one in once] == [False, True, False]
        assert [one.resource.identity.uid for one in again] == uids
