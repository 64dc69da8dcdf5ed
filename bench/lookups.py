"""What a lookup of the admin API costs: GET /model/NAME beside a bare FastAPI route.

    python -m bench.lookups [--backends 1000] [--rate 200] [--seconds 20]

Both are served by the admin's own server, each in a process of its own on one core, the load on
another. The load is an open loop: requests begin at fixed times whatever became of those before,
and a time is counted from the planned beginning. Rounds of both alternate; a round's percentiles
are of it alone, and the medians of the rounds are told. Nothing is asserted.
"""

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from bench.process import LOAD, UNDER_TEST, Process, free_port
from llm_operator import logs
from llm_operator.admin import server, site
from llm_operator.admin.access import FileGate, make_token_file
from llm_operator.admin.archive import Archive
from llm_operator.admin.backends import Backends
from llm_operator.admin.errors import Away
from llm_operator.admin.fleet import Fleet
from llm_operator.admin.model import Backend
from llm_operator.admin.store.objects import backend
from llm_operator.admin.store.shelf import Shelf
from llm_operator.admin.traffic import Traffic
from llm_operator.admin.wiring import Admin
from llm_operator.standalone.routers import Known

ROUNDS, WARM = 3, 2.0
CONNECTIONS = 16
SUBJECTS = ("bare", "admin")
PATH = "/api/llm-backends/model/"
#: Nothing listens there; nothing here asks it.
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
READ_ONLY = "nothing is written here"


@dataclass(frozen=True, slots=True)
class Round:
    """Milliseconds of one round, CPU of the subject for each request, and answers that were none
    of 200.
    """

    p50: float
    p99: float
    longest: float
    cpu: float
    wrong: int


class Numbered(Archive):
    """Rows that are all there, and no database."""

    def __init__(self, uids: Mapping[str, int]) -> None:
        super().__init__(NOWHERE)
        self._uids = uids

    async def ids(self) -> Mapping[str, int]:
        """The number of each."""
        return self._uids


class Full(Shelf):
    """A store that was listed once."""

    namespace = "models"

    def __init__(self, count: int) -> None:
        super().__init__()
        self.put([backend(item(number)) for number in range(count)])
        self.tell(fresh=True)

    async def create(
        self, *, namespace: str, name: str, spec: Mapping[str, Any], by: str
    ) -> Backend:
        """Nothing is written here."""
        raise Away(READ_ONLY)

    async def replace(self, backend: Backend, spec: Mapping[str, Any], *, by: str) -> Backend:
        """Nothing is written here."""
        raise Away(READ_ONLY)

    async def delete(self, backend: Backend) -> None:
        """Nothing is written here."""
        raise Away(READ_ONLY)


def model(number: int) -> str:
    """A name as they are."""
    return f"org/model-{number}:7b"


def item(number: int) -> dict[str, Any]:
    """An LLMBackend as the API server has it."""
    return {
        "metadata": {
            "name": f"model-{number}",
            "namespace": Full.namespace,
            "uid": f"00000000-0000-4000-8000-{number:012}",
            "generation": 1,
            "resourceVersion": str(number + 1),
            "creationTimestamp": "2026-11-01T00:00:00Z",
        },
        "spec": {
            "modelName": model(number),
            "backendType": "ollama",
            "endpointURL": f"http://ollama-{number % 7}.models:11434",
            "maxTokens": 2048,
            "temperature": 0.7,
            "timeoutSeconds": 60,
            "description": "One of many.",
        },
    }


def bare() -> FastAPI:
    """One route, an answer of the same size."""
    app = FastAPI()
    told = {
        **dict.fromkeys(("id", "enabled", "priority", "max_tokens", "timeout_seconds"), 100),
        "model_name": model(0),
        "endpoint_url": "http://ollama-0.models:11434",
        "description": "One of many. " * 12,
    }

    @app.get(PATH + "{name:path}")
    async def lookup(name: str) -> dict[str, object]:
        return told | {"model_name": name}

    return app


def full(count: int, folder: Path) -> FastAPI:
    """The admin's app, page and all, over so many backends."""
    make_token_file(folder / "token")
    store = Full(count)
    archive = Numbered({one.uid: number + 1 for number, one in enumerate(store.list())})
    gate = FileGate(folder / "token")
    admin = Admin(
        gate=gate,
        store=store,
        archive=archive,
        backends=Backends(gate=gate, store=store, archive=archive),
        traffic=Traffic(gate=gate, store=store, archive=archive),
        fleet=Fleet(Known()),
        trial=None,
        namespace=store.namespace,
        standalone=False,
    )
    return site.build(admin, public=True)


async def serve(subject: str, port: int, count: int) -> None:
    """Serve until the process is ended."""
    # NB: both as `llmb admin` is run; there a log line for each request is part of the cost.
    logs.configure("INFO")
    with tempfile.TemporaryDirectory() as folder:
        app = full(count, Path(folder)) if subject == "admin" else bare()
        gc.collect()
        gc.freeze()
        async with server.serving(app, server.listen("127.0.0.1", port, change="")) as running:
            await running


async def load(port: int, *, count: int, rate: float, seconds: float) -> Round:
    """Ask so many times a second, each time for another model."""
    streams: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        streams.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    took: list[float] = []
    wrong = 0

    async def ask(number: int, planned: float) -> None:
        nonlocal wrong
        reader, writer = await streams.get()
        name = model(number * 7919 % count)
        writer.write(f"GET {PATH}{name} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        took.append((time.perf_counter() - planned) * 1000)
        wrong += b" 200 " not in head
        streams.put_nowait((reader, writer))

    asking = []
    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        planned = begun + number / rate
        await asyncio.sleep(max(0.0, planned - time.perf_counter()))
        asking.append(asyncio.create_task(ask(number, planned)))
    await asyncio.gather(*asking)
    while not streams.empty():
        streams.get_nowait()[1].close()
    took.sort()
    return Round(took[len(took) // 2], took[int(len(took) * 0.99)], took[-1], 0.0, wrong)


def measure(count: int, rate: float, seconds: float) -> dict[str, list[Round]]:
    """All rounds of both."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {LOAD})
    found: dict[str, list[Round]] = {subject: [] for subject in SUBJECTS}
    with tempfile.TemporaryDirectory() as folder:
        ports = {subject: free_port() for subject in SUBJECTS}
        started: list[Process] = []
        try:
            for subject, port in ports.items():
                words = ["serve", subject, str(port), str(count)]
                command = [sys.executable, "-m", "bench.lookups", *words]
                log = Path(folder) / f"{subject}.log"
                started.append(Process(command, core=UNDER_TEST, log=log))
                started[-1].first_200(port, PATH + model(0))
            for number in range(-1, ROUNDS):
                for (subject, port), process in zip(ports.items(), started, strict=True):
                    during = seconds if number >= 0 else WARM
                    before = process.cpu_us()
                    one = asyncio.run(load(port, count=count, rate=rate, seconds=during))
                    spent = (process.cpu_us() - before) / int(rate * during) / 1000
                    if number >= 0:
                        found[subject].append(replace(one, cpu=spent))
        finally:
            for process in started:
                process.stop()
    return found


def report(found: Mapping[str, list[Round]], count: int, rate: float) -> str:
    """The rounds as a table of Markdown."""
    p50, p99, cpu = (
        {s: statistics.median(getattr(one, name) for one in found[s]) for s in SUBJECTS}
        for name in ("p50", "p99", "cpu")
    )
    rows = [
        f"GET /model/NAME, {count:,} backends, {rate:g} requests/s, {ROUNDS} rounds",
        "",
        "| | p50 | p99 | longest | CPU each | not 200 |",
        "|---|---|---|---|---|---|",
    ]
    for subject in SUBJECTS:
        longest = max(one.longest for one in found[subject])
        wrong = sum(one.wrong for one in found[subject])
        rows.append(
            f"| {subject} | {p50[subject]:.2f} ms | {p99[subject]:.2f} ms | {longest:.1f} ms"
            f" | {cpu[subject]:.2f} ms | {wrong} |"
        )
    ratios = (f"{each['admin'] / each['bare']:.2f}" for each in (p50, p99, cpu))
    rows.append("| ratio | {} | {} | | {} | |".format(*ratios))
    return "\n".join(rows)


def main() -> None:
    """Measure, or serve one subject."""
    if sys.argv[1:2] == ["serve"]:
        subject, port, count = sys.argv[2:]
        asyncio.run(serve(subject, int(port), int(count)))
        return
    parser = argparse.ArgumentParser(prog="bench.lookups")
    parser.add_argument("--backends", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    found = measure(given.backends, given.rate, given.seconds)
    sys.stdout.write(report(found, given.backends, given.rate) + "\n")


if __name__ == "__main__":
    main()
