"""The migration files: dbmate's format, read strictly."""

from pathlib import Path

import pytest

from llm_operator import migrate
from llm_operator.record import schema
from llm_operator.record.schema import InvalidMigration, parse, read

FILE = "-- migrate:up\nCREATE TABLE t ();\n\n-- migrate:down\nDROP TABLE t;\n"


def test_takes_the_up_section_only() -> None:
    migration = parse("0007_add_t.sql", FILE)
    assert migration.version == "0007"
    assert migration.up == "CREATE TABLE t ();"
    assert migration.transaction


def test_a_file_without_a_down_section_is_whole() -> None:
    assert parse("0007_t.sql", "-- migrate:up\nSELECT 1;\nSELECT 2;\n").up == "SELECT 1;\nSELECT 2;"


@pytest.mark.parametrize(
    ("options", "transaction"),
    [("", True), (" transaction:true", True), (" transaction:false", False)],
)
def test_honours_the_transaction_option(options: str, transaction: bool) -> None:
    assert parse("1_t.sql", f"-- migrate:up{options}\nSELECT 1;\n").transaction is transaction


def test_the_checksum_is_of_the_content_and_not_of_its_line_ends() -> None:
    checksum = parse("1_t.sql", FILE).checksum
    assert parse("1_t.sql", FILE.replace("\n", "\r\n")).checksum == checksum
    assert parse("1_t.sql", FILE.replace("t ()", "u ()")).checksum != checksum


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("add_t.sql", FILE),
        ("0001-t.sql", FILE),
        ("0001_T.sql", FILE),
        ("0001_t.sql", "CREATE TABLE t ();\n"),
        ("0001_t.sql", "-- migrate:up transaction:no\nSELECT 1;\n"),
    ],
)
def test_refuses_what_it_cannot_read_and_names_the_file(file: str, content: str) -> None:
    with pytest.raises(InvalidMigration, match=file):
        parse(file, content)


def test_reads_a_folder_oldest_first(tmp_path: Path) -> None:
    for file in ("0003_c.sql", "0001_a.sql", "0002_b.sql"):
        (tmp_path / file).write_text(FILE)
    (tmp_path / "README.md").write_text("not a migration")
    assert [migration.version for migration in read(tmp_path)] == ["0001", "0002", "0003"]


def test_refuses_two_files_of_one_version(tmp_path: Path) -> None:
    for file in ("0001_a.sql", "0001_b.sql"):
        (tmp_path / file).write_text(FILE)
    with pytest.raises(InvalidMigration, match="one version"):
        read(tmp_path)


def test_the_release_has_migrations_that_all_can_be_read() -> None:
    versions = [migration.version for migration in schema.migrations()]
    assert versions[0] == "0001"
    assert versions == [f"{number:04}" for number in range(1, len(versions) + 1)]
    assert migrate.latest() == schema.latest() == versions[-1]
