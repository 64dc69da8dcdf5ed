"""The OpenAI front: what it reads of a request, and each byte of what it answers."""

from typing import Any

import orjson
import pytest

from llm_router.errors import STATUS, Code, Problem, Refused
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
from llm_router.fronts import ROUTES, About
from llm_router.fronts.openai import ChatEncoder

FRONT = ROUTES["/v1/chat/completions"]
USER = {"role": "user", "content": "hi"}
TIMING = Timing(1_000, 5_000, 9_000)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def decode(**fields: Any) -> Exchange:
    return FRONT.decode(orjson.dumps({"model": "phi3:mini", "messages": [USER]} | fields))


def refused(**fields: Any) -> Problem:
    with pytest.raises(Refused) as caught:
        decode(**fields)
    return caught.value.problem


def message(**fields: Any) -> Message:
    (decoded,) = decode(messages=[fields]).messages
    return decoded


def encoder(*, include_usage: bool = False) -> ChatEncoder:
    exchange = decode(stream=True, stream_options={"include_usage": include_usage})
    made = FRONT.encoder(exchange, About(request_id="r1", created=1700000000.9, backend="mlx"))
    assert isinstance(made, ChatEncoder)
    return made


class TestDecode:
    def test_the_smallest_request(self) -> None:
        body = {"model": "phi3:mini", "messages": [USER]}
        assert FRONT.decode(orjson.dumps(body)) == Exchange(
            kind=Kind.CHAT,
            dialect=Dialect.OPENAI,
            body=body,
            model="phi3:mini",
            stream=False,
            messages=(Message(role="user", text="hi"),),
        )

    def test_every_field(self) -> None:
        schema = {"type": "object"}
        exchange = decode(
            stream=True,
            stream_options={"include_usage": True},
            n=1,
            max_tokens=10,
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            min_p=0.05,
            seed=7,
            stop=["a", "b"],
            presence_penalty=-1.5,
            frequency_penalty=1,
            repetition_penalty=1.1,
            tools=[TOOL],
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            reasoning_effort="high",
            logprobs=True,
            top_logprobs=3,
            audio={"voice": "x"},
            functions=[{}],
        )
        assert exchange.stream
        assert exchange.include_usage
        assert exchange.sampling == Sampling(
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
        assert exchange.tools == (TOOL,)
        assert exchange.format == schema
        assert exchange.think == "high"
        assert exchange.logprobs == 3
        assert exchange.needs == {"response_format", "logprobs", "audio", "functions"}

    def test_null_is_unset_in_every_field(self) -> None:
        names = (
            "stream stream_options n max_tokens max_completion_tokens temperature top_p top_k "
            "min_p seed stop presence_penalty frequency_penalty repetition_penalty tools "
            "tool_choice response_format reasoning_effort logprobs audio prediction functions"
        ).split()
        for name in names:
            exchange = decode(**{name: None})
            assert exchange.sampling == Sampling(), name
            plain = decode()
            assert exchange.stream is False
            for part in ("tools", "format", "think", "needs", "include_usage"):
                assert getattr(exchange, part) == getattr(plain, part), name

    @pytest.mark.parametrize(
        ("field", "ours"),
        [
            ("max_tokens", "max_tokens"),
            ("max_completion_tokens", "max_tokens"),
            ("temperature", "temperature"),
            ("top_p", "top_p"),
            ("top_k", "top_k"),
            ("seed", "seed"),
            ("presence_penalty", "presence_penalty"),
        ],
    )
    def test_zero_stays_zero(self, field: str, ours: str) -> None:
        value = decode(**{field: 0}).sampling[ours]  # type: ignore[literal-required]
        assert value == 0
        assert value is not None

    def test_max_completion_tokens_goes_before_the_older_name(self) -> None:
        exchange = decode(max_tokens=5, max_completion_tokens=0)
        assert exchange.sampling == Sampling(max_tokens=0)

    def test_one_stop_word_is_a_list_of_one(self) -> None:
        assert decode(stop="x").sampling == Sampling(stop=("x",))

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"type": "text"}, None),
            ({"type": "json_object"}, "json"),
            ({"type": "json_schema", "json_schema": {"name": "a"}}, "json"),
            ({"type": "json_schema", "json_schema": {"schema": {"a": 1}}}, {"a": 1}),
            ({}, None),
        ],
    )
    def test_response_format(self, given: dict[str, Any], expected: object) -> None:
        assert decode(response_format=given).format == expected

    def test_effort_none_means_no_thinking(self) -> None:
        assert decode(reasoning_effort="none").think is False
        assert decode().think is None

    def test_tool_choice_none_takes_the_tools_away(self) -> None:
        assert decode(tools=[TOOL], tool_choice="none").tools == ()
        assert decode(tools=[TOOL], tool_choice="auto").tools == (TOOL,)

    def test_the_clients_document_is_kept_whole(self) -> None:
        exchange = decode(user="ada", metadata={"a": 1})
        assert exchange.body["user"] == "ada"
        assert exchange.body["metadata"] == {"a": 1}


class TestMessages:
    def test_content_may_be_parts(self) -> None:
        parts = [
            {"type": "text", "text": "what is "},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            {"type": "text", "text": "this?"},
            {"type": "image_url", "image_url": {"url": "https://h/x.png", "detail": "low"}},
        ]
        assert message(role="user", content=parts) == Message(
            role="user", text="what is this?", images=("aGk=", "https://h/x.png")
        )

    def test_an_assistants_turn_with_calls(self) -> None:
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        bare = {"function": {"name": "g"}}
        turn = message(role="assistant", content=None, tool_calls=[call, bare], reasoning="hm")
        assert turn == Message(
            role="assistant",
            text="",
            thinking="hm",
            calls=(
                Call(id="c1", name="f", arguments='{"a":1}'),
                Call(id="call_1", name="g", arguments="{}"),
            ),
        )

    def test_a_tools_answer(self) -> None:
        turn = message(role="tool", content="42", tool_call_id="c1", name="f")
        assert turn == Message(role="tool", text="42", call_id="c1", tool="f")

    @pytest.mark.parametrize(
        ("role", "ours"),
        [("developer", "system"), ("function", "tool"), ("system", "system"), ("user", "user")],
    )
    def test_roles(self, role: str, ours: str) -> None:
        assert message(role=role, content="x").role == ours

    def test_a_refusal_is_what_the_assistant_said(self) -> None:
        assert message(role="assistant", content=None, refusal="no").text == "no"

    def test_the_other_name_of_thinking(self) -> None:
        assert message(role="assistant", content="x", reasoning_content="hm").thinking == "hm"


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "param", "said"),
        [
            ({"model": None}, "model", "is required"),
            ({"model": ""}, "model", "is required"),
            ({"model": 5}, "model", "must be a string, is a number"),
            ({"messages": None}, "messages", "must hold at least one message"),
            ({"messages": []}, "messages", "must hold at least one message"),
            ({"messages": {}}, "messages", "must be a list, is an object"),
            ({"messages": [USER, 5]}, "messages[1]", "must be an object, is a number"),
            ({"messages": [{"content": "x"}]}, "messages[0].role", "is required"),
            ({"messages": [{"role": "robot"}]}, "messages[0].role", "is 'robot'"),
            ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a number"),
            (
                {"messages": [{"role": "user", "content": ["x"]}]},
                "messages[0].content[0]",
                "must be an object, is a string",
            ),
            (
                {"messages": [USER, {"role": "user", "content": [{"type": "text", "text": 5}]}]},
                "messages[1].content[0].text",
                "must be a string",
            ),
            (
                {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
                "messages[0].content[0].image_url.url",
                "is required",
            ),
            (
                {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]},
                "messages[0].tool_calls[0].function.name",
                "is required",
            ),
            (
                {
                    "messages": [
                        {
                            "role": "assistant",
                            "tool_calls": [{"function": {"name": "f", "arguments": {}}}],
                        }
                    ]
                },
                "messages[0].tool_calls[0].function.arguments",
                "must be a string, is an object",
            ),
            ({"stream": "true"}, "stream", "must be true or false, is a string"),
            ({"stream_options": []}, "stream_options", "must be an object, is a list"),
            ({"temperature": "0"}, "temperature", "must be a number, is a string"),
            ({"temperature": True}, "temperature", "must be a number, is a boolean"),
            ({"max_tokens": 1.5}, "max_tokens", "must be a whole number, is 1.5"),
            ({"max_tokens": -1}, "max_tokens", "must be at least 0, is -1"),
            ({"max_completion_tokens": -1}, "max_completion_tokens", "must be at least 0"),
            ({"seed": 1e300}, "seed", "must be"),
            ({"stop": [1]}, "stop", "must be a string or a list of strings"),
            ({"n": 0}, "n", "must be at least 1, is 0"),
            ({"n": "2"}, "n", "must be a number, is a string"),
            ({"logprobs": 1}, "logprobs", "must be true or false, is a number"),
            ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "must be at least 0"),
            ({"chat_template_kwargs": []}, "chat_template_kwargs", "must be an object"),
            (
                {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
                *("messages[0].content[0].type", "is required"),
            ),
            ({"tools": [1]}, "tools[0]", "must be an object, is a number"),
            ({"response_format": "json"}, "response_format", "must be an object, is a string"),
            ({"response_format": {"type": "xml"}}, "response_format.type", "'xml'"),
            (
                {"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
                "response_format.json_schema.schema",
                "must be an object",
            ),
            ({"reasoning_effort": 1}, "reasoning_effort", "must be a string, is a number"),
        ],
    )
    def test_names_the_field(self, fields: dict[str, Any], param: str, said: str) -> None:
        problem = refused(**fields)
        assert problem.code is Code.BAD_REQUEST
        assert problem.param == param
        assert problem.message.startswith(f"{param}: ")
        assert said in problem.message

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b"", "missing request body"),
            (b"{", "is not JSON"),
            (b"\xff", "is not JSON"),
            (b'{"model": NaN}', "is not JSON"),
            (b"[]", "must be a JSON object, is a list"),
            (b"null", "must be a JSON object, is null"),
        ],
    )
    def test_a_body_that_is_no_object(self, body: bytes, said: str) -> None:
        with pytest.raises(Refused, match=said) as caught:
            FRONT.decode(body)
        assert caught.value.problem.code is Code.BAD_REQUEST


HEAD = b'data: {"id":"chatcmpl-r1","created":1700000000,"model":"phi3:mini",'
CHUNK = HEAD + b'"object":"chat.completion.chunk",'


class TestStream:
    def test_text_is_these_bytes(self) -> None:
        subject = encoder()
        sent = [
            subject.delta(Delta("Hel")),
            subject.delta(Delta('lo "ä"\n')),
            subject.finish(Finish(Reason.STOP, Usage(prompt_tokens=3)), TIMING),
        ]
        assert sent == [
            CHUNK + b'"choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"},'
            b'"finish_reason":null}]}\n\n',
            CHUNK + b'"choices":[{"index":0,"delta":{"content":"lo \\"\xc3\xa4\\"\\n"},'
            b'"finish_reason":null}]}\n\n',
            CHUNK + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
            b"data: [DONE]\n\n",
        ]

    def test_thinking_calls_and_usage_are_these_bytes(self) -> None:
        subject = encoder(include_usage=True)
        sent = [
            subject.delta(Delta(thinking="hm")),
            subject.delta(Delta(calls=(Call(id="c1", name="f", arguments='{"a":1}'),))),
            subject.delta(Delta(calls=(Call(id="c2", name="g", arguments="{}"),))),
            subject.finish(
                Finish(Reason.STOP, Usage(prompt_tokens=3, completion_tokens=4)), TIMING
            ),
        ]
        assert sent == [
            CHUNK + b'"choices":[{"index":0,"delta":{"role":"assistant","content":"",'
            b'"reasoning":"hm"},"finish_reason":null}]}\n\n',
            CHUNK + b'"choices":[{"index":0,"delta":{"tool_calls":[{"id":"c1","type":"function",'
            b'"function":{"name":"f","arguments":"{\\"a\\":1}"},"index":0}]},'
            b'"finish_reason":null}]}\n\n',
            CHUNK + b'"choices":[{"index":0,"delta":{"tool_calls":[{"id":"c2","type":"function",'
            b'"function":{"name":"g","arguments":"{}"},"index":1}]},"finish_reason":null}]}\n\n',
            CHUNK + b'"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n'
            + CHUNK + b'"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,'
            b'"total_tokens":7}}\n\n'
            b"data: [DONE]\n\n",
        ]  # fmt: skip

    def test_fragments_of_calls_go_on_as_they_are(self) -> None:
        subject = encoder()
        subject.delta(Delta("a"))
        one = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f"}}
        two = {"function": {"arguments": "{}"}}
        sent = subject.delta(Delta(fragments=(one,))) + subject.delta(Delta(fragments=(two,)))
        assert sent == (
            CHUNK + b'"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1",'
            b'"type":"function","function":{"name":"f"}}]},"finish_reason":null}]}\n\n'
            + CHUNK + b'"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,'
            b'"function":{"arguments":"{}"}}]},"finish_reason":null}]}\n\n'
        )  # fmt: skip
        assert b'"finish_reason":"tool_calls"' in subject.finish(Finish(Reason.STOP), TIMING)

    def test_log_probabilities_have_every_field_that_clients_read(self) -> None:
        subject = encoder()
        subject.delta(Delta("a"))
        told = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -2.0}]}
        assert subject.delta(Delta("a", extras={"logprobs": [told]})) == (
            CHUNK + b'"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":['
            b'{"bytes":null,"token":"a","logprob":-0.5,"top_logprobs":[{"bytes":null,"token":"b",'
            b'"logprob":-2.0}]}],"refusal":null},"finish_reason":null}]}\n\n'
        )
        whole = subject.whole(
            Answer("a", "", (), Finish(Reason.STOP), {"logprobs": [told]}), TIMING
        )
        (choice,) = orjson.loads(whole)["choices"]
        assert choice["logprobs"]["content"][0]["top_logprobs"][0]["token"] == "b"

    def test_an_answer_without_a_word_still_begins_with_the_role(self) -> None:
        sent = encoder().finish(Finish(Reason.LENGTH), TIMING)
        events = sent.split(b"\n\n")
        assert b'"delta":{"role":"assistant","content":""}' in events[0]
        assert b'"finish_reason":"length"' in events[1]
        assert events[2:] == [b"data: [DONE]", b""]

    def test_a_length_limit_stays_one_also_after_a_call(self) -> None:
        subject = encoder()
        subject.delta(Delta(calls=(Call(id="c", name="f", arguments="{"),)))
        assert b'"finish_reason":"length"' in subject.finish(Finish(Reason.LENGTH), TIMING)

    @pytest.mark.parametrize("reason", [Reason.LOAD, Reason.UNLOAD])
    def test_reasons_that_openai_does_not_know(self, reason: Reason) -> None:
        assert b'"finish_reason":"stop"' in encoder().finish(Finish(reason), TIMING)

    def test_usage_that_nobody_counted_is_left_out(self) -> None:
        sent = encoder(include_usage=True).finish(Finish(Reason.STOP), TIMING)
        assert b"usage" not in sent
        sent = encoder(include_usage=True).finish(
            Finish(Reason.STOP, Usage(completion_tokens=0)), TIMING
        )
        assert b'"usage":{"completion_tokens":0,"total_tokens":0}' in sent

    def test_usage_is_sent_only_when_asked_for(self) -> None:
        usage = Usage(prompt_tokens=1, completion_tokens=2)
        assert b"usage" not in encoder().finish(Finish(Reason.STOP, usage), TIMING)

    def test_a_failure_is_an_error_event_and_no_done(self) -> None:
        problem = Problem(Code.UPSTREAM, "the answer broke off: mlx")
        assert encoder().failure(problem) == (
            b'data: {"error":{"message":"the answer broke off: mlx","type":"api_error",'
            b'"param":null,"code":"upstream_error"}}\n\n'
        )


class TestWhole:
    def test_text_is_these_bytes(self) -> None:
        finish = Finish(Reason.LENGTH, Usage(prompt_tokens=3, completion_tokens=4))
        assert encoder().whole(Answer("Hello", "", (), finish), TIMING) == (
            b'{"id":"chatcmpl-r1","created":1700000000,"model":"phi3:mini",'
            b'"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",'
            b'"content":"Hello"},"finish_reason":"length","logprobs":null}],'
            b'"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
        )

    def test_a_call_is_these_bytes(self) -> None:
        call = Call(id="c1", name="f", arguments='{"a":1}')
        answer = Answer("", "hm", (call,), Finish(Reason.STOP))
        assert encoder().whole(answer, TIMING) == (
            b'{"id":"chatcmpl-r1","created":1700000000,"model":"phi3:mini",'
            b'"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",'
            b'"content":null,"reasoning":"hm","tool_calls":[{"id":"c1","type":"function",'
            b'"function":{"name":"f","arguments":"{\\"a\\":1}"}}]},'
            b'"finish_reason":"tool_calls","logprobs":null}]}'
        )

    def test_one_that_is_whole_already_goes_as_it_is(self) -> None:
        answer = Answer("a", "", (), Finish(Reason.STOP, whole=b'{"id":"x"}'))
        assert encoder().whole(answer, TIMING) == b'{"id":"x"}'

    def test_an_empty_answer_has_empty_content_and_not_null(self) -> None:
        whole = orjson.loads(encoder().whole(Answer("", "", (), Finish(Reason.STOP)), TIMING))
        assert whole["choices"][0]["message"] == {"role": "assistant", "content": ""}


class TestProblem:
    def test_is_these_bytes(self) -> None:
        problem = Problem(Code.BAD_REQUEST, "temperature: must be a number", param="temperature")
        assert FRONT.problem(problem) == (
            b'{"error":{"message":"temperature: must be a number","type":"invalid_request_error",'
            b'"param":"temperature","code":"bad_request"}}'
        )

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (Code.BAD_REQUEST, "invalid_request_error"),
            (Code.UNSUPPORTED, "invalid_request_error"),
            (Code.MODEL_NOT_FOUND, "not_found_error"),
            (Code.PATH_NOT_FOUND, "not_found_error"),
            (Code.METHOD_NOT_ALLOWED, "invalid_request_error"),
            (Code.TOO_LARGE, "invalid_request_error"),
            (Code.RATE_LIMITED, "rate_limit_error"),
            (Code.NOT_READY, "api_error"),
            (Code.OVERLOADED, "api_error"),
            (Code.UPSTREAM, "api_error"),
            (Code.TIMEOUT, "timeout"),
            (Code.INTERNAL, "api_error"),
        ],
    )
    def test_each_kind_has_a_type(self, code: Code, kind: str) -> None:
        error = orjson.loads(FRONT.problem(Problem(code, "x")))["error"]
        assert (error["type"], error["code"]) == (kind, code.value)

    def test_every_kind_has_a_status(self) -> None:
        assert set(STATUS) == set(Code)
