"""`llmb compare` on a whole `llmb up`: from usage that is sent to the table that is printed."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from parts.service import Service

#: model, backend type, seconds of a request and tokens a second: what the predecessor published.
PUBLISHED = (
    ("compared:mini", "ollama", 7.0, 14.0),
    ("compared:mini", "mlx", 3.0, 33.0),
    ("compared/8b", "ollama", 15.0, 6.7),
    ("compared/8b", "mlx", 6.0, 16.7),
)


@pytest.fixture(scope="module")
def recorded(standalone: Service) -> Service:
    """It has taken forty requests of each."""
    chance = random.Random(9)
    records: list[dict[str, Any]] = []
    for model, backend, seconds, rate in PUBLISHED:
        for number in range(20):
            apart = chance.uniform(0, 0.2)
            records += [
                {
                    "request_id": f"{model}-{backend}-{number}-{sign}",
                    "at": time.time() - 60,
                    "model": model,
                    "backend_type": backend,
                    "outcome": "ok",
                    "total_seconds": seconds * (1 + sign * apart),
                    "decode_tokens_per_second": rate * (1 - sign * apart),
                }
                for sign in (-1, 1)
            ]
    with standalone.client() as client:
        assert client.post("/usage", json={"records": records}).json()["stored"] == 160
    return standalone


def compare(service: Service, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    token = folder / "token"
    token.write_text(service.token)
    return subprocess.run(
        [sys.executable, "-m", "llm_operator.cli", "compare", *words, "--admin", service.url],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**os.environ, "LLMB_ADMIN_TOKEN_FILE": str(token)},
    )


def test_prints_the_published_table(recorded: Service, tmp_path: Path) -> None:
    ran = compare(recorded, tmp_path, "compared:mini", "compared/8b", "--since", "1h")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[:6] == [
        "| Model         | Backend | Avg Time | Tokens/sec | Speedup |",
        "|---------------|---------|----------|------------|---------|",
        "| compared:mini | Ollama  | ~7s      | ~14 t/s    | 1.0x    |",
        "| compared:mini | MLX     | ~3s      | ~33 t/s    | 2.3x    |",
        "| compared/8b   | Ollama  | ~15s     | ~6.7 t/s   | 1.0x    |",
        "| compared/8b   | MLX     | ~6s      | ~16.7 t/s  | 2.5x    |",
    ]
    assert ran.stdout.count("faster") == 2


def test_prints_what_the_api_says(recorded: Service, tmp_path: Path) -> None:
    words = ("--baseline", "mlx", "--output", "json", "--since", "2h")
    ran = compare(recorded, tmp_path, "compared:mini", *words)
    assert (ran.returncode, ran.stderr) == (0, "")
    (told,) = json.loads(ran.stdout)
    assert (told["model"], told["baseline"]) == ("compared:mini", "mlx")
    assert [one["verdict"] for one in told["backends"]] == ["baseline", "slower"]


def test_a_baseline_that_is_not_there_is_told(recorded: Service, tmp_path: Path) -> None:
    ran = compare(recorded, tmp_path, "compared:mini", "--baseline", "vllm")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "baseline: nothing is recorded of 'vllm'" in ran.stderr
    assert "there is mlx, ollama" in ran.stderr


def test_of_a_model_that_nobody_asked_for_nothing_is_recorded(
    recorded: Service, tmp_path: Path
) -> None:
    ran = compare(recorded, tmp_path, "never-asked-for")
    assert ran.returncode == 1
    assert ran.stdout.endswith(": nothing is recorded\n")


def test_a_wrong_token_is_told_with_the_flag(recorded: Service, tmp_path: Path) -> None:
    wrong = Service(recorded.url, "wrong")
    ran = compare(wrong, tmp_path, "compared:mini")
    assert ran.returncode == 2
    assert "--token-file" in ran.stderr
