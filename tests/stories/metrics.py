"""A Prometheus on the pods of the run, and what it makes of the shipped dashboards and alerts."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from parts import prometheus
from parts.eventually import eventually
from parts.prometheus import Prometheus, Report, Target
from stories.scene import NAMESPACE, SYSTEM, Scene

#: Job -> where its pods are, their labels, and their port for metrics.
JOBS = {
    "llm-router": (NAMESPACE, "llm.athena.dev/router", 8081),
    "llm-backend-operator": (SYSTEM, "app.kubernetes.io/component=operator", 8082),
    "llm-backend-admin": (SYSTEM, "app.kubernetes.io/component=admin", 8090),
}

#: Panels of what has not happened here, by the ends of their names: no data is right.
QUIET = ("Conditions that are not True", "Error share by model", "Loading the model")


def targets(scene: Scene) -> Iterator[Target]:
    """The pods as the PodMonitors of manifests/observability find them."""
    for job, (namespace, selector, port) in JOBS.items():
        for pod in scene.cluster.pods(namespace, selector):
            yield Target(
                job=job,
                address=f"{pod['status']['podIP']}:{port}",
                labels={"namespace": namespace, "pod": pod["metadata"]["name"]},
                token=_token(scene) if job == "llm-backend-admin" else "",
            )


@contextlib.contextmanager
def scraping(scene: Scene, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes all of them inside the block."""
    folder.mkdir()
    server = Prometheus(folder, prometheus.programs() / "prometheus")
    try:
        server.start(list(targets(scene)))
        eventually(server.scraped, within=30)
        yield server
    finally:
        server.stop()


def evaluated(server: Prometheus, *, within: float = 90) -> Report:
    """Every expression once all that has data here has it. None may be wrong."""

    def complete() -> Report:
        report = prometheus.evaluate(server)
        assert not report.errors, report.errors
        lacking = [each for each in report.empty if not each.endswith(QUIET)]
        assert not lacking, f"without data: {lacking}"
        return report

    return eventually(complete, within=within, every=1)


def _token(scene: Scene) -> str:
    """A token that may read metrics of the admin API: it may list LLMBackends everywhere."""
    create = ("create", "token", "llm-backend-operator", "-n", SYSTEM)
    return scene.cluster.kubectl(*create).stdout.strip()
