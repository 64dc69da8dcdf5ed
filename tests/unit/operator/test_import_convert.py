"""The predecessor's rows -> resources: every row gives one that is valid, or a reason why not."""

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.admin.change import FIELDS
from llm_operator.command.documents import documents
from llm_operator.predecessor.columns import COLUMNS, NEEDED
from llm_operator.predecessor.command import checked
from llm_operator.predecessor.convert import MOST, Converted, Imported, annotation, convert
from llm_operator.predecessor.reading import text
from llm_operator.predecessor.urls import hidden
from llm_operator.predecessor.write import Form, stream
from llm_operator.resource.model import Spec
from llm_operator.resource.parse import parse

GOOD: dict[str, Any] = {
    "id": 7,
    "model_name": "phi3:mini",
    "backend_type": "ollama",
    "endpoint_url": "http://mac-studio.lan:11434",
    "enabled": True,
    "priority": 100,
    "max_tokens": 2048,
    "temperature_default": 0.7,
    "timeout_seconds": 60,
    "keep_alive_seconds": -1,
    "description": "Phi-3 Mini via Ollama for fast classification",
    "avg_tokens_per_sec": 14.2,
    "avg_latency_ms": 7000,
    "total_requests": 12,
    "total_errors": 1,
    "created_by": "jay",
    "created_at": "2025-11-15T10:00:00+00:00",
    "updated_at": "2025-11-16T10:00:00+00:00",
}

SECRET = "hunter2"


def one(**fields: Any) -> Imported:
    """The resource of a row that differs from a good one in these fields."""
    (found,) = convert([GOOD | fields]).resources
    return found


def spec(found: Imported) -> Spec:
    resource = parse(found.manifest)
    assert resource.problems == ()
    assert resource.spec is not None
    return resource.spec


def annotations(found: Imported) -> dict[str, str]:
    return dict(found.manifest["metadata"]["annotations"])


def kept(found: Imported, column: str) -> str | None:
    return annotations(found).get(annotation(column))


def about(found: Imported, column: str) -> list[tuple[str, bool]]:
    """What is said of a column, and whether a person has to look at it."""
    return [(each.text, each.lost) for each in found.findings if each.field == column]


def test_a_good_row_comes_over_without_a_word() -> None:
    found = one()
    assert found.findings == ()
    assert found.manifest["spec"] == {
        "modelName": "phi3:mini",
        "backendType": "ollama",
        "endpointURL": "http://mac-studio.lan:11434",
        "enabled": True,
        "priority": 100,
        "maxTokens": 2048,
        "temperature": 0.7,
        "timeoutSeconds": 60,
        "keepAliveSeconds": -1,
        "description": "Phi-3 Mini via Ollama for fast classification",
    }
    assert found.manifest["metadata"] == {
        "name": "phi3-mini",
        "annotations": {
            "llm.athena.dev/imported-id": "7",
            "llm.athena.dev/imported-avg-tokens-per-sec": "14.2",
            "llm.athena.dev/imported-avg-latency-ms": "7000",
            "llm.athena.dev/imported-total-requests": "12",
            "llm.athena.dev/imported-total-errors": "1",
            "llm.athena.dev/imported-created-by": "jay",
            "llm.athena.dev/imported-created-at": "2025-11-15T10:00:00+00:00",
            "llm.athena.dev/imported-updated-at": "2025-11-16T10:00:00+00:00",
        },
    }


def test_the_namespace_is_written_when_it_is_named() -> None:
    (found,) = convert([GOOD], namespace="ai").resources
    assert found.manifest["metadata"]["namespace"] == "ai"


def test_columns_are_those_of_the_admin_api() -> None:
    assert {name: about.field for name, about in COLUMNS.items() if about.field} == {
        name: FIELDS[name] for name in COLUMNS if name in FIELDS
    }
    assert set(NEEDED) <= set(COLUMNS)


@pytest.mark.parametrize(
    ("column", "given", "field", "value"),
    [
        ("enabled", 1, "enabled", True),
        ("enabled", "f", "enabled", False),
        ("max_tokens", "2048", "max_tokens", 2048),
        ("max_tokens", 2048.0, "max_tokens", 2048),
        ("temperature_default", "0", "temperature", 0.0),
        ("temperature_default", 0, "temperature", 0.0),
        ("temperature_default", None, "temperature", None),
        ("keep_alive_seconds", 0, "keep_alive_seconds", 0),
        ("keep_alive_seconds", None, "keep_alive_seconds", None),
        ("max_tokens", None, "max_tokens", None),
        ("priority", None, "priority", 100),
        ("description", None, "description", ""),
        ("endpoint_url", "http://mac:11434/", "endpoint_url", "http://mac:11434/"),
        ("endpoint_url", "http://gateway/models/", "endpoint_url", "http://gateway/models/"),
    ],
)
def test_a_value_of_another_type_is_read_without_a_word(
    column: str, given: object, field: str, value: object
) -> None:
    found = one(**{column: given})
    assert found.findings == ()
    assert getattr(spec(found), field) == value


@pytest.mark.parametrize(
    ("column", "given", "field", "value"),
    [
        ("priority", -5, "priority", 0),
        ("priority", 2_000_000, "priority", 1_000_000),
        ("max_tokens", 10_000_000, "max_tokens", 1_048_576),
        ("timeout_seconds", 2.5, "timeout_seconds", 3),
        ("timeout_seconds", 7200, "timeout_seconds", 3600),
        ("timeout_seconds", None, "timeout_seconds", 60),
        ("keep_alive_seconds", -300, "keep_alive_seconds", -1),
        ("keep_alive_seconds", 10**9, "keep_alive_seconds", 31_536_000),
        ("enabled", None, "enabled", False),
        ("backend_type", "Ollama ", "backend_type", "ollama"),
        ("model_name", " phi3:mini\n", "model_name", "phi3:mini"),
        ("description", "x" * 2000, "description", "x" * 1024),
        ("endpoint_url", "mac:11434", "endpoint_url", "http://mac:11434"),
        ("endpoint_url", "http://mac:11434/v1", "endpoint_url", "http://mac:11434"),
        ("endpoint_url", "http://mac/api/generate/", "endpoint_url", "http://mac"),
    ],
)
def test_a_value_with_one_meaning_is_mended_told_and_kept(
    column: str, given: object, field: str, value: object
) -> None:
    found = one(**{column: given})
    ((_, lost),) = about(found, column)
    assert not lost
    assert not found.off
    assert getattr(spec(found), field) == value
    assert kept(found, column) == text(given)


@pytest.mark.parametrize(
    ("column", "given", "field", "value"),
    [
        ("max_tokens", -1, "max_tokens", None),
        ("max_tokens", "many", "max_tokens", None),
        ("temperature_default", 3.5, "temperature", None),
        ("temperature_default", -0.1, "temperature", None),
        ("temperature_default", "NaN", "temperature", None),
        ("temperature_default", True, "temperature", None),
        ("timeout_seconds", 0, "timeout_seconds", 60),
        ("keep_alive_seconds", "5m", "keep_alive_seconds", None),
        ("priority", "first", "priority", 100),
    ],
)
def test_a_value_that_a_resource_can_not_have_is_left_out_listed_and_kept(
    column: str, given: object, field: str, value: object
) -> None:
    found = one(**{column: given})
    ((_, lost),) = about(found, column)
    assert lost
    assert not found.off
    assert getattr(spec(found), field) == value
    assert kept(found, column) == text(given)


@pytest.mark.parametrize(
    ("column", "given"),
    [
        ("model_name", "模型 7b"),
        ("model_name", "---"),
        ("model_name", "x" * 300),
        ("backend_type", "vllm"),
        ("backend_type", None),
        ("endpoint_url", "   "),
        ("endpoint_url", None),
        ("endpoint_url", "http://mac:99999"),
        ("endpoint_url", "http://169.254.169.254/"),
        ("endpoint_url", "http://mäc:8080"),
        ("endpoint_url", "unix:///run/ollama.sock"),
        ("endpoint_url", "http://mac:8080/?key=1"),
        ("enabled", "perhaps"),
    ],
)
def test_where_requests_should_go_is_not_guessed(column: str, given: object) -> None:
    found = one(**{column: given})
    assert any(lost for _, lost in about(found, column))
    assert spec(found).enabled is False
    if column not in ("endpoint_url", "enabled"):
        assert kept(found, column) == text("" if given is None else given) or given is None
    assert found.off is (column != "enabled")
    assert kept(found, "enabled") == ("perhaps" if column == "enabled" else "true")


def test_what_was_off_before_is_not_said_to_be_switched_off() -> None:
    found = one(enabled=False, endpoint_url="")
    assert not found.off
    assert kept(found, "enabled") is None


def test_a_password_is_neither_written_nor_told() -> None:
    for url in (
        f"http://user:{SECRET}@mac:8080",
        f"http://user:{SECRET}@mac:8080/v1?key={SECRET}#{SECRET}",
        f"user:{SECRET}@mac:8080",
        f"http://mac:8080?key={SECRET}",
        f"http://user:{SECRET}/more@mac:8080",
        f"http://user:12?{SECRET}@mac:8080",
        f"http://user:{SECRET}#x@mac:8080",
        f"ftp://user:{SECRET}@mac",
    ):
        found = one(endpoint_url=url, backend_type="mlx")
        assert SECRET not in json.dumps(found.manifest), url
        assert SECRET not in stream([found], Form.YAML), url
        assert spec(found).enabled is False
    assert spec(one(endpoint_url=f"http://u:{SECRET}@mac:1/")).endpoint_url == "http://mac:1/"


def test_a_column_that_nobody_knows_is_named_and_not_written() -> None:
    found = convert([GOOD | {"api_key": SECRET}, GOOD | {"api_key": None, "id": 8}])
    ((field, lost, told),) = [(one.field, one.lost, one.text) for one in found.findings]
    assert (field, lost) == ("api_key", True)
    assert "1 row with one" in told
    assert SECRET not in stream(found.resources, Form.YAML)


def test_a_column_that_an_older_predecessor_lacks_is_told_once() -> None:
    rows = [{k: v for k, v in GOOD.items() if k != "priority"} | {"id": n} for n in (1, 2)]
    found = convert(rows)
    assert [str(one) for one in found.findings] == ["warning: priority: is in no row; 100 counts"]
    assert all("priority" not in one.manifest["spec"] for one in found.resources)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "LOCALHOST"])
def test_an_address_of_the_same_machine_is_warned_of(host: str) -> None:
    found = one(endpoint_url=f"http://{host}:11434")
    ((told, lost),) = about(found, "endpoint_url")
    assert told.startswith(f"{host} is the pod itself")
    assert not lost
    assert spec(found).enabled


def test_auto_says_where_it_falls_back_to() -> None:
    mac = "http://mac:11434"
    rows = [GOOD | {"backend_type": "auto", "endpoint_url": "http://mac:8080"}]
    (plain,) = convert(rows).resources
    assert spec(plain).fallback_endpoint_url is None
    assert any("--ollama-url" in told for told, _ in about(plain, "backend_type"))
    (named,) = convert(rows, ollama_url=mac).resources
    assert spec(named).fallback_endpoint_url == mac
    (same,) = convert(rows, ollama_url="http://mac:8080/").resources
    assert spec(same).fallback_endpoint_url is None
    assert any("its own fallback" in told for told, _ in about(same, "backend_type"))
    assert spec(convert([GOOD], ollama_url=mac).resources[0]).fallback_endpoint_url is None


def test_a_row_of_mlx_says_which_model_is_asked_for() -> None:
    told = about(one(backend_type="mlx"), "backend_type")
    assert ["upstreamModel" in text for text, _ in told] == [True]
    assert not any("upstreamModel" in each.text for each in one().findings)


def test_openai_needs_an_address() -> None:
    assert spec(one(backend_type="openai")).backend_type == "openai"
    found = one(backend_type="openai", endpoint_url="")
    assert spec(found).enabled is False
    assert kept(found, "backend_type") == "openai"


def test_rows_that_give_no_resource_have_a_reason() -> None:
    found = convert([GOOD | {"id": 3, "model_name": " "}, GOOD | {"model_name": None}, "x", None])
    assert found.resources == ()
    assert found.rows == 4
    assert [(one.row, one.lost) for one in found.findings] == [
        ("3", True),
        ("7", True),
        ("at 3", True),
        ("at 4", True),
    ]


def test_two_rows_of_one_model_are_told_of() -> None:
    rows = [GOOD | {"id": 2, "model_name": " phi3:mini"}, GOOD | {"id": 1}]
    first, second = checked(convert(rows)).resources
    assert (first.row, first.name) == ("1", "phi3-mini")
    assert first.findings == ()
    assert "belongs to phi3-mini" in second.findings[-1].text
    assert second.findings[-1].lost


def test_a_text_too_long_for_an_annotation_is_cut_and_listed() -> None:
    found = one(description="ä" * 10_000, created_by="b" * 10_000)
    assert spec(found).description == "ä" * 1024
    assert kept(found, "description") == "ä" * (MOST // 2)
    assert kept(found, "created_by") == "b" * MOST
    assert [lost for _, lost in about(found, "created_by")] == [True]
    assert [lost for _, lost in about(found, "description")] == [False, True]


def test_what_is_no_text_is_replaced_and_told_once() -> None:
    found = one(description="a\x00b\ud800c\x85")
    assert spec(found).description == "a\ufffdb\ufffdc\ufffd"
    assert [lost for _, lost in about(found, "description")] == [True]


def test_the_second_of_one_name_gets_a_number() -> None:
    models = ["a:b", "A-B", "a-b-2", "a_b", "?", "!", "llama3.1:8b", "x" * 300]
    rows = [GOOD | {"id": place, "model_name": model} for place, model in enumerate(models)]
    assert [one.name for one in convert(rows).resources] == [
        "a-b",
        "a-b-2",
        "a-b-2-2",
        "a-b-3",
        "model",
        "model-2",
        "llama3-1-8b",
        "x" * 63,
    ]


@given(st.lists(st.one_of(st.text(max_size=80), st.text(alphabet="aA.-", max_size=80))))
def test_names_are_valid_and_unique_whatever_the_models_are_called(models: list[str]) -> None:
    rows = [GOOD | {"model_name": model} for model in models if model.strip()]
    names = [one.name for one in convert(rows).resources]
    assert len(set(names)) == len(rows)
    assert all(re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in names)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=40),
    st.sampled_from(
        ["y", "1e3", "12:30", "0x1F", "~", "null", "2026-01-01", "- a: b", "#", "\x85"]
    ),
    st.sampled_from([[], {}, [1, "a"], {"a": {"b": None}}]),
)
URLS = st.one_of(
    st.sampled_from(
        ["http://mac:8080", "https://mac/v1/", "localhost:11434", "http://[fd00::1]:1/", "//mac"]
    ),
    st.text(alphabet="http:/.@[]?#-1", max_size=20),
    st.text(alphabet="http:/.@[]?#-1", max_size=20).map("http://{}".format),
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(st.just(good), JUNK, *([URLS] if name == "endpoint_url" else []))
        for name, good in GOOD.items()
    }
    | {"model_name": st.one_of(st.sampled_from(["phi3:mini", "Phi3:Mini", "a b"]), JUNK)},
)


def valid(found: Converted) -> None:
    """What holds of any conversion."""
    assert len({one.name for one in found.resources}) == len(found.resources)
    for each in found.resources:
        spec(each)
        size = sum(len(k.encode()) + len(v.encode()) for k, v in annotations(each).items())
        assert size <= 256 * 1024


@settings(deadline=None, max_examples=60)
@given(st.lists(ROWS, max_size=5))
def test_any_row_gives_a_valid_resource_or_a_reason(rows: list[dict[str, Any]]) -> None:
    found = checked(convert(rows, ollama_url="http://mac:11434"))
    valid(found)
    without = [one for one in found.findings if one.field == "model_name" and one.lost]
    assert len(found.resources) + len(without) == found.rows == len(rows)


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_a_row_can_be_told_from_its_resource(row: dict[str, Any]) -> None:
    found = convert([row])
    for each in found.resources:
        untold = {one.field for one in each.findings if "U+FFFD" in one.text}
        for column in COLUMNS:
            if row.get(column) in (None, "") or column in untold:
                continue
            stands = kept(each, column)
            if column == "endpoint_url" and "@" in re.sub(r"^[^?#]*", "", text(row[column])):
                # Nobody knows where a secret in it ends, so nothing of it stands anywhere.
                assert stands is None
                assert about(each, column)
            elif stands is None:
                value = each.manifest["spec"].get(COLUMNS[column].field)
                assert (row[column] == value) or not hidden(text(row[column]).strip()), column
            elif column == "endpoint_url":
                assert stands == hidden(text(row[column]))
            else:
                assert stands == text(row[column]), column


@settings(deadline=None, max_examples=60)
@given(st.lists(ROWS, max_size=3))
def test_yaml_means_the_same_to_each_reader(rows: list[dict[str, Any]]) -> None:
    resources = convert(rows).resources
    manifests = [dict(one.manifest) for one in resources]
    written = stream(resources, Form.YAML)
    written.encode()
    assert [one.body for one in documents("x.yaml", written)] == manifests
    assert list(yaml.safe_load_all(written)) == manifests
    assert json.loads(stream(resources, Form.JSON))["items"] == manifests


@given(st.lists(ROWS, max_size=4), st.randoms())
@settings(deadline=None, max_examples=60)
def test_the_order_of_the_rows_does_not_matter(rows: list[dict[str, Any]], random: Any) -> None:
    numbered = [row | {"id": place} for place, row in enumerate(rows)]
    before = convert(numbered)
    random.shuffle(numbered)
    assert convert(numbered).resources == before.resources
