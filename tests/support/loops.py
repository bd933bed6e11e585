# SPDX-License-Identifier: GPL-2.0-or-later
"""Event loops that feed handles, all with one face: what a test needs of a loop.

`LOOPS` has them by name. A test runs the loop by `until`, in the thread that made it.
"""

import asyncio
import contextlib
import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import trio
from available import GEVENT, NEW_LOOPS
from netns import TIMEOUT
from queues import Handle

import libnetfilterqueue.aio
import libnetfilterqueue.trio

if GEVENT:
    import gevent
    import gevent.monkey

    import libnetfilterqueue.green

TURN = 0.001  # seconds between looks at a condition


class Loop(ABC):
    """A loop; `errors` are the exceptions that its handler got."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    @abstractmethod
    def feed(self, handle: Handle) -> contextlib.AbstractContextManager[object]:
        """The handle is fed for the length of the block."""

    @abstractmethod
    def until(self, done: Callable[[], object]) -> None:
        """Runs until something has come true, however the loop hears of it."""

    @abstractmethod
    def close(self) -> None:
        """Leaves nothing of it."""


def _check(end: float) -> None:
    assert time.monotonic() < end, "what the test waits for did not come"


class Listing(Loop):
    """One that looks at all its handles itself."""

    def __init__(self) -> None:
        super().__init__()
        self._handles: list[Handle] = []

    @contextlib.contextmanager
    def feed(self, handle: Handle) -> Iterator[None]:
        self._handles.append(handle)
        yield
        self._handles.remove(handle)


class Manual(Listing):
    """Calls of `process`, one after the other."""

    def until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + TIMEOUT
        while not done():
            _check(end)
            for handle in [handle for handle in self._handles if not handle.closed]:
                try:
                    handle.process(timeout=TURN)
                except Exception as error:  # noqa: BLE001 (what callbacks raise)
                    self.errors.append(error)

    def close(self) -> None:
        pass


class Asyncio(Loop):
    """A loop that is asyncio's."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        super().__init__()
        self._loop = new_loop()
        self._loop.set_exception_handler(self._note)

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(cast("BaseException", context.get("exception", context)))

    def feed(self, handle: Handle) -> contextlib.AbstractContextManager[object]:
        return libnetfilterqueue.aio.attach(handle, loop=self._loop)

    def until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + TIMEOUT

        async def wait() -> None:
            while not done():
                _check(end)
                await asyncio.sleep(TURN)

        self._loop.run_until_complete(wait())

    def close(self) -> None:
        self._loop.run_until_complete(asyncio.sleep(0))  # what is due
        self._loop.close()


class Gevent(Loop):
    """gevent's hub."""

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(gevent.get_hub(), "handle_error", self._note)

    def _note(self, _where: object, _kind: object, error: BaseException, _: object) -> None:
        self.errors.append(error)

    def feed(self, handle: Handle) -> contextlib.AbstractContextManager[object]:
        return libnetfilterqueue.green.attach(handle)

    def until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + TIMEOUT
        while not done():
            _check(end)
            gevent.sleep(TURN)

    def close(self) -> None:
        self._patch.undo()


class Trio(Listing):
    """trio: what feeds the handles runs as long as it does, and ends with an exception."""

    def until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + TIMEOUT
        while not self._run(done):
            _check(end)

    def _run(self, done: Callable[[], object]) -> bool:
        """False if an exception has come in between."""
        try:
            trio.run(self._until, done)
        except ExceptionGroup as errors:
            self.errors += errors.exceptions
            return False
        return True

    async def _until(self, done: Callable[[], object]) -> None:
        async with trio.open_nursery() as nursery:
            for handle in [handle for handle in self._handles if not handle.closed]:
                libnetfilterqueue.trio.attach(handle, nursery)
            with trio.fail_after(TIMEOUT):
                while not done():  # noqa: ASYNC110 (nobody here knows when that is)
                    await trio.sleep(TURN)
            nursery.cancel_scope.cancel()

    def close(self) -> None:
        pass


GREEN: dict[str, Callable[[], Loop]] = {"gevent": Gevent} if GEVENT else {}
ASYNCIO = {name: functools.partial(Asyncio, new_loop) for name, new_loop in NEW_LOOPS.items()}
# gevent's monkey-patching makes asyncio's loop wait in the hub; uvloop and trio block it.
LOOPS: dict[str, Callable[[], Loop]] = (
    {"asyncio": ASYNCIO["asyncio"], **GREEN}
    if GEVENT and gevent.monkey.is_module_patched("socket")
    else {"manual": Manual, **ASYNCIO, **GREEN, "trio": Trio}
)
