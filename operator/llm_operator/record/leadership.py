"""Which leadership may write, inside the transaction of the caller.

Statements only. The number in `llmb.leadership` never goes back: whoever finds a higher one than
its own has been deposed and owes to write nothing.
"""

from llm_operator.record.pool import Connection

#: Key of the advisory lock: writers share it, who raises the number has it alone.
LOCK = 0x6C6C6D6265706F63

_STANDING = "SELECT epoch FROM llmb.leadership"

_RAISE = """
    INSERT INTO llmb.leadership AS standing (epoch) VALUES (%s)
    ON CONFLICT (only_row) DO UPDATE
    SET epoch = EXCLUDED.epoch WHERE standing.epoch < EXCLUDED.epoch
"""


async def lead(connection: Connection, epoch: int) -> int:
    """The epoch that stands, raised to this one if it was lower; it stays until the transaction
    ends.

    NB: needs READ COMMITTED, where the second look sees what was committed while the lock was
    waited for. An advisory lock, because a lock of the row would be a write of it.
    """
    standing = await _standing(connection)
    if standing is None or standing < epoch:
        # NB: never while the shared lock is held: two who raise would wait for each other.
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        await connection.execute(_RAISE, (epoch,))
    else:
        await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (LOCK,))
    now = await _standing(connection)
    return epoch if now is None else now


async def _standing(connection: Connection) -> int | None:
    row = await (await connection.execute(_STANDING)).fetchone()
    return row[0] if row else None
