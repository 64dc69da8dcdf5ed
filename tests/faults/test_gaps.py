"""What happens to resources while the operator's watch is broken off, and too old to go on."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llm_operator import migrate
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.operator import Backends, Operator, rows
from parts.proxy import Address, Proxy

pytestmark = pytest.mark.usefixtures("crd")

#: Seconds between two resyncs, and by when everything of the gap has to be made good.
RESYNC, GOOD = 3, 45


@pytest.fixture
def recorded(database: str) -> str:
    """A migrated database."""
    asyncio.run(migrate.migrate(database, say=lambda _: None))
    return database


@pytest.fixture
def proxy(control_plane: ControlPlane, make_proxy: Callable[[Address], Proxy]) -> Proxy:
    return make_proxy(("127.0.0.1", control_plane.port))


@pytest.fixture
def operator(
    control_plane: ControlPlane, recorded: str, proxy: Proxy, tmp_path: Path
) -> Iterator[Operator]:
    """One that sees the API server through the proxy, and logs what its watch does."""
    made = Operator(
        control_plane,
        folder=tmp_path,
        database=recorded,
        server=f"https://127.0.0.1:{proxy.port}",
        settings={"LLMB_RESYNC_SECONDS": str(RESYNC), "LLMB_LOG_LEVEL": "DEBUG"},
    )
    yield made
    made.kill()


@pytest.mark.check(16)
def test_what_vanished_in_a_gap_goes_with_the_next_resync(
    control_plane: ControlPlane,
    operator: Operator,
    proxy: Proxy,
    namespace: str,
    recorded: str,
) -> None:
    """kopf never learns of it: its watch begins anew with a list, which does not tell."""
    backends = Backends(control_plane, namespace)
    operator.start()
    backends.apply(backends.manifest("stays"), backends.manifest("goes"))
    eventually(lambda: backends.all_ready(2), within=15)
    proxy.stop()
    backends.patch("goes", {"metadata": {"finalizers": None}})
    backends.delete("goes")
    # NB: an API server that was started anew can't serve a watch from before its start.
    with control_plane.down(crash=True):
        pass
    proxy.start()
    back = time.monotonic()
    eventually(lambda: set(backends.urls()) == {"stays"}, within=GOOD)
    kept = {"stays": (1, True), "goes": (1, False)}
    left = GOOD - (time.monotonic() - back)
    eventually(lambda: rows(recorded, namespace) == kept, within=left)
    log = operator.folder / "operator.log"
    eventually(lambda: "Restarting the watch-stream" in log.read_text(), within=GOOD)
    backends.apply(backends.manifest("later"))
    eventually(lambda: backends.all_ready(2), within=GOOD)
    assert set(backends.urls()) == {"stays", "later"}
    assert operator.process.running
