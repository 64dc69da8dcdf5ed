"""docs/import.md says what the import does: each column, each sentence, each field of a metric."""

from pathlib import Path

from llm_operator.predecessor.columns import COLUMNS
from llm_operator.predecessor.measured import COUNTS, TEXTS, Passed, record
from llm_operator.predecessor.reasons import REASONS
from llm_operator.record.upkeep import Keep

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "import.md"


def section(heading: str) -> str:
    return DOCUMENT.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, cells without their backticks."""
    rows = [row.strip("|").split("|") for row in section(heading).splitlines() if row[:1] == "|"]
    return [[cell.strip().strip("`") for cell in row] for row in rows[2:]]


def test_each_column_and_where_it_goes() -> None:
    documented = [tuple(row[:3]) for row in table("What becomes of each column")]
    assert documented == [
        (name, about.field or "none", about.default) for name, about in COLUMNS.items()
    ]


def test_each_sentence() -> None:
    documented = [tuple(row) for row in table("What is said")]
    assert documented == [
        ("to look at" if reason.lost else "warning", reason.text) for reason in REASONS.values()
    ]
    assert all(reason.lost for reason in REASONS.values() if reason.off)


def test_each_column_of_a_metric() -> None:
    documented = {row[0]: row[1].split(";")[0].strip("`") for row in table("The measurements")}
    for column, field in {**TEXTS, **COUNTS}.items():
        assert documented.pop(column) == field
    row = dict.fromkeys(documented, "7")
    made = record(row, 1, Passed())
    for column, told in documented.items():
        assert (told in made) == (column not in ("id", "tokens_per_second", "backend")), column
    assert "`backend_type` and `target`" in section("The measurements")
    assert {"backend_type", "target"} <= set(made)


def test_how_long_things_are_kept() -> None:
    told = " ".join(section("The measurements").split())
    keep = Keep()
    assert f"keeps records for {keep.usage} days and their hourly sums for {keep.hourly}" in told
