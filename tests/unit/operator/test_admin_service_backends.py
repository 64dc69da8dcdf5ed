"""Writes and lookups of the admin service: decisions, and what comes in between."""

import asyncio
from typing import Any

import pytest

from llm_operator.admin import backends, numbers
from llm_operator.admin.backends import Backends
from llm_operator.admin.errors import Away, Changed, Conflict, Forbidden, Invalid, Missing
from llm_operator.admin.numbers import Numbers
from parts.admin_memory import ME, SPEC, generation, memory
from parts.admin_memory import Memory as Behind
from parts.eventually import eventually_async

#: Of a resource that Argo CD made.
MARKS = {"argocd.argoproj.io/tracking-id": "shop:llm.athena.dev/LLMBackend:home/phi3-mini"}
BODY = {"model_name": "phi3:mini", "backend_type": "ollama"}


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Behind:
    monkeypatch.setattr(numbers, "PAUSE", 0.01)
    monkeypatch.setattr(backends, "BETWEEN", 0.05)
    return memory(wait=0.2)


class TestCreate:
    async def test_it_is_told_once_it_is_taken(self, behind: Behind) -> None:
        made = await behind.admin.backends.create(ME, BODY)
        assert (made.number, made.shown()["state"]) == (1, "accepted")

    async def test_without_an_operator_it_is_pending(self, behind: Behind) -> None:
        behind.store.taking = False
        made = await behind.admin.backends.create(ME, BODY)
        assert made.shown()["state"] == "pending"

    async def test_its_number_is_waited_for(
        self, behind: Behind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[dict[str, int]] = [{}, {}]
        ids = behind.archive.ids

        async def late() -> Any:
            return told.pop() if told else await ids()

        monkeypatch.setattr(behind.archive, "ids", late)
        asking = Backends(gate=behind.gate, store=behind.store, archive=behind.archive, wait=10)
        assert (await asking.create(ME, BODY)).number == 1
        assert told == []

    async def test_without_postgres_it_is_made_all_the_same(self, behind: Behind) -> None:
        behind.archive.away = True
        made = await behind.admin.backends.create(ME, BODY)
        assert (made.number, made.shown()["state"]) == (None, "accepted")

    async def test_two_at_once_make_one(self, behind: Behind) -> None:
        both = await asyncio.gather(
            *(behind.admin.backends.create(ME, {**BODY, "name": name}) for name in ("a", "b")),
            return_exceptions=True,
        )
        assert [type(one).__name__ for one in both] == ["Standing", "Conflict"]
        assert len(behind.store.list()) == 1

    async def test_another_namespace_may_have_the_model_too(self, behind: Behind) -> None:
        await behind.admin.backends.create(ME, BODY)
        await behind.admin.backends.create(ME, {**BODY, "namespace": "away"})
        assert len(behind.store.list()) == 2

    async def test_an_alias_claims_no_model(self, behind: Behind) -> None:
        behind.store.add({**SPEC, "modelName": "m", "aliases": ["phi3:mini"]})
        await behind.admin.backends.create(ME, BODY)
        found = await behind.admin.backends.lookup("phi3:mini")
        assert found.backend.model == "phi3:mini"

    @pytest.mark.parametrize("field", ["name", "namespace"])
    async def test_names_are_text(self, behind: Behind, field: str) -> None:
        with pytest.raises(Invalid, match=f"{field}: must be text"):
            await behind.admin.backends.create(ME, {**BODY, field: 5})

    async def test_the_right_is_of_the_namespace(self, behind: Behind) -> None:
        behind.gate.denied = {("create", "away")}
        with pytest.raises(Forbidden, match=r"create .* in namespace away"):
            await behind.admin.backends.create(ME, {**BODY, "namespace": "away"})
        assert behind.store.list() == ()


class TestUpdate:
    async def test_a_change_in_between_is_kept(self, behind: Behind) -> None:
        backend = behind.store.add(SPEC)

        def once() -> None:
            behind.store.before = lambda: None
            behind.store.change(backend, {**SPEC, "priority": 7})

        behind.store.before = once
        done = await behind.admin.backends.update(ME, backend.uid, {"max_tokens": 5})
        assert done.backend.spec == {**SPEC, "priority": 7, "maxTokens": 5}

    async def test_with_a_match_it_is_refused_instead(self, behind: Behind) -> None:
        backend = behind.store.add(SPEC)
        behind.store.before = lambda: behind.store.change(backend, {**SPEC, "priority": 7}) and None
        with pytest.raises(Changed):
            await behind.admin.backends.update(
                ME, backend.uid, {"max_tokens": 5}, match=lambda _: True
            )
        assert "maxTokens" not in behind.store.list()[0].spec

    @pytest.mark.parametrize("what", ["update", "delete"])
    async def test_it_does_not_go_on_for_ever(self, behind: Behind, what: str) -> None:
        backend = behind.store.add(SPEC)
        count = iter(range(1, 1000))

        def always() -> None:
            behind.store.change(backend, {**SPEC, "priority": next(count)})

        behind.store.before = always
        ask = behind.admin.backends
        with pytest.raises(Changed, match="all the time"):
            await (
                ask.delete(ME, backend.uid)
                if what == "delete"
                else ask.update(ME, backend.uid, {"max_tokens": 5})
            )
        assert next(count) == backends.TRIES + 1

    async def test_a_delete_takes_a_change_in_between_along(self, behind: Behind) -> None:
        backend = behind.store.add(SPEC)

        def once() -> None:
            behind.store.before = lambda: None
            behind.store.change(backend, {**SPEC, "priority": 7})

        behind.store.before = once
        await behind.admin.backends.delete(ME, backend.uid)
        assert behind.store.list() == ()

    async def test_what_is_gone_in_between_is_missing(self, behind: Behind) -> None:
        backend = behind.store.add(SPEC)
        behind.store.before = lambda: behind.store.remove(backend)
        with pytest.raises(Missing):
            await behind.admin.backends.update(ME, backend.uid, {"max_tokens": 5})

    async def test_no_change_is_no_write(self, behind: Behind) -> None:
        backend = behind.store.add(SPEC)
        behind.store.before = pytest.fail
        await behind.admin.backends.update(ME, backend.uid, {"priority": 100, "name": "phi3-mini"})
        assert behind.store.list() == (backend,)

    async def test_the_model_of_another_is_a_conflict(self, behind: Behind) -> None:
        behind.store.add({**SPEC, "modelName": "taken"})
        backend = behind.store.add(SPEC)
        with pytest.raises(Conflict, match="already exists for model: taken"):
            await behind.admin.backends.update(ME, backend.uid, {"model_name": "taken"})

    @pytest.mark.parametrize("more", [{"name": "x"}, {"namespace": "x"}])
    async def test_it_keeps_its_name(self, behind: Behind, more: dict[str, Any]) -> None:
        backend = behind.store.add(SPEC)
        with pytest.raises(Invalid, match="make a new one instead"):
            await behind.admin.backends.update(ME, backend.uid, more)

    async def test_one_off_by_no_boolean_is_switched_on(self, behind: Behind) -> None:
        backend = behind.store.add({**SPEC, "enabled": "no"})
        done = await behind.admin.backends.toggle(ME, backend.uid)
        assert done.backend.spec["enabled"] is True

    async def test_an_earlier_generation(self, behind: Behind) -> None:
        backend = behind.store.add({**SPEC, "maxTokens": 5})
        behind.archive.generations = [generation(3, {**SPEC, "maxTokens": 3})]
        done = await behind.admin.backends.restore(ME, backend.uid, 3)
        assert done.backend.spec["maxTokens"] == 3
        for never in (2, 4):
            with pytest.raises(Missing, match=f"generation {never} is not in the history"):
                await behind.admin.backends.restore(ME, backend.uid, never)

    async def test_a_copy_that_does_not_follow_hides_no_write(
        self, behind: Behind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = behind.store.add(SPEC)
        replace = behind.store.replace

        async def unseen(*given: Any, **more: Any) -> Any:
            written = await replace(*given, **more)
            behind.store.put([backend])
            return written

        monkeypatch.setattr(behind.store, "replace", unseen)
        done = await behind.admin.backends.update(ME, backend.uid, {"max_tokens": 5})
        assert done.backend.spec["maxTokens"] == 5


class TestManaged:
    async def test_a_write_tells_the_yaml_and_is_none(self, behind: Behind) -> None:
        backend = behind.store.add(SPEC, annotations=MARKS)
        behind.store.before = pytest.fail
        with pytest.raises(Conflict, match="managed by Argo CD") as refused:
            await behind.admin.backends.toggle(ME, backend.uid)
        assert "enabled: false" in str(refused.value.more["yaml"])
        with pytest.raises(Conflict) as refused:
            await behind.admin.backends.delete(ME, backend.uid)
        assert "yaml" not in refused.value.more

    async def test_who_may_not_write_is_told_that_first(self, behind: Behind) -> None:
        backend = behind.store.add(SPEC, annotations=MARKS)
        behind.gate.denied = {("update", "home")}
        with pytest.raises(Forbidden):
            await behind.admin.backends.toggle(ME, backend.uid)


class TestLookup:
    async def test_the_store_s_own_namespace_goes_first(self, behind: Behind) -> None:
        behind.store.add(SPEC, namespace="aaa")
        own = behind.store.add(SPEC)
        assert (await behind.admin.backends.lookup("phi3:mini")).backend == own
        behind.store.change(own, {**SPEC, "enabled": False})
        found = await behind.admin.backends.lookup("phi3:mini")
        assert found.backend.resource.identity.namespace == "aaa"
        with pytest.raises(Missing):
            await behind.admin.backends.lookup("phi3:mini", namespace="home")

    async def test_what_is_being_deleted_serves_nobody(self, behind: Behind) -> None:
        behind.store.add(SPEC, deletionTimestamp="2026-01-05T09:00:00Z")
        with pytest.raises(Missing):
            await behind.admin.backends.lookup("phi3:mini")

    async def test_an_alias_finds_it(self, behind: Behind) -> None:
        behind.store.add({**SPEC, "aliases": ["phi"]})
        assert (await behind.admin.backends.lookup("phi")).backend.model == "phi3:mini"

    async def test_before_the_first_list_nothing_is_missing(self, behind: Behind) -> None:
        behind.store._listed = behind.store._fresh = False
        for ask in (behind.admin.backends.lookup("m"), behind.admin.backends.get(ME, "uid")):
            with pytest.raises(Away):
                await ask

    async def test_a_right_is_asked_for_before_it_is_told(self, behind: Behind) -> None:
        behind.gate.denied = {("list", "home")}
        for model in ("phi3:mini", "none"):
            with pytest.raises(Forbidden):
                await behind.admin.backends.lookup(model, caller=ME)

    async def test_it_needs_no_postgres(self, behind: Behind) -> None:
        behind.store.add(SPEC)
        behind.archive.away = True
        assert (await behind.admin.backends.lookup("phi3:mini")).number is None

    @pytest.mark.parametrize("key", ["0", "99", "9" * 30, "٣", "-1", "1.0", "nope"])
    async def test_a_key_of_nothing(self, behind: Behind, key: str) -> None:
        behind.store.add(SPEC)
        with pytest.raises(Missing, match="Backend not found"):
            await behind.admin.backends.get(ME, key)

    async def test_a_list_is_of_what_may_be_read(self, behind: Behind) -> None:
        behind.store.add(SPEC)
        behind.store.add({**SPEC, "modelName": "x"}, namespace="away")
        behind.gate.denied = {("list", ""), ("list", "away")}
        found = await behind.admin.backends.list(ME)
        assert [one.backend.model for one in found] == ["phi3:mini"]
        with pytest.raises(Forbidden):
            await behind.admin.backends.list(ME, namespace="away")
        assert len(await behind.admin.backends.list(None)) == 2


class TestNumbers:
    async def test_many_that_miss_one_ask_once(self, behind: Behind) -> None:
        uid = behind.store.add(SPEC).uid
        known = Numbers(behind.archive)
        told = await asyncio.gather(*(known.of(frozenset({uid})) for _ in range(50)))
        assert {one[uid] for one in told} == {1}
        assert behind.archive.questions == 1

    async def test_what_has_no_row_is_not_asked_for_each_time(
        self, behind: Behind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(numbers, "PAUSE", 60)
        known = Numbers(behind.archive)
        for _ in range(5):
            await known.of(frozenset({"none"}))
        assert behind.archive.questions == 1

    async def test_postgres_away_is_not_asked_each_time_either(
        self, behind: Behind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(numbers, "PAUSE", 60)
        behind.archive.away = True
        known = Numbers(behind.archive)
        for _ in range(5):
            assert await known.of(frozenset({"none"})) == {}
        assert behind.archive.questions == 1

    async def test_a_number_is_asked_for_anew(self, behind: Behind) -> None:
        known = Numbers(behind.archive)
        assert await known.uid(1) is None
        uid = behind.store.add(SPEC).uid
        assert await known.uid(1) == uid
        behind.archive.away = True
        assert await known.uid(1) == uid
        with pytest.raises(Away):
            await known.uid(2)

    async def test_a_slow_answer_holds_no_lookup_up(
        self, behind: Behind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(numbers, "PATIENCE", 0.02)
        uid, go = behind.store.add(SPEC).uid, asyncio.Event()

        async def slow() -> dict[str, int]:
            await go.wait()
            return {uid: 1}

        monkeypatch.setattr(behind.archive, "ids", slow)
        known = Numbers(behind.archive)
        assert await known.of(frozenset({uid})) == {}
        go.set()
        assert await eventually_async(lambda: known.of(frozenset({uid})), within=10) == {uid: 1}

    async def test_a_row_that_comes_later(self, behind: Behind) -> None:
        backend = behind.store.add(SPEC)
        behind.archive.unrecorded.add(backend.uid)
        known = Numbers(behind.archive)
        waiting = asyncio.create_task(known.wait(backend.uid, within=10))
        assert await known.wait(backend.uid, within=0.02) is None
        behind.archive.unrecorded.clear()
        assert await waiting == 1
