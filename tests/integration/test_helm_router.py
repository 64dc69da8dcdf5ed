"""The library chart gives an application's pods the router, by the words of its README."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_router import settings
from parts.control_plane import ControlPlane
from parts.helm import CHARTS, Helm, described, leaves, rows
from parts.manifests import only, overlay, render

pytest_plugins = ["parts.helm"]

LIBRARY = CHARTS / "llm-router"
VERSION = yaml.safe_load((LIBRARY / "Chart.yaml").read_text())["version"]
README = (LIBRARY / "README.md").read_text()

#: Settings that the named templates make themselves, or that their mounts and probes rely on.
OWN = {
    *("LLM_ROUTER_CONFIG", "LLM_ROUTER_CREDENTIALS", "LLM_ROUTER_LIFELINE"),
    *("LLM_ROUTER_MANAGEMENT_HOST", "LLM_ROUTER_MANAGEMENT_PORT"),
    *("LLM_ROUTER_USAGE_URL", "LLM_ROUTER_USAGE_TOKEN_FILE", "LLM_ROUTER_USAGE_SPOOL"),
}


def example(after: str) -> str:
    """The indented block of the README that follows some words."""
    block = re.search(r"\n\n((?: {4}.*\n|\n)+)", README[README.index(after) :])
    assert block
    return textwrap.dedent(block[1])


@pytest.fixture(scope="module")
def application(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart of the README's application, with its dependency brought into it."""
    chart = tmp_path_factory.mktemp("application")
    about = {"apiVersion": "v2", "name": "orchestrator", "version": "1.0.0"}
    wanted = yaml.safe_load(example("In `Chart.yaml`"))
    wanted["dependencies"][0]["repository"] = f"file://{LIBRARY}"
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | wanted))
    (chart / "templates").mkdir()
    deployment = example("In its `templates/deployment.yaml`")
    (chart / "templates" / "deployment.yaml").write_text(deployment)
    helm("dependency", "update", chart)
    return chart


def pod(helm: Helm, chart: Path, **values: Any) -> Any:
    """The template of the application's pods."""
    objects = helm.render(chart, **({"llm-router": values} if values else {}))
    return only(objects, "Deployment", "orchestrator")["spec"]["template"]


def env(template: Any) -> dict[str, str]:
    (router,) = template["spec"]["initContainers"]
    return {each["name"]: each["value"] for each in router.get("env", [])}


def test_it_is_the_sidecar_of_kustomize_s_component(
    helm: Helm, application: Path, tmp_path: Path
) -> None:
    rendered = yaml.safe_load(example("In its `templates/deployment.yaml`").replace("{{-", "# {{-"))
    rendered["metadata"]["labels"] = {"llm.athena.dev/inject": "true"}
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(rendered))
    folder = overlay(
        tmp_path,
        resources=[Path("deployment.yaml")],
        components=["components/sidecar"],
        images=[{"name": "llm-router", "newTag": VERSION}],
    )
    (deployment,) = render(folder)
    assert deployment["spec"]["template"] == pod(helm, application)


def test_the_operator_finds_the_pod_and_the_application_stays_as_it_is(
    helm: Helm, application: Path
) -> None:
    template = pod(helm, application)
    assert template["metadata"]["labels"] == {
        "app": "orchestrator",
        "llm.athena.dev/router": "true",
    }
    (container,) = template["spec"]["containers"]
    assert container["name"] == "orchestrator"
    (router,) = template["spec"]["initContainers"]
    assert (router["name"], router["restartPolicy"]) == ("llm-router", "Always")


def test_what_is_mounted_is_a_volume(helm: Helm, application: Path) -> None:
    for url in ("http://a/usage", ""):
        template = pod(helm, application, usage={"url": url})
        (router,) = template["spec"]["initContainers"]
        mounts = {each["name"] for each in router["volumeMounts"]}
        assert mounts == {each["name"] for each in template["spec"]["volumes"]}
        assert ("llm-router-token" in mounts) == bool(url)


def test_usage_goes_where_the_values_say(helm: Helm, application: Path) -> None:
    told = env(pod(helm, application, usage={"url": "https://admin/usage"}))
    assert told["LLM_ROUTER_USAGE_URL"] == "https://admin/usage"
    assert not env(pod(helm, application, usage={"url": ""}))


def test_settings_are_texts(helm: Helm, application: Path) -> None:
    told = env(pod(helm, application, env={"LLM_ROUTER_ACCESS_LOG": True, "LLM_ROUTER_PORT": 9}))
    assert (told["LLM_ROUTER_ACCESS_LOG"], told["LLM_ROUTER_PORT"]) == ("true", "9")


def test_the_values_of_the_readme_are_taken(helm: Helm, application: Path) -> None:
    values = yaml.safe_load(example("Its values are below"))
    (router,) = pod(helm, application, **values["llm-router"])["spec"]["initContainers"]
    assert router["image"].startswith("REGISTRY/llm-router:")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"resource": {}}, "additional properties 'resource' not allowed"),
        ({"usage": {"url": "admin:8090"}}, "'/usage/url': 'admin:8090' does not match pattern"),
        ({"env": {"LLM_ROUTER_USAGE_URL": "x"}}, "additional properties 'LLM_ROUTER_USAGE_URL'"),
        ({"image": {"tag": 1}}, "'/image/tag': got number, want string"),
    ],
)
def test_a_wrong_value_is_refused(helm: Helm, application: Path, values: Any, words: str) -> None:
    said = helm.refusal(application, **{"llm-router": values})
    assert words in said


@pytest.mark.check(38)
def test_the_sidecar_is_a_restricted_one(
    helm: Helm, application: Path, control_plane: ControlPlane, namespace: str
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    control_plane.kubectl("label", "namespace", namespace, label)
    template = pod(helm, application)
    (router,) = template["spec"]["initContainers"]
    # The application's own container is its own affair; here it is as restricted as the sidecar.
    (container,) = template["spec"]["containers"]
    container["securityContext"] = router["securityContext"]
    # NB: the part of the API server that fills it in is off, for want of controllers.
    template["spec"]["serviceAccountName"] = "default"
    made = {"metadata": {"generateName": "tried-"} | template["metadata"], "spec": template["spec"]}
    with control_plane.client() as client:
        answer = client.post(
            f"/api/v1/namespaces/{namespace}/pods",
            json=made,
            params={"dryRun": "All", "fieldValidation": "Strict"},
        )
    assert answer.status_code == 201, answer.text
    assert "Warning" not in answer.headers


def test_every_value_is_in_the_table() -> None:
    values = yaml.safe_load((LIBRARY / "values.yaml").read_text())
    assert rows(README) == [
        [f"`{path}`", f"`{json.dumps(default)}`", described(LIBRARY, path)]
        for path, default in leaves(values).items()
    ]


def test_the_settings_are_those_of_the_router() -> None:
    schema = json.loads((LIBRARY / "values.schema.json").read_text())
    listed = schema["properties"]["env"]["properties"]
    assert {name: each["description"] for name, each in listed.items()} == {
        row.variable: row.meaning for row in settings.TABLE if row.variable not in OWN
    }
