"""What an error of Postgres means for the record.

Pure: a SQLSTATE, or its absence, decides; the text of a message never does.
"""

from enum import Enum, auto

import psycopg


class Fault(Enum):
    """What to do about an error.

    AWAY: nobody can be served now: not reachable, no answer in time, starting, stopping, full,
    read-only.
    OUTDATED: the schema lacks what this release needs.
    HELD: the server is well but could not do this one thing: a lock held by others, a missing
    right.
    """

    AWAY = auto()
    OUTDATED = auto()
    HELD = auto()


#: undefined_table, undefined_column, undefined_function, invalid_schema_name
_OUTDATED = frozenset({"42P01", "42703", "42883", "3F000"})
#: read_only_sql_transaction: a standby answers where the primary was
_READ_ONLY = "25006"
#: connection, authorization, no such database, resources, operator intervention and timeouts,
#: system, internal
_AWAY = ("08", "28", "3D", "53", "57", "58", "XX")


def fault(error: psycopg.Error) -> Fault:
    """Which of the three an error is."""
    state = error.sqlstate
    if state in _OUTDATED:
        return Fault.OUTDATED
    # NB: no SQLSTATE means no server said it: a connection lost or never made, a pool that had none
    # in time.
    if state is None or state == _READ_ONLY or state.startswith(_AWAY):
        return Fault.AWAY
    return Fault.HELD
