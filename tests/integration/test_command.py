"""`llmb status`, `render` and `uninstall`, and the annotation that pauses, with a real API server
and the operator as a process.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from llm_contract import CONFIG_KEY
from llm_operator import handlers
from llm_operator.command.documents import documents
from llm_operator.resource.model import FINALIZER
from parts.access import expect
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.operator import Backends, Operator, rows
from parts.process import free_port

pytestmark = pytest.mark.usefixtures("crd")

MakeOperator = Callable[..., Operator]

#: Often enough that a test need not wait for it.
RESYNC = {"LLMB_RESYNC_SECONDS": "1"}

PAUSED = "llm.athena.dev/paused"


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    return Backends(control_plane, namespace)


@pytest.fixture
def llmb(control_plane: ControlPlane) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command as the administrator."""

    def run(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "llm_operator.cli", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            env={"KUBECONFIG": str(control_plane.kubeconfig)} | env,
        )

    return run


Llmb = Callable[..., subprocess.CompletedProcess[str]]


def pause(backends: Backends, name: str, value: str | None) -> None:
    backends.patch(name, {"metadata": {"annotations": {PAUSED: value}}})


def paused(backends: Backends, name: str) -> bool:
    status = backends.get(name).get("status") or {}
    found = {one["type"]: one for one in status.get("conditions", [])}
    return "Paused" in found and found["Paused"]["reason"] == "ReconciliationPaused"


def url_of_row(database: str, namespace: str, name: str) -> str:
    query = "SELECT spec FROM llmb.llm_backends WHERE namespace = %s AND name = %s"
    with psycopg.connect(database, connect_timeout=5) as connection:
        row = connection.execute(query, (namespace, name)).fetchone()
    assert row is not None, f"there is no row of {name}"
    return str(row[0]["endpointURL"])


def held(backends: Backends, name: str, *, finalizers: list[str] | None = None) -> None:
    """A resource as an operator leaves it behind."""
    manifest = backends.manifest(name)
    manifest["metadata"]["finalizers"] = finalizers or [FINALIZER]
    with backends.control_plane.client() as client:
        expect(client.post(backends.path, json=manifest))


class TestPause:
    def test_a_spec_edit_waits_until_it_is_over(
        self, make_operator: MakeOperator, backends: Backends, migrated: str
    ) -> None:
        make_operator(settings=RESYNC).start()
        backends.apply(backends.manifest("phi"), backends.manifest("other"))
        eventually(lambda: backends.all_ready(2), within=20)
        published = backends.configmap()

        pause(backends, "phi", "true")
        eventually(lambda: paused(backends, "phi"), within=20)
        backends.patch("phi", {"spec": {"endpointURL": "http://new:11434", "aliases": ["fast"]}})
        # What another resource does goes through meanwhile, and so shows that a pass has been.
        backends.patch("other", {"spec": {"endpointURL": "http://moved:11434"}})
        moved = "http://moved:11434"
        eventually(lambda: backends.urls()["other"] == moved, within=20)
        eventually(lambda: rows(migrated, backends.namespace)["other"] == (2, True), within=20)
        before = _route(published, "phi")
        assert _route(backends.configmap(), "phi") == before
        assert rows(migrated, backends.namespace)["phi"] == (1, True)
        assert url_of_row(migrated, backends.namespace, "phi") == "http://phi:11434"
        phi = backends.get("phi")
        assert phi["metadata"]["generation"] == 2
        assert phi["status"]["observedGeneration"] == 1

        # Nobody takes its name, not even who would precede it.
        backends.apply(backends.manifest("thief", modelName="phi", priority=1))
        conflict = "False/ModelNameConflict"
        eventually(lambda: backends.conditions("thief").get("Accepted") == conflict, within=20)
        assert _route(backends.configmap(), "phi") == before
        backends.delete("thief")

        pause(backends, "phi", None)
        eventually(lambda: backends.ready("phi"), within=20)
        assert backends.urls()["phi"] == "http://new:11434"
        assert rows(migrated, backends.namespace)["phi"] == (2, True)
        assert not paused(backends, "phi")

    def test_an_operator_that_starts_meanwhile_keeps_to_it(
        self, make_operator: MakeOperator, backends: Backends, migrated: str
    ) -> None:
        first = make_operator()
        first.start()
        backends.apply(backends.manifest("phi"))
        eventually(lambda: backends.ready("phi"), within=20)
        published = backends.configmap()
        assert first.end() == 0

        pause(backends, "phi", "true")
        backends.patch("phi", {"spec": {"endpointURL": "http://new:11434"}})
        make_operator(settings=RESYNC).start()
        eventually(lambda: paused(backends, "phi"), within=20)
        assert _route(backends.configmap(), "phi") == _route(published, "phi")
        assert rows(migrated, backends.namespace)["phi"] == (1, True)

    def test_a_deletion_works_meanwhile(
        self, make_operator: MakeOperator, backends: Backends, migrated: str
    ) -> None:
        make_operator(settings=RESYNC).start()
        backends.apply(backends.manifest("phi"))
        eventually(lambda: backends.ready("phi"), within=20)
        pause(backends, "phi", "true")
        eventually(lambda: paused(backends, "phi"), within=20)
        backends.delete("phi")
        assert backends.urls() == {}
        assert rows(migrated, backends.namespace)["phi"] == (1, False)


def _route(configmap: Mapping[str, Any] | None, model: str) -> dict[str, Any]:
    assert configmap is not None, "nothing is published"
    routes = json.loads(configmap["data"][CONFIG_KEY])["routes"]
    found: dict[str, Any] = next(route for route in routes if route["model"] == model)
    return found


@pytest.mark.check(18)
def test_a_name_has_one_owner_and_the_loser_takes_over(
    make_operator: MakeOperator, backends: Backends, llmb: Llmb
) -> None:
    make_operator().start()
    backends.apply(backends.manifest("first", modelName="m", aliases=["fast"]))
    eventually(lambda: backends.ready("first"), within=20)
    backends.apply(backends.manifest("second", modelName="m"))
    backends.apply(backends.manifest("third", modelName="other", aliases=["fast"]))
    eventually(lambda: backends.ready("third"), within=20)
    conflict = "False/ModelNameConflict"
    eventually(lambda: backends.conditions("second").get("Accepted") == conflict, within=20)
    told = {
        name: next(
            one["message"]
            for one in backends.get(name)["status"]["conditions"]
            if one["type"] == "Accepted"
        )
        for name in ("second", "third")
    }
    # NB: of one second both are, so that priority and age say nothing, and the name decides.
    assert told["second"] == "Model name 'm' belongs to first, which precedes it."
    assert told["third"] == "Valid. Alias 'fast' belongs to first, which precedes it."
    assert backends.conditions("third")["Accepted"] == "True/ModelNameConflict"
    ran = llmb("status", "second", "-n", backends.namespace)
    assert ran.returncode == 1
    assert "Accepted is False (ModelNameConflict)" in ran.stdout

    backends.delete("first")
    eventually(lambda: backends.all_ready(2), within=20)
    assert backends.conditions("second")["Accepted"] == "True/Valid"
    assert backends.conditions("third")["Accepted"] == "True/Valid"
    assert backends.urls() == {"m": "http://second:11434", "other": "http://third:11434"}


class TestRender:
    def test_gives_the_bytes_that_the_operator_published(
        self,
        make_operator: MakeOperator,
        control_plane: ControlPlane,
        backends: Backends,
        llmb: Llmb,
    ) -> None:
        defaults = {
            "LLMB_DEFAULT_OLLAMA_URL": "http://ollama.models:11434",
            "LLMB_DEFAULT_MLX_URL": "http://mlx.models:8080",
        }
        make_operator(settings={"LLMB_RESYNC_SECONDS": "3600"} | defaults).start()
        targets = [
            {"name": name, "type": "openai", "endpointURL": f"https://{name}:8443/v1", "tier": 0}
            for name in ("a", "b")
        ]
        backends.apply(
            backends.manifest("auto", backendType="auto", endpointURL=None, temperature=0.5),
            backends.manifest("owner", modelName="m", priority=5, aliases=["fast"]),
            backends.manifest("loser", modelName="m"),
            backends.manifest("off", enabled=False),
            backends.manifest(
                "full", backendType=None, endpointURL=None, targets=targets, stickyHeader="x-s"
            ),
        )

        def settled() -> bool:
            found = {
                item["metadata"]["name"]: backends.conditions(item["metadata"]["name"])
                for item in backends.items()
            }
            loser = found.pop("loser", {}).get("Accepted")
            ready = [one.get("Ready") for one in found.values()]
            return loser == "False/ModelNameConflict" and ready == ["True/Ready"] * 4

        eventually(settled, within=20)
        published = backends.configmap()
        assert published is not None
        listed = control_plane.kubectl("get", "llmb", "-n", backends.namespace, "-o", "yaml").stdout
        ran = llmb("render", "-", stdin=listed, **defaults)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == published["data"][CONFIG_KEY]


def test_a_manifest_is_read_as_kubectl_reads_it(control_plane: ControlPlane) -> None:
    words = (
        *("y", "Y", "n", "N", "yes", "No", "on", "OFF", "true", "False", "t", "none", "~", "null"),
        *("1", "-1", "+1", "0", "017", "0o17", "08", "0x1F", "0b11", "1_000", "1e3", "1e-1", ".5"),
        *("1.", "1.5e3", "12:30", "1:2", "2026-01-01", "2026-01-01T00:00:00Z", "phi3:3.8b", "1.2"),
        *("'n'", '"1"', "=", "<", "0x", "1e", "e3", "_1", "Null", "yEs"),
    )
    text = (
        "apiVersion: llm.athena.dev/v1alpha1\nkind: LLMBackend\nmetadata: {name: words}\nspec:\n"
        + "".join(f"  w{place}: {word}\n" for place, word in enumerate(words))
    )
    command = ("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-")
    read = json.loads(control_plane.kubectl(*command, stdin=text).stdout)["spec"]
    (document,) = documents("stdin", text)
    ours = document.body["spec"]
    pairs = {word: (ours[f"w{n}"], read.get(f"w{n}")) for n, word in enumerate(words)}
    # NB: JSON has one kind of number, and to Python True is 1.
    different = {
        word: pair for word, pair in pairs.items() if pair[0] != pair[1] or _one_bool(*pair)
    }
    assert different == {}


def _one_bool(one: object, other: object) -> bool:
    return isinstance(one, bool) != isinstance(other, bool)


class TestStatus:
    def test_tells_what_is_well_and_what_is_not(
        self, make_operator: MakeOperator, backends: Backends, llmb: Llmb
    ) -> None:
        make_operator().start()
        backends.apply(
            backends.manifest("good"), backends.manifest("bad", backendType="mlx", endpointURL=None)
        )
        eventually(lambda: backends.ready("good"), within=20)
        eventually(lambda: "Accepted" in backends.conditions("bad"), within=20)
        ran = llmb("status", "-n", backends.namespace)
        assert ran.returncode == 1, ran.stderr
        lines = ran.stdout.splitlines()
        assert lines[0].split()[:4] == ["NAME", "MODEL", "TYPE", "READY"]
        assert lines[1].split()[:4] == ["bad", "bad", "mlx", "False"]
        assert lines[2].split()[:4] == ["good", "good", "ollama", "True"]
        bad = lines.index(f"{backends.namespace}/bad is not Ready:")
        assert lines[bad + 1].startswith("  Accepted is False (Invalid): spec.endpointURL: not set")
        assert lines[bad + 2].startswith("    -> Correct the spec.")
        assert lines[-1] == "1 of 2 LLMBackends Ready."

        ran = llmb("status", "good", "-n", backends.namespace, "--output", "json")
        assert (ran.returncode, ran.stderr) == (0, "")
        (good,) = json.loads(ran.stdout)["resources"]
        assert (good["name"], good["ready"]) == ("good", True)
        ran = llmb("status", "-A", "--output", "wide")
        assert ran.stdout.splitlines()[0].split()[0] == "NAMESPACE"
        assert "ENDPOINT" in ran.stdout

    def test_the_namespace_is_the_context_s(
        self, control_plane: ControlPlane, backends: Backends, llmb: Llmb, tmp_path: Path
    ) -> None:
        backends.apply(backends.manifest("phi"))
        config = yaml.safe_load(control_plane.kubeconfig.read_text())
        config["contexts"][0]["context"]["namespace"] = backends.namespace
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        ran = llmb("status", KUBECONFIG=str(tmp_path / "config"))
        assert ran.returncode == 1
        assert "The operator has not looked at it yet." in ran.stdout

    def test_what_is_not_there_is_said(self, backends: Backends, llmb: Llmb) -> None:
        ran = llmb("status", "-n", backends.namespace)
        assert (ran.returncode, ran.stdout) == (0, "")
        assert ran.stderr == f"There is no LLMBackend in namespace {backends.namespace}.\n"
        ran = llmb("status", "nix", "-n", backends.namespace)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "there is no LLMBackend nix in namespace" in ran.stderr

    def test_an_api_server_that_is_away_is_one_sentence(
        self, control_plane: ControlPlane, llmb: Llmb
    ) -> None:
        away = control_plane.write_kubeconfig(server=f"https://127.0.0.1:{free_port()}")
        ran = llmb("status", KUBECONFIG=str(away))
        assert (ran.returncode, ran.stdout) == (2, "")
        (line,) = ran.stderr.splitlines()
        assert line.startswith("llmb status: the API server does not answer")

    def test_so_is_a_missing_right(self, control_plane: ControlPlane, llmb: Llmb) -> None:
        nobody = control_plane.create_user("nobody")
        ran = llmb("status", "-A", KUBECONFIG=str(nobody.kubeconfig))
        assert (ran.returncode, ran.stdout) == (2, "")
        (line,) = ran.stderr.splitlines()
        assert line.startswith("llmb status: the API server refused")

    def test_a_name_everywhere_is_wrong_use(self, llmb: Llmb) -> None:
        ran = llmb("status", "phi", "-A")
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "leave out NAME" in ran.stderr


class TestUninstall:
    def strip(self, llmb: Llmb, backends: Backends, *words: str, **env: str) -> Any:
        where = ("-n", backends.namespace)
        return llmb("uninstall", "--strip-finalizers", *where, *words, **env)

    def test_its_finalizer_is_the_operator_s(self) -> None:
        assert FINALIZER == handlers.FINALIZER

    def test_says_first_what_it_would_do(self, backends: Backends, llmb: Llmb) -> None:
        held(backends, "phi")
        ran = self.strip(llmb, backends)
        assert ran.returncode == 2
        assert f"would take the finalizer {FINALIZER} off 1 LLMBackend" in ran.stdout
        assert "add --yes" in ran.stderr
        assert backends.get("phi")["metadata"]["finalizers"] == [FINALIZER]

    def test_lets_go_what_waits_and_leaves_everything_else(
        self, backends: Backends, llmb: Llmb
    ) -> None:
        held(backends, "going")
        held(backends, "shared", finalizers=["other.dev/own", FINALIZER])
        held(backends, "stays")
        backends.delete("going", wait=False)
        ran = self.strip(llmb, backends, "--yes")
        assert ran.returncode == 0, ran.stderr
        assert "Took the finalizer off 3 LLMBackends; none has it any more." in ran.stdout
        left = {item["metadata"]["name"]: item["metadata"] for item in backends.items()}
        assert set(left) == {"shared", "stays"}
        assert left["shared"]["finalizers"] == ["other.dev/own"]
        assert "finalizers" not in left["stays"]
        ran = self.strip(llmb, backends, "--yes")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "nothing to do" in ran.stdout

    def test_many_take_seconds(self, backends: Backends, llmb: Llmb) -> None:
        for number in range(60):
            held(backends, f"r{number}")
        began = time.monotonic()
        assert self.strip(llmb, backends, "--yes").returncode == 0
        assert time.monotonic() - began < 30
        assert not any("finalizers" in item["metadata"] for item in backends.items())

    def test_warns_of_a_lease_that_is_held(
        self, control_plane: ControlPlane, backends: Backends, llmb: Llmb
    ) -> None:
        held(backends, "phi")
        lease = {
            "metadata": {"name": "llm-backend-operator", "namespace": backends.namespace},
            "spec": {"holderIdentity": "pod-7", "leaseDurationSeconds": 15},
        }
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{backends.namespace}/leases"
        with control_plane.client() as client:
            for renewed, expected in ((datetime.now(UTC), True), (_long_ago(), False)):
                lease["spec"]["renewTime"] = renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                lease["spec"]["leaseDurationSeconds"] = 600
                expect(client.post(leases, json=lease))
                ran = self.strip(llmb, backends)
                expect(client.delete(f"{leases}/llm-backend-operator"))
                assert ("is held by pod-7" in ran.stderr) is expected

    def test_warns_of_a_pod_that_runs(
        self, control_plane: ControlPlane, backends: Backends, llmb: Llmb
    ) -> None:
        held(backends, "phi")
        spec = {
            "serviceAccountName": "llm-backend-operator",
            "containers": [{"name": "operator", "image": "operator"}],
        }
        pods = f"/api/v1/namespaces/{backends.namespace}/pods"
        with control_plane.client() as client:
            expect(client.post(pods, json={"metadata": {"name": "op-0"}, "spec": spec}))
            expect(
                client.patch(
                    f"{pods}/op-0/status",
                    json={"status": {"phase": "Running"}},
                    headers={"Content-Type": "application/merge-patch+json"},
                )
            )
        assert f"pod {backends.namespace}/op-0" in self.strip(llmb, backends).stderr

    def test_after_an_operator_that_went_first_a_deletion_ends(
        self, make_operator: MakeOperator, backends: Backends, llmb: Llmb
    ) -> None:
        operator = make_operator()
        operator.start()
        backends.apply(backends.manifest("phi"))
        eventually(lambda: backends.ready("phi"), within=20)
        operator.kill()
        backends.delete("phi", wait=False)
        assert backends.get("phi")["metadata"]["deletionTimestamp"]
        assert self.strip(llmb, backends, "--yes").returncode == 0
        assert backends.items() == []


def _long_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)
