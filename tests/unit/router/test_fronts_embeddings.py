"""Embeddings: as they are read, sent to each kind of host, read back and answered."""

import math
from typing import Any

import httpx
import ollama as ollama_sdk
import openai
import orjson
import pytest

from llm_contract import Defaults, TargetType
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from llm_router.errors import AttemptFailed, Cause, Refused
from llm_router.exchange import Answer, Exchange, Finish, Reason, Timing, Usage
from llm_router.fronts import ROUTES, About
from llm_router.targets import TARGETS, Decoder, Terms, decoded
from parts.process import free_port
from parts.router import PLAIN, DataPort, mlx, ollama, route

MODEL = "phi3:mini"
OPENAI, EMBED, OLDER = "/v1/embeddings", "/api/embed", "/api/embeddings"
TEXTS = ["one", "two words"]


def decode(path: str, **fields: Any) -> Exchange:
    return ROUTES[path].decode(orjson.dumps({"model": MODEL} | fields))


def whole(exchange: Exchange, path: str, answer: Answer) -> Any:
    about = About(request_id="r1", created=1.0, backend="ollama")
    return orjson.loads(ROUTES[path].encoder(exchange, about).whole(answer, Timing(1, 5, 5)))


class TestDecode:
    @pytest.mark.parametrize("path", [OPENAI, EMBED])
    @pytest.mark.parametrize("sent", ["one", ["one"], TEXTS])
    def test_one_text_or_more(self, path: str, sent: str | list[str]) -> None:
        exchange = decode(path, input=sent, dimensions=8)
        assert exchange.inputs == ((sent,) if isinstance(sent, str) else tuple(sent))
        assert (exchange.dimensions, exchange.stream) == (8, False)

    def test_the_older_form(self) -> None:
        assert decode(OLDER, prompt="one").inputs == ("one",)
        assert decode(OLDER).inputs == ()

    @pytest.mark.parametrize(
        ("path", "fields", "said"),
        [
            (OPENAI, {}, "input: must hold at least one text"),
            (OPENAI, {"input": []}, "input: must hold at least one text"),
            (OPENAI, {"input": ["a", ""]}, "input: must hold at least one text"),
            (OPENAI, {"input": [1, "a"]}, "input: must be a string or a list of strings"),
            (OPENAI, {"input": [[]]}, "input: must be a string or a list of strings"),
            (OPENAI, {"input": "a", "encoding_format": 5}, "encoding_format: must be a string"),
            (OPENAI, {"input": "a", "encoding_format": "hex"}, "encoding_format: must be one of"),
            (OPENAI, {"input": "a", "dimensions": -1}, "dimensions: must be at least 0"),
            (EMBED, {"input": [1]}, "input: must be a string or a list of strings"),
            (EMBED, {"input": "a", "truncate": 1}, "truncate: must be true or false"),
            (OLDER, {"prompt": ["a"]}, "prompt: must be a string, is a list"),
        ],
    )
    def test_names_the_field(self, path: str, fields: dict[str, Any], said: str) -> None:
        with pytest.raises(Refused, match=said):
            decode(path, **fields)


@pytest.mark.parametrize(
    ("path", "fields", "kind", "body", "dropped"),
    [
        (
            OPENAI,
            {"input": "one", "dimensions": 8, "encoding_format": "base64", "user": "ada"},
            TargetType.OLLAMA,
            {"input": ["one"], "dimensions": 8, "keep_alive": 60},
            ("user",),
        ),
        (
            OPENAI,
            {"input": TEXTS, "encoding_format": "base64", "user": "ada"},
            TargetType.OPENAI,
            {"input": TEXTS, "encoding_format": "float", "user": "ada"},
            (),
        ),
        (
            EMBED,
            {"input": TEXTS, "truncate": False, "keep_alive": "5m", "options": {"num_ctx": 9}},
            TargetType.OLLAMA,
            {"input": TEXTS, "truncate": False, "keep_alive": "5m", "options": {"num_ctx": 9}},
            (),
        ),
        (
            EMBED,
            {"input": TEXTS, "truncate": False, "keep_alive": "5m", "options": {"num_ctx": 9}},
            TargetType.OPENAI,
            {"input": TEXTS, "encoding_format": "float"},
            ("options", "truncate"),
        ),
        (OLDER, {"prompt": "a"}, TargetType.OLLAMA, {"prompt": "a", "keep_alive": 60}, ()),
        (
            OLDER,
            {"prompt": "a"},
            TargetType.OPENAI,
            {"input": ["a"], "encoding_format": "float"},
            (),
        ),
    ],
)
def test_upstream(
    path: str, fields: dict[str, Any], kind: TargetType, body: Any, dropped: tuple[str, ...]
) -> None:
    exchange = decode(path, **fields)
    assert TARGETS[kind].lacks(exchange) is None
    defaults = Defaults(temperature=1, max_tokens=5, keep_alive_seconds=60)
    outgoing = TARGETS[kind].encode(exchange, Terms(model="up", defaults=defaults))
    own = b"/api/embeddings" if path == OLDER else b"/api/embed"
    assert outgoing.path == (own if kind is TargetType.OLLAMA else b"/v1/embeddings")
    assert orjson.loads(outgoing.body) == {"model": "up"} | body
    assert outgoing.dropped == dropped


def test_mlx_has_none() -> None:
    assert TARGETS[TargetType.MLX].lacks(decode(OPENAI, input="a")) == "embeddings"


@pytest.mark.parametrize(("tokens", "wanted"), [([1, 2], 1), ([[1, 2], [3]], 2)])
def test_tokens_go_to_hosts_of_the_protocol_only(tokens: list[Any], wanted: int) -> None:
    exchange = decode(OPENAI, input=tokens)
    assert len(exchange.inputs) == wanted
    assert TARGETS[TargetType.OLLAMA].lacks(exchange) == "input"
    assert TARGETS[TargetType.OPENAI].lacks(exchange) is None
    terms = Terms(model="up", defaults=Defaults())
    body = TARGETS[TargetType.OPENAI].encode(exchange, terms).body
    assert orjson.loads(body)["input"] == tokens


class TestRead:
    def reader(self, kind: TargetType) -> Decoder:
        exchange = decode(OPENAI, input=TEXTS)
        outgoing = TARGETS[kind].encode(exchange, Terms(model="up", defaults=Defaults()))
        assert outgoing.reader is not None
        return outgoing.reader()

    OLLAMA = b'{"embeddings":[[0.5,1],[2,3]],"load_duration":7,"prompt_eval_count":3}'
    # Out of order, as a host may answer.
    OTHER = (
        b'{"data":[{"index":1,"embedding":[2,3]},{"index":0,"embedding":[0.5,1]}],'
        b'"usage":{"prompt_tokens":3}}'
    )

    @pytest.mark.parametrize(
        ("kind", "body", "load"), [("ollama", OLLAMA, 7), ("openai", OTHER, None)]
    )
    def test_however_it_is_cut(self, kind: str, body: bytes, load: int | None) -> None:
        for cut in range(len(body)):
            reader = self.reader(TargetType(kind))
            assert decoded(reader, body[: cut + 1]) == []
            rest = body[cut + 1 :]
            assert rest == b"" or decoded(reader, rest) == []
            assert not reader.started
            usage = Usage(prompt_tokens=3, load_ns=load)
            vectors: list[list[float]] = [[0.5, 1], [2, 3]]
            assert decoded(reader, b"") == [Finish(Reason.STOP, usage, vectors=vectors)]
            assert reader.done

    @pytest.mark.parametrize("kind", [TargetType.OLLAMA, TargetType.OPENAI])
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{}",
            b"[]",
            OLLAMA[:-1],
            b'{"embeddings":[[1]]}',
            b'{"embeddings":[[1],["a"]]}',
            b'{"embeddings":[[1],null]}',
            b'{"data":[{"index":0,"embedding":"AAAA"},{"index":1,"embedding":"AAAA"}]}',
            b'{"data":5}',
        ],
    )
    def test_anything_else_is_broken(self, kind: TargetType, body: bytes) -> None:
        reader = self.reader(kind)
        if body:
            decoded(reader, body)
        with pytest.raises(AttemptFailed) as caught:
            decoded(reader, b"")
        assert caught.value.cause is Cause.BROKEN_STREAM

    @pytest.mark.parametrize(("packed", "breaks"), [("base64", True), ("float", False)])
    @pytest.mark.parametrize("number", [1e39, -1e39, 10**39])
    def test_numbers_that_base64_has_no_room_for(
        self, number: float, packed: str, breaks: bool
    ) -> None:
        exchange = decode(OPENAI, input="a", encoding_format=packed)
        terms = Terms(model="up", defaults=Defaults())
        reader = TARGETS[TargetType.OPENAI].encode(exchange, terms).reader()
        body = b'{"data":[{"index":0,"embedding":[0.5,%s]}]}' % f"{number:.0f}".encode()
        decoded(reader, body)
        if breaks:
            with pytest.raises(AttemptFailed, match="float32") as caught:
                decoded(reader, b"")
            assert caught.value.cause is Cause.BROKEN_STREAM
        else:
            assert reader.feed(b"")

    def test_the_largest_number_that_base64_has_room_for(self) -> None:
        exchange = decode(OPENAI, input="a", encoding_format="base64")
        terms = Terms(model="up", defaults=Defaults())
        reader = TARGETS[TargetType.OPENAI].encode(exchange, terms).reader()
        decoded(reader, b'{"data":[{"index":0,"embedding":[3.4028234663852886e38]}]}')
        (finish,) = decoded(reader, b"")
        assert isinstance(finish, Finish)
        assert whole(exchange, OPENAI, Answer("", "", (), finish))["data"]


class TestEncode:
    ANSWER = Answer(
        "", "", (), Finish(Reason.STOP, Usage(prompt_tokens=3, load_ns=7), vectors=[[0.5, 1.0]])
    )

    def test_openai(self) -> None:
        told = whole(decode(OPENAI, input="a"), OPENAI, self.ANSWER)
        assert told == {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}],
            "model": MODEL,
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        }

    def test_base64_is_float32_in_little_endian(self) -> None:
        exchange = decode(OPENAI, input="a", encoding_format="base64")
        told = whole(exchange, OPENAI, self.ANSWER)
        assert told["data"][0]["embedding"] == "AAAAPwAAgD8="

    def test_ollama(self) -> None:
        assert whole(decode(EMBED, input="a"), EMBED, self.ANSWER) == {
            "model": MODEL,
            "embeddings": [[0.5, 1.0]],
            "total_duration": 4,
            "load_duration": 7,
            "prompt_eval_count": 3,
        }
        assert whole(decode(OLDER, prompt="a"), OLDER, self.ANSWER) == {"embedding": [0.5, 1.0]}


class TestThroughTheRouter:
    @pytest.fixture
    def embeds(self, data_port: DataPort, ollama_simulator: Simulator) -> DataPort:
        """A model of which the first host is an MLX and the second an Ollama."""
        away = mlx(f"http://127.0.0.1:{free_port()}")
        url = f"http://127.0.0.1:{ollama_simulator.port}"
        data_port.publish(route(MODEL, away, ollama(url)), route("on-mlx", away))
        return data_port

    async def test_the_official_openai_client(self, embeds: DataPort) -> None:
        client = openai.AsyncOpenAI(
            base_url=f"{embeds.url}/v1", api_key="x", http_client=embeds.client, max_retries=0
        )
        # NB: it asks for base64 when the caller asks for nothing.
        packed = await client.embeddings.create(model=MODEL, input=TEXTS)
        plain = await client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
        assert [item.index for item in packed.data] == [0, 1]
        for one, other in zip(packed.data, plain.data, strict=True):
            assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert plain.usage.prompt_tokens == 3
        with pytest.raises(openai.BadRequestError, match="embeddings: a host of type mlx"):
            await client.embeddings.create(model="on-mlx", input="a")
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="nope", input="a")

    async def test_the_official_ollama_client(self, embeds: DataPort) -> None:
        client = ollama_sdk.AsyncClient(host=embeds.url, **PLAIN)
        client._client = embeds.client
        told = await client.embed(model=MODEL, input=TEXTS)
        assert [len(vector) for vector in told.embeddings] == [64, 64]
        assert told.prompt_eval_count == 3
        one = await client.embeddings(model=MODEL, prompt=TEXTS[0])
        # The older route's vector points the same way; only the newer one's has length 1.
        length = math.hypot(*one.embedding)
        assert length != pytest.approx(1)
        assert [x / length for x in one.embedding] == pytest.approx(
            list(told.embeddings[0]), abs=1e-6
        )

    async def test_an_mlx_is_passed_over(self, embeds: DataPort) -> None:
        response: httpx.Response = await embeds.post(OPENAI, model=MODEL, input="a")
        assert response.headers["x-llm-backend"] == "phi3-mini/ollama"
        assert response.headers["x-llm-fallback-reason"] == "Unsupported"

    @pytest.mark.parametrize(
        ("mode", "status"), [("status:500", 502), ("status:503", 503), ("status:429", 429)]
    )
    @pytest.mark.parametrize("path", [OPENAI, EMBED, OLDER])
    async def test_a_host_that_fails(
        self, embeds: DataPort, ollama_simulator: Simulator, path: str, mode: str, status: int
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode=mode)
        body = {"prompt": "a"} if path == OLDER else {"input": "a"}
        response = await embeds.post(path, model=MODEL, **body)
        assert response.status_code == status
        error = response.json()["error"]
        assert isinstance(error, dict if path == OPENAI else str)
