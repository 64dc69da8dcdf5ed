"""The figures of the last calls."""

import threading

import pytest

from llm_router.client.report import Outcome, Sample, Window, report


def ok(seconds: float, *, backend: str = "ollama", speed: float | None = None) -> Sample:
    return Sample(
        model="phi3:mini",
        outcome=Outcome.OK,
        seconds=seconds,
        backend=backend,
        tokens_per_second=speed,
    )


FAILED = Sample(model="phi3:mini", outcome=Outcome.ERROR, seconds=60.0)
LEFT = Sample(model="llama3.1:8b", outcome=Outcome.LEFT, seconds=5.0, backend="mlx")


def test_nothing_was_called() -> None:
    assert report(()) == {
        **{"total_requests": 0, "errors": 0, "cancelled": 0},
        **{"avg_latency_seconds": 0.0, "avg_tokens_per_second": 0.0},
        **{"by_model": {}, "by_backend": {}},
    }


def test_a_failed_call_is_counted_and_is_in_no_average() -> None:
    told = report([ok(1.0, speed=10.0), FAILED, ok(3.0, speed=20.0)])
    assert (told["total_requests"], told["errors"], told["cancelled"]) == (3, 1, 0)
    assert (told["avg_latency_seconds"], told["avg_tokens_per_second"]) == (2.0, 15.0)


def test_a_speed_that_is_not_known_is_in_no_average() -> None:
    told = report([ok(1.0, speed=10.0), ok(1.0)])
    assert (told["avg_tokens_per_second"], told["avg_latency_seconds"]) == (10.0, 1.0)


def test_by_model_and_by_backend() -> None:
    told = report([ok(1.0), ok(3.0, backend="mlx", speed=33.0), FAILED, LEFT])
    assert told["by_model"].keys() == {"phi3:mini", "llama3.1:8b"}
    assert told["by_model"]["phi3:mini"]["requests"] == 3
    assert told["by_model"]["phi3:mini"]["errors"] == 1
    assert told["by_model"]["llama3.1:8b"]["cancelled"] == 1
    # The failed call was answered by none.
    assert told["by_backend"].keys() == {"ollama", "mlx"}
    assert told["by_backend"]["mlx"] == {
        **{"requests": 2, "errors": 0, "cancelled": 1},
        **{"avg_latency_seconds": 3.0, "avg_tokens_per_second": 33.0},
    }


def test_a_window_keeps_the_last_calls() -> None:
    window = Window(2)
    for seconds in (1.0, 2.0, 3.0):
        window.add(ok(seconds))
    assert [sample.seconds for sample in window.samples()] == [2.0, 3.0]


@pytest.mark.parametrize("size", [0, -1])
def test_a_window_has_room_for_one(size: int) -> None:
    with pytest.raises(ValueError, match=f"metrics_window_size is {size}"):
        Window(size)


def test_threads_may_add_while_others_ask() -> None:
    window, over = Window(10_000), threading.Event()

    def add() -> None:
        for _ in range(2000):
            window.add(ok(1.0))

    def ask() -> None:
        while not over.is_set():
            report(window.samples())

    adding = [threading.Thread(target=add) for _ in range(4)]
    asking = threading.Thread(target=ask)
    for thread in (*adding, asking):
        thread.start()
    for thread in adding:
        thread.join(30)
    over.set()
    asking.join(30)
    assert report(window.samples())["total_requests"] == 8000
