"""The operator when what it stands on breaks: the database, the API server, the network, itself."""

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict

from llm_contract import RoutingConfig
from llm_operator import migrate
from llm_operator.handlers import Backoffs
from parts.control_plane import CRD_FILE, ControlPlane
from parts.eventually import eventually
from parts.operator import Backends, Operator, rows
from parts.postgres import Postgres
from parts.proxy import Address, Proxy

pytestmark = pytest.mark.usefixtures("crd")

SELDOM = {"LLMB_RESYNC_SECONDS": "3600"}

LABEL = {"llm.athena.dev/credential": "true"}

#: Seconds in which everything is recorded once the database is back.
RETURN = 30

MakeOperator = Callable[..., Operator]


@pytest.fixture
def own_database(private_postgres: Postgres) -> str:
    """A migrated database on a Postgres that this test may stop."""
    uri = private_postgres.uri_of(private_postgres.create_database())
    apply_schema(uri)
    return uri


@pytest.fixture
def make_operator(control_plane: ControlPlane, tmp_path: Path) -> Iterator[MakeOperator]:
    """Make an operator that is not started; killed at the end whatever became of it."""
    made: list[Operator] = []

    def make(**fields: Any) -> Operator:
        folder = tmp_path / f"operator-{len(made)}"
        folder.mkdir()
        made.append(Operator(control_plane, folder=folder, **({"settings": SELDOM} | fields)))
        return made[-1]

    yield make
    for operator in made:
        operator.kill()


@pytest.fixture
def backends(control_plane: ControlPlane, namespace: str) -> Backends:
    return Backends(control_plane, namespace)


def apply_schema(database: str) -> None:
    asyncio.run(migrate.migrate(database, say=lambda _: None))


def routed(backends: Backends, name: str, url: str, *, within: float = 5) -> None:
    """Point a model elsewhere, and see it published and ready."""
    backends.patch(name, {"spec": {"endpointURL": url}})
    eventually(lambda: backends.urls().get(name) == url, within=within)
    eventually(lambda: backends.conditions(name).get("Ready") == "True/Ready", within=within)


# The database.


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
def test_without_a_database_routes_change_and_rows_follow_later(
    make_operator: MakeOperator,
    backends: Backends,
    private_postgres: Postgres,
    own_database: str,
    crash: bool,
) -> None:
    make_operator(database=own_database).start()
    backends.apply(backends.manifest("phi"), backends.manifest("llama"), backends.manifest("old"))
    eventually(lambda: backends.all_ready(3), within=15)
    with private_postgres.down(crash=crash):
        routed(backends, "phi", "http://new:1")
        away = "False/DatabaseUnavailable"
        eventually(lambda: backends.conditions("phi")["DatabaseSynced"] == away, within=15)
        backends.apply(backends.manifest("born"))
        backends.delete("old", wait=False)
        eventually(lambda: set(backends.urls()) == {"phi", "llama", "born"}, within=5)
    returned = time.monotonic()
    eventually(lambda: backends.all_ready(3), within=RETURN)
    expected = {"phi": (2, True), "llama": (1, True), "born": (1, True), "old": (1, False)}
    left = RETURN - (time.monotonic() - returned)
    eventually(lambda: rows(own_database, backends.namespace) == expected, within=left)


@pytest.mark.check(27)
def test_started_without_a_database(
    make_operator: MakeOperator,
    backends: Backends,
    private_postgres: Postgres,
    own_database: str,
) -> None:
    with private_postgres.down():
        operator = make_operator(database=own_database)
        operator.start()
        backends.apply(backends.manifest("phi"))
        eventually(lambda: backends.conditions("phi").get("Ready") == "True/Ready", within=10)
        away = "False/DatabaseUnavailable"
        eventually(lambda: backends.conditions("phi")["DatabaseSynced"] == away, within=15)
        assert operator.ask("healthz").is_success
    eventually(lambda: backends.ready("phi"), within=RETURN)
    assert operator.process.running


@pytest.mark.check(14)
def test_a_delete_without_a_database_ends_and_its_row_goes_later(
    make_operator: MakeOperator,
    backends: Backends,
    private_postgres: Postgres,
    own_database: str,
) -> None:
    make_operator(database=own_database).start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    with private_postgres.down():
        begun = time.monotonic()
        backends.delete("phi", wait=False)
        eventually(lambda: backends.config() == RoutingConfig(), within=5)
        eventually(lambda: backends.items() == [], within=40)
        assert time.monotonic() - begun < 30
    gone = {"phi": (1, False)}
    eventually(lambda: rows(own_database, backends.namespace) == gone, within=RETURN)


@pytest.mark.check(28)
def test_a_database_that_never_answers_delays_no_route(
    make_operator: MakeOperator,
    backends: Backends,
    postgres: Postgres,
    migrated: str,
    make_proxy: Callable[[Address], Proxy],
) -> None:
    proxy = make_proxy(postgres.socket)
    name = str(conninfo_to_dict(migrated)["dbname"])
    through = postgres.uri_of(name, port=proxy.port)
    make_operator(database=through).start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    proxy.drop()
    for number in range(3):
        routed(backends, "phi", f"http://host:{number + 1}", within=3)
    away = "False/DatabaseUnavailable"
    eventually(lambda: backends.conditions("phi")["DatabaseSynced"] == away, within=30)
    proxy.heal()
    eventually(lambda: backends.ready("phi"), within=RETURN)


def test_an_older_schema_is_told_until_it_is_migrated(
    make_operator: MakeOperator, backends: Backends, database: str
) -> None:
    make_operator(database=database).start()
    backends.apply(backends.manifest("phi"))
    eventually(
        lambda: backends.conditions("phi").get("DatabaseSynced") == "False/SchemaOutdated",
        within=15,
    )
    assert backends.conditions("phi")["Ready"] == "True/Ready"
    apply_schema(database)
    eventually(lambda: backends.ready("phi"), within=RETURN)


# The API server.


def test_the_api_server_restarts(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    operator = make_operator(database=migrated)
    operator.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    with control_plane.down(crash=True):
        eventually(lambda: operator.ask("healthz").is_success, within=2)
    backends.apply(backends.manifest("llama"))
    # NB: by the watch; the resync is an hour away.
    eventually(lambda: backends.ready("llama"), within=45)
    routed(backends, "phi", "http://new:1")
    assert operator.process.running


def test_a_credential_is_followed_through_a_restart_of_the_api_server(
    make_operator: MakeOperator, control_plane: ControlPlane, namespace: str, migrated: str
) -> None:
    make_operator(database=migrated).start()
    backends = Backends(control_plane, namespace)
    put_token(backends, "1")
    target = {
        "name": "host",
        "type": "openai",
        "endpointURL": "https://host.lan",
        "auth": {"secretRef": {"name": "tok", "key": "token"}},
    }
    backends.apply(backends.manifest("phi", backendType=None, endpointURL=None, targets=[target]))
    eventually(lambda: backends.ready("phi"), within=10)
    assert given(backends) == "1"
    for value, crash in (("2", False), ("3", True)):
        with control_plane.down(crash=crash):
            pass
        put_token(backends, value)
        eventually(lambda value=value: given(backends) == value, within=40)


def put_token(backends: Backends, value: str) -> None:
    """Create or change the Secret `tok`."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tok", "namespace": backends.namespace, "labels": LABEL},
        "stringData": {"token": value},
    }
    # NB: fresh from its start the API server refuses writes until it knows who may do what.
    eventually(lambda: backends.apply(manifest) or True, within=20, every=0.5)


def given(backends: Backends) -> str:
    """The value of `tok` that routers have."""
    path = f"/api/v1/namespaces/{backends.namespace}/secrets/llm-router-credentials"
    with backends.control_plane.client() as client:
        data = client.get(path).raise_for_status().json()["data"]
    return base64.b64decode(data["tok_token"]).decode()


def test_started_before_the_api_server(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    operator = make_operator(database=migrated)
    operator.start()
    assert operator.end() == 0
    with control_plane.down():
        operator.start(ready=False)
        eventually(lambda: operator.logged("waiting_for_api_server"), within=10)
        healthy = eventually(
            lambda: operator.ask("healthz"), within=5, retry=(httpx.TransportError,)
        )
        assert healthy.is_success
        assert not operator.ready()
    eventually(operator.ready, within=30)
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)


def test_ended_while_it_waits_for_the_api_server(
    control_plane: ControlPlane, make_operator: MakeOperator, migrated: str
) -> None:
    operator = make_operator(database=migrated)
    operator.start()
    assert operator.end() == 0
    with control_plane.down():
        operator.start(ready=False)
        eventually(lambda: operator.ask("healthz"), within=10, retry=(httpx.TransportError,))
        assert operator.end(within=5) == 0


def test_without_its_crd_it_ends_and_the_next_one_waits(
    control_plane: ControlPlane, make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    operator = make_operator(database=migrated)
    operator.start()
    name = "llmbackends.llm.athena.dev"
    try:
        control_plane.kubectl("delete", "crd", name, "--timeout=20s")
        eventually(lambda: not operator.process.running, within=30)
        assert operator.process.popen.returncode == 1
        operator.start(ready=False)
        told = eventually(lambda: operator.logged("waiting_for_api_server"), within=10)
        assert "install crds/llmbackends.yaml" in told[-1]["detail"]
    finally:
        control_plane.kubectl("apply", "--server-side", "-f", CRD_FILE)
        # NB: not `kubectl wait`, which fails on a definition that has no conditions yet.
        eventually(lambda: control_plane.kubectl("get", "-A", "llmbackends"), within=20)
    eventually(operator.ready, within=30)
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)


@pytest.mark.parametrize("fault", ["reset", "stopped", "half-open"])
def test_the_way_to_the_api_server_breaks(
    control_plane: ControlPlane,
    make_operator: MakeOperator,
    backends: Backends,
    migrated: str,
    make_proxy: Callable[[Address], Proxy],
    fault: str,
) -> None:
    proxy = make_proxy(("127.0.0.1", control_plane.port))
    server = f"https://127.0.0.1:{proxy.port}"
    operator = make_operator(database=migrated, server=server)
    operator.start()
    backends.apply(backends.manifest("phi"))
    eventually(lambda: backends.ready("phi"), within=10)
    match fault:
        case "reset":
            proxy.reset()
        case "stopped":
            proxy.stop()
            backends.patch("phi", {"spec": {"endpointURL": "http://unseen:1"}})
            proxy.start()
        case "half-open":
            proxy.drop()
            backends.patch("phi", {"spec": {"endpointURL": "http://unseen:1"}})
            proxy.heal()
    backends.apply(backends.manifest("llama"))
    eventually(lambda: backends.all_ready(2), within=30)
    assert operator.process.running


@pytest.mark.check(34)
def test_an_api_server_is_never_given_up() -> None:
    pauses = iter(Backoffs())
    taken = [next(pauses) for _ in range(1000)]
    assert taken[0] <= 1
    assert 15 <= taken[-1] <= 30
    assert len(set(taken[-100:])) > 50, "many operators must not come back together"
    assert not hasattr(Backoffs(), "__len__")


# Itself.


@pytest.mark.check(11)
def test_killed_in_the_middle_of_a_burst(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    operator = make_operator(database=migrated)
    operator.start()
    names = [f"m{number:02}" for number in range(60)]
    for part in range(3):
        chosen = names[part * 20 : part * 20 + 20]
        backends.apply(*(backends.manifest(name) for name in chosen))
        eventually(backends.urls, within=5)
        operator.kill()
        operator.start(ready=False)
    eventually(lambda: backends.all_ready(60), within=60, every=0.3)
    assert set(backends.urls()) == set(names)
    assert rows(migrated, backends.namespace) == dict.fromkeys(names, (1, True))


@pytest.mark.check(36)
def test_ended_in_the_middle_of_a_burst(
    make_operator: MakeOperator, backends: Backends, migrated: str
) -> None:
    operator = make_operator(database=migrated)
    operator.start()
    backends.apply(*(backends.manifest(f"m{number:02}") for number in range(60)))
    begun = time.monotonic()
    assert operator.end(within=10) == 0
    assert time.monotonic() - begun < 10
    operator.start()
    eventually(lambda: backends.all_ready(60), within=60, every=0.3)
