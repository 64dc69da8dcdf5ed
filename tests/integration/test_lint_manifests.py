"""kube-score finds nothing in any render of the manifests that is not allowed with a reason.

What is allowed stands in manifests/.kube-score.yaml.
"""

import copy
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from parts import build
from parts.absent import absent
from parts.helm import Helm
from parts.manifests import MANIFESTS, Object, only, overlay, render, workloads

pytest_plugins = ["parts.helm"]

ALLOWED: list[dict[str, Any]] = yaml.safe_load((MANIFESTS / ".kube-score.yaml").read_text())

ON = {"enabled": True}
POLICY = "components/network-policy"
EVERYTHING = ("components/injection", "components/metrics", "components/postgres")
#: What is not in kube-score's usual set and holds of these manifests all the same.
MORE = ("container-seccomp-profile", "container-ports-check")

#: Render -> the overlay's resources and components.
OVERLAYS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "cluster": (["overlays/cluster"], []),
    "cluster for GitOps": (["overlays/cluster"], ["gitops/order"]),
    "cluster with everything": (["overlays/cluster"], [*EVERYTHING, "observability"]),
    "namespaced": (["overlays/namespaced"], [POLICY]),
    "base": (["base"], [POLICY]),
}
#: Render -> the chart's values.
CHARTS: Mapping[str, Mapping[str, Any]] = {
    "chart": {},
    "chart with everything": {"injection": ON, "postgres": ON, "metrics": {"service": ON}},
    "chart for some namespaces": {"namespaces": ["models"]},
}


#: What the sidecar is put beside.
APPLICATION = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "app", "labels": {"llm.athena.dev/inject": "true"}},
    "spec": {
        "selector": {"matchLabels": {"app": "app"}},
        "template": {
            "metadata": {"labels": {"app": "app"}},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        },
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing that kube-score says of one object."""

    check: str
    name: str
    where: str
    summary: str


@pytest.fixture(scope="session")
def kube_score() -> Path:
    """The program."""
    folder = build.located("tools")
    if folder is None or not (folder / "kube-score").exists():
        absent("kube-score", remedy="run `make tools` (a minute or two, once)")
    return folder / "kube-score"


def remarks(program: Path, objects: Sequence[Object]) -> set[Remark]:
    """All that it says of these objects, which it sees together."""
    ended = subprocess.run(
        [
            *(program, "score", "--output-format", "json", "--output-version", "v2"),
            *(f"--enable-optional-test={check}" for check in MORE),
            "-",
        ],
        input=yaml.safe_dump_all(objects),
        capture_output=True,
        text=True,
        timeout=60,
    )
    # NB: it exits with 1 when it has something to say, and then still says all of it.
    assert ended.returncode in (0, 1), ended.stderr
    scored = json.loads(ended.stdout)
    assert scored, "it has looked at nothing"
    return {
        Remark(
            check=check["check"]["id"],
            name=each["object_meta"]["name"],
            where=comment["path"],
            summary=comment["summary"],
        )
        for each in scored
        for check in each["checks"]
        if not check["skipped"] and check["grade"] < 10
        for comment in check["comments"]
    }


def allows(exception: Mapping[str, Any], remark: Remark) -> bool:
    """Whether it is about this."""
    named = exception.get("objects")
    return (exception["check"], exception["summary"]) == (remark.check, remark.summary) and (
        named is None or remark.name in named
    )


def faults(found: set[Remark]) -> list[str]:
    """What is not allowed."""
    return sorted(
        f"{remark.name} {remark.where}: {remark.summary} ({remark.check})"
        for remark in found
        if not any(allows(exception, remark) for exception in ALLOWED)
    )


def overlaid(folder: Path, name: str) -> list[Object]:
    resources, components = OVERLAYS[name]
    images = [{"name": image, "newTag": "1.2.3"} for image in ("llm-backend", "llm-router")]
    return render(overlay(folder, resources=resources, components=components, images=images))


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_clean(name: str, kube_score: Path, tmp_path: Path) -> None:
    assert faults(remarks(kube_score, overlaid(tmp_path, name))) == []


@pytest.mark.parametrize("name", CHARTS)
def test_the_chart_is_clean(name: str, kube_score: Path, helm: Helm) -> None:
    assert faults(remarks(kube_score, helm.render(**CHARTS[name]))) == []


@pytest.mark.parametrize("check", MORE)
def test_more_than_the_usual_is_asked(check: str, kube_score: Path) -> None:
    names = subprocess.run([kube_score, "list"], capture_output=True, text=True, timeout=60).stdout
    assert f"{check},Pod," in names


def test_the_sidecar_is_clean(kube_score: Path, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(APPLICATION))
    images = [{"name": "llm-router", "newTag": "1.2.3"}]
    given = render(
        overlay(
            tmp_path,
            resources=[Path("app.yaml")],
            components=["components/sidecar"],
            images=images,
        )
    )
    (router,) = given[0]["spec"]["template"]["spec"]["initContainers"]
    # NB: as a container, since kube-score looks at an init container less closely.
    given[0]["spec"]["template"]["spec"]["containers"] = [router]
    del given[0]["spec"]["template"]["spec"]["initContainers"]
    del router["restartPolicy"]
    found = {remark for remark in remarks(kube_score, given) if remark.where == "llm-router"}
    assert found, "it has not looked at the router"
    assert faults(found) == []


def test_every_exception_is_needed_and_has_a_reason(
    kube_score: Path, tmp_path: Path, helm: Helm
) -> None:
    found = remarks(kube_score, overlaid(tmp_path, "cluster with everything"))
    found |= remarks(kube_score, helm.render())
    idle = [each for each in ALLOWED if not any(allows(each, remark) for remark in found)]
    assert idle == []
    assert all(each["why"].endswith(".") for each in ALLOWED)


BROKEN = {
    "container-security-context-readonlyrootfilesystem": {"readOnlyRootFilesystem": False},
    "container-security-context-privileged": {"privileged": True},
}


@pytest.mark.parametrize("check", BROKEN)
def test_what_is_wrong_is_found(check: str, kube_score: Path, tmp_path: Path) -> None:
    objects = copy.deepcopy(overlaid(tmp_path, "cluster"))
    operator = only(objects, "Deployment", "llm-backend-operator")
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    container["securityContext"] |= BROKEN[check]
    (fault,) = faults(remarks(kube_score, objects))
    assert fault.endswith(f"({check})")


def test_an_exception_allows_no_more_than_it_says(kube_score: Path, tmp_path: Path) -> None:
    objects = copy.deepcopy(overlaid(tmp_path, "cluster"))
    for workload in workloads(objects):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            del container["resources"]["limits"]
    assert {fault.rpartition(": ")[2] for fault in faults(remarks(kube_score, objects))} == {
        "Memory limit is not set (container-resources)"
    }
