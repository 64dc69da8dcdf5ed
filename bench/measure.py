"""One subject's figures: each against a direct call of the same moment.

The subject runs alone on its core; the stub and the load share the other. Requests are measured in
rounds that alternate direct and through, and the median round counts.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import closed
from bench.figures import Figures, Requests, Streams
from bench.process import LOAD, ROOT, Process, pinned
from bench.shapes import OPENAI_CHAT, STATIC, Paced, body, fast, spoken, steady
from bench.streams import Spec
from bench.subjects import ROUTER, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how often everything is measured.

    Attributes:
        spoken: patterns of streams the router is measured with; its peers with `peers_spoken`.
        direct_once: the direct call's streams are measured once a run, not once a subject.
    """

    rounds: int
    seconds: float
    spoken: tuple[Paced, ...]
    peers_spoken: tuple[Paced, ...]
    steady: Paced
    fast: Paced
    direct_once: bool

    @classmethod
    def of(cls, *, quick: bool) -> "Plan":
        """The whole plan, or one that is over in two minutes and says less."""
        seconds, counts = (1.0, (16, 256)) if quick else (4.0, (1, 16, 64, 256))
        every = tuple(spoken(streams, seconds=seconds) for streams in counts)
        return cls(
            rounds=1 if quick else 3,
            seconds=1.0 if quick else 2.0,
            spoken=every,
            peers_spoken=every[:1] if quick else every,
            steady=steady(seconds=1.5 if quick else 4.0),
            fast=fast(events=4_000 if quick else 12_000),
            direct_once=quick,
        )

    @property
    def models(self) -> list[str]:
        """Every model name that is asked for."""
        paced = (*self.spoken, self.steady, self.fast)
        return [STATIC, *dict.fromkeys(one.model for one in paced)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where requests go, and how they are named there; without a process it is the direct call."""

    port: int
    prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    process: Process | None = None

    def spec(self, model: str, *, stream: bool, **settings: Any) -> Spec:
        """A load's order for this way."""
        return Spec(
            port=self.port,
            path=OPENAI_CHAT,
            body=body(self.prefix + model, stream=stream).decode(),
            headers=dict(self.headers),
            **settings,
        )


class Bench:
    """Measures ways, with one stub and one interpreter for the load."""

    def __init__(self, plan: Plan, *, python: str, upstream: int, say: Callable[[str], None]):
        self._plan, self._python, self._say = plan, python, say
        self._direct = Way(port=upstream)
        self._known: dict[str, Streams] = {}
        self.wrk = shutil.which("wrk")

    def measure(self, subject: Subject, *, work: Path) -> list[Figures]:
        """Start it, measure each of its ways, end it. A failure ends up in the figures."""
        measured = []
        process = Process(
            subject.command, core=0, log=work / f"{subject.name}.log", env=subject.env
        )
        try:
            start, rss = 0.0, 0
            for label, prefix in subject.ways.items():
                figures = Figures(name=subject.name, way=label, version=subject.version)
                measured.append(figures)
                self._say(f"{subject.name} {subject.version}, {label}")
                way = Way(
                    port=subject.port, prefix=prefix, headers=subject.headers, process=process
                )
                asked = body(prefix + STATIC, stream=False)
                taken = process.first_200(
                    subject.port, OPENAI_CHAT, body=asked, headers=subject.headers
                )
                start, rss = start or taken, rss or process.rss_kib()
                figures.start, figures.rss_start = start, rss
                self._figures(figures, way, whole=subject.name == ROUTER)
        except Exception as error:
            measured[-1].failure = " ".join(str(error).split())[:300]
            self._say(f"{subject.name} failed: {error}")
        finally:
            process.stop()
        return measured

    def _figures(self, figures: Figures, way: Way, *, whole: bool) -> None:
        self.requests(way, 1, seconds=0.5)
        figures.one_direct, figures.one = self._rounds(way, 1)
        figures.many_direct, figures.many = self._rounds(way, 32)
        figures.served = figures.one.count + figures.many.count
        assert way.process is not None
        figures.rss_after = way.process.rss_kib()
        for pattern in self._plan.spoken if whole else self._plan.peers_spoken:
            direct = self._known.get(pattern.label) if self._plan.direct_once else None
            direct = direct or self.streams(self._direct, pattern)
            self._known[pattern.label] = direct
            figures.spoken[pattern.open] = (direct, self.streams(way, pattern))
        figures.steady = self.streams(way, self._plan.steady)
        figures.fast = self.streams(way, self._plan.fast)

    def _rounds(self, way: Way, connections: int) -> tuple[Requests, Requests]:
        direct, through = [], []
        for _ in range(self._plan.rounds):
            direct.append(self.requests(self._direct, connections, seconds=self._plan.seconds / 2))
            through.append(self.requests(way, connections, seconds=self._plan.seconds))
        return _median(direct), _median(through)

    def requests(self, way: Way, connections: int, *, seconds: float) -> Requests:
        """Short requests for so long, over so many connections."""
        spec = way.spec(
            STATIC, stream=False, starts=connections, every=0, paced=False, limit=seconds
        )
        before = way.process.cpu_us() if way.process else 0.0
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            command = [self._python, "-m", "bench.closed", json.dumps(asdict(spec))]
            if self.wrk:
                script.write(closed.script(spec.body.encode(), spec.headers))
                script.flush()
                # NB: wrk counts in whole seconds.
                length = ["-d", f"{max(1, round(seconds))}s", "--timeout", "10s"]
                url = f"http://127.0.0.1:{spec.port}{spec.path}"
                command = [self.wrk, "-t", "1", "-c", str(connections), *length]
                command += ["-s", script.name, url]
            told = _load(command, limit=seconds + 30)
        spent = (way.process.cpu_us() if way.process else 0.0) - before
        count = told["requests"]
        return Requests(
            p50=told["p50"],
            p99=told["p99"],
            rate=count / told["seconds"],
            count=count,
            errors=told["errors"],
            cpu_us=spent / count if count else float("nan"),
        )

    def streams(self, way: Way, pattern: Paced) -> Streams:
        """One pattern of streams; the subject's memory is watched meanwhile."""
        spec = way.spec(
            pattern.model,
            stream=True,
            starts=pattern.starts,
            every=pattern.every,
            paced=pattern.rate > 0,
            limit=pattern.seconds + 5,
        )
        process = way.process
        before, rss = (process.cpu_us(), process.rss_kib()) if process else (0.0, 0)
        peak = [rss]
        command = [self._python, "-m", "bench.streams", json.dumps(asdict(spec))]

        def watch() -> None:
            peak.append(process.rss_kib() if process else 0)

        told = _load(command, limit=pattern.seconds + 30, meanwhile=watch)
        return Streams(
            **told,
            asked=pattern.starts,
            cpu_us=(process.cpu_us() if process else 0.0) - before,
            grown_kib=(max(peak) - rss) / pattern.open,
        )


def _median(runs: list[Requests]) -> Requests:
    return Requests(
        p50=statistics.median(run.p50 for run in runs),
        p99=statistics.median(run.p99 for run in runs),
        rate=statistics.median(run.rate for run in runs),
        count=sum(run.count for run in runs),
        errors=sum(run.errors for run in runs),
        cpu_us=statistics.median(run.cpu_us for run in runs),
    )


def _load(
    command: list[str], *, limit: float, meanwhile: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Run a load on its core; the JSON document it ends with."""
    with tempfile.TemporaryFile("w+") as output:
        load = subprocess.Popen(
            pinned(command, core=LOAD),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=sys.stderr,
            cwd=ROOT,
        )
        try:
            until = time.monotonic() + limit
            while load.poll() is None:
                if time.monotonic() > until:
                    raise TimeoutError(f"the load did not end in {limit:g} s: {command[:3]}")
                if meanwhile is not None:
                    meanwhile()
                time.sleep(0.1)
        finally:
            if load.poll() is None:
                load.kill()
                load.wait(5)
        output.seek(0)
        lines = output.read().strip().splitlines()
    if load.returncode != 0 or not lines:
        raise RuntimeError(f"the load ended with {load.returncode}: {command[:3]}")
    told: dict[str, Any] = json.loads(lines[-1])
    return told
