"""What the publisher tells of: that somebody else had changed what it published, and each pass."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from llm_contract import CHECKSUM_KEY, CONFIG_KEY
from llm_operator.plan import Addresses
from llm_operator.ports import Gone, PortError, Status, Unavailable
from llm_operator.publish import outcome
from llm_operator.publish.configmap import ANNOTATION, LABEL, NAME, ConfigMapSink
from llm_operator.publish.outcome import Standing
from llm_operator.publish.publisher import Publisher, Result
from llm_operator.references.keeper import Keeper
from llm_operator.references.model import Sought, Values
from llm_operator.resource.model import BackendType, Identity, Resource, Spec

Map = dict[str, Any]


class Cluster:
    """One ConfigMap, and nothing that resources could refer to."""

    def __init__(self) -> None:
        self.map: Map | None = None
        self.writes = 0
        self.fail: PortError | None = None

    async def read_map(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        if self.fail:
            raise self.fail
        return copy.deepcopy(self.map)

    async def apply_map(self, manifest: Mapping[str, Any]) -> None:
        self.writes += 1
        self.map = copy.deepcopy(dict(manifest))

    async def label_namespaces(self, selector: str) -> frozenset[str]:
        return frozenset()

    async def secrets(self, namespace: str, names: frozenset[str]) -> dict[str, Values | None]:
        return {}

    async def config_maps(self, namespace: str, names: frozenset[str]) -> dict[str, Values]:
        return {}

    async def services(self, namespace: str, names: frozenset[str]) -> frozenset[str]:
        return frozenset()

    def follow(self, namespace: str, look: Sought) -> None:
        pass

    async def close(self) -> None:
        pass

    def edit(self, *, data: str | None = None, label: str | None = None) -> None:
        """What a person does with `kubectl edit`."""
        assert self.map is not None
        if data is not None:
            self.map["data"][CONFIG_KEY] = data
        if label is not None:
            self.map["metadata"]["labels"] = {LABEL: label}


class Teller:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.repairs: list[str] = []
        self.results: list[Result] = []
        self.stood: list[Standing | None] = []

    def listed(self, namespace: str, resources: Sequence[Resource]) -> None:
        pytest.fail("the publisher lists nothing")

    def told(self, resource: Resource, before: Status | None, after: Status) -> None:
        pytest.fail("the publisher writes no status")

    def repaired(self, namespace: str) -> None:
        self.repairs.append(namespace)

    def published(self, namespace: str, result: Result, standing: Standing | None) -> None:
        self.results.append(result)
        self.stood.append(standing)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
def publisher(cluster: Cluster, teller: Teller) -> Publisher:
    return make(cluster, teller)


def make(cluster: Cluster, teller: Teller) -> Publisher:
    return Publisher(
        "ns",
        ConfigMapSink(cluster),
        keeper=Keeper("ns", cluster, None),
        addresses=Addresses(ollama=None, mlx=None),
        tellers=[teller],
    )


def backend(url: str = "http://host:11434") -> Resource:
    identity = Identity(namespace="ns", name="phi", uid="u", generation=1)
    spec = Spec(model_name="phi", backend_type=BackendType.OLLAMA, endpoint_url=url)
    return Resource(identity=identity, spec=spec)


async def test_what_is_as_it_was_is_no_repair(publisher: Publisher, teller: Teller) -> None:
    for url in ("http://a:1", "http://a:1", "http://b:1"):
        await publisher.publish([backend(url)])
    assert teller.repairs == []
    assert teller.results == [Result.WRITTEN, Result.UNCHANGED, Result.WRITTEN]


@pytest.mark.check(21)
@pytest.mark.parametrize("how", ["data", "checksum", "annotation", "deleted"])
async def test_an_edit_is_repaired_and_told_once(
    publisher: Publisher, cluster: Cluster, teller: Teller, how: str
) -> None:
    await publisher.publish([backend()])
    right = copy.deepcopy(cluster.map)
    assert right is not None
    match how:
        case "data":
            cluster.edit(data="{}")
        case "checksum":
            cluster.map = right | {"data": right["data"] | {CHECKSUM_KEY: "0" * 64}}
        case "annotation":
            marks = {"annotations": {ANNOTATION: "0" * 64}}
            cluster.map = right | {"metadata": right["metadata"] | marks}
        case "deleted":
            cluster.map = None
    await publisher.publish([backend()])
    await publisher.publish([backend()])
    assert cluster.map == right
    assert teller.repairs == ["ns"]
    assert cluster.writes == 2


async def test_each_edit_is_told(publisher: Publisher, cluster: Cluster, teller: Teller) -> None:
    for _ in range(3):
        await publisher.publish([backend()])
        cluster.edit(data="{}")
    assert teller.repairs == ["ns", "ns"]


async def test_another_plan_is_no_repair_whoever_wrote_last(
    publisher: Publisher, cluster: Cluster, teller: Teller
) -> None:
    await publisher.publish([backend("http://a:1")])
    cluster.edit(data="{}")
    await publisher.publish([backend("http://b:1")])
    assert teller.repairs == []
    assert cluster.writes == 2


async def test_labels_of_others_are_no_edit(
    publisher: Publisher, cluster: Cluster, teller: Teller
) -> None:
    await publisher.publish([backend()])
    assert cluster.map is not None
    cluster.map["metadata"]["labels"]["team"] = "voice"
    await publisher.publish([backend()])
    assert teller.repairs == []
    assert cluster.writes == 1


class TestAFreshProcess:
    @pytest.mark.check(21)
    async def test_tells_of_a_map_that_does_not_agree_with_itself(
        self, cluster: Cluster, teller: Teller
    ) -> None:
        await make(cluster, teller).publish([backend()])
        cluster.edit(data="{}")
        await make(cluster, teller).publish([backend()])
        assert teller.repairs == ["ns"]

    async def test_tells_nothing_of_a_map_that_is_merely_old(
        self, cluster: Cluster, teller: Teller
    ) -> None:
        await make(cluster, teller).publish([backend("http://a:1")])
        await make(cluster, teller).publish([backend("http://b:1")])
        assert teller.results == [Result.WRITTEN, Result.WRITTEN]
        assert teller.repairs == []

    async def test_tells_nothing_of_a_map_that_is_not_there(
        self, publisher: Publisher, teller: Teller
    ) -> None:
        await publisher.publish([backend()])
        assert teller.repairs == []

    async def test_tells_nothing_of_a_map_that_was_given_to_it(
        self, publisher: Publisher, cluster: Cluster, teller: Teller
    ) -> None:
        cluster.map = {"metadata": {"name": NAME}, "data": {"other": "thing"}}
        await publisher.publish([backend()])
        cluster.edit(label="llm-backend-operator")
        await publisher.publish([backend()])
        assert teller.results == [Result.NOT_OWNED, Result.WRITTEN]
        assert teller.repairs == []


async def test_a_pass_that_fails_is_counted(
    publisher: Publisher, cluster: Cluster, teller: Teller
) -> None:
    await publisher.publish([backend()])
    cluster.fail = Unavailable("away")
    with pytest.raises(Unavailable):
        await publisher.publish([backend()])
    cluster.fail = Gone("going")
    await publisher.publish([backend()])
    assert teller.results == [Result.WRITTEN, Result.FAILED, Result.FAILED]


async def test_what_is_too_large_is_counted_and_the_last_one_stands(
    publisher: Publisher, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publisher.publish([backend("http://a:1")])
    monkeypatch.setattr(outcome, "LIMIT", 10)
    await publisher.publish([backend("http://b:1")])
    assert teller.results == [Result.WRITTEN, Result.TOO_LARGE]
    assert teller.stood[0] == teller.stood[1]
    assert teller.stood[1] is not None
    assert b"http://a:1" in (teller.stood[1].raw or b"")
