# SPDX-License-Identifier: GPL-2.0-or-later
"""The part that the adapters for event loops share: a handle that a loop feeds.

This module knows no loop: the adapters implement the methods that depend on one.
"""

import contextvars
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_type
from libnetfilterqueue._epoll import new_epoll
from libnetfilterqueue._ext import _fileno
from libnetfilterqueue._owed import Owed

READABLE = 1  # EPOLLIN
BATCH = 64  # packets that one turn of a loop takes
NOTHING = struct.pack("=IHHII", 16, 1, 0, 0, 0)  # NLMSG_NOOP, a message without any effect
RETRY = 0.05  # seconds until verdicts that could not be sent are tried again


def _is_raised_here(error: BaseException) -> bool:
    """Whether the function that has caught it called what raised it, and no callback did."""
    return error.__traceback__ is not None and error.__traceback__.tb_next is None


class Feed(ABC):
    """A handle that a loop feeds. `fed` is called after each batch, and when the feed has ended."""

    def __init__(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> None:
        check_type(
            isinstance(handle, nfq.NetfilterQueueHandle),
            "attach(): handle must be a NetfilterQueueHandle",
            handle,
        )
        if handle.closed:
            raise nfq.ClosedError("attach(): the handle is closed")
        if handle.on_held is not None or handle.on_close is not None:
            raise RuntimeError("attach(): the handle is attached already, or its hooks are in use")
        # The loop watches this instead of the socket: it is ours when another thread closes the
        # handle, and never in error, as a socket is after an overrun: libuv stops watching then.
        self._epoll = new_epoll()
        self._epoll.register(_fileno(handle), READABLE)
        self._handle = handle
        self._fed = fed
        self._context = contextvars.copy_context()  # the callbacks'
        self._process_id = os.getpid()
        self._closed = False
        self._paused = False
        self._watching = False  # the loop may be
        self._released = False
        self._adjusting = False
        self._retrying = False
        self._autoflush = handle.autoflush
        self._adjust()
        handle.autoflush = False
        handle.on_held = lambda: self._call(Owed(self._flush), at_once=False)
        handle.on_unsent = self._note_unsent
        handle.on_close = lambda: self._call(Owed(self.detach), at_once=True)
        self._flush()  # what was held back before anybody heard of it

    @abstractmethod
    def _watch(self) -> None:
        """Make the loop call `_process`, in `_context`, whenever `_epoll` is readable."""

    @abstractmethod
    def _unwatch(self) -> None:
        """Make the loop stop calling `_process`."""

    def _release(self) -> None:
        """Closes what was watched."""
        self._released = True
        self._epoll.close()

    @abstractmethod
    def _is_here(self) -> bool:
        """Whether this is the loop's thread, or no loop runs."""

    @abstractmethod
    def _call(self, function: Callable[[], object], *, at_once: bool) -> None:
        """Has the loop call a function: in its own thread at once, or at the end of its turn.

        From another thread it is called soon; at once where no loop runs that could do it.
        """

    @abstractmethod
    def _nudge(self) -> None:
        """Make the loop turn, also if this is a signal handler that has interrupted its wait."""

    def _later(self, function: Callable[[], object]) -> None:  # noqa: B027
        """Has the loop call a function in RETRY seconds; does nothing if no loop can."""

    def _report(self, error: BaseException) -> None:
        """Gives an exception to the loop's handler. Where there is none, it is the caller's."""
        raise error

    def _process(self) -> None:
        """One batch."""
        try:
            self._handle.process(BATCH)
        except BaseException as error:  # noqa: BLE001 (whatever a callback raises)
            if self._is_forked():
                self.detach()  # the packets are the parent's
            elif not self._is_closing(error):
                self._report(error)
                if isinstance(error, ConnectionError) and _is_raised_here(error):
                    self.detach()  # nothing will come any more
        finally:
            self._fed()

    def _is_forked(self) -> bool:
        """Whether this is a child of the process that attached the handle."""
        return os.getpid() != self._process_id

    def _is_closing(self, error: BaseException) -> bool:
        """Whether it says no more than that somebody has closed the handle."""
        return self._handle.closed and isinstance(error, nfq.ClosedError) and _is_raised_here(error)

    def _finish(self) -> None:
        """Dispatches what has been read already, and was set aside, without reading more."""
        try:
            self._handle.handle_packet(NOTHING)
        except BaseException as error:  # noqa: BLE001 (whatever a callback raises)
            if not self._is_closing(error):
                self._report(error)

    def _flush(self) -> None:
        error = self._send()
        if error is not None:
            self._report(error)

    def _send(self) -> OSError | None:
        """Sends the verdicts that wait. If that fails, `_note_unsent` has been called."""
        try:
            self._handle.flush()
        except (nfq.ClosedError, RuntimeError):
            pass  # closed meanwhile, which has sent them; or this is a child of fork
        except OSError as error:
            return error
        return None

    def _note_unsent(self) -> None:
        """In any thread: what there was no room for is still there, and is tried again."""
        if not self._retrying:
            try:
                self._retrying = True
                self._call_retry()
            except BaseException:  # of a signal handler, which may have run before it was called
                self._call_retry()
                raise

    def _call_retry(self) -> None:
        self._call(lambda: self._later(self._retry), at_once=False)

    def _retry(self) -> None:
        """Whoever could be told of the failure has been."""
        self._retrying = False
        if not self._closed:
            self._send()

    def _adjust(self) -> None:
        """Has the loop watch or not, as it should by now; at the end, closes what was watched.

        Signal handlers run between any two steps of this, and may pause, resume or detach. What
        they find under way goes on when they return.
        """
        while not self._adjusting and self._next_step() is not None:
            self._adjusting = True
            try:
                step = self._next_step()  # a handler may have taken it meanwhile
                if step is not None:
                    step()
            finally:
                self._adjusting = False

    def _next_step(self) -> Callable[[], None] | None:
        wanted = not (self._paused or self._closed)
        if self._watching != wanted:
            return self._start if wanted else self._stop
        return self._release if self._closed and not self._released else None

    def _start(self) -> None:
        self._watching = True
        self._watch()

    def _stop(self) -> None:
        self._unwatch()
        self._watching = False

    def _check_here(self, call: str) -> None:
        if not self._is_here():
            raise RuntimeError(f"{call}: the loop runs in another thread")

    @property
    def closed(self) -> bool:
        """Whether the handle is detached."""
        return self._closed

    def pause(self) -> None:
        """Stop reading: packets wait in the kernel. Does nothing if it is paused or detached.

        Raises ``RuntimeError`` in a thread other than the loop's.

        >>> attachment.pause()
        """
        self._check_here("pause()")
        if not self._paused and not self._closed:
            self._paused = True
            self._adjust()

    def resume(self) -> None:
        """Start reading again. Does nothing if it is not paused, or is detached.

        Raises ``RuntimeError`` in a thread other than the loop's.

        >>> attachment.pause()
        >>> attachment.resume()
        """
        self._check_here("resume()")
        if self._paused and not self._closed:
            self._paused = False
            self._adjust()

    def detach(self) -> None:
        """Give the handle back to its owner, as it was before. Does nothing the second time.

        Verdicts that are held back are sent. If that fails, the error goes to the loop's handler.
        Raises ``RuntimeError`` in a thread other than the loop's. Closing the handle in any thread
        detaches it.

        >>> attachment.detach()
        >>> attachment.closed
        True
        """
        if self._closed:
            return
        self._check_here("detach()")
        self._closed = True
        self._adjust()
        try:
            self._handle.on_held = None
            self._handle.on_unsent = None
            self._handle.on_close = None
            self._handle.autoflush = self._autoflush
            self._handle.flush()
        except (nfq.ClosedError, RuntimeError):
            pass  # it is closed, or this is a child of fork
        except OSError as error:
            self._report(error)
        self._fed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()
