import copy
import datetime
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator.resource.model import BackendType, Identity, Problem, Spec
from llm_operator.resource.parse import NotAResource, is_paused, parse

TESTS = Path(__file__).resolve().parents[2]
INVALID = sorted((TESTS / "invalid").glob("*.yaml"))
VALID = sorted((TESTS / "valid").glob("*.yaml"))
EXPECT = re.compile(r"^# expect: (?P<path>[A-Za-z0-9.\[\]]+): (?P<message>.+)$", re.MULTILINE)


def manifest(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": "phi3-mini"},
        "spec": {"modelName": "phi3:mini", "backendType": "auto"} | spec,
    }


def problems(**spec: Any) -> list[str]:
    return [str(problem) for problem in parse(manifest(**spec)).problems]


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_invalid_manifest_has_exactly_the_expected_problems(file: Path) -> None:
    text = file.read_text()
    expected = [match.groups() for match in EXPECT.finditer(text)]
    resource = parse(yaml.safe_load(text))
    assert resource.spec is None
    assert expected, f"{file.name} has no `# expect:` line"
    assert sorted(path for path, _ in expected) == sorted(p.path for p in resource.problems)
    for path, message in expected:
        said = [p.message for p in resource.problems if p.path == path]
        assert any(message in one for one in said), said


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.stem)
def test_valid_manifest_has_no_problem(file: Path) -> None:
    resource = parse(yaml.safe_load(file.read_text()))
    assert resource.problems == ()
    assert resource.spec is not None


def test_smallest_spec_gets_the_defaults_and_nothing_else() -> None:
    spec = parse(manifest()).spec
    assert spec == Spec(
        model_name="phi3:mini",
        backend_type=BackendType.AUTO,
        endpoint_url=None,
        fallback_endpoint_url=None,
        upstream_model=None,
        enabled=True,
        priority=100,
        max_tokens=None,
        temperature=None,
        timeout_seconds=60,
        keep_alive_seconds=None,
        description="",
    )


def test_full_spec_arrives_whole() -> None:
    text = (TESTS / "valid" / "02-full.yaml").read_text()
    assert parse(yaml.safe_load(text)).spec == Spec(
        model_name="phi3:mini",
        backend_type=BackendType.AUTO,
        endpoint_url="http://mac-studio.lan:8080",
        fallback_endpoint_url="http://mac-studio.lan:11434",
        upstream_model="mlx-community/Phi-3-mini-4k-instruct-4bit",
        enabled=True,
        priority=100,
        max_tokens=2048,
        temperature=0.7,
        timeout_seconds=60,
        keep_alive_seconds=-1,
        description="Fast intent classifier",
    )


def test_zeros_and_false_are_values() -> None:
    spec = parse(manifest(temperature=0, priority=0, keepAliveSeconds=0, enabled=False)).spec
    assert spec is not None
    assert (spec.temperature, spec.priority, spec.keep_alive_seconds) == (0.0, 0, 0)
    assert isinstance(spec.temperature, float)
    assert spec.enabled is False


def test_whole_floats_are_integers() -> None:
    spec = parse(manifest(timeoutSeconds=5.0)).spec
    assert spec is not None
    assert isinstance(spec.timeout_seconds, int)


def test_null_is_unset() -> None:
    spec = parse(manifest(priority=None, endpointURL=None, maxTokens=None)).spec
    assert spec == parse(manifest()).spec


def test_manifest_is_not_changed() -> None:
    given = manifest(timeoutSeconds=5.0, priority=None)
    before = copy.deepcopy(given)
    parse(given)
    assert given == before


class TestIdentity:
    def test_from_the_api_server(self) -> None:
        given = manifest() | {"status": {"observedGeneration": 3}}
        given["metadata"] = {
            "name": "phi3-mini",
            "namespace": "ai",
            "uid": "6f0c",
            "generation": 4,
            "creationTimestamp": "2026-01-05T10:00:00Z",
        }
        resource = parse(given)
        assert resource.identity == Identity(
            namespace="ai",
            name="phi3-mini",
            uid="6f0c",
            generation=4,
            created="2026-01-05T10:00:00Z",
        )
        assert resource.status == {"observedGeneration": 3}
        assert not resource.deleting

    def test_from_a_folder(self) -> None:
        resource = parse(manifest())
        assert resource.identity == Identity(
            namespace="default", name="phi3-mini", uid="", generation=1, created=""
        )
        assert resource.status is None

    def test_unquoted_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # YAML makes a datetime of it, and one without an offset is UTC, wherever the machine is.
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        given = manifest()
        loaded = yaml.safe_load("2026-01-05T10:00:00Z")
        assert isinstance(loaded, datetime.datetime)
        seen = []
        for moment in (loaded, loaded.replace(tzinfo=None)):
            given["metadata"]["creationTimestamp"] = moment
            seen.append(parse(given).identity.created)
        monkeypatch.undo()
        time.tzset()
        assert seen == ["2026-01-05T10:00:00Z"] * 2

    def test_deleting(self) -> None:
        given = manifest()
        given["metadata"]["deletionTimestamp"] = "2026-01-05T10:00:00Z"
        assert parse(given).deleting

    def test_bad_resource_still_has_its_identity(self) -> None:
        resource = parse(manifest(priority=-1))
        assert resource.spec is None
        assert str(resource.identity) == "default/phi3-mini"

    def test_bad_namespace(self) -> None:
        given = manifest()
        given["metadata"]["namespace"] = "my.team"
        assert [p.path for p in parse(given).problems] == ["metadata.namespace"]


class TestNotAResource:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ([], "a manifest is a mapping, this is a list"),
            (None, "a manifest is a mapping, this is null"),
            ({}, "apiVersion is null, not llm.athena.dev/v1alpha1"),
            (
                manifest() | {"apiVersion": "llm.athena.dev/v9"},
                'apiVersion is "llm.athena.dev/v9", not llm.athena.dev/v1alpha1',
            ),
            (manifest() | {"kind": "ConfigMap"}, 'kind is "ConfigMap", not LLMBackend'),
            (manifest() | {"metadata": None}, "metadata.name is null"),
            (manifest() | {"metadata": {"name": ""}}, 'metadata.name is ""'),
            (manifest() | {"metadata": {"name": 7}}, "metadata.name is 7"),
            (manifest() | {"metadata": {"generateName": "a-"}}, "metadata.name is null"),
        ],
    )
    def test_raises(self, given: Any, message: str) -> None:
        with pytest.raises(NotAResource, match=re.escape(message)):
            parse(given)


class TestAdvice:
    """What a person reads who wrote what YAML did not take as it was meant."""

    @pytest.mark.parametrize(
        ("field", "problem"),
        [
            (
                {"endpointUrl": "http://a"},
                "spec.endpointUrl: unknown field; did you mean endpointURL?",
            ),
            ({"endpoint": "http://a"}, "spec.endpoint: unknown field; did you mean endpointURL?"),
            (
                {"defaultTemperature": 1},
                "spec.defaultTemperature: unknown field; did you mean temperature?",
            ),
            ({"zzz": 1}, "spec.zzz: unknown field"),
            ({True: 1}, "spec.True: unknown field"),
            (
                {"enabled": "yes"},
                'spec.enabled: must be of type boolean, is "yes"; '
                "write true or false without quotes",
            ),
            (
                {"enabled": 1},
                "spec.enabled: must be of type boolean, is 1; write true or false",
            ),
            (
                {"upstreamModel": True},
                "spec.upstreamModel: must be of type string, is true; put it in quotes "
                "(YAML reads yes, no, on and off as true and false)",
            ),
            (
                {"description": datetime.date(2026, 1, 5)},
                "spec.description: must be of type string, is 2026-01-05; put it in quotes",
            ),
            (
                {"description": ["a"]},
                "spec.description: must be of type string, is a list",
            ),
            (
                {"timeoutSeconds": "60s"},
                'spec.timeoutSeconds: must be of type integer, is "60s"; '
                "write a number without quotes or unit",
            ),
            ({"priority": True}, "spec.priority: must be of type integer, is true"),
            ({"priority": {}}, "spec.priority: must be of type integer, is a mapping"),
            ({"temperature": True}, "spec.temperature: must be of type number, is true"),
            (
                {"temperature": float("nan")},
                "spec.temperature: should be greater than or equal to 0, is NaN",
            ),
            (
                {"temperature": float("inf")},
                "spec.temperature: should be less than or equal to 2, is Infinity",
            ),
            (
                {"backendType": "Ollama"},
                'spec.backendType: "Ollama" is none of the supported values: '
                '"ollama", "mlx", "openai", "auto"',
            ),
            ({"backendType": ""}, None),
            (
                {"description": "x" * 2000},
                "spec.description: Too long: has 2000 characters, may not be more than 1024",
            ),
        ],
    )
    def test_sentence(self, field: dict[Any, Any], problem: str | None) -> None:
        given = manifest()
        given["spec"] |= field
        said = [str(one) for one in parse(given).problems]
        assert len(said) == 1
        if problem is not None:
            assert said == [problem]

    def test_long_values_are_cut(self) -> None:
        (said,) = problems(enabled="x" * 5000)
        assert len(said) < 200

    def test_all_at_once(self) -> None:
        given = manifest(priority=-1, fallbackEndpointURL="http://a", endpointUrl="http://b")
        given["metadata"]["name"] = "Phi3"
        del given["spec"]["backendType"]
        assert [p.path for p in parse(given).problems] == [
            "metadata.name",
            "spec.endpointUrl",
            "spec.priority",
            "spec.backendType",
        ]


class TestUrls:
    """Where a URL would be read in two ways, it is refused."""

    PASSWORD = "must not hold a user name or password"
    ADDRESS = "must write an IP address in its usual form"
    METADATA = "must not be a link-local address or a cloud's metadata service"
    HOST = "must name a host"
    PORT = "must have a port from 1 to 65535"
    PLAIN = "must hold no spaces"

    @pytest.mark.parametrize(
        "url",
        [
            "http://localhost",
            "http://localhost/",
            "https://gpu.example.com:443/ollama/",
            "http://10.0.0.1:65535",
            "http://169.255.0.1",
            "http://169.254.example.com",
            "http://[::1]:8080",
            "http://[64:ff9b::1.2.3.4]",
            "http://4090-rig:11434",
            "http://my_host.",
            "http://metadata.google.internal.example.com",
            "http://a/@b",
        ],
    )
    def test_accepted(self, url: str) -> None:
        assert problems(endpointURL=url) == []

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("", "must start with http"),
            ("HTTP://a", "must start with http"),
            ("http:/a", "must start with http"),
            ("http://", HOST),
            ("http:///a", HOST),
            ("http://a..b", HOST),
            ("http://" + "a" * 64, HOST),
            ("http://[1.2.3.4]", HOST),
            ("http://a\\@b", HOST),
            ("http://a%2eb", HOST),
            ("http://a:b", PORT),
            ("http://a:", PORT),
            ("http://a:0", PORT),
            ("http://a:65536", PORT),
            ("http://a:080", PORT),
            ("http://[::1]:99999", PORT),
            ("http://::1", HOST),
            ("http://fd00::1", PORT),
            ("http://2852039166", ADDRESS),
            ("http://0xA9FEA9FE", ADDRESS),
            ("http://0251.0376.0251.0376", ADDRESS),
            ("http://169.254.43518", ADDRESS),
            ("http://169.254.169.254.", ADDRESS),
            ("http://1.2.3.256", ADDRESS),
            ("http://1.2.3", ADDRESS),
            ("http://a.1", ADDRESS),
            ("http://[::ffff:169.254.169.254]", ADDRESS),
            ("http://[::ffff:a9fe:a9fe]", ADDRESS),
            ("http://[1:2]", ADDRESS),
            ("http://169.254.0.1", METADATA),
            ("http://169.254.169.254:80/latest", METADATA),
            ("https://100.100.100.200", METADATA),
            ("http://METADATA.google.internal.", METADATA),
            ("http://[fe80::1]", METADATA),
            ("http://[FEBF::1]:80", METADATA),
            ("http://[fd00:0ec2:0:0::254]", METADATA),
            ("http://u@a", PASSWORD),
            ("http://u:p@a:80", PASSWORD),
            ("http://a ", PLAIN),
            ("http://a/\n", PLAIN),
            ("http://a/\u00a0", PLAIN),
            ("http://a/\x7f", PLAIN),
        ],
    )
    def test_refused(self, url: str, message: str) -> None:
        said = problems(endpointURL=url)
        assert any(one.startswith(f"spec.endpointURL: {message}") for one in said), said

    def test_a_line_feed_at_the_end_is_no_end(self) -> None:
        for url in ("http://a\n", "http://a:80\n", "http://1.2.3.4\n"):
            assert problems(endpointURL=url)
        assert problems(modelName="phi3\n")
        assert problems(upstreamModel="phi3\n")

    def test_password_is_not_repeated(self) -> None:
        said = problems(endpointURL="http://user:hunter2@169.254.0.1:x/?y#z\n")
        assert said
        assert "hunter2" not in "".join(said)


class TestCombinations:
    def test_fallback_is_compared_without_the_last_slash(self) -> None:
        for first, second in [("http://a", "http://a/"), ("http://a/", "http://a")]:
            assert problems(endpointURL=first, fallbackEndpointURL=second) == [
                "spec.fallbackEndpointURL: must differ from endpointURL; "
                "a host can't be its own fallback"
            ]
        assert problems(endpointURL="http://a:1", fallbackEndpointURL="http://a:2") == []

    def test_rule_is_not_asked_about_a_field_that_is_wrong_anyway(self) -> None:
        given = manifest(fallbackEndpointURL="http://a", backendType="vllm")
        assert [p.path for p in parse(given).problems] == ["spec.backendType"]
        given = manifest(endpointURL=7, backendType="openai")
        assert parse(given).problems == (
            Problem(
                path="spec.endpointURL", message="must be of type string, is 7; put it in quotes"
            ),
        )

    @pytest.mark.parametrize("kind", ["ollama", "mlx", "auto"])
    def test_only_openai_needs_an_endpoint(self, kind: str) -> None:
        assert problems(backendType=kind) == []


class TestPaused:
    @pytest.mark.parametrize(
        ("annotations", "expected"),
        [
            ({"llm.athena.dev/paused": "true"}, True),
            ({"llm.athena.dev/paused": "false"}, False),
            ({"llm.athena.dev/paused": "True"}, False),
            ({"llm.athena.dev/paused": True}, False),
            ({"other/paused": "true"}, False),
            ({}, False),
            (None, False),
            ("x", False),
        ],
    )
    def test_the_annotation_says_true(self, annotations: object, expected: bool) -> None:
        given = manifest()
        given["metadata"]["annotations"] = annotations
        assert is_paused(given["metadata"]) is expected
        assert parse(given).paused is expected

    def test_without_annotations(self) -> None:
        assert parse(manifest()).paused is False


class TestChanged:
    def entry(self, manager: str, time: object, **fields: Any) -> dict[str, Any]:
        usual = {"operation": "Update", "fieldsV1": {"f:spec": {"f:modelName": {}}}}
        return {"manager": manager, "time": time} | usual | fields

    def changed(self, *entries: object) -> tuple[str, str]:
        given = manifest()
        given["metadata"]["managedFields"] = list(entries)
        resource = parse(given)
        return resource.changed_by, resource.changed_at

    def test_by_the_newest_entry_that_owns_the_spec(self) -> None:
        metadata = self.entry("labeller", "2026-05-01T00:00:00Z", fieldsV1={"f:metadata": {}})
        status = self.entry("status", "2026-06-01T00:00:00Z", subresource="status")
        argo = self.entry("argocd", "2026-03-01T00:00:00Z", operation="Apply")
        edit = self.entry("kubectl-edit", "2026-04-01T00:00:00Z")
        expected = ("kubectl-edit", "2026-04-01T00:00:00Z")
        assert self.changed(edit, argo, metadata, status) == expected
        assert self.changed(argo, edit, status, metadata) == expected

    def test_a_time_of_yaml_is_read_too(self) -> None:
        at = datetime.datetime(2026, 3, 1, 1, tzinfo=datetime.UTC)
        assert self.changed(self.entry("x", at)) == ("x", "2026-03-01T01:00:00Z")

    def test_unknown_is_empty(self) -> None:
        resource = parse(manifest())
        assert (resource.changed_by, resource.changed_at) == ("", "")
        assert self.changed("x", {}, {"fieldsV1": []}, self.entry("", None)) == ("", "")


def test_who_asked_the_admin_api_is_named_before_it() -> None:
    entry = {
        "manager": "llm-backend-admin",
        "time": "2026-01-01T00:00:00Z",
        "fieldsV1": {"f:spec": {}},
    }
    given = manifest()
    given["metadata"] |= {
        "annotations": {"llm.athena.dev/changed-by": "alice"},
        "managedFields": [entry],
    }
    assert parse(given).changed_by == "alice (llm-backend-admin)"
    entry["manager"] = "kubectl"
    assert parse(given).changed_by == "kubectl"
