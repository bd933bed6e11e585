# SPDX-License-Identifier: GPL-2.0-or-later
"""A handle that gevent's hub feeds."""

import select
from collections.abc import Callable

import gevent
import gevent.monkey

import libnetfilterqueue as nfq
from libnetfilterqueue._stream import Feed

READ = 1  # the event of a watcher
_get_ident = gevent.monkey.get_original("_thread", "get_ident")


class Attachment(Feed):
    """A handle that gevent's hub feeds; made by attach().

    A context manager that detaches it. To be used in the hub's thread.
    """

    def __init__(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> None:
        self._hub = gevent.get_hub()
        self._feeding = False
        super().__init__(handle, fed)

    @staticmethod
    def _new_epoll() -> "select.epoll":
        epoll: select.epoll = gevent.monkey.get_original("select", "epoll")()
        return epoll

    def _watch(self) -> None:
        self._watcher = self._hub.loop.io(self._epoll.fileno(), READ)
        if not self._feeding:  # else it is started when that is over
            self._watcher.start(self._on_readable)

    def _unwatch(self) -> None:
        self._watcher.stop()
        self._watcher.close()

    def _on_readable(self) -> None:
        """In the hub, where nothing may block."""
        self._watcher.stop()
        self._feeding = True
        gevent.spawn_raw(self._run)  # a Greenlet costs ten times as much

    def _run(self) -> None:
        """In a greenlet of its own, which callbacks may block."""
        try:
            self._process()
        finally:
            self._feeding = False
            if not self._closed and not self._paused:
                self._watcher.start(self._on_readable)

    def _call(self, function: Callable[[], object], *, at_once: bool) -> None:
        if _get_ident() != self._hub.thread_ident:
            self._hub.loop.run_callback_threadsafe(function)
        elif at_once:
            function()
        else:
            self._hub.loop.run_callback(function)

    def _report(self, error: BaseException) -> None:
        self._hub.handle_error(self, type(error), error, error.__traceback__)


def attach(handle: nfq.NetfilterQueueHandle) -> Attachment:
    """Has the thread's hub feed the handle from now on.

    The callbacks of its queues are called in a greenlet, at most 64 a turn, and may block
    cooperatively: meanwhile the handle's other packets wait. What they raise goes to the hub's
    handle_error, and the feed goes on. Verdicts given in one turn are sent together at its end.
    Closing the handle, in any thread, detaches it.

    Raises RuntimeError if the handle is attached already, ValueError if it is closed.
    """
    return Attachment(handle, lambda: None)
