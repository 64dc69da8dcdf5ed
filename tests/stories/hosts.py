"""What the stories need that is not ours: an Ollama, an mlx_lm.server and a Postgres.

On the machine's own node they are pods of the namespace `hosts`, with the programs, libraries and
models of this machine mounted from its folders, because no registry has images of them here. On
another cluster LLMB_OLLAMA_URL and LLMB_MLX_URL name servers that its pods reach, and Postgres is
the official image.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from parts import gguf_model, mlx_model
from parts.cluster import Cluster, Object
from parts.ollama import MODEL, Ollama
from parts.ollama import program as ollama_program
from stories import archive

NAMESPACE = "hosts"
POSTGRES_IMAGE = "docker.io/library/postgres:18"
#: An image with nothing in it: all that the pods run is mounted.
EMPTY_IMAGE = "docker.io/library/empty:stories"
DATABASE = f"postgresql://llmb:stories@postgres.{NAMESPACE}.svc:5432/llmb"
#: NB: without a request a pod gets next to nothing of a busy machine's processors.
RESOURCES = {"requests": {"cpu": "250m"}}
GIVEN = ("LLMB_OLLAMA_URL", "LLMB_MLX_URL")


@dataclass(frozen=True, slots=True)
class Hosts:
    """Addresses that pods reach: of the model servers, and the database of the record."""

    ollama: str
    mlx: str
    database: str = DATABASE


def start(cluster: Cluster, folder: Path) -> Hosts:
    """Start what is not given, and wait until it is ready."""
    if cluster.node is None:
        given = [os.environ.get(name, "") for name in GIVEN]
        if not all(given):
            pytest.skip(f"set {' and '.join(GIVEN)} to servers that the cluster's pods reach")
        cluster.apply(_namespace(), *_postgres(volume=None))
        hosts = Hosts(*given)
    else:
        cluster.load(_images(folder))
        cluster.apply(_namespace(), *_postgres(volume=_made(folder / "postgres", owner=999)))
        cluster.apply(*_ollama(folder), *_mlx(folder))
        for name in ("ollama", "mlx"):
            cluster.rolled_out(f"deployment/{name}", namespace=NAMESPACE)
        inside = f"{NAMESPACE}.svc"
        hosts = Hosts(f"http://ollama.{inside}:11434", f"http://mlx.{inside}:8080")
    cluster.rolled_out("deployment/postgres", namespace=NAMESPACE)
    return hosts


def _images(folder: Path) -> Iterator[Path]:
    """Archives of the two images that have no registry here."""
    postgres, empty = folder / "postgres.tar", folder / "empty.tar"
    archive.write_postgres(postgres, name=POSTGRES_IMAGE)
    archive.write_empty(empty, name=EMPTY_IMAGE)
    yield from (postgres, empty)


def _namespace() -> Object:
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    metadata = {"name": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _ollama(folder: Path) -> list[Object]:
    """An Ollama that has one tiny model; it is made before by the same program."""
    models = _made(folder / "ollama")
    gguf_model.write(models / "tiny.gguf")
    server = Ollama(folder=models, program=ollama_program())
    server.start()
    server.create(MODEL)
    server.stop()
    environment = {
        "HOME": "/tmp",
        "OLLAMA_HOST": "0.0.0.0:11434",
        "OLLAMA_MODELS": str(models / "models"),
        "OLLAMA_KEEP_ALIVE": "1h",
    }
    return _server(
        "ollama",
        command=[str(server.program), "serve"],
        environment=environment,
        port=11434,
        path="/api/version",
        folders=[models, server.program.parent],
    )


def _mlx(folder: Path) -> list[Object]:
    """An mlx_lm.server of a tiny model, run by the tests' own Python."""
    model = _made(folder / "mlx")
    mlx_model.write(model)
    server = ["-m", "mlx_lm", "server", "--host", "0.0.0.0", "--port", "8080"]
    return _server(
        "mlx",
        command=[sys.executable, *server, "--model", str(model), "--max-tokens", "16"],
        environment={
            "HOME": "/tmp",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
        port=8080,
        path="/health",
        folders=[model, Path(sys.prefix), Path(sys.base_prefix)],
    )


def _server(
    name: str,
    *,
    command: list[str],
    environment: dict[str, str],
    port: int,
    path: str,
    folders: list[Path],
) -> list[Object]:
    """A Deployment of a program of this machine, and its Service."""
    mounted = {str(each) for each in (*folders, "/usr", "/lib", "/lib64")}
    # NB: what lies below another one is there already.
    mounted = {each for each in mounted if not any(each.startswith(f"{m}/") for m in mounted)}
    volumes: list[Any] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Any] = [{"name": "tmp", "mountPath": "/tmp"}]
    for number, each in enumerate(sorted(mounted)):
        volumes.append({"name": f"folder-{number}", "hostPath": {"path": each}})
        mounts.append({"name": f"folder-{number}", "mountPath": each, "readOnly": True})
    container = {
        "name": name,
        "image": EMPTY_IMAGE,
        "imagePullPolicy": "Never",
        "command": command,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "ports": [{"containerPort": port}],
        "readinessProbe": {"httpGet": {"path": path, "port": port}, "periodSeconds": 1},
        "resources": RESOURCES,
        "volumeMounts": mounts,
    }
    return _deployed(name, port=port, spec={"containers": [container], "volumes": volumes})


def _postgres(*, volume: Path | None) -> list[Object]:
    """A Postgres whose data outlives its pod: in a folder of the machine, else in a claim."""
    kept = {"hostPath": {"path": str(volume)}} if volume else None
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "postgres", "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    environment = {
        "POSTGRES_USER": "llmb",
        "POSTGRES_PASSWORD": "stories",
        "POSTGRES_DB": "llmb",
        "PGDATA": "/data/pgdata",
    }
    ready = {"exec": {"command": ["pg_isready", "-h", "127.0.0.1", "-U", "llmb"]}}
    container = {
        "name": "postgres",
        "image": POSTGRES_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "ports": [{"containerPort": 5432}],
        "readinessProbe": ready | {"periodSeconds": 1},
        "resources": RESOURCES,
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "containers": [container],
        "securityContext": {"runAsUser": 999, "fsGroup": 999},
        "volumes": [
            {"name": "data"} | (kept or {"persistentVolumeClaim": {"claimName": "postgres"}})
        ],
    }
    return [*([] if kept else [claim]), *_deployed("postgres", port=5432, spec=spec)]


def _deployed(name: str, *, port: int, spec: Object) -> list[Object]:
    """A Deployment of one pod, and its Service."""
    metadata = {"name": name, "namespace": NAMESPACE}
    labels = {"app": name}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            # NB: two of them at once would work in one folder.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 5, "enableServiceLinks": False, **spec},
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": labels, "ports": [{"port": port}]},
    }
    return [deployment, service]


def _made(folder: Path, *, owner: int = 0) -> Path:
    folder.mkdir()
    os.chown(folder, owner, owner)
    return folder
