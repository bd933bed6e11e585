# SPDX-License-Identifier: GPL-2.0-or-later
"""What the adapters for event loops have in common: a stream of packets.

Nothing here knows a loop: what a loop does is in the methods that the adapters implement.
"""

import contextlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, Self, TypeVar

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count
from libnetfilterqueue._feed import BATCH, Feed

Netns = str | bytes | os.PathLike[str] | os.PathLike[bytes] | int | None


def settle(packet: nfq.NetfilterQueueData, *_: object) -> None:
    """Gives a packet its queue's default verdict, unless it has one."""
    if packet.verdict is None:
        # Another thread may have been faster, or its queue been destroyed.
        with contextlib.suppress(nfq.ClosedError, nfq.VerdictError):
            packet.set_verdict(packet.queue.default_verdict)


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
        self._limit = check_count("open_queue(): limit", limit)
        self._packets: deque[nfq.NetfilterQueueData] = deque()

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
            )

        self._bind = bind
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
        if self._closed:
            raise nfq.ClosedError("the stream is closed, and can be opened once")
        if self._handle is not None:
            raise ValueError("a stream can be opened once")
        self._handle = nfq.open(netns=self._netns)
        try:
            self._feed = self._attach(self._handle, self._fed)
            self._queue = self._bind(self._handle)
        except BaseException:
            self.close()
            raise
        return self

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
        whoever waits in get() gets a ClosedError. To be called in the loop's thread.
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
