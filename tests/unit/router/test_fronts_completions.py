"""POST /v1/completions: as it is read, sent to each kind of host, and answered."""

from typing import Any

import openai
import orjson
import pytest

from llm_contract import Defaults, TargetType
from llm_operator.simulate.server import Simulator
from llm_router.errors import Code, Problem, Refused
from llm_router.exchange import (
    Answer,
    Delta,
    Dialect,
    Exchange,
    Finish,
    Kind,
    Message,
    Reason,
    Sampling,
    Timing,
    Usage,
)
from llm_router.fronts import ROUTES, About, Encoder
from llm_router.targets import TARGETS, Terms
from parts.router import DataPort, mlx, ollama, route

FRONT = ROUTES["/v1/completions"]
TIMING = Timing(1_000, 5_000, 9_000)
USAGE = Usage(prompt_tokens=3, completion_tokens=4)
MODEL = "phi3:mini"


def decode(**fields: Any) -> Exchange:
    return FRONT.decode(orjson.dumps({"model": MODEL, "prompt": "hi"} | fields))


def encoder(*, include_usage: bool = False) -> Encoder:
    exchange = decode(stream_options={"include_usage": include_usage})
    return FRONT.encoder(exchange, About(request_id="r1", created=1.5, backend="mlx"))


class TestDecode:
    def test_the_smallest_request(self) -> None:
        body = {"model": MODEL, "prompt": "hi"}
        assert FRONT.decode(orjson.dumps(body)) == Exchange(
            kind=Kind.PROMPT,
            dialect=Dialect.OPENAI,
            body=body,
            model=MODEL,
            stream=False,
            messages=(Message(role="user", text="hi"),),
            raw=True,
        )

    def test_every_field(self) -> None:
        exchange = decode(
            stream=True,
            stream_options={"include_usage": True},
            max_tokens=0,
            temperature=0,
            top_p=0.5,
            seed=1,
            stop=["x"],
            presence_penalty=0.1,
            frequency_penalty=0.2,
            n=1,
            best_of=1,
            echo=False,
            suffix="",
            logprobs=None,
        )
        assert exchange.stream
        assert exchange.include_usage
        assert not exchange.needs
        assert exchange.sampling == Sampling(
            max_tokens=0,
            temperature=0,
            top_p=0.5,
            seed=1,
            stop=("x",),
            presence_penalty=0.1,
            frequency_penalty=0.2,
        )

    def test_a_list_of_one_prompt_is_that_prompt(self) -> None:
        assert decode(prompt=["hi"]).messages == decode().messages
        assert decode(prompt=["hi"]).needs == decode().needs

    @pytest.mark.parametrize(
        ("prompt", "code", "said"),
        [
            (5, Code.BAD_REQUEST, "prompt: must be a string, is a number"),
            ([1, "a"], Code.BAD_REQUEST, "prompt: must be a string, is a list"),
            ([[1], "a"], Code.BAD_REQUEST, "prompt: must be a string, is a list"),
            ([[]], Code.BAD_REQUEST, "prompt: must be a string, is a list"),
            (None, Code.BAD_REQUEST, "prompt: is required"),
            ("", Code.BAD_REQUEST, "prompt: is required"),
            ([], Code.BAD_REQUEST, "prompt: is required"),
            ([""], Code.BAD_REQUEST, "prompt: is required"),
            ([None], Code.BAD_REQUEST, "prompt: is required"),
            ({}, Code.BAD_REQUEST, "prompt: must be a string, is an object"),
            (["a", None], Code.BAD_REQUEST, "prompt: must be a string, is a list"),
            (True, Code.BAD_REQUEST, "prompt: must be a string, is a boolean"),
        ],
    )
    def test_other_prompts(self, prompt: object, code: Code, said: str) -> None:
        with pytest.raises(Refused) as caught:
            decode(prompt=prompt)
        problem = caught.value.problem
        assert (problem.code, problem.message, problem.param) == (code, said, "prompt")
        assert problem.status == 400

    @pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [5], [[1, 2]], [[1], [2]]])
    def test_prompts_that_only_this_protocol_has(self, prompt: object) -> None:
        exchange = decode(prompt=prompt)
        assert exchange.needs == {"prompt"}
        assert exchange.body["prompt"] == prompt

    def test_no_answer(self) -> None:
        with pytest.raises(Refused, match="n: must be at least 1, is 0"):
            decode(n=0)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("suffix", "x"), ("echo", True), ("best_of", 2), ("n", 2)),
            *(("logprobs", 0), ("logprobs", 5)),
        ],
    )
    def test_what_not_every_target_has(self, name: str, value: object) -> None:
        exchange = decode(**{name: value})
        assert exchange.needs == {name}
        assert exchange.logprobs == (value if name == "logprobs" else None)
        assert TARGETS[TargetType.MLX].lacks(exchange) == name
        assert TARGETS[TargetType.OPENAI].lacks(exchange) is None


class TestUpstream:
    FIELDS: dict[str, Any] = {  # noqa: RUF012
        "max_tokens": 5,
        "temperature": 0,
        "logit_bias": {"1": 2},
        "user": "ada",
        "best_of": 1,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
    }
    STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}  # noqa: RUF012
    DROPPED = ("reasoning_effort", "response_format", "user")

    def sent(self, kind: TargetType) -> tuple[bytes, Any, tuple[str, ...]]:
        exchange = decode(**self.FIELDS)
        assert TARGETS[kind].lacks(exchange) is None
        outgoing = TARGETS[kind].encode(exchange, Terms(model="up", defaults=Defaults()))
        return outgoing.path, orjson.loads(outgoing.body), outgoing.dropped

    def test_ollama(self) -> None:
        path, body, dropped = self.sent(TargetType.OLLAMA)
        assert path == b"/api/generate"
        assert body == {
            "model": "up",
            "prompt": "hi",
            "raw": True,
            "stream": True,
            "options": {"num_predict": 5, "temperature": 0},
        }
        assert dropped == ("logit_bias", *self.DROPPED)

    def test_mlx(self) -> None:
        path, body, dropped = self.sent(TargetType.MLX)
        assert path == b"/v1/completions"
        sampling = {"max_tokens": 5, "temperature": 0, "logit_bias": {"1": 2}}
        assert body == {"model": "up", "prompt": "hi"} | sampling | self.STREAM
        assert dropped == self.DROPPED

    def test_openai(self) -> None:
        path, body, dropped = self.sent(TargetType.OPENAI)
        assert path == b"/v1/completions"
        assert body == {"model": "up", "prompt": "hi"} | self.FIELDS | self.STREAM
        assert dropped == ()


class TestEncode:
    HEAD = b'data: {"id":"cmpl-r1","object":"text_completion","created":1,"model":"phi3:mini",'

    def test_a_stream_is_these_bytes(self) -> None:
        subject = encoder()
        assert subject.delta(Delta("Hi")) == (
            self.HEAD
            + b'"choices":[{"index":0,"text":"Hi","logprobs":null,"finish_reason":null}]}\n\n'
        )
        assert subject.finish(Finish(Reason.LENGTH, USAGE), TIMING) == (
            self.HEAD
            + b'"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"length"}]}\n\n'
            + b"data: [DONE]\n\n"
        )

    def test_usage_when_asked_for(self) -> None:
        sent = encoder(include_usage=True).finish(Finish(Reason.STOP, USAGE), TIMING)
        assert sent.endswith(
            self.HEAD + b'"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,'
            b'"total_tokens":7}}\n\ndata: [DONE]\n\n'
        )

    def test_usage_that_no_host_counted_is_left_out(self) -> None:
        sent = encoder(include_usage=True).finish(Finish(Reason.STOP), TIMING)
        assert b"usage" not in sent

    def test_a_whole_answer_is_these_bytes(self) -> None:
        answer = Answer("Hi", "", (), Finish(Reason.STOP, USAGE))
        assert encoder().whole(answer, TIMING) == (
            self.HEAD.removeprefix(b"data: ")
            + b'"choices":[{"index":0,"text":"Hi","logprobs":null,"finish_reason":"stop"}],'
            b'"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
        )

    def test_log_probabilities_are_lists(self) -> None:
        subject = encoder()
        first = {"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -2.0}]}
        sent = []
        for entry in (first, {"token": "x", "logprob": -1.0}):
            chunk = subject.delta(Delta(entry["token"], extras={"logprobs": [entry]}))  # type: ignore[arg-type]
            sent.append(orjson.loads(chunk[6:])["choices"][0]["logprobs"])
        assert sent == [
            {
                "tokens": ["Hi"],
                "token_logprobs": [-0.5],
                "top_logprobs": [{"a": -2.0}],
                "text_offset": [0],
            },
            {
                "tokens": ["x"],
                "token_logprobs": [-1.0],
                "top_logprobs": [{}],
                "text_offset": [2],
            },
        ]
        answer = Answer("Hi", "", (), Finish(Reason.STOP), {"logprobs": [first]})
        (choice,) = orjson.loads(encoder().whole(answer, TIMING))["choices"]
        assert choice["logprobs"]["tokens"] == ["Hi"]

    def test_thinking_is_not_text(self) -> None:
        chunk = orjson.loads(encoder().delta(Delta(thinking="hm"))[6:])
        (choice,) = chunk["choices"]
        assert (choice["text"], choice["reasoning"]) == ("", "hm")

    def test_a_failure_is_an_error_and_no_done(self) -> None:
        sent = encoder().failure(Problem(Code.TIMEOUT, "broke off"))
        assert sent == (
            b'data: {"error":{"message":"broke off","type":"timeout","param":null,'
            b'"code":"timeout"}}\n\n'
        )


@pytest.mark.parametrize("kind", ["ollama", "mlx"])
async def test_the_official_client(
    data_port: DataPort, ollama_simulator: Simulator, mlx_simulator: Simulator, kind: str
) -> None:
    simulator = {"ollama": ollama_simulator, "mlx": mlx_simulator}[kind]
    target = {"ollama": ollama, "mlx": mlx}[kind](f"http://127.0.0.1:{simulator.port}")
    data_port.publish(route(MODEL, target))
    client = openai.AsyncOpenAI(
        base_url=f"{data_port.url}/v1", api_key="x", http_client=data_port.client, max_retries=0
    )
    whole = await client.completions.create(model=MODEL, prompt="hello", max_tokens=3)
    assert whole.object == "text_completion"
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 3
    stream = await client.completions.create(
        model=MODEL, prompt=["hello"], max_tokens=3, stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert len({chunk.id for chunk in chunks}) == 1
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"
    received = simulator.requests[-1]
    assert received.path == ("/api/generate" if kind == "ollama" else "/v1/completions")
    with pytest.raises(openai.BadRequestError, match="echo: a host of type"):
        await client.completions.create(model=MODEL, prompt="hello", echo=True)
