"""A real node on this machine: the control plane with its controllers, kubelet and containerd.

    node = Node(folder=folder)
    node.start()
    node.load(archive)                   a Docker archive, for pods with imagePullPolicy Never
    with node.api_server_down(): ...
    node.stop()                          nothing of it is left

Pods get addresses of a bridge, which this machine reaches too, Services work by kube-proxy, and
their names by CoreDNS on the bridge's address. Network policies are admitted and not enforced: the
bridge plugin knows none. It needs root and Debian's packages in `PACKAGES`; `missing` tells what is
not there. Only one runs at a time; what a killed run left behind is cleared by the next start. As a
context manager it is stopped whatever happens inside. Another cluster on the same machine is not
touched: `node_space` says how.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from parts import build, node_files, node_flags, node_space, process
from parts.absent import absent
from parts.eventually import eventually
from parts.node_files import ADDRESS, NAME
from parts.node_keys import Authority
from parts.process import Process

#: Program or folder -> Debian's package.
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "sysctl": "procps",
    "umount": "mount",
}


@dataclass(slots=True)
class Node:
    """One node and its control plane, all below `folder`."""

    folder: Path
    _programs: Path = Path()
    _plane: Path = Path()
    _running: dict[str, Process] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "admin.kubeconfig"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all of it, and wait until the node is ready for pods."""
        self._located()
        node_space.make(self.folder)
        self._prepare()
        self._start_etcd()
        self._start_api_server()
        for name in ("kube-controller-manager", "kube-scheduler", "containerd"):
            self._start(name)
        eventually(lambda: self._ctr("version"), within=30, retry=(AssertionError,))
        self._load_pause()
        for name in ("kubelet", "kube-proxy", "coredns"):
            self._start(name)
        wait = ("wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=2s")
        eventually(lambda: self.kubectl(*wait), within=60, retry=(AssertionError,))
        account = ("get", "serviceaccount", "default")
        eventually(lambda: self.kubectl(*account), within=60, retry=(AssertionError,))

    def stop(self) -> None:
        """End all of it and wait. Nothing is left but the folder."""
        if "kubelet" in self._running:
            self._end_pods()
        for name in reversed(self._running):
            self._running[name].end(within=10)
        self._running.clear()
        if node_space.marked()[0] == self.folder:
            node_space.clear()

    def kubectl(self, *args: str | Path, within: float = 30) -> str:
        """Run kubectl as the administrator. What it printed; a failure is an AssertionError."""
        command = [self._plane / "kubectl", "--kubeconfig", self.kubeconfig, *args]
        return node_space.ran(command, within=within)

    def load(self, archive: Path) -> None:
        """Give a Docker archive's images to the node."""
        self._ctr("images", "import", archive, within=180)

    def kill(self, container: str) -> None:
        """SIGKILL to a container's first process; `container` is the runtime's id."""
        self._ctr("tasks", "kill", "--signal", "SIGKILL", container)

    def restart_kubelet(self) -> None:
        """End the kubelet and start it again. Pods go on meanwhile."""
        self._running["kubelet"].end()
        self._start("kubelet")
        url = f"http://{ADDRESS}:10248/healthz"
        self._running["kubelet"].ready(lambda: _well(url), within=60, retry=(httpx.TransportError,))

    @contextlib.contextmanager
    def api_server_down(self) -> Iterator[None]:
        """The API server down inside the block, up again after it."""
        self._running["kube-apiserver"].end(within=60)
        try:
            yield
        finally:
            self._start_api_server()

    def _end_pods(self) -> None:
        """Let the kubelet take the pods' networks and mounts down in order, if it can."""
        delete = ("delete", "pods", "--all", "-A", "--force", "--grace-period=0", "--wait=false")
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.kubectl(*delete, within=20)
            eventually(lambda: not self._ctr("tasks", "ls", "-q").strip(), within=20)

    def _located(self) -> None:
        if lacks := missing():
            absent("a real node", remedy=f"{'; '.join(lacks)}; or set KUBECONFIG")
        programs, plane = build.located("node"), build.located("control-plane")
        if programs is None or plane is None:
            absent("a real node's programs", remedy="run `make node control-plane`")
        self._programs, self._plane = programs, plane

    def _prepare(self) -> None:
        """Certificates, kubeconfigs and configuration files."""
        keys = Authority.new(self.folder / "keys")
        hosts = (ADDRESS, "127.0.0.1", node_files.FIRST_SERVICE, "kubernetes.default.svc")
        keys.issue("kube-apiserver", common="kube-apiserver", hosts=hosts)
        keys.issue("service-accounts", common="service-accounts")
        users = {
            "admin": ("admin", "system:masters"),
            "kubelet": (f"system:node:{NAME}", "system:nodes"),
        }
        for name, (common, group) in users.items():
            certificate, key = keys.issue(name, common=common, group=group)
            text = node_files.kubeconfig(
                authority=keys.certificate, certificate=certificate, key=key
            )
            (self.folder / f"{name}.kubeconfig").write_text(text)
        # NB: what a pod asks for in vain stays on this machine.
        (self.folder / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
        (self.folder / "cni").mkdir()
        files = {
            "containerd.toml": node_files.containerd(self.folder),
            "cni/llmb.conflist": node_files.network(self.folder),
            "kubelet.yaml": node_files.kubelet(self.folder, authority=keys.certificate),
            "kube-proxy.yaml": node_files.proxy(self.kubeconfig),
            "Corefile": node_files.names(self.kubeconfig),
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def _load_pause(self) -> None:
        archive = self.folder / "pause.tar"
        node_files.write_pause(self._programs / "pause", archive)
        self.load(archive)

    def _start_etcd(self) -> None:
        self._start("etcd")
        url = f"{node_flags.ETCD}/readyz"
        self._running["etcd"].ready(lambda: _well(url), within=30, retry=(httpx.TransportError,))

    def _start_api_server(self) -> None:
        self._start("kube-apiserver")
        ready = ("get", "--raw", "/readyz")
        probe = self._running["kube-apiserver"]
        probe.ready(lambda: self.kubectl(*ready), within=90, retry=(AssertionError,))

    def _start(self, name: str) -> None:
        folder = self._plane if (self._plane / name).exists() else self._programs
        program = "/usr/bin/containerd" if name == "containerd" else folder / name
        command = [*node_space.INTO, program, *node_flags.words(name, self.folder)]
        log = self.folder / f"{name}.log"
        self._running[name] = process.start(command, log=log, cwd=self.folder)

    def _ctr(self, *args: str | Path, within: float = 30) -> str:
        socket = str(node_files.socket(self.folder))
        return node_space.ran(["ctr", "-a", socket, "-n", "k8s.io", *args], within=within)


def missing() -> list[str]:
    """What this machine lacks for a node, each with what to do about it."""
    lacks = [] if os.geteuid() == 0 else ["it needs root"]
    packages = sorted({package for name, package in PACKAGES.items() if not shutil.which(name)})
    if packages:
        lacks.append(f"apt-get install {' '.join(packages)}")
    if not os.access(node_space.GROUPS, os.W_OK):
        lacks.append(f"control groups that may be changed, at {node_space.GROUPS}")
    return lacks


def _well(url: str) -> bool:
    return httpx.get(url, trust_env=False, timeout=5).is_success
