"""What a story acts on: the cluster, the model servers, the orchestrator with its router.

    scene.switch(mlx=True)                       kubectl apply of the one LLMBackend
    with scene.traffic() as seen: ...            what the orchestrator got meanwhile
    scene.status()                               what its router runs

The orchestrator is asked at its own port and the router at its management port; neither goes
through the API server on the machine's own node, so both can be watched while that is away.
"""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from parts.cluster import Cluster, Object, ready
from parts.eventually import eventually
from stories.hosts import NAMESPACE as HOSTS
from stories.hosts import Hosts
from stories.images import Images

SYSTEM = "llm-backend-system"
NAMESPACE = "stories"
BACKEND = "phi3-mini"
MODEL = "phi3:mini"
ORCHESTRATOR = f"app={NAMESPACE}"
PROGRAM = Path(__file__).with_name("orchestrator.py")

#: A killed router loses the records of its last quarter of a second: so many requests and more.
NEAR = 20
#: What may happen while a port is asked for and its pod or API server is on its way.
WELL = ("Ready", "DatabaseSynced", "Programmed")
AWAY = (httpx.TransportError, subprocess.TimeoutExpired)


@dataclass(slots=True)
class Seen:
    """What became of the orchestrator's requests, in a stretch of time or so far.

    Attributes:
        answered: whole right answers by the type of the host.
        ended: the number of the last request of each worker that is over; they count from 1.
        failures: worker, number and reason of each that failed.
        longest: seconds from one answer to the next at most.
    """

    answered: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, int, str]] = field(default_factory=list)
    failed: int = 0
    longest: float = 0.0

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.answered.values()) + self.failed

    @property
    def identities(self) -> set[str]:
        """The ids of all that are over and got an answer of some kind from the router."""
        every = {f"{worker}-{n}" for worker, last in self.ended.items() for n in range(1, last + 1)}
        return every - {f"{worker}-{number}" for worker, number, _ in self.failures}

    def __str__(self) -> str:
        by = ", ".join(f"{count} by {host}" for host, count in self.answered.items() if count)
        return f"{self.failed} of {self.requests} requests failed ({by or 'none answered'})"

    def well(self) -> None:
        """Not one request failed, and there were some."""
        assert self.failed == 0, "\n".join([str(self), *map(str, self.failures[:20])])
        assert self.requests, "no request was made"


@dataclass(slots=True)
class Scene:
    """One cluster, and what is deployed in it besides the operator.

    Attributes:
        lost: ids of requests whose records may be lost, since their router was killed.
    """

    cluster: Cluster
    images: Images
    hosts: Hosts
    lost: set[str] = field(default_factory=set)
    _pod: Any = None

    def namespace(self) -> None:
        """The application's namespace, in which only restricted pods are admitted."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": NAMESPACE, "labels": labels}
        self.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def secret(self) -> None:
        """The operator's namespace and in it the database's address, as docs/helm.md has it."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": SYSTEM, "labels": labels}
        self.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "llm-backend-database", "namespace": SYSTEM},
                "stringData": {"url": self.hosts.database},
            }
        )

    def deploy(self) -> None:
        """The orchestrator, which gets its router by a label; waits until the router answers."""
        self.cluster.apply(*orchestrator(self.images.operator))
        self.find()
        eventually(self.status, within=90, retry=AWAY)
        self.find()

    def find(self) -> Any:
        """The orchestrator's pod, found anew. It is running; without a route its router is not
        ready.
        """

        def found() -> Any:
            pods = self.cluster.pods(NAMESPACE, ORCHESTRATOR)
            assert len(pods) == 1, f"{len(pods)} pods of the orchestrator"
            assert pods[0]["status"].get("podIP"), pods[0]["status"]
            return pods[0]

        self._pod = eventually(found, within=60)
        return self._pod

    def switch(self, to: str, **spec: object) -> float:
        """Serve the model by `mlx` or `ollama`. Seconds from the apply to the router's table."""
        url = {"mlx": self.hosts.mlx, "ollama": self.hosts.ollama}[to]
        manifest = {
            "apiVersion": "llm.athena.dev/v1alpha1",
            "kind": "LLMBackend",
            "metadata": {"name": BACKEND, "namespace": NAMESPACE},
            "spec": {"modelName": MODEL, "backendType": to, "endpointURL": url} | spec,
        }
        started = time.monotonic()
        apply = ("apply", "--server-side", "-o", "json", "-f", "-")
        made = json.loads(self.cluster.kubectl(*apply, stdin=yaml.safe_dump(manifest)).stdout)
        wanted = (made["metadata"]["uid"], made["metadata"]["generation"])
        eventually(lambda: self.runs() == wanted, within=120, retry=AWAY)
        return time.monotonic() - started

    def fall_back(self) -> None:
        """Serve the model by an MLX server that is not there, and by Ollama after it."""
        dead = self.hosts.mlx.rpartition(":")[0] + ":9"
        fallback = {"fallbackEndpointURL": self.hosts.ollama}
        self.switch("mlx", backendType="auto", endpointURL=dead, **fallback)

    @property
    def router(self) -> str:
        """The id of the router's container, as the runtime has it, when the pod was last found."""
        containers = self._pod["status"]["initContainerStatuses"]
        found = next(each for each in containers if each["name"] == "llm-router")
        return str(found["containerID"]).removeprefix("containerd://")

    def restarted(self, before: Any) -> Any:
        """What the router says, if it began after `before`, what it said then, and has a table."""
        status = self.status()
        return status if status["startedAt"] > before["startedAt"] and status["ready"] else None

    def runs(self) -> tuple[str, int] | None:
        """The uid and generation of the LLMBackend in the router's table, if there is one."""
        config = self.status()["config"]
        routes = config["routes"] if config else []
        return next(((each["uid"], each["generation"]) for each in routes), None)

    def status(self) -> Any:
        """The router's own account of itself."""
        return json.loads(self.cluster.ask(self._pod, port=8081, path="/status"))

    def counts(self, *, anew: bool = False) -> Seen:
        """What the orchestrator got so far."""
        path = "/counts?anew" if anew else "/counts"
        told = self.cluster.ask(self._pod, port=9000, path=path)
        return Seen(**json.loads(told))

    @contextlib.contextmanager
    def traffic(self) -> Iterator[Seen]:
        """What the orchestrator gets inside the block; filled in when it ends."""
        before, seen = self.counts(anew=True), Seen()
        yield seen
        after = self.counts()
        for host, count in after.answered.items():
            seen.answered[host] = count - before.answered.get(host, 0)
        seen.failed = after.failed - before.failed
        seen.failures = after.failures[-seen.failed :] if seen.failed else []
        seen.ended = after.ended
        seen.longest = after.longest

    def answered(self, *, by: str, more: int = 20, within: float = 60) -> None:
        """Wait until this many more requests were answered by hosts of this type."""
        # NB: the application starts after its router.
        seen = eventually(self.counts, within=within, retry=AWAY)
        wanted = seen.answered.get(by, 0) + more

        def enough() -> bool:
            return self.counts().answered.get(by, 0) >= wanted

        eventually(enough, within=within, retry=AWAY)

    def goes_on(self, *, requests: int = 60) -> None:
        """Let the traffic go on: so many requests more, which take some seconds."""
        wanted = self.counts().requests + requests
        eventually(lambda: self.counts().requests >= wanted, within=120, retry=AWAY)

    def condition(self, kind: str) -> str:
        """A condition's status and reason, as `True/Ready`."""
        item = self.cluster.get("llmbackend", BACKEND, "-n", NAMESPACE)
        found = {each["type"]: each for each in item.get("status", {}).get("conditions", ())}
        return f"{found[kind]['status']}/{found[kind]['reason']}" if kind in found else ""

    def ready(self, *, within: float = 60) -> None:
        """Wait until the LLMBackend is ready, recorded and in the router's table."""

        def all_well() -> bool:
            told = {
                kind: self.condition(kind) for kind in ("Ready", "DatabaseSynced", "Programmed")
            }
            assert all(each.startswith("True/") for each in told.values()), told
            return True

        eventually(all_well, within=within, every=0.5, retry=AWAY)

    def scale(self, deployment: str, replicas: int, *, namespace: str = SYSTEM) -> None:
        """Change how many replicas there are, and wait until it is so."""
        of = ("-n", namespace)
        self.cluster.kubectl("scale", f"deployment/{deployment}", *of, f"--replicas={replicas}")
        labels = self.cluster.get("deployment", deployment, *of)["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{key}={text}" for key, text in labels.items())

        def so() -> bool:
            pods = self.cluster.get("pods", *of, "-l", selector)["items"]
            return [ready(pod) for pod in pods] == [True] * replicas

        eventually(so, within=90, every=0.2)

    def query(self, statement: str) -> str:
        """What Postgres says, asked in its own pod."""
        inside = ("exec", "-n", HOSTS, "deployment/postgres", "--", "psql")
        url = "postgresql://llmb:stories@127.0.0.1/llmb"
        return self.cluster.kubectl(*inside, url, "-Atc", statement).stdout.strip()

    def recorded(self) -> set[str]:
        """The ids of the orchestrator's requests that have a record in Postgres."""
        query = f"SELECT request_id FROM llmb.llm_usage WHERE namespace = '{NAMESPACE}'"
        return set(self.query(query).split())

    def all_recorded(self, *, within: float = 90) -> str:
        """Wait until each request that is over by now has its record. How many there are."""
        made = self.counts().identities

        def so() -> bool:
            missing = made - self.recorded() - self.lost
            assert not missing, (
                f"{len(missing)} of {len(made)} have no record: {sorted(missing)[:9]}"
            )
            return True

        eventually(so, within=within, every=0.5)
        lost = len(made - self.recorded())
        return f"{len(made) - lost} of {len(made)} requests have a record"

    def about_to_be_killed(self) -> None:
        """Remember which records may die with the router: those of a moment, in its memory."""
        for worker, last in self.counts().ended.items():
            self.lost |= {f"{worker}-{last + near}" for near in range(-NEAR, NEAR + 1)}

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[str]]:
        """Look at the condition Ready again and again: what was seen besides `True`."""
        seen: list[str] = []
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.5):
                ready = self.condition("Ready")
                if not ready.startswith("True/"):
                    seen.append(ready)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join()

    def leave(self) -> None:
        """Delete the application; its namespace, where its owner may have more, stays."""
        whole = ("deployment/orchestrator", "configmap/orchestrator", "-n", NAMESPACE)
        self.cluster.kubectl("delete", *whole, "--cascade=foreground", "--timeout=60s", within=90)


def orchestrator(image: str) -> list[Object]:
    """A Deployment that asks for a router by its label, and its program."""
    labels = {"app": NAMESPACE, "llm.athena.dev/inject": "true"}
    metadata = {"name": "orchestrator", "namespace": NAMESPACE}
    container = {
        "name": "orchestrator",
        "image": image,
        "command": ["python3", "/program/orchestrator.py"],
        "ports": [{"containerPort": 9000}],
        "resources": {"requests": {"cpu": "250m"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "program", "configMap": {"name": "orchestrator"}}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": NAMESPACE}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    program = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {PROGRAM.name: PROGRAM.read_text()},
    }
    return [program, deployment]
