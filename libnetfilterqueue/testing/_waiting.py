# SPDX-License-Identifier: GPL-2.0-or-later
"""Waits for events in the fake kernel: in threads, asyncio's tasks and greenlets.

The kernel's thread and its lock are the system's own, also where gevent has replaced them. A wait
in a loop must not keep the kernel from running.
"""

import contextlib
import math
import os
import select
import sys
from collections.abc import Callable, Generator
from typing import Any, Self

from libnetfilterqueue._arguments import check_type
from libnetfilterqueue.testing._failures import Failures

TIMEOUT = 5.0  # seconds


def check_timeout(what: str, timeout: float) -> None:
    """Every wait has a limit. Raises TypeError and ValueError."""
    check_type(hasattr(timeout, "__float__"), f"{what} must be a number of seconds", timeout)
    if not math.isfinite(timeout):
        raise ValueError(f"{what} must be a finite number of seconds, not {timeout}")


def poll_readable(fd: int, timeout: float) -> bool:
    """Whether the descriptor gets readable within so many seconds; greenlets run meanwhile."""
    poll: Any = select.poll  # gevent's after monkey-patching
    if runs_hub():
        from gevent.select import poll  # noqa: PLC0415
    poller = poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(max(0, timeout) * 1000))


def runs_hub() -> bool:
    """Whether a hub of gevent's runs in this thread."""
    if "gevent" not in sys.modules:
        return False
    from gevent._hub_local import get_hub_if_exists  # noqa: PLC0415 (nothing public asks that)

    return get_hub_if_exists() is not None


def runs_trio() -> bool:
    """Whether trio runs in this thread."""
    trio: Any = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def runs_loop() -> bool:
    """Whether an asyncio loop runs in this thread."""
    events: Any = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


class Waiters:
    """What is to be called once something has come true in the kernel, whose lock protects it.

    `execute` executes what programs have sent, and takes the lock itself.
    """

    def __init__(self, execute: Callable[[], object], lock: Any) -> None:
        self.execute = execute
        self.failures: Failures = Failures()
        self._lock = lock
        self._waiting: list[tuple[Callable[[], object], Callable[[], object]]] = []

    def has_come(self, done: Callable[[], object]) -> bool:
        """Whether `done` is true, once all that programs have sent is executed."""
        self.execute()
        with self._lock:
            return bool(done())

    @contextlib.contextmanager
    def added(self, done: Callable[[], object], notify: Callable[[], object]) -> Generator[None]:
        """In the block, has `notify` called from any thread when `done` is true."""
        entry = (done, notify)
        with self._lock:
            self._waiting.append(entry)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.remove(entry)

    def look(self) -> None:
        """To be called, with the lock, whenever something has changed."""
        for done, notify in self._waiting:
            if done():
                notify()


class Waitable:
    """Something that will come true in the kernel.

    ``wait()`` waits for it in a thread or greenlet, ``await`` in asyncio and in trio. Both return
    the object.

    >>> packet.accept()
    >>> (await sent).passed
    True
    """

    def __init__(self, waiters: Waiters, done: Callable[[], object], what: str) -> None:
        self._waiters = waiters
        self._done = done
        self._what = what

    def wait(self, timeout: float = TIMEOUT) -> Self:
        """Wait until it is true.

        Args:
            timeout: How many seconds to wait at most.

        Other greenlets run meanwhile, with and without monkey-patching. Raises ``TimeoutError``.
        The error says what did not come true, and names the threads, greenlets and tasks that have
        failed, as far as that can be known.

        >>> packet.accept()
        >>> sent.wait(timeout=1).passed
        True
        """
        check_timeout("wait(): timeout", timeout)
        with self._waiters.failures.watching(), self._announced() as readable:
            if not self._waiters.has_come(self._done) and not poll_readable(readable, timeout):
                raise self._timeout_error(timeout)
        return self

    @contextlib.contextmanager
    def _announced(self) -> Generator[int]:
        """A descriptor that gets readable once it is true."""
        readable = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            with self._waiters.added(self._done, lambda: os.eventfd_write(readable, 1)):
                yield readable
        finally:
            os.close(readable)

    def __await__(self) -> Generator[Any, None, Self]:
        """Like wait(), in a task; asyncio.timeout() or a cancel scope can make it shorter."""
        return (yield from (self._in_trio().__await__() if runs_trio() else self._in_asyncio()))

    async def _in_trio(self) -> Self:
        import trio  # noqa: PLC0415 (others do without)

        with self._announced() as readable:
            if not self._waiters.has_come(self._done):
                with trio.move_on_after(TIMEOUT):
                    await trio.lowlevel.wait_readable(readable)
                if not self._waiters.has_come(self._done):
                    raise self._timeout_error(TIMEOUT)
        return self

    def _in_asyncio(self) -> Generator[Any, None, Self]:
        import asyncio  # noqa: PLC0415 (others do without)

        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def finish(come_true: bool) -> None:
            if not future.done():
                future.set_result(come_true)

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, True)

        timer = loop.call_later(TIMEOUT, finish, False)
        try:
            with self._waiters.added(self._done, notify):
                if not self._waiters.has_come(self._done) and not (yield from future):
                    raise self._timeout_error(TIMEOUT, loop)
        finally:
            timer.cancel()
        return self

    def _timeout_error(self, timeout: float, loop: object = None) -> TimeoutError:
        """Says what has failed meanwhile or before, so that nothing has come true."""
        failures = self._waiters.failures.found(loop)
        notes = [f"{self._what}: not within {timeout} seconds", *map(str, failures)]
        if loop is None and runs_loop():
            notes.append("the asyncio loop of this thread stood still meanwhile: await it instead")
        error = TimeoutError("; ".join(notes))
        error.__cause__ = next((failure.exception for failure in failures), None)
        return error
