"""The overview's curl examples, as they are printed there, against a fresh `llmb up`.

overview_examples.sh beside this file holds their text and nothing else; where the overview itself
is at hand the two are compared. What is put in its place is host, port and token alone.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts import up as ups
from parts.eventually import eventually
from parts.up import Up

EXAMPLES = Path(__file__).with_name("overview_examples.sh")
OVERVIEW = Path(__file__).resolve().parents[3] / "shared" / "reference" / "seed-overview.md"

#: Hosts as the examples name them.
API, OLLAMA, MLX = "http://localhost:8080/api", "http://localhost:11434", "http://localhost:8080"
MODEL = "phi3:mini"


def examples() -> list[str]:
    """Each command with its comment."""
    return EXAMPLES.read_text().strip().split("\n\n")


def test_the_examples_are_those_of_the_overview() -> None:
    if not OVERVIEW.exists():
        pytest.skip(f"{OVERVIEW} is not there to compare with")
    blocks = re.findall(r"```bash\n(.*?)\n```", OVERVIEW.read_text(), re.DOTALL)
    # NB: one more, in its list of steps, leaves out most of its body.
    printed = [block for block in blocks if block.startswith("#") and "curl" in block]
    assert examples() == printed


@pytest.fixture(scope="module")
def up(part_folder: Path) -> Iterator[Up]:
    """`llmb up` on a folder of resources that is there and empty: the first is still to be made."""
    with ups.folder(part_folder) as one:
        one.example.parent.mkdir(parents=True)
        one.start()
        assert "There is no resource yet" in one.card
        yield one


def run(up: Up, example: str) -> dict[str, object]:
    """What an example prints, run by a shell."""
    for printed, there in (
        (API, f"{up.admin}/api"),
        (OLLAMA, up.told("Ollama")),
        (MLX, up.told("MLX")),
    ):
        example = example.replace(printed, there)
    ran = subprocess.run(
        ["bash", "-ec", example],
        env={"PATH": os.environ["PATH"], "TOKEN": up.token},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr
    document: dict[str, object] = json.loads(ran.stdout)
    return document


def test_create_and_then_switch(up: Up) -> None:
    create, switch = examples()

    made = run(up, create)
    assert (made["id"], made["model_name"]) == (1, MODEL)
    assert (made["backend_type"], made["endpoint_url"]) == ("ollama", up.told("Ollama"))
    assert made["description"] == "Phi-3 Mini via Ollama for fast classification"
    eventually(lambda: answered_by(up) == "ollama", within=20)

    switched = run(up, switch)
    assert (switched["id"], switched["model_name"]) == (1, MODEL)
    assert (switched["backend_type"], switched["endpoint_url"]) == ("mlx", up.told("MLX"))
    assert switched["max_tokens"] == 2048, "what was not given stays"
    eventually(lambda: answered_by(up) == "mlx", within=20)


def answered_by(up: Up) -> str:
    """Which type of host answers now; "" for an error."""
    return up.ask(MODEL).headers.get("x-llm-backend-type", "")
