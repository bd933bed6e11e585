# SPDX-License-Identifier: GPL-2.0-or-later
"""The part that the adapters for event loops share: a stream of packets.

This module knows no loop: the adapters implement the methods that depend on one.
"""

import os
from abc import abstractmethod
from collections.abc import Callable
from typing import Generic, Self, TypeVar

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count, check_type
from libnetfilterqueue._backlog import Backlog
from libnetfilterqueue._feed import Feed

Netns = str | bytes | os.PathLike[str] | os.PathLike[bytes] | int | None

FeedT = TypeVar("FeedT", bound=Feed)


class Stream(Backlog, Generic[FeedT]):
    """A queue, on a handle that is the stream's, whose packets wait here until they are fetched."""

    def __init__(
        self,
        number: int,
        *,
        mode: int = nfq.NFQNL_COPY_PACKET,
        range: int = 0xFFFF,
        maxlen: int | None = None,
        flags: int = 0,
        rcvbuf: int | None = None,
        limit: int = 1024,
        default_verdict: int = nfq.NF_DROP,
        unanswered: int | None = None,
        netns: Netns = None,
        handle: nfq.NetfilterQueueHandle | None = None,
    ) -> None:
        """Nothing is opened yet: errors of ``open`` and ``create_queue`` are raised by ``with``.

        Args:
            number: The queue's number, 0 to 65535.
            mode: The ``CopyMode``, as in ``create_queue``.
            range: How many bytes of a packet are copied, as in ``create_queue``.
            maxlen: How many packets may wait in the kernel. ``None`` leaves the kernel's 1024.
            flags: The ``QueueFlag`` bits to set.
            rcvbuf: The size of the socket's receive buffer in bytes. ``None`` makes it large enough
                for ``maxlen`` packets of 1500 bytes, as far as the system allows.
            limit: How many packets may wait in the stream, at least 1. When so many do, or up to a
                batch more, it leaves the others in the kernel. It reads again when fewer than half
                of that are left.
            default_verdict: The verdict of packets that nobody gives one, ``NF_DROP`` unless named.
            unanswered: The verdict of packets that earlier readers have left, as in
                ``create_queue``.
            netns: Another network namespace, as in ``open``.
            handle: A handle to be used and closed with the stream, such as that of
                ``keeping.open()``. ``None`` opens one.

        Raises ``ValueError`` for a limit below 1, and if both ``netns`` and ``handle`` are given.
        """
        super().__init__(check_count("open_queue(): limit", limit))
        if netns is not None and handle is not None:
            raise ValueError("open_queue(): netns and handle exclude each other")
        check_type(
            handle is None or isinstance(handle, nfq.NetfilterQueueHandle),
            "open_queue(): handle must be a NetfilterQueueHandle",
            handle,
        )

        def bind(handle: nfq.NetfilterQueueHandle) -> nfq.NetfilterQueueQueueHandle:
            return handle.create_queue(
                number,
                self._packets.append,
                mode=mode,
                range=range,
                maxlen=maxlen,
                flags=flags,
                rcvbuf=rcvbuf,
                default_verdict=default_verdict,
                unanswered=unanswered,
            )

        self._bind = bind
        self._netns = netns
        self._given = handle
        self._paused = False
        self._stopped = False
        self._closed = False
        self._when_closed: set[Callable[[], object]] = set()  # called then, for `serve`
        self._handle: nfq.NetfilterQueueHandle | None = None
        self._queue: nfq.NetfilterQueueQueueHandle | None = None
        self._feed: FeedT | None = None

    @abstractmethod
    def _attach(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> FeedT:
        """Has the loop feed the handle."""

    def _open(self) -> Self:
        if self._closed:
            raise nfq.ClosedError("the stream is closed; a stream can be opened once")
        if self._handle is not None:
            raise ValueError("a stream can be opened once")
        self._handle = self._given or nfq.open(netns=self._netns)
        try:
            self._feed = self._attach(self._handle, self._fed)
            self._queue = self._bind(self._handle)
            self._steer()
        except BaseException:
            self.close()
            raise
        return self

    def _fed(self) -> None:
        """A batch has come, or the handle was closed."""
        if self._feed is not None and self._feed.closed:
            self.close()
        elif self._packets:
            if len(self._packets) >= self._limit:
                self._full = True
                self._steer()
            self._wake()

    def _steer(self) -> None:
        """Has the loop feed the handle, unless there is a reason not to.

        A signal handler or another thread may find one meanwhile.
        """
        stands = None
        while self._feed is not None and stands != self._must_stand():
            stands = self._must_stand()
            self._feed.pause() if stands else self._feed.resume()

    def _must_stand(self) -> bool:
        return self._paused or self._full or self._stopped

    def _is_ended(self) -> bool:
        """Whether no more packets will come."""
        return self._stopped or self.closed

    def _check_here(self, call: str) -> None:
        if self._feed is not None:
            self._feed._check_here(call)

    def _check_open(self) -> None:
        if self._feed is None and not self._closed:
            raise ValueError("the stream is not open")

    def _check_process(self, call: str) -> None:
        """In a child of fork the packets that have been read are the parent's."""
        if self._feed is not None and self._feed._is_forked():
            raise RuntimeError(
                f"{call}: the stream is the parent process's; after fork it can only be closed"
            )

    def _flush(self) -> None:
        if self._feed is not None:
            self._feed._flush()

    def _hold(self, seconds: float | None) -> None:
        """Verdicts that are given from now on wait for others, for so long at most."""
        try:  # noqa: SIM105 (which costs more than the rest)
            self.handle.hold_limit = seconds
        except nfq.ClosedError:
            pass

    def _take_nowait(self, empty: type[Exception]) -> nfq.NetfilterQueueData:
        """The next packet, for get_nowait(); raises `empty`, or ClosedError if none will come."""
        packet = None if self.closed else self._take(looked=True)
        if packet is None:
            raise self._error("get_nowait()") if self._is_ended() else empty
        self._look()
        return packet

    def _error(self, call: str) -> nfq.ClosedError:
        """For a reader that gets no packet any more."""
        stopped = self._stopped and not self.closed
        return nfq.ClosedError(f"{call}: the stream is {'stopped' if stopped else 'closed'}")

    def pause(self) -> None:
        """Stop reading from the kernel. Packets in the stream can still be fetched.

        Does nothing if the stream is paused or closed. Raises ``RuntimeError`` in a thread other
        than the loop's.

        >>> stream.pause()
        """
        self._check_here("pause()")
        self._paused = True
        self._steer()

    def resume(self) -> None:
        """Start reading again. Does nothing if the stream is not paused, or is closed.

        Raises ``RuntimeError`` in a thread other than the loop's.

        >>> stream.pause()
        >>> stream.resume()
        """
        self._check_here("resume()")
        self._paused = False
        self._steer()

    def stop(self) -> None:
        """Stop reading from the kernel for good. Does nothing the second time.

        Packets that have been read can still be fetched. Then iteration ends, ``get()`` raises
        ``ClosedError``, and ``serve()`` returns when its handlers have ended. Packets in the kernel
        wait there until the stream is closed. Any thread and any signal handler may call it.

        >>> stream.stop()
        """
        if self._feed is None or self._is_ended():
            self._stopped = True
        elif not self._feed._is_here():
            self._feed._call(self.stop, at_once=True)
        else:
            try:
                self._feed._finish()
            finally:  # also if verdicts could not be sent meanwhile
                self._stopped = True
                self._steer()
                self._wake()
                self._feed._nudge()

    @property
    def handle(self) -> nfq.NetfilterQueueHandle:
        """The handle. Raises ``ValueError`` before the stream is opened."""
        if self._handle is None:
            raise ValueError("the stream is not open")
        return self._handle

    @property
    def queue(self) -> nfq.NetfilterQueueQueueHandle:
        """The queue. Raises ``ValueError`` before the stream is opened."""
        if self._queue is None:
            raise ValueError("the stream is not open")
        return self._queue

    @property
    def closed(self) -> bool:
        """Whether the stream or its handle is closed. In a child of fork both are."""
        return self._closed or (self._handle is not None and self._handle.closed)

    def close(self) -> None:
        """Close the queue and the handle. Does nothing the second time.

        Packets that nobody has fetched get the queue's default verdict. Iteration ends, and a
        ``get()`` that waits raises ``ClosedError``. Any thread and any signal handler may call it.
        In a thread other than the loop's it closes the handle, and the loop does the rest.

        >>> stream.close()
        >>> stream.closed
        True
        """
        if self._closed:
            return
        if self._feed is not None and not self._feed._is_here():
            self.handle.close()
            return
        self._closed = True
        if self._handle is not None:
            self._handle.close()
        self._packets.clear()
        self._wake()
        for function in tuple(self._when_closed):
            function()
        if self._feed is not None:
            self._feed._nudge()
