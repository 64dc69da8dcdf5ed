"""`llmb admin` as a process: it starts whatever is away, says what is wrong, and ends in order."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import yaml

from parts import process
from parts.admin import BASE
from parts.eventually import eventually
from parts.process import Process, free_port

COMMAND = [sys.executable, "-m", "llm_operator.cli", "admin"]
PASSWORD = "hunter2-hunter2"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings of which no server answers."""
    nowhere = free_port()
    cluster = {"server": f"https://127.0.0.1:{nowhere}", "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": PASSWORD}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    return {
        "KUBECONFIG": str(kubeconfig),
        "HOME": str(tmp_path),
        "LLMB_DATABASE_URL": f"postgresql://llmb:{PASSWORD}@127.0.0.1:{nowhere}/llmb",
        "LLMB_ADMIN_HOST": "127.0.0.1",
        "LLMB_ADMIN_PORT": str(free_port()),
    }


@pytest.fixture
def started(environment: Mapping[str, str], tmp_path: Path) -> Iterator[Process]:
    """It runs, with nothing behind it."""
    running = process.start(COMMAND, log=tmp_path / "admin.log", env=environment)
    running.ready(lambda: ask(environment, "/healthz").is_success, within=60, retry=AWAY)
    yield running
    running.kill()


AWAY = (httpx.TransportError,)


def ask(environment: Mapping[str, str], path: str, *, token: str = "") -> httpx.Response:
    """One request."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{environment['LLMB_ADMIN_PORT']}{path}"
    return httpx.get(url, headers=headers, trust_env=False, timeout=30)


def test_it_starts_without_any_server_and_says_what_is_away(
    started: Process, environment: Mapping[str, str]
) -> None:
    for path in ("/readyz", f"{BASE}/public", f"{BASE}/model/phi3:mini"):
        answer = ask(environment, path)
        assert answer.status_code == 503, path
        assert "never listed" in answer.text
    unknown = ask(environment, BASE, token="a-token-that-nobody-can-be-asked-about")
    assert unknown.status_code == 503, "not 401: a router would drop what it has"
    assert int(unknown.headers["retry-after"]) >= 1
    assert ask(environment, BASE).status_code == 401


@pytest.mark.check(36)
def test_a_signal_ends_it_in_order(started: Process, environment: Mapping[str, str]) -> None:
    assert started.end(within=25) == 0
    assert '"event": "admin_ended"' in started.tail()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(environment["LLMB_ADMIN_PORT"]))) != 0


def test_no_secret_is_logged(started: Process, environment: Mapping[str, str]) -> None:
    ask(environment, f"{BASE}?search={PASSWORD}", token=PASSWORD)
    eventually(lambda: '"event": "mirror_behind"' in started.log.read_text(), within=30)
    assert started.end(within=25) == 0
    assert PASSWORD not in started.log.read_text()


def refused(environment: Mapping[str, str], **changes: str) -> str:
    """What it says as it ends at once, being set up wrongly."""
    ran = subprocess.run(
        COMMAND,
        env={"PATH": os.environ["PATH"], **environment, **changes},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 2, ran.stderr
    said = ran.stderr.splitlines()[-1]
    assert said.startswith("llmb admin: ")
    assert "Traceback" not in ran.stderr
    return said


def test_a_taken_port_is_a_sentence(environment: Mapping[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused(environment, LLMB_ADMIN_PORT=port)
    assert f"can't listen on 127.0.0.1:{port} (Address already in use)" in said
    assert "set LLMB_ADMIN_HOST and LLMB_ADMIN_PORT" in said


def test_no_cluster_is_a_sentence(environment: Mapping[str, str]) -> None:
    assert "set KUBECONFIG" in refused(environment, KUBECONFIG="/nowhere/kubeconfig")


def test_a_database_url_that_is_none_is_a_sentence(environment: Mapping[str, str]) -> None:
    said = refused(environment, LLMB_DATABASE_URL=f"mysql://llmb:{PASSWORD}@db/llmb")
    assert "LLMB_DATABASE_URL" in said
    assert PASSWORD not in said


def test_a_certificate_that_is_none_is_a_sentence(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    file = str(tmp_path / "none.pem")
    said = refused(environment, LLMB_ADMIN_TLS_CERTIFICATE=file, LLMB_ADMIN_TLS_KEY=file)
    assert f"LLMB_ADMIN_TLS_CERTIFICATE {file}" in said
