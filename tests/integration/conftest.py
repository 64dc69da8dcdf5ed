"""What the tests of the running operator share: a migrated database, and operators on it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_operator import migrate
from parts.control_plane import ControlPlane
from parts.operator import Operator

#: No resync in a test's time.
SELDOM = {"LLMB_RESYNC_SECONDS": "3600"}


@pytest.fixture
def migrated(database: str) -> str:
    asyncio.run(migrate.migrate(database, say=lambda _: None))
    return database


@pytest.fixture
def make_operator(
    control_plane: ControlPlane, migrated: str, tmp_path: Path
) -> Iterator[Callable[..., Operator]]:
    """Make an operator that is not started; killed at the end whatever became of it."""
    made: list[Operator] = []

    def make(**fields: Any) -> Operator:
        fields = {"database": migrated, "settings": SELDOM} | fields
        folder = tmp_path / f"operator-{len(made)}"
        folder.mkdir()
        made.append(Operator(control_plane, folder=folder, **fields))
        return made[-1]

    yield make
    for operator in made:
        operator.kill()
