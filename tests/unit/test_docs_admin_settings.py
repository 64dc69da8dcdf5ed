"""docs/admin.md says of each setting what the code says."""

from pathlib import Path

from llm_operator.admin import run
from llm_operator.admin.settings import TABLE

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "admin.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The first table under a heading, cells without their backticks."""
    section = TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row] for row in found[2:]]


def test_the_settings() -> None:
    shown = {None: "required", "": "unset"}
    assert rows("Settings") == [
        [setting.name, shown.get(setting.default) or str(setting.default), setting.meaning]
        for setting in TABLE
    ]


def test_the_example() -> None:
    command = run.EXAMPLE.splitlines()[1].strip()
    assert f"    {command}\n" in TEXT
