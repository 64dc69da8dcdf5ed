"""The routing configuration between operator and router, byte for byte.

Each `routing/NAME.yaml` holds resources, `NAME.json` the bytes that are published for them and
`NAME.json.sha256` the checksum beside those. The operator must write exactly these, and the router
must read them. Whoever changes the form on purpose writes them anew and reads the difference:

    python tests/golden/test_golden_routing.py
"""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_contract import CHECKSUM_KEY, CONFIG_KEY, RoutingConfig, checksum, dump, parse, verify
from llm_operator.plan import Addresses, plan
from llm_operator.resource.parse import parse as parse_resource
from llm_router.credentials import NONE
from llm_router.mount import Published, read
from llm_router.standing import Standings
from llm_router.table import Table

FOLDER = Path(__file__).resolve().parent / "routing"
CASES = sorted(FOLDER.glob("*.yaml"))
ADDRESSES = Addresses(ollama="http://ollama.default:11434", mlx="http://mlx.default:8080")


def manifests(case: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(case.read_text()) if document]


def published(documents: list[Any]) -> bytes:
    """What the operator writes for these resources."""
    resources = [parse_resource(document) for document in documents]
    return dump(plan(resources, addresses=ADDRESSES, published=RoutingConfig()).config)


def golden(case: Path) -> Published:
    raw = case.with_suffix(".json").read_bytes()
    return Published(raw, case.with_suffix(".json.sha256").read_text())


def table_of(case: Path) -> Table:
    """What a router makes of it that mounts no credentials."""
    return Table.build(golden(case), Standings(), NONE)


def answers_to(route: Any) -> list[str]:
    return [route["model"], *route.get("aliases", ())]


@pytest.fixture(params=CASES, ids=lambda case: case.stem)
def case(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_every_file_belongs_to_a_case() -> None:
    names = {case.stem for case in CASES}
    assert {"empty", "simple", "full", "mixed", "targets"} <= names
    assert {file.name.partition(".")[0] for file in FOLDER.iterdir()} == names
    assert len(list(FOLDER.iterdir())) == 3 * len(names)


class TestOperator:
    def test_writes_these_bytes(self, case: Path) -> None:
        assert published(manifests(case)) == golden(case).raw

    @pytest.mark.check(23)
    def test_in_whatever_order_it_listed_the_resources(self, case: Path) -> None:
        documents = manifests(case)
        for _ in range(10):
            random.shuffle(documents)
            assert published(documents) == golden(case).raw

    @pytest.mark.check(23)
    def test_publishes_the_checksum_beside_them(self, case: Path) -> None:
        raw, beside = golden(case).raw, golden(case).checksum
        assert beside == checksum(raw) == hashlib.sha256(raw).hexdigest()
        verify(raw, beside)


class TestRouter:
    def test_reads_them_into_a_table(self, case: Path) -> None:
        table = table_of(case)
        document = json.loads(golden(case).raw)
        assert table.checksum == golden(case).checksum
        assert list(table.entries) == [
            name for route in document["routes"] for name in answers_to(route)
        ]
        for route, name in ((r, name) for r in document["routes"] for name in answers_to(r)):
            entry = table.entries[name]
            assert entry.label == route["model"]
            found = [
                (d.target.name, d.target.type.value, d.target.url, d.target.model)
                for d in entry.destinations
            ]
            asked = [(t["name"], t["type"], t["url"], t["model"]) for t in route["targets"]]
            assert found == asked

    def test_loses_nothing(self, case: Path) -> None:
        raw = golden(case).raw
        assert dump(parse(raw)) == raw
        assert dump(table_of(case).config) == raw

    def test_reads_them_from_a_mount(self, case: Path, tmp_path: Path) -> None:
        revision = tmp_path / "..2026_01_01_00_00_00.1"
        revision.mkdir()
        (revision / CONFIG_KEY).write_bytes(golden(case).raw)
        (revision / CHECKSUM_KEY).write_text(golden(case).checksum)
        (tmp_path / "..data").symlink_to(revision.name)
        assert read(tmp_path) == golden(case)


def write() -> None:
    """Write the golden files anew."""
    for case in CASES:
        raw = published(manifests(case))
        case.with_suffix(".json").write_bytes(raw)
        case.with_suffix(".json.sha256").write_text(checksum(raw))


if __name__ == "__main__":
    write()
