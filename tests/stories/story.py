"""A line for each story: whether it went well, its figures, how long it took.

The lines are printed while the run goes on and once more as a table at its end. A story is a test;
its title is the first line of its docstring.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

#: What pytest calls an outcome -> what a line calls it.
OUTCOMES = {"passed": "ok", "failed": "FAILED", "skipped": "not run"}


@dataclass(slots=True)
class Story:
    """One story as it is told."""

    title: str
    figures: list[str] = field(default_factory=list)
    outcome: str = "not run"
    seconds: float = 0.0

    def tell(self, figure: str) -> None:
        """Add a figure to the story's line."""
        self.figures.append(figure)

    @property
    def line(self) -> str:
        figures = f": {'; '.join(self.figures)}" if self.figures else ""
        return f"{self.outcome:7} {self.seconds:6.1f} s  {self.title}{figures}"


class Lines:
    """The plugin that prints them."""

    def __init__(self) -> None:
        self.told: dict[str, Story] = {}
        self._config: pytest.Config | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Stories go in the order they are written, whatever other tests do."""
        self._config = config
        items.sort(key=lambda item: (item.path.name, _written(item)))
        for item in items:
            item.add_marker(pytest.mark.timeout(900))
            self.told[item.nodeid] = Story(title=_title(item))

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No dots among the lines."""
        if report.nodeid in self.told and (report.when == "call" or report.outcome != "passed"):
            return report.outcome, "", ""
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print the line when the story is over."""
        story = self.told.get(report.nodeid)
        if story is None:
            return
        story.seconds += report.duration
        if report.when == "call" or report.outcome != "passed":
            story.outcome = OUTCOMES[report.outcome]
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            story.tell(report.longrepr[2].removeprefix("Skipped: "))
        if report.when == "teardown":
            self._print(f"\n{story.line}" if self._verbose else story.line)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table."""
        terminalreporter.section("stories")
        for story in self.told.values():
            terminalreporter.write_line(story.line)
        total = sum(story.seconds for story in self.told.values())
        terminalreporter.write_line(f"{'all':7} {total:6.1f} s")

    @property
    def _verbose(self) -> bool:
        return self._config is not None and self._config.option.verbose > 0

    def _print(self, line: str) -> None:
        assert self._config is not None
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(line.lstrip("\n"))


def _written(item: pytest.Item) -> int:
    assert isinstance(item, pytest.Function)
    return item.function.__code__.co_firstlineno


def _title(item: pytest.Item) -> str:
    assert isinstance(item, pytest.Function)
    return (item.function.__doc__ or item.name).strip().splitlines()[0].rstrip(".")


def of(request: pytest.FixtureRequest) -> Iterator[Story]:
    """The story that the asking test tells."""
    lines = request.config.pluginmanager.get_plugin("stories")
    assert isinstance(lines, Lines)
    yield lines.told[request.node.nodeid]
