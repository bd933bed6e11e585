# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the parts of a program that have failed, so that an error for a timeout names them."""

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

from libnetfilterqueue.testing._original import original

Hook = Callable[["threading.ExceptHookArgs"], object]


class Failure(NamedTuple):
    """A part of a program that has ended with an exception."""

    what: str
    told: str
    exception: BaseException | None = None

    @classmethod
    def of(cls, what: str, exception: BaseException) -> Self:
        """One whose exception is at hand."""
        return cls(what, repr(exception), exception)

    def __str__(self) -> str:
        return f"{self.what} failed: {self.told}"


class Failures:
    """What has failed: asyncio's tasks, greenlets, and threads while they are watched.

    Nobody but threading.excepthook is told of a thread's exception, which is not kept: it would
    keep the thread's handles open. What becomes of it otherwise stays as it is.
    """

    def __init__(self) -> None:
        self._threads: dict[int | None, Failure] = {}
        self._lock: Any = original("_thread", "allocate_lock")()
        self._watching = 0
        self._before: Hook = threading.excepthook

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Notes the threads that fail for the length of the block. Blocks may overlap."""
        with self._lock:
            self._watching += 1
            if self._watching == 1:
                self._before, threading.excepthook = threading.excepthook, self._note
        try:
            yield
        finally:
            with self._lock:
                self._watching -= 1
                if self._watching == 0 and threading.excepthook == self._note:
                    threading.excepthook = self._before

    def _note(self, arguments: "threading.ExceptHookArgs") -> None:
        if arguments.thread is not None and not issubclass(arguments.exc_type, SystemExit):
            failure = Failure(f"thread {arguments.thread.name}", repr(arguments.exc_value))
            self._threads[arguments.thread.ident] = failure
        self._before(arguments)

    def threads(self) -> list[str]:
        """The threads that have failed; one that ends itself by SystemExit has not."""
        return [str(failed) for failed in self._threads.values()]

    def found(self, loop: object = None) -> list[Failure]:
        """All that have failed, as far as it can be known; of the tasks, those of this loop."""
        return [*self._threads.values(), *failed_tasks(loop), *failed_greenlets()]


def living(*kinds: type) -> list[Any]:
    """All objects of these types; nothing else remembers a task or greenlet that is over.

    isinstance() would look behind weak proxies, and raises for those whose object is gone.
    """
    return [found for found in gc.get_objects() if issubclass(type(found), kinds)]


def failed_tasks(loop: object) -> list[Failure]:
    """Those of an asyncio loop, or of all loops that are open."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return []
    return [
        Failure.of(f"task {task.get_name()!r} ({task.get_coro().__qualname__})", task.exception())
        for task in living(asyncio.Task)
        if (task.get_loop() is loop if loop else not task.get_loop().is_closed())
        and task.done()
        and not task.cancelled()
        and task.exception() is not None
    ]


def failed_greenlets() -> list[Failure]:
    """Those of gevent's."""
    gevent = sys.modules.get("gevent")
    if gevent is None:
        return []
    return [
        Failure.of(repr(greenlet), greenlet.exception)
        for greenlet in living(gevent.Greenlet)
        if greenlet.ready() and not greenlet.successful()
    ]
