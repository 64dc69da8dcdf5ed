"""The Ollama fronts: what they read of a request, and each byte of what they answer."""

from typing import Any

import orjson
import pytest
from pytest_mock import MockerFixture

from llm_router.errors import Code, Problem, Refused
from llm_router.exchange import (
    Answer,
    Call,
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
from llm_router.fronts import ROUTES, About, Encoder, ollama

CHAT = ROUTES["/api/chat"]
GENERATE = ROUTES["/api/generate"]
USER = {"role": "user", "content": "hi"}
NOW = "2026-01-02T03:04:05.000006Z"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

#: Monotonic nanoseconds: 4000 to the first token, 8000 in all.
TIMING = Timing(1_000, 5_000, 9_000)
MEASURED = Usage(prompt_tokens=3, completion_tokens=4, load_ns=10, prefill_ns=20, decode_ns=30)

OPTIONS = {
    "num_predict": 10,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "seed": 7,
    "stop": ["a", "b"],
    "presence_penalty": -1.5,
    "frequency_penalty": 1,
    "repeat_penalty": 1.1,
}
SAMPLING = Sampling(
    max_tokens=10,
    temperature=0.5,
    top_p=0.9,
    top_k=40,
    min_p=0.05,
    seed=7,
    stop=("a", "b"),
    presence_penalty=-1.5,
    frequency_penalty=1,
    repeat_penalty=1.1,
)


@pytest.fixture(autouse=True)
def clock(mocker: MockerFixture) -> None:
    mocker.patch.object(ollama, "_now", return_value=NOW)


def chat(**fields: Any) -> Exchange:
    return CHAT.decode(orjson.dumps({"model": "phi3:mini", "messages": [USER]} | fields))


def generate(**fields: Any) -> Exchange:
    return GENERATE.decode(orjson.dumps({"model": "phi3:mini", "prompt": "hi"} | fields))


def encoder(exchange: Exchange) -> Encoder:
    front = CHAT if exchange.kind is Kind.CHAT else GENERATE
    return front.encoder(exchange, About(request_id="r1", created=1.0, backend="mlx"))


class TestDecode:
    def test_the_smallest_chat(self) -> None:
        body = {"model": "phi3:mini", "messages": [USER]}
        assert CHAT.decode(orjson.dumps(body)) == Exchange(
            kind=Kind.CHAT,
            dialect=Dialect.OLLAMA,
            body=body,
            model="phi3:mini",
            stream=True,
            messages=(Message(role="user", text="hi"),),
        )

    def test_the_smallest_prompt(self) -> None:
        body = {"model": "phi3:mini", "prompt": "hi"}
        assert GENERATE.decode(orjson.dumps(body)) == Exchange(
            kind=Kind.PROMPT,
            dialect=Dialect.OLLAMA,
            body=body,
            model="phi3:mini",
            stream=True,
            messages=(Message(role="user", text="hi"),),
        )

    def test_every_field_of_a_chat(self) -> None:
        exchange = chat(
            stream=False,
            options=OPTIONS,
            tools=[TOOL],
            format="json",
            think="low",
            keep_alive="5m",
            logprobs=True,
        )
        assert exchange.stream is False
        assert exchange.sampling == SAMPLING
        assert exchange.tools == (TOOL,)
        assert (exchange.format, exchange.think, exchange.keep_alive) == ("json", "low", "5m")
        assert exchange.logprobs == 0
        assert exchange.needs == {"format", "logprobs"}

    def test_every_field_of_a_prompt(self) -> None:
        exchange = generate(
            stream=False,
            system="be brief",
            suffix="}",
            template="{{ .Prompt }}",
            context=[1, 2],
            images=["aGk="],
            options=OPTIONS,
            format={"type": "object"},
            think=True,
            keep_alive=0,
        )
        assert exchange.messages == (
            Message(role="system", text="be brief"),
            Message(role="user", text="hi", images=("aGk=",)),
        )
        assert exchange.needs == {"suffix", "template", "context", "images", "format"}
        assert exchange.sampling == SAMPLING
        assert exchange.format == {"type": "object"}
        assert exchange.think is True
        assert exchange.keep_alive == 0
        assert exchange.raw is False
        assert generate(raw=True).raw is True

    def test_null_is_unset_in_every_field(self) -> None:
        names = "stream options tools format think keep_alive logprobs raw system suffix template"
        for name in names.split():
            for decode in (chat, generate):
                exchange, plain = decode(**{name: None}), decode()
                assert {**exchange.body, name: None} == exchange.body
                for part in (
                    *("stream", "sampling", "tools", "format", "think", "keep_alive", "needs"),
                    *("raw", "logprobs", "messages"),
                ):
                    assert getattr(exchange, part) == getattr(plain, part), name

    def test_null_options_are_unset(self) -> None:
        assert chat(options=dict.fromkeys(OPTIONS)).sampling == Sampling()

    @pytest.mark.parametrize(
        ("option", "ours"),
        [("num_predict", "max_tokens"), ("temperature", "temperature"), ("seed", "seed")],
    )
    def test_zero_stays_zero(self, option: str, ours: str) -> None:
        value = chat(options={option: 0}).sampling[ours]  # type: ignore[literal-required]
        assert value == 0
        assert value is not None

    @pytest.mark.parametrize("value", [-1, -2])
    def test_no_limit_is_kept(self, value: int) -> None:
        assert chat(options={"num_predict": value}).sampling == Sampling(max_tokens=value)

    @pytest.mark.parametrize("value", [5, -1, 0, 1.5, "5m", "-1", "24h"])
    def test_keep_alive_is_kept_as_written(self, value: object) -> None:
        assert chat(keep_alive=value).keep_alive == value

    @pytest.mark.parametrize(("value", "kept"), [("", None), ("json", "json"), ({}, None)])
    def test_format(self, value: object, kept: object) -> None:
        assert chat(format=value).format == kept

    def test_an_empty_request_has_no_message(self) -> None:
        # NB: Ollama loads the model for it, whatever else is set.
        assert chat(messages=[]).messages == ()
        assert chat(messages=None).messages == ()
        assert generate(prompt="").messages == ()
        assert generate(prompt=None, system="be brief", images=["aGk="]).messages == ()

    def test_a_turn_with_everything(self) -> None:
        call = {"function": {"name": "f", "arguments": {"a": 1}}}
        turns = [
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]},
            {"role": "tool", "content": "42", "tool_name": "f", "tool_call_id": "c1"},
            {"role": "user", "content": "see", "images": ["aGk="]},
        ]
        assert chat(messages=turns).messages == (
            Message(
                role="assistant",
                thinking="hm",
                calls=(Call(id="call_0", name="f", arguments='{"a":1}'),),
            ),
            Message(role="tool", text="42", call_id="c1", tool="f"),
            Message(role="user", text="see", images=("aGk=",)),
        )


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "param", "said"),
        [
            ({"model": None}, "model", "is required"),
            ({"model": 5}, "model", "must be a string, is a number"),
            ({"stream": 1}, "stream", "must be true or false, is a number"),
            ({"options": []}, "options", "must be an object, is a list"),
            ({"options": {"temperature": "0"}}, "options.temperature", "must be a number"),
            ({"options": {"num_predict": 0.5}}, "options.num_predict", "a whole number, is 0.5"),
            ({"options": {"top_k": True}}, "options.top_k", "must be a number, is a boolean"),
            ({"options": {"stop": 5}}, "options.stop", "must be a string or a list of strings"),
            ({"keep_alive": True}, "keep_alive", "a number of seconds or a duration such as 5m"),
            ({"keep_alive": {}}, "keep_alive", "a number of seconds or a duration such as 5m"),
            ({"think": 1}, "think", "must be true, false or a level, is a number"),
            ({"format": "yaml"}, "format", 'must be "json" or a JSON Schema'),
            ({"format": ["x"]}, "format", 'must be "json" or a JSON Schema'),
            ({"tools": {}}, "tools", "must be a list, is an object"),
            ({"messages": "hi"}, "messages", "must be a list, is a string"),
            ({"messages": [USER, {"content": "x"}]}, "messages[1].role", "is required"),
            ({"messages": [{"role": "function"}]}, "messages[0].role", "is 'function'"),
            (
                {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
                "messages[0].content",
                "must be a string, is a list",
            ),
            (
                {"messages": [{"role": "user", "content": "x", "images": ["aGk=", "?"]}]},
                "messages[0].images[1]",
                "is not base64",
            ),
            (
                {
                    "messages": [
                        {
                            "role": "assistant",
                            "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
                        }
                    ]
                },
                "messages[0].tool_calls[0].function.arguments",
                "must be an object, is a string",
            ),
        ],
    )
    def test_names_the_field_of_a_chat(self, fields: dict[str, Any], param: str, said: str) -> None:
        with pytest.raises(Refused) as caught:
            chat(**fields)
        problem = caught.value.problem
        assert (problem.code, problem.param) == (Code.BAD_REQUEST, param)
        assert said in problem.message

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"prompt": ["hi"]}, "prompt"),
            ({"system": 5}, "system"),
            ({"images": ["?"]}, "images[0]"),
            ({"images": 5}, "images"),
            ({"raw": "yes"}, "raw"),
        ],
    )
    def test_names_the_field_of_a_prompt(self, fields: dict[str, Any], param: str) -> None:
        with pytest.raises(Refused) as caught:
            generate(**fields)
        assert caught.value.problem.param == param


BEFORE = b'{"model":"phi3:mini","created_at":"' + NOW.encode() + b'",'


class TestStream:
    def test_of_a_chat_is_these_bytes(self) -> None:
        subject = encoder(chat())
        call = Call(id="c1", name="f", arguments='{"a":1}')
        sent = [
            subject.delta(Delta("Hi", "hm")),
            subject.delta(Delta(calls=(call,))),
            subject.finish(Finish(Reason.STOP, MEASURED), TIMING),
        ]
        assert sent == [
            BEFORE + b'"message":{"role":"assistant","content":"Hi","thinking":"hm"},'
            b'"done":false}\n',
            BEFORE + b'"message":{"role":"assistant","content":"","tool_calls":[{"id":"c1",'
            b'"function":{"index":0,"name":"f","arguments":{"a":1}}}]},"done":false}\n',
            BEFORE + b'"message":{"role":"assistant","content":""},"done":true,'
            b'"done_reason":"stop","total_duration":8000,"load_duration":10,'
            b'"prompt_eval_count":3,"prompt_eval_duration":20,"eval_count":4,'
            b'"eval_duration":30}\n',
        ]

    def test_of_a_prompt_is_these_bytes(self) -> None:
        subject = encoder(generate())
        sent = [
            subject.delta(Delta("Hi", "hm")),
            subject.finish(Finish(Reason.LENGTH, Usage(completion_tokens=1)), TIMING),
        ]
        assert sent == [
            BEFORE + b'"response":"Hi","thinking":"hm","done":false}\n',
            BEFORE + b'"response":"","done":true,"done_reason":"length","total_duration":8000,'
            b'"prompt_eval_duration":4000,"eval_count":1,"eval_duration":4000}\n',
        ]

    def test_a_tool_call_ends_with_stop(self) -> None:
        assert b'"done_reason":"stop"' in encoder(chat()).finish(Finish(Reason.TOOL_CALLS), TIMING)

    def test_a_load_has_no_figures(self) -> None:
        assert encoder(generate()).finish(Finish(Reason.LOAD), TIMING) == (
            BEFORE + b'"response":"","done":true,"done_reason":"load"}\n'
        )

    def test_what_a_host_of_the_same_kind_adds_is_kept(self) -> None:
        subject = encoder(generate())
        assert subject.delta(Delta("a", extras={"logprobs": [1]})) == (
            BEFORE + b'"response":"a","logprobs":[1],"done":false}\n'
        )
        assert b'"context":[1,2]' in subject.finish(
            Finish(Reason.STOP, MEASURED, extras={"context": [1, 2]}), TIMING
        )

    def test_a_time_that_is_nothing_is_left_out(self) -> None:
        # NB: clients divide by it for tokens per second.
        at_once = Timing(1_000, 5_000, 5_000)
        last = orjson.loads(encoder(chat()).finish(Finish(Reason.STOP), at_once))
        assert "eval_duration" not in last
        assert last["total_duration"] == 4000

    def test_broken_arguments_are_an_object_all_the_same(self) -> None:
        call = Call(id="c", name="f", arguments='{"a":')
        line = orjson.loads(encoder(chat()).delta(Delta(calls=(call,))))
        function = line["message"]["tool_calls"][0]["function"]
        assert function["arguments"] == {"arguments": '{"a":'}

    def test_a_failure_is_a_line_with_error_and_no_done(self) -> None:
        assert encoder(chat()).failure(Problem(Code.UPSTREAM, "broke off")) == (
            b'{"error":"broke off"}\n'
        )


class TestWhole:
    def test_of_a_chat_is_these_bytes(self) -> None:
        calls = (Call(id="c1", name="f", arguments=""), Call(id="c2", name="g", arguments="{}"))
        answer = Answer("Hi", "hm", calls, Finish(Reason.STOP, MEASURED))
        assert encoder(chat()).whole(answer, TIMING) == (
            BEFORE + b'"message":{"role":"assistant","content":"Hi","thinking":"hm",'
            b'"tool_calls":[{"id":"c1","function":{"index":0,"name":"f","arguments":{}}},'
            b'{"id":"c2","function":{"index":1,"name":"g","arguments":{}}}]},"done":true,'
            b'"done_reason":"stop","total_duration":8000,"load_duration":10,'
            b'"prompt_eval_count":3,"prompt_eval_duration":20,"eval_count":4,"eval_duration":30}'
        )

    def test_one_that_is_whole_already_goes_as_it_is(self) -> None:
        answer = Answer("a", "", (), Finish(Reason.STOP, whole=b'{"model":"x"}'))
        assert encoder(chat()).whole(answer, TIMING) == b'{"model":"x"}'

    def test_of_a_prompt_is_these_bytes(self) -> None:
        answer = Answer("Hi", "", (), Finish(Reason.STOP, MEASURED), {"context": [1]})
        assert encoder(generate()).whole(answer, TIMING) == (
            BEFORE + b'"response":"Hi","context":[1],"done":true,'
            b'"done_reason":"stop","total_duration":8000,"load_duration":10,'
            b'"prompt_eval_count":3,"prompt_eval_duration":20,"eval_count":4,"eval_duration":30}'
        )


@pytest.mark.parametrize("front", [CHAT, GENERATE], ids=["chat", "generate"])
def test_a_problem_is_these_bytes(front: Any) -> None:
    problem = Problem(Code.MODEL_NOT_FOUND, "model 'x' not found", param="model")
    assert front.problem(problem) == b'{"error":"model \'x\' not found"}'


def test_lines_of_one_millisecond_share_their_time(mocker: MockerFixture) -> None:
    mocker.stopall()
    clock = mocker.patch("llm_router.fronts.ollama.time.time", return_value=0.0)
    written = mocker.spy(ollama, "written")
    subject = encoder(chat())
    for moment in (1_700_000_000.0015, 1_700_000_000.0019, 1_700_000_000.0025):
        clock.return_value = moment
        last = orjson.loads(subject.delta(Delta("a")))["created_at"]
    assert last == "2023-11-14T22:13:20.002000Z"
    assert written.call_count == 2


def test_the_clock_is_utc_as_rfc_3339(mocker: MockerFixture) -> None:
    mocker.stopall()
    line = orjson.loads(encoder(chat()).delta(Delta("a")))
    assert line["created_at"].endswith("Z")
    assert "T" in line["created_at"]
