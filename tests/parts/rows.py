"""What tests of the record share: a look at Postgres beside it, and resources to be recorded."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from psycopg import AsyncConnection

from llm_operator.resource.model import BackendType, Identity, Resource, Spec

Rows = list[tuple[Any, ...]]
Query = Callable[..., Awaitable[Rows]]

SPEC = Spec(
    model_name="phi3:mini",
    backend_type=BackendType.AUTO,
    endpoint_url="http://mac:8080",
    temperature=0.0,
    description="Fast",
)


def resource(
    name: str = "phi",
    *,
    uid: str = "",
    generation: int = 1,
    namespace: str = "prod",
    **fields: Any,
) -> Resource:
    """One resource; `fields` are those of its spec."""
    identity = Identity(
        namespace=namespace, name=name, uid=uid or f"u-{name}", generation=generation
    )
    return Resource(identity=identity, spec=replace(SPEC, **fields))


@asynccontextmanager
async def querying(uri: str) -> AsyncIterator[Query]:
    """Run statements of a test, each committed at once."""
    async with await AsyncConnection.connect(uri, autocommit=True) as connection:

        async def run(statement: str, *values: object) -> Rows:
            cursor = await connection.execute(statement, values or None)
            return await cursor.fetchall() if cursor.description else []

        yield run
