"""A real Prometheus on the shipped alerts, and every expression that is shipped.

    prometheus = Prometheus(folder, programs() / "prometheus")
    prometheus.start([Target("llm-router", f"127.0.0.1:{port}", {"namespace": "models"})])
    eventually(prometheus.scraped, within=20)
    prometheus.query('up{job="llm-router"}')    # samples
    report = evaluate(prometheus)               # of all that dashboards and alerts ask
    assert not report.errors

Targets are given as they are after the PodMonitors of manifests/observability: `job`, `namespace`
and `pod` are labels of theirs. It reads the rules and dashboards as they are shipped and writes
only into its folder.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from parts import build, process
from parts.absent import absent
from parts.process import Process, free_port

SHIPPED = Path(__file__).resolve().parents[2] / "manifests" / "observability"
PROGRAMS = ("prometheus", "promtool")
#: The scrape job whose own label `namespace` holds against the target's.
HONOURED = "llm-backend-operator"
#: What Grafana puts in, as for a dashboard that shows everything.
VARIABLES = {
    "$__rate_interval": "1m",
    "$namespace": ".*",
    "$model": ".*",
    "$pod": ".*",
}

Sample = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One process to scrape.

    Attributes:
        address: host and port of its /metrics.
        labels: `namespace` and `pod`, as a PodMonitor gives them.
        token: to be shown to it; "" for none.
    """

    job: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """What a panel or a rule asks.

    Attributes:
        where: the dashboard's uid and panel's title, or the rule's name.
        expr: PromQL, with Grafana's variables filled in.
    """

    where: str
    expr: str
    panel: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a Prometheus said to all of them.

    Attributes:
        errors: where -> what it found wrong.
        counts: where -> samples of all the expressions there.
    """

    errors: Mapping[str, str]
    counts: Mapping[str, int]

    @property
    def empty(self) -> list[str]:
        """The panels without data."""
        return [where for where, count in self.counts.items() if not count and "/" in where]


class QueryError(Exception):
    """Prometheus refused an expression."""


@dataclass(slots=True)
class Prometheus:
    """One server. `start` and `stop` may be called in any order, repeatedly."""

    folder: Path
    program: Path
    port: int = field(default_factory=free_port)
    _process: Process | None = None

    def start(self, targets: Sequence[Target], *, every: str = "1s") -> None:
        """Scrape these, and wait until it answers."""
        self.run([_scrape(number, each) for number, each in enumerate(targets)], every=every)

    def run(self, scrape_configs: Sequence[Mapping[str, Any]], *, every: str = "1s") -> None:
        """The same with scrape configurations as Prometheus reads them."""
        self.stop()
        (self.folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups()}))
        config = {
            "global": {"scrape_interval": every, "evaluation_interval": every},
            "rule_files": ["rules.yml"],
            "scrape_configs": [dict(each) for each in scrape_configs],
        }
        path = self.folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        self._process = process.start(
            [
                self.program,
                f"--config.file={path}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            log=self.folder / "prometheus.log",
        )
        self._process.ready(self._answers, within=30, retry=(httpx.TransportError,))

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.end()

    def query(self, expression: str) -> list[Sample]:
        """The samples of an instant query: `{"metric": labels, "value": [time, text]}` each.

        Raises:
            QueryError: Prometheus can't evaluate it.
        """
        answer = self._get("query", query=expression)
        if answer["status"] != "success":
            raise QueryError(f"{answer['error']}: {expression}")
        found: list[Sample] = answer["data"]["result"]
        return found

    def targets(self) -> list[dict[str, Any]]:
        """Those that are scraped: `labels`, and `health` up, down or unknown, among others."""
        found: list[dict[str, Any]] = self._get("targets")["data"]["activeTargets"]
        return found

    def scraped(self) -> bool:
        """Whether there are targets, and each was scraped and well the last time."""
        return {each["health"] for each in self.targets()} == {"up"}

    def firing(self) -> set[str]:
        """The names of alerts that fire."""
        alerts = self._get("alerts")["data"]["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def _get(self, path: str, **query: str) -> dict[str, Any]:
        document: dict[str, Any] = httpx.get(
            f"http://127.0.0.1:{self.port}/api/v1/{path}",
            params=query,
            trust_env=False,
            timeout=30,
        ).json()
        return document

    def _answers(self) -> bool:
        url = f"http://127.0.0.1:{self.port}/-/ready"
        return httpx.get(url, trust_env=False, timeout=5).is_success


def groups() -> list[dict[str, Any]]:
    """The groups of the shipped PrometheusRule, as a rule file of Prometheus has them."""
    document = yaml.safe_load((SHIPPED / "rules.yaml").read_text())
    found: list[dict[str, Any]] = document["spec"]["groups"]
    return found


def dashboards() -> dict[str, dict[str, Any]]:
    """File name -> dashboard."""
    return {path.name: json.loads(path.read_text()) for path in SHIPPED.glob("dashboards/*.json")}


def expressions() -> list[Expression]:
    """All that dashboards and rules ask."""
    panels = [
        Expression(
            where=f"{board['uid']}/{panel['id']} {panel['title']}",
            expr=filled(target["expr"]),
            panel=True,
        )
        for _, board in sorted(dashboards().items())
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]
    rules = [rule for group in groups() for rule in group["rules"]]
    return panels + [
        Expression(where=rule.get("alert") or rule["record"], expr=rule["expr"], panel=False)
        for rule in rules
    ]


def filled(expr: str) -> str:
    """An expression of a dashboard as Grafana sends it."""
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    return expr


def evaluate(prometheus: Prometheus) -> Report:
    """Ask everything once."""
    errors: dict[str, str] = {}
    counts: dict[str, int] = {}
    for each in expressions():
        try:
            found = prometheus.query(each.expr)
        except QueryError as error:
            errors[each.where] = str(error)
        else:
            counts[each.where] = counts.get(each.where, 0) + len(found)
    return Report(errors=errors, counts=counts)


def programs() -> Path:
    """The folder that holds prometheus and promtool; skips or fails the test without them."""
    folder = build.located("tools")
    if folder is None and (installed := shutil.which("promtool")):
        folder = Path(installed).parent
    if folder is None or not all((folder / name).exists() for name in PROGRAMS):
        absent("prometheus and promtool", remedy="run `make tools`")
    return folder


def _scrape(number: int, target: Target) -> dict[str, Any]:
    config: dict[str, Any] = {
        "job_name": f"{target.job}-{number}",
        "honor_labels": target.job == HONOURED,
        "static_configs": [
            {"targets": [target.address], "labels": {"job": target.job, **target.labels}}
        ],
    }
    if target.token:
        config["authorization"] = {"credentials": target.token}
    return config
