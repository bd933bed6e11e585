# SPDX-License-Identifier: GPL-2.0-or-later
"""What the adapters for event loops have in common: feeding a handle, and streams of packets.

Nothing here knows a loop: what a loop does is in the methods that the adapters implement.
"""

import contextlib
import os
import select
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, Self, TypeVar

import libnetfilterqueue as nfq

Netns = str | bytes | os.PathLike[str] | os.PathLike[bytes] | int | None

READABLE = 1  # EPOLLIN
BATCH = 64  # packets that one turn of a loop takes, of a handle or of a stream
MAXLEN = 1024  # the kernel's, unless a queue has its own
RETRY = 0.05  # seconds until verdicts that could not be sent are tried again
PACKET_COST = 2304  # what a packet of 1500 bytes takes of the receive buffer


def settle(packet: nfq.NetfilterQueueData, *_: object) -> None:
    """Gives a packet its queue's default verdict, unless it has one."""
    if packet.verdict is None:
        # Another thread may have been faster, or its queue been destroyed.
        with contextlib.suppress(ValueError, nfq.VerdictError):
            packet.set_verdict(packet.queue.default_verdict)


class Owed:
    """A call that a loop owes, and that is made when the loop drops it: when that is closed."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()

    def __del__(self) -> None:
        self()


class Feed(ABC):
    """A handle that a loop feeds. `fed` is called after each batch, and when the feed has ended."""

    def __init__(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> None:
        if handle.on_held is not None or handle.on_close is not None:
            raise RuntimeError("attach(): the handle is attached already, or its hooks are in use")
        # The loop watches this instead of the socket: it is ours when another thread closes the
        # handle, and never in error, as a socket is after an overrun: libuv stops watching then.
        self._epoll = self._new_epoll()
        self._epoll.register(handle.fileno(), READABLE)
        self._handle = handle
        self._fed = fed
        self._process_id = os.getpid()
        self._closed = False
        self._paused = False
        self._retrying = False
        self._watch()
        handle.autoflush = False
        handle.on_held = lambda: self._call(Owed(self._flush), at_once=False)
        handle.on_close = lambda: self._call(Owed(self.detach), at_once=True)
        self._flush()  # what was held back before anybody heard of it

    @staticmethod
    @abstractmethod
    def _new_epoll() -> "select.epoll":
        """One that nothing has taken away."""

    @abstractmethod
    def _watch(self) -> None:
        """Has the loop call `_process` when `_epoll` is readable."""

    @abstractmethod
    def _unwatch(self) -> None:
        """Has it leave that."""

    @abstractmethod
    def _call(self, function: Callable[[], object], *, at_once: bool) -> None:
        """Has the loop call a function: in its own thread at once, or at the end of its turn.

        From another thread it is called soon; at once where no loop runs that could do it.
        """

    @abstractmethod
    def _later(self, function: Callable[[], object]) -> None:
        """Has the loop call a function in RETRY seconds; does nothing if there is none any more."""

    @abstractmethod
    def _report(self, error: BaseException) -> None:
        """Gives an exception to the loop's handler; may raise one that ends programs."""

    def _process(self) -> None:
        """One batch."""
        try:
            self._handle.process(BATCH)
        except BaseException as error:  # noqa: BLE001 (whatever a callback raises)
            if os.getpid() != self._process_id:
                self.detach()  # a child of fork: the packets are the parent's
            elif not self._is_closing(error):
                self._fail(error)
        finally:
            self._fed()

    def _is_closing(self, error: BaseException) -> bool:
        """Whether it says no more than that somebody has closed the handle."""
        raised_here = error.__traceback__ is not None and error.__traceback__.tb_next is None
        return self._handle.closed and isinstance(error, ValueError) and raised_here

    def _flush(self) -> None:
        try:
            self._handle.flush()
        except (ValueError, RuntimeError):
            pass  # closed meanwhile, which has sent them; or this is a child of fork
        except OSError as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Reports it. What the socket had no room for is still there: it is tried again."""
        self._report(error)
        if isinstance(error, OSError) and not self._retrying:
            self._retrying = True
            self._later(self._retry)

    def _retry(self) -> None:
        self._retrying = False
        self._flush()

    @property
    def closed(self) -> bool:
        """Whether the handle is detached."""
        return self._closed

    def pause(self) -> None:
        """Stop reading: packets wait in the kernel. Does nothing if it is paused or detached."""
        if not self._paused and not self._closed:
            self._paused = True
            self._unwatch()

    def resume(self) -> None:
        """Read on. Does nothing if it is not paused, or detached."""
        if self._paused and not self._closed:
            self._paused = False
            self._watch()

    def detach(self) -> None:
        """Leave the handle to its owner, as it was before; does nothing if that has been done.

        Verdicts that are held back are sent; that they can't be goes to the loop's handler. To be
        called in the loop's thread. Closing the handle detaches it, in any thread.
        """
        if self._closed:
            return
        self._closed = True
        if not self._paused:
            self._unwatch()
        self._epoll.close()
        try:
            self._handle.on_held = None
            self._handle.on_close = None
            self._handle.autoflush = True
        except (ValueError, RuntimeError):
            pass  # it is closed, or this is a child of fork
        except OSError as error:
            self._report(error)
        self._fed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()


FeedT = TypeVar("FeedT", bound=Feed)


class Stream(ABC, Generic[FeedT]):
    """A queue, on a handle of its own, whose packets wait here until they are fetched."""

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
        netns: Netns = None,
    ) -> None:
        if limit < 1:
            raise ValueError(f"open_queue(): limit must be at least 1, not {limit}")
        self._packets: deque[nfq.NetfilterQueueData] = deque()

        def bind(handle: nfq.NetfilterQueueHandle) -> nfq.NetfilterQueueQueueHandle:
            return handle.create_queue(
                number,
                self._packets.append,
                mode=mode,
                range=range,
                maxlen=maxlen,
                flags=flags,
                default_verdict=default_verdict,
            )

        self._bind = bind
        self._rcvbuf = rcvbuf
        self._maxlen = MAXLEN if maxlen is None else maxlen
        self._limit = limit
        self._netns = netns
        self._taken = 0  # in a row, without a look at the loop
        self._full = False
        self._closed = False
        self._when_closed: set[Callable[[], object]] = set()  # called then, for `serve`
        self._handle: nfq.NetfilterQueueHandle | None = None
        self._queue: nfq.NetfilterQueueQueueHandle | None = None
        self._feed: FeedT | None = None

    @abstractmethod
    def _attach(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> FeedT:
        """Has the loop feed the handle."""

    @abstractmethod
    def _wake(self) -> None:
        """Wakes those who wait for packets, or for the end."""

    def _open(self) -> Self:
        if self._closed or self._handle is not None:
            raise ValueError("a stream can be opened once")
        self._handle = nfq.open(netns=self._netns)
        try:
            self._size_buffer(self._handle)
            self._feed = self._attach(self._handle, self._fed)
            self._queue = self._bind(self._handle)
        except BaseException:
            self.close()
            raise
        return self

    def _size_buffer(self, handle: nfq.NetfilterQueueHandle) -> None:
        if self._rcvbuf is not None:
            handle.rcvbuf = self._rcvbuf
        elif handle.rcvbuf < (wanted := min(self._maxlen * PACKET_COST, 2**31 - 1)):
            handle.rcvbuf = wanted // 2  # the kernel doubles it

    def _fed(self) -> None:
        """A batch has come, or the handle was closed."""
        if self._feed is not None and self._feed.closed:
            self.close()
        elif self._packets:
            if self._feed is not None and len(self._packets) >= self._limit:
                self._full = True
                self._feed.pause()
            self._wake()

    def _ready(self) -> bool:
        """Whether the next packet can be taken without a look at the loop."""
        return self._taken < BATCH and bool(self._packets)

    def _take(self) -> nfq.NetfilterQueueData:
        """The next packet, which must be there."""
        packet = self._packets.popleft()
        self._taken += 1
        if self._full and len(self._packets) * 2 < self._limit and self._feed is not None:
            self._full = False
            self._feed.resume()
        return packet

    def _take_batch(self, most: int) -> list[nfq.NetfilterQueueData]:
        return [self._take() for _ in range(min(most, len(self._packets)))]

    @property
    def handle(self) -> nfq.NetfilterQueueHandle:
        """The handle. Raises ValueError before the stream is opened."""
        if self._handle is None:
            raise ValueError("the stream is not open")
        return self._handle

    @property
    def queue(self) -> nfq.NetfilterQueueQueueHandle:
        """The queue. Raises ValueError before the stream is opened."""
        if self._queue is None:
            raise ValueError("the stream is not open")
        return self._queue

    @property
    def closed(self) -> bool:
        """Whether the stream is closed, by itself or with its handle."""
        return self._closed

    def close(self) -> None:
        """Close queue and handle; does nothing if that has been done.

        Packets that nobody has fetched get the queue's default verdict. Iteration ends, and
        whoever waits in get() gets a ValueError. To be called in the loop's thread.
        """
        if self._closed:
            return
        self._closed = True
        if self._handle is not None:
            self._handle.close()
        self._packets.clear()
        self._wake()
        for function in tuple(self._when_closed):
            function()
