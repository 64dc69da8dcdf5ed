"""docs/page.md says what is so; and who does not mount the page does not pay for it."""

import re
import subprocess
import sys
from pathlib import Path

from llm_operator.admin import trial
from llm_operator.admin.page import guard, session

DOCS = Path(__file__).resolve().parents[3] / "docs"
TEXT = (DOCS / "page.md").read_text()

LIGHT = """
import sys
import llm_operator.cli, llm_operator.run, llm_operator.standalone.up
import llm_operator.admin.wiring, llm_operator.admin.api.app
heavy = {"nicegui", "socketio", "jinja2"} & sys.modules.keys()
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def test_the_policy_is_the_one_that_is_sent() -> None:
    assert guard.POLICY.format(nonce="NONCE") in TEXT


def test_the_bounds_are_those_of_the_code() -> None:
    flat = " ".join(TEXT.split())
    assert f"after {session.IDLE / 3600:.0f} hours without an act" in flat
    assert f"the {session.MOST:,}th other" in flat
    assert f"{trial.ANSWERS} answers stream at one time, of at most {trial.TOKENS} tokens" in flat


def test_every_view_is_told() -> None:
    told = set(re.findall(r"^\| `(/[^`]*)`", TEXT, re.MULTILINE))
    views = {"/", "/new", "/compare", "/routers"}
    views |= {f"/backends/ID{below}" for below in ("", "/edit", "/history", "/try")}
    assert told == views


def test_every_picture_is_there_and_small() -> None:
    named = re.findall(r"images/[\w-]+\.png", TEXT)
    assert sorted(named) == sorted(f"images/{one.name}" for one in (DOCS / "images").glob("page-*"))
    assert {one: size for one in named if (size := (DOCS / one).stat().st_size) > 150_000} == {}


def test_nothing_of_the_page_is_imported_unless_it_is_mounted() -> None:
    ran = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
