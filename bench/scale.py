"""What the operator does with a thousand resources and more, on a real API server and Postgres.

    PYTHONPATH=tests python -m bench.scale [--resources 1000,2000]

Starts everything on the loopback as the tests do and ends it by pid. The first step fills one
namespace, each further one adds another namespace up to its number. The report goes to standard
output, progress to standard error; nothing is asserted.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from llm_operator import migrate

# NB: the tests' own parts, found by PYTHONPATH=tests; mypy does not look there.
from parts import build  # type: ignore[import-not-found]
from parts import postgres as servers
from parts.access import expect  # type: ignore[import-not-found]
from parts.control_plane import CRD_FILE, ControlPlane  # type: ignore[import-not-found]
from parts.eventually import eventually  # type: ignore[import-not-found]
from parts.operator import CONFIG_MAP, Backends, Operator  # type: ignore[import-not-found]

#: Connections that create resources at once, as an eager pipeline would.
CREATING = 8
#: Single changes whose way to the ConfigMap is timed, and seconds of silence that are watched.
CHANGES, IDLE = 100, 60.0
#: Seconds at most for all of a step to be ready, and for one change to be published.
READY, PUBLISHED = 600.0, 30.0
WRITES = ("create", "update", "patch", "delete")
#: Renewed by a leader; asked at a start. No write that anything causes.
APART = ("leases", "selfsubjectaccessreviews")
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What was measured with so many resources.

    Attributes:
        created: seconds until the last one was created.
        ready: seconds from the first create until all are Ready and recorded.
        maps: writes of ConfigMaps meanwhile.
        requests: all requests of the operator meanwhile, by what they were.
        latencies: seconds from a change to its ConfigMap, of single changes, sorted.
        idle: writes of the operator in `IDLE` seconds without a change.
        rss: resident memory of the operator at the end, in MiB.
    """

    resources: int
    added: int
    created: float
    ready: float
    maps: int
    requests: Counter[str]
    latencies: list[float]
    idle: int
    rss: float

    def percentile(self, share: float) -> float:
        """Of the latencies."""
        return self.latencies[min(int(len(self.latencies) * share), len(self.latencies) - 1)]


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"[scale] {text}\n")
    sys.stderr.flush()


@contextmanager
def started(folder: Path) -> Iterator[Operator]:
    """A control plane, a Postgres with the schema and an operator with the shipped rights."""
    programs = build.located("control-plane")
    if programs is None:
        raise SystemExit("the Kubernetes control plane is not there: run `make control-plane`")
    for name in ("control-plane", "operator"):
        (folder / name).mkdir()
    plane = ControlPlane(folder=folder / "control-plane", programs=programs)
    database = servers.create(folder)
    operator = None
    try:
        plane.start()
        database.start()
        plane.kubectl("apply", "--server-side", "-f", CRD_FILE)
        eventually(lambda: plane.kubectl("get", "-A", "llmbackends"), within=30)
        uri = database.uri_of(database.create_database("scale"))
        asyncio.run(migrate.migrate(uri, say=lambda _: None))
        operator = Operator(plane, folder=folder / "operator", database=uri)
        operator.start()
        yield operator
    finally:
        if operator is not None:
            operator.kill()
        database.stop(crash=True)
        plane.close()


def fill(backends: Backends, count: int) -> float:
    """Create so many resources at once. Returns the seconds it took."""
    begun = time.monotonic()

    def create(numbers: range) -> None:
        with backends.control_plane.client() as client:
            for number in numbers:
                manifest = backends.manifest(f"m{number:05}")
                expect(client.post(backends.path, json=manifest))

    with ThreadPoolExecutor(CREATING) as pool:
        list(pool.map(create, (range(first, count, CREATING) for first in range(CREATING))))
    return time.monotonic() - begun


def changes(backends: Backends, count: int, names: Sequence[str]) -> list[float]:
    """Change single resources one after another. Returns the seconds until each was published."""
    plane, found = backends.control_plane, list[float]()
    path = f"/api/v1/namespaces/{backends.namespace}/configmaps"
    query = {"fieldSelector": f"metadata.name={CONFIG_MAP}", "watch": "true"}
    with (
        plane.client() as client,
        client.stream(
            "GET", path, params=query, headers={"Accept": METADATA}, timeout=PUBLISHED
        ) as watch,
    ):
        lines = watch.iter_lines()
        checksum = _checksum(next(lines))
        for number in range(count):
            begun = time.monotonic()
            name = names[number * 7919 % len(names)]
            backends.patch(name, {"spec": {"endpointURL": f"http://changed-{number}:11434"}})
            while (seen := _checksum(next(lines))) == checksum:
                pass
            found.append(time.monotonic() - begun)
            checksum = seen
    return sorted(found)


def _checksum(line: str) -> Any:
    annotations = json.loads(line)["object"]["metadata"].get("annotations", {})
    return annotations.get("llm.athena.dev/checksum")


def idle(operator: Operator) -> int:
    """The operator's writes in a time without changes, once it has nothing more to write."""
    seen = [-1, -2, -3, -4]

    def settled() -> bool:
        seen.append(len(written(operator)))
        return len(set(seen[-4:])) == 1

    eventually(settled, within=READY, every=1)
    before, until = len(written(operator)), time.monotonic() + IDLE
    eventually(lambda: time.monotonic() > until, within=IDLE + 5, every=1)
    return len(written(operator)) - before


def asked(operator: Operator, *, verbs: tuple[str, ...] = ()) -> list[Any]:
    """The operator's requests so far, but for those that nothing causes."""
    assert operator.user is not None
    found = operator.control_plane.audit(user=operator.user.name, verbs=verbs)
    # NB: a watch is two lines in the log.
    return [e for e in found if e.resource not in APART and e.stage != "ResponseStarted"]


def written(operator: Operator) -> list[Any]:
    """The operator's writes so far."""
    return asked(operator, verbs=WRITES)


def measure(operator: Operator, total: int, before: int) -> Step:
    """Add a namespace of resources until there are so many, and look at everything."""
    plane, added = operator.control_plane, total - before
    name = f"scale-{uuid.uuid4().hex[:6]}"
    with plane.client() as client:
        expect(client.post("/api/v1/namespaces", json={"metadata": {"name": name}}))
    backends, already = Backends(plane, name), len(asked(operator))
    say(f"{added} resources more in a namespace of their own")
    begun = time.monotonic()
    created = fill(backends, added)
    eventually(
        lambda: backends.all_ready(added), within=READY, every=0.5, retry=(httpx.TransportError,)
    )
    ready = time.monotonic() - begun
    requests = Counter(
        "/".join(filter(None, (f"{e.verb} {e.resource}", e.subresource)))
        for e in asked(operator)[already:]
    )
    say(f"all ready after {ready:.1f} s; {CHANGES} single changes")
    latencies = changes(backends, CHANGES, [f"m{number:05}" for number in range(added)])
    say(f"published within {latencies[-1]:.2f} s; {IDLE:.0f} s of silence")
    return Step(
        resources=total,
        added=added,
        created=created,
        ready=ready,
        maps=requests["patch configmaps"],
        requests=requests,
        latencies=latencies,
        idle=idle(operator),
        rss=psutil.Process(operator.process.pid).memory_info().rss / 2**20,
    )


def report(steps: Sequence[Step], *, load: float) -> str:
    """The figures as Markdown, and whether the goals are met."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        f"{when}, {os.cpu_count()} cores that API server, etcd, Postgres, operator and load share; "
        f"load average before the run {load:.1f}. Goals hold for 1,000 resources.",
        "",
        "| Resources | All Ready | ConfigMap writes | Published p50 / p99 | Writes in 60 s idle "
        "| Operator's memory | API requests a resource |",
        "|---|---|---|---|---|---|---|",
    ]
    for step in steps:
        each = sum(step.requests.values()) / step.added
        lines.append(
            f"| {step.resources:,} ({step.added:,} new, created in {step.created:.1f} s) "
            f"| {step.ready:.1f} s | {step.maps} "
            f"| {statistics.median(step.latencies):.2f} s / {step.percentile(0.99):.2f} s "
            f"| {step.idle} | {step.rss:.0f} MiB | {each:.1f} |"
        )
    lines += ["", "| Goal | Measured | Met |", "|---|---|---|", *_goals(steps[0]), ""]
    lines += ["| Requests of the operator until all were Ready | Number |", "|---|---|"]
    lines += [f"| {what} | {number:,} |" for what, number in steps[0].requests.most_common()]
    return "\n".join(lines) + "\n"


def _goals(step: Step) -> list[str]:
    rows = [
        (f"{step.added:,} applied to all Ready <= 30 s", f"{step.ready:.1f} s", step.ready <= 30),
        ("at most 20 ConfigMap writes for them", str(step.maps), step.maps <= 20),
        (
            f"one change among {step.added:,} published: p99 <= 1 s",
            f"{step.percentile(0.99):.2f} s",
            step.percentile(0.99) <= 1,
        ),
        ("idle: no writes", str(step.idle), step.idle == 0),
    ]
    return [f"| {goal} | {value} | {'met' if met else 'not met'} |" for goal, value, met in rows]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--resources", default="1000,2000", metavar="N,N", help="ascending")
    counts = [int(each) for each in parser.parse_args().resources.split(",")]
    if counts != sorted(set(counts)) or counts[0] < 1:
        parser.error("--resources: give ascending numbers, as 1000,2000")
    # NB: so that what was started is ended, however this process is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    load, before, steps = os.getloadavg()[0], 0, list[Step]()
    folder = Path(tempfile.mkdtemp(prefix="llmb-scale-"))
    # NB: Postgres runs as another user when this runs as root.
    folder.chmod(0o755)
    try:
        with started(folder) as operator:
            for count in counts:
                steps.append(measure(operator, count, before))
                before = count
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(report(steps, load=load))


if __name__ == "__main__":
    main()
