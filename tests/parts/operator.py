"""The operator as a process of its own, with the rights of manifests/base/rbac.yaml and no others.

    operator = Operator(control_plane, folder=tmp_path, database=database)
    operator.start(); operator.end(); operator.kill()      # in any order, any number of times

`Backends` is what a test does with kubectl's eyes: apply, change, delete, and look at a namespace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import yaml

from llm_contract import CHECKSUM_KEY, CONFIG_KEY, RoutingConfig, checksum, parse
from parts.access import Rule, expect
from parts.control_plane import ControlPlane
from parts.program import Program

RBAC = Path(__file__).resolve().parents[2] / "manifests" / "base" / "rbac.yaml"
CONFIG_MAP = "llm-router-config"


def rules() -> Sequence[Rule]:
    """The rules of the shipped ClusterRole."""
    return _shipped("ClusterRole")


def lease_rules() -> Sequence[Rule]:
    """Those of the shipped Role for the Lease."""
    return _shipped("Role")


def _shipped(kind: str) -> Sequence[Rule]:
    documents = yaml.safe_load_all(RBAC.read_text())
    found: Sequence[Rule] = next(d for d in documents if d["kind"] == kind)["rules"]
    return found


@dataclass(slots=True)
class Operator(Program):
    """One operator. `user` is made with the shipped rights unless one is given."""

    NAME = "operator"

    def start(self, *, ready: bool = True, within: float = 30) -> None:
        """Start it, and with `ready` wait until its first resync is done."""
        if self.user is None:
            self.user = self.control_plane.create_user("operator", rules())
            if lease := self.settings.get("LLMB_LEASE"):
                place, _, _ = lease.partition("/")
                self.control_plane.allow(self.user, lease_rules(), namespace=place)
        health = {"LLMB_HEALTH_HOST": "127.0.0.1", "LLMB_HEALTH_PORT": str(self.port)}
        self.run(self.user, health, ready=ready, within=within)


@dataclass(slots=True)
class Backends:
    """The LLMBackends of one namespace, and what became of them."""

    control_plane: ControlPlane
    namespace: str

    @property
    def path(self) -> str:
        return f"/apis/llm.athena.dev/v1alpha1/namespaces/{self.namespace}/llmbackends"

    def manifest(self, name: str, **spec: object) -> dict[str, Any]:
        """A valid resource on Ollama, unless the spec says otherwise; None leaves a field out."""
        usual = {"modelName": name, "backendType": "ollama", "endpointURL": f"http://{name}:11434"}
        return {
            "apiVersion": "llm.athena.dev/v1alpha1",
            "kind": "LLMBackend",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {k: v for k, v in (usual | spec).items() if v is not None},
        }

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """kubectl apply."""
        documents = yaml.safe_dump_all([dict(manifest) for manifest in manifests])
        self.control_plane.kubectl(
            "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=documents, within=120
        )

    def delete(self, name: str, *, wait: bool = True) -> None:
        """kubectl delete."""
        self.control_plane.kubectl(
            "delete", "llmb", name, "-n", self.namespace, f"--wait={str(wait).lower()}"
        )

    def patch(self, name: str, patch: Mapping[str, Any], *, subresource: str = "") -> None:
        """A merge patch as an administrator."""
        with self.control_plane.client() as client:
            expect(
                client.patch(
                    f"{self.path}/{name}{subresource}",
                    json=patch,
                    headers={"Content-Type": "application/merge-patch+json"},
                )
            )

    def get(self, name: str) -> dict[str, Any]:
        """The resource as it is now."""
        with self.control_plane.client() as client:
            found: dict[str, Any] = expect(client.get(f"{self.path}/{name}"))
        return found

    def items(self) -> list[dict[str, Any]]:
        """All of them."""
        with self.control_plane.client() as client:
            found: list[dict[str, Any]] = expect(client.get(self.path))["items"]
        return found

    def conditions(self, name: str) -> dict[str, str]:
        """Type -> status/reason, of the conditions that are about the current generation."""
        return conditions(self.get(name))

    def ready(self, name: str) -> bool:
        """Ready and recorded, at this very generation."""
        found = self.conditions(name)
        return (found.get("Ready"), found.get("DatabaseSynced")) == ("True/Ready", "True/Synced")

    def all_ready(self, count: int) -> bool:
        """So many, and each ready and recorded."""
        found = [conditions(item) for item in self.items()]
        return len(found) == count and all(
            (one.get("Ready"), one.get("DatabaseSynced")) == ("True/Ready", "True/Synced")
            for one in found
        )

    def configmap(self) -> dict[str, Any] | None:
        """The published ConfigMap."""
        with self.control_plane.client() as client:
            answer = client.get(f"/api/v1/namespaces/{self.namespace}/configmaps/{CONFIG_MAP}")
        return None if answer.status_code == httpx.codes.NOT_FOUND else expect(answer)

    def config(self) -> RoutingConfig:
        """The published configuration, its checksum checked."""
        found = self.configmap()
        assert found is not None, "nothing is published"
        raw = found["data"][CONFIG_KEY].encode()
        assert found["data"][CHECKSUM_KEY] == checksum(raw)
        return parse(raw)

    def urls(self) -> dict[str, str]:
        """Model -> the URL of its first target, as published; empty before that."""
        found = self.configmap()
        # NB: a new ConfigMap is there for a moment before what it holds.
        if found is None or "data" not in found:
            return {}
        return {route.model: route.targets[0].url for route in self.config().routes}


def conditions(item: Mapping[str, Any]) -> dict[str, str]:
    """Type -> status/reason, of the conditions that are about the current generation."""
    generation, status = item["metadata"]["generation"], item.get("status") or {}
    if status.get("observedGeneration") != generation:
        return {}
    return {
        one["type"]: f"{one['status']}/{one['reason']}"
        for one in status.get("conditions", [])
        if one.get("observedGeneration") == generation
    }


def rows(database: str, namespace: str) -> dict[str, tuple[int, bool]]:
    """Name -> generation and whether it lives, of all rows of a namespace."""
    query = (
        "SELECT name, generation, deleted_at IS NULL FROM llmb.llm_backends WHERE namespace = %s"
    )
    with psycopg.connect(database, connect_timeout=5) as connection:
        found = connection.execute(query, (namespace,)).fetchall()
    return {name: (generation, alive) for name, generation, alive in found}
