"""The files of migrations/ as values: what the schema of this release is.

It only reads package data: it never speaks to a database, and `llm_operator.migrate` is what
applies a file. The files are in dbmate's format, so that dbmate can apply them too.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

#: The table of applied versions; dbmate finds it by `--migrations-table`.
VERSIONS = "llmb.schema_migrations"

_FILE = re.compile(r"(?P<version>[0-9]+)_[a-z0-9_]+\.sql")
_UP = re.compile(r"^--\s*migrate:up(?P<options>[^\n]*)\n", re.MULTILINE)
_DOWN = re.compile(r"^--\s*migrate:down\b", re.MULTILINE)


class InvalidMigration(ValueError):
    """A migration file that can't be read; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file.

    Attributes:
        file: its name, for people.
        version: the digits it starts with.
        checksum: SHA-256 of the file, the same under both kinds of line ends.
        up: the statements that apply it.
        transaction: False when it can't run inside one, as CREATE INDEX CONCURRENTLY can't.
    """

    file: str
    version: str
    checksum: str
    up: str
    transaction: bool = True


def parse(file: str, content: str) -> Migration:
    """Read one file.

    Raises:
        InvalidMigration: the name has no version or the content no `-- migrate:up` line.
    """
    named = _FILE.fullmatch(file)
    if named is None:
        raise InvalidMigration(f"{file}: the name is not NNNN_name.sql in lower case")
    content = content.replace("\r\n", "\n")
    up = _UP.search(content)
    if up is None:
        raise InvalidMigration(f"{file}: it has no line '-- migrate:up'")
    down = _DOWN.search(content, up.end())
    options = up["options"].split()
    for option in options:
        if option not in ("transaction:true", "transaction:false"):
            raise InvalidMigration(f"{file}: unknown option {option!r} in '-- migrate:up'")
    return Migration(
        file=file,
        version=named["version"],
        checksum=hashlib.sha256(content.encode()).hexdigest(),
        up=content[up.end() : down.start() if down else None].strip(),
        transaction="transaction:false" not in options,
    )


def read(folder: Traversable) -> tuple[Migration, ...]:
    """All migrations of a folder, oldest first.

    Raises:
        InvalidMigration: a file can't be read, or two have one version.
    """
    found: dict[str, Migration] = {}
    for entry in folder.iterdir():
        if not entry.name.endswith(".sql"):
            continue
        migration = parse(entry.name, entry.read_text(encoding="utf-8"))
        other = found.setdefault(migration.version, migration)
        if other is not migration:
            raise InvalidMigration(f"{other.file} and {migration.file} have one version")
    return tuple(found[version] for version in sorted(found))


@cache
def migrations() -> tuple[Migration, ...]:
    """The migrations of this release, oldest first."""
    return read(files("llm_operator.migrations"))


def latest() -> str:
    """The newest version this release knows. A newer database is fine: migrations only widen."""
    return migrations()[-1].version
