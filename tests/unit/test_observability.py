"""What is shipped for Prometheus and Grafana names what there is, and alerts when it should."""

import json
import re
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator import families as operator_families
from llm_operator.admin.api import counts
from llm_operator.publish.outcome import LIMIT
from llm_router import families as router_families
from llm_router import settings as router_settings
from llm_router.select import Verdict
from parts.prometheus import (
    HONOURED,
    SHIPPED,
    VARIABLES,
    dashboards,
    expressions,
    filled,
    groups,
    programs,
)

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
DOCUMENT = ROOT / "docs" / "observability.md"
CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text())

FAMILIES = {
    each.name: each
    for each in (*router_families.FAMILIES, *operator_families.FAMILIES, *counts.FAMILIES)
}
#: Labels of whatever is scraped, by the PodMonitors.
SCRAPED = {"job", "namespace", "pod", "instance"}
#: The beginning of a metric's name -> the target that has it.
TARGETS = {
    "llm_operator": {"job": HONOURED, "instance": "10.0.0.2:8082", "pod": "operator-0"},
    "llm_admin": {"job": "llm-backend-admin", "instance": "10.0.0.3:8090", "pod": "admin-0"},
    "": {"job": "llm-router", "instance": "10.0.0.1:8081", "pod": "app-0"},
}
METRIC = re.compile(r"\b((?:llm_|gen_ai_)\w+|up)\b(?:\{([^}]*)\})?")
ALERTS = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
RECORDED = {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}
PANELS = [
    pytest.param(panel, id=f"{name}-{panel['id']}")
    for name, board in sorted(dashboards().items())
    for panel in board["panels"]
    if panel["type"] != "row"
]


def family(name: str) -> Any:
    """The family that a series is of."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return FAMILIES.get(name) or FAMILIES[base]


def selectors(expr: str) -> list[tuple[str, str]]:
    """Each metric that an expression names, with what is in its braces."""
    for name in RECORDED:
        expr = expr.replace(name, "")
    return METRIC.findall(expr)


def labels_of(expr: str) -> set[str]:
    """The labels that the metrics of an expression have."""
    named = {name for name, _ in selectors(expr)} - {"up"}
    found = {label for name in named for label in family(name).labels} | SCRAPED | {"le"}
    return found | ({"model"} if any(name in expr for name in RECORDED) else set())


@pytest.mark.parametrize("each", expressions(), ids=lambda each: each.where)
def test_an_expression_names_metrics_and_labels_that_exist(each: Any) -> None:
    for name, braces in selectors(each.expr):
        known = SCRAPED | ({"le", *family(name).labels} if name != "up" else set())
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces)) <= known, name
    grouped = re.findall(r"\b(?:by|on|group_right|group_left) \(([^)]*)\)", each.expr)
    assert {label.strip() for labels in grouped for label in labels.split(",")} <= labels_of(
        each.expr
    )


@pytest.mark.parametrize("each", expressions(), ids=lambda each: each.where)
def test_an_expression_names_states_that_exist(each: Any) -> None:
    for name, braces in selectors(each.expr):
        if name == "llm_router_target_state":
            for states in re.findall(r'state(?:=~|!=|=)"([^"]*)"', braces):
                assert set(states.split("|")) <= set(Verdict)


def test_the_limit_of_a_configuration_is_the_operator_s() -> None:
    assert LIMIT == 900 * 1024
    (alert,) = [rule for rule in ALERTS if rule["alert"] == "ConfigTooLarge"]
    assert "900 * 1024" in alert["expr"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_tells_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+m", alert["for"])
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert told["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    assert (ROOT / told["runbook_url"]).exists()
    used = set(re.findall(r"\$labels\.(\w+)", told["summary"] + told["description"]))
    assert used <= labels_of(alert["expr"])


def test_every_runbook_has_an_alert_and_four_parts() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {rule["alert"] for rule in ALERTS}
    for path in RUNBOOKS.glob("*.md"):
        text = path.read_text()
        assert text.startswith(f"# {path.stem}\n")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
            "What it means",
            "What users notice",
            "What to look at",
            "What to do",
        ], path.name


def test_the_alerts_of_the_document() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+(?:, \w+)*) \|",
        DOCUMENT.read_text(),
        re.MULTILINE,
    )
    assert all(name == linked for name, linked, _ in rows)
    severities: dict[str, list[str]] = {}
    for rule in ALERTS:
        severities.setdefault(rule["alert"], []).append(rule["labels"]["severity"])
    assert [(name, severity) for name, _, severity in rows] == [
        (name, ", ".join(found)) for name, found in severities.items()
    ]


def test_the_dashboards_of_the_document() -> None:
    rows = re.findall(r"^\| `(llm-\w+)` \| ([^|]*) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert dict(rows) == {board["uid"]: board["title"] for board in dashboards().values()}


def promtool(*arguments: str | Path, cwd: Path) -> None:
    """Run it; a failure is an AssertionError with what it said."""
    command = [programs() / "promtool", *arguments]
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_rules_are_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups()}))
    promtool("check", "rules", "--lint-fatal", "rules.yml", cwd=tmp_path)


def test_every_alert_has_a_case_in_which_it_fires_and_a_time_before() -> None:
    fired = Counter(name for case in CASES for names in case["firing"].values() for name in names)
    assert set(fired) == {rule["alert"] for rule in ALERTS}
    for case in CASES:
        assert not all(case["firing"].values()) or "told once" in case["case"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_alerts_fire_when_they_should_and_are_silent_else(
    case: dict[str, Any], tmp_path: Path
) -> None:
    # NB: alone, for what the case is about; else a cluster that has an operator and no change.
    usual = {"llm_operator_leader": "1x600"}
    usual = {name: value for name, value in usual.items() if name not in case.get("without", ())}
    series = [
        {"series": labelled(name), "values": values}
        for name, values in (usual | case["series"]).items()
    ]
    tests = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [
                    {
                        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{minute}m",
                        "exp_samples": [
                            {"labels": f'{{alertname="{name}"}}', "value": 1} for name in names
                        ],
                    }
                    for minute, names in case["firing"].items()
                ],
            }
        ],
    }
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups()}))
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    promtool("test", "rules", "tests.yml", cwd=tmp_path)


def labelled(series: str) -> str:
    """A series with the labels of its target beside its own, as a scrape gives them."""
    name, _, rest = series.partition("{")
    own = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    start, target = next(each for each in TARGETS.items() if name.startswith(each[0]))
    of_models = not start or "namespace" in family(name).labels
    usual = target | {"namespace": "models" if of_models else "llm-backend-system"}
    return name + "{" + ",".join(f'{k}="{v}"' for k, v in (usual | own).items()) + "}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_a_case_is_made_of_series_that_exist(case: dict[str, Any]) -> None:
    for series in case["series"]:
        name, _, rest = series.partition("{")
        own = set(re.findall(r'(\w+)="', rest))
        if name != "up":
            assert own <= SCRAPED | {"le", *family(name).labels}


def test_dashboards_are_told_apart() -> None:
    boards = dashboards()
    assert [f"{board['uid']}.json" for board in boards.values()] == list(boards)
    assert len({board["title"] for board in boards.values()}) == len(boards)
    for board in boards.values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        titles = [panel["title"] for panel in board["panels"] if panel["type"] != "row"]
        assert len({*ids}) == len(ids)
        assert titles
        # Of Grafana 11; later ones bring it up to theirs.
        assert board["schemaVersion"] == 39
        assert "id" not in board


def test_a_dashboard_asks_the_source_that_is_chosen() -> None:
    for board in dashboards().values():
        variables = {each["name"] for each in board["templating"]["list"]}
        assert "datasource" in variables
        text = json.dumps(board["panels"])
        used = set(re.findall(r"\$\{?(\w+)\}?", text)) - {"__rate_interval"}
        assert used == variables
        assert {f"${name}" for name in used - {"datasource"}} <= set(VARIABLES)
        for each in board["templating"]["list"]:
            if each["type"] == "query":
                inside = each["query"]["query"].removeprefix("label_values(").removesuffix(")")
                selector, _, label = inside.rpartition(", ")
                assert label in labels_of(filled(selector))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references))


def test_panels_do_not_overlap() -> None:
    for board in dashboards().values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, panel["title"]
            taken |= cells
        tops = [panel["gridPos"]["y"] for panel in board["panels"]]
        assert all(above <= below for above, below in pairwise(tops))


def test_who_is_scraped_is_who_is_alerted_on() -> None:
    monitors = list(yaml.safe_load_all((SHIPPED / "podmonitors.yaml").read_text()))
    monitors += [yaml.safe_load((SHIPPED / "admin" / "podmonitor.yaml").read_text())]
    jobs = {}
    for monitor in monitors:
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (job,) = [each["replacement"] for each in endpoint["relabelings"]]
        jobs[job] = endpoint
    assert {job: endpoint["port"] for job, endpoint in jobs.items()} == {
        "llm-router": "management",
        "llm-backend-operator": "health",
        "llm-backend-admin": "http",
    }
    assert [job for job, endpoint in jobs.items() if endpoint.get("honorLabels")] == [HONOURED]
    named = {job for each in expressions() for job in re.findall(r'job="([^"]*)"', each.expr)}
    assert named <= set(jobs)


def test_the_plain_scrape_configuration_is_the_podmonitors_in_other_words() -> None:
    text = (SHIPPED / "scrape.yaml").read_text()
    configs = yaml.safe_load(text)["scrape_configs"]
    assert [each["job_name"] for each in configs] == [
        "llm-router",
        "llm-backend-operator",
        "llm-backend-admin",
    ]
    assert [each["job_name"] for each in configs if each.get("honor_labels")] == [HONOURED]


def test_the_tracing_example_names_what_exists() -> None:
    patch = yaml.safe_load((SHIPPED / "otlp" / "router.yaml").read_text())
    names = [each["name"] for each in patch["spec"]["template"]["spec"]["initContainers"][0]["env"]]
    assert names == [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "LLM_ROUTER_TRACE_RATIO",
    ]
    ours = {setting.variable for setting in router_settings.TABLE}
    assert {name for name in names if name.startswith("LLM_")} <= ours
    documented = (ROOT / "docs" / "router.md").read_text()
    assert all(f"`{name}`" in documented for name in names)


def test_the_collector_s_pipelines_are_made_of_what_it_configures() -> None:
    objects = list(yaml.safe_load_all((SHIPPED / "otlp" / "collector.yaml").read_text()))
    (held,) = [each for each in objects if each["kind"] == "ConfigMap"]
    config = yaml.safe_load(held["data"]["config.yaml"])
    for pipeline in config["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(config[kind])
    (service,) = [each for each in objects if each["kind"] == "Service"]
    (port,) = service["spec"]["ports"]
    received = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert received.endswith(f":{port['port']}")
    patch = yaml.safe_load((SHIPPED / "otlp" / "router.yaml").read_text())
    (env, *_) = patch["spec"]["template"]["spec"]["initContainers"][0]["env"]
    where = f"{service['metadata']['name']}.{service['metadata']['namespace']}"
    assert env["value"] == f"http://{where}:{port['port']}"
