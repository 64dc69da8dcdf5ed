"""What tests on a migrated database share: operators on it, a record, and a look beside them."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from llm_operator.record import Record
from llm_operator.record.pool import Connection
from parts.control_plane import ControlPlane
from parts.operator import Operator
from parts.rows import Query, querying

#: No resync in a test's time.
SELDOM = {"LLMB_RESYNC_SECONDS": "3600"}


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


@pytest.fixture
async def record(migrated: str) -> AsyncIterator[Record]:
    async with Record(migrated) as opened:
        yield opened


@pytest.fixture
async def query(migrated: str) -> AsyncIterator[Query]:
    """Run one statement beside the record."""
    async with querying(migrated) as run:
        yield run


@pytest.fixture
async def connection(migrated: str) -> AsyncIterator[Connection]:
    async with await AsyncConnection.connect(migrated, autocommit=True) as opened:
        yield opened
