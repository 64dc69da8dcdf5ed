"""POST /generate: the predecessor's one call, as it is read and answered."""

from typing import Any

import orjson
import pytest

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

FRONT = ROUTES["/generate"]
TIMING = Timing(1_000, 5_000, 9_000)


def decode(**fields: Any) -> Exchange:
    return FRONT.decode(orjson.dumps({"model": "phi3:mini", "prompt": "hi"} | fields))


def encoder() -> Encoder:
    return FRONT.encoder(decode(), About(request_id="r1", created=1.0, backend="mlx"))


class TestDecode:
    def test_the_smallest_request(self) -> None:
        body = {"model": "phi3:mini", "prompt": "hi"}
        assert FRONT.decode(orjson.dumps(body)) == Exchange(
            kind=Kind.PROMPT,
            dialect=Dialect.UNIFIED,
            body=body,
            model="phi3:mini",
            stream=False,
            messages=(Message(role="user", text="hi"),),
            think=False,
        )

    def test_every_field(self) -> None:
        exchange = decode(system="s", temperature=0.5, max_tokens=5, stream=True, stop="x")
        assert exchange.stream
        assert exchange.messages == (
            Message(role="system", text="s"),
            Message(role="user", text="hi"),
        )
        assert exchange.sampling == Sampling(max_tokens=5, temperature=0.5, stop=("x",))

    def test_null_is_unset(self) -> None:
        fields = dict.fromkeys(("system", "temperature", "max_tokens", "stream", "stop"))
        exchange = decode(**fields)
        assert (exchange.sampling, exchange.stream) == (Sampling(), False)

    def test_zero_stays_zero(self) -> None:
        # NB: the predecessor's `temperature or default` made 0.7 of it.
        sampling = decode(temperature=0, max_tokens=0).sampling
        assert sampling == {"temperature": 0, "max_tokens": 0}

    @pytest.mark.parametrize(
        ("fields", "param", "said"),
        [
            ({"model": ""}, "model", "is required"),
            ({"prompt": None}, "prompt", "is required"),
            ({"prompt": 5}, "prompt", "must be a string, is a number"),
            ({"temperature": "hot"}, "temperature", "must be a number, is a string"),
            ({"max_tokens": -1}, "max_tokens", "must be at least 0, is -1"),
            ({"stream": 0}, "stream", "must be true or false, is a number"),
            ({"top_p": 0.5}, "top_p", "is not a field of /generate (max_tokens, model, prompt,"),
        ],
    )
    def test_names_the_field(self, fields: dict[str, Any], param: str, said: str) -> None:
        with pytest.raises(Refused) as caught:
            decode(**fields)
        problem = caught.value.problem
        assert (problem.code, problem.param) == (Code.BAD_REQUEST, param)
        assert said in problem.message


class TestEncode:
    USAGE = Usage(prompt_tokens=3, completion_tokens=4, load_ns=10, prefill_ns=20, decode_ns=30)

    def test_a_stream_is_these_bytes(self) -> None:
        subject = encoder()
        sent = [
            subject.delta(Delta("Hi")),
            subject.finish(Finish(Reason.STOP, self.USAGE), TIMING),
        ]
        assert sent == [
            b'{"response":"Hi","backend":"mlx","model":"phi3:mini","done":false}\n',
            b'{"response":"","backend":"mlx","model":"phi3:mini","done":true,'
            b'"done_reason":"stop","total_duration":8000,"load_duration":10,'
            b'"prompt_eval_count":3,"eval_count":4,"eval_duration":30}\n',
        ]

    def test_a_whole_answer_is_these_bytes(self) -> None:
        answer = Answer("Hi", "", (), Finish(Reason.LENGTH, Usage(completion_tokens=4)))
        assert encoder().whole(answer, TIMING) == (
            b'{"response":"Hi","backend":"mlx","model":"phi3:mini","done":true,'
            b'"done_reason":"length","total_duration":8000,"eval_count":4,"eval_duration":4000}'
        )

    def test_thinking_is_a_field_of_its_own(self) -> None:
        assert encoder().delta(Delta(thinking="hm")) == (
            b'{"response":"","backend":"mlx","model":"phi3:mini","thinking":"hm","done":false}\n'
        )
        whole = encoder().whole(Answer("Hi", "hm", (), Finish(Reason.STOP)), TIMING)
        assert orjson.loads(whole)["thinking"] == "hm"

    def test_a_time_that_is_nothing_is_left_out(self) -> None:
        # NB: clients divide by it for tokens per second.
        at_once = Timing(1_000, 5_000, 5_000)
        assert "eval_duration" not in orjson.loads(encoder().finish(Finish(Reason.STOP), at_once))

    def test_a_failure_is_a_line_with_error_and_no_done(self) -> None:
        problem = Problem(Code.TIMEOUT, "broke off")
        assert encoder().failure(problem) == (
            b'{"error":{"code":"timeout","message":"broke off"}}\n'
        )

    def test_a_problem_is_these_bytes(self) -> None:
        problem = Problem(Code.BAD_REQUEST, "prompt: is required", param="prompt")
        assert FRONT.problem(problem) == (
            b'{"error":{"code":"bad_request","message":"prompt: is required","param":"prompt"}}'
        )
