# SPDX-License-Identifier: GPL-2.0-or-later
"""A handle that an asyncio loop feeds."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_type
from libnetfilterqueue._feed import RETRY, Feed


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Attachment(Feed):
    """A handle that an asyncio loop feeds. ``attach()`` makes it.

    It is a context manager, synchronous and asynchronous, that detaches the handle. Use it in the
    loop's thread.

    >>> with aio.attach(handle) as attachment:
    ...     attachment.closed
    False
    """

    def __init__(
        self,
        handle: nfq.NetfilterQueueHandle,
        loop: asyncio.AbstractEventLoop,
        fed: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._check_here("attach()")
        super().__init__(handle, fed)

    def _watch(self) -> None:
        self._loop.add_reader(self._epoll, self._context.run, self._process)

    def _unwatch(self) -> None:
        if self._is_forked():
            return  # a loop that was inherited shares what it watches with the parent's
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.remove_reader(self._epoll)

    def _is_here(self) -> bool:
        return running_loop() is self._loop or not self._loop.is_running()

    def _call(self, function: Callable[[], object], *, at_once: bool) -> None:
        here = running_loop() is self._loop
        if (here and at_once) or not self._loop.is_running():
            function()
        elif here and asyncio.current_task(self._loop) is not None:
            self._loop.call_soon(function)
        else:  # a thread; or a signal handler or greenlet, which run while the loop waits
            try:
                self._loop.call_soon_threadsafe(function)
            except RuntimeError:  # it was closed this moment
                function()

    def _nudge(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(lambda: None)

    def _later(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_later(RETRY, function)

    def _report(self, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        context = {
            "message": "Exception in a callback of a netfilter queue",
            "exception": error,
            "netfilter_handle": self._handle,
        }
        self._loop.call_exception_handler(context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.detach()


def attach(
    handle: nfq.NetfilterQueueHandle, *, loop: asyncio.AbstractEventLoop | None = None
) -> Attachment:
    """Makes a loop feed the handle from now on.

    Args:
        handle: The handle, which stays its owner's to close.
        loop: The loop. ``None`` is the one that runs.

    The loop calls the callbacks of its queues, at most 64 per turn. Exceptions of callbacks go to
    the loop's exception handler, and the feed goes on. The verdicts of a turn are sent together at
    its end. If the loop stops earlier, they are sent when it runs again or is closed. Closing the
    handle in any thread detaches it.

    Call it in the loop's thread, or while the loop does not run. Raises ``RuntimeError`` if the
    handle is attached already or no loop runs, ``ClosedError`` if the handle is closed.

    >>> attachment = aio.attach(handle)
    >>> await asyncio.sleep(0.01)  # whatever the program does
    >>> attachment.detach()
    """
    if loop is None:
        loop = asyncio.get_running_loop()
    check_type(
        isinstance(loop, asyncio.AbstractEventLoop), "attach(): loop must be an event loop", loop
    )
    return Attachment(handle, loop, lambda: None)
