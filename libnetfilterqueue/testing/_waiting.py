# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for what happens in the fake kernel: by threads, asyncio's tasks and greenlets.

The kernel's thread and its lock are the system's own also where gevent has replaced them: whatever
waits for the kernel in a loop must not keep the kernel from running.
"""

import contextlib
import importlib
import os
import select
import sys
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from libnetfilterqueue.testing._kernel import FakeKernel

TIMEOUT = 5.0  # seconds


def original(module: str, name: str) -> Any:
    """A function of the standard library's, without what gevent has put in its place."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


def poll_readable(fd: int, timeout: float) -> None:
    """Waits until the descriptor is readable, or so many seconds; greenlets run meanwhile."""
    poll: Any = select.poll  # gevent's after monkey-patching
    if "gevent" in sys.modules:
        from gevent._hub_local import get_hub_if_exists  # noqa: PLC0415 (nothing public asks that)

        if get_hub_if_exists() is not None:
            from gevent.select import poll  # noqa: PLC0415
    poller = poll()
    poller.register(fd, select.POLLIN)
    poller.poll(timeout * 1000)


class Waiters:
    """What is to be called once something has come true. Its owner's lock protects it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], object], Callable[[], object]]] = []

    def add(self, done: Callable[[], object], notify: Callable[[], object]) -> None:
        """Has `notify` called, from any thread, when `done` is true."""
        self._waiting.append((done, notify))

    def remove(self, notify: Callable[[], object]) -> None:
        """Forgets it."""
        self._waiting = [entry for entry in self._waiting if entry[1] is not notify]

    def look(self) -> None:
        """To be called whenever something has changed."""
        for done, notify in self._waiting:
            if done():
                notify()


class Waitable:
    """Something that will come true in the kernel.

    `wait()` waits for it in a thread or greenlet, `await` in asyncio. Both return the object.
    """

    def __init__(self, kernel: "FakeKernel", done: Callable[[], object], what: str) -> None:
        self._kernel = kernel
        self._done = done
        self._what = what

    def wait(self, timeout: float | None = TIMEOUT) -> Self:
        """Wait until it is true, so many seconds at most, None for ever.

        Other greenlets run meanwhile, with and without monkey-patching. Raises TimeoutError.
        """
        end = None if timeout is None else time.monotonic() + timeout
        readable = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

        def notify() -> None:
            os.eventfd_write(readable, 1)

        try:
            with self._added(notify):
                while not self._is_done():
                    left = TIMEOUT if end is None else end - time.monotonic()
                    if left <= 0:
                        raise TimeoutError(f"{self._what}: not within {timeout} seconds")
                    poll_readable(readable, left)
        finally:
            os.close(readable)
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        import asyncio  # noqa: PLC0415 (others do without)

        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def finish() -> None:
            if not future.done():
                future.set_result(None)

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish)

        with self._added(notify):
            if not self._is_done():
                yield from future
        return self

    def _is_done(self) -> bool:
        self._kernel._execute()
        with self._kernel._lock:
            return bool(self._done())

    @contextlib.contextmanager
    def _added(self, notify: Callable[[], object]) -> Generator[None]:
        with self._kernel._lock:
            self._kernel._waiters.add(self._done, notify)
        try:
            yield
        finally:
            with self._kernel._lock:
                self._kernel._waiters.remove(notify)
