"""One cluster and one scene for all stories; see docs/e2e.md."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from parts import cluster as clusters
from parts.cluster import Cluster
from stories import hosts, images, story
from stories.scene import NAMESPACE, SYSTEM, Scene


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(story.Lines(), "stories")


@pytest.fixture(name="story")
def told(request: pytest.FixtureRequest) -> Iterator[story.Story]:
    yield from story.of(request)


@pytest.fixture(scope="session")
def cluster(part_folder: Path) -> Iterator[Cluster]:
    """The run's cluster."""
    folder = part_folder / "node"
    folder.mkdir()
    with clusters.opened(folder) as opened:
        yield opened


@pytest.fixture(scope="session")
def scene(cluster: Cluster, part_folder: Path) -> Scene:
    """The images and the model servers are there; nothing of ours is installed."""
    folder = part_folder / "scene"
    folder.mkdir()
    built = images.load(cluster, folder)
    return Scene(cluster=cluster, images=built, hosts=hosts.start(cluster, folder))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed story shows the pods beside its own error."""
    report = yield
    opened = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(opened, Cluster):
        report.sections.append(("pods", opened.told([SYSTEM, NAMESPACE, hosts.NAMESPACE])))
    return report
