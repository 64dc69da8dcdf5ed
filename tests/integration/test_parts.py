"""The real parts that other tests stand on: each answers for real, and breaks when told to."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from parts import build, process
from parts.absent import absent
from parts.control_plane import ControlPlane, empty
from parts.eventually import eventually, eventually_async
from parts.kubelet import Kubelet, project
from parts.mlx import Mlx
from parts.ollama import Ollama
from parts.postgres import Postgres
from parts.proxy import Address, Proxy

MakeProxy = Callable[[Address], Proxy]

READ_CONFIGMAPS = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}
CHAT = [{"role": "user", "content": "hi"}]


def configmap(name: str, **data: str) -> str:
    return json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    )


class TestControlPlane:
    def test_is_the_pinned_version(self, control_plane: ControlPlane) -> None:
        version = json.loads(control_plane.kubectl("version", "-o", "json").stdout)
        server = version["serverVersion"]["gitVersion"]
        assert version["clientVersion"]["gitVersion"] == server
        # What KUBEBUILDER_ASSETS names may be of another version.
        assert server == f"v{build.KUBERNETES}" or "KUBEBUILDER_ASSETS" in os.environ

    def test_denies_who_has_no_rights(self, control_plane: ControlPlane, namespace: str) -> None:
        nobody = control_plane.create_user("nobody")
        ended = control_plane.kubectl(
            "get", "configmaps", "-n", namespace, user=nobody, check=False
        )
        assert ended.returncode == 1
        assert "Forbidden" in ended.stderr
        assert nobody.name in ended.stderr

    def test_rights_hold_where_they_were_given(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        reader = control_plane.create_user("reader", [READ_CONFIGMAPS], namespace=namespace)
        here = ("get", "configmaps", "-n", namespace)
        assert control_plane.kubectl(*here, user=reader).returncode == 0
        elsewhere = ("get", "configmaps", "-n", "default")
        assert control_plane.kubectl(*elsewhere, user=reader, check=False).returncode == 1
        control_plane.allow(reader, [READ_CONFIGMAPS])
        assert control_plane.kubectl(*elsewhere, user=reader).returncode == 0

    def test_audit_names_who_wrote_what(self, control_plane: ControlPlane, namespace: str) -> None:
        control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=configmap("seen", a="1"))

        def written() -> bool:
            (event,) = control_plane.audit(
                namespace=namespace, resource="configmaps", user="admin"
            )[-1:]
            assert (event.verb, event.name, event.status) == ("create", "seen", 201)
            assert event.body["data"] == {"a": "1"}
            return True

        eventually(written, within=5)
        assert control_plane.audit(namespace=namespace, verbs=("delete",)) == []

    @pytest.mark.parametrize("crash", [False, True])
    def test_restarts_on_its_port_with_its_data_and_its_users(
        self, control_plane: ControlPlane, namespace: str, *, crash: bool
    ) -> None:
        reader = control_plane.create_user("reader", [READ_CONFIGMAPS])
        control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=configmap("kept", a="1"))
        with (
            control_plane.down(crash=crash),
            control_plane.client() as client,
            pytest.raises(httpx.ConnectError),
        ):
            client.get("/version")
        kept = control_plane.kubectl("get", "configmap", "kept", "-n", namespace, user=reader)
        assert "kept" in kept.stdout

    def test_an_open_watch_does_not_hold_the_end_up(self, control_plane: ControlPlane) -> None:
        watch = {"watch": "1", "timeoutSeconds": "300"}
        with (
            control_plane.client() as client,
            client.stream("GET", "/api/v1/namespaces", params=watch, timeout=60) as answer,
        ):
            seen = answer.iter_lines()
            assert json.loads(next(seen))["type"] == "ADDED"
            started = time.monotonic()
            with control_plane.down():
                assert time.monotonic() - started < 20
                assert all(json.loads(line)["type"] for line in seen)

    def test_namespace_is_emptied_despite_finalizers(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        held = json.loads(configmap("held"))
        held["metadata"]["finalizers"] = ["test.invalid/held"]
        control_plane.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(held))
        empty(control_plane, namespace)
        left = control_plane.kubectl("get", "configmaps", "-n", namespace)
        assert "No resources found" in left.stderr

    def test_crd_is_served(
        self, control_plane: ControlPlane, crd: dict[str, Any], namespace: str
    ) -> None:
        plural = crd["spec"]["names"]["plural"]
        assert "No resources" in control_plane.kubectl("get", plural, "-n", namespace).stderr


class TestPostgres:
    def test_answers_in_an_empty_database(self, database: str) -> None:
        with psycopg.connect(database) as connection:
            query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
            assert connection.execute(query).fetchone() == (0,)
            version = connection.execute("SHOW server_version").fetchone()
        assert version is not None
        assert int(version[0].split(".")[0]) >= 16

    def test_two_databases_are_separate(self, postgres: Postgres, database: str) -> None:
        other = postgres.create_database()
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("CREATE TABLE here (n int)")
        with psycopg.connect(postgres.uri_of(other)) as connection:
            assert connection.execute("SELECT to_regclass('here')").fetchone() == (None,)
        postgres.drop_database(other)

    @pytest.mark.parametrize("crash", [False, True])
    def test_private_one_keeps_what_was_committed(
        self, private_postgres: Postgres, *, crash: bool
    ) -> None:
        uri = private_postgres.uri_of(private_postgres.create_database())
        with psycopg.connect(uri, autocommit=True) as open_session:
            open_session.execute("CREATE TABLE kept AS SELECT 7 AS n")
            with private_postgres.down(crash=crash):
                with pytest.raises(psycopg.OperationalError):
                    psycopg.connect(uri, connect_timeout=2)
                with pytest.raises(psycopg.OperationalError):
                    open_session.execute("SELECT n FROM kept")
        with psycopg.connect(uri) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


class TestOllama:
    @pytest.fixture
    def client(self, ollama_server: Ollama) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=ollama_server.url, trust_env=False, timeout=30) as client:
            yield client

    def test_generates(self, client: httpx.Client) -> None:
        asked = {"model": "phi3:mini", "prompt": "hi", "stream": False}
        answer = client.post("/api/generate", json=asked).raise_for_status().json()
        assert answer["done"] is True
        assert answer["response"].strip()
        assert answer["response"].isascii()
        assert 0 < answer["eval_count"] <= 16

    def test_chats(self, client: httpx.Client) -> None:
        asked = {"model": "phi3:mini", "messages": CHAT, "stream": False}
        answer = client.post("/api/chat", json=asked).raise_for_status().json()
        assert answer["message"]["role"] == "assistant"
        assert answer["message"]["content"].strip()

    def test_streams_lines(self, client: httpx.Client) -> None:
        asked = {"model": "phi3:mini", "messages": CHAT, "options": {"num_predict": 5}}
        with client.stream("POST", "/api/chat", json=asked) as answer:
            assert answer.headers["content-type"] == "application/x-ndjson"
            lines = [json.loads(line) for line in answer.iter_lines()]
        assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
        assert len(lines) > 1

    def test_knows_only_the_names_it_was_given(
        self, client: httpx.Client, ollama_server: Ollama
    ) -> None:
        asked = {"model": "other:1b", "messages": CHAT, "stream": False}
        assert client.post("/api/chat", json=asked).status_code == 404
        ollama_server.create("other:1b")
        assert client.post("/api/chat", json=asked).status_code == 200
        asked = {"model": "other:1b"}
        assert client.request("DELETE", "/api/delete", json=asked).status_code == 200

    def test_comes_back_on_its_port(self, client: httpx.Client, ollama_server: Ollama) -> None:
        with ollama_server.down(crash=True), pytest.raises(httpx.ConnectError):
            client.get("/api/version")
        asked = {"model": "phi3:mini", "prompt": "hi", "stream": False}
        assert client.post("/api/generate", json=asked).status_code == 200


class TestMlx:
    @pytest.fixture
    def client(self, mlx_server: Mlx) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=mlx_server.url, trust_env=False, timeout=30) as client:
            yield client

    def test_chats_as_its_default_model(self, client: httpx.Client) -> None:
        asked = {"model": "default_model", "messages": CHAT, "max_tokens": 8}
        answer = client.post("/v1/chat/completions", json=asked).raise_for_status().json()
        (choice,) = answer["choices"]
        assert choice["message"]["content"].isascii()
        assert choice["message"]["content"]
        assert answer["usage"]["completion_tokens"] == 8

    def test_does_not_know_ollamas_name(self, client: httpx.Client) -> None:
        asked = {"model": "phi3:mini", "messages": CHAT}
        assert client.post("/v1/chat/completions", json=asked).status_code == 404

    def test_streams_events(self, client: httpx.Client) -> None:
        asked = {"model": "default_model", "messages": CHAT, "max_tokens": 4, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
            lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        assert len(lines) > 2

    def test_is_killed_and_comes_back_on_its_port(
        self, client: httpx.Client, mlx_server: Mlx
    ) -> None:
        pid = mlx_server.pid
        with mlx_server.down(crash=True), pytest.raises(httpx.ConnectError):
            client.get("/health")
        assert mlx_server.pid != pid
        assert client.get("/health").status_code == 200


class TestKubelet:
    def test_folder_looks_as_a_kubelet_leaves_it(self, tmp_path: Path) -> None:
        assert project(tmp_path, {"a": b"1", "b": b"2"})
        data = (tmp_path / "..data").readlink()
        assert str(data).startswith("..20")
        assert (tmp_path / "a").readlink() == Path("..data/a")
        assert sorted(os.listdir(tmp_path)) == sorted([str(data), "..data", "a", "b"])
        assert not project(tmp_path, {"a": b"1", "b": b"2"})
        assert (tmp_path / "..data").readlink() == data

    def test_all_files_switch_at_once_and_the_old_go(self, tmp_path: Path) -> None:
        project(tmp_path, {"a": b"1", "gone": b"1"})
        held = os.open(tmp_path / "..data", os.O_RDONLY)
        inode = os.lstat(tmp_path / "a").st_ino
        project(tmp_path, {"a": b"2", "new": b"2"})
        assert os.listdir(held) == []
        os.close(held)
        assert os.lstat(tmp_path / "a").st_ino == inode
        shown = {name for name in os.listdir(tmp_path) if not name.startswith("..")}
        assert shown == {"a", "new"}
        assert {(tmp_path / name).read_bytes() for name in shown} == {b"2"}

    def test_follows_the_configmap(
        self, control_plane: ControlPlane, namespace: str, make_kubelet: Callable[..., Kubelet]
    ) -> None:
        kubelet = make_kubelet(namespace, "followed")
        assert os.listdir(kubelet.folder / "..data") == []
        shown = kubelet.folder / "key"

        def shows(value: str) -> bool:
            return shown.exists() and shown.read_text() == value

        for value in ("1", "2"):
            manifest = configmap("followed", key=value)
            control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest)
            eventually(partial(shows, value), within=5)
        with control_plane.down(crash=True):
            assert shown.read_text() == "2"
            assert kubelet.sync() is False
        control_plane.kubectl("delete", "configmap", "followed", "-n", namespace)
        eventually(lambda: not shown.exists(), within=10)


class TestProxy:
    def test_postgres_through_it_and_refused_and_back(
        self, private_postgres: Postgres, make_proxy: MakeProxy
    ) -> None:
        proxy = make_proxy(private_postgres.socket)
        uri = private_postgres.uri_of("postgres", port=proxy.port)
        with psycopg.connect(uri, autocommit=True) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            proxy.stop()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(uri, connect_timeout=2)
        proxy.start()
        with psycopg.connect(uri) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)

    def test_api_server_through_it_with_tls(
        self, control_plane: ControlPlane, make_proxy: MakeProxy
    ) -> None:
        proxy = make_proxy(("127.0.0.1", control_plane.port))
        server = f"https://127.0.0.1:{proxy.port}"
        kubeconfig = control_plane.write_kubeconfig(server=server)
        asked = ("--kubeconfig", kubeconfig, "get", "namespaces")
        assert "kube-system" in control_plane.kubectl(*asked).stdout
        assert proxy.accepted > 0
        proxy.stop()
        assert "refused" in control_plane.kubectl(*asked, check=False).stderr

    def test_delay_holds_both_directions(self, postgres: Postgres, make_proxy: MakeProxy) -> None:
        proxy = make_proxy(postgres.socket)
        uri = postgres.uri_of("postgres", port=proxy.port)
        with psycopg.connect(uri, autocommit=True) as connection:
            proxy.delay(0.2)
            started = time.monotonic()
            connection.execute("SELECT 1")
            assert time.monotonic() - started >= 0.4

    def test_drop_is_silence_and_heal_resets_what_has_a_hole(
        self, postgres: Postgres, make_proxy: MakeProxy
    ) -> None:
        proxy = make_proxy(postgres.socket)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as client:
            eventually(lambda: proxy.open == 1, within=2)
            proxy.drop()
            client.sendall(b"lost")
            with pytest.raises(TimeoutError):
                client.recv(1)
            eventually(lambda: proxy.losing == 1, within=2)
            client.settimeout(5)
            proxy.heal()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        eventually(lambda: proxy.open == 0, within=2)
        with psycopg.connect(postgres.uri_of("postgres", port=proxy.port)) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)

    def test_reset_spares_who_comes_after(self, postgres: Postgres, make_proxy: MakeProxy) -> None:
        proxy = make_proxy(postgres.socket)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
            eventually(lambda: proxy.open == 1, within=2)
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        with psycopg.connect(postgres.uri_of("postgres", port=proxy.port)) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


class TestEventually:
    def test_returns_what_the_check_found(self) -> None:
        answers = iter([None, 0, "found"])
        assert eventually(lambda: next(answers), within=5, every=0.001) == "found"

    def test_raises_the_last_error_at_the_deadline(self) -> None:
        def check() -> bool:
            raise AssertionError("the row is missing")

        with pytest.raises(AssertionError, match="the row is missing") as caught:
            eventually(check, within=0.05, every=0.01)
        assert "not within 0.05 s" in caught.value.__notes__[0]

    def test_none_is_not_yet(self) -> None:
        with pytest.raises(AssertionError, match="return True"):
            eventually(lambda: None, within=0.01)

    def test_another_error_ends_the_wait_unless_named(self) -> None:
        with pytest.raises(ZeroDivisionError):
            eventually(lambda: 1 / 0, within=60)
        answers = iter([0, 1])
        assert eventually(lambda: 1 / next(answers), within=5, retry=(ZeroDivisionError,)) == 1

    async def test_async_checks_leave_the_loop_to_others(self) -> None:
        arrived: list[int] = []
        asyncio.get_running_loop().call_later(0.05, arrived.append, 1)

        async def check() -> list[int]:
            return arrived

        assert await eventually_async(check, within=5) == [1]
        assert await eventually_async(lambda: arrived, within=5) == [1]

    async def test_an_async_check_that_hangs_is_cut_off(self) -> None:
        with pytest.raises(TimeoutError):
            await eventually_async(asyncio.Event().wait, within=0.1)


class TestProcess:
    def test_early_end_shows_what_it_said(self, tmp_path: Path) -> None:
        started = process.start(["sh", "-c", "echo no such file; exit 3"], log=tmp_path / "log")
        with pytest.raises(process.StartError, match="ended with 3:\nno such file"):
            started.ready(lambda: False, within=10)
        assert started.end() == 3

    def test_one_that_ignores_the_request_is_killed_with_its_children(self, tmp_path: Path) -> None:
        # NB: `trap ''` is inherited, so the child ignores the signal too.
        script = "trap '' TERM; sleep 60 & echo $!; wait"
        started = process.start(["sh", "-c", script], log=tmp_path / "log")
        child = int(eventually(lambda: started.tail(), within=5))
        assert started.end(within=0.2) == -9
        eventually(lambda: not _alive(child), within=5)

    def test_nothing_outlives_a_killed_test_run(self, tmp_path: Path) -> None:
        run = (
            "import os, pathlib, signal, sys; sys.path.append(sys.argv[1]);"
            "from parts import process;"
            "log = pathlib.Path(sys.argv[2]);"
            "print(process.start(['sleep', '60'], log=log).pid, flush=True);"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        command = [sys.executable, "-c", run, str(build.HERE.parent), str(tmp_path / "sleep.log")]
        started = process.start(command, log=tmp_path / "log")
        child = int(eventually(lambda: started.tail(), within=10))
        eventually(lambda: not _alive(child), within=10)
        started.kill()

    def test_ports_are_below_those_of_outgoing_connections(self) -> None:
        assert all(process.free_port() < 32768 for _ in range(20))


class TestAbsent:
    def test_is_a_skip_that_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CI", raising=False)
        with pytest.raises(pytest.skip.Exception, match="run `make x`"):
            absent("x", remedy="run `make x`")

    def test_is_a_failure_in_ci(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CI", "true")
        with pytest.raises(pytest.fail.Exception, match="run `make x`"):
            absent("x", remedy="run `make x`")

    def test_a_part_that_was_never_built_is_not_located(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("KUBEBUILDER_ASSETS", "OLLAMA_BIN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("LLMB_CACHE", str(tmp_path))
        assert build.located("control-plane") is None
        build.target("control-plane").mkdir()
        assert build.located("control-plane") == build.target("control-plane")


def _alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be collected does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
