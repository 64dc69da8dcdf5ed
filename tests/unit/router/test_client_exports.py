"""`from llm_router import LLMRouter`: what is exported, and what it takes to import it."""

import subprocess
import sys

import pytest

import llm_router
from llm_router import client

BLOCKED = """
import sys
for name in {names!r}:
    sys.modules[name] = None
"""


def ran(program: str, *, without: tuple[str, ...] = ()) -> str:
    """What a fresh interpreter says, in which some modules can't be imported."""
    ended = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(names=without) + program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_package_exports_the_client_s_names() -> None:
    assert set(client.__all__) == llm_router.EXPORTED
    for name in client.__all__:
        assert getattr(llm_router, name) is getattr(client, name)


def test_the_client_s_names_are_what_it_has() -> None:
    public = {name for name, value in vars(client).items() if isinstance(value, type)}
    assert public | {"get_llm_router"} == set(client.__all__)


def test_another_name_is_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LLMRooter'"):
        _ = llm_router.LLMRooter  # type: ignore[attr-defined]


def test_the_client_needs_the_base_install_alone() -> None:
    extras = (
        *("uvloop", "orjson", "httptools", "fastapi", "uvicorn", "prometheus_client"),
        *("kopf", "kubernetes", "psycopg", "yaml", "nicegui", "llm_operator", "llm_contract"),
    )
    program = "from llm_router import LLMRouter, get_llm_router; print(get_llm_router().url)"
    assert ran(program, without=extras).startswith("http://")


def test_the_package_itself_imports_nothing() -> None:
    program = (
        "import llm_router\n"
        "print(sorted(n for n in sys.modules if n == 'httpx' or n.startswith('llm_router.')))"
    )
    assert ran(program) == "[]\n"


def test_the_router_process_does_not_import_the_client() -> None:
    program = (
        "import llm_router.cli, llm_router.run, llm_router.management\n"
        "print(sorted(n for n in sys.modules if n.startswith('llm_router.client')))"
    )
    assert ran(program) == "[]\n"
