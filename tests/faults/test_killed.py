"""The operator killed by SIGKILL at every step of its work, and started again: the same end, and
nothing done twice.

Each step twice: as it is asked for (the other side never sees it), and once it is done (the
operator never learns of it).
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from llm_contract import RoutingConfig
from llm_operator import migrate
from parts.access import expect
from parts.audit import Event
from parts.boundary import COMMIT, Boundary
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.operator import Backends, Operator, rows
from parts.postgres import Postgres

pytestmark = [pytest.mark.usefixtures("crd"), pytest.mark.check(11)]
pytest_plugins = ["parts.boundary"]

#: What the operator does for a new resource, and for one that goes.
CREATING = ("finalizer", "secret", "configmap", COMMIT, "status", "handled")
DELETING = ("configmap", "secret", COMMIT, "finalizer")
#: Seconds for a step to come, and for everything to be well after a restart.
STEP, END = 20, 40

VAULT = "llm-router-credentials"
#: What differs between two writes of one thing: times, and the names that an event gets.
TIMES = frozenset({"lastTransitionTime", "eventTime", "firstTimestamp", "lastTimestamp"})


@pytest.fixture(scope="module")
def records(postgres: Postgres) -> Iterator[str]:
    """A migrated database for all these tests."""
    name = postgres.create_database()
    uri = postgres.uri_of(name)
    asyncio.run(migrate.migrate(uri, say=lambda _: None))
    yield uri
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def operator(
    control_plane: ControlPlane,
    postgres: Postgres,
    records: str,
    boundary: Boundary,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Operator]:
    """One for all these tests, which kill it and start it again; each has its own namespace."""
    name = str(conninfo_to_dict(records)["dbname"])
    made = Operator(
        control_plane,
        folder=tmp_path_factory.mktemp("operator"),
        database=postgres.uri_of(name, port=boundary.postgres_port),
        server=f"http://127.0.0.1:{boundary.api_port}",
        settings={"LLMB_RESYNC_SECONDS": "3600"},
    )
    made.start(within=END)
    yield made
    made.kill()


@pytest.fixture
def running(operator: Operator, boundary: Boundary) -> Operator:
    """As it is between two of these tests, whatever became of the one before."""
    if boundary.frozen or not operator.process.running:
        operator.kill()
        boundary.release()
        operator.start(within=END)
    return operator


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    """With the labelled Secret that `resource` refers to."""
    metadata = {"name": "tok", "labels": {"llm.athena.dev/credential": "true"}}
    with control_plane.client() as client:
        body = {"metadata": metadata, "stringData": {"token": "t-1"}}
        expect(client.post(f"/api/v1/namespaces/{namespace}/secrets", json=body))
    return Backends(control_plane, namespace)


@pytest.mark.parametrize("applied", [False, True], ids=["asked", "applied"])
@pytest.mark.parametrize("step", CREATING)
def test_killed_while_a_resource_is_new(
    running: Operator,
    backends: Backends,
    boundary: Boundary,
    records: str,
    *,
    step: str,
    applied: bool,
) -> None:
    boundary.arm(step, applied=applied)
    backends.apply(resource(backends))
    kill_at(running, boundary, step)

    def well() -> bool:
        found = backends.get("phi")["metadata"]
        assert backends.ready("phi")
        assert found["finalizers"] == ["llm.athena.dev/cleanup"]
        assert "llm.athena.dev/handled" in found["annotations"]
        return True

    eventually(well, within=END, retry=(KeyError,))
    uid = backends.get("phi")["metadata"]["uid"]
    assert [(route.uid, route.generation) for route in backends.config().routes] == [(uid, 1)]
    assert vault(backends) == {"tok_token": "t-1"}
    assert rows(records, backends.namespace) == {"phi": (1, True)}
    assert history(records, backends.namespace) == [(1, "created")]
    assert twice(running, backends) == []


@pytest.mark.parametrize("applied", [False, True], ids=["asked", "applied"])
@pytest.mark.parametrize("step", DELETING)
def test_killed_while_a_resource_goes(
    running: Operator,
    backends: Backends,
    boundary: Boundary,
    records: str,
    *,
    step: str,
    applied: bool,
) -> None:
    backends.apply(resource(backends))
    eventually(lambda: backends.ready("phi"), within=END)
    boundary.arm(step, applied=applied)
    backends.delete("phi", wait=False)
    kill_at(running, boundary, step)
    eventually(lambda: backends.items() == [], within=END)
    gone = {"phi": (1, False)}
    eventually(lambda: rows(records, backends.namespace) == gone, within=END)
    eventually(lambda: vault(backends) == {}, within=END)
    assert backends.config() == RoutingConfig()
    assert history(records, backends.namespace) == [(1, "created"), (1, "deleted")]
    assert twice(running, backends) == []


def resource(backends: Backends) -> dict[str, Any]:
    """One that needs a credential, so that every kind of write comes up."""
    target = {
        "name": "host",
        "type": "openai",
        "endpointURL": "https://host.lan",
        "auth": {"secretRef": {"name": "tok", "key": "token"}},
    }
    return backends.manifest("phi", backendType=None, endpointURL=None, targets=[target])


def kill_at(operator: Operator, boundary: Boundary, step: str) -> None:
    """Wait for the step, kill the operator there, and start it again."""
    assert boundary.reached.wait(STEP), f"the step {step} never came"
    operator.kill()
    boundary.release()
    operator.start(within=END)


def vault(backends: Backends) -> dict[str, str]:
    """What routers are given."""
    path = f"/api/v1/namespaces/{backends.namespace}/secrets/{VAULT}"
    with backends.control_plane.client() as client:
        data = expect(client.get(path)).get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def history(records: str, namespace: str) -> list[tuple[int, str]]:
    """The generations that were recorded, and what was told of each."""
    query = "SELECT generation, change FROM llmb.llm_backend_history WHERE namespace = %s"
    with psycopg.connect(records, connect_timeout=5) as connection:
        found = connection.execute(f"{query} ORDER BY id", (namespace,)).fetchall()
    return [(generation, change) for generation, change in found]


def twice(operator: Operator, backends: Backends) -> list[str]:
    """What the operator wrote more than once in a namespace: one thing with the same content."""
    assert operator.user is not None
    done = backends.control_plane.audit(
        user=operator.user.name,
        verbs=("create", "update", "patch", "delete"),
        namespace=backends.namespace,
    )
    written = [essence(event) for event in done if event.status < 300]
    assert written, "something was written"
    return sorted({one for one in written if written.count(one) > 1})


def essence(event: Event) -> str:
    """What was written where, without what differs between two writes of the same."""
    # NB: each event gets a name of its own; what it is about and says is in the body.
    name = "" if event.resource == "events" else event.name
    said = json.dumps(_timeless(event.body), sort_keys=True)
    return f"{event.verb} {event.resource}/{event.subresource} {name} {said}"


def _timeless(body: Any) -> Any:
    if isinstance(body, dict):
        named = "metadata" if body.get("kind") == "Event" else ""
        return {k: _timeless(v) for k, v in body.items() if k not in TIMES and k != named}
    return [_timeless(each) for each in body] if isinstance(body, list) else body
