"""The layout's own traps: folders that must not be packages, data that must reach the wheel."""

import ast
import operator
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", ["operator", "router_sidecar", "contract"])
def test_a_source_root_is_no_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


def test_operator_is_the_standard_library_s() -> None:
    assert Path(operator.__file__).parent == Path(sysconfig.get_paths()["stdlib"])


def test_python_starts_with_the_root_on_its_path() -> None:
    program = "import collections, functools, asyncio, operator; operator.itemgetter"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr


def test_the_router_needs_neither_kopf_nor_kubernetes_nor_postgres() -> None:
    program = (
        "import sys\n"
        "for name in ('kopf', 'kubernetes', 'psycopg', 'psycopg_pool', 'yaml', 'llm_operator'):\n"
        "    sys.modules[name] = None\n"
        "import llm_router.cli, llm_router.management\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert ran.returncode == 0, ran.stderr


def test_migrations_and_the_crd_are_package_data() -> None:
    assert files("llm_operator.crds").joinpath("llmbackends.yaml").is_file()
    names = {path.name for path in files("llm_operator.migrations").iterdir()}
    assert {path.name for path in (ROOT / "migrations").glob("*.sql")} <= names


def test_no_lock_names_a_registry() -> None:
    for lock in (ROOT / "locks").glob("*.txt"):
        assert (
            re.findall(r"https?://\S+|--(?:extra-)?index-url|--find-links", lock.read_text()) == []
        )


@pytest.mark.parametrize(
    "command",
    [
        ["llmb"],
        ["llmb", "up"],
        ["llmb", "operator"],
        ["llmb", "migrate"],
        ["llmb", "simulate"],
        ["llmb", "explain"],
        ["llmb", "admin"],
        ["llmb", "compare"],
        ["llmb", "import"],
        ["llm-router"],
    ],
)
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    module = {"llmb": "llm_operator.cli", "llm-router": "llm_router.cli"}[command[0]]
    ran = subprocess.run(
        [sys.executable, "-m", module, *command[1:], "--help"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr
    assert "example" in ran.stdout.lower()


def test_no_two_parts_have_a_fixture_of_one_name() -> None:
    """NB: a part that any test file asks for is there for all of them, and hides its namesakes."""
    asked = [
        path for path in (ROOT / "tests").rglob("*.py") if "pytest_plugins" in path.read_text()
    ]
    parts = {
        name
        for path in asked
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytest_plugins"
        for name in ast.literal_eval(node.value)
    }
    found = Counter(
        node.name
        for part in parts
        for node in ast.parse((ROOT / "tests" / f"{part.replace('.', '/')}.py").read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any("pytest.fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    )
    assert "control_plane" in found
    assert [name for name, times in found.items() if times > 1] == []
