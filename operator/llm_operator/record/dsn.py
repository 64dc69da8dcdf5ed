"""A database URL -> a connection string with limits on every wait.

It never connects, and no message of it holds any part of the URL, which holds the password.
"""

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

#: Bounds on connecting and on a peer that no longer acknowledges. What the URL says itself wins.
LIMITS: dict[str, str | int] = {
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class InvalidDatabaseURL(ValueError):
    """The database URL can't be used; the message says what to do and quotes none of it."""


def conninfo(dsn: str, *, application_name: str) -> str:
    """The connection string.

    Raises:
        InvalidDatabaseURL: it is empty, no connection string, or has an @ in the password.
    """
    if not dsn.strip():
        raise InvalidDatabaseURL(
            "the database URL is empty: postgresql://USER:PASSWORD@HOST:PORT/NAME"
        )
    try:
        given = conninfo_to_dict(dsn)
    except ProgrammingError:
        # NB: libpq's message quotes the string, so it is not chained.
        raise InvalidDatabaseURL(
            "the database URL is no Postgres connection string: write it as "
            "postgresql://USER:PASSWORD@HOST:PORT/NAME with special characters percent-encoded"
        ) from None
    if "@" in str(given.get("host") or ""):
        # NB: libpq ends the password at the first `@`; what is left would show as a host.
        raise InvalidDatabaseURL(
            "the database URL has an @ in the user name or password: write it as %40"
        )
    known = {name: value for name, value in given.items() if value is not None}
    return make_conninfo("", **{**LIMITS, "application_name": application_name, **known})
