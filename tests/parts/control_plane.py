"""A real control plane: etcd and kube-apiserver as children of the tests, kubectl to ask them.

RBAC is on, every request is in the audit log, admission and schema checks are the server's own.
There are no controllers: an owner reference is never acted on and a deleted namespace never goes
away, so each test has a namespace with a new name and `namespace` empties it.
"""

import os
import ssl
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from parts import access, audit, build, process
from parts.absent import absent
from parts.access import Rule, User, expect
from parts.eventually import eventually
from parts.process import Process, free_port

PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
ADMIN = "admin"
CRD_FILE = Path(__file__).resolve().parents[2] / "crds" / "llmbackends.yaml"


@contextmanager
def another(first: "ControlPlane", folder: Path) -> Iterator["ControlPlane"]:
    """One more, of the same programs, for tests that change what others share; `folder` is new."""
    folder.mkdir()
    own = ControlPlane(folder=folder, programs=first.programs)
    try:
        own.start()
        yield own
    finally:
        own.close()


@dataclass(slots=True)
class ControlPlane:
    """One etcd and one API server. `start` and `stop` may be called in any order, repeatedly."""

    folder: Path
    programs: Path
    port: int = field(default_factory=free_port)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    _ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    _etcd: Process | None = None
    _server: Process | None = None
    _tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """The PEM file to check the server's certificate by; it is made for 127.0.0.1."""
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "kubeconfig-admin"

    @property
    def log(self) -> str:
        """The end of the API server's own log."""
        return self._server.tail() if self._server else ""

    def start(self) -> None:
        """Start what does not run, and wait until the API server is ready."""
        self._prepare()
        if self._etcd is None or not self._etcd.running:
            self._etcd = process.start(self._etcd_command(), log=self.folder / "etcd.log")
            self._etcd.ready(self._etcd_ready, within=30, retry=(httpx.TransportError,))
        if self._server is None or not self._server.running:
            command = self._server_command()
            self._server = process.start(command, log=self.folder / "kube-apiserver.log")
            self._server.ready(self._server_ready, within=60, retry=(OSError, httpx.TransportError))

    def stop(self, *, crash: bool = False) -> None:
        """End the API server, in order or by SIGKILL; its port is free then. etcd stays."""
        if self._server is not None:
            if crash:
                self._server.kill()
            else:
                self._server.end(within=30)

    @contextmanager
    def down(self, *, crash: bool = False) -> Iterator[None]:
        """The API server down inside the block, up again after it."""
        self.stop(crash=crash)
        try:
            yield
        finally:
            self.start()

    def close(self) -> None:
        """The end: nothing of it has to be kept."""
        for part in (self._server, self._etcd):
            if part is not None:
                part.kill()

    def kubectl(
        self,
        *args: str | Path,
        stdin: str | None = None,
        check: bool = True,
        user: User | None = None,
        within: float = 30,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, as the administrator or `user`. `check`: a failure is an AssertionError."""
        kubeconfig = user.kubeconfig if user else self.kubeconfig
        ended = subprocess.run(
            [self.programs / "kubectl", "--kubeconfig", kubeconfig, *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )
        said = f"kubectl {' '.join(map(str, args))}:\n{ended.stdout}{ended.stderr}"
        assert not check or ended.returncode == 0, said
        return ended

    def client(self, *, user: User | None = None) -> httpx.Client:
        """An HTTP client of the API server, as the administrator or as `user`, for a `with`."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {user.token if user else self.token}"},
            verify=self._tls,
            trust_env=False,
            timeout=10,
        )

    def audit(
        self,
        *,
        user: str | None = None,
        verbs: tuple[str, ...] = (),
        resource: str | None = None,
        namespace: str | None = None,
    ) -> list[audit.Event]:
        """What was asked so far, oldest first; each argument narrows it."""
        return audit.read(
            self.folder / "audit.log",
            user=user,
            verbs=verbs,
            resource=resource,
            namespace=namespace,
        )

    def create_user(
        self, name: str, rules: Sequence[Rule] = (), *, namespace: str | None = None
    ) -> User:
        """A user with a new name and these rights, in one namespace or (without one) everywhere."""
        name = f"{name}-{uuid.uuid4().hex[:8]}"
        with self.client() as client:
            access.service_account(client, namespace="default", name=name)
        user = self.service_account("default", name)
        if rules:
            self.allow(user, rules, namespace=namespace)
        return user

    def allow(self, user: User, rules: Sequence[Rule], *, namespace: str | None = None) -> None:
        """Give a user more rights, in one namespace or (without one) everywhere."""
        with self.client() as client:
            access.bind(client, user=user.name, rules=rules, namespace=namespace)

    def service_account(self, namespace: str, name: str) -> User:
        """The user that an existing service account is: for rights that a manifest binds."""
        full = f"system:serviceaccount:{namespace}:{name}"
        with self.client() as client:
            token = access.token(client, namespace=namespace, name=name)
        return User(name=full, token=token, kubeconfig=self.write_kubeconfig(token=token))

    def write_kubeconfig(self, *, token: str | None = None, server: str | None = None) -> Path:
        """A new kubeconfig: another token, or another way to the server, such as a proxy's URL."""
        path = self.folder / f"kubeconfig-{uuid.uuid4().hex[:8]}"
        self._write_kubeconfig(path, token=token or self.token, server=server or self.url)
        return path

    def _write_kubeconfig(self, path: Path, *, token: str, server: str) -> None:
        cluster = {"server": server, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(config))

    def _prepare(self) -> None:
        """Write the files that both programs are started with, once."""
        if self.kubeconfig.exists():
            return
        # NB: the API server takes the public half out of this older form only, not out of PKCS 8.
        key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        (self.folder / "service-account.key").write_bytes(key)
        (self.folder / "tokens.csv").write_text(f'{self.token},{ADMIN},1,"system:masters"\n')
        audit.write_policy(self.folder / "audit-policy.yaml")
        self._write_kubeconfig(self.kubeconfig, token=self.token, server=self.url)

    def _etcd_command(self) -> list[str | Path]:
        client, peer = (f"http://127.0.0.1:{port}" for port in self._ports)
        return [
            *(self.programs / "etcd", "--unsafe-no-fsync", "--log-level", "warn"),
            *("--data-dir", self.folder / "etcd", "--initial-cluster", f"default={peer}"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        ]

    def _server_command(self) -> list[str | Path]:
        key = self.folder / "service-account.key"
        return [
            self.programs / "kube-apiserver",
            *("--etcd-servers", f"http://127.0.0.1:{self._ports[0]}"),
            *("--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"),
            *("--secure-port", str(self.port), "--cert-dir", self.folder / "certificates"),
            *("--service-cluster-ip-range", "10.0.0.0/24", "--endpoint-reconciler-type", "none"),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--service-account-key-file", key, "--service-account-signing-key-file", key),
            *("--authorization-mode", "RBAC", "--token-auth-file", self.folder / "tokens.csv"),
            # NB: without controllers no namespace gets its default account, and every pod would be
            # refused.
            *("--disable-admission-plugins", "ServiceAccount"),
            # NB: without this, one open watch holds SIGTERM up for a minute.
            *("--shutdown-watch-termination-grace-period", "1s"),
            *("--audit-policy-file", self.folder / "audit-policy.yaml"),
            *("--audit-log-path", self.folder / "audit.log"),
        ]

    def _etcd_ready(self) -> bool:
        url = f"http://127.0.0.1:{self._ports[0]}/health"
        return httpx.get(url, trust_env=False, timeout=5).is_success

    def _server_ready(self) -> bool:
        with self.client() as client:
            return client.get("/readyz").is_success


def empty(control_plane: ControlPlane, namespace: str) -> None:
    """Delete what a test left in its namespace, despite finalizers: no later watch may see it."""
    with control_plane.client() as client:
        core = f"/api/v1/namespaces/{namespace}"
        collections = [f"{core}/{kind}" for kind in ("pods", "configmaps", "secrets")]
        definitions = expect(client.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions"))
        for spec in (item["spec"] for item in definitions["items"]):
            if spec["scope"] == "Namespaced":
                version = next(each["name"] for each in spec["versions"] if each["served"])
                scope = f"/apis/{spec['group']}/{version}/namespaces/{namespace}"
                collections.append(f"{scope}/{spec['names']['plural']}")
        for collection in collections:
            expect(client.delete(collection, params={"gracePeriodSeconds": 0}))
            for item in expect(client.get(collection))["items"]:
                client.patch(
                    f"{collection}/{item['metadata']['name']}",
                    json={"metadata": {"finalizers": None}},
                    headers={"Content-Type": "application/merge-patch+json"},
                )


@pytest.fixture(scope="session")
def control_plane(part_folder: Path) -> Iterator[ControlPlane]:
    """The run's control plane. A test stops it by `with control_plane.down():` only."""
    programs = build.located("control-plane")
    if programs is None or not all((programs / name).exists() for name in PROGRAMS):
        absent("the Kubernetes control plane", remedy="run `make control-plane` (minutes, once)")
    folder = part_folder / "control-plane"
    folder.mkdir()
    plane = ControlPlane(folder=folder, programs=programs)
    try:
        plane.start()
        yield plane
    finally:
        plane.close()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace that only this test has, emptied when the test is over."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    with control_plane.client() as client:
        expect(client.post("/api/v1/namespaces", json={"metadata": {"name": name}}))
    yield name
    control_plane.start()
    empty(control_plane, name)


@pytest.fixture(scope="session")
def crd(control_plane: ControlPlane) -> Any:
    """The project's CRD, applied and served: the definition as the API server has it."""
    if not CRD_FILE.exists():
        pytest.fail(f"{CRD_FILE} is not there", pytrace=False)
    control_plane.kubectl("apply", "--server-side", "-f", CRD_FILE)
    # NB: at once after the apply there are no conditions yet, which is an error to `kubectl wait`.
    wait = ("wait", "--for=condition=Established", "--timeout=20s", "-f", CRD_FILE)
    eventually(lambda: control_plane.kubectl(*wait), within=20)
    definition = yaml.safe_load(control_plane.kubectl("get", "-o", "yaml", "-f", CRD_FILE).stdout)
    plural = definition["spec"]["names"]["plural"]
    eventually(lambda: control_plane.kubectl("get", "-A", plural), within=20)
    return definition
