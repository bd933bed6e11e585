# SPDX-License-Identifier: GPL-2.0-or-later
"""A handle without a loop: the threads that read its stream feed it."""

import select
import threading
from collections.abc import Callable

import libnetfilterqueue as nfq
from libnetfilterqueue._bell import Bell
from libnetfilterqueue._feed import READABLE, RETRY, Feed


class Turns(Feed):
    """A handle that is fed by whichever thread has `turn`.

    Whatever that thread has to hear of while it waits rings the bell.
    """

    def __init__(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> None:
        # Reentrant, because that knows its owner: Ctrl-C may come between taking it and knowing it.
        self.turn = threading.RLock()
        self._bell: Bell | None = Bell()
        super().__init__(handle, fed)
        self._watched: select.epoll | None = self._epoll
        handle.on_held = None  # the handle itself knows when a verdict has to leave: hold_limit

    @property
    def paused(self) -> bool:
        """Whether nothing is to be read."""
        return self._paused

    def wait(self, seconds: float) -> bool:
        """Waits so long for packets, and less if the bell rings. Whether there are packets.

        Meanwhile it tries to send what there was no room for.
        """
        bell, epoll = self._bell, self._watched
        if bell is None or epoll is None:
            return False
        poller = select.poll()
        poller.register(bell, READABLE)
        if not self._paused:
            poller.register(epoll.fileno(), READABLE)
        if self._retrying:
            seconds = min(seconds, RETRY)
        ready = dict(poller.poll(seconds * 1000))
        rung = bool(ready.pop(bell.fileno(), 0))
        if self._retrying and not ready:
            self._retry()  # which rings if it fails
            rung = True
        if rung:
            bell.hush()
        return bool(ready)

    def _flush(self) -> None:
        if not self._retrying:  # else `wait` does
            super()._flush()

    def _later(self, function: Callable[[], object]) -> None:
        self._nudge()  # whoever waits does it

    def _release(self) -> None:
        # Not closed here: a thread may be about to wait on it. The last one that has it closes it.
        self._released = True
        self._watched = None
        vars(self).pop("_epoll", None)  # two threads may come here
        self._nudge()  # for the last time
        self._bell = None

    def _watch(self) -> None:
        self._nudge()

    def _unwatch(self) -> None:
        self._nudge()

    def _is_here(self) -> bool:
        return True

    def _call(self, function: Callable[[], object], *, at_once: bool) -> None:
        function()

    def _nudge(self) -> None:
        bell = self._bell
        if bell is not None:
            bell.ring()
