"""What long tests share: how long they are, and their figures at the end of the report.

With LLMB_SOAK=1 each test is as long as it should be once; without it, as short as it can be.
"""

import os
from collections.abc import Callable

import pytest

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether the tests are to take their time."""
    return os.environ.get("LLMB_SOAK") == "1"


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Add a line to the end of pytest's report."""
    return request.config.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Write the figures."""
    if lines := config.stash.get(FIGURES, []):
        terminalreporter.section("soak")
        for line in lines:
            terminalreporter.write_line(line)
