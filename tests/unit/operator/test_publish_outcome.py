"""What to do about a published configuration, and how a ConfigMap becomes one and back."""

from dataclasses import replace

import pytest

from llm_contract import Route, RoutingConfig, Target, TargetType, Timeouts, checksum, dump
from llm_operator.publish import configmap
from llm_operator.publish.outcome import LIMIT, Place, Standing, decide, readable
from llm_operator.reasons import ConfigPublished

CONFIG = RoutingConfig(
    routes=(
        Route(
            model="phi3:mini",
            uid="u1",
            generation=1,
            name="phi",
            targets=(Target(name="o", type=TargetType.OLLAMA, url="http://o:1", model="phi3"),),
            timeouts=Timeouts(total=60),
        ),
    )
)
RAW = dump(CONFIG)
SUM = checksum(RAW)
RIGHT = Standing(raw=RAW, checksum=SUM)
PLACE = Place(name="ConfigMap x", remedy="delete it")


def outcome(standing: Standing | None, desired: bytes = RAW) -> tuple[ConfigPublished, bool]:
    found = decide(standing, desired, checksum=checksum(desired), place=PLACE)
    return found.reason, found.write


def test_equal_bytes_are_not_written() -> None:
    assert outcome(RIGHT) == (ConfigPublished.PUBLISHED, False)


@pytest.mark.parametrize(
    "standing",
    [
        None,
        replace(RIGHT, raw=RAW + b" "),
        replace(RIGHT, raw=None),
        replace(RIGHT, checksum=None),
        replace(RIGHT, checksum="0" * 64),
        replace(RIGHT, intact=False),
        Standing(raw=None, checksum=None, owned=False, empty=True),
    ],
    ids=["absent", "edited", "no bytes", "no checksum", "checksum", "annotation", "empty"],
)
def test_whatever_differs_is_written(standing: Standing | None) -> None:
    assert outcome(standing) == (ConfigPublished.PUBLISHED, True)


@pytest.mark.parametrize("raw", [RAW, b"theirs", None])
def test_a_foreign_one_is_never_written(raw: bytes | None) -> None:
    foreign = Standing(raw=raw, checksum=SUM, owned=False)
    found = decide(foreign, RAW, checksum=SUM, place=PLACE)
    assert (found.reason, found.write) == (ConfigPublished.NOT_OWNED, False)
    assert "ConfigMap x" in found.message
    assert "delete it" in found.message


def test_the_limit_is_the_last_size_that_is_written() -> None:
    assert outcome(RIGHT, b"x" * LIMIT) == (ConfigPublished.PUBLISHED, True)
    assert outcome(RIGHT, b"x" * (LIMIT + 1)) == (ConfigPublished.TOO_LARGE, False)
    assert outcome(None, b"x" * (LIMIT + 1)) == (ConfigPublished.TOO_LARGE, False)


def test_readable_is_what_was_published() -> None:
    assert readable(RIGHT) == CONFIG


@pytest.mark.parametrize(
    "standing",
    [
        None,
        replace(RIGHT, owned=False),
        replace(RIGHT, raw=None),
        replace(RIGHT, checksum=None),
        replace(RIGHT, raw=RAW.replace(b"http://o:1", b"http://o:2")),
        Standing(raw=b"{}", checksum=checksum(b"{}")),
        Standing(raw=b"\xff", checksum=checksum(b"\xff")),
    ],
    ids=["absent", "foreign", "no bytes", "no checksum", "edited", "malformed", "no text"],
)
def test_nothing_else_is_readable(standing: Standing | None) -> None:
    assert readable(standing) is None


def test_a_written_configmap_reads_back() -> None:
    manifest = configmap.manifest("ns", raw=RAW, checksum=SUM)
    assert configmap.standing(manifest) == RIGHT
    assert set(manifest) == {"apiVersion", "kind", "metadata", "data"}
    assert "ownerReferences" not in manifest["metadata"]


def test_foreign_labels_annotations_and_keys_change_nothing() -> None:
    manifest = configmap.manifest("ns", raw=RAW, checksum=SUM)
    metadata = manifest["metadata"]
    found = {
        "metadata": {
            **metadata,
            "labels": {**metadata["labels"], "team": "a"},
            "annotations": {**metadata["annotations"], "note": "b"},
        },
        "data": {**manifest["data"], "extra": "c"},
    }
    assert configmap.standing(found) == RIGHT


def test_a_configmap_without_the_label_is_foreign_unless_empty() -> None:
    bare = {"metadata": {"name": configmap.NAME}}
    assert configmap.standing(bare).empty
    assert not configmap.standing(bare).owned
    for data in ({"data": {"a": "b"}}, {"binaryData": {"a": "Yg=="}}):
        found = configmap.standing({**bare, **data})
        assert not found.owned
        assert not found.empty


def test_a_label_of_another_manager_is_foreign() -> None:
    manifest = configmap.manifest("ns", raw=RAW, checksum=SUM)
    metadata = {**manifest["metadata"], "labels": {configmap.LABEL: "Helm"}}
    assert not configmap.standing({**manifest, "metadata": metadata}).owned
