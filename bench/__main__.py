"""The command: start everything on the loopback, measure, report, end everything.

    python -m bench [--quick] [--python PATH] [--only NAME ...] [--write docs/performance.md]

The report goes to standard output, progress to standard error. Nothing is asserted: a figure that
misses its goal is a row that says so, never an exit status.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench import peers, report, subjects
from bench.figures import Figures
from bench.goals import Run
from bench.measure import Bench, Plan
from bench.process import LOAD, Process, free_port
from bench.subjects import Absent, Subject

#: A run ends by then; peers that would begin later are left out.
LIMIT = {False: 480.0, True: 90.0}
NAMES = ("nginx", subjects.ROUTER, subjects.BARE, "vllm-router", "Portkey", "LiteLLM")


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"[bench] {text}\n")
    sys.stderr.flush()


def measure(arguments: argparse.Namespace, work: Path, *, python: str) -> Run:
    """Run everything once."""
    begun, stolen, machine = time.monotonic(), subjects.stolen(), subjects.machine()
    plan = Plan.of(quick=arguments.quick)
    upstream = free_port()
    command = [python, "-m", "bench.stub", str(upstream), *plan.models]
    stub = Process(command, core=LOAD, log=work / "stub.log")
    figures: list[Figures] = []
    absent: list[Absent] = []
    try:
        stub.first_200(upstream, "/", limit=20)
        bench = Bench(plan, python=python, upstream=upstream, say=say)
        for name, made in _makers(work, upstream, plan=plan, python=python).items():
            if arguments.only and name not in arguments.only:
                continue
            late = time.monotonic() - begun > LIMIT[arguments.quick]
            subject = Absent(name, f"the time was over: `--only {name}`") if late else made()
            if isinstance(subject, Absent):
                say(f"{name}: left out, {subject.why}")
                absent.append(subject)
            else:
                figures += bench.measure(subject, work=work)
    finally:
        stub.stop()
    return Run(
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine,
        load="wrk" if bench.wrk else "our own closed loop, since wrk is not on PATH",
        quick=arguments.quick,
        seconds=time.monotonic() - begun,
        stolen=subjects.stolen() - stolen,
        figures=figures,
        absent=absent,
    )


def _makers(
    work: Path, upstream: int, *, plan: Plan, python: str
) -> dict[str, Callable[[], Subject | Absent]]:
    """In the order in which they are measured."""
    models = plan.models
    made: list[Callable[[], Subject | Absent]] = [
        lambda: subjects.nginx(work, upstream),
        lambda: subjects.router(work, upstream, python=python, models=models),
        lambda: subjects.bare(upstream, python=python),
        lambda: subjects.vllm_router(upstream),
        lambda: subjects.portkey(upstream),
        lambda: subjects.litellm(work, upstream, models=models),
    ]
    return dict(zip(NAMES, made, strict=True))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under two minutes, for a look")
    parser.add_argument("--python", metavar="PATH", help="interpreter of router, stub and load")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the report between its marks"
    )
    arguments = parser.parse_args()
    # NB: so that what was started is ended, however this process is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    python = str(peers.environment(arguments.python)) if arguments.python else sys.executable
    with tempfile.TemporaryDirectory(prefix="llm-bench-") as work:
        text = report.render(measure(arguments, Path(work), python=python))
    sys.stdout.write(text)
    if arguments.write:
        report.write(text, arguments.write)


if __name__ == "__main__":
    main()
