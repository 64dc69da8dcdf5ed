"""The pause annotation makes no new generation, and a list tells it all the same."""

import pytest

from llm_operator.api import API
from llm_operator.cluster import Cluster
from llm_operator.resource.model import PAUSED
from parts.control_plane import ControlPlane
from parts.operator import Backends

pytestmark = pytest.mark.usefixtures("crd")


async def test_it_is_seen_each_time(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    backends = Backends(control_plane, namespace)
    backends.apply(backends.manifest("phi"))
    async with await API.connect() as api:
        cluster, seen = Cluster(api), []
        for value in (None, "true", "false", "true", None):
            backends.patch("phi", {"metadata": {"annotations": {PAUSED: value}}})
            (found,) = await cluster.list(namespace)
            seen.append((found.paused, found.identity.generation))
    assert seen == [(False, 1), (True, 1), (False, 1), (True, 1), (False, 1)]
