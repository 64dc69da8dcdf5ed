"""The one way a test waits: ask again and again until a deadline, never a fixed pause.

    row = eventually(lambda: find(uid), within=5)
    row = await eventually_async(lambda: find(uid), within=5)

A check passes when it returns something truthy, and that is what the caller gets. A falsy answer,
None too, or an AssertionError means "not yet"; so a check made of `assert` lines ends with `return
True`. Other errors are the test's own and end the wait at once, unless `retry` names them. At the
deadline the last error is raised as it was, with a note that says how long and how often was asked.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
Errors = tuple[type[Exception], ...]

EVERY = 0.05


def eventually(
    check: Callable[[], T | None],
    *,
    within: float,
    every: float = EVERY,
    retry: Errors = (),
) -> T:
    """Ask `check` until it is true. It blocks: in an async test use `eventually_async`."""
    started, tries = time.monotonic(), 0
    expected: Errors = (AssertionError, *retry)
    while True:
        tries += 1
        try:
            value = check()
            if value:
                return value
            last: Exception = AssertionError(_unmet(check, value))
        except expected as error:
            last = error
        if time.monotonic() - started >= within:
            last.add_note(f"not within {within} s, asked {tries} times")
            raise last
        time.sleep(every)


@overload
async def eventually_async(
    check: Callable[[], Awaitable[T | None]],
    *,
    within: float,
    every: float = ...,
    retry: Errors = ...,
) -> T: ...


@overload
async def eventually_async(
    check: Callable[[], T | None], *, within: float, every: float = ..., retry: Errors = ...
) -> T: ...


async def eventually_async(
    check: Callable[[], Any],
    *,
    within: float,
    every: float = EVERY,
    retry: Errors = (),
) -> Any:
    """Ask `check`, plain or async, until it is true, and let the event loop run in between."""
    started, tries = time.monotonic(), 0
    expected: Errors = (AssertionError, TimeoutError, *retry)
    while True:
        tries += 1
        try:
            value = check()
            if inspect.isawaitable(value):
                left = max(within - (time.monotonic() - started), every)
                value = await asyncio.wait_for(value, left)
            if value:
                return value
            last: Exception = AssertionError(_unmet(check, value))
        except expected as error:
            last = error
        if time.monotonic() - started >= within:
            last.add_note(f"not within {within} s, asked {tries} times")
            raise last
        await asyncio.sleep(every)


def _unmet(check: object, value: object) -> str:
    name = getattr(check, "__qualname__", repr(check))
    hint = "; a check made of asserts ends with `return True`" if value is None else ""
    return f"{name} returned {value!r}{hint}"
