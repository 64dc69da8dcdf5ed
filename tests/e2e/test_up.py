"""`llmb up` as a person meets it: one command, a card, a curl, an edit, Ctrl-C, a second start."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from parts import process
from parts.eventually import eventually
from parts.process import Process, free_port

ROUTED = "x-llm-backend-type"
AWAY = (httpx.TransportError,)


class Up:
    """One data folder and the runs of `llmb up` on it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.log = folder / "up.log"
        self.port, self.management_port = free_port(), free_port()
        self.process: Process | None = None
        self.first = ""

    @property
    def router(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def example(self) -> Path:
        return self.data / "resources" / "example.yaml"

    @property
    def card(self) -> str:
        return self.log.read_text()

    def start(self) -> None:
        """Start it and wait for the card."""
        self.log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "llm_operator.cli", "up", "--simulate"]
        ports = ["--port", str(self.port), "--management-port", str(self.management_port)]
        self.process = process.start(
            [*command, "--data", str(self.data), *ports],
            log=self.log,
            env={"HOME": str(self.log.parent)},
        )
        self.process.ready(lambda: "Ctrl-C ends everything" in self.card, within=60)

    def ask(self) -> httpx.Response:
        return httpx.post(
            f"{self.router}/v1/chat/completions",
            json={"model": "phi3:mini", "messages": [{"role": "user", "content": "Hello"}]},
            timeout=10,
        )

    def edit(self, old: str, new: str) -> None:
        text = self.example.read_text()
        assert old in text
        self.example.write_text(text.replace(old, new))

    def end(self) -> None:
        if self.process is not None:
            self.process.end(by=signal.SIGINT)


@pytest.fixture(scope="module")
def running(part_folder: Path) -> Iterator[Up]:
    """One data folder for this file; starting Postgres anew for each test would take a minute."""
    folder = part_folder / f"up-{free_port()}"
    folder.mkdir()
    one = Up(folder)
    one.start()
    one.first = one.example.read_text()
    yield one
    one.end()


@pytest.fixture
def up(running: Up) -> Up:
    """It runs, with its example as it was first written, whatever the test before did."""
    if running.process is None or not running.process.running:
        running.start()
    running.example.write_text(running.first)
    eventually(lambda: running.ask().headers.get(ROUTED) == "mlx", within=10, retry=AWAY)
    return running


def closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_printed_curl_answers(up: Up) -> None:
    command = re.search(r"^  (curl .*?\\\n.*?)$", up.card, re.MULTILINE)
    assert command is not None, up.card
    ran = subprocess.run(
        shlex.split(command[1].replace("\\\n", " ")), capture_output=True, text=True, timeout=20
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("HTTP/1.1 200")
    assert f"{ROUTED}: mlx" in ran.stdout
    assert "Hello" in ran.stdout


def test_simulated_hosts_are_called_so(up: Up) -> None:
    assert up.card.count("simulated: no real model") == 2


def test_an_edit_moves_the_model_to_the_other_host_within_two_seconds(up: Up) -> None:
    assert up.ask().headers[ROUTED] == "mlx"
    up.edit("backendType: auto", "backendType: ollama")
    eventually(lambda: up.ask().headers[ROUTED] == "ollama", within=2)
    up.edit("backendType: ollama", "backendType: mlx")
    eventually(lambda: up.ask().headers[ROUTED] == "mlx", within=2)


def test_a_broken_file_keeps_the_last_good_route_and_says_so(up: Up) -> None:
    good = up.example.read_text()
    up.example.write_text(good + "spec: [\n")
    eventually(lambda: "is not ready: example.yaml" in up.card, within=5)
    assert up.ask().status_code == 200
    status = json.loads((up.data / "status" / "example.json").read_text())["status"]
    accepted = next(c for c in status["conditions"] if c["type"] == "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "Invalid")
    up.example.write_text(good)
    eventually(lambda: up.card.rstrip().endswith("is ready: phi3:mini by auto"), within=5)


def test_the_status_tells_what_the_router_runs(up: Up) -> None:
    def told() -> bool:
        status = json.loads((up.data / "status" / "example.json").read_text())["status"]
        found = {one["type"]: one["status"] for one in status["conditions"]}
        assert (found["Programmed"], found["Available"], found["Degraded"]) == (
            "True",
            "True",
            "False",
        ), status
        assert status["summary"]["routers"] == "1/1"
        assert {target["state"] for target in status["targets"]} == {"Healthy"}
        return True

    eventually(told, within=30, retry=(KeyError, FileNotFoundError))


def test_a_deleted_file_ends_its_route(up: Up) -> None:
    up.example.unlink()
    eventually(lambda: up.ask().status_code == 404, within=3)


def test_a_dead_router_is_started_again(up: Up) -> None:
    [pid] = children(up)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: up.ask().status_code == 200, within=10, retry=AWAY)
    assert children(up) != [pid]


def children(up: Up) -> list[int]:
    """The process ids of the routers that this run has started."""
    assert up.process is not None
    listed = Path(f"/proc/{up.process.pid}/task/{up.process.pid}/children").read_text().split()
    return [
        int(pid) for pid in listed if b"llm_router" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_ctrl_c_ends_every_process_and_a_second_start_finds_its_data(up: Up) -> None:
    recorded = rows(up)
    assert [model for model, _ in recorded] == ["phi3:mini"]
    assert up.process is not None
    assert up.process.end(by=signal.SIGINT) == 0, up.card
    assert closed(up.port)
    assert closed(up.management_port)
    assert not (up.data / "postgres" / "postmaster.pid").exists()
    up.start()
    assert up.ask().status_code == 200
    assert rows(up) == recorded, "the same object, by its uid"


def rows(up: Up) -> list[tuple[object, ...]]:
    uri = re.search(r"Database\s+(\S+)", up.card)
    assert uri is not None
    with psycopg.connect(uri[1]) as connection:
        return connection.execute(
            "SELECT model_name, uid FROM llmb.llm_backends WHERE deleted_at IS NULL"
        ).fetchall()


def test_kill_9_leaves_nothing_that_blocks_the_next_start(up: Up) -> None:
    assert up.process is not None
    # NB: the process alone, not its group: what a killed terminal or the OOM killer does.
    os.kill(up.process.pid, signal.SIGKILL)
    up.process.popen.wait(10)
    eventually(lambda: closed(up.port) and closed(up.management_port), within=5)
    up.start()
    assert up.ask().headers[ROUTED] == "mlx"


def test_a_second_run_on_the_same_folder_is_refused_with_a_sentence(up: Up) -> None:
    command = [sys.executable, "-m", "llm_operator.cli", "up", "--data", str(up.data)]
    ports = ["--port", str(free_port()), "--management-port", str(free_port())]
    ran = subprocess.run([*command, *ports], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 2
    assert f"another llmb up runs on {up.data}" in ran.stderr


def test_a_taken_port_is_a_sentence_that_names_the_flag(up: Up, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm_operator.cli", "up", "--data", str(tmp_path / "other")]
    ran = subprocess.run(
        [*command, "--port", str(up.port)], capture_output=True, text=True, timeout=30
    )
    assert ran.returncode == 2
    assert str(up.port) in ran.stderr
    assert "--port" in ran.stderr
