"""The admin's store on a folder of YAML: what a file looks like after each write."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from llm_operator.admin.errors import Away, Changed, Conflict, Invalid, Missing
from llm_operator.admin.model import Backend
from llm_operator.admin.store import folder as folder_module
from llm_operator.admin.store.folder import FolderStore
from llm_operator.resource.model import Resource
from llm_operator.standalone.files import FolderSource, FolderStatus
from parts.eventually import eventually_async

#: Seconds for what takes a moment on a machine that is not busy.
SOON = 20

SIMPLE = {"modelName": "phi3:mini", "backendType": "ollama", "endpointURL": "http://a:11434"}

TWO = """\
# Models of the house.
apiVersion: llm.athena.dev/v1alpha1
kind: LLMBackend
metadata:
  name: phi
  labels: {room: kitchen}   # not ours
spec:
  modelName:  phi3:mini
  backendType: "mlx"     # fast
  endpointURL: 'http://mac:8080'

  priority: 10   # first
---
# The second.
apiVersion: llm.athena.dev/v1alpha1
kind: LLMBackend
metadata: {name: qwen}
spec: {modelName: qwen, backendType: ollama}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("resources", "status"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def source(data: Path) -> FolderSource:
    return FolderSource(
        data / "resources", ledger=data / "identities.json", statuses=data / "status"
    )


@pytest.fixture
async def store(data: Path, source: FolderSource) -> AsyncIterator[FolderStore]:
    made = FolderStore(data, source=source)
    following = asyncio.create_task(made.run())
    try:
        await eventually_async(lambda: made.fresh, within=SOON)
        yield made
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def seen(
    store: FolderStore, name: str, so: Callable[[Backend], bool] = lambda _: True
) -> Backend:
    """The backend of a name, as soon as it is like this."""

    def found() -> Backend | None:
        named = (one for one in store.list() if one.resource.identity.name == name)
        return next((one for one in named if so(one)), None)

    return await eventually_async(found, within=SOON)


async def test_what_is_created_is_a_file_of_its_own(store: FolderStore, data: Path) -> None:
    spec = {"priority": 3, **SIMPLE, "description": "on"}
    made = await store.create(namespace="default", name="", spec=spec, by="x")
    assert (data / "resources" / "phi3-mini.yaml").read_text() == (
        "apiVersion: llm.athena.dev/v1alpha1\n"
        "kind: LLMBackend\n"
        "metadata:\n"
        "  name: phi3-mini\n"
        "spec:\n"
        "  modelName: phi3:mini\n"
        "  backendType: ollama\n"
        "  endpointURL: http://a:11434\n"
        "  priority: 3\n"
        '  description: "on"\n'
    )
    assert store.get(made.uid) is made
    assert made.resource.spec is not None
    assert (made.resource.identity.name, made.resource.identity.generation) == ("phi3-mini", 1)
    assert made.owner is None
    assert [path.name for path in (data / "resources").iterdir()] == ["phi3-mini.yaml"]


async def test_a_new_file_is_in_nobodys_way(store: FolderStore, data: Path) -> None:
    resources = data / "resources"
    (resources / "two.yaml").write_text(TWO)
    await seen(store, "phi")
    with pytest.raises(Conflict, match="default/phi exists already"):
        await store.create(namespace="default", name="phi", spec=SIMPLE, by="x")
    with pytest.raises(Conflict, match=r"two\.yaml is there already"):
        await store.create(namespace="default", name="two", spec=SIMPLE, by="x")
    with pytest.raises(Missing, match="there is no namespace other"):
        await store.create(namespace="other", name="a", spec=SIMPLE, by="x")
    with pytest.raises(Invalid) as refused:
        await store.create(namespace="default", name="../a", spec={"modelName": 1, "x": 2}, by="x")
    assert "metadata.name: must be a lowercase" in refused.value.detail
    assert "spec.x: unknown field" in refused.value.detail
    (resources / "phi3-mini.yml").write_text("# not yet\n")
    made = await store.create(namespace="default", name="", spec=SIMPLE, by="x")
    assert made.resource.identity.name == "phi3-mini-2"
    assert (resources / "two.yaml").read_text() == TWO
    assert {path.name for path in resources.iterdir()} == {
        "two.yaml",
        "phi3-mini.yml",
        "phi3-mini-2.yaml",
    }


async def test_a_change_leaves_every_other_line(store: FolderStore, data: Path) -> None:
    file = data / "resources" / "two.yaml"
    file.write_text(TWO)
    file.chmod(0o640)
    phi = await seen(store, "phi")
    spec = {**phi.spec, "backendType": "ollama", "enabled": False, "priority": 11}
    after = await store.replace(phi, spec, by="x")
    assert file.read_text() == TWO.replace('"mlx"', '"ollama"').replace(
        "  priority: 10   # first\n", "  enabled: false\n  priority: 11   # first\n"
    ).replace(
        "  endpointURL: 'http://mac:8080'\n\n  enabled: false\n",
        "  endpointURL: 'http://mac:8080'\n  enabled: false\n\n",
    )
    assert file.stat().st_mode & 0o777 == 0o640
    assert after.uid == phi.uid
    assert after.resource.identity.generation == 2
    assert after.version != phi.version
    assert after.spec == spec
    assert store.get(phi.uid) is after
    qwen = await seen(store, "qwen")
    assert qwen.resource.identity.generation == 1
    same = await store.replace(after, spec, by="x")
    assert same.resource.identity.generation == 2


async def test_json_in_a_yaml_file_stays_json(store: FolderStore, data: Path) -> None:
    file = data / "resources" / "a.yaml"
    manifest = {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": "a"},
        "spec": {"modelName": "a", "backendType": "ollama"},
    }
    file.write_text(json.dumps(manifest, indent=2))
    backend = await seen(store, "a")
    spec = {"modelName": "a", "backendType": "ollama", "description": "on", "maxTokens": 5}
    await store.replace(backend, spec, by="x")
    assert json.loads(file.read_text())["spec"] == spec


async def test_a_link_stays_a_link(store: FolderStore, data: Path) -> None:
    real = data / "elsewhere.yaml"
    real.write_text(TWO)
    (data / "resources" / "two.yaml").symlink_to(real)
    phi = await seen(store, "phi")
    await store.replace(phi, {**phi.spec, "priority": 11}, by="x")
    assert (data / "resources" / "two.yaml").is_symlink()
    assert real.read_text() == TWO.replace("priority: 10", "priority: 11")


async def test_what_the_rules_refuse_is_told_and_nothing_is_written(
    store: FolderStore, data: Path
) -> None:
    file = data / "resources" / "two.yaml"
    file.write_text(TWO)
    phi = await seen(store, "phi")
    with pytest.raises(Invalid) as refused:
        await store.replace(phi, {**phi.spec, "priority": -1, "targets": []}, by="x")
    errors = refused.value.more["errors"]
    assert isinstance(errors, list)
    fields = {error["field"] for error in errors}
    assert fields >= {"spec.priority", "spec.targets", "spec.backendType"}
    assert file.read_text() == TWO


async def test_what_is_deleted_goes_out_of_its_file_and_then_the_file(
    store: FolderStore, data: Path
) -> None:
    file = data / "resources" / "two.yaml"
    file.write_text(TWO)
    qwen = await seen(store, "qwen")
    await store.delete(qwen)
    assert file.read_text() == TWO[: TWO.index("---")]
    assert store.get(qwen.uid) is None
    phi = await seen(store, "phi")
    await store.delete(phi)
    assert not file.exists()
    assert list(store.list()) == []
    with pytest.raises(Missing):
        await store.delete(phi)
    with pytest.raises(Missing):
        await store.replace(phi, SIMPLE, by="x")


async def test_nothing_is_written_over_what_somebody_changed(
    store: FolderStore, data: Path
) -> None:
    file = data / "resources" / "two.yaml"
    file.write_text(TWO)
    phi = await seen(store, "phi")
    theirs = TWO.replace("priority: 10", "priority: 7")
    file.write_text(theirs)
    with pytest.raises(Changed):
        await store.replace(phi, SIMPLE, by="x")
    with pytest.raises(Changed):
        await store.delete(phi)
    assert file.read_text() == theirs
    now = await seen(store, "phi")
    assert now.resource.identity.generation == 2
    # Another document, or a comment, is no change of this one.
    file.write_text(theirs.replace("# fast", "# slow").replace("modelName: qwen", "modelName: q"))
    await store.replace(now, {**now.spec, "priority": 8}, by="x")
    assert "# slow" in file.read_text()


async def test_a_save_at_the_same_moment_is_not_lost(
    store: FolderStore, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = data / "resources" / "two.yaml"
    file.write_text(TWO)
    phi = await seen(store, "phi")
    theirs = TWO + "# saved\n"
    replaced = folder_module.edit.replaced

    def slow(*given: Any) -> str:
        made = replaced(*given)
        file.write_text(theirs)
        return made

    monkeypatch.setattr(folder_module.edit, "replaced", slow)
    with pytest.raises(Changed, match=r"two\.yaml was changed at the same moment"):
        await store.replace(phi, {**phi.spec, "priority": 8}, by="x")
    assert file.read_text() == theirs


async def test_a_broken_file_is_not_written(store: FolderStore, data: Path) -> None:
    file = data / "resources" / "two.yaml"
    file.write_text(TWO)
    await seen(store, "phi")
    file.write_text(TWO + "spec: [\n")
    broken = await seen(store, "phi", lambda one: bool(one.resource.problems))
    assert broken.spec == {}
    with pytest.raises(Conflict, match=r"put right first: two\.yaml: "):
        await store.replace(broken, SIMPLE, by="x")
    with pytest.raises(Conflict, match=r"put right first: two\.yaml: "):
        await store.delete(broken)
    assert file.read_text() == TWO + "spec: [\n"
    file.write_text(TWO)
    again = await seen(store, "phi", lambda one: not one.resource.problems)
    assert again.resource.identity.generation == broken.resource.identity.generation


async def test_a_file_without_a_spec_can_be_given_one(store: FolderStore, data: Path) -> None:
    file = data / "resources" / "a.yaml"
    head = "apiVersion: llm.athena.dev/v1alpha1\nkind: LLMBackend\nmetadata: {name: a} # a\n"
    file.write_text(head)
    backend = await seen(store, "a")
    assert backend.resource.problems
    after = await store.replace(backend, {"modelName": "a", "backendType": "ollama"}, by="x")
    assert after.resource.spec is not None
    assert file.read_text() == head + "spec:\n  modelName: a\n  backendType: ollama\n"


async def test_a_folder_that_can_not_be_written(store: FolderStore, data: Path) -> None:
    (data / "resources").rmdir()
    (data / "resources").write_text("a file\n")
    with pytest.raises(Away, match="can't be"):
        await store.create(namespace="default", name="a", spec=SIMPLE, by="x")


async def test_it_follows_files_and_statuses(
    store: FolderStore, source: FolderSource, data: Path
) -> None:
    file = data / "resources" / "two.yaml"
    woken = asyncio.create_task(store.changed(within=60))
    file.write_text(TWO)
    await woken
    phi = await seen(store, "phi")
    assert [one.resource.identity.name for one in store.list()] == ["phi", "qwen"]
    assert store.by_model("default", "qwen") is not None
    writer = FolderStatus(data / "status")
    await writer.write(phi.resource, {"observedGeneration": 1})
    settled = await store.until(
        phi.uid, lambda one: one is not None and one.resource.status is not None, within=SOON
    )
    assert settled is not None
    assert settled.resource.status == {"observedGeneration": 1}
    assert settled.version != phi.version
    listed: list[Resource] = list(await source.list(None))
    assert {one.identity.uid for one in listed} == {one.uid for one in store.list()}
    file.unlink()
    assert await store.until(phi.uid, lambda one: one is None, within=SOON) is None


async def test_many_at_once_are_all_written(store: FolderStore, data: Path) -> None:
    made = await asyncio.gather(
        *(store.create(namespace="default", name="", spec=SIMPLE, by="x") for _ in range(5))
    )
    await asyncio.gather(*(store.replace(one, SIMPLE | {"priority": 1}, by="x") for one in made))
    assert len(list((data / "resources").iterdir())) == 5
    assert {one.spec["priority"] for one in store.list()} == {1}
    backend = made[0]
    first, second = await asyncio.gather(
        store.replace(store.list()[0], SIMPLE | {"priority": 2}, by="x"),
        store.replace(store.list()[0], SIMPLE | {"priority": 3}, by="x"),
        return_exceptions=True,
    )
    assert [type(one) for one in (first, second)] == [Backend, Changed], backend
