"""Freeze what a release has promised into the tests, so that later ones are tested against it.

    python -m release.freeze

Run once for each release, from the tagged tree, and commit what it writes below
tests/earlier/VERSION: the CRD with objects that it accepts, routing.json files with their sums, and
the sums of the migrations. What is frozen is never edited.
"""

import hashlib
import shutil
import sys
from pathlib import Path

from release import git

EARLIER = Path("tests", "earlier")
OBJECTS = "objects.yaml"
ROUTING = "routing"
MIGRATIONS = "migrations.sha256"


def freeze(into: Path, *, root: Path = git.ROOT) -> None:
    """Write the promises of the tree to a folder that is not there yet.

    Raises:
        FileExistsError: it is; what was frozen stays as it was.
    """
    into.mkdir(parents=True)
    shutil.copy(root / "crds" / "llmbackends.yaml", into / "crd.yaml")
    newest = max(path for path in (root / EARLIER).glob(f"*/{OBJECTS}") if path.parent != into)
    shutil.copy(newest, into / OBJECTS)
    (into / ROUTING).mkdir()
    for path in sorted((root / "tests" / "golden" / "routing").glob("*.json*")):
        shutil.copy(path, into / ROUTING)
    (into / MIGRATIONS).write_text("".join(f"{row}\n" for row in sums(root)))


def sums(root: Path = git.ROOT) -> list[str]:
    """The SHA-256 of each migration with its name, as sha256sum prints them, in order."""
    return [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
        for path in sorted((root / "migrations").glob("*.sql"))
    ]


def main() -> None:
    """Freeze the tree under its version."""
    into = git.ROOT / EARLIER / git.version()
    try:
        freeze(into)
    except FileExistsError:
        sys.exit(f"release: {into.relative_to(git.ROOT)} is frozen already")
    sys.stdout.write(f"{into.relative_to(git.ROOT)}\n")


if __name__ == "__main__":
    main()
