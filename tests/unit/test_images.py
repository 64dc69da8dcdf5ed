"""The images' Dockerfile, locks and ignore file agree with the project. Nothing is built."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "images" / "Dockerfile").read_text()
STEPS = re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Lock of an image -> the extra that it pins.
LOCKS = {"operator": "admin", "router": "router"}


def stage(name: str) -> list[str]:
    """The steps of one stage."""
    (start,) = [at for at, step in enumerate(STEPS) if re.fullmatch(rf"FROM .* AS {name}", step)]
    rest = STEPS[start + 1 :]
    ends = [at for at, step in enumerate(rest) if step.startswith("FROM ")]
    return rest[: ends[0]] if ends else rest


def pinned(lock: str) -> dict[str, str]:
    """Distribution -> version of a lock."""
    text = (ROOT / "locks" / f"{lock}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[.*?\])?==([^\s;]+)", text, re.MULTILINE))


def wanted(extra: str) -> set[str]:
    """The distributions that an extra names, with those of the extras it takes in."""
    found = set()
    for requirement in PROJECT["project"]["optional-dependencies"][extra]:
        name, extras = re.match(r"([A-Za-z0-9._-]+)(?:\[(.*?)\])?", requirement).groups()  # type: ignore[union-attr]
        if name == PROJECT["project"]["name"]:
            found |= {each for more in extras.split(",") for each in wanted(more)}
        else:
            found.add(name.lower().replace("_", "-"))
    return found


@pytest.mark.parametrize("target", ["operator", "router"])
def test_an_image_runs_as_a_numbered_user_and_without_a_shell(target: str) -> None:
    steps = stage(target)
    assert [step for step in steps if step.startswith("USER")] == ["USER 65532:65532"]
    (entry,) = [step for step in steps if step.startswith("ENTRYPOINT")]
    assert entry.startswith('ENTRYPOINT ["')
    assert not [step for step in steps if step.startswith("RUN")]


@pytest.mark.parametrize("target", ["operator", "router"])
def test_an_image_says_what_it_is(target: str) -> None:
    (labels,) = [step for step in stage(target) if step.startswith("LABEL")]
    known = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', labels))
    assert known["version"] == "${VERSION}"
    assert known["revision"] == "${REVISION}"
    assert known["source"] == "${SOURCE}"
    assert known["licenses"] == PROJECT["project"]["license"]
    assert known["title"]
    assert known["description"]


def test_the_version_stands_in_pyproject_alone() -> None:
    for name in ("Dockerfile", "build.py", "tree.py", "bom.py"):
        assert PROJECT["project"]["version"] not in (ROOT / "images" / name).read_text()


def test_the_base_is_an_argument_and_no_other_host_is_named() -> None:
    assert STEPS.count("ARG BASE_IMAGE=docker.io/library/python:3.13-slim") == 1
    assert {step.split()[1] for step in STEPS if step.startswith("FROM")} == {
        "${BASE_IMAGE}",
        "base",
        "scratch",
    }
    assert "://" not in DOCKERFILE


def test_what_is_installed_is_pinned_by_hashes() -> None:
    installs = [step for step in STEPS if "pip install" in step]
    assert len(installs) == 5
    for step in installs:
        assert "--require-hashes" in step or "--no-deps --no-index" in step


@pytest.mark.parametrize("lock", ["build", *LOCKS])
def test_every_pin_has_a_hash(lock: str) -> None:
    text = (ROOT / "locks" / f"{lock}.txt").read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pinned(lock)) > 0
    assert not [block for block in blocks if "--hash=sha256:" not in block]


@pytest.mark.parametrize(("lock", "extra"), LOCKS.items())
def test_a_lock_pins_what_its_extra_names_as_the_standalone_lock_does(
    lock: str, extra: str
) -> None:
    pins = pinned(lock)
    assert wanted(extra) | {"httpx"} <= pins.keys()
    assert pins.items() <= pinned("standalone").items()


def test_the_build_lock_pins_what_builds_the_wheel() -> None:
    required = {re.split(r"[<>=~]", each)[0] for each in PROJECT["build-system"]["requires"]}
    assert required == pinned("build").keys()


def test_the_ignore_file_lets_through_what_is_copied_and_no_more() -> None:
    lines = (ROOT / "images" / "Dockerfile.dockerignore").read_text().splitlines()
    let = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    copied = {
        word
        for step in STEPS
        if step.startswith("COPY") and "--from" not in step
        for word in step.split()[1:-1]
    }
    assert {path if path in let else path.partition("/")[0] for path in copied} == let
    builder = (ROOT / "images" / "build.py").read_text()
    sources = re.search(r"^SOURCES = \((.*?)^\)", builder, re.DOTALL | re.MULTILINE)
    assert sources is not None
    assert set(re.findall(r'"([^"]+)"', sources[1])) == let
