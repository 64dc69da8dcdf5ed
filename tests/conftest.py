"""What all tests share: the real servers of tests/parts, started by the first test that asks.

This folder goes on the import path, so that tests and fixtures say `from parts.eventually import
eventually`.
"""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

# NB: at the end, so that no folder here can hide an installed package.
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))

# NB: before the first import, since one of these modules may import another.
pytest.register_assert_rewrite("parts", "simulators")

pytest_plugins = [
    "parts.folder",
    "parts.control_plane",
    "parts.kubelet",
    "parts.mlx",
    "parts.ollama",
    "parts.postgres",
    "parts.proxy",
    "parts.router",
    "parts.service",
    "simulators",
]
