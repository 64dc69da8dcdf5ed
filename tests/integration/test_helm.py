"""The chart's values: each does what it says, a wrong one is refused with its name, and the schema,
the table in docs/helm.md and the code agree.
"""

import json
import re
import runpy
import tomllib
from typing import Any

import pytest
import yaml

from llm_operator import settings as operator_settings
from llm_operator.admin import settings as admin_settings
from parts.helm import CHART, CHARTS, Helm, described, leaves, rows
from parts.manifests import Object, only

pytest_plugins = ["parts.helm"]

ROOT = CHARTS.parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OPERATOR, ADMIN, TEST = "llm-backend-operator", "llm-backend-admin", "llm-backend-test"

#: Settings that the chart makes itself, or that its probes, Services and policies rely on.
OWN = {
    *("LLMB_DATABASE_URL", "LLMB_NAMESPACES", "LLMB_LEASE"),
    *("LLMB_HEALTH_HOST", "LLMB_HEALTH_PORT", "LLMB_ADMIN_HOST", "LLMB_ADMIN_PORT"),
    *("LLMB_ADMIN_TLS_CERTIFICATE", "LLMB_ADMIN_TLS_KEY"),
}


def pods(objects: list[Object]) -> dict[str, Any]:
    """Pod specs with their metadata, by component."""
    found = {
        each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"][
            "template"
        ]
        for each in objects
        if "template" in each.get("spec", {})
    }
    return found | {"test": only(objects, "Pod", TEST)}


def container(pod: Any) -> Any:
    (found,) = pod["spec"]["containers"]
    return found


class TestRenders:
    def test_every_pod_has_the_image_of_the_release(self, helm: Helm) -> None:
        found = pods(helm.render())
        assert set(found) == {"operator", "admin", "migrate", "test"}
        assert {container(pod)["image"] for pod in found.values()} == {f"llm-backend:{VERSION}"}

    def test_image_and_place_reach_every_pod(self, helm: Helm) -> None:
        env = {"name": "PGSSLROOTCERT", "value": "/database/ca.crt"}
        mount = {"name": "database", "mountPath": "/database"}
        volume = {"name": "database", "secret": {"secretName": "database-ca"}}
        place = {
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "infra", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"some": "thing"}},
            "priorityClassName": "high",
            "imagePullSecrets": [{"name": "registry"}],
        }
        found = pods(
            helm.render(
                image={"repository": "registry:5000/x/llmb", "tag": "2", "pullPolicy": "Always"},
                podAnnotations={"note": "yes"},
                podLabels={"team": "platform"},
                extraEnv=[env],
                extraVolumes=[volume],
                extraVolumeMounts=[mount],
                **place,
            )
        )
        for pod in found.values():
            its = container(pod)
            assert (its["image"], its["imagePullPolicy"]) == ("registry:5000/x/llmb:2", "Always")
            assert place.items() <= pod["spec"].items()
            assert volume in pod["spec"]["volumes"]
            assert mount in its["volumeMounts"]
            assert env in its["env"]
            assert pod["metadata"]["annotations"]["note"] == "yes"
            assert pod["metadata"]["labels"]["team"] == "platform"

    def test_each_container_has_resources_of_its_own(self, helm: Helm) -> None:
        wanted = {
            name: {"limits": {"memory": f"{n}Gi"}}
            for n, name in enumerate(("operator", "admin", "migrate"), 1)
        }
        found = pods(helm.render(**{name: {"resources": each} for name, each in wanted.items()}))
        for name, each in wanted.items():
            assert container(found[name])["resources"]["limits"] == each["limits"]

    def test_the_database_is_where_the_values_say(self, helm: Helm) -> None:
        found = pods(helm.render(database={"existingSecret": "db", "key": "uri"}))
        for component in ("operator", "admin", "migrate"):
            (url,) = [
                e for e in container(found[component])["env"] if e["name"] == "LLMB_DATABASE_URL"
            ]
            assert url["valueFrom"] == {"secretKeyRef": {"name": "db", "key": "uri"}}

    def test_settings_are_texts_and_replace_the_pods(self, helm: Helm) -> None:
        usual = helm.render()
        other = helm.render(settings={"LLMB_RESYNC_SECONDS": 30, "LLMB_NUDGE": False})
        assert only(other, "ConfigMap", "llm-backend-settings")["data"] == {
            "LLMB_LOG_LEVEL": "INFO",
            "LLMB_RESYNC_SECONDS": "30",
            "LLMB_NUDGE": "false",
        }
        for component in ("operator", "admin"):
            assert pods(usual)[component] != pods(other)[component]
        assert pods(usual)["migrate"] == pods(other)["migrate"]

    def test_one_replica_or_as_many_as_it_says(self, helm: Helm) -> None:
        def replicas(**ha: Any) -> int:
            found = only(helm.render(ha=ha), "Deployment", OPERATOR)["spec"]["replicas"]
            return int(found)

        assert (replicas(), replicas(enabled=False), replicas(replicas=3)) == (2, 1, 3)

    def test_the_migration_has_a_new_name_when_it_is_another(self, helm: Helm) -> None:
        def name(**values: Any) -> str:
            (job,) = [each for each in helm.render(**values) if each["kind"] == "Job"]
            return str(job["metadata"]["name"])

        usual = name()
        assert re.fullmatch("llm-backend-migrate-[0-9a-f]{8}", usual)
        assert name(admin={"enabled": False}) == usual
        assert name(settings={"LLMB_NUDGE": False}) == usual
        others = {
            name(image={"tag": "2"}),
            name(database={"key": "uri"}),
            name(nodeSelector={"a": "b"}),
        }
        assert len(others | {usual}) == 4

    def test_accounts_have_the_names_and_the_rights(self, helm: Helm) -> None:
        account = {"create": False, "name": "given"}
        objects = helm.render(operator={"serviceAccount": account}, namespaces=["models"])
        accounts = [
            each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"
        ]
        assert accounts == [ADMIN]
        assert pods(objects)["operator"]["spec"]["serviceAccountName"] == "given"
        for name in (OPERATOR, f"{OPERATOR}-lease"):
            (subject,) = only(objects, "RoleBinding", name)["subjects"]
            assert subject["name"] == "given"

    def test_an_account_has_annotations(self, helm: Helm) -> None:
        note = {"eks.amazonaws.com/role-arn": "arn"}
        objects = helm.render(admin={"serviceAccount": {"annotations": note}})
        assert only(objects, "ServiceAccount", ADMIN)["metadata"]["annotations"] == note

    def test_for_some_namespaces_there_is_no_right_in_any_other(self, helm: Helm) -> None:
        objects = helm.render(namespaces=["a", "b"])
        cluster = {
            each["metadata"]["name"] for each in objects if each["kind"] == "ClusterRoleBinding"
        }
        # NB: neither a token nor a right can be asked for in one namespace alone.
        assert cluster == {f"{ADMIN}-reviews"}
        for name in (OPERATOR, ADMIN, "llm-backend-usage"):
            bindings = [
                e for e in objects if (e["kind"], e["metadata"]["name"]) == ("RoleBinding", name)
            ]
            assert [each["metadata"]["namespace"] for each in bindings] == ["a", "b"]
        settings = only(objects, "ConfigMap", "llm-backend-settings")["data"]
        assert settings["LLMB_NAMESPACES"] == "a,b"

    def test_the_admin_api_has_a_certificate(self, helm: Helm) -> None:
        found = pods(helm.render(admin={"tls": {"existingSecret": "cert"}}))
        its = container(found["admin"])
        env = {each["name"]: each.get("value") for each in its["env"]}
        (mount,) = [each for each in its["volumeMounts"] if each["name"] == "tls"]
        for name, file in (("CERTIFICATE", "tls.crt"), ("KEY", "tls.key")):
            assert env[f"LLMB_ADMIN_TLS_{name}"] == f"{mount['mountPath']}/{file}"
        assert {"name": "tls", "secret": {"secretName": "cert"}} in found["admin"]["spec"][
            "volumes"
        ]
        schemes = {its[each]["httpGet"]["scheme"] for each in its if each.endswith("Probe")}
        assert schemes == {"HTTPS"}
        assert container(found["test"])["args"][-1].startswith("https://llm-backend-admin.")
        assert "cert" not in json.dumps(found["operator"])

    def test_prometheus_asks_the_admin_api_by_its_certificate(self, helm: Helm) -> None:
        monitors = {"podMonitor": {"enabled": True}}
        objects = helm.render(admin={"tls": {"existingSecret": "cert"}}, metrics=monitors)
        (endpoint,) = only(objects, "PodMonitor", ADMIN)["spec"]["podMetricsEndpoints"]
        assert (endpoint["scheme"], endpoint["path"]) == ("https", "/metrics")
        assert endpoint["tlsConfig"] == {
            "serverName": "llm-backend-admin.llm-backend-system.svc",
            "ca": {"secret": {"name": "cert", "key": "ca.crt"}},
        }

    def test_the_injected_router_is_what_the_values_say(self, helm: Helm) -> None:
        def params(**values: Any) -> Any:
            objects = helm.render(injection={"enabled": True}, **values)
            return only(objects, "ConfigMap", "llm-backend-injection")["data"]

        own = "//llm-backend-admin.llm-backend-system:8090/api/llm-backends/usage"
        assert params() == {"image": f"llm-router:{VERSION}", "usageURL": f"http:{own}"}
        assert params(admin={"enabled": False})["usageURL"] == ""
        certificate = {"tls": {"existingSecret": "cert"}}
        assert params(admin=certificate)["usageURL"] == f"https:{own}"
        image = {"repository": "registry/llm-router", "tag": "2", "pullPolicy": "Always"}
        assert params(router={"image": image, "usageURL": "http://elsewhere"}) == {
            "image": "registry/llm-router:2",
            "imagePullPolicy": "Always",
            "usageURL": "http://elsewhere",
        }

    def test_postgres_is_the_image_and_the_size_that_the_values_say(self, helm: Helm) -> None:
        postgres = {"enabled": True, "image": "registry/postgres:18", "storage": "5Gi"}
        spec = only(helm.render(postgres=postgres), "StatefulSet", "llm-backend-postgres")["spec"]
        assert container(spec["template"])["image"] == "registry/postgres:18"
        (claim,) = spec["volumeClaimTemplates"]
        assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"

    def test_prometheus_and_grafana_find_their_objects_by_labels(self, helm: Helm) -> None:
        wanted = {
            name: {"enabled": True, "labels": {"release": name}}
            for name in ("podMonitor", "prometheusRule", "dashboards")
        }
        kinds = {"podMonitor": "PodMonitor", "prometheusRule": "PrometheusRule"}
        objects = helm.render(metrics=wanted)
        for name, kind in kinds.items():
            found = [each for each in objects if each["kind"] == kind]
            assert found
            assert {each["metadata"]["labels"]["release"] for each in found} == {name}
        dashboards = only(objects, "ConfigMap", "llm-backend-dashboards")
        assert dashboards["metadata"]["labels"]["release"] == "dashboards"

    def test_usage_may_be_sent_from_the_namespaces_named(self, helm: Helm) -> None:
        objects = helm.render(admin={"usageFrom": ["shop"]})
        (binding,) = [
            e
            for e in objects
            if e["metadata"]["name"] == "llm-backend-usage" and e["kind"] == "RoleBinding"
        ]
        assert binding["metadata"]["namespace"] == "shop"
        (group,) = binding["subjects"]
        assert group["name"] == "system:serviceaccounts:shop"

    @pytest.mark.parametrize("namespace", ["elsewhere", "on", "007"])
    def test_all_of_it_is_in_the_namespace_of_the_release(self, helm: Helm, namespace: str) -> None:
        on = {"enabled": True}
        metrics = dict.fromkeys(("podMonitor", "prometheusRule", "dashboards"), on)
        objects = helm.render(namespace=namespace, metrics=metrics)
        assert "llm-backend-system" not in json.dumps(objects)
        assert {e["metadata"]["namespace"] for e in objects if "namespace" in e["metadata"]} == {
            namespace
        }

    @pytest.mark.parametrize(
        ("values", "gone"),
        [
            ({"crds": {"enabled": False}}, {"CustomResourceDefinition"}),
            ({"migrate": {"enabled": False}}, {"Job"}),
            ({"admin": {"enabled": False}}, {"Service"}),
        ],
    )
    def test_what_is_off_is_not_there(self, helm: Helm, values: Any, gone: set[str]) -> None:
        usual, fewer = (
            {each["kind"] for each in objects} for objects in (helm.render(), helm.render(**values))
        )
        assert usual - fewer == gone

    def test_the_definition_stays_at_an_uninstall(self, helm: Helm) -> None:
        (crd,) = [e for e in helm.render() if e["kind"] == "CustomResourceDefinition"]
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"

    def test_no_label_of_the_chart_s_version_is_in_a_pod(self, helm: Helm) -> None:
        objects = helm.render()
        for each in objects:
            assert each["metadata"]["labels"]["helm.sh/chart"] == f"llm-backend-{VERSION}"
        templates = [each["spec"] for each in objects if "template" in each.get("spec", {})]
        assert "helm.sh/chart" not in json.dumps(templates)


class TestRefused:
    """A wrong value is refused before anything is asked of a cluster."""

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"adminn": {}}, "additional properties 'adminn' not allowed"),
            ({"admin": {"enable": True}}, "'/admin': additional properties 'enable' not allowed"),
            ({"admin": {"enabled": "yes"}}, "'/admin/enabled': got string, want boolean"),
            ({"ha": {"replicas": 1}}, "'/ha/replicas': minimum: got 1, want 2"),
            ({"image": {"pullPolicy": "Sometimes"}}, "'/image/pullPolicy': value must be one of"),
            ({"image": {"repository": "a:b"}}, "'/image/repository': 'a:b' does not match pattern"),
            ({"namespaces": ["Models"]}, "'/namespaces/0': 'Models' does not match pattern"),
            ({"namespaces": ["a", "a"]}, "'/namespaces': items at 0 and 1 are equal"),
            ({"namespaces": "a"}, "'/namespaces': got string, want array"),
            ({"settings": {"LOG_LEVEL": "INFO"}}, "'/settings': additional properties 'LOG_LEVEL'"),
            (
                {"settings": {"LLMB_NUDGES": "x"}},
                "'/settings': additional properties 'LLMB_NUDGES'",
            ),
            ({"settings": {"LLMB_DATABASE_URL": "x"}}, "additional properties 'LLMB_DATABASE_URL'"),
            ({"database": {"existingSecret": ""}}, "'/database/existingSecret': "),
            ({"imagePullSecrets": ["registry"]}, "'/imagePullSecrets/0': got string, want object"),
            (
                {"operator": {"resources": {"limit": {}}}},
                "'/operator/resources': additional properties",
            ),
            ({"extraEnv": {"A": "b"}}, "'/extraEnv': got object, want array"),
            ({"podLabels": {"a": 1}}, "'/podLabels/a': got number, want string"),
        ],
    )
    def test_with_its_name_and_a_reason(self, helm: Helm, values: Any, words: str) -> None:
        said = helm.refusal(**values)
        assert "values don't meet the specifications of the schema" in said
        assert words in said

    def test_a_postgres_to_try_out_beside_another_one(self, helm: Helm) -> None:
        said = helm.refusal(postgres={"enabled": True}, database={"existingSecret": "mine"})
        assert "postgres.enabled brings a Secret of its own: leave database.existingSecret" in said

    def test_injection_where_the_cluster_has_none(self, helm: Helm) -> None:
        old = ("template", "x", CHART, "--kube-version", "1.35.4")
        done = helm(*old, values={"injection": {"enabled": True}}, check=False)
        assert "injection.enabled: Kubernetes v1.35.4 has no MutatingAdmissionPolicy" in done.stderr
        assert helm(*old).returncode == 0

    def test_a_cluster_that_is_too_old(self, helm: Helm) -> None:
        done = helm("template", "x", CHART, "--kube-version", "1.30.9", check=False)
        assert "chart requires kubeVersion" in done.stderr

    @pytest.mark.parametrize("chart", ["llm-backend", "llm-router"])
    def test_helm_finds_nothing_to_say_against_it(self, helm: Helm, chart: str) -> None:
        helm("lint", "--strict", CHARTS / chart)


VALUES = (CHART / "values.yaml").read_text()


class TestOneOfEach:
    """What stands in several places is the same in all."""

    @pytest.mark.parametrize("chart", ["llm-backend", "llm-router"])
    def test_the_version_is_the_project_s(self, chart: str) -> None:
        about = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
        assert (about["version"], about["appVersion"]) == (VERSION, VERSION)

    def test_the_copies_are_true(self) -> None:
        module = runpy.run_path(str(CHARTS / "files.py"))
        files, copies = module["FILES"], module["COPIES"]
        assert {str(each.relative_to(files)) for each in files.rglob("*") if each.is_file()} == set(
            copies
        )
        for name, source in copies.items():
            assert (files / name).read_bytes() == source.read_bytes(), "run manifests/helm/files.py"

    def test_every_value_is_in_the_table(self) -> None:
        text = (ROOT / "docs" / "helm.md").read_text()
        section = text.split("## Values\n")[1].split("\n## ")[0]
        assert rows(section) == [
            [f"`{path}`", f"`{json.dumps(default)}`", described(CHART, path)]
            for path, default in leaves(yaml.safe_load(VALUES)).items()
        ]

    def test_every_value_is_explained_where_it_stands(self) -> None:
        text = re.sub(r"\n *# ", " ", VALUES)
        for path in leaves(yaml.safe_load(VALUES)):
            key, indent = path.rpartition(".")[2], "  " * path.count(".")
            assert f" {described(CHART, path)}\n{indent}{key}:" in text

    def test_the_schema_describes_every_value_and_leaves_none_open(self) -> None:
        def check(schema: Any, path: str) -> None:
            assert schema.get("description") or not path, path
            if "properties" in schema:
                assert schema["additionalProperties"] is False, path
                if not path.endswith("resources"):
                    for key, each in schema["properties"].items():
                        if key != "name":
                            check(each, f"{path}.{key}")

        check(json.loads((CHART / "values.schema.json").read_text()), "")

    def test_the_settings_are_those_of_the_programs(self) -> None:
        rows = {row.name: row.meaning for row in (*admin_settings.TABLE, *operator_settings.TABLE)}
        schema = json.loads((CHART / "values.schema.json").read_text())
        assert {
            name: each["description"]
            for name, each in schema["properties"]["settings"]["properties"].items()
        } == {name: meaning for name, meaning in rows.items() if name not in OWN}
