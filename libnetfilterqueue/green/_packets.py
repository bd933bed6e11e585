# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue as a stream of packets, which blocks greenlets."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Self

import gevent
import gevent.event

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count
from libnetfilterqueue._feed import BATCH
from libnetfilterqueue._stream import Stream
from libnetfilterqueue.green._attachment import Attachment

Packet = nfq.NetfilterQueueData


class PacketStream(Stream[Attachment]):
    """The packets of a queue: `with open_queue(1) as stream`, which binds and closes it.

    `for packet in stream` yields packets until the stream is closed; waiting blocks the greenlet.
    Several greenlets may read it: each packet goes to one of them. To be used in the hub's thread.

    The arguments are those of libnetfilterqueue.aio.open_queue.
    """

    def _attach(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> Attachment:
        return Attachment(handle, fed)

    @cached_property
    def _arrived(self) -> gevent.event.Event:
        return gevent.event.Event()

    def _wake(self) -> None:
        self._arrived.set()

    def _wait(self) -> bool:
        """Waits for a packet, and lets others have a turn; False if the stream is closed."""
        if self._packets:
            gevent.sleep(0)
        while not self._packets:
            if self._closed:
                return False
            self.handle  # noqa: B018 (raises if it is not open)
            self._arrived.clear()
            self._arrived.wait()
        self._taken = 0
        return True

    def get(self) -> Packet:
        """The next packet. Raises ClosedError if the stream is closed, also while it waits."""
        if not (self._ready() or self._wait()):
            raise nfq.ClosedError("get(): the stream is closed")
        return self._take()

    def get_batch(self, max: int = BATCH) -> list[Packet]:
        """As many packets as there are, at least one and at most `max`; else as get()."""
        most = check_count("get_batch(): max", max)
        if not (self._ready() or self._wait()):
            raise nfq.ClosedError("get_batch(): the stream is closed")
        return self._take_batch(most)

    def __iter__(self) -> Iterator[Packet]:
        while self._ready() or self._wait():
            yield self._take()

    def __enter__(self) -> Self:
        return self._open()

    def __exit__(self, *exception: object) -> None:
        self.close()


open_queue = PacketStream
"""A queue as a stream of packets: see PacketStream."""
