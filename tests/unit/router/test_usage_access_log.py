"""Log lines and the access log among them: one form, one writer, and nobody waits for it."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from llm_router import logs
from llm_router.logs import LineWriter
from llm_router.usage import Caller, Outcome, Record
from llm_router.usage.access_log import AccessLog
from parts.eventually import eventually


def record(number: int = 1) -> Record:
    """The record of one request."""
    return Record(
        request_id=f"r{number}",
        at=1700000000.25,
        front="ollama_chat",
        outcome=Outcome.CANCELLED,
        status=499,
        total_seconds=0.5,
        caller=Caller(user="Jürgen"),
    )


class Pipe:
    """A writer and the other end of it."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self.reader = os.fdopen(reading, "rb")
        self.stream = os.fdopen(writing, "w")
        self.writer = LineWriter(self.stream)
        self.logger = logging.Logger("other")
        handler = logging.StreamHandler(self.writer)
        handler.setFormatter(logs.JSONFormatter())
        self.logger.addHandler(handler)

    def lines(self) -> list[dict[str, object]]:
        """Everything that was written, to the end."""
        self.writer.close()
        self.stream.close()
        return [json.loads(line) for line in self.reader.read().splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe whose reader has not begun."""
    made = Pipe()
    yield made
    made.reader.close()
    made.writer.close()
    made.stream.close()


def test_a_line_has_the_keys_of_every_other_line(pipe: Pipe) -> None:
    pipe.logger.warning("listening", extra={"port": 1, "name_": "Jürgen \ud800"})
    AccessLog(pipe.writer).take([record(1), record(2)])
    other, one, two = pipe.lines()
    assert other.keys() == {"time", "level", "logger", "event", "port", "name_"}
    assert [one["request_id"], two["request_id"]] == ["r1", "r2"]
    assert list(one)[:4] == list(other)[:4] == ["time", "level", "logger", "event"]
    assert (
        one.items()
        >= {
            "time": "2023-11-14T22:13:20.750Z",
            "level": "INFO",
            "event": "request",
            "outcome": "cancelled",
            "status": 499,
            "user": "Jürgen",
        }.items()
    )
    assert len(str(one["time"])) == len(str(other["time"]))


def test_lines_of_many_threads_stay_whole(pipe: Pipe) -> None:
    written = AccessLog(pipe.writer)

    def others() -> None:
        for _ in range(100):
            pipe.logger.info("said")

    thread = threading.Thread(target=others)
    thread.start()
    for number in range(100):
        written.take([record(number)])
    thread.join(10)
    events = [line["event"] for line in pipe.lines()]
    assert (events.count("said"), events.count("request")) == (100, 100)


def test_a_reader_that_stands_still_holds_up_nobody(pipe: Pipe) -> None:
    written = AccessLog(pipe.writer)
    batch = [record(number) for number in range(1000)]
    begun = time.monotonic()
    # NB: the pipe takes 64 KiB; the rest waits up to the bound, and then is counted.
    while not pipe.writer.dropped:
        written.take(batch)
    pipe.logger.error("not_waited_for")
    assert time.monotonic() - begun < 5
    assert pipe.writer.dropped == 1001
    reading = threading.Thread(target=pipe.reader.read)
    reading.start()
    eventually(lambda: pipe.writer._written == pipe.writer._taken, within=10)
    dropped = pipe.writer.dropped
    pipe.logger.error("heard_again")
    assert pipe.writer.dropped == dropped
    pipe.writer.close()
    pipe.stream.close()
    reading.join(10)


def test_a_pipe_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    AccessLog(pipe.writer).take([record(number) for number in range(1000)])
    found: list[bytes] = []
    reading = threading.Thread(target=lambda: found.append(pipe.reader.read()))
    reading.start()
    eventually(lambda: pipe.writer._written == pipe.writer._taken, within=10)
    pipe.writer.close()
    pipe.stream.close()
    reading.join(10)
    assert len(found[0].splitlines()) == 1000


def test_a_reader_that_left_is_survived(pipe: Pipe) -> None:
    pipe.reader.close()
    AccessLog(pipe.writer).take([record()])
    pipe.writer.close()
    assert not pipe.writer._thread.is_alive()
    pipe.logger.info("too_late")
    assert pipe.writer.dropped == 1


PROGRAM = """
import logging, sys
sys.path[:0] = PATH
from llm_router import logs
logs.configure("INFO")
for number in range(1000):
    logging.getLogger("x").info("said", extra={"number": number, "text": "x" * 1000})
"""


def test_the_end_of_the_process_loses_no_line() -> None:
    program = PROGRAM.replace("PATH", repr(sys.path))
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30)
    assert ended.returncode == 0
    numbers = [json.loads(line)["number"] for line in ended.stderr.splitlines()]
    assert numbers == list(range(1000))


def test_the_end_of_the_process_does_not_wait_for_a_reader() -> None:
    program = PROGRAM.replace("PATH", repr(sys.path))
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    try:
        assert process.wait(20) == 0, "with its pipe full"
    finally:
        process.kill()
        process.wait(10)
        assert process.stderr is not None
        process.stderr.close()
