"""What the record was asked about one namespace, and what it answered.

It remembers what left a listing until its row is seen gone, because a database that is away then
could not be told. It never lists, never waits and never decides when to ask again.
"""

from collections.abc import Sequence
from dataclasses import replace

from llm_operator.ports import Recorder
from llm_operator.reasons import DatabaseSynced
from llm_operator.resource.model import Resource

#: The answers after which asking again helps.
UNSERVED = frozenset({DatabaseSynced.DATABASE_UNAVAILABLE, DatabaseSynced.SCHEMA_OUTDATED})


class Ledger:
    """One namespace's side of the record."""

    def __init__(self, namespace: str, recorder: Recorder) -> None:
        self._namespace = namespace
        self._recorder = recorder
        self._listing: Sequence[Resource] = ()
        #: Out of the listing, with a row that was not seen gone.
        self._leaving: dict[str, Resource] = {}
        #: uid -> the generation asked about, and the answer.
        self._answers: dict[str, tuple[int, DatabaseSynced]] = {}
        #: Being deleted, and the row is gone.
        self._forgotten: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Nothing is left to be recorded."""
        return not self._listing and not self._leaving

    def take(self, listing: Sequence[Resource]) -> None:
        """Go by this listing from now on."""
        listed = {resource.identity.uid for resource in listing}
        for resource in self._listing:
            uid = resource.identity.uid
            if uid not in listed and uid not in self._forgotten:
                self._leaving[uid] = replace(resource, deleting=True)
        self._listing = listing

    async def record(self) -> bool:
        """Bring the rows in line with the listing. Returns False when asking again helps."""
        asked = (*self._listing, *self._leaving.values())
        answers = await self._recorder.sync(self._namespace, asked)
        self._answers = {
            resource.identity.uid: (resource.identity.generation, answers[resource.identity.uid])
            for resource in asked
            if resource.identity.uid in answers
        }
        self._forgotten = frozenset(
            resource.identity.uid
            for resource in asked
            if resource.deleting and answers.get(resource.identity.uid) is DatabaseSynced.SYNCED
        )
        for uid in self._forgotten:
            self._leaving.pop(uid, None)
        return UNSERVED.isdisjoint(answers.values())

    def answer(self, resource: Resource) -> DatabaseSynced | None:
        """What the record said of this generation; None when it has not been asked."""
        generation, answer = self._answers.get(resource.identity.uid, (None, None))
        return answer if generation == resource.identity.generation else None

    def forgot(self, uid: str) -> bool:
        """Whether a resource that is being deleted has no row any more, as far as was asked."""
        known = uid in self._leaving or any(r.identity.uid == uid for r in self._listing)
        return uid in self._forgotten or not known
