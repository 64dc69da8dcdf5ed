"""Where a real node is on this machine, and the removal of all that it left there.

Everything of it is in one network namespace and one control group, so that neither kube-proxy's
rules nor the clearing up can touch another cluster of the machine. A cable and a route make the API
server and the pods reachable from outside. What is in neither (mounts below the run's folder, pods'
own network namespaces) is found by the folder and by the network that the pods are in.
"""

import contextlib
import itertools
import os
import signal
import subprocess
from pathlib import Path

import psutil

from parts import node_files
from parts.eventually import eventually
from parts.node_files import ADDRESS, BRIDGE, GROUP, INSIDE, OUTSIDE, SPACE

#: Where a run says in which folder it is and which process, so that the next one can clear up.
MARK = Path("/run/llmb-node")
GROUPS = Path("/sys/fs/cgroup")
NAMESPACES = Path("/run/netns")
LINKS = Path("/sys/class/net")
REMEMBERED = Path("/var/lib/cni/results")
LOGS = Path("/var/log/containers")

#: Before a program, this starts it in the network namespace.
#: NB: not `ip netns exec`, which hides the machine's control groups and mounts from it.
INTO = ("nsenter", f"--net={NAMESPACES / SPACE}")


def make(folder: Path) -> None:
    """Clear up after a run that was killed, and make a new place for this process.

    Raises:
        AssertionError: another process has its node there and is alive.
    """
    before, owner = marked()
    alive = owner is not None and psutil.pid_exists(owner)
    assert not alive, f"one node at a time: process {owner} has its own in {before}"
    clear()
    MARK.write_text(f"{folder}\n{os.getpid()}")
    _network()
    _hierarchies()


def marked() -> tuple[Path | None, int | None]:
    """The folder and the process of the node that is there, or was when its process was killed."""
    if not MARK.exists():
        return None, None
    folder, _, owner = MARK.read_text().partition("\n")
    return Path(folder), int(owner) if owner else None


def leftovers(folder: Path) -> list[str]:
    """What is there of a node that was in this folder: processes, mounts, networks, groups."""
    found = [f"process {pid}" for pid in _processes()]
    found += [f"mount {each}" for each in _mounts(folder)]
    found += [f"network namespace {each}" for each in _namespaces()]
    found += [f"link {OUTSIDE}"] if (LINKS / OUTSIDE).exists() else []
    found += [f"control group {each}" for each in _groups()]
    found += [f"file {each}" for each in _files(folder)]
    return found


def clear() -> None:
    """Remove what is there of a node, of this run or of one that was killed."""
    folder, _ = marked()
    if folder is None:
        return

    def ended() -> bool:
        # NB: containerd's shims outlive it, and hold the pods' mounts.
        for pid in _processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not _processes()

    eventually(ended, within=20)
    for each in _files(folder):
        each.unlink(missing_ok=True)
    for mount in reversed(_mounts(folder)):
        subprocess.run(["umount", "--lazy", mount], capture_output=True, timeout=30)
    for name in _namespaces():
        ran(["ip", "netns", "delete", name])
    # NB: the kernel takes a dead namespace's end of the cable away in its own time.
    subprocess.run(["ip", "link", "delete", OUTSIDE], capture_output=True, timeout=30)
    eventually(lambda: not (LINKS / OUTSIDE).exists(), within=20)
    _remove_groups()
    MARK.unlink(missing_ok=True)


def ran(command: list[str | Path], *, within: float = 30) -> str:
    """What a program printed. A failure is an AssertionError with what it said."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=within)
    said = f"{' '.join(map(str, command))}:\n{ended.stdout}{ended.stderr}"
    assert ended.returncode == 0, said
    return ended.stdout


def _network() -> None:
    """The namespace with the pods' bridge in it, and the cable to it."""
    ran(["ip", "netns", "add", SPACE])
    ran(["ip", "link", "add", OUTSIDE, "type", "veth", "peer", "name", INSIDE, "netns", SPACE])
    ran(["ip", "address", "add", f"{node_files.OUTSIDE_ADDRESS}/30", "dev", OUTSIDE])
    ran(["ip", "link", "set", OUTSIDE, "up"])
    inside: list[str | Path] = ["ip", "-n", SPACE]
    ran([*inside, "link", "add", BRIDGE, "type", "bridge"])
    addresses = {BRIDGE: f"{ADDRESS}/24", INSIDE: f"{node_files.INSIDE_ADDRESS}/30"}
    for link, address in addresses.items():
        ran([*inside, "address", "add", address, "dev", link])
    for link in ("lo", *addresses):
        ran([*inside, "link", "set", link, "up"])
    ran(["ip", "route", "add", node_files.PODS, "via", node_files.INSIDE_ADDRESS])
    # NB: a Service's address is rewritten only on its way out, so there has to be one.
    ran([*inside, "route", "add", "default", "via", node_files.OUTSIDE_ADDRESS])
    ran([*INTO, "sysctl", "-qw", "net.ipv4.ip_forward=1"])


def _hierarchies() -> None:
    """A group for the pods, in each hierarchy of control groups that the machine has."""
    version2 = (GROUPS / "cgroup.controllers").exists()
    mounted = [each for each in GROUPS.iterdir() if each.is_dir() and not each.is_symlink()]
    for each in [GROUPS] if version2 else mounted:
        (each / GROUP).mkdir(exist_ok=True)


def _groups() -> list[Path]:
    """The node's control groups, the deepest first."""
    tops = [*GROUPS.glob(GROUP), *GROUPS.glob(f"*/{GROUP}")]
    every = {path for top in tops for path in (top, *top.rglob("*")) if path.is_dir()}
    return sorted(every, key=lambda path: len(path.parts), reverse=True)


def _remove_groups() -> None:
    def gone() -> bool:
        for group in _groups():
            with contextlib.suppress(OSError):
                group.rmdir()
        return not _groups()

    eventually(gone, within=20)


def _processes() -> list[int]:
    """The node's programs are in its network namespace, what runs in pods in its control groups."""
    found = set()
    if (NAMESPACES / SPACE).exists():
        found = {int(pid) for pid in ran(["ip", "netns", "pids", SPACE]).split()}
    for group in _groups():
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    return sorted(found)


def _mounts(folder: Path) -> list[str]:
    """What is mounted below the folder, in the order it was."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [path for path in (line.split()[1] for line in lines) if path.startswith(f"{folder}/")]


def _files(folder: Path) -> list[Path]:
    """Files outside the folder: shims' sockets, what the CNI library remembers, links to logs."""
    bundles = folder / "containerd" / "state" / "io.containerd.runtime.v2.task"
    told = (each.read_text() for each in bundles.glob("*/*/address"))
    sockets = [Path(each.removeprefix("unix://")) for each in told]
    sandboxes = folder / "containerd" / "root" / "io.containerd.grpc.v1.cri" / "sandboxes"
    networks = (REMEMBERED.glob(f"*-{each.name}-*") for each in sandboxes.glob("*"))
    links = (each for each in LOGS.glob("*.log") if each.is_symlink())
    ours = (each for each in links if each.readlink().is_relative_to(folder))
    every = (*sockets, *itertools.chain.from_iterable(networks), *ours)
    return [each for each in every if os.path.lexists(each)]


def _namespaces() -> list[str]:
    """The node's network namespace, and its pods': those with an address of their network."""
    folder, found = NAMESPACES, []
    for name in sorted(each.name for each in folder.iterdir()) if folder.exists() else []:
        told = subprocess.run(
            ["ip", "-n", name, "-brief", "address"], capture_output=True, text=True, timeout=30
        )
        if name == SPACE or f" {ADDRESS.rpartition('.')[0]}." in told.stdout:
            found.append(name)
    return found
