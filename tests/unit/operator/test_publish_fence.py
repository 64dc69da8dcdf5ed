"""What an epoch adds to a write, and which write it forbids."""

from typing import Any

import pytest

from llm_operator.ports import Refused
from llm_operator.publish.fence import EPOCH, Fence, epoch_of

PLAIN = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"namespace": "ns", "name": "cm", "annotations": {"a": "b"}},
    "data": {"k": "v"},
}


def found(version: str, epoch: int | None = None) -> dict[str, Any]:
    annotations = {} if epoch is None else {EPOCH: str(epoch)}
    return {"metadata": {"resourceVersion": version, "annotations": annotations}}


async def unread(_: str) -> None:
    pytest.fail("it was read already")


async def test_without_an_election_nothing_is_added() -> None:
    fence = Fence(lambda: 0, None)
    fence.saw("ns", found("5", 9))
    assert await fence.passed(PLAIN, unread) is PLAIN
    assert fence.stamped(found("5", 9))


async def test_a_write_goes_by_what_was_seen_and_the_next_by_a_new_look() -> None:
    async def read(namespace: str) -> dict[str, Any]:
        assert namespace == "ns"
        return found("6", 3)

    fence = Fence(lambda: 3, None)
    fence.saw("ns", found("5"))
    first = await fence.passed(PLAIN, unread)
    assert first["metadata"]["resourceVersion"] == "5"
    assert first["metadata"]["annotations"] == {"a": "b", EPOCH: "3"}
    assert first["data"] == PLAIN["data"]
    second = await fence.passed(PLAIN, read)
    assert second["metadata"]["resourceVersion"] == "6"
    assert "resourceVersion" not in PLAIN["metadata"]


async def test_where_there_is_nothing_it_is_made_empty_first() -> None:
    made: list[Any] = []

    async def create(manifest: Any) -> dict[str, Any]:
        made.append(manifest)
        return found("1")

    fence = Fence(lambda: 3, create)
    fence.saw("ns", None)
    applied = await fence.passed(PLAIN, unread)
    assert made == [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "ns", "name": "cm"}}
    ]
    assert applied["metadata"]["resourceVersion"] == "1"


async def test_a_later_leaders_work_is_not_overwritten() -> None:
    fence = Fence(lambda: 3, None)
    fence.saw("ns", found("5", 4))
    with pytest.raises(Refused, match=r"ConfigMap cm in ns .* epoch 4, and this is epoch 3"):
        await fence.passed(PLAIN, unread)
    fence.saw("ns", found("5", 2))
    await fence.passed(PLAIN, unread)


def test_stamped_is_what_carries_the_own_epoch() -> None:
    fence = Fence(lambda: 3, None)
    assert [fence.stamped(found("1", epoch)) for epoch in (None, 2, 3, 4)] == [
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("text", ["", "x", "-1", "٣", "1" * 30, "1.5"])
def test_an_epoch_that_is_none(text: str) -> None:
    assert epoch_of({"metadata": {"annotations": {EPOCH: text}}}) == 0
    assert epoch_of({"metadata": {"annotations": None}}) == 0
