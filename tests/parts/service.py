"""An admin API with everything behind it, in a cluster and standalone: the same tests ask both.

    def test_x(api: httpx.Client, made: Callable[..., Body]) -> None:    # once for each of them
        backend = made(priority=7)
        assert api.get(f"/{backend['id']}").json()["priority"] == 7

In a cluster everything is real: the API server's TokenReview and RBAC, the operator and `llmb
admin` as processes of their own with the shipped rights, Postgres. Standalone is `llmb up` whole.
One of each serves all tests of a file, so a test makes the backends it needs, of models of its own.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_operator import migrate
from parts.access import User, expect
from parts.admin import Admin, client, rules
from parts.control_plane import ControlPlane, empty
from parts.operator import Operator
from parts.postgres import Postgres
from parts.up import folder

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Service:
    """An admin API and a token that may do everything there."""

    url: str
    token: str

    def client(self) -> httpx.Client:
        """With the token, for a `with`."""
        return client(self.url, self.token)


@dataclass(frozen=True, slots=True)
class Cluster(Service):
    """And what is around it in a cluster.

    Attributes:
        namespace: the one that operator and admin serve.
        reader: may see all backends.
        router: may send usage, and no more.
        stranger: may nothing.
    """

    control_plane: ControlPlane
    namespace: str
    operator: Operator
    admin: Admin
    reader: User
    router: User
    stranger: User


@contextmanager
def cluster_of(control_plane: ControlPlane, postgres: Postgres, folder: Path) -> Iterator[Cluster]:
    """A namespace with an operator and an admin of its own."""
    namespace = f"test-{uuid.uuid4().hex[:10]}"
    with control_plane.client() as administrator:
        expect(administrator.post("/api/v1/namespaces", json={"metadata": {"name": namespace}}))
    name = postgres.create_database()
    database = postgres.uri_of(name)
    asyncio.run(migrate.migrate(database, say=lambda _: None))
    writer, reader, router, stranger = (
        control_plane.create_user(each) for each in ("writer", "reader", "router", "stranger")
    )
    for user in (writer, reader):
        control_plane.allow(user, rules("llm-backend-view"))
    control_plane.allow(writer, rules("llm-backend-edit"), namespace=namespace)
    usage = rules("llm-backend-usage", file="components/admin/usage.yaml")
    for user in (writer, router):
        control_plane.allow(user, usage, namespace="default")
    served = {"LLMB_NAMESPACES": namespace}
    operator = Operator(control_plane, folder=folder, database=database, settings=served)
    admin = Admin(control_plane, folder=folder, database=database, settings=served)
    try:
        operator.start()
        admin.start()
        for user in (writer, reader, router, stranger):
            # NB: known from here on, so that no test's wrong tokens hold them up.
            with admin.client(user) as known:
                assert known.get("").status_code != httpx.codes.UNAUTHORIZED
        yield Cluster(
            url=admin.url,
            token=writer.token,
            control_plane=control_plane,
            namespace=namespace,
            operator=operator,
            admin=admin,
            reader=reader,
            router=router,
            stranger=stranger,
        )
    finally:
        admin.kill()
        operator.kill()
        empty(control_plane, namespace)
        postgres.drop_database(name)


@pytest.fixture(scope="module")
def cluster(
    control_plane: ControlPlane,
    crd: object,
    postgres: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """One for this file."""
    with cluster_of(control_plane, postgres, tmp_path_factory.mktemp("contract")) as made:
        yield made


@pytest.fixture(scope="module")
def standalone(part_folder: Path) -> Iterator[Service]:
    """One for this file."""
    with folder(part_folder) as up:
        up.start()
        yield Service(up.admin, up.token)


@pytest.fixture(params=["cluster", "standalone"])
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def api(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture
def made(api: httpx.Client) -> Iterator[Callable[..., Body]]:
    """Make backends, of models that no other test has; deleted at the end."""
    ids: list[int] = []

    def make(model: str = "", **fields: object) -> Body:
        given = {
            "model_name": model or fresh(),
            "backend_type": "ollama",
            "endpoint_url": "http://ollama.lan:11434",
        }
        answer = api.post("", json=given | fields)
        assert answer.status_code == 201, answer.text
        document: Body = answer.json()
        ids.append(document["id"])
        return document

    yield make
    for number in ids:
        api.delete(f"/{number}")


def fresh() -> str:
    """A model that nobody has."""
    return f"phi3-{uuid.uuid4().hex[:8]}:mini"


def refused(answer: httpx.Response, status: int, detail: str | None = None) -> str:
    """Check an error; what it says."""
    assert answer.status_code == status, answer.text
    told = answer.json()["detail"]
    assert isinstance(told, str)
    assert told
    if detail is not None:
        assert told == detail
    return told
