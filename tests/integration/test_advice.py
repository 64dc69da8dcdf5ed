"""Advice beside an accepted resource: what kubectl prints, and when it prints nothing."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from parts.control_plane import ControlPlane
from parts.eventually import eventually

POLICY = Path(__file__).resolve().parents[2] / "manifests" / "base" / "advice.yaml"
SAID = (
    "Warning: Validation failed for ValidatingAdmissionPolicy 'llm-backend-advice' with binding "
    "'llm-backend-advice': "
)

AUTH = {"secretRef": {"name": "tok", "key": "token"}}
PLAIN = AUTH | {"allowPlaintext": True}
TLS = "https://gpu.lan"


def simple(**spec: Any) -> dict[str, Any]:
    return {"modelName": "phi3:mini", "backendType": "auto"} | spec


def full(*targets: Any) -> dict[str, Any]:
    named = [
        {"name": f"t{number}", "type": "openai"} | target for number, target in enumerate(targets)
    ]
    return {"modelName": "phi3:mini", "targets": named}


def found_in(url: str) -> str:
    return (
        f"{url}: each router finds this in its own pod and nowhere else; name the host, "
        "unless it runs beside the router"
    )


def plain(target: str) -> str:
    return (
        f"the credential of target {target} goes over plain http, where everyone on the way can "
        "read it; use https"
    )


UNVERIFIED = (
    "the certificate of target t0 is not verified, so anyone can answer as it; "
    "name its authority in tls.caRef"
)

LOOPBACK = (
    "http://localhost:11434",
    "http://LOCALHOST",
    "http://localhost.:8080/v1",
    "http://mlx.localhost:8080",
    "http://127.0.0.1:11434",
    "https://127.1.2.3/",
    "http://[::1]:11434",
    "http://[0:0:0:0:0:0:0:1]",
)

ADVISED = [
    *((simple(endpointURL=url), [found_in(url)]) for url in LOOPBACK),
    (simple(fallbackEndpointURL=LOOPBACK[0]), [found_in(LOOPBACK[0])]),
    (
        full({"endpointURL": LOOPBACK[0]}, {"endpointURL": TLS}, {"endpointURL": LOOPBACK[4]}),
        [found_in(f"{LOOPBACK[0]}, {LOOPBACK[4]}")],
    ),
    (full({"endpointURL": "http://gpu.lan", "auth": PLAIN}), [plain("t0")]),
    (
        full(
            {"endpointURL": TLS, "auth": AUTH},
            {"serviceRef": {"name": "gpu", "port": 80}, "auth": PLAIN},
            {"endpointURL": "http://gpu.lan", "auth": PLAIN},
        ),
        [plain("t1, t2")],
    ),
    (full({"endpointURL": TLS, "tls": {"insecureSkipVerify": True}}), [UNVERIFIED]),
    (
        full(
            {"endpointURL": TLS, "tls": {"insecureSkipVerify": True}},
            {"endpointURL": "http://127.0.0.1", "auth": PLAIN},
        ),
        [found_in("http://127.0.0.1"), plain("t1"), UNVERIFIED],
    ),
]

FINE = [
    simple(),
    simple(endpointURL="http://mac-studio.lan:8080", keepAliveSeconds=-1),
    simple(endpointURL="http://localhost.lan:8080"),
    simple(endpointURL="http://notlocalhost"),
    simple(endpointURL="http://192.168.127.1:8080"),
    simple(endpointURL="http://gpu.lan/localhost:80"),
    simple(endpointURL="http://[fd00::1]:11434"),
    simple(endpointURL="http://[fd00::1:1]:11434"),
    full({"endpointURL": TLS, "auth": AUTH, "tls": {"caRef": {"name": "ca"}}}),
    full({"serviceRef": {"name": "gpu", "port": 443, "scheme": "https"}, "auth": PLAIN}),
    full({"endpointURL": "http://gpu.lan"}, {"serviceRef": {"name": "gpu", "port": 80}}),
]


@pytest.fixture(scope="module")
def advice(control_plane: ControlPlane, crd: Any) -> Iterator[None]:
    """The policy at work; it becomes so some time after it is stored."""
    control_plane.kubectl("apply", "--server-side", "-f", POLICY)
    text = manifest(simple(endpointURL=LOOPBACK[0]))
    tried = ("apply", "-n", "default", "--dry-run=server", "-f", "-")
    eventually(lambda: control_plane.kubectl(*tried, stdin=text).stderr, within=30, every=0.5)
    yield
    control_plane.kubectl("delete", "-f", POLICY)


def manifest(spec: dict[str, Any]) -> str:
    head = {"apiVersion": "llm.athena.dev/v1alpha1", "kind": "LLMBackend"}
    return yaml.safe_dump(head | {"metadata": {"name": "advised"}, "spec": spec})


def apply(
    control_plane: ControlPlane, namespace: str, spec: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    return control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest(spec))


@pytest.mark.usefixtures("advice")
@pytest.mark.parametrize(("spec", "said"), ADVISED)
def test_kubectl_prints_it_and_the_resource_is_stored(
    control_plane: ControlPlane, namespace: str, spec: dict[str, Any], said: list[str]
) -> None:
    applied = apply(control_plane, namespace, spec)
    assert sorted(applied.stderr.splitlines()) == sorted(f"{SAID}{line}" for line in said)
    assert applied.stdout == "llmbackend.llm.athena.dev/advised created\n"


@pytest.mark.usefixtures("advice")
@pytest.mark.parametrize("spec", FINE)
def test_what_is_well_is_not_advised_on(
    control_plane: ControlPlane, namespace: str, spec: dict[str, Any]
) -> None:
    assert apply(control_plane, namespace, spec).stderr == ""


@pytest.mark.usefixtures("advice")
def test_only_a_change_of_the_spec_is_advised_on(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The operator's finalizer and a label say nothing new; an edit that mends nothing does."""
    spec = simple(endpointURL=LOOPBACK[0])
    assert apply(control_plane, namespace, spec).stderr
    label = control_plane.kubectl("label", "llmb", "advised", "team=a", "-n", namespace)
    assert label.stderr == ""
    patch = json.dumps({"spec": {"priority": 7}})
    changed = control_plane.kubectl(
        "patch", "llmb", "advised", "-n", namespace, "--type=merge", "-p", patch
    )
    assert changed.stderr == f"{SAID}{found_in(LOOPBACK[0])}\n"
    assert apply(control_plane, namespace, simple(endpointURL="http://mac.lan:8080")).stderr == ""
