"""`llmb validate` and `llmb render`: what they print, and how they end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

TESTS = Path(__file__).resolve().parents[2]
INVALID = sorted((TESTS / "invalid").glob("*.yaml"))
GOLDEN = sorted((TESTS / "golden" / "routing").glob("*.yaml"))

DEFAULTS = {
    "LLMB_DEFAULT_OLLAMA_URL": "http://ollama.default:11434",
    "LLMB_DEFAULT_MLX_URL": "http://mlx.default:8080",
}


def llmb(
    *words: str | Path, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llm_operator.cli", *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=env or {},
    )


def backend(name: str, *, namespace: str = "ai", paused: bool = False, **spec: Any) -> str:
    usual = {"modelName": "phi3:mini", "backendType": "ollama", "endpointURL": "http://h:1"}
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if paused:
        metadata["annotations"] = {"llm.athena.dev/paused": "true"}
    manifest = {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": metadata,
        "spec": {key: value for key, value in (usual | spec).items() if value is not None},
    }
    return f"---\n{yaml.safe_dump(manifest)}"


class TestValidate:
    def test_all_that_is_valid_passes(self) -> None:
        ran = llmb("validate", TESTS / "valid", "--output", "json")
        told = json.loads(ran.stdout)
        assert (ran.returncode, told["valid"]) == (0, True)
        assert told["checked"] == len(list((TESTS / "valid").glob("*.yaml")))
        # NB: many of them claim the same name.
        assert {finding["severity"] for finding in told["findings"]} == {"warning"}

    def test_every_invalid_manifest_is_found_by_its_field(self) -> None:
        ran = llmb("validate", TESTS / "invalid")
        assert ran.returncode == 1
        for file in INVALID:
            lines = [one for one in ran.stdout.splitlines() if one.startswith(f"{file}:1: ")]
            assert lines, f"nothing is said of {file.name}"

    def test_says_where_and_why(self) -> None:
        text = backend("ok") + backend("bad", modelName="m", priority=-1, backendType="lama")
        ran = llmb("validate", "-", stdin=text)
        assert ran.returncode == 1
        kinds = '"ollama", "mlx", "openai", "auto"'
        # NB: the text begins with ---, which begins the first document.
        assert ran.stdout.splitlines() == [
            f'stdin:2: spec.backendType: "lama" is none of the supported values: {kinds}',
            "stdin:2: spec.priority: should be greater than or equal to 0, is -1",
        ]
        assert ran.stderr == "2 LLMBackends checked: 1 wrong.\n"

    def test_two_that_claim_one_name_are_a_warning_with_the_winner(self) -> None:
        text = backend("b", aliases=["fast"]) + backend("a", priority=200)
        text += backend("c", modelName="m", aliases=["fast"])
        text += backend("d", namespace="other")
        ran = llmb("validate", "-", stdin=text)
        assert ran.returncode == 0
        assert ran.stdout.splitlines() == [
            "stdin:2: warning: spec.modelName: Model name 'phi3:mini' belongs to b, "
            "which precedes it.",
            "stdin:3: warning: spec.aliases: Alias 'fast' belongs to b, which precedes it.",
        ]
        assert "lowest spec.priority, then the oldest" in ran.stderr
        assert ran.stderr.endswith("4 LLMBackends checked: all valid, 2 warnings.\n")

    def test_other_kinds_are_said_once(self) -> None:
        text = "kind: Service\n---\nkind: Service\n---\nkind: Role\n" + backend("a")
        ran = llmb("validate", "-", stdin=text)
        assert (ran.returncode, ran.stdout) == (0, "")
        assert ran.stderr.splitlines() == [
            "Not looked at, being no LLMBackends: 2 Service, 1 Role.",
            "1 LLMBackend checked: all valid.",
        ]

    def test_nothing_to_check_is_said(self) -> None:
        ran = llmb("validate", "-", stdin="kind: Service\n")
        assert ran.returncode == 0
        assert "There is no LLMBackend in what was given." in ran.stderr

    def test_as_json(self) -> None:
        ran = llmb("validate", "-", "--output", "json", stdin=backend("a", modelName=None))
        assert (ran.returncode, ran.stderr) == (1, "")
        assert json.loads(ran.stdout) == {
            "checked": 1,
            "skipped": {},
            "valid": False,
            "findings": [
                {
                    "file": "stdin",
                    "document": 1,
                    "resource": "ai/a",
                    "field": "spec.modelName",
                    "message": "Required value",
                    "severity": "error",
                }
            ],
        }

    def test_a_file_that_is_not_there_is_wrong_use(self) -> None:
        ran = llmb("validate", "nix.yaml")
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr == "llmb validate: nix.yaml: No such file or directory\n"

    def test_what_a_manifest_says_can_not_drive_a_terminal(self) -> None:
        ran = llmb("validate", "-", stdin='kind: LLMBackend\napiVersion: "\\e[2J"\n')
        assert ran.returncode == 1
        assert ran.stdout.replace("\n", "").isprintable()


class TestRender:
    @pytest.mark.parametrize(
        "case", [case for case in GOLDEN if case.stem != "mixed"], ids=lambda case: case.stem
    )
    def test_prints_the_bytes_of_the_golden_files(self, case: Path) -> None:
        ran = llmb("render", case, env=DEFAULTS)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.encode() == case.with_suffix(".json").read_bytes()

    def test_addresses_may_be_flags(self) -> None:
        text = backend("a", backendType="auto", endpointURL=None)
        flags = ("--default-ollama-url", "http://o:1", "--default-mlx-url", "http://m:2/")
        ran = llmb("render", "-", *flags, stdin=text, env=DEFAULTS)
        assert ran.returncode == 0, ran.stderr
        (route,) = json.loads(ran.stdout)["routes"]
        assert [target["url"] for target in route["targets"]] == ["http://m:2", "http://o:1"]

    def test_without_one_it_says_which_flag(self) -> None:
        ran = llmb("render", "-", stdin=backend("a", endpointURL=None))
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "spec.endpointURL: not set" in ran.stderr
        assert "--default-ollama-url" in ran.stderr

    def test_prints_nothing_when_something_is_invalid(self) -> None:
        ran = llmb("render", "-", stdin=backend("ok") + backend("bad", priority=-1))
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr.startswith("stdin:2: spec.priority: should be greater")

    def test_or_when_one_name_is_there_twice(self) -> None:
        ran = llmb("render", "-", stdin=backend("a") + backend("a"))
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "ai/a is in stdin:1 too" in ran.stderr

    def test_of_several_namespaces_one_has_to_be_named(self) -> None:
        text = backend("a") + backend("b", namespace="other")
        ran = llmb("render", "-", stdin=text)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "ai, other" in ran.stderr
        assert "--namespace" in ran.stderr
        ran = llmb("render", "-", "-n", "other", stdin=text)
        assert ran.returncode == 0
        assert [route["name"] for route in json.loads(ran.stdout)["routes"]] == ["b"]

    def test_who_loses_a_name_is_a_note(self) -> None:
        ran = llmb("render", "-", stdin=backend("a") + backend("b"))
        assert ran.returncode == 0
        assert "note: stdin:2: ai/b: Model name 'phi3:mini' belongs to a" in ran.stderr

    def test_a_paused_one_is_rendered_as_it_will_be_and_it_is_said(self) -> None:
        ran = llmb("render", "-", stdin=backend("a", paused=True))
        assert len(json.loads(ran.stdout)["routes"]) == 1
        assert "ai/a is paused" in ran.stderr

    def test_a_default_that_is_no_url_is_wrong_use(self) -> None:
        ran = llmb("render", "-", "--default-mlx-url", "nix", stdin=backend("a"))
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "LLMB_DEFAULT_MLX_URL: 'nix' is not a URL" in ran.stderr


class TestHelp:
    @pytest.mark.parametrize("command", ["validate", "render", "status", "uninstall"])
    def test_of_each_command_has_an_example_and_fits_a_terminal(self, command: str) -> None:
        ran = llmb(command, "--help")
        assert ran.returncode == 0
        assert f"\nexample:\n  llmb {command}" in ran.stdout
        assert max(map(len, ran.stdout.splitlines())) <= 90

    def test_lists_every_command_on_a_line(self) -> None:
        ran = llmb("--help")
        assert "  uninstall  let LLMBackends go" in ran.stdout

    @pytest.mark.parametrize("command", ["validate", "render"])
    def test_without_a_file_is_wrong_use(self, command: str) -> None:
        assert llmb(command).returncode == 2

    def test_uninstall_without_its_flag_explains_the_order(self) -> None:
        ran = llmb("uninstall")
        assert (ran.returncode, ran.stdout) == (2, "")
        first, last = ran.stderr.index("kubectl delete llmbackends"), ran.stderr.index("--strip")
        assert first < last


def test_needs_no_client_of_a_cluster_or_a_database() -> None:
    program = (
        "import sys\n"
        "for name in ('kopf', 'kubernetes', 'aiohttp', 'psycopg', 'psycopg_pool', 'fastapi'):\n"
        "    sys.modules[name] = None\n"
        "import llm_operator.command.validate, llm_operator.command.render\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
