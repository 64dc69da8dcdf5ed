"""Helm on a real API server: install, the operator at work with what the chart gave it, upgrade,
rollback, uninstall.

There are no controllers, so no pod runs: the operator is a process here, with the chart's service
account.
"""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from parts.control_plane import ControlPlane, another, empty
from parts.eventually import eventually
from parts.helm import CHART, Helm
from parts.manifests import Object, only
from parts.operator import Backends, Operator

pytest_plugins = ["parts.helm"]

CRD = "llmbackends.llm.athena.dev"
NAME = "llm-backend"


@dataclass(frozen=True, slots=True)
class Release:
    """One release in a namespace of its own."""

    plane: ControlPlane
    helm: Helm
    namespace: str

    def run(self, verb: str, chart: Path = CHART, **values: Any) -> str:
        """Install or upgrade it. Returns the notes. NB: a warning of the server's is an error."""
        done = self.helm(verb, NAME, chart, "--namespace", self.namespace, values=values)
        assert done.stderr == ""
        return done.stdout

    def refused(self, verb: str, **values: Any) -> str:
        """What Helm says where it does not."""
        args = (verb, NAME, CHART, "--namespace", self.namespace)
        done = self.helm(*args, values=values, check=False)
        assert done.returncode != 0
        return done.stderr

    def objects(self) -> list[Object]:
        """What Helm keeps record of."""
        told = self.helm("get", "manifest", NAME, "--namespace", self.namespace).stdout
        return [each for each in yaml.safe_load_all(told) if each]

    def there(self, each: Object) -> bool:
        """Whether the API server has it."""
        meta = each["metadata"]
        place = ("-n", meta["namespace"]) if "namespace" in meta else ()
        group = each["apiVersion"].rpartition("/")[0]
        kind = f"{each['kind']}.{each['apiVersion'].rpartition('/')[2]}.{group}"
        asked = self.plane.kubectl(*place, "get", kind, meta["name"], check=False)
        assert asked.returncode == 0 or "NotFound" in asked.stderr, asked.stderr
        return asked.returncode == 0


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane, part_folder: Path) -> Iterator[ControlPlane]:
    """A control plane of its own: the CRD and the cluster's roles have one name each."""
    with another(control_plane, part_folder / f"helm-{uuid.uuid4().hex[:6]}") as own:
        yield own


def new_namespace(plane: ControlPlane, *, security: str = "restricted") -> str:
    name = f"test-{uuid.uuid4().hex[:10]}"
    plane.kubectl("create", "namespace", name)
    for mode in ("enforce", "warn"):
        plane.kubectl("label", "namespace", name, f"pod-security.kubernetes.io/{mode}={security}")
    return name


@pytest.fixture
def release(plane: ControlPlane, helm: Helm) -> Iterator[Release]:
    """A release that is not installed yet; taken away at the end with the CRD and what it holds."""
    own = Release(plane, replace(helm, kubeconfig=plane.kubeconfig), new_namespace(plane))
    yield own
    listed = own.helm("list", "--all-namespaces", "--all", "--output", "yaml").stdout
    for each in yaml.safe_load(listed):
        own.helm("uninstall", each["name"], "--namespace", each["namespace"])
    if plane.kubectl("get", "crd", CRD, check=False).returncode == 0:
        served(own)
        for item in listed_backends(plane):
            empty(plane, item["metadata"]["namespace"])
    plane.kubectl("delete", "crd", CRD, "--ignore-not-found")


def test_all_of_it_is_admitted_and_the_notes_say_what_is_next(release: Release) -> None:
    notes = release.run("install")
    objects = release.objects()
    assert len(objects) > 20
    assert [each for each in objects if not release.there(each)] == []
    hooks = release.helm("get", "hooks", NAME, "--namespace", release.namespace).stdout
    tried = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    assert "pod/llm-backend-test serverside" in release.plane.kubectl(*tried, stdin=hooks).stdout
    assert f"no Secret {NAME}-database" in notes
    assert f"helm -n {release.namespace} test {NAME}" in notes
    assert "kubectl delete llmbackends --all -A" in notes


def test_the_notes_say_nothing_of_a_secret_that_is_there(release: Release) -> None:
    release.plane.kubectl(
        *("-n", release.namespace, "create", "secret", "generic", "elsewhere"),
        "--from-literal=uri=postgresql://a@b/c",
    )
    notes = release.run("install", database={"existingSecret": "elsewhere", "key": "uri"})
    assert "no Secret" not in notes


def test_every_part_is_admitted_and_pods_get_the_router_that_ask_for_it(release: Release) -> None:
    on = {"enabled": True}
    metrics = {"service": on, "dashboards": on}
    notes = release.run("install", injection=on, postgres=on, metrics=metrics)
    assert [each for each in release.objects() if not release.there(each)] == []
    assert "no Secret" not in notes
    container = {"name": "app", "image": "app"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "labels": {"llm.athena.dev/inject": "true"}},
        # NB: the part of the API server that fills the account in is off here.
        "spec": {"serviceAccountName": "default", "containers": [container]},
    }

    def injected() -> Any:
        """NB: a policy holds a moment after it is there."""
        place = new_namespace(release.plane, security="privileged")
        made = release.plane.kubectl(
            *("-n", place, "create", "-o", "yaml", "-f", "-"), stdin=yaml.safe_dump(pod)
        )
        return yaml.safe_load(made.stdout)["spec"].get("initContainers")

    (router,) = eventually(injected, within=20, every=1)
    (params,) = [
        each
        for each in release.objects()
        if each["metadata"]["name"] == f"{NAME}-injection" and each["kind"] == "ConfigMap"
    ]
    assert router["image"] == params["data"]["image"]
    sent = {each["name"]: each.get("value") for each in router["env"]}
    assert sent["LLM_ROUTER_USAGE_URL"].startswith(f"http://{NAME}-admin.{release.namespace}:")


def test_without_the_prometheus_operator_its_objects_are_refused(release: Release) -> None:
    refused = release.refused("install", metrics={"podMonitor": {"enabled": True}})
    assert 'no matches for kind "PodMonitor"' in refused


def example(notes: str) -> str:
    """The manifest in the notes."""
    return notes.split("<<EOF\n")[1].split("EOF\n")[0]


@pytest.mark.parametrize("everywhere", [True, False])
def test_the_resource_of_the_notes_is_taken(release: Release, everywhere: bool) -> None:
    place = "default" if everywhere else new_namespace(release.plane)
    notes = release.run("install", namespaces=[] if everywhere else [place])
    served(release)
    release.plane.kubectl("apply", "-f", "-", stdin=example(notes))
    assert release.plane.kubectl("-n", place, "get", CRD, "phi3-mini", "-o", "name").stdout


def listed_backends(plane: ControlPlane) -> Any:
    """All LLMBackends. NB: what the operator saw has a finalizer, which holds the definition up."""
    return yaml.safe_load(plane.kubectl("get", "-A", CRD, "-o", "yaml").stdout)["items"]


def served(release: Release) -> None:
    """Wait until the API server has LLMBackends."""
    eventually(lambda: release.plane.kubectl("get", "-A", CRD), within=20)


class TestAtWork:
    """The real operator and `helm test`'s check, with the service account of the chart."""

    @pytest.fixture(params=["everywhere", "one namespace"])
    def place(self, request: pytest.FixtureRequest, release: Release) -> str:
        """Installed; the namespace that is served."""
        place = new_namespace(release.plane)
        namespaces = [place] if request.param == "one namespace" else []
        release.run("install", namespaces=namespaces)
        served(release)
        return place

    @pytest.fixture
    def operator(
        self, release: Release, place: str, migrated: str, tmp_path: Path
    ) -> Iterator[Operator]:
        """The operator with the chart's settings, not started."""
        (settings,) = [each for each in release.objects() if each["kind"] == "ConfigMap"]
        lease = {"LLMB_LEASE": f"{release.namespace}/{NAME}-operator"}
        made = Operator(
            release.plane,
            folder=tmp_path,
            database=migrated,
            user=release.plane.service_account(release.namespace, f"{NAME}-operator"),
            settings=settings["data"] | lease,
        )
        yield made
        made.kill()

    def check(self, release: Release, folder: Path, *, within: float) -> Any:
        """What the pod of `helm test` runs."""
        hooks = release.helm("get", "hooks", NAME, "--namespace", release.namespace).stdout
        (pod,) = [each for each in yaml.safe_load_all(hooks) if each]
        (container,) = pod["spec"]["containers"]
        account = folder / "account"
        account.mkdir()
        name = pod["spec"]["serviceAccountName"]
        token = release.plane.service_account(release.namespace, name).token
        (account / "token").write_text(token)
        shutil.copy(release.plane.ca, account / "ca.crt")
        python, *program = container["command"]
        assert python == "python3"
        return subprocess.run(
            [sys.executable, *program, container["args"][0]],
            env={
                "ACCOUNT": str(account),
                "WITHIN": str(within),
                "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT": str(release.plane.port),
            },
            capture_output=True,
            text=True,
            timeout=100,
        )

    def test_the_operator_has_the_rights_it_needs(
        self, release: Release, place: str, operator: Operator, tmp_path: Path
    ) -> None:
        operator.start()
        backends = Backends(release.plane, place)
        backends.apply(backends.manifest("phi"))
        eventually(
            lambda: backends.get("phi")["status"]["conditions"], within=20, retry=(KeyError,)
        )
        checked = self.check(release, tmp_path, within=60)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert checked.stdout.splitlines() == [
            "the API server serves LLMBackends",
            "an operator is at work",
        ]

    def test_without_an_operator_the_check_fails(
        self, release: Release, place: str, tmp_path: Path
    ) -> None:
        checked = self.check(release, tmp_path, within=2)
        assert checked.returncode == 1
        assert "not within 2 s: an operator is at work (HTTPError: HTTP Error 404" in checked.stderr


def earlier(folder: Path) -> Path:
    """The chart as an earlier release had it: without a field of the definition."""
    chart = folder / "earlier"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    about |= {"version": "0.0.9", "appVersion": "0.0.9"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    file = chart / "files" / "llmbackends.yaml"
    definition = yaml.safe_load(file.read_text())
    del fields(definition)["description"]
    file.write_text(yaml.safe_dump(definition))
    return chart


def fields(definition: Object) -> Any:
    (version,) = definition["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


def stored(release: Release) -> Any:
    """The definition that the API server has."""
    return yaml.safe_load(release.plane.kubectl("get", "crd", CRD, "-o", "yaml").stdout)


def job(release: Release) -> Object:
    (found,) = [each for each in release.objects() if each["kind"] == "Job"]
    return found


class TestUpgrade:
    def test_the_definition_the_job_and_the_pods_are_of_the_new_release(
        self, release: Release, tmp_path: Path
    ) -> None:
        release.run("install", earlier(tmp_path))
        served(release)
        before = release.objects()
        assert "description" not in fields(stored(release))
        backends = Backends(release.plane, new_namespace(release.plane))
        backends.apply(backends.manifest("phi"))
        uid = backends.get("phi")["metadata"]["uid"]

        release.run("upgrade")
        assert "description" in fields(stored(release))
        assert backends.get("phi")["metadata"]["uid"] == uid
        assert [each for each in release.objects() if not release.there(each)] == []
        old, new = (
            only(each, "Deployment", f"{NAME}-operator") for each in (before, release.objects())
        )
        assert old["spec"]["template"] != new["spec"]["template"]
        (earlier_job,) = [each for each in before if each["kind"] == "Job"]
        assert not release.there(earlier_job)
        assert release.there(job(release))

    def test_a_setting_replaces_the_pods_and_runs_no_migration(self, release: Release) -> None:
        release.run("install")
        first, ran = release.objects(), job(release)
        release.run("upgrade", settings={"LLMB_RESYNC_SECONDS": 30})
        deployments = [
            only(each, "Deployment", f"{NAME}-operator") for each in (first, release.objects())
        ]
        assert deployments[0]["spec"]["template"] != deployments[1]["spec"]["template"]
        assert job(release) == ran

    def test_it_can_be_rolled_back(self, release: Release, tmp_path: Path) -> None:
        release.run("install", earlier(tmp_path))
        first = release.objects()
        release.run("upgrade")
        release.helm("rollback", NAME, "1", "--namespace", release.namespace)
        assert release.objects() == first
        assert [each for each in first if not release.there(each)] == []

    def test_components_come_and_go(self, release: Release) -> None:
        release.run("install")
        before = release.objects()
        release.run("upgrade", admin={"enabled": False}, networkPolicy={"enabled": False})
        kept = {(each["kind"], each["metadata"]["name"]) for each in release.objects()}
        gone = [each for each in before if (each["kind"], each["metadata"]["name"]) not in kept]
        assert {each["metadata"]["name"] for each in gone} >= {f"{NAME}-admin", NAME}
        assert not any(release.there(each) for each in gone)


class TestUninstall:
    def test_the_definition_and_the_resources_stay_and_nothing_else(self, release: Release) -> None:
        release.run("install")
        served(release)
        objects = release.objects()
        backends = Backends(release.plane, new_namespace(release.plane))
        backends.apply(backends.manifest("phi"))
        release.helm("uninstall", NAME, "--namespace", release.namespace)
        left = [each for each in objects if release.there(each)]
        assert [(each["kind"], each["metadata"]["name"]) for each in left] == [
            ("CustomResourceDefinition", CRD)
        ]
        assert backends.get("phi")["spec"]["modelName"] == "phi"

    def test_it_can_be_installed_again(self, release: Release) -> None:
        release.run("install")
        release.helm("uninstall", NAME, "--namespace", release.namespace)
        release.run("install")
        assert [each for each in release.objects() if not release.there(each)] == []

    def test_a_definition_that_is_another_s_is_taken_over_when_one_says_so(
        self, release: Release
    ) -> None:
        release.plane.kubectl("apply", "--server-side", "-f", CHART / "files" / "llmbackends.yaml")
        refused = release.refused("install")
        assert f'CustomResourceDefinition "{CRD}"' in refused
        assert "invalid ownership metadata" in refused
        release.run("install", crds={"enabled": False})
        upgrade = ("upgrade", NAME, CHART, "--namespace", release.namespace, "--take-ownership")
        # NB: with no value at all Helm takes those of the last time.
        release.helm(*upgrade, values={"crds": {"enabled": True}})
        labels = stored(release)["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
