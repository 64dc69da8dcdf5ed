"""Who may, as a real API server says: tokens, rights, and what holds while it is away.

The gate asks as an account with the rights of manifests/components/admin, and no others.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from aiohttp import web

from llm_operator.admin.access import ClusterGate, cluster, limit
from llm_operator.admin.errors import AdminError, Away, TooMany, Unauthorized
from llm_operator.admin.model import USAGE, Caller, Verb
from llm_operator.api import API
from parts.access import User, expect
from parts.audit import Event
from parts.clock import Clock
from parts.control_plane import ControlPlane
from parts.eventually import eventually, eventually_async

pytestmark = pytest.mark.usefixtures("crd")

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
LLM = "llm.athena.dev"
PEER, OTHER = "10.0.0.1", "10.0.0.2"
TOKENS, RIGHTS = "tokenreviews", "subjectaccessreviews"
WRITES = (Verb.CREATE, Verb.UPDATE, Verb.DELETE)


@asynccontextmanager
async def between(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """The URL of something that answers instead of the API server."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rules(file: str, name: str) -> list[Any]:
    """Those of a shipped ClusterRole."""
    documents = yaml.safe_load_all((MANIFESTS / file).read_text())
    return next(
        list(each["rules"])
        for each in documents
        if (each["kind"], each["metadata"]["name"]) == ("ClusterRole", name)
    )


@pytest.fixture
def admin(control_plane: ControlPlane) -> User:
    """Who asks."""
    return control_plane.create_user(
        "admin", rules("components/admin/rbac.yaml", "llm-backend-admin-reviews")
    )


@asynccontextmanager
async def gates(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any
) -> AsyncIterator[ClusterGate]:
    """A gate that asks as somebody else than the one of the fixture."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    async with await API.connect() as api:
        yield ClusterGate(api, pause=0, **fields)


@pytest.fixture
async def gate(
    admin: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ClusterGate]:
    async with gates(admin.kubeconfig, monkeypatch, clock=clock) as made:
        yield made


class Asked:
    """What an account has asked the API server."""

    def __init__(self, control_plane: ControlPlane, user: User) -> None:
        self._control_plane = control_plane
        self._user = user

    def events(self, resource: str) -> list[Event]:
        """All reviews so far. NB: an event is written as its answer leaves, so a last request by
        the same account is waited for.
        """
        with self._control_plane.client(user=self._user) as client:
            mark = uuid.uuid4().hex
            client.get("/api/v1/namespaces/default/configmaps/" + mark)
        seen = self._control_plane.audit
        eventually(lambda: any(e.name == mark for e in seen(user=self._user.name)), within=10)
        return seen(user=self._user.name, resource=resource)

    async def count(self, resource: str) -> int:
        return len(await asyncio.to_thread(self.events, resource))


@pytest.fixture
def asked(control_plane: ControlPlane, admin: User) -> Asked:
    return Asked(control_plane, admin)


def delete_account(control_plane: ControlPlane, user: User) -> None:
    _, _, namespace, name = user.name.split(":")
    with control_plane.client() as client:
        expect(client.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"))


def make_token(control_plane: ControlPlane, user: User, **spec: Any) -> str:
    _, _, namespace, name = user.name.split(":")
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    with control_plane.client() as client:
        answer = client.post(path, json={"spec": {"expirationSeconds": 600} | spec})
        return str(expect(answer)["status"]["token"])


async def outcome(gate: ClusterGate, token: str, peer: str = PEER) -> type:
    """The kind of answer to a token."""
    try:
        return type(await gate.caller(token, peer=peer))
    except AdminError as error:
        return type(error)


class TestTokens:
    async def test_of_a_service_account(
        self, gate: ClusterGate, control_plane: ControlPlane
    ) -> None:
        user = control_plane.create_user("person")
        caller = await gate.caller(user.token, peer=PEER)
        assert (caller.name, caller.namespace) == (user.name, "default")
        assert caller.uid
        assert "system:serviceaccounts:default" in caller.groups
        assert caller.extra

    async def test_of_a_person(self, gate: ClusterGate, control_plane: ControlPlane) -> None:
        caller = await gate.caller(control_plane.token, peer=PEER)
        assert (caller.name, caller.namespace) == ("admin", "")
        assert "system:masters" in caller.groups

    @pytest.mark.parametrize("token", ["wrong", "a.b.c", "~" * 8192])
    async def test_a_wrong_one(self, gate: ClusterGate, token: str) -> None:
        with pytest.raises(Unauthorized, match="unknown here, or has ended"):
            await gate.caller(token, peer=PEER)

    async def test_one_that_was_tampered_with(
        self, gate: ClusterGate, control_plane: ControlPlane
    ) -> None:
        head, claims, signature = control_plane.create_user("person").token.split(".")
        other = control_plane.create_user("other").token.split(".")[1]
        for token in (f"{head}.{other}.{signature}", f"{head}.{claims}.{signature[:-8]}AAAAAAAA"):
            assert await outcome(gate, token) is Unauthorized

    async def test_of_an_account_that_is_gone(
        self, gate: ClusterGate, control_plane: ControlPlane
    ) -> None:
        user = control_plane.create_user("gone")
        delete_account(control_plane, user)
        assert await outcome(gate, user.token) is Unauthorized

    async def test_one_that_has_ended(
        self, gate: ClusterGate, control_plane: ControlPlane, namespace: str
    ) -> None:
        control_plane.kubectl("-n", namespace, "create", "serviceaccount", "bound")
        user = control_plane.service_account(namespace, "bound")
        control_plane.kubectl("-n", namespace, "create", "secret", "generic", "life")
        uid = control_plane.kubectl(
            *("-n", namespace, "get", "secret", "life", "-o", "jsonpath={.metadata.uid}")
        ).stdout
        bound = {"kind": "Secret", "apiVersion": "v1", "name": "life", "uid": uid}
        first, second = (make_token(control_plane, user, boundObjectRef=bound) for _ in range(2))
        assert await outcome(gate, first) is Caller
        control_plane.kubectl("-n", namespace, "delete", "secret", "life")
        assert await outcome(gate, second) is Unauthorized

    @pytest.mark.parametrize("token", ["two words", "line\nbreak", "käse", "\x00", "x" * 8193])
    async def test_what_is_none_is_not_asked_about(
        self, gate: ClusterGate, asked: Asked, token: str
    ) -> None:
        assert await outcome(gate, token) is Unauthorized
        assert await outcome(gate, "") is Unauthorized
        assert await asked.count(TOKENS) == 0

    async def test_for_somebody_else(
        self, admin: User, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user = control_plane.create_user("person")
        ours = make_token(control_plane, user, audiences=["llm-backend-admin"])
        async with gates(admin.kubeconfig, monkeypatch, audiences=("llm-backend-admin", "x")) as it:
            assert await outcome(it, ours) is Caller
            assert await outcome(it, user.token) is Unauthorized
        async with gates(admin.kubeconfig, monkeypatch) as usual:
            assert await outcome(usual, ours) is Unauthorized
            assert await outcome(usual, user.token) is Caller


class TestRights:
    async def test_somebody_without_any(
        self, gate: ClusterGate, control_plane: ControlPlane, namespace: str
    ) -> None:
        caller = await gate.caller(control_plane.create_user("nobody").token, peer=PEER)
        for verb in Verb:
            assert not await gate.may(caller, verb, namespace)
            assert not await gate.may(caller, verb, "")
        assert not await gate.may(caller, Verb.CREATE, namespace, subresource=USAGE)

    async def test_who_may_edit_in_one_namespace(
        self, gate: ClusterGate, control_plane: ControlPlane, namespace: str
    ) -> None:
        edit = rules("base/people.yaml", "llm-backend-edit")
        user = control_plane.create_user("editor", edit, namespace=namespace)
        caller = await gate.caller(user.token, peer=PEER)
        for verb in Verb:
            assert await gate.may(caller, verb, namespace)
            assert not await gate.may(caller, verb, "default")
            assert not await gate.may(caller, verb, "")
        assert not await gate.may(caller, Verb.CREATE, namespace, subresource=USAGE)

    async def test_who_may_view_everywhere(
        self, gate: ClusterGate, control_plane: ControlPlane, namespace: str
    ) -> None:
        user = control_plane.create_user("viewer", rules("base/people.yaml", "llm-backend-view"))
        caller = await gate.caller(user.token, peer=PEER)
        assert all([await gate.may(caller, Verb.LIST, each) for each in (namespace, "")])
        assert not any([await gate.may(caller, verb, namespace) for verb in WRITES])

    async def test_who_may_send_usage_may_nothing_else(
        self, gate: ClusterGate, control_plane: ControlPlane, namespace: str
    ) -> None:
        usage = rules("components/admin/usage.yaml", "llm-backend-usage")
        user = control_plane.create_user("router", usage, namespace=namespace)
        caller = await gate.caller(user.token, peer=PEER)
        assert await gate.may(caller, Verb.CREATE, namespace, subresource=USAGE)
        assert not await gate.may(caller, Verb.CREATE, "default", subresource=USAGE)
        assert not any([await gate.may(caller, verb, namespace) for verb in Verb])

    async def test_they_are_those_of_whoever_asks(
        self, gate: ClusterGate, control_plane: ControlPlane
    ) -> None:
        everything = [{"apiGroups": [LLM], "resources": ["llmbackends"], "verbs": ["*"]}]
        users = [control_plane.create_user("one", everything), control_plane.create_user("two")]
        callers = [await gate.caller(user.token, peer=PEER) for user in users]
        may = [await gate.may(caller, Verb.CREATE, "default") for caller in callers * 2]
        assert may == [True, False, True, False]

    async def test_a_new_one_is_seen_within_its_time(
        self, gate: ClusterGate, control_plane: ControlPlane, clock: Clock
    ) -> None:
        user = control_plane.create_user("later")
        caller = await gate.caller(user.token, peer=PEER)
        assert not await gate.may(caller, Verb.GET, "default")
        control_plane.allow(user, rules("base/people.yaml", "llm-backend-view"))

        async def may() -> bool:
            # NB: the API server itself needs a moment to see a new binding.
            clock.now += cluster.RIGHT_SECONDS
            return await gate.may(caller, Verb.GET, "default")

        await eventually_async(may, within=15)


class TestKept:
    async def test_a_good_token_is_asked_about_once_in_its_time(
        self, gate: ClusterGate, asked: Asked, control_plane: ControlPlane, clock: Clock
    ) -> None:
        token = control_plane.create_user("person").token
        first = await gate.caller(token, peer=PEER)
        clock.now += cluster.GOOD_SECONDS - 0.1
        assert await gate.caller(token, peer=OTHER) == first
        assert await asked.count(TOKENS) == 1
        clock.now += 0.1
        assert await gate.caller(token, peer=PEER) == first
        assert await asked.count(TOKENS) == 2

    async def test_no_longer_than_it_is_good(
        self,
        gate: ClusterGate,
        asked: Asked,
        control_plane: ControlPlane,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        token = make_token(control_plane, control_plane.create_user("person"))
        almost = time.time() + 590
        # NB: the gate's clock alone; the shortest token that the API server gives has 600 s.
        monkeypatch.setattr(cluster, "time", SimpleNamespace(time=lambda: almost))
        assert await outcome(gate, token) is Caller
        clock.now += 5
        assert await outcome(gate, token) is Caller
        assert await asked.count(TOKENS) == 1
        clock.now += 10
        assert await outcome(gate, token) is Caller
        assert await asked.count(TOKENS) == 2

    async def test_a_wrong_one_for_a_shorter_time(
        self, gate: ClusterGate, asked: Asked, clock: Clock
    ) -> None:
        for _ in range(3):
            assert await outcome(gate, "wrong") is Unauthorized
        assert await asked.count(TOKENS) == 1
        clock.now += cluster.WRONG_SECONDS
        assert await outcome(gate, "wrong") is Unauthorized
        assert await asked.count(TOKENS) == 2

    async def test_a_right_for_its_time(
        self, gate: ClusterGate, asked: Asked, control_plane: ControlPlane, clock: Clock
    ) -> None:
        caller = await gate.caller(control_plane.create_user("person").token, peer=PEER)
        for _ in range(3):
            for verb in Verb:
                await gate.may(caller, verb, "default")
        assert await asked.count(RIGHTS) == len(Verb)
        clock.now += cluster.RIGHT_SECONDS
        await gate.may(caller, Verb.GET, "default")
        assert await asked.count(RIGHTS) == len(Verb) + 1

    async def test_who_asks_at_once_asks_once(
        self, gate: ClusterGate, asked: Asked, control_plane: ControlPlane
    ) -> None:
        token = control_plane.create_user("person").token
        callers = await asyncio.gather(*(gate.caller(token, peer=PEER) for _ in range(100)))
        assert len(set(map(id, callers))) == 1
        await asyncio.gather(*(gate.may(callers[0], Verb.GET, "default") for _ in range(100)))
        assert (await asked.count(TOKENS), await asked.count(RIGHTS)) == (1, 1)

    async def test_one_that_ends_is_found_out(
        self, gate: ClusterGate, control_plane: ControlPlane, clock: Clock
    ) -> None:
        user = control_plane.create_user("ending")
        assert await outcome(gate, user.token) is Caller
        delete_account(control_plane, user)
        assert await outcome(gate, user.token) is Caller

        async def found_out() -> bool:
            # NB: the API server keeps its own answer for ten seconds.
            clock.now += cluster.GOOD_SECONDS
            return await outcome(gate, user.token) is Unauthorized

        await eventually_async(found_out, within=30, every=0.5)


class TestLimit:
    async def wrong(self, gate: ClusterGate, times: int) -> None:
        for number in range(times):
            assert await outcome(gate, f"wrong-{number}") is Unauthorized

    async def test_too_many_are_refused_without_asking(
        self, gate: ClusterGate, asked: Asked, clock: Clock
    ) -> None:
        await self.wrong(gate, limit.PEER.most)
        assert await asked.count(TOKENS) == limit.PEER.most
        with pytest.raises(TooMany) as refused:
            await gate.caller("wrong-again", peer=PEER)
        assert refused.value.retry_after == limit.PEER.first
        assert await outcome(gate, "two words") is TooMany
        assert await asked.count(TOKENS) == limit.PEER.most
        assert await outcome(gate, "wrong-there", OTHER) is Unauthorized
        clock.now += limit.PEER.first
        assert await outcome(gate, "wrong-later") is Unauthorized

    async def test_who_is_known_there_is_not_locked_out(
        self, gate: ClusterGate, asked: Asked, control_plane: ControlPlane, clock: Clock
    ) -> None:
        known, new = (control_plane.create_user(name).token for name in ("known", "new"))
        assert await outcome(gate, known) is Caller
        clock.now += cluster.GOOD_SECONDS
        await self.wrong(gate, limit.PEER.most)
        before = await asked.count(TOKENS)
        # It is asked about anew, which the limit does not forbid, and then kept again.
        assert await outcome(gate, known) is Caller
        assert await outcome(gate, known) is Caller
        assert await asked.count(TOKENS) == before + 1
        # Not even a good one that has never been here.
        assert await outcome(gate, new) is TooMany
        assert await asked.count(TOKENS) == before + 1
        assert await outcome(gate, new, OTHER) is Caller
        assert await outcome(gate, new) is Caller

    async def test_one_that_was_known_counts_once_it_is_wrong(
        self, gate: ClusterGate, control_plane: ControlPlane, clock: Clock
    ) -> None:
        user = control_plane.create_user("ending")
        assert await outcome(gate, user.token) is Caller
        delete_account(control_plane, user)

        async def limited() -> bool:
            clock.now += cluster.GOOD_SECONDS / 6
            return await outcome(gate, user.token) is TooMany

        await eventually_async(limited, within=60)

    async def test_a_burst_is_not_passed_on(self, gate: ClusterGate, asked: Asked) -> None:
        kinds = await asyncio.gather(*(outcome(gate, f"wrong-{n}") for n in range(300)))
        assert set(kinds) == {Unauthorized, TooMany}
        assert await asked.count(TOKENS) < limit.PEER.most + cluster.STRANGERS


class TestAway:
    async def test_what_is_kept_holds_for_its_time_and_all_else_is_away(
        self, gate: ClusterGate, control_plane: ControlPlane, clock: Clock
    ) -> None:
        good, later = (control_plane.create_user(name).token for name in ("good", "later"))
        caller = await gate.caller(good, peer=PEER)
        assert not await gate.may(caller, Verb.GET, "default")
        with control_plane.down():
            assert await gate.caller(good, peer=PEER) == caller
            assert not await gate.may(caller, Verb.GET, "default")
            for token in (later, "wrong"):
                with pytest.raises(Away) as refused:
                    await gate.caller(token, peer=PEER)
                assert refused.value.retry_after
            with pytest.raises(Away):
                await gate.may(caller, Verb.DELETE, "default")
            clock.now += cluster.GOOD_SECONDS
            # However often: it is neither wrong nor counted as such.
            for _ in range(2 * limit.PEER.most):
                assert await outcome(gate, good) is Away
            with pytest.raises(Away):
                await gate.may(caller, Verb.GET, "default")
        for token in (good, later):

            async def answered(token: str = token) -> bool:
                return await outcome(gate, token) is Caller

            await eventually_async(answered, within=20)
        assert await outcome(gate, "wrong") is Unauthorized
        assert not await gate.may(caller, Verb.DELETE, "default")

    async def test_without_the_right_to_ask_it_says_which(
        self,
        control_plane: ControlPlane,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        asker = control_plane.create_user("bare")
        token = control_plane.create_user("person").token
        async with gates(asker.kubeconfig, monkeypatch) as gate:
            for _ in range(3):
                with pytest.raises(
                    Away, match=r"create tokenreviews\.authentication\.k8s\.io"
                ) as e:
                    await gate.caller(token, peer=PEER)
                assert e.value.retry_after
            reviews = "subjectaccessreviews.authorization.k8s.io"
            for _ in range(3):
                with pytest.raises(Away, match=f"create {reviews}"):
                    await gate.may(Caller(name="jane"), Verb.GET, "default")
            told = [r for r in caplog.records if r.getMessage() == "reviews_not_answered"]
            assert [record.__dict__["path"].rpartition("/")[2] for record in told] == [
                TOKENS,
                RIGHTS,
            ]
            control_plane.allow(
                asker, rules("components/admin/rbac.yaml", "llm-backend-admin-reviews")
            )

            async def answered() -> bool:
                return await outcome(gate, token) is Caller

            await eventually_async(answered, within=15)

    async def test_whose_own_token_has_ended_it_says_so_of_itself(
        self, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Never of the one who asks: a router would drop what it has."""
        kubeconfig = control_plane.write_kubeconfig(token="ended")
        token = control_plane.create_user("person").token
        async with gates(kubeconfig, monkeypatch) as gate:
            assert await outcome(gate, token) is Away

    @pytest.mark.parametrize("text", ["<html>", "[]", "{}", '{"kind": "Status"}', "null"])
    async def test_what_is_no_answer_is_no_no(
        self, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        """Something in between answers instead of the API server."""

        async def answer(_: web.Request) -> web.Response:
            return web.Response(text=text, status=201, content_type="application/json")

        async with (
            between(answer) as server,
            gates(control_plane.write_kubeconfig(server=server), monkeypatch) as gate,
        ):
            assert await outcome(gate, "a-token") is Away
            with pytest.raises(Away):
                await gate.may(Caller(name="jane"), Verb.GET, "default")

    async def test_a_no_while_it_starts_is_no_no(
        self, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It answers before it has read accounts and roles, and knows nobody then."""
        started = asyncio.Event()

        async def answer(request: web.Request) -> web.Response:
            if request.path == cluster.READY:
                return web.Response(text="ok", status=200 if started.is_set() else 500)
            kind = (await request.json())["kind"]
            return web.json_response({"kind": kind, "status": {}}, status=201)

        async with (
            between(answer) as server,
            gates(control_plane.write_kubeconfig(server=server), monkeypatch) as gate,
        ):
            assert await outcome(gate, "a-token") is Away
            with pytest.raises(Away, match="is starting"):
                await gate.may(Caller(name="jane"), Verb.GET, "default")
            started.set()
            assert await outcome(gate, "a-token") is Unauthorized
            assert not await gate.may(Caller(name="jane"), Verb.GET, "default")


async def test_no_token_is_in_a_log_or_an_error(
    gate: ClusterGate,
    control_plane: ControlPlane,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    user = control_plane.create_user("person")
    bare = control_plane.create_user("bare")
    tokens = (user.token, "a-guess-at-a-token")
    told: list[str] = []

    async def ask(gate: ClusterGate) -> None:
        for token in tokens:
            try:
                await gate.caller(token, peer=PEER)
            except AdminError as error:
                chain: BaseException | None = error
                while chain is not None:
                    told.append(f"{chain!r} {vars(chain)}")
                    chain = chain.__cause__ or chain.__context__

    await ask(gate)
    async with gates(bare.kubeconfig, monkeypatch) as refused:
        await ask(refused)
    clock.now += cluster.GOOD_SECONDS
    with control_plane.down():
        await ask(gate)
    told += [repr(vars(record)) for record in caplog.records]
    assert {"reviews_not_answered"} <= {record.getMessage() for record in caplog.records}
    assert len(told) >= 6
    assert not any(token in text for text in told for token in (*tokens, bare.token))
