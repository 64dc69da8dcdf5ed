"""`llmb explain`: what it asks, what it prints, and how it ends."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parts.answering import Answering, answering
from parts.process import free_port

TARGETS = [
    {"name": "box", "type": "ollama", "verdict": "Healthy", "place": 1, "why": "probed"},
    {"name": "mac-studio", "type": "mlx", "verdict": "Ejected", "place": 2, "why": "for 9 s more"},
    {"name": "old", "type": "openai", "verdict": "Drained", "place": 0, "why": "weight 0"},
]
TOLD: dict[str, Any] = {
    "model": "phi3:mini",
    "route": {"name": "phi", "uid": "u", "generation": 3},
    "config": "0123456789ab",
    "targets": TARGETS,
    "would": "box",
    "reason": "box would be asked first",
}


@pytest.fixture
def management() -> Iterator[Answering]:
    with answering("POST", "/explain", body=TOLD) as made:
        yield made


def explain(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llm_operator.cli", "explain", *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_prints_an_aligned_table_and_a_sentence(management: Answering) -> None:
    ran = explain("phi3:mini", "--router", management.url)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "PLACE  TARGET      TYPE    VERDICT  WHY",
        "1      box         ollama  Healthy  probed",
        "2      mac-studio  mlx     Ejected  for 9 s more",
        "-      old         openai  Drained  weight 0",
        "",
        "phi3:mini: box would be asked first (route phi, configuration 0123456789ab)",
    ]
    assert management.asked == [{"model": "phi3:mini"}]


def test_exits_1_when_the_request_would_not_be_served(management: Answering) -> None:
    said = TOLD | {"would": None, "targets": [], "route": None, "reason": "it would be 404"}
    management.body = json.dumps(said).encode()
    ran = explain("x", "--router", management.url)
    assert (ran.returncode, ran.stdout) == (1, "phi3:mini: it would be 404\n")


def test_what_a_host_said_can_not_drive_a_terminal(management: Answering) -> None:
    said = TARGETS[0] | {"why": "it said \x1b[2J\r\nboo"}
    management.body = json.dumps(TOLD | {"targets": [said], "reason": "\x1b]0;x\x07"}).encode()
    ran = explain("phi3:mini", "--router", management.url)
    assert ran.returncode == 0
    assert ran.stdout.replace("\n", "").isprintable()
    assert len(ran.stdout.splitlines()) == 4


def test_prints_what_it_was_told_as_json(management: Answering) -> None:
    ran = explain("phi3:mini", "--router", management.url, "--output", "json")
    assert ran.returncode == 0
    assert json.loads(ran.stdout) == TOLD


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_sends_the_request_it_is_given(management: Answering, tmp_path: Path, source: str) -> None:
    body = {"messages": [{"role": "user", "content": "hällo"}]}
    text = json.dumps(body, ensure_ascii=False)
    file = tmp_path / "request.json"
    file.write_text(text, encoding="utf-8")
    more = ("--path", "/api/chat", "--sticky", "anna", "--body")
    name = file if source == "file" else "-"
    ran = explain("m", "--router", f"{management.url}/", *more, name, stdin=text)
    assert ran.returncode == 0, ran.stderr
    assert management.asked == [{"model": "m", "path": "/api/chat", "sticky": "anna", "body": body}]


def test_says_what_the_router_finds_wrong(management: Answering) -> None:
    management.status, management.body = 400, b'{"detail": "path /x is not served"}'
    ran = explain("m", "--router", management.url, "--path", "/x")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "llmb explain: path /x is not served\n"


@pytest.mark.parametrize(
    "words",
    [
        ("--router", "http://127.0.0.1:{free}"),
        ("--router", "http://127.0.0.1:{management}/prefix"),
        ("--router", "no url"),
        ("--router", "http://[::1"),
        ("--body", "/no/such/file"),
        ("--body", "-"),
    ],
)
def test_wrong_use_names_the_flag(management: Answering, words: tuple[str, str]) -> None:
    flag, value = words
    value = value.format(free=free_port(), management=management.port)
    ran = explain("m", flag, value, stdin="{not json")
    assert ran.returncode == 2
    assert flag in ran.stderr
    assert len(ran.stderr.splitlines()) == 1, ran.stderr


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"])
def test_what_answers_otherwise_is_no_router(management: Answering, body: bytes) -> None:
    management.body = body
    ran = explain("m", "--router", management.url)
    assert ran.returncode == 2
    assert "--router" in ran.stderr


def test_without_a_model_it_says_so() -> None:
    ran = explain()
    assert ran.returncode == 2
    assert "MODEL" in ran.stderr
