"""What anybody may see of backends, as bytes, made once for each state of one.

A list of a thousand would otherwise hold up everybody's lookups, and needs no token. Nothing is
kept of a backend but its last state.
"""

from llm_operator.admin.api.answers import encoded
from llm_operator.admin.backends import Standing
from llm_operator.admin.model import Backend

#: Backends that are remembered; past it all are forgotten, those that are gone among them.
MOST = 10_000


class Kept:
    """Public forms by uid."""

    def __init__(self) -> None:
        self._by_uid: dict[str, tuple[Backend, int | None, bytes]] = {}

    def public(self, standing: Standing) -> bytes:
        """One backend, as anybody may see it."""
        backend, number = standing.backend, standing.number
        found = self._by_uid.get(backend.uid)
        # NB: a store replaces a backend by another object whenever anything of it changes.
        if found is not None and found[0] is backend and found[1] == number:
            return found[2]
        if len(self._by_uid) >= MOST:
            self._by_uid.clear()
        told = encoded(standing.public())
        self._by_uid[backend.uid] = (backend, number, told)
        return told
