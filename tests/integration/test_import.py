"""`llmb import` as a process: a real Postgres with the predecessor's tables, its API by HTTP, and
the real API server that takes what comes out.
"""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from llm_operator import migrate
from llm_operator.predecessor import ask
from llm_operator.predecessor.columns import COLUMNS
from llm_operator.predecessor.convert import annotation
from llm_operator.predecessor.reading import text
from llm_operator.record import partitions, rollup
from llm_operator.standalone import files
from parts.control_plane import ControlPlane
from parts.eventually import eventually
from parts.postgres import Postgres
from parts.process import free_port
from parts.rows import querying

SCHEMA = """
    CREATE TABLE public.llm_backends (
        id serial PRIMARY KEY,
        model_name varchar(512) NOT NULL UNIQUE,
        backend_type varchar(32) NOT NULL,
        endpoint_url varchar(512) NOT NULL,
        enabled boolean DEFAULT true,
        priority integer DEFAULT 100,
        max_tokens integer DEFAULT 2048,
        temperature_default double precision DEFAULT 0.7,
        timeout_seconds integer DEFAULT 60,
        keep_alive_seconds integer DEFAULT -1,
        description text,
        avg_tokens_per_sec double precision,
        avg_latency_ms double precision,
        total_requests integer DEFAULT 0,
        total_errors integer DEFAULT 0,
        created_by varchar(255),
        created_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now()
    );
    CREATE INDEX ON public.llm_backends (model_name);
    CREATE INDEX ON public.llm_backends (enabled);
    CREATE INDEX ON public.llm_backends (backend_type);
    CREATE TABLE public.llm_performance_metrics (
        id serial PRIMARY KEY,
        timestamp double precision NOT NULL,
        model varchar(255) NOT NULL,
        backend varchar(32) NOT NULL,
        latency_seconds double precision NOT NULL,
        tokens_generated integer NOT NULL,
        prompt_tokens integer,
        tokens_per_second double precision NOT NULL,
        request_id varchar(255),
        session_id varchar(255),
        user_id varchar(255),
        zone varchar(255),
        intent varchar(255),
        source varchar(255),
        stage varchar(255)
    );
"""

MAC = "http://mac-studio.lan"
SECRET = "hunter2"
#: What server-side apply refuses, or turns into something else.
NO_TEXT = "a\x7fb\x80c\x85d\x9fe\ufefff\ufffeg\uffff"

#: Rows without those columns that all have alike; the first is of the predecessor's overview.
ROWS: list[dict[str, Any]] = [
    {
        "model_name": "phi3:mini",
        "backend_type": "ollama",
        "endpoint_url": "http://localhost:11434",
        "description": "Phi-3 Mini via Ollama for fast classification",
        "created_by": "jay",
        "avg_tokens_per_sec": 14.25,
        "total_requests": 12,
    },
    {"model_name": "Phi3:Mini", "backend_type": "mlx", "endpoint_url": f"{MAC}:8080"},
    {"model_name": "phi3/mini", "backend_type": "auto", "endpoint_url": f"{MAC}:8080/v1"},
    {"model_name": "llama3.1:8b", "backend_type": "mlx", "endpoint_url": f"{MAC}:8080/"},
    {"model_name": "1e3", "backend_type": "ollama", "endpoint_url": f"{MAC}:1", "created_by": "y"},
    {"model_name": "---", "backend_type": "ollama", "endpoint_url": f"{MAC}:1"},
    {"model_name": "模型 7b", "backend_type": "ollama", "endpoint_url": f"{MAC}:1"},
    {"model_name": "x" * 300, "backend_type": "ollama", "endpoint_url": f"{MAC}:1"},
    {"model_name": " phi3:mini ", "backend_type": "ollama", "endpoint_url": f"{MAC}:2"},
    {"model_name": "typed", "backend_type": "vLLM", "endpoint_url": f"{MAC}:1"},
    {"model_name": "empty", "backend_type": "ollama", "endpoint_url": ""},
    {"model_name": "bare", "backend_type": "ollama", "endpoint_url": "mac:11434"},
    {"model_name": "port", "backend_type": "mlx", "endpoint_url": f"{MAC}:99999"},
    {"model_name": "meta", "backend_type": "mlx", "endpoint_url": "http://169.254.169.254"},
    {"model_name": "pass", "backend_type": "mlx", "endpoint_url": f"http://u:{SECRET}@mac:8080"},
    {
        "model_name": "numbers",
        "backend_type": "ollama",
        "endpoint_url": f"{MAC}:1",
        "priority": -7,
        "max_tokens": -1,
        "temperature_default": 5.5,
        "timeout_seconds": 100_000,
        "keep_alive_seconds": -60,
    },
    {
        "model_name": "zeros",
        "backend_type": "ollama",
        "endpoint_url": f"{MAC}:1",
        "priority": 0,
        "max_tokens": 0,
        "temperature_default": 0.0,
        "timeout_seconds": 0,
        "keep_alive_seconds": 0,
    },
    {
        "model_name": "nulls",
        "backend_type": "ollama",
        "endpoint_url": f"{MAC}:1",
        "enabled": None,
        "priority": None,
        "max_tokens": None,
        "temperature_default": float("nan"),
        "timeout_seconds": None,
        "keep_alive_seconds": None,
    },
    {
        "model_name": "words",
        "backend_type": "ollama",
        "endpoint_url": f"{MAC}:1",
        "enabled": False,
        "description": "é 🦙 a\tb\nc\r\n\u2028 'q' \"q\" # : - {[ \x01 " * 60,
        "created_by": "null",
    },
    {
        "model_name": "no text",
        "backend_type": "ollama",
        "endpoint_url": f"{MAC}:1",
        "description": NO_TEXT,
        "created_by": NO_TEXT,
    },
]


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def manifests(self) -> list[dict[str, Any]]:
        return list(yaml.safe_load_all(self.out))


def llmb(*words: str, **env: str) -> Ended:
    ended = subprocess.run(
        [sys.executable, "-m", "llm_operator.cli", "import", *words],
        capture_output=True,
        timeout=90,
        env=env,
    )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def insert(uri: str, table: str, rows: list[dict[str, Any]]) -> None:
    with psycopg.connect(uri, connect_timeout=5) as connection:
        for row in rows:
            names = ", ".join(row)
            values = ", ".join(f"%({name})s" for name in row)
            connection.execute(f"INSERT INTO public.{table} ({names}) VALUES ({values})", row)


def select(uri: str, table: str) -> list[dict[str, Any]]:
    """The rows as JSON."""
    with psycopg.connect(uri, connect_timeout=5) as connection:
        found = connection.execute(f"SELECT to_jsonb(t) FROM public.{table} AS t ORDER BY id")
        return [row for (row,) in found]


@pytest.fixture
def old(database: str) -> str:
    """A database with the predecessor's tables, empty."""
    with psycopg.connect(database, connect_timeout=5) as connection:
        connection.execute(SCHEMA)
    return database


def told(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The row, as its resource tells it; of what is in an annotation, its text."""
    annotations, spec = manifest["metadata"]["annotations"], manifest["spec"]
    return {
        column: annotations.get(annotation(column), spec.get(about.field))
        for column, about in COLUMNS.items()
    }


def same(row: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Whether the resource tells each column of the row."""
    kept = manifest["metadata"]["annotations"]
    for column, value in told(manifest).items():
        given = row[column]
        if annotation(column) in kept:
            assert value == carried(text(given)), column
        elif given not in (None, ""):
            assert value == (carried(given) if isinstance(given, str) else given), column


def carried(given: str) -> str:
    """What a resource has of a text."""
    without = given.replace(f"u:{SECRET}@", "")
    return "".join("\ufffd" if letter in NO_TEXT[1::2] else letter for letter in without)


@pytest.mark.usefixtures("crd")
class TestPostgres:
    def test_every_row_becomes_a_resource_that_tells_the_row(
        self, old: str, control_plane: ControlPlane, namespace: str
    ) -> None:
        insert(old, "llm_backends", ROWS)
        rows = select(old, "llm_backends")
        ended = llmb("--from-postgres", old, "--namespace", namespace)
        assert ended.code == 1, ended.err
        assert f"{len(ROWS)} rows: {len(ROWS)} LLMBackends" in ended.err
        assert SECRET not in ended.out + ended.err

        control_plane.kubectl(
            "apply", "--server-side", "--validate=strict", "-f", "-", stdin=ended.out
        )
        listed = control_plane.kubectl("get", "llmbackends", "-n", namespace, "-o", "json")
        items = json.loads(listed.stdout)["items"]
        by_id = {told(item)["id"]: item for item in items}
        assert len(items) == len(by_id) == len(rows)
        for row in rows:
            same(row, by_id[str(row["id"])])
        # NB: and what was read back is what was written, whatever reads YAML on the way.
        written = {one["metadata"]["name"]: one for one in ended.manifests}
        for item in items:
            expected = written[item["metadata"]["name"]]
            assert item["metadata"]["annotations"] == expected["metadata"]["annotations"]
            defaults = {"enabled": True, "priority": 100, "timeoutSeconds": 60}
            assert item["spec"] == defaults | expected["spec"]

    def test_applying_it_again_changes_nothing(
        self, old: str, control_plane: ControlPlane, namespace: str, tmp_path: Path
    ) -> None:
        insert(old, "llm_backends", ROWS[:3])
        folder = tmp_path / "backends"
        apply = ("apply", "--server-side", "-n", namespace, "-f", folder)
        for _ in range(2):
            llmb("--from-postgres", old, "--folder", str(folder), "--ollama-url", f"{MAC}:11434")
            control_plane.kubectl(*apply)
        listed = control_plane.kubectl("get", "llmbackends", "-n", namespace, "-o", "json")
        found = {one["metadata"]["name"]: one for one in json.loads(listed.stdout)["items"]}
        assert {name: one["metadata"]["generation"] for name, one in found.items()} == {
            "phi3-mini": 1,
            "phi3-mini-2": 1,
            "phi3-mini-3": 1,
        }
        assert found["phi3-mini-3"]["spec"]["fallbackEndpointURL"] == f"{MAC}:11434"

    def test_json_is_taken_too(self, old: str, control_plane: ControlPlane, namespace: str) -> None:
        insert(old, "llm_backends", ROWS[:4])
        ended = llmb("--from-postgres", old, "--output", "json")
        assert ended.code == 0, ended.err
        apply = ("apply", "--server-side", "-n", namespace, "-f", "-")
        control_plane.kubectl(*apply, stdin=ended.out)
        names = control_plane.kubectl("get", "llmbackends", "-n", namespace, "-o", "name")
        assert len(names.stdout.split()) == 4


def test_a_folder_passes_validate_and_is_one_for_a_single_machine(old: str, tmp_path: Path) -> None:
    insert(old, "llm_backends", ROWS)
    folder = tmp_path / "backends"
    assert llmb("--from-postgres", old, "--folder", str(folder)).code == 1
    command = [sys.executable, "-m", "llm_operator.cli", "validate", folder]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout
    assert f"{len(ROWS)} LLMBackends checked: all valid" in ended.stderr
    found = files.read(folder)
    assert len(found.manifests) == len(ROWS)
    assert found.broken == {}


def test_the_columns_of_an_older_predecessor_are_enough(database: str) -> None:
    with psycopg.connect(database, connect_timeout=5) as connection:
        connection.execute(
            "CREATE TABLE public.llm_backends "
            "(id bigint, model_name text, backend_type text, endpoint_url text, max_tokens text)"
        )
        connection.execute(
            "INSERT INTO public.llm_backends VALUES (1, 'phi', 'ollama', 'http://mac:1', '512')"
        )
    ended = llmb("--from-postgres", database)
    assert ended.code == 0, ended.err
    assert "warning: priority: is in no row; 100 counts" in ended.err
    assert [one["spec"] for one in ended.manifests] == [
        {
            "modelName": "phi",
            "backendType": "ollama",
            "endpointURL": "http://mac:1",
            "maxTokens": 512,
        }
    ]


def test_an_empty_table_gives_nothing_and_is_no_mistake(old: str) -> None:
    ended = llmb("--from-postgres", old)
    assert (ended.code, ended.out) == (0, "")
    assert "0 rows: 0 LLMBackends" in ended.err


def test_what_can_not_be_read_is_a_sentence(database: str, old: str) -> None:
    def said(*words: str, **env: str) -> str:
        ended = llmb(*words, **env)
        assert (ended.code, ended.out) == (2, "")
        assert "Traceback" not in ended.err
        assert SECRET not in ended.err
        return ended.err

    port = free_port()
    away = f"postgresql://u:{SECRET}@127.0.0.1:{port}/db"
    assert "public.llm_backends can't be read: " in said("--from-postgres", away)
    assert "percent-encoded" in said("--from-postgres", f"postgresql://u:{SECRET}@h:port/x y")
    with psycopg.connect(old, connect_timeout=5) as connection:
        connection.execute("ALTER TABLE public.llm_backends RENAME COLUMN endpoint_url TO url")
    assert "endpoint_url" in said("--from-postgres", old)
    with psycopg.connect(old, connect_timeout=5) as connection:
        connection.execute("DROP TABLE public.llm_backends")
    assert "no table public.llm_backends" in said("--from-postgres", old)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "required"),
        (("--from-postgres", "x", "--from-api", "y"), "not allowed with"),
        (("--from-postgres", "x", "-o", "a", "--folder", "b"), "not allowed with"),
        (("--from-postgres", "x", "--namespace", "No"), "--namespace: must be"),
        (("--from-postgres", "x", "--ollama-url", "mac"), "--ollama-url: must start with http"),
        (("--from-postgres", "x", "--token-file", "t"), "--token-file is for --from-api"),
        (("--from-api", "http://h", "--metrics"), "--metrics needs --from-postgres"),
        (("--from-postgres", "x", "--metrics"), "give --to or LLMB_DATABASE_URL"),
        (("--from-postgres", "x", "--to", "y"), "--to is for --metrics"),
        (("--from-api", "http://h", "--token-file", "/nowhere"), "--token-file: /nowhere: "),
        (("--from-api", "http://h:x y"), "--from-api: this is no URL"),
        (("--from-api", "h:1"), "--from-api: this is no URL"),
    ],
)
def test_wrong_use_says_what_is_right(words: tuple[str, ...], sentence: str) -> None:
    ended = llmb(*words)
    assert (ended.code, ended.out) == (2, "")
    assert sentence in ended.err


class TestFiles:
    def test_none_is_written_over(self, old: str, tmp_path: Path) -> None:
        insert(old, "llm_backends", ROWS[1:4])
        words = ("--from-postgres", old, "--folder", str(tmp_path / "new" / "backends"))
        assert llmb(*words).code == 0
        files = sorted((tmp_path / "new" / "backends").iterdir())
        assert [file.name for file in files] == [
            "llama3-1-8b.yaml",
            "phi3-mini-2.yaml",
            "phi3-mini.yaml",
        ]
        again = llmb(*words)
        assert (again.code, again.out) == (0, "")
        assert "0 files written, 3 there already." in again.err
        files[0].write_text("edited")
        files[1].unlink()
        third = llmb(*words)
        assert third.code == 1
        assert f"{files[0]}: is there with other content, and was left as it is" in third.err
        assert "1 file written, 1 there already." in third.err
        assert files[0].read_text() == "edited"
        assert files[1].exists()

    def test_one_file_holds_all(self, old: str, tmp_path: Path) -> None:
        insert(old, "llm_backends", ROWS[:4])
        file = tmp_path / "backends.yaml"
        assert llmb("--from-postgres", old, "-o", str(file)).code == 0
        assert len(list(yaml.safe_load_all(file.read_text()))) == 4
        # What was said of a row is in the file too, for whoever reviews the commit.
        assert "# row 1 (phi3:mini): warning: endpoint_url: localhost" in file.read_text()
        lost = llmb("--from-postgres", old, "-o", str(tmp_path / "nowhere" / "x.yaml"))
        assert lost.code == 2
        assert f"{tmp_path / 'nowhere' / 'x.yaml'}: No such file" in lost.err


# The API.

Answer = tuple[int, str, bytes]


@contextmanager
def api(answer: Callable[[str, str | None], Answer]) -> Iterator[str]:
    """A server of the predecessor's API: path and Authorization -> status, type, body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = answer(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "http://127.0.0.1:1/login")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestAPI:
    def test_gives_the_same_as_the_table(self, old: str, tmp_path: Path) -> None:
        insert(old, "llm_backends", ROWS)
        rows = select(old, "llm_backends")
        token = tmp_path / "token"
        token.write_text(f"{SECRET}\n")

        def answer(path: str, authorization: str | None) -> Answer:
            if path != "/api/llm-backends":
                return 404, "application/json", b'{"detail": "Not Found"}'
            if authorization != f"Bearer {SECRET}":
                return 401, "application/json", b'{"detail": "Not authenticated"}'
            return 200, "application/json", json.dumps(rows[::-1]).encode()

        expected = llmb("--from-postgres", old).out
        with api(answer) as url:
            for base in (url, f"{url}/", f"{url}/api/llm-backends/"):
                ended = llmb("--from-api", base, "--token-file", str(token))
                assert ended.out == expected
                assert ended.code == 1
                assert SECRET not in ended.out + ended.err
            refused = llmb("--from-api", url)
            assert (refused.code, refused.out) == (2, "")
            assert f"{url}: wants a token: give its file by --token-file" in refused.err
            lost = llmb("--from-api", f"{url}/elsewhere", "--token-file", str(token))
            assert lost.code == 2
            assert "has no /api/llm-backends" in lost.err

    @pytest.mark.parametrize(
        ("given", "sentence"),
        [
            ((200, "text/html", b"<html>sign in</html>"), "no list of backends in JSON"),
            ((200, "application/json", b'{"items": []}'), "no list of backends in JSON"),
            ((200, "application/json", b"[" * 100_000), "no list of backends in JSON"),
            ((200, "application/json", b"\xff\xfe["), "no list of backends in JSON"),
            ((200, "application/json", b""), "no list of backends in JSON"),
            ((302, "text/plain", b""), "answered 302 instead of a list"),
            ((403, "application/json", b"{}"), "may not read backends"),
            ((500, "text/plain", b"oops"), "answered 500 instead of a list"),
        ],
    )
    def test_an_answer_that_is_no_list_is_a_sentence(self, given: Answer, sentence: str) -> None:
        with api(lambda _path, _token: given) as url:
            ended = llmb("--from-api", url)
        assert (ended.code, ended.out) == (2, "")
        assert f"{url}: " in ended.err
        assert sentence in ended.err

    def test_junk_among_the_rows_costs_no_other(self) -> None:
        good = {"id": 1, "model_name": "phi", "backend_type": "ollama", "endpoint_url": f"{MAC}:1"}
        rows = [7, None, good, {"id": {"a": 1}}, {"model_name": [1], "endpoint_url": {"b": 2}}]
        with api(lambda _path, _token: (200, "application/json", json.dumps(rows).encode())) as url:
            ended = llmb("--from-api", url)
        assert ended.code == 1
        assert [one["metadata"]["name"] for one in ended.manifests] == ["phi", "1"]
        assert "5 rows: 2 LLMBackends, 1 of them switched off by this import, 3 not" in ended.err

    def test_nobody_there_is_a_sentence_without_the_password(self) -> None:
        ended = llmb("--from-api", f"http://user:{SECRET}@127.0.0.1:{free_port()}")
        assert ended.code == 2
        assert "no answer" in ended.err
        assert SECRET not in ended.err

    async def test_a_list_without_an_end_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with api(lambda _path, _token: (200, "application/json", b"[" + b"1," * 100)) as url:
            monkeypatch.setattr(ask, "MOST", 100)
            with pytest.raises(ask.NoRows, match="longer than"):
                await ask.backends(url)

    async def test_a_server_that_never_answers_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked, done = threading.Event(), threading.Event()

        def never(_path: str, _token: str | None) -> Answer:
            asked.set()
            done.wait(60)
            return 200, "application/json", b"[]"

        monkeypatch.setattr(ask, "SECONDS", 0.5)
        with api(never) as url:
            try:
                with pytest.raises(ask.NoRows, match="no answer"):
                    await ask.backends(url)
            finally:
                done.set()
        assert asked.is_set()


# The metrics.

#: In the middle of an hour.
NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)


def metric(days: float, **fields: Any) -> dict[str, Any]:
    """A metric of so many days ago."""
    at = (NOW - timedelta(days=days)).timestamp()
    made = {"timestamp": at, "model": "phi3:mini", "backend": "mlx", "latency_seconds": 3.0}
    return made | {"tokens_generated": 99, "tokens_per_second": 33.0} | fields


METRICS = [
    *(metric(3, request_id=f"r-{n}", stage="classify", prompt_tokens=n) for n in range(20)),
    # One request that asked several models at one time, and what has no id.
    *(metric(3, request_id="r-0", backend="ollama", latency_seconds=7.0) for _ in range(2)),
    metric(3, request_id=None),
    *(metric(60, request_id=f"old-{n}") for n in range(5)),
    metric(500, request_id="ancient"),
    metric(0, timestamp=NOW.timestamp() * 1000),
    metric(1, latency_seconds=-1.0),
    metric(1, tokens_generated=-1, request_id="no-tokens"),
]
STORED = 20 + 2 + 1 + 5 + 1 + 1


def many(uri: str, count: int) -> None:
    """So many metrics, one every 20 seconds."""
    with psycopg.connect(uri, connect_timeout=5) as connection:
        connection.execute(
            "INSERT INTO public.llm_performance_metrics"
            " (timestamp, model, backend, latency_seconds, tokens_generated, tokens_per_second)"
            " SELECT extract(epoch FROM now()) - n * 20, 'phi', 'mlx', 1, 10, 10"
            " FROM generate_series(1, %s) AS n",
            (count,),
        )


class TestMetrics:
    async def test_twice_is_once(self, old: str, migrated: str) -> None:
        assert old == migrated
        insert(old, "llm_performance_metrics", METRICS)
        ended = llmb("--from-postgres", old, "--metrics", LLMB_DATABASE_URL=migrated)
        assert ended.code == 1, ended.err
        assert f"{len(METRICS)} metrics: {STORED} stored, 0 there already, 2 left out" in ended.err
        assert "6 are older than 30 days" in ended.err
        assert "1 are older than 400 days" in ended.err
        assert "timestamp: is in the future" in ended.err
        async with querying(migrated) as query:
            records = await query("SELECT * FROM llmb.llm_usage ORDER BY request_id, at")
            sums = await query("SELECT * FROM llmb.llm_usage_hourly ORDER BY hour, backend_type")
            assert len(records) == STORED
            again = llmb("--from-postgres", old, "--metrics", "--to", migrated)
            assert f"0 stored, {STORED} there already, 2 left out" in again.err
            assert await query("SELECT * FROM llmb.llm_usage ORDER BY request_id, at") == records
            now = await query("SELECT * FROM llmb.llm_usage_hourly ORDER BY hour, backend_type")
            assert now == sums

    async def test_records_say_what_the_metrics_said(self, old: str, migrated: str) -> None:
        told = {"session_id": "s", "user_id": "u", "zone": "z", "intent": "i", "source": "so"}
        insert(old, "llm_performance_metrics", [metric(2, stage="st", **told, prompt_tokens=5)])
        ended = llmb("--from-postgres", old, "--metrics", "--to", migrated, "--namespace", "ai")
        assert ended.code == 0, ended.err
        columns = (
            "request_id, namespace, model, backend_type, target, outcome, stream, total_seconds, "
            "prompt_tokens, completion_tokens, decode_tokens_per_second, session, "
            '"user", zone, intent, source, stage, at'
        )
        async with querying(migrated) as query:
            (row,) = await query(f"SELECT {columns} FROM llmb.llm_usage")
        ours = ("imported-1", "ai", "phi3:mini", "mlx", "mlx", "ok", False, 3.0, 5, 99, None)
        assert row == (*ours, "s", "u", "z", "i", "so", "st", NOW - timedelta(days=2))

    async def test_hourly_sums_outlive_the_records(self, old: str, migrated: str) -> None:
        insert(old, "llm_performance_metrics", METRICS)
        llmb("--from-postgres", old, "--metrics", "--to", migrated)
        async with querying(migrated) as query:

            async def sums() -> list[tuple[Any, ...]]:
                return await query(
                    "SELECT hour, backend_type, requests, total_seconds, completion_tokens, "
                    "decodes FROM llmb.llm_usage_hourly ORDER BY hour, backend_type"
                )

            hour = NOW.replace(minute=0)
            expected = [
                (hour - timedelta(days=500), "mlx", 1, 3.0, 99, 0),
                (hour - timedelta(days=60), "mlx", 5, 15.0, 5 * 99, 0),
                (hour - timedelta(days=3), "mlx", 21, 63.0, 21 * 99, 0),
                (hour - timedelta(days=3), "ollama", 2, 14.0, 2 * 99, 0),
                (hour - timedelta(days=1), "mlx", 1, 3.0, 0, 0),
            ]
            assert await sums() == expected
        # What the operator's upkeep does, and then a run more.
        async with await psycopg.AsyncConnection.connect(migrated, autocommit=True) as connection:
            today = await partitions.today(connection)
            since = today - timedelta(days=30)
            assert await partitions.sweep(connection, since, most=1000) == 6
            _, hours = await rollup.due(connection, since)
            for one in hours:
                await rollup.roll_up(connection, one)
        async with querying(migrated) as query:
            llmb("--from-postgres", old, "--metrics", "--to", migrated)
            assert await query("SELECT hour FROM llmb.llm_usage_hourly ORDER BY hour") == [
                *((row[0],) for row in expected)
            ]

    async def test_many_come_in_batches_with_progress(self, old: str, migrated: str) -> None:
        many(old, 25_000)
        ended = llmb("--from-postgres", old, "--metrics", "--to", migrated)
        assert ended.code == 0, ended.err
        assert "of 25,000 metrics, " in ended.err
        async with querying(migrated) as query:
            assert await query("SELECT count(*) FROM llmb.llm_usage") == [(25_000,)]
            counted = await query(
                "SELECT sum(requests), sum(total_seconds) FROM llmb.llm_usage_hourly"
            )
            assert counted == [(25_000, 25_000.0)]

    async def test_a_column_of_times_is_as_good_as_one_of_seconds(
        self, old: str, migrated: str
    ) -> None:
        insert(old, "llm_performance_metrics", METRICS[:3])
        with psycopg.connect(old, connect_timeout=5) as connection:
            connection.execute(
                "ALTER TABLE public.llm_performance_metrics ALTER COLUMN timestamp"
                " TYPE timestamptz USING to_timestamp(timestamp)"
            )
        assert llmb("--from-postgres", old, "--metrics", "--to", migrated).code == 0
        async with querying(migrated) as query:
            at = await query("SELECT DISTINCT at FROM llmb.llm_usage")
        assert at == [(NOW - timedelta(days=3),)]

    @pytest.mark.timeout(300)
    def test_a_record_that_restarts_meanwhile_has_each_once(
        self, old: str, private_postgres: Postgres
    ) -> None:
        to = private_postgres.uri_of(private_postgres.create_database())
        asyncio.run(migrate.migrate(to, say=lambda _: None))
        many(old, 60_000)

        def count() -> int:
            with psycopg.connect(to, connect_timeout=5) as connection:
                row = connection.execute("SELECT count(*) FROM llmb.llm_usage").fetchone()
            assert row is not None
            return int(row[0])

        def more_than(before: int) -> Callable[[], bool]:
            return lambda: count() > before or running.poll() is not None

        command = [sys.executable, "-m", "llm_operator.cli", "import", "--metrics"]
        command += ["--from-postgres", old, "--to", to]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env={}, text=True) as running:
            try:
                eventually(lambda: count() > 0, within=30)
                for _ in range(2):
                    with private_postgres.down(crash=True):
                        pass
                    eventually(more_than(count()), within=60)
                _, told = running.communicate(timeout=90)
            finally:
                running.kill()
        assert running.returncode == 0, told
        # NB: a batch whose commit was not answered counts as there already.
        assert "there already, 0 left out" in told
        with psycopg.connect(to, connect_timeout=5) as connection:
            sums = "SELECT sum(requests), sum(total_seconds) FROM llmb.llm_usage_hourly"
            assert connection.execute(sums).fetchone() == (60_000, 60_000.0)

    def test_a_record_that_is_away_or_too_old_is_a_sentence(self, old: str) -> None:
        insert(old, "llm_performance_metrics", METRICS[:3])
        words = ("--from-postgres", old, "--metrics", "--to")
        outdated = llmb(*words, old)
        assert outdated.code == 2
        assert "--to: its schema is older than this release: run llmb migrate" in outdated.err
        away = llmb(*words, f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/x")
        assert away.code == 2
        assert "--to: it does not answer or refuses the user" in away.err
        assert SECRET not in away.err
        with psycopg.connect(old, connect_timeout=5) as connection:
            connection.execute("DROP TABLE public.llm_performance_metrics")
        assert "no table public.llm_performance_metrics" in llmb(*words, old).err
