"""W3C Trace Context: what is taken of a caller's headers, and what goes upstream."""

import pytest

from llm_router import trace

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_caller_s_trace_is_continued() -> None:
    found = trace.begin(PARENT, b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert found.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert found.parent_id == "b7ad6b7169203331"
    assert found.sampled
    assert found.state == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert found.span_id != found.parent_id
    assert not trace.begin(PARENT[:-2] + b"00").sampled
    assert trace.begin(PARENT[:-2] + b"03", ratio=0.0).sampled, "other bits say nothing of this"


@pytest.mark.parametrize(
    "parent",
    [
        None,
        b"",
        PARENT[:-1],
        PARENT + b"0",
        PARENT + b"-what",
        b"01" + PARENT[2:],
        b"ff" + PARENT[2:],
        PARENT.replace(b"0af7", b"0AF7"),
        PARENT.replace(b"0af7", b"0ag7"),
        PARENT.replace(b"0af7", b"+af7"),
        PARENT.replace(b"0af7", b"0_f7"),
        PARENT.replace(b"0af7", b"0\xe9f7"),
        PARENT.replace(b"-01", b"-0 "),
        PARENT.replace(b"-", b"_"),
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
    ],
)
def test_anything_else_begins_a_new_one(parent: bytes | None) -> None:
    found = trace.begin(parent, b"a=b")
    assert found.trace_id != "0af7651916cd43dd8448eb211c80319c"
    assert (found.parent_id, found.state, found.sampled) == ("", "", False)
    assert trace.begin(found.header()).trace_id == found.trace_id, "what is sent is valid"


@pytest.mark.parametrize("state", [b"x" * 513, b"a=\xff", b"a=\r\nb: c", b""])
def test_a_state_that_no_header_may_hold_is_dropped(state: bytes) -> None:
    assert trace.begin(PARENT, state).state == ""


def test_each_attempt_has_its_own_span() -> None:
    found = trace.begin(PARENT)
    headers = [found.header(attempt) for attempt in range(4)]
    spans = {header[36:52] for header in headers}
    assert len(spans) == 4
    assert found.span_id.encode() not in spans
    assert spans == {found.attempt_id(attempt).encode() for attempt in range(4)}
    for header in headers:
        assert header[:36] == b"00-0af7651916cd43dd8448eb211c80319c-"
        assert header[52:] == b"-01"
        assert trace.begin(header).parent_id == header[36:52].decode()
    assert trace.begin(PARENT[:-2] + b"00").header().endswith(b"-00")


def test_ids_differ() -> None:
    found = [trace.begin() for _ in range(1000)]
    assert len({each.trace_id for each in found}) == 1000
    assert len({each.span_id for each in found}) == 1000
    assert {len(each.trace_id) for each in found} == {32}
    assert {len(each.span_id) for each in found} == {16}


@pytest.mark.parametrize(("ratio", "low", "high"), [(0, 0, 0), (0.5, 350, 650), (1, 1000, 1000)])
def test_the_ratio_is_of_new_traces(ratio: float, low: int, high: int) -> None:
    sampled = sum(trace.begin(ratio=ratio).sampled for _ in range(1000))
    assert low <= sampled <= high
    assert not trace.begin(PARENT[:-2] + b"00", ratio=ratio).sampled, "the caller's word is kept"
