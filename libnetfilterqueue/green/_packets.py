# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue as a stream of packets that blocks greenlets."""

from collections.abc import Callable
from time import monotonic
from typing import Self

import gevent
import gevent.event
import gevent.queue

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count
from libnetfilterqueue._feed import BATCH
from libnetfilterqueue._stream import Stream
from libnetfilterqueue.green._attachment import Attachment

Packet = nfq.NetfilterQueueData


class PacketStream(Stream[Attachment]):
    """The packets of a queue: ``with open_queue(1) as stream`` binds the queue and closes it.

    ``for packet in stream`` yields packets until the stream is closed; waiting blocks the greenlet.
    Several greenlets may read it: each packet goes to one of them. Use it in the hub's thread.

    >>> with green.open_queue(3) as stream:
    ...     stream.stop()  # say, at a signal
    ...     for packet in stream:
    ...         packet.accept()
    """

    def _attach(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> Attachment:
        return Attachment(handle, fed)

    def _check_hub(self, call: str) -> None:
        self._check_open()
        self._check_here(call)

    def _wait(self) -> bool:
        """Waits for a packet, and lets others have a turn; False if no more will come."""
        if self.closed:
            return False
        self._check_hub("__next__()")
        self._look()
        if self._packets:
            gevent.sleep(0)
        if not self._packets:
            self._wait_in_line(gevent.event.Event())
        self._look()
        return bool(self._packets)

    def _wait_in_line(self, arrived: gevent.event.Event) -> None:
        self._waiting.append(arrived)
        try:
            while not self._packets and not self._is_ended():
                arrived.clear()
                arrived.wait()
        except BaseException:
            self._waiting.remove(arrived)
            self._wake()
            raise
        self._waiting.remove(arrived)

    def get(self) -> Packet:
        """Waits for the next packet and returns it.

        Raises ``ClosedError`` if the stream is closed, or is stopped and empty, also while it
        waits. Raises ``RuntimeError`` in a thread other than the one that has opened the stream.

        >>> stream.get().accept()
        """
        self._check_hub("get()")
        for packet in self:
            return packet
        raise self._error("get()")

    def get_batch(self, max: int = BATCH) -> list[Packet]:
        """Returns as many packets as there are, at least one.

        Args:
            max: The largest number of packets.

        Else like ``get()``.

        >>> for packet in stream.get_batch():
        ...     packet.accept()
        """
        most = check_count("get_batch(): max", max)
        self._check_hub("get_batch()")
        packets = self._take_batch(most) if self._ready() or self._wait() else None
        if not packets:
            raise self._error("get_batch()")
        return packets

    def get_nowait(self) -> Packet:
        """Returns the next packet, without waiting.

        Raises ``gevent.queue.Empty``, which is ``queue.Empty``, if there is none. Else like
        ``get()``.

        >>> try:
        ...     stream.get_nowait().accept()
        ... except gevent.queue.Empty:
        ...     print("none waits")
        """
        self._check_hub("get_nowait()")
        return self._take_nowait(gevent.queue.Empty)

    def __iter__(self) -> Self:
        self._check_hub("__iter__()")
        return self

    def __next__(self) -> Packet:
        if monotonic() <= self._until and not self._full:
            try:
                return self._packets.popleft()  # as `_take` does, whose call would cost as much
            except IndexError:
                pass
        packet = self._take()
        if packet is None and self._wait():
            packet = self._take(looked=True)
        if packet is None:
            raise StopIteration
        return packet

    def __enter__(self) -> Self:
        return self._open()

    def __exit__(self, *exception: object) -> None:
        self.close()


open_queue = PacketStream
"""A queue as a stream of packets: see PacketStream."""
