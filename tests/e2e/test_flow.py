"""One setting from `kubectl apply` to an answer, every part real and a process of its own.

kubectl -> API server -> `llmb operator` under the shipped Role -> Postgres, ConfigMap, status
-> the kubelet's swap -> `llm-router` -> Ollama and mlx_lm.server.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from llm_contract import (
    CHECKSUM_KEY,
    CONFIG_KEY,
    Defaults,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
    checksum,
    dump,
)
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.kubelet import Kubelet
from parts.mlx import Mlx
from parts.ollama import Ollama
from parts.operator import CONFIG_MAP, Operator
from parts.postgres import Postgres
from parts.router import Router

ROOT = Path(__file__).resolve().parents[2]
LLMB = [sys.executable, "-m", "llm_operator.cli"]


@dataclass(slots=True)
class System:
    """Everything of one namespace, from kubectl to the router."""

    control_plane: ControlPlane
    namespace: str
    operator: Operator
    router: Router
    database: str
    ollama: Ollama
    mlx: Mlx

    def apply(self, **spec: object) -> None:
        """kubectl apply of the resource phi3-mini."""
        manifest = {
            "apiVersion": "llm.athena.dev/v1alpha1",
            "kind": "LLMBackend",
            "metadata": {"name": "phi3-mini", "namespace": self.namespace},
            "spec": {"modelName": "phi3:mini"} | spec,
        }
        self.control_plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    def apply_auto(self) -> None:
        """The model on MLX first, then on Ollama."""
        self.apply(
            backendType="auto",
            endpointURL=self.mlx.url,
            fallbackEndpointURL=self.ollama.url,
            maxTokens=8,
            timeoutSeconds=30,
        )

    def get(self) -> dict[str, Any]:
        """The resource as it is now."""
        got = self.control_plane.kubectl(
            "get", "llmb", "phi3-mini", "-n", self.namespace, "-o", "json"
        )
        resource: dict[str, Any] = json.loads(got.stdout)
        return resource

    def ready(self) -> bool:
        """Ready, at this very generation, as `kubectl wait` would see it."""
        resource = self.get()
        generation, status = resource["metadata"]["generation"], resource.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        ready = conditions.get("Ready", {})
        return (
            status.get("observedGeneration") == generation == ready.get("observedGeneration")
            and ready["status"] == "True"
        )

    def condition(self, kind: str) -> tuple[str, str]:
        """A condition's status and reason."""
        conditions = self.get().get("status", {}).get("conditions", ())
        return next(((c["status"], c["reason"]) for c in conditions if c["type"] == kind), ("", ""))

    def config_map(self) -> dict[str, str]:
        """The published data."""
        got = self.control_plane.kubectl(
            "get", "configmap", CONFIG_MAP, "-n", self.namespace, "-o", "json"
        )
        data: dict[str, str] = json.loads(got.stdout)["data"]
        return data

    def rows(self) -> list[tuple[object, ...]]:
        """The live rows of the namespace."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(
                "SELECT name, model_name, backend_type, generation FROM llmb.llm_backends"
                " WHERE namespace = %s AND deleted_at IS NULL",
                [self.namespace],
            ).fetchall()

    def ask(self) -> httpx.Response:
        """One short chat through the router."""
        return httpx.post(
            f"{self.router.url}/v1/chat/completions",
            json={
                "model": "phi3:mini",
                "messages": [{"role": "user", "content": "Hi"}],
                "temperature": 0,
                "max_tokens": 4,
            },
            trust_env=False,
            timeout=60,
        )

    def answered_by(self) -> str:
        """Which type of host answers now; "" for an error."""
        return self.ask().headers.get("x-llm-backend-type", "")


@pytest.fixture
def system(
    control_plane: ControlPlane,
    crd: object,
    namespace: str,
    private_postgres: Postgres,
    make_kubelet: Callable[..., Kubelet],
    make_router: Callable[..., Router],
    ollama_server: Ollama,
    mlx_server: Mlx,
    tmp_path: Path,
) -> Iterator[System]:
    """A namespace with everything around it; nothing applied yet."""
    control_plane.kubectl("apply", "-f", ROOT / "manifests" / "base" / "rbac.yaml")
    account = control_plane.service_account("llm-backend-system", "llm-backend-operator")
    database = private_postgres.uri_of(private_postgres.create_database())
    migrated = subprocess.run(
        [*LLMB, "migrate"],
        env={"LLMB_DATABASE_URL": database, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert migrated.returncode == 0, migrated.stderr
    operator = Operator(
        control_plane,
        folder=tmp_path,
        database=database,
        user=account,
        settings={"LLMB_RESYNC_SECONDS": "3"},
    )
    operator.start()
    kubelet = make_kubelet(namespace, CONFIG_MAP)
    router = make_router()
    router.mount.rmdir()
    router.mount.symlink_to(kubelet.folder)
    router.start()
    yield System(
        control_plane=control_plane,
        namespace=namespace,
        operator=operator,
        router=router,
        database=database,
        ollama=ollama_server,
        mlx=mlx_server,
    )
    operator.end()
    kubelet.stop()


def golden(system: System) -> bytes:
    """The canonical bytes for `apply_auto`, written down by hand."""
    route = Route(
        model="phi3:mini",
        uid=system.get()["metadata"]["uid"],
        generation=1,
        name="phi3-mini",
        targets=(
            Target(name="mlx", type=TargetType.MLX, url=system.mlx.url, model="default_model"),
            Target(name="ollama", type=TargetType.OLLAMA, url=system.ollama.url, model="phi3:mini"),
        ),
        timeouts=Timeouts(total=30),
        defaults=Defaults(max_tokens=8),
    )
    return dump(RoutingConfig(routes=(route,)))


def test_apply_is_recorded_published_and_answered_by_real_hosts(system: System) -> None:
    system.apply_auto()
    eventually(system.ready, within=10)
    assert system.config_map() == {
        CONFIG_KEY: golden(system).decode(),
        CHECKSUM_KEY: checksum(golden(system)),
    }
    eventually(system.rows, within=5)
    assert system.rows() == [("phi3-mini", "phi3:mini", "auto", 1)]

    eventually(lambda: system.answered_by() == "mlx", within=5)
    answer = system.ask()
    assert answer.json()["model"] == "phi3:mini"
    assert answer.headers["x-llm-upstream-model"] == "default_model"
    assert answer.headers["x-llm-config"] == checksum(golden(system))[:12]

    with system.mlx.down():
        fallen_over = system.ask()
        assert fallen_over.status_code == 200
        assert fallen_over.headers["x-llm-backend-type"] == "ollama"
        assert fallen_over.headers["x-llm-attempts"] == "2"
        assert fallen_over.headers["x-llm-fallback-reason"] == "ConnectFailure"
    assert system.answered_by() == "mlx"


def test_update_and_delete_travel_the_same_way(system: System) -> None:
    system.apply_auto()
    eventually(lambda: system.answered_by() == "mlx", within=15)
    system.apply(backendType="ollama", endpointURL=system.ollama.url, maxTokens=8)
    eventually(lambda: system.answered_by() == "ollama", within=5)
    eventually(system.ready, within=5)
    eventually(lambda: system.rows() == [("phi3-mini", "phi3:mini", "ollama", 2)], within=5)

    system.control_plane.kubectl("delete", "llmb", "phi3-mini", "-n", system.namespace)
    eventually(lambda: system.ask().status_code == 404, within=5)
    assert system.rows() == []
    assert system.config_map()[CONFIG_KEY].encode() == dump(RoutingConfig())


def test_a_delete_while_the_operator_is_down_is_cleaned_up_at_its_start(system: System) -> None:
    system.apply_auto()
    eventually(lambda: system.answered_by() == "mlx", within=15)
    assert system.operator.end() == 0
    system.control_plane.kubectl(
        "delete", "llmb", "phi3-mini", "-n", system.namespace, "--wait=false"
    )
    assert system.answered_by() == "mlx", "routers serve on without the operator"
    system.operator.start()
    eventually(lambda: system.ask().status_code == 404, within=10)

    def gone() -> bool:
        got = system.control_plane.kubectl(
            "get", "llmb", "phi3-mini", "-n", system.namespace, check=False
        )
        return "NotFound" in got.stderr

    eventually(gone, within=10)
    eventually(lambda: system.rows() == [], within=5)


def test_a_config_map_edited_by_hand_is_repaired(system: System) -> None:
    system.apply_auto()
    eventually(lambda: system.answered_by() == "mlx", within=15)
    good = system.config_map()
    edit = json.dumps({"data": {CONFIG_KEY: '{"schemaVersion": 1, "routes": []}\n'}})
    system.control_plane.kubectl(
        "patch", "configmap", CONFIG_MAP, "-n", system.namespace, "--type=merge", "-p", edit
    )
    # The router refuses it, because the checksum beside it is of other bytes, and serves on.
    eventually(lambda: system.router.status()["rejected"] or system.config_map() == good, within=5)
    assert system.ask().status_code == 200
    eventually(lambda: system.config_map() == good, within=10)
    eventually(lambda: system.router.status()["rejected"] is None, within=5)


def test_without_postgres_routes_still_change_and_all_is_synced_after_its_return(
    system: System, private_postgres: Postgres
) -> None:
    system.apply_auto()
    eventually(lambda: system.condition("DatabaseSynced")[0] == "True", within=10)
    with private_postgres.down():
        system.apply(backendType="ollama", endpointURL=system.ollama.url)
        eventually(lambda: system.answered_by() == "ollama", within=5)
        wanted = ("False", "DatabaseUnavailable")
        eventually(lambda: system.condition("DatabaseSynced") == wanted, within=15)
        assert system.condition("Ready")[0] == "True"
    eventually(lambda: system.condition("DatabaseSynced") == ("True", "Synced"), within=30)
    assert system.rows() == [("phi3-mini", "phi3:mini", "ollama", 2)]


def test_the_router_serves_and_restarts_with_all_else_down(
    system: System, private_postgres: Postgres
) -> None:
    system.apply_auto()
    eventually(lambda: system.answered_by() == "mlx", within=15)
    system.operator.end()
    with system.control_plane.down(), private_postgres.down():
        assert system.answered_by() == "mlx"
        system.router.stop()
        system.router.start()
        eventually(lambda: system.answered_by() == "mlx", within=5, retry=(httpx.TransportError,))
