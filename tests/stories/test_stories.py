"""The stories, in order: each goes on where the one before it ended, or where it can.

A story that fails is told and the next ones go on. What is asserted is what must be so (no request
failed, nothing left behind, all ready again); times are told and not asserted, except where the
deadline itself is the promise.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts.cluster import Cluster
from parts.eventually import eventually
from stories import install, metrics
from stories.hosts import NAMESPACE as HOSTS
from stories.scene import AWAY, SYSTEM, Scene
from stories.story import Story

#: Without the nudge the kubelet looks at a mount once in a minute or so.
WITHOUT_NUDGE = 90


def test_install_by_helm(scene: Scene, cluster: Cluster, story: Story) -> None:
    """install from nothing by Helm."""
    assert install.left(cluster) == []
    scene.namespace()
    scene.secret()
    started = time.monotonic()
    install.helm(scene)
    story.tell(f"all ready after {time.monotonic() - started:.1f} s")
    ready = install.pods(scene)
    assert ready == {"llm-backend-operator": 2, "llm-backend-admin": 1}
    story.tell(", ".join(f"{name.removeprefix('llm-backend-')} {n}" for name, n in ready.items()))
    for name, size in scene.images.sizes.items():
        story.tell(f"image {name} {size}")


def test_apply_to_answer(scene: Scene, cluster: Cluster, story: Story) -> None:
    """apply to answer through an injected sidecar."""
    scene.deploy()
    story.tell(f"table after {scene.switch('ollama'):.2f} s the first time")
    scene.answered(by="ollama")
    scene.find()
    changes = [scene.switch("ollama", maxTokens=8 + number) for number in range(5)]
    changes.sort()
    story.tell(f"then {changes[2]:.2f} s in the median of 5, {changes[-1]:.2f} s at most")
    scene.ready()


def test_apply_without_nudge(scene: Scene, cluster: Cluster, story: Story) -> None:
    """apply to table with the nudge off."""
    install.helm(scene, **{"settings.LLMB_NUDGE": False})
    seconds = scene.switch("ollama", maxTokens=16)
    story.tell(f"{seconds:.1f} s")
    assert seconds < WITHOUT_NUDGE


def test_switch_under_traffic(scene: Scene, cluster: Cluster, story: Story) -> None:
    """MLX to Ollama and back under traffic."""
    install.helm(scene)
    scene.switch("mlx")
    scene.answered(by="mlx")
    with scene.traffic() as seen:
        scene.goes_on(requests=25)
        times = []
        for to in ("ollama", "mlx", "ollama"):
            times.append(scene.switch(to))
            scene.answered(by=to)
        scene.goes_on(requests=25)
    story.tell(str(seen))
    story.tell(f"table after {', '.join(f'{each:.2f}' for each in times)} s")
    seen.well()


def test_operator_away(scene: Scene, cluster: Cluster, story: Story) -> None:
    """operator away."""
    _away(scene, story, _scaled(scene, "llm-backend-operator", back=2))


def test_admin_away(scene: Scene, cluster: Cluster, story: Story) -> None:
    """admin away, and usage waits for it."""
    with scene.traffic() as seen, _scaled(scene, "llm-backend-admin", back=1):
        before = scene.recorded()
        scene.goes_on()
        assert scene.recorded() == before
    story.tell(str(seen))
    seen.well()
    story.tell(scene.all_recorded())


def test_postgres_away(scene: Scene, cluster: Cluster, story: Story) -> None:
    """Postgres away, and usage waits for it."""
    with scene.traffic() as seen, _scaled(scene, "postgres", back=1, namespace=HOSTS):
        scene.switch("mlx")
        scene.goes_on()
        story.tell(f"a change goes through: {scene.condition('Ready')}")
        scene.switch("ollama")
    story.tell(str(seen))
    seen.well()
    scene.ready(within=90)
    story.tell(scene.all_recorded())


def test_api_server_away(scene: Scene, cluster: Cluster, story: Story) -> None:
    """API server away."""
    node = cluster.own("the API server is stopped")
    _away(scene, story, node.api_server_down())


@pytest.fixture(scope="class")
def away(scene: Scene, cluster: Cluster) -> Iterator[None]:
    """Nothing of the control plane is there, for the stories of one class."""
    node = cluster.own("the API server is stopped")
    with contextlib.ExitStack() as back:
        back.enter_context(_scaled(scene, "llm-backend-operator", back=2))
        back.enter_context(_scaled(scene, "llm-backend-admin", back=1))
        back.enter_context(_scaled(scene, "postgres", back=1, namespace=HOSTS))
        back.enter_context(node.api_server_down())
        yield


class TestAllAway:
    """In one stretch of time in which nothing of the control plane is there."""

    @pytest.mark.usefixtures("away")
    def test_traffic(self, scene: Scene, cluster: Cluster, story: Story) -> None:
        """operator, admin, Postgres and API server away together."""
        with scene.traffic() as seen:
            scene.goes_on()
        story.tell(str(seen))
        seen.well()

    @pytest.mark.usefixtures("away")
    def test_restart(self, scene: Scene, cluster: Cluster, story: Story) -> None:
        """a router restarted in that state serves from its mount."""
        node = cluster.own("the router's process is killed")
        before = scene.status()
        scene.about_to_be_killed()
        with scene.traffic() as seen:
            node.kill(scene.router)
            after = eventually(lambda: scene.restarted(before), within=60, retry=AWAY)
            scene.goes_on(requests=25)
        assert after["config"]["checksum"] == before["config"]["checksum"]
        assert seen.answered["ollama"], seen
        story.tell(f"answers again after {seen.longest:.2f} s; {seen}")


def test_all_back(scene: Scene, cluster: Cluster, story: Story) -> None:
    """all of them back."""
    with scene.traffic() as seen:
        started = time.monotonic()
        scene.ready(within=120)
        story.tell(f"ready, recorded and programmed after {time.monotonic() - started:.1f} s")
        scene.switch("mlx")
        scene.answered(by="mlx")
    story.tell(str(seen))
    seen.well()


def test_kubelet_restarted(scene: Scene, cluster: Cluster, story: Story) -> None:
    """kubelet restarted under traffic."""
    node = cluster.own("its kubelet is restarted")
    with scene.traffic() as seen:
        scene.goes_on(requests=25)
        node.restart_kubelet()
        story.tell(f"table after {scene.switch('ollama'):.2f} s")
        scene.answered(by="ollama")
    story.tell(str(seen))
    seen.well()
    scene.ready()


def test_upgrade(scene: Scene, cluster: Cluster, story: Story) -> None:
    """operator upgraded under traffic."""
    before = install.leader(cluster)
    with scene.traffic() as seen, scene.watched() as not_ready:
        started = time.monotonic()
        change = {"image.tag": scene.images.next, "settings.LLMB_LOG_LEVEL": "DEBUG"}
        install.helm(scene, **change)
        story.tell(f"all ready after {time.monotonic() - started:.1f} s")
        story.tell(f"table after {scene.switch('mlx'):.2f} s")
        scene.answered(by="mlx")
        scene.ready(within=90)
    story.tell(str(seen))
    seen.well()
    assert not_ready == []
    after = install.leader(cluster)
    assert after != before
    story.tell("Ready throughout, another holds the Lease")


def test_usage(scene: Scene, cluster: Cluster, story: Story) -> None:
    """usage records arrive in Postgres."""
    story.tell(scene.all_recorded())


def test_expressions(scene: Scene, cluster: Cluster, story: Story, tmp_path: Path) -> None:
    """dashboards and alerts on the metrics of this run."""
    cluster.own("Prometheus scrapes its pods")
    with metrics.scraping(scene, tmp_path / "prometheus") as prometheus, scene.traffic() as seen:
        scene.switch("mlx")
        scene.answered(by="mlx")
        scene.fall_back()
        scene.answered(by="ollama")
        report = metrics.evaluated(prometheus)
        firing = prometheus.firing()
    story.tell(f"{len(report.counts)} panels and rules evaluated, none refused")
    story.tell(f"{len(report.empty)} panels of what did not happen are empty")
    story.tell(f"firing: {', '.join(sorted(firing)) or 'none'}")
    story.tell(str(seen))
    seen.well()


def test_uninstall_of_helm(scene: Scene, cluster: Cluster, story: Story) -> None:
    """uninstall by Helm leaves nothing behind."""
    started = time.monotonic()
    install.helm_uninstall(scene)
    story.tell(f"{time.monotonic() - started:.1f} s")
    scene.leave()
    kept = install.left(cluster)
    install.remove_kept(scene)
    install.gone(scene)
    story.tell(f"kept on purpose until then: {', '.join(kept)}")


def test_kustomize(scene: Scene, cluster: Cluster, story: Story, tmp_path: Path) -> None:
    """install, answer and uninstall by kustomize."""
    install.gone(scene)
    scene.namespace()
    scene.secret()
    own = install.overlay(tmp_path, tag=scene.images.tag)
    started = time.monotonic()
    install.kustomize(scene, own)
    story.tell(f"all ready after {time.monotonic() - started:.1f} s")
    scene.deploy()
    story.tell(f"table after {scene.switch('ollama'):.2f} s")
    scene.answered(by="ollama")
    scene.ready()
    story.tell(scene.all_recorded())
    started = time.monotonic()
    install.kustomize_uninstall(scene, own)
    scene.leave()
    install.remove_kept(scene)
    install.gone(scene)
    story.tell(f"nothing left {time.monotonic() - started:.1f} s after uninstall began")


@contextlib.contextmanager
def _scaled(scene: Scene, deployment: str, *, back: int, namespace: str = SYSTEM) -> Iterator[None]:
    """No pod of a Deployment inside the block, all of them after it."""
    scene.scale(deployment, 0, namespace=namespace)
    try:
        yield
    finally:
        scene.scale(deployment, back, namespace=namespace)


def _away(scene: Scene, story: Story, part: contextlib.AbstractContextManager[object]) -> None:
    """Traffic goes on while this part is away, and while it goes and comes."""
    with scene.traffic() as seen:
        with part:
            scene.goes_on()
        scene.goes_on(requests=25)
    story.tell(str(seen))
    seen.well()
    scene.ready(within=90)
