"""A cluster with a real node: the one KUBECONFIG names, else one that this machine starts.

    cluster.apply(deployment)
    cluster.rolled_out("deployment/orchestrator", namespace="stories")
    cluster.ask(pod, port=9000, path="/counts")

What only the machine's own node allows (stopping its API server or kubelet, folders of the machine
in pods) goes through `node`, which is None for any other cluster. Every wait has a deadline; a
failure says what the server said, and `told` says how the pods are.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from parts import build, node_space
from parts.absent import absent
from parts.eventually import eventually
from parts.node import Node

Object = Mapping[str, Any]

#: Where KUBECONFIG's cluster has the images already, or pulls them itself.
LOADED = "LLMB_IMAGES_LOADED"


@dataclass(slots=True)
class Cluster:
    """A cluster that may be changed as the tests like."""

    kubeconfig: Path
    kubectl_program: Path
    helm_program: Path
    node: Node | None = None

    def own(self, what: str) -> Node:
        """The machine's own node; on another cluster the asking test is skipped, which says why."""
        if self.node is None:
            pytest.skip(f"only on the machine's own node: {what}")
        return self.node

    def kubectl(
        self, *args: str | Path, stdin: str | None = None, check: bool = True, within: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl. `check`: a failure is an AssertionError with what it said."""
        return self._run(self.kubectl_program, args, stdin=stdin, check=check, within=within)

    def helm(self, *args: str | Path, within: float = 180) -> str:
        """Run helm. What it printed; a failure is an AssertionError with what it said."""
        return self._run(self.helm_program, args, within=within).stdout

    def get(self, *args: str) -> Any:
        """`kubectl get` of these, decoded."""
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def apply(self, *objects: Object) -> None:
        """Server-side apply of these objects."""
        self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def rolled_out(self, workload: str, *, namespace: str, within: float = 90) -> None:
        """Wait until all replicas of a workload are of its last form, and ready."""
        told = ("rollout", "status", workload, "-n", namespace, f"--timeout={within:.0f}s")
        self.kubectl(*told, within=within + 10)

    def wait(self, *args: str, within: float = 60) -> None:
        """`kubectl wait` of these, and for objects that are not there yet."""
        wait = ("wait", *args, "--timeout=5s")
        eventually(lambda: self.kubectl(*wait), within=within)

    def pods(self, namespace: str, selector: str) -> list[Any]:
        """The running pods with these labels, the oldest first."""
        found = self.get("pods", "-n", namespace, "-l", selector)["items"]
        running = [each for each in found if "deletionTimestamp" not in each["metadata"]]
        return sorted(running, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def pod(self, namespace: str, selector: str) -> Any:
        """The one ready pod with these labels, waited for."""

        def found() -> Any:
            pods = [pod for pod in self.pods(namespace, selector) if ready(pod)]
            assert len(pods) == 1, f"{len(pods)} ready pods of {selector} in {namespace}"
            return pods[0]

        return eventually(found, within=60)

    def ask(self, pod: Any, *, port: int, path: str) -> str:
        """GET of a pod's port: at its address on the own node, else by way of the API server.

        Raises:
            httpx.TransportError: it does not answer (own node).
            AssertionError: it does not answer 200.
        """
        if self.node is None:
            meta = pod["metadata"]
            where = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}:{port}/proxy{path}"
            return self.kubectl("get", "--raw", where).stdout
        url = f"http://{pod['status']['podIP']}:{port}{path}"
        answer = httpx.get(url, trust_env=False, timeout=10)
        assert answer.status_code == httpx.codes.OK, f"{url}: {answer.status_code} {answer.text}"
        return answer.text

    def load(self, archives: Sequence[Path]) -> None:
        """Bring Docker archives of images to the node, if they are not said to be there.

        A cluster that nothing here can load them into skips the asking test.
        """
        if self.node is not None:
            for archive in archives:
                self.node.load(archive)
        elif not os.environ.get(LOADED):
            for archive in archives:
                _import(archive, self.kubectl("config", "current-context").stdout.strip())

    def told(self, namespaces: Sequence[str]) -> str:
        """How the pods of these namespaces are and what they said last: for a failure."""
        parts = []
        for namespace in namespaces:
            of = ("-n", namespace)
            parts.append(self._said("get", "pods", "-o", "wide", *of))
            parts.append(self._said("get", "events", "--sort-by=.lastTimestamp", *of)[-3000:])
            names = self._said("get", "pods", "-o", "name", *of).split()
            for name in (each for each in names if each.startswith("pod/")):
                logs = self._said("logs", name, "--all-containers", "--prefix", "--tail=15", *of)
                parts.append(logs[-4000:])
        return "\n".join(parts)

    def _said(self, *args: str) -> str:
        try:
            ended = self.kubectl(*args, check=False, within=20)
        except subprocess.TimeoutExpired:
            return f"kubectl {' '.join(args)}: no answer"
        return ended.stdout + ended.stderr

    def _run(
        self,
        program: Path,
        args: Sequence[str | Path],
        *,
        stdin: str | None = None,
        check: bool = True,
        within: float,
    ) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [program, *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
        )
        said = f"{program.name} {' '.join(map(str, args))}:\n{ended.stdout}{ended.stderr}"
        assert not check or ended.returncode == 0, said
        return ended


def ready(pod: Any) -> bool:
    """Whether the pod is ready and not on its way out."""
    conditions = pod["status"].get("conditions", ())
    return "deletionTimestamp" not in pod["metadata"] and any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )


def _import(archive: Path, context: str) -> None:
    """Give an image to a cluster of kind or k3d, whose name its context tells."""
    program, _, name = context.partition("-")
    command = {
        "kind": ["kind", "load", "image-archive", str(archive), "--name", name],
        "k3d": ["k3d", "image", "import", str(archive), "--cluster", name],
    }.get(program)
    if command is None or shutil.which(program) is None:
        pytest.skip(
            f"nothing here brings {archive.name} to the cluster of the context {context}: push the"
            f" images to where it pulls from, and set {LOADED}=1"
        )
    subprocess.run(command, check=True, capture_output=True, timeout=300)


@contextmanager
def opened(folder: Path) -> Iterator[Cluster]:
    """The cluster of this run: KUBECONFIG's, left as it is, or one of its own, gone afterwards."""
    tools, plane = build.located("tools"), build.located("control-plane")
    if tools is None or plane is None:
        absent("helm or kubectl", remedy="run `make tools control-plane` (minutes, once)")
    programs = {"kubectl_program": plane / "kubectl", "helm_program": tools / "helm"}
    if named := os.environ.get("KUBECONFIG"):
        yield Cluster(kubeconfig=Path(named), **programs)
        return
    node = Node(folder=folder)
    try:
        node.start()
        yield Cluster(kubeconfig=node.kubeconfig, node=node, **programs)
    finally:
        node.stop()
    left = node_space.leftovers(folder)
    assert not left, f"left behind: {left}"
