"""What a kubelet does for a mounted ConfigMap, without a node: the folder's look and its swap.

`project` writes one revision as the kubelet's atomic writer does: a new `..<time>` folder,
`..data_tmp` renamed onto `..data`, and a link per file that never changes. `Kubelet` follows one
ConfigMap of the real API server and projects each revision, as the kubelet does for a volume with
`optional: true`: no ConfigMap is an empty folder, and an API server that is away leaves the folder
as it was.
"""

import base64
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from parts.control_plane import ControlPlane

DATA = "..data"
NEW_DATA = "..data_tmp"


def project(folder: Path, payload: Mapping[str, bytes]) -> bool:
    """Make `folder` show exactly these files. Returns False, untouched, if it does already."""
    link = folder / DATA
    old = folder / link.readlink() if link.is_symlink() else None
    before = {file.name: file.read_bytes() for file in old.iterdir()} if old else None
    changed = before != dict(payload)
    if changed:
        stamp = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S.")
        fresh = Path(tempfile.mkdtemp(prefix=stamp, dir=folder))
        fresh.chmod(0o755)
        for name, content in payload.items():
            (fresh / name).write_bytes(content)
            (fresh / name).chmod(0o644)
        (folder / NEW_DATA).symlink_to(fresh.name)
        (folder / NEW_DATA).rename(link)
    for name in payload:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{DATA}/{name}")
    for name in set(before or ()) - set(payload):
        (folder / name).unlink()
    if changed and old:
        shutil.rmtree(old)
    return changed


@dataclass(slots=True)
class Kubelet:
    """Follows one ConfigMap into one folder, from a thread of its own, until it is stopped."""

    control_plane: ControlPlane
    namespace: str
    name: str
    folder: Path
    every: float = 0.1
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def sync(self) -> bool:
        """One look at the API server. Returns whether the folder changed."""
        with self.control_plane.client() as client:
            return self._sync(client)

    def start(self) -> None:
        """Follow from now on. The first look is done when this returns."""
        self.sync()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._follow, name="kubelet", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave the folder as it is: a kubelet that went away, or has not come round yet."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(15)
            self._thread = None

    def _follow(self) -> None:
        with self.control_plane.client() as client:
            while not self._stopping.wait(self.every):
                self._sync(client)

    def _sync(self, client: httpx.Client) -> bool:
        try:
            answer = client.get(f"/api/v1/namespaces/{self.namespace}/configmaps/{self.name}")
        except httpx.TransportError:
            return False
        if answer.status_code == httpx.codes.NOT_FOUND:
            return project(self.folder, {})
        if not answer.is_success:
            return False
        configmap = answer.json()
        text = {key: value.encode() for key, value in configmap.get("data", {}).items()}
        binary = configmap.get("binaryData", {}).items()
        return project(self.folder, text | {key: base64.b64decode(value) for key, value in binary})


@pytest.fixture
def make_kubelet(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Kubelet]]:
    """Make running followers: `make_kubelet(namespace, name).folder` is the mounted folder."""
    made: list[Kubelet] = []

    def make(namespace: str, name: str, *, every: float = 0.1) -> Kubelet:
        folder = tmp_path_factory.mktemp("volume")
        kubelet = Kubelet(control_plane, namespace, name, folder, every=every)
        made.append(kubelet)
        kubelet.start()
        return kubelet

    yield make
    for kubelet in made:
        kubelet.stop()
