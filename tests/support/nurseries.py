# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of libnetfilterqueue.trio share."""

import functools
import os
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing
from netns import TIMEOUT

Test = Callable[..., Awaitable[None]]


def in_trio(test: Test) -> Callable[..., None]:
    """A test that runs in trio, and leaves no descriptor."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        _run(test, None, *args, **kwargs)

    return run


def in_mock_time(test: Test) -> Callable[..., None]:
    """The same; when nobody has anything to do, the next timer is over."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        _run(test, trio.testing.MockClock(autojump_threshold=0.02), *args, **kwargs)

    return run


def _run(test: Test, clock: trio.abc.Clock | None, /, *args: Any, **kwargs: Any) -> None:
    async def main() -> None:
        if clock is None:
            with trio.fail_after(TIMEOUT):
                await test(*args, **kwargs)
        else:
            await test(*args, **kwargs)

    before = set(os.listdir("/proc/self/fd"))
    trio.run(main, clock=clock)
    assert set(os.listdir("/proc/self/fd")) <= before  # an earlier test's garbage may go meanwhile


async def eventually(done: Callable[[], object]) -> None:
    """Waits until something has come true."""
    while not done():  # noqa: ASYNC110 (nobody here knows when that is)
        await trio.sleep(0.001)
