"""What git says of the tree that is released. Reads only."""

import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Refused(Exception):
    """The tree is not what the tag says; the message says what to do."""


def version(root: Path = ROOT) -> str:
    """The project's version, from its one place."""
    with (root / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def said(*args: str, root: Path = ROOT) -> list[str]:
    """The lines that a git command prints."""
    ended = subprocess.run(["git", *args], cwd=root, check=True, capture_output=True, text=True)
    return ended.stdout.splitlines()


def check(root: Path = ROOT) -> None:
    """A release is made from a clean tree whose commit has the tag of pyproject's version.

    Raises:
        Refused: it is not.
    """
    if changed := said("status", "--porcelain", root=root):
        raise Refused(
            f"{len(changed)} files differ from the commit, the first is {changed[0][3:]}: commit "
            "them, or build with --snapshot"
        )
    tags = said("tag", "--points-at", "HEAD", root=root)
    if (wanted := f"v{version(root)}") not in tags:
        raise Refused(
            f"pyproject.toml says {version(root)}, and the commit has {', '.join(tags) or 'no tag'}"
            f": tag it {wanted}, or build with --snapshot"
        )


def epoch(root: Path = ROOT) -> int:
    """Seconds since 1970 of the commit: the time of every file in a release."""
    return int(said("log", "-1", "--format=%ct", root=root)[0])


def files(root: Path = ROOT) -> list[Path]:
    """Every file of the tree that git does not ignore, relative to the root."""
    listed = said("ls-files", "--cached", "--others", "--exclude-standard", root=root)
    return sorted(path for path in map(Path, set(listed)) if (root / path).is_file())
