"""What is measured: the router on its ways, and its peers, each as a command and its settings.

A subject that this machine does not have is an `Absent` that says how to get it.
"""

import json
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers
from bench.process import free_port
from bench.shapes import TRANSLATED
from llm_contract import (
    CHECKSUM_KEY,
    CONFIG_KEY,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
    checksum,
    dump,
)
from llm_operator.publish.folder import swap

ROUTER = "router"
BARE = "bare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One process to measure.

    Attributes:
        ways: label -> prefix of the model names that take it; each is measured apart.
    """

    name: str
    version: str
    port: int
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    ways: Mapping[str, str] = field(default_factory=lambda: {"same protocol": ""})


@dataclass(frozen=True, slots=True)
class Absent:
    """A subject that was left out."""

    name: str
    why: str


def router(work: Path, upstream: int, *, python: str, models: Sequence[str]) -> Subject:
    """The router, its configuration mounted as the kubelet mounts it."""
    url, routes = f"http://127.0.0.1:{upstream}", []
    for prefix, kind in (("", TargetType.OPENAI), (TRANSLATED, TargetType.OLLAMA)):
        for model in models:
            name = (prefix + model).replace("/", "-")
            target = Target(name="stub", type=kind, url=url, model=model)
            routes.append(
                Route(
                    model=prefix + model,
                    uid=name,
                    generation=1,
                    name=name,
                    targets=(target,),
                    timeouts=Timeouts(total=60),
                )
            )
    raw = dump(RoutingConfig(routes=tuple(routes)))
    swap(work / "volume", {CONFIG_KEY: raw, CHECKSUM_KEY: checksum(raw).encode()})
    port = free_port()
    asked = "import platform; print(platform.python_version(), platform.python_compiler())"
    version = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    return Subject(
        name=ROUTER,
        version=f"Python {version.stdout.strip()}",
        port=port,
        command=[python, "-m", "llm_router.cli"],
        env={
            "LLM_ROUTER_CONFIG": str(work / "volume"),
            "LLM_ROUTER_PORT": str(port),
            "LLM_ROUTER_MANAGEMENT_PORT": str(free_port()),
            "LLM_ROUTER_MANAGEMENT_HOST": "127.0.0.1",
            "LLM_ROUTER_USAGE_URL": f"{url}/usage",
        },
        ways={"same protocol": "", "translated": TRANSLATED},
    )


def bare(upstream: int, *, python: str) -> Subject:
    """The router's server and transport with nothing between: no routing can be cheaper."""
    port = free_port()
    command = [python, "-m", "bench.bare", str(port), str(upstream)]
    return Subject(name=BARE, version="the router's two ends", port=port, command=command)


NGINX = """daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx.err warn;
{user}events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; tcp_nodelay on;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/f;
  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
  upstream stub {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def nginx(work: Path, upstream: int) -> Subject | Absent:
    """nginx's own proxy with keep-alive to the upstream, which reads no body: the floor."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return Absent("nginx", _missing("apt-get install nginx"))
    port = free_port()
    user = "user root;\n" if os.geteuid() == 0 else ""
    file = work / "nginx.conf"
    file.write_text(NGINX.format(work=work, port=port, upstream=upstream, user=user))
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    return Subject(
        name="nginx",
        version=told.strip().rpartition("/")[2],
        port=port,
        command=[program, "-c", str(file), "-e", str(work / "nginx.err")],
    )


def vllm_router(upstream: int) -> Subject | Absent:
    """vLLM's router, Rust."""
    found = peers.find("vllm-router")
    if found is None:
        return Absent("vllm-router", _missing(f"{peers.HOW} vllm-router"))
    port = free_port()
    command = [str(found.folder / "bin" / "vllm-router"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--worker-urls", f"http://127.0.0.1:{upstream}"]
    command += ["--policy", "round_robin", "--log-level", "error"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    return Subject(name="vllm-router", version=found.version, port=port, command=command)


def litellm(work: Path, upstream: int, *, models: Sequence[str]) -> Subject | Absent:
    """LiteLLM's proxy, one worker."""
    found = peers.find("litellm")
    if found is None:
        return Absent("LiteLLM", _missing(f"{peers.HOW} litellm"))
    base = f"http://127.0.0.1:{upstream}/v1"
    listed = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": base, "api_key": "none"},
        }
        for name in models
    ]
    file = work / "litellm.yaml"
    # JSON is YAML.
    file.write_text(json.dumps({"model_list": listed}))
    port = free_port()
    command = [str(found.folder / "bin" / "litellm"), "--config", str(file)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    # NB: without a key it does not start, so it checks one; made for this run alone.
    key = f"sk-{secrets.token_hex(32)}"
    env = {
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_MODE": "PRODUCTION",
        "NO_DOCS": "True",
    }
    return Subject(
        name="LiteLLM",
        version=found.version,
        port=port,
        command=command,
        env=env,
        headers={"authorization": f"Bearer {key}"},
    )


def portkey(upstream: int) -> Subject | Absent:
    """Portkey's gateway, Node; the target is chosen by headers, as it wants it."""
    found, node = peers.find("portkey"), shutil.which("node")
    if found is None or node is None:
        return Absent(
            "Portkey", _missing(f"{peers.HOW} portkey", needs="node and npm on PATH, then ")
        )
    port = free_port()
    script = found.folder / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return Subject(
        name="Portkey",
        version=f"{found.version}, Node",
        port=port,
        command=[node, str(script), f"--port={port}", "--headless"],
        env={"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
        headers={
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1",
            "authorization": "Bearer none",
        },
    )


def _missing(command: str, *, needs: str = "") -> str:
    return f"not installed: {needs}`{command}`"


def machine() -> str:
    """The machine in one line, and how busy it is now."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    busy = f"load average {os.getloadavg()[0]:.1f} before the run"
    return f"{model}, {os.cpu_count()} cores, {system}, {busy}"


def stolen() -> float:
    """Seconds of CPU that the machine's own host has kept from it since it started."""
    total = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(total[8]) / os.sysconf("SC_CLK_TCK")
