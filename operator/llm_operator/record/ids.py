"""The number of each live resource: the id of its row, read inside the caller's transaction."""

from collections.abc import Mapping

from llm_operator.record.pool import Connection

_IDS = "SELECT uid, id FROM llmb.llm_backends WHERE deleted_at IS NULL"


async def ids(connection: Connection) -> Mapping[str, int]:
    """By the resource's uid."""
    cursor = await connection.execute(_IDS)
    return {uid: number async for uid, number in cursor}
