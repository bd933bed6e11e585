# SPDX-License-Identifier: GPL-2.0-or-later
"""A handle that tasks of trio feed."""

import contextlib
import threading
from collections.abc import Callable

import trio

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_type
from libnetfilterqueue._feed import RETRY, Feed


class Attachment(Feed):
    """A handle that a task of trio feeds. ``attach()`` makes it.

    It is a context manager that detaches the handle. Use it in trio's thread.

    >>> async with trio.open_nursery() as nursery:
    ...     with attach(handle, nursery) as attachment:
    ...         attachment.closed
    False
    """

    def __init__(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._changes = trio.lowlevel.ParkingLot()
        self._failure: BaseException | None = None
        super().__init__(handle, fed)

    async def _read(self) -> None:
        """Dispatches a batch, once there is one. Returns earlier if something changes."""
        if self._failure is None and await self._is_readable() and not self._paused:
            self._process()
        self._raise_failure()

    async def _is_readable(self) -> bool:
        """Waits for packets; False if something has changed."""
        try:
            if self._paused:
                await self._changes.park()
            else:
                await trio.lowlevel.wait_readable(self._epoll)
        except trio.ClosedResourceError:
            return False
        return True

    def _raise_failure(self) -> None:
        error, self._failure = self._failure, None
        if error is not None:
            raise error

    async def _run(self) -> None:
        """The task of an attachment."""
        try:
            while not self._closed:
                await self._read()
        finally:
            self.detach()
        self._raise_failure()

    def _release(self) -> None:
        self._notify()  # which needs the descriptor
        super()._release()

    def _notify(self) -> None:
        """Has the task that waits look again."""
        # A child of fork would take the descriptor out of the parent's epoll.
        if not (self._epoll.closed or self._is_over() or self._is_forked()):
            self._changes.unpark_all()
            trio.lowlevel.notify_closing(self._epoll)

    def _watch(self) -> None:
        self._nudge()

    def _unwatch(self) -> None:
        self._nudge()

    def _nudge(self) -> None:
        self._call(self._notify, at_once=False)

    def _is_here(self) -> bool:
        return threading.get_ident() == self._thread or self._is_over()

    def _is_over(self) -> bool:
        """Whether trio has ended."""
        try:
            self._token.run_sync_soon(int, idempotent=True)
        except trio.RunFinishedError:
            return True
        return False

    def _call(self, function: Callable[[], object], *, at_once: bool) -> None:
        # Never now: this may be a signal handler, and trio may be anywhere.
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            function()

    def _later(self, function: Callable[[], object]) -> None:
        async def wait() -> None:
            await trio.sleep(RETRY)
            function()

        with contextlib.suppress(RuntimeError):  # trio has ended
            trio.lowlevel.spawn_system_task(wait)

    def _report(self, error: BaseException) -> None:
        """To whoever reads."""
        self._failure = error
        self._nudge()


def attach(handle: nfq.NetfilterQueueHandle, nursery: trio.Nursery) -> Attachment:
    """Has a task feed the handle from now on.

    Args:
        handle: The handle, which stays its owner's to close.
        nursery: The nursery that the task is started in.

    It calls the callbacks of the handle's queues, at most 64 per turn of trio. Exceptions of
    callbacks leave the task, and so end the nursery. The verdicts of a turn are sent together at
    its end. Closing the handle in any thread detaches it and ends the task. Cancelling the nursery
    detaches the handle too.

    Call it in trio. Raises ``RuntimeError`` elsewhere, if the handle is attached already, or if the
    nursery is closed. Raises ``ClosedError`` if the handle is closed.

    >>> async with trio.open_nursery() as nursery:
    ...     attachment = attach(handle, nursery)
    ...     await trio.sleep(0.01)  # whatever the program does
    ...     attachment.detach()
    """
    check_type(
        isinstance(nursery, trio.Nursery), "attach(): nursery must be a trio.Nursery", nursery
    )
    attachment = Attachment(handle, lambda: None)
    try:
        nursery.start_soon(attachment._run, name=attach)
    except BaseException:
        attachment.detach()
        raise
    return attachment
