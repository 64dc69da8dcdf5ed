"""Gives the deep profile the time it needs."""

from pathlib import Path

import pytest

from fuzz.profile import DEEP

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items if DEEP else ():
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.timeout(3600))
