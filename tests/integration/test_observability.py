"""The shipped dashboards and alerts on what a real Prometheus scrapes of real processes: a router
with traffic and trouble, an operator with Postgres behind it, an admin API that wants its token.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from parts.admin import Admin
from parts.control_plane import ControlPlane
from parts.docs import DOCS, commands
from parts.eventually import eventually, eventually_async
from parts.manifests import only, overlay, render
from parts.operator import Backends, Operator
from parts.prometheus import (
    HONOURED,
    SHIPPED,
    Prometheus,
    QueryError,
    Target,
    evaluate,
    expressions,
    groups,
    programs,
)
from parts.router import PLAIN, Router

MODEL = "phi3:mini"
TALK = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": True}
REQUESTS = (
    ("/api/chat", TALK),
    ("/v1/chat/completions", TALK | {"stream_options": {"include_usage": True}}),
    ("/generate", {"model": MODEL, "prompt": "hello"}),
)
ERROR = Behaviour(mode="status:500")


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    """One that is not started."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    made = Prometheus(folder, programs() / "prometheus")
    yield made
    made.stop()


@pytest.fixture
def admin(control_plane: ControlPlane, migrated: str, tmp_path: Path) -> Iterator[Admin]:
    """An admin API that is not started."""
    folder = tmp_path / "admin"
    folder.mkdir()
    made = Admin(control_plane, folder=folder, database=migrated)
    yield made
    made.kill()


def token(control_plane: ControlPlane) -> str:
    """One with the rights that manifests/observability/admin gives, in the admin's namespace."""
    documents = yaml.safe_load_all((SHIPPED / "admin" / "rbac.yaml").read_text())
    (role,) = [each for each in documents if each["kind"] == "Role"]
    return control_plane.create_user("metrics", role["rules"], namespace="default").token


def apply(backends: Backends, *, mlx: Simulator, ollama: Simulator, **more: object) -> None:
    """A model on both hosts, of which one failure opens a breaker."""
    targets = [
        {"name": name, "type": name, "endpointURL": f"http://127.0.0.1:{host.port}"}
        for name, host in (("mlx", mlx), ("ollama", ollama))
    ]
    backends.apply(
        backends.manifest(
            "phi",
            modelName=MODEL,
            backendType=None,
            endpointURL=None,
            targets=targets,
            healthCheck={"passive": {"consecutiveFailures": 1, "ejectSeconds": 1}},
            **more,
        )
    )


async def post(client: httpx.AsyncClient) -> None:
    """Each request once, whatever comes of it."""
    await asyncio.gather(*(client.post(path, json=body) for path, body in REQUESTS))


@pytest.mark.usefixtures("crd")
@pytest.mark.timeout(300)
async def test_every_panel_has_data_and_every_expression_is_understood(
    make_operator: Callable[..., Operator],
    make_router: Callable[..., Router],
    admin: Admin,
    control_plane: ControlPlane,
    namespace: str,
    mlx_simulator: Simulator,
    ollama_simulator: Simulator,
    prometheus: Prometheus,
) -> None:
    operator = make_operator(settings={"LLMB_RESYNC_SECONDS": "1"})
    router, backends = make_router(), Backends(control_plane, namespace)

    def start() -> None:
        operator.start()
        admin.start()
        router.start()
        apply(backends, mlx=mlx_simulator, ollama=ollama_simulator)

    def published() -> bool:
        held = backends.configmap()
        if held is None or not backends.ready("phi"):
            return False
        router.project({name: text.encode() for name, text in held["data"].items()})
        return router.ready() == 200

    def watch() -> None:
        pods = {"namespace": namespace, "pod": "app-0"}
        system = {"namespace": "llm-backend-system"}
        prometheus.start(
            [
                Target("llm-router", f"127.0.0.1:{router.management_port}", pods),
                Target(HONOURED, f"127.0.0.1:{operator.port}", system | {"pod": "operator-0"}),
                Target(
                    "llm-backend-admin",
                    f"127.0.0.1:{admin.port}",
                    system | {"pod": "admin-0"},
                    token=token(control_plane),
                ),
            ]
        )

    await asyncio.to_thread(start)
    await eventually_async(lambda: asyncio.to_thread(published), within=60)
    await asyncio.to_thread(watch)
    await eventually_async(lambda: asyncio.to_thread(prometheus.scraped), within=60)

    async def told() -> bool:
        mlx_simulator.behaviour = ollama_simulator.behaviour = Behaviour()
        await post(client)
        mlx_simulator.behaviour = ERROR
        await post(client)
        ollama_simulator.behaviour = ERROR
        await post(client)
        report = await asyncio.to_thread(evaluate, prometheus)
        assert report.errors == {}
        assert report.empty == []
        return True

    async with httpx.AsyncClient(base_url=router.url, timeout=30, **PLAIN) as client:
        await eventually_async(told, within=120, every=1, retry=(AssertionError,))
    # Both sides name a configuration alike, or every router would be stale, or none.
    stale = alert("RouterConfigStale")
    assert prometheus.query(stale) == []
    apply(backends, mlx=mlx_simulator, ollama=ollama_simulator, timeoutSeconds=33)

    def behind() -> bool:
        return [each["metric"]["pod"] for each in prometheus.query(stale)] == ["app-0"]

    await eventually_async(lambda: asyncio.to_thread(behind), within=30)


def alert(name: str) -> str:
    """The expression of an alert that stands once."""
    (found,) = [each.expr for each in expressions() if each.where == name]
    return found


def test_what_prometheus_does_not_understand_is_an_error(prometheus: Prometheus) -> None:
    prometheus.start([])
    with pytest.raises(QueryError, match="parse error"):
        prometheus.query("sum(")
    assert prometheus.query("vector(1)")[0]["value"][1] == "1"
    assert not prometheus.scraped()
    # NB: of nothing that runs, there is nothing to see but what says so.
    report = evaluate(prometheus)
    assert report.errors == {}
    assert "llm-router/4 Answered" in report.empty


def test_an_overlay_adds_it_to_an_install(tmp_path: Path) -> None:
    components = ["components/admin", "observability", "observability/admin"]
    objects = render(overlay(tmp_path, resources=["base"], components=components))
    dashboards = only(objects, "ConfigMap", "llm-backend-dashboards")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert set(dashboards["data"]) == {path.name for path in SHIPPED.glob("dashboards/*")}
    # A pod monitor finds the pods it is for, by their labels and the port's name.
    for name in ("llm-backend-operator", "llm-backend-admin"):
        monitor = only(objects, "PodMonitor", name)
        template = only(objects, "Deployment", name)["spec"]["template"]
        wanted = monitor["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= template["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in ports(template["spec"])
    token = only(objects, "Secret", "llm-backend-metrics")
    assert token["metadata"]["annotations"] == {
        "kubernetes.io/service-account.name": "llm-backend-metrics"
    }


def test_a_sidecar_is_found_and_sends_spans(tmp_path: Path) -> None:
    application = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "orchestrator", "labels": {"llm.athena.dev/inject": "true"}},
        "spec": {
            "selector": {"matchLabels": {"app": "orchestrator"}},
            "template": {
                "metadata": {"labels": {"app": "orchestrator"}},
                "spec": {"containers": [{"name": "app", "image": "app"}]},
            },
        },
    }
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.mkdir()
    (inner / "application.yaml").write_text(yaml.safe_dump(application))
    overlay(inner, resources=[Path("application.yaml")], components=["components/sidecar"])
    outer.mkdir()
    (outer / "otlp.yaml").write_text((SHIPPED / "otlp" / "router.yaml").read_text())
    objects = render(overlay(outer, resources=[Path("../inner")], patches=[{"path": "otlp.yaml"}]))
    template = only(objects, "Deployment", "orchestrator")["spec"]["template"]
    assert "llm.athena.dev/router" in template["metadata"]["labels"]
    assert "management" in ports(template["spec"])
    (router,) = template["spec"]["initContainers"]
    environment = {each["name"]: each.get("value") for each in router["env"]}
    assert environment["LLM_ROUTER_TRACE_RATIO"] == "0.05"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in environment
    assert router["image"].startswith("llm-router")


def ports(spec: dict[str, Any]) -> set[str]:
    """The names of a pod's ports, those of init containers too, as Prometheus finds them."""
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    return {port["name"] for each in containers for port in each.get("ports", ())}


def test_the_document_s_way_to_a_rule_file(tmp_path: Path) -> None:
    (tmp_path / "manifests").symlink_to(SHIPPED.parent)
    (block,) = commands(DOCS / "observability.md", "the rules as a file")
    path = [str(Path(sys.executable).parent), str(programs()), os.environ["PATH"]]
    ended = subprocess.run(
        ["bash", "-ec", block],
        cwd=tmp_path,
        env={"PATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    held = yaml.safe_load((tmp_path / "llm-backend-rules.yml").read_text())
    assert held == {"groups": groups()}


#: Pods as Prometheus discovers them: a port of a container -> whether, and as whose, it is scraped.
DISCOVERED: dict[tuple[str, str, str, str], str] = {
    ("models", "router", "management", "Running"): "llm-router",
    ("models", "router", "management", "Succeeded"): "",
    ("models", "router", "web", "Running"): "",
    ("models", "", "management", "Running"): "",
    ("llm-backend-system", "operator", "health", "Running"): "llm-backend-operator",
    ("llm-backend-system", "admin", "http", "Running"): "llm-backend-admin",
}


def discovered(namespace: str, part: str, port: str, phase: str) -> dict[str, str]:
    """The labels of a target before any rule."""
    labels = {"namespace": namespace, "pod_name": "app-0", "pod_container_port_name": port}
    labels |= {"pod_phase": phase, "pod_container_init": "true"}
    if part == "router":
        labels["pod_labelpresent_llm_athena_dev_router"] = "true"
    elif part:
        labels["pod_label_app_kubernetes_io_component"] = part
    return {f"__meta_kubernetes_{name}": value for name, value in labels.items()}


def test_the_plain_scrape_configuration_keeps_what_it_should(prometheus: Prometheus) -> None:
    # NB: Debian's Prometheus has no discovery by Kubernetes; what it would find is given here.
    configs = yaml.safe_load((SHIPPED / "scrape.yaml").read_text())["scrape_configs"]
    for config in configs:
        del config["kubernetes_sd_configs"]
        config.pop("authorization", None)
        config["static_configs"] = [
            {"targets": [f"127.0.0.1:{number}"], "labels": discovered(*pod)}
            for number, pod in enumerate(DISCOVERED, start=1)
        ]
    prometheus.run(configs)
    eventually(lambda: len(prometheus.targets()) == sum(map(bool, DISCOVERED.values())), within=20)
    found = {
        each["labels"]["instance"]: (each["labels"]["job"], each["labels"]["namespace"])
        for each in prometheus.targets()
    }
    assert found == {
        f"127.0.0.1:{number}": (job, pod[0])
        for number, (pod, job) in enumerate(DISCOVERED.items(), start=1)
        if job
    }
    assert {each["labels"]["pod"] for each in prometheus.targets()} == {"app-0"}
