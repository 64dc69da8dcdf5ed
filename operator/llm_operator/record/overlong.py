"""A statement that Postgres gave up because its time was over, told apart from a Postgres that is
away: others are served meanwhile, and waiting helps nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.errors import QueryCanceled


class Overlong(Exception):
    """There is more to read than a statement has time for."""


@contextmanager
def bounded() -> Iterator[None]:
    """Statements in the block that run out of time raise `Overlong`.

    NB: as a `psycopg.Error` it would open the breaker, and one large question would turn all others
    away.
    """
    try:
        yield
    except QueryCanceled:
        raise Overlong from None
