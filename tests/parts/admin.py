"""`llmb admin` as a process of its own.

Its rights are those of manifests/components/admin/rbac.yaml, and no others.

    admin = Admin(control_plane, folder=tmp_path, database=database)
    admin.start(); admin.end(); admin.kill()      # in any order, any number of times
    with admin.client(user) as client: client.get("")

`expired` is a token whose time is over.
"""

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from parts.access import Rule, User
from parts.control_plane import ControlPlane
from parts.program import Program

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
BASE = "/api/llm-backends"


def rules(name: str, *, file: str = "base/people.yaml") -> Sequence[Rule]:
    """The rules of a ClusterRole that is shipped."""
    documents = yaml.safe_load_all((MANIFESTS / file).read_text())
    found: Sequence[Rule] = next(
        d["rules"]
        for d in documents
        if d["kind"] == "ClusterRole" and d["metadata"]["name"] == name
    )
    return found


@dataclass(slots=True)
class Admin(Program):
    """One `llmb admin`. `user` is made with the shipped rights unless one is given."""

    NAME = "admin"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, ready: bool = True, within: float = 60) -> None:
        """Start it, and with `ready` wait until it has listed the LLMBackends."""
        if self.user is None:
            self.user = self.control_plane.create_user("admin")
            for role in ("llm-backend-admin", "llm-backend-admin-reviews"):
                self.control_plane.allow(self.user, rules(role, file="components/admin/rbac.yaml"))
        address = {"LLMB_ADMIN_HOST": "127.0.0.1", "LLMB_ADMIN_PORT": str(self.port)}
        self.run(self.user, address, ready=ready, within=within)

    def client(self, user: User | str) -> httpx.Client:
        """A client of the API, as a user or with a token, for a `with`; "" sends none."""
        return client(self.url, user.token if isinstance(user, User) else user)


def client(url: str, token: str) -> httpx.Client:
    """A client of an admin API, for a `with`; "" sends no token."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url + BASE, headers=headers, trust_env=False, timeout=30)


def expired(control_plane: ControlPlane) -> str:
    """A token of a service account that is there, rightly signed, whose time is over.

    NB: the API server makes none for less than ten minutes.
    """
    head, body, _ = control_plane.create_user("expired").token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    now = int(time.time())
    claims |= {"iat": now - 7200, "nbf": now - 7200, "exp": now - 3600}
    signed = f"{head}.{_encoded(json.dumps(claims).encode())}"
    key = serialization.load_pem_private_key(
        (control_plane.folder / "service-account.key").read_bytes(), password=None
    )
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
