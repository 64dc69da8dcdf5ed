"""One folder for everything the real parts write, private to the run and gone with it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def part_folder() -> Iterator[Path]:
    """Short, readable by other users, and not under pytest's own: see the traps below."""
    # NB: a Unix socket's path may have 107 characters, and Postgres runs as another user when the
    # tests run as root, while pytest keeps its folders closed to others and closes them again in
    # every new run.
    folder = Path(tempfile.mkdtemp(prefix="llmb-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
