# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue as a stream of packets, for programs without a loop."""

from collections.abc import Callable, Iterator
from math import inf
from queue import Empty
from time import monotonic
from typing import Self

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count, check_timeout
from libnetfilterqueue._backlog import HOLD
from libnetfilterqueue._feed import BATCH
from libnetfilterqueue._stream import Stream
from libnetfilterqueue._turns import Turns

__all__ = ["PacketStream", "open_queue"]

Packet = nfq.NetfilterQueueData
LONGEST = 1e6  # seconds of one wait: the system counts milliseconds in an int


def _left(end: float) -> float:
    """Seconds until then, as far as one wait lasts."""
    return LONGEST if end == inf else min(max(end - monotonic(), 0), LONGEST)


class PacketStream(Stream[Turns]):
    """The packets of a queue: ``with open_queue(1) as packets`` binds the queue and closes it.

    ``for packet in packets`` yields packets until the stream is closed or stopped. Waiting releases
    the GIL. Several threads may read it: each packet goes to one of them. All other calls may be
    made in any thread too. A reader that finds no packet in the stream reads up to 64 of them.

    A verdict is sent at once if no other packet waits in the stream, or if verdicts were last sent
    more than 1 ms ago. Otherwise verdicts travel together.


    >>> with nfq.open_queue(2) as packets:
    ...     packets.stop()  # say, at a signal
    ...     for packet in packets:
    ...         packet.accept()
    """

    _drained = True  # the last batch was not a full one

    def _attach(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> Turns:
        return Turns(handle, fed)

    def _fed(self) -> None:
        """A batch has come, which is read where none is left; or the handle was closed."""
        if self._feed is not None and self._feed.closed:
            self.close()

    def _is_ended(self) -> bool:
        # Another thread may be closing the handle, and have got no further than that.
        return super()._is_ended() or (self._feed is not None and self._feed.closed)

    def _note_taken(self) -> None:
        if not self._packets:
            self._end_hold()

    def _end_hold(self) -> bool:
        """No packet waits any more, and so verdicts wait for none either."""
        self._hold(0)
        return False

    def _wait(self, end: float) -> bool:
        """Waits for a packet, and reads it if nobody else does; False if no more will come.

        Raises TimeoutError at `end`.
        """
        while not self._packets:
            feed = self._feed
            if feed is None or self._is_ended():
                return False
            self._flush()
            self._take_turn(feed, end)
            if not self._packets and not self._is_ended() and monotonic() >= end:
                raise TimeoutError("no packet has come in time")
        return True

    def _take_turn(self, feed: Turns, end: float) -> None:
        """Reads a batch, or waits while another thread does so."""
        try:
            taken = feed.turn.acquire(timeout=_left(end))
            if taken and not self._packets and not self._is_ended():
                self._read(feed, end)
        finally:
            try:  # noqa: SIM105 (in which Ctrl-C could come first)
                feed.turn.release()
            except RuntimeError:
                pass  # another thread has it

    def _read(self, feed: Turns, end: float) -> None:
        """Reads a batch once there is one, unless something else happens first."""
        if (self._drained or feed.paused) and not feed.wait(_left(end)):
            return
        if not feed.paused and not self._is_ended():
            self._hold(HOLD)
            feed._process()
            self._drained = len(self._packets) < BATCH
            self._note_taken()

    def _get(self, call: str, most: int, seconds: float) -> list[Packet]:
        self._check_open()
        end = monotonic() + seconds
        while self._wait(end):
            if packets := self._take_batch(most):
                return packets
        raise self._error(call)

    def get(self, timeout: float | None = None) -> Packet:
        """Waits for the next packet and returns it.

        Args:
            timeout: How long to wait, in seconds. ``None`` waits for ever.

        Raises ``TimeoutError`` if no packet has come by then. Raises ``ClosedError`` if the stream
        is closed, or is stopped and empty, also while it waits. Raises ``ValueError`` for a timeout
        below 0, ``TypeError``, ``OSError`` if receiving or sending fails.

        >>> stream.get(timeout=1).accept()
        """
        return self._get("get()", 1, check_timeout("get(): timeout", timeout))[0]

    def get_batch(self, max: int = BATCH, timeout: float | None = None) -> list[Packet]:
        """Returns as many packets as there are, at least one.

        Args:
            max: The largest number of packets.
            timeout: How long to wait for the first one, in seconds. ``None`` waits for ever.

        Raises ``ValueError`` for a ``max`` below 1. Else like ``get()``.

        >>> for packet in stream.get_batch(64, timeout=1):
        ...     packet.accept()
        """
        most = check_count("get_batch(): max", max)
        return self._get("get_batch()", most, check_timeout("get_batch(): timeout", timeout))

    def get_nowait(self) -> Packet:
        """Returns the next packet, without waiting.

        Raises ``queue.Empty`` if there is none. Else like ``get()``.

        >>> from queue import Empty
        >>> try:
        ...     stream.get_nowait().accept()
        ... except Empty:
        ...     print("none waits")
        """
        try:
            return self._get("get_nowait()", 1, 0)[0]
        except TimeoutError:
            raise Empty from None

    def __iter__(self) -> Iterator[Packet]:
        self._check_open()
        packets = self._packets
        while packets or self._wait(inf):
            try:  # noqa: SIM105 (which costs more than all of this)
                # At once, and without a name: whoever gets the packet is the only one that has it.
                yield (packets.popleft(), packets or self._end_hold())[0]
            except IndexError:
                pass  # another thread was faster

    def __next__(self) -> Packet:
        for packet in self:
            return packet
        raise StopIteration

    def __enter__(self) -> Self:
        return self._open()

    def __exit__(self, *exception: object) -> None:
        self.close()


open_queue = PacketStream
"""A queue as a stream of packets: see PacketStream."""
