"""The pieces of a streamed answer, and the whole made of them."""

from typing import Any

from llm_router.client.stream import joined, piece


def test_a_line_of_generate_is_a_piece() -> None:
    one = piece({"response": " world", "thinking": "hm", "done": False})
    assert (str(one), one.text, one.thinking, one.tool_calls) == (" world", " world", "hm", ())


def test_a_line_of_chat_is_a_piece() -> None:
    one = piece({"message": {"role": "assistant", "content": "hi"}, "done": False})
    assert (one.text, one.thinking) == ("hi", "")
    assert one.document["done"] is False


def test_a_tool_call_is_a_piece() -> None:
    call = {"function": {"name": "lights", "arguments": {"on": True}}}
    one = piece({"message": {"role": "assistant", "content": "", "tool_calls": [call]}})
    assert [each.name for each in one.tool_calls] == ["lights"]


def test_the_whole_has_the_text_of_all_and_the_counts_of_the_last() -> None:
    lines: list[dict[str, Any]] = [
        {"model": "m", "response": "", "thinking": "so ", "done": False},
        {"model": "m", "response": "", "thinking": "it is", "done": False},
        {"model": "m", "response": "hello", "done": False, "logprobs": [{"token": "hello"}]},
        {"model": "m", "response": " you", "done": False, "logprobs": [{"token": " you"}]},
        {"model": "m", "response": "", "done": True, "done_reason": "stop", "eval_count": 2},
    ]
    assert joined([piece(line) for line in lines]) == {
        **{"model": "m", "response": "hello you", "thinking": "so it is", "done": True},
        **{"done_reason": "stop", "eval_count": 2},
        **{"logprobs": [{"token": "hello"}, {"token": " you"}]},
    }


def test_the_whole_of_a_chat_is_one_turn() -> None:
    call = {"function": {"name": "lights", "arguments": {}}}
    lines = [
        {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
        {"message": {"role": "assistant", "content": "ok", "tool_calls": [call]}, "done": False},
        {"message": {"role": "assistant", "content": ""}, "done": True},
    ]
    turn = {"role": "assistant", "content": "ok", "thinking": "hm", "tool_calls": [call]}
    assert joined([piece(line) for line in lines]) == {"message": turn, "done": True}
