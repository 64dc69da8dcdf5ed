"""`llmb up` as a person meets it: one command, a card, a curl, an edit, Ctrl-C, a second start."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from parts.eventually import eventually
from parts.up import COMMAND, Up, folder

ROUTED = "x-llm-backend-type"
AWAY = (httpx.TransportError,)


@pytest.fixture(scope="module")
def running(part_folder: Path) -> Iterator[tuple[Up, str]]:
    """One data folder for this file; starting Postgres anew for each test would take a minute. And
    its example.
    """
    with folder(part_folder) as one:
        one.start()
        yield one, one.example.read_text()


@pytest.fixture
def up(running: tuple[Up, str]) -> Up:
    """It runs, with its example as it was first written, whatever the test before did."""
    one, example = running
    if one.process is None or not one.process.running:
        one.start()
    one.example.write_text(example)
    eventually(lambda: one.ask().headers.get(ROUTED) == "mlx", within=10, retry=AWAY)
    return one


def edit(up: Up, old: str, new: str) -> None:
    text = up.example.read_text()
    assert old in text
    up.example.write_text(text.replace(old, new))


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
    edit(up, "backendType: auto", "backendType: ollama")
    eventually(lambda: up.ask().headers[ROUTED] == "ollama", within=2)
    edit(up, "backendType: ollama", "backendType: mlx")
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
    with psycopg.connect(up.told("Database")) as connection:
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
    command = [*COMMAND, "--data", str(up.data), *Up(up.folder).ports]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 2
    assert f"another llmb up runs on {up.data}" in ran.stderr


@pytest.mark.parametrize("flag", ["port", "management-port", "admin-port"])
def test_a_taken_port_is_a_sentence_that_names_the_flag(up: Up, tmp_path: Path, flag: str) -> None:
    port = getattr(up, flag.replace("-", "_"))
    command = [*COMMAND, "--data", str(tmp_path / "other"), *Up(tmp_path).ports]
    ran = subprocess.run(
        [*command, f"--{flag}", str(port)], capture_output=True, text=True, timeout=30
    )
    assert ran.returncode == 2
    assert f"port {port} can't be used" in ran.stderr
    assert f"by --{flag}\n" in ran.stderr
