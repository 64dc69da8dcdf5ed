"""The admin's store while the API server is away, cut off, silent, or has forgotten."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml

from llm_operator import api as api_module
from llm_operator.admin.errors import Away
from llm_operator.admin.store.cluster import ClusterStore
from llm_operator.api import API
from parts.control_plane import ControlPlane
from parts.eventually import eventually_async
from parts.fake_api import FakeAPI
from parts.operator import Backends
from parts.proxy import Address, Proxy

pytest_plugins = ["parts.fake_api"]

pytestmark = [pytest.mark.timeout(180)]

#: Seconds for what takes a moment on a machine that is not busy.
SOON = 30

SIMPLE = {"modelName": "phi3:mini", "backendType": "ollama"}


@asynccontextmanager
async def opened(kubeconfig: Path, *, namespace: str = "") -> AsyncIterator[ClusterStore]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        async with await API.connect() as connected:
            namespaces = frozenset([namespace] if namespace else [])
            store = ClusterStore(connected, namespace="default", namespaces=namespaces)
            following = asyncio.create_task(store.run())
            try:
                yield store
                # NB: a connection that is only just being made would outlast whoever made it.
                await eventually_async(lambda: store.fresh, within=SOON)
            finally:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following


def names(store: ClusterStore) -> set[str]:
    return {one.resource.identity.name for one in store.held()}


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    return Backends(control_plane, namespace)


@pytest.fixture
def proxy(make_proxy: Callable[[Address], Proxy], control_plane: ControlPlane) -> Proxy:
    return make_proxy(("127.0.0.1", control_plane.port))


@pytest.fixture
def through(control_plane: ControlPlane, proxy: Proxy) -> Path:
    return control_plane.write_kubeconfig(server=f"https://127.0.0.1:{proxy.port}")


@pytest.mark.usefixtures("crd")
async def test_the_last_copy_stays_while_the_api_server_is_down(
    control_plane: ControlPlane, backends: Backends
) -> None:
    backends.apply(backends.manifest("phi"))
    async with opened(control_plane.kubeconfig, namespace=backends.namespace) as store:
        await eventually_async(lambda: names(store) == {"phi"}, within=SOON)
        (phi,) = store.list()
        await asyncio.to_thread(control_plane.stop)
        try:
            await eventually_async(lambda: not store.fresh, within=SOON)
            assert list(store.list()) == [phi]
            assert store.by_model(None, "phi") is phi
            with pytest.raises(Away):
                await store.create(namespace=backends.namespace, name="b", spec=SIMPLE, by="x")
            with pytest.raises(Away):
                await store.replace(phi, SIMPLE, by="x")
            with pytest.raises(Away):
                await store.delete(phi)
        finally:
            await asyncio.to_thread(control_plane.start)
        await asyncio.to_thread(backends.apply, backends.manifest("after"))
        await eventually_async(lambda: names(store) == {"phi", "after"}, within=SOON)
        await eventually_async(lambda: store.fresh, within=SOON)
        await store.replace(phi, SIMPLE, by="x")


@pytest.mark.usefixtures("crd")
async def test_nothing_can_be_read_before_the_api_server_was_ever_there(
    proxy: Proxy, through: Path, backends: Backends
) -> None:
    proxy.stop()
    backends.apply(backends.manifest("phi"))
    async with opened(through, namespace=backends.namespace) as store:
        before = proxy.accepted
        with pytest.raises(Away):
            store.list()
        assert not store.fresh
        proxy.start()
        await eventually_async(lambda: store.fresh and names(store) == {"phi"}, within=SOON)
        assert proxy.accepted > before


@pytest.mark.usefixtures("crd")
async def test_a_cut_loses_nothing(proxy: Proxy, through: Path, backends: Backends) -> None:
    for name in ("a", "b"):
        backends.apply(backends.manifest(name))
    async with opened(through, namespace=backends.namespace) as store:
        await eventually_async(lambda: names(store) == {"a", "b"}, within=SOON)
        for cut in range(3):
            # NB: asyncio's server loses what it takes in the moment in which it is closed.
            await eventually_async(lambda: store.fresh, within=SOON)
            proxy.stop()
            await asyncio.to_thread(backends.apply, backends.manifest(f"new-{cut}"))
            await asyncio.to_thread(backends.patch, "a", {"spec": {"priority": cut}})
            proxy.start()
            await eventually_async(lambda cut=cut: f"new-{cut}" in names(store), within=SOON)
        backends_left = {"a", "new-0", "new-1", "new-2"}
        proxy.reset()
        await asyncio.to_thread(backends.delete, "b")
        await eventually_async(lambda: names(store) == backends_left, within=SOON)
        found = store.by_model(None, "a")
        assert found is not None
        assert found.spec["priority"] == 2


@pytest.mark.usefixtures("crd")
async def test_silence_is_noticed(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, through: Path, backends: Backends
) -> None:
    # NB: less than the API server's own bookmarks need, so that a watch without news ends too.
    short = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=4)
    monkeypatch.setattr(api_module, "WATCH_TIMEOUT", short)
    monkeypatch.setattr(api_module, "TIMEOUT", aiohttp.ClientTimeout(total=4))
    backends.apply(backends.manifest("phi"))
    async with opened(through, namespace=backends.namespace) as store:
        await eventually_async(lambda: names(store) == {"phi"}, within=SOON)
        proxy.drop()
        await eventually_async(lambda: not store.fresh, within=SOON)
        await asyncio.to_thread(backends.apply, backends.manifest("after"))
        assert names(store) == {"phi"}
        proxy.heal()
        await eventually_async(lambda: names(store) == {"phi", "after"}, within=SOON)


# What a real API server can't be told to do.


@pytest.fixture
def kubeconfig(fake_api: FakeAPI, tmp_path: Path) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": fake_api.url}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


async def test_a_version_that_is_too_old_is_answered_by_a_list(
    fake_api: FakeAPI, kubeconfig: Path
) -> None:
    fake_api.create("a")
    fake_api.create("b")
    async with opened(kubeconfig) as store:
        await eventually_async(lambda: names(store) == {"a", "b"} and fake_api.watched, within=SOON)
        listed = fake_api.listed
        fake_api.vanish("b")
        fake_api.tell_error(410)
        await eventually_async(lambda: names(store) == {"a"}, within=SOON)
        assert fake_api.listed > listed
        await eventually_async(lambda: store.fresh and fake_api.watched, within=SOON)
        fake_api.create("c")
        await eventually_async(lambda: names(store) == {"a", "c"}, within=SOON)


async def test_lists_that_fail_are_tried_for_ever(fake_api: FakeAPI, kubeconfig: Path) -> None:
    fake_api.create("a")
    fake_api.failing = 2
    async with opened(kubeconfig) as store:
        await eventually_async(lambda: names(store) == {"a"}, within=SOON)
        await eventually_async(lambda: fake_api.watched, within=SOON)
        fake_api.failing = 2
        fake_api.vanish("a")
        fake_api.create("b")
        fake_api.tell_error(500)
        await eventually_async(lambda: names(store) == {"b"}, within=SOON)


async def test_a_watch_that_ends_at_once_each_time_is_no_storm(
    fake_api: FakeAPI, kubeconfig: Path
) -> None:
    fake_api.create("a")
    async with opened(kubeconfig) as store:
        for turn in range(5):
            await eventually_async(lambda: fake_api.watched, within=SOON)
            fake_api.end_watches()
            await eventually_async(lambda: not fake_api.watched, within=SOON)
            assert fake_api.listed <= turn + 2
        fake_api.create("b")
        await eventually_async(lambda: names(store) == {"a", "b"}, within=SOON)


async def test_what_nobody_can_read_ends_no_following(fake_api: FakeAPI, kubeconfig: Path) -> None:
    fake_api.create("a")
    async with opened(kubeconfig) as store:
        await eventually_async(lambda: names(store) == {"a"} and fake_api.watched, within=SOON)
        fake_api._send({"type": "ADDED", "object": {"metadata": {}}})
        fake_api.create("b")
        await eventually_async(lambda: names(store) == {"a", "b"} and store.fresh, within=SOON)
