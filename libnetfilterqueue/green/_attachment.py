# SPDX-License-Identifier: GPL-2.0-or-later
"""A handle that gevent's hub feeds."""

import contextlib
from collections.abc import Callable
from typing import Any

import gevent
import gevent.monkey
from greenlet import greenlet

import libnetfilterqueue as nfq
from libnetfilterqueue._feed import RETRY, Feed

READ = 1  # the event of a watcher
_get_ident = gevent.monkey.get_original("_thread", "get_ident")


class Attachment(Feed):
    """A handle that gevent's hub feeds. ``attach()`` makes it.

    It is a context manager that detaches the handle. Use it in the hub's thread.

    >>> with green.attach(handle) as attachment:
    ...     attachment.closed
    False
    """

    def __init__(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> None:
        self._hub = gevent.get_hub()
        self._greenlet: greenlet | None = None
        self._parked = False  # the greenlet waits for the watcher
        self._stopped = False  # the watcher waits for the greenlet
        super().__init__(handle, fed)

    def _watch(self) -> None:
        self._watcher = self._hub.loop.io(self._epoll.fileno(), READ)
        self._watcher.start(self._wake)

    def _unwatch(self) -> None:
        self._stopped = False
        with contextlib.suppress(ValueError):  # the hub is destroyed, and its loop with it
            self._watcher.stop()
            self._watcher.close()
            loop: Any = self._hub.loop
            if self._parked and loop is not None:
                loop.run_callback(self._wake)

    def _run(self) -> None:
        """The greenlet that callbacks may block.

        One for all batches: a new one costs as much as ten packets.
        """
        try:
            while self._watching:
                self._process()
                if self._stopped:
                    self._restart()
                self._parked = True
                if self._watching:  # else a signal handler has ended it just now
                    self._hub.switch()
                self._parked = False  # whoever has switched here
        finally:
            self._parked = False
            self._greenlet = None

    def _restart(self) -> None:
        """Starts the watcher again, unless a signal handler ends it meanwhile."""
        self._stopped = False
        self._watcher.start(self._wake)
        if not self._watching:
            self._watcher.stop()

    def _wake(self) -> None:
        """In the hub: has the greenlet process a batch, or end.

        While a callback blocks it, the hub must not be called again and again.
        """
        if self._greenlet is None or self._greenlet.dead:
            if self._watching:
                self._greenlet = gevent.spawn_raw(self._run)
                self._greenlet.gr_context = self._context
                self._greenlet.switch_out = self._switch_out  # type: ignore[attr-defined]
        elif self._parked:
            self._parked = False
            self._greenlet.switch()
        elif self._watching and self._greenlet:  # which says that it has begun
            self._watcher.stop()
            self._stopped = True

    def _switch_out(self) -> None:
        """Called by gevent: what was decided before a callback blocks does not wait for it."""
        if not self._parked:
            self._flush()

    def _is_here(self) -> bool:
        loop: Any = self._hub.loop  # None once the hub is destroyed
        return loop is None or bool(_get_ident() == self._hub.thread_ident)

    def _call(self, function: Callable[[], object], *, at_once: bool) -> None:
        loop: Any = self._hub.loop  # None once the hub is destroyed
        here = self._is_here()
        if loop is None or (here and at_once):
            function()
        elif here:
            loop.run_callback(function)
        else:
            loop.run_callback_threadsafe(function)

    def _nudge(self) -> None:
        loop: Any = self._hub.loop
        if loop is not None:
            loop.run_callback_threadsafe(lambda: None)

    def _later(self, function: Callable[[], object]) -> None:
        if _get_ident() == self._hub.thread_ident:  # else the hub is destroyed
            gevent.spawn_later(RETRY, function)

    def _report(self, error: BaseException) -> None:
        self._hub.handle_error(self, type(error), error, error.__traceback__)


def attach(handle: nfq.NetfilterQueueHandle) -> Attachment:
    """Makes the thread's hub feed the handle from now on.

    Args:
        handle: The handle, which stays its owner's to close.

    A greenlet calls the callbacks of its queues, at most 64 per turn. They may block cooperatively;
    meanwhile the handle's other packets wait. Exceptions of callbacks go to the hub's
    ``handle_error``, and the feed goes on. The verdicts of a turn are sent together at its end.
    Closing the handle in any thread detaches it. The first packet in a child of fork detaches it
    too.

    Raises ``RuntimeError`` if the handle is attached already, ``ClosedError`` if it is closed.

    >>> attachment = green.attach(handle)
    >>> gevent.sleep(0.01)  # whatever the program does
    >>> attachment.detach()
    """
    return Attachment(handle, lambda: None)
