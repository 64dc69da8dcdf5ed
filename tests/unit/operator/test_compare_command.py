"""`llmb compare`: what it asks, what it prints, and how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llm_operator.compare.command import Failed, instant
from llm_operator.compare.document import Report, write
from llm_operator.compare.model import Arm
from llm_operator.compare.statistics import compare
from parts.answering import Answering, answering
from parts.process import free_port

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SINCE = NOW - timedelta(hours=24)


def arm(key: str, seconds: float, times: int = 30) -> Arm:
    return Arm(
        key=key,
        requests=times,
        errors=0,
        fallbacks=0,
        times=times,
        average_seconds=seconds,
        deviation_seconds=seconds / 10,
        p50_seconds=seconds,
        p95_seconds=seconds,
        first_tokens=0,
        average_first_token_seconds=None,
        speeds=times,
        average_tokens_per_second=100 / seconds,
        deviation_tokens_per_second=1.0,
    )


def told(*arms: Arm, model: str = "phi3:mini") -> dict[str, Any]:
    report = Report(
        model=model, since=SINCE, until=NOW, by="backend_type", comparison=compare(arms)
    )
    return write(report)


BOTH = told(arm("ollama", 7.0), arm("mlx", 3.0))


@pytest.fixture
def admin() -> Iterator[Answering]:
    with answering("GET", "/api/llm-backends/compare", body=BOTH) as made:
        yield made


@dataclass(slots=True)
class Shell:
    """A folder to run the command in."""

    folder: Path

    def compare(self, *words: str | Path, setting: str = "") -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != "LLMB_ADMIN_TOKEN_FILE"}
        if setting:
            environment["LLMB_ADMIN_TOKEN_FILE"] = setting
        return subprocess.run(
            [sys.executable, "-m", "llm_operator.cli", "compare", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env=environment,
        )

    def token(self, name: str, token: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(token)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_prints_the_predecessors_table_and_the_full_one(admin: Answering, shell: Shell) -> None:
    ran = shell.compare("phi3:mini", "--admin", admin.url)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    lines = ran.stdout.splitlines()
    assert lines[:4] == [
        "| Model     | Backend | Avg Time | Tokens/sec | Speedup |",
        "|-----------|---------|----------|------------|---------|",
        "| phi3:mini | Ollama  | ~7s      | ~14.3 t/s  | 1.0x    |",
        "| phi3:mini | MLX     | ~3s      | ~33.3 t/s  | 2.3x    |",
    ]
    assert lines[4:6] == ["", "phi3:mini, 2026-11-27 12:00 to 2026-11-28 12:00 UTC"]
    assert lines[-1].endswith("faster")
    (asked,) = admin.asked
    assert asked.keys() == {"model", "since", "until", "by"}
    assert (asked["model"], asked["by"]) == ("phi3:mini", "backend_type")
    since, until = (datetime.fromisoformat(asked[name]) for name in ("since", "until"))
    assert until - since == timedelta(hours=24)
    assert abs(datetime.now(UTC) - until) < timedelta(minutes=2)


def test_sends_what_it_is_given(admin: Answering, shell: Shell) -> None:
    words = ("--since", "2026-11-01", "--until", "2026-11-08T00:00:00+02:00", "--by", "target")
    more = ("--baseline", "mac", "--namespace", "prod")
    ran = shell.compare("a", "b/c:d", "--admin", f"{admin.url}/", *words, *more)
    assert ran.returncode == 0, ran.stderr
    same = {
        "since": "2026-11-01T00:00:00+00:00",
        "until": "2026-11-07T22:00:00+00:00",
        "by": "target",
        "baseline": "mac",
        "namespace": "prod",
    }
    assert admin.asked == [{"model": "a"} | same, {"model": "b/c:d"} | same]


def test_prints_what_it_was_told_as_json(admin: Answering, shell: Shell) -> None:
    ran = shell.compare("a", "b", "--admin", admin.url, "--output", "json")
    assert ran.returncode == 0
    assert json.loads(ran.stdout) == [BOTH, BOTH]


@pytest.mark.parametrize(
    "arms", [(), (arm("mlx", 3.0),), (arm("mlx", 3.0), arm("ollama", 7.0, times=19))]
)
def test_exits_1_when_there_is_too_little(
    admin: Answering, shell: Shell, arms: tuple[Arm, ...]
) -> None:
    admin.body = json.dumps(told(*arms)).encode()
    ran = shell.compare("phi3:mini", "--admin", admin.url)
    assert ran.returncode == 1
    assert ran.stderr == ""
    assert ("not enough data" in ran.stdout) == (len(arms) == 2)
    assert ("nothing is recorded" in ran.stdout) == (not arms)


class TestToken:
    def test_is_of_the_file_that_is_named(self, admin: Answering, shell: Shell) -> None:
        shell.token("mine", "canary-1\n")
        shell.token("llmb-data/admin.token", "other")
        ran = shell.compare("m", "--admin", admin.url, "--token-file", "mine", setting="no-such")
        assert (ran.returncode, admin.tokens) == (0, ["Bearer canary-1"])

    def test_is_else_of_the_setting(self, admin: Answering, shell: Shell) -> None:
        shell.token("mine", "canary-2")
        shell.token("llmb-data/admin.token", "other")
        assert shell.compare("m", "--admin", admin.url, setting="mine").returncode == 0
        assert admin.tokens == ["Bearer canary-2"]

    def test_is_else_what_llmb_up_has_made(self, admin: Answering, shell: Shell) -> None:
        shell.token("llmb-data/admin.token", "canary-3\n")
        assert shell.compare("m", "--admin", admin.url).returncode == 0
        assert admin.tokens == ["Bearer canary-3"]

    def test_is_else_none(self, admin: Answering, shell: Shell) -> None:
        admin.status, admin.body = 401, b'{"detail": "a bearer token is needed"}'
        ran = shell.compare("m", "--admin", admin.url)
        assert (ran.returncode, admin.tokens) == (2, [None])
        assert ran.stderr == (
            "llmb compare: a bearer token is needed; "
            "give a token by --token-file or LLMB_ADMIN_TOKEN_FILE\n"
        )

    @pytest.mark.parametrize("content", [b"hunter2\ncanary", b"h\xc3\xa4", b"\xff"])
    def test_that_is_none_is_not_quoted(
        self, admin: Answering, shell: Shell, content: bytes
    ) -> None:
        (shell.folder / "mine").write_bytes(content)
        ran = shell.compare("m", "--admin", admin.url, "--token-file", "mine")
        assert ran.returncode == 2
        assert "--token-file" in ran.stderr
        assert "canary" not in ran.stderr
        assert admin.asked == []


@pytest.mark.parametrize("status", [400, 403, 429, 503])
def test_says_what_the_api_finds_wrong(admin: Answering, shell: Shell, status: int) -> None:
    admin.status, admin.body = status, b'{"detail": "so it\\u001b is"}'
    ran = shell.compare("m", "--admin", admin.url)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "llmb compare: so it  is\n"


@pytest.mark.parametrize(
    "words",
    [
        ("--admin", "http://127.0.0.1:{free}"),
        ("--admin", "http://127.0.0.1:{admin}/prefix"),
        ("--admin", "no url"),
        ("--admin", "http://[::1"),
        ("--token-file", "no-such"),
        ("--token-file", "."),
        ("--since", "yesterday"),
        ("--since", "1h30m"),
        ("--since", "999999d"),
        ("--until", "48h"),
        ("--until", "soon"),
        ("--by", "model"),
    ],
)
def test_wrong_use_names_the_flag(admin: Answering, shell: Shell, words: tuple[str, str]) -> None:
    flag, value = words
    value = value.format(free=free_port(), admin=admin.port)
    ran = shell.compare("m", "--admin", admin.url, flag, value)
    assert ran.returncode == 2
    assert flag in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"model": "m", "backends": [1]}'])
def test_what_answers_otherwise_is_no_admin_api(
    admin: Answering, shell: Shell, body: bytes
) -> None:
    admin.body = body
    ran = shell.compare("m", "--admin", admin.url)
    assert ran.returncode == 2
    assert "--admin" in ran.stderr


def test_without_a_model_it_says_so(shell: Shell) -> None:
    ran = shell.compare()
    assert ran.returncode == 2
    assert "MODEL" in ran.stderr


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-01T00:00:00Z", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T02:00:00+02:00", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_so_long_ago_or_as_it_is_said(text: str, meant: datetime) -> None:
    assert instant(text, "--since", now=NOW) == meant


@pytest.mark.parametrize("text", ["", "h", "-1h", "1w", "24 h", "2026-13-01", "9999999h"])
def test_what_is_no_time_names_the_flag(text: str) -> None:
    with pytest.raises(Failed, match="--until"):
        instant(text, "--until", now=NOW)
