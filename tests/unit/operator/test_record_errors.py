"""What a Postgres error means: the server away, the schema old, or this one thing held."""

import psycopg
import pytest
from psycopg import errors
from psycopg_pool import PoolTimeout

from llm_operator.record.faults import Fault, fault


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the connection is closed"),
        PoolTimeout("couldn't get a connection after 3.00 sec"),
        errors.AdminShutdown(),
        errors.CannotConnectNow(),
        errors.ConnectionFailure(),
        errors.DiskFull(),
        errors.InvalidCatalogName(),
        errors.InvalidPassword(),
        errors.QueryCanceled(),
        errors.ReadOnlySqlTransaction(),
        errors.TooManyConnections(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_away(error: psycopg.Error) -> None:
    assert fault(error) is Fault.AWAY


@pytest.mark.parametrize(
    "error",
    [errors.UndefinedTable(), errors.UndefinedColumn(), errors.InvalidSchemaName()],
    ids=lambda error: type(error).__name__,
)
def test_outdated(error: psycopg.Error) -> None:
    assert fault(error) is Fault.OUTDATED


@pytest.mark.parametrize(
    "error",
    [
        errors.LockNotAvailable(),
        errors.DeadlockDetected(),
        errors.SerializationFailure(),
        errors.InsufficientPrivilege(),
        errors.UniqueViolation(),
        errors.NumericValueOutOfRange(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_held(error: psycopg.Error) -> None:
    assert fault(error) is Fault.HELD
