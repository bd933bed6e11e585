# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue as an asynchronous stream of packets."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Self

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count
from libnetfilterqueue._feed import BATCH
from libnetfilterqueue._stream import Stream
from libnetfilterqueue.aio._attachment import Attachment, running_loop

Packet = nfq.NetfilterQueueData


class PacketStream(Stream[Attachment]):
    """The packets of a queue: ``async with open_queue(1) as stream`` binds the queue and closes it.

    ``async for packet in stream`` yields packets until the stream is closed. Several tasks may read
    it: each packet goes to one of them. Use it in the loop's thread.

    >>> async with aio.open_queue(3) as stream:
    ...     stream.stop()  # say, at a signal
    ...     async for packet in stream:
    ...         packet.accept()
    """

    def _attach(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> Attachment:
        return Attachment(handle, asyncio.get_running_loop(), fed)

    def _check_loop(self) -> None:
        self._check_open()
        if self._feed is not None and running_loop() not in (None, self._feed._loop):
            raise RuntimeError("the stream was opened in another event loop")

    async def _wait(self) -> bool:
        """Waits for a packet, and lets others have a turn; False if no more will come."""
        if self.closed:
            return False
        self._check_loop()
        self._look()
        if self._packets:
            await asyncio.sleep(0)
        if not self._packets:
            await self._wait_in_line(asyncio.Event())
        self._look()
        return bool(self._packets)

    async def _wait_in_line(self, arrived: asyncio.Event) -> None:
        self._waiting.append(arrived)
        try:
            while not self._packets and not self._is_ended():
                arrived.clear()
                await arrived.wait()
        except BaseException:
            self._waiting.remove(arrived)
            self._wake()
            raise
        self._waiting.remove(arrived)

    async def get(self) -> Packet:
        """Waits for the next packet and returns it.

        Raises ``ClosedError`` if the stream is closed, or is stopped and empty, also while it
        waits. Raises ``RuntimeError`` in a loop other than the stream's.

        >>> packet = await stream.get()
        >>> packet.accept()
        """
        async for packet in self:
            return packet
        raise self._error("get()")

    async def get_batch(self, max: int = BATCH) -> list[Packet]:
        """Returns as many packets as there are, at least one.

        Args:
            max: The largest number of packets.

        Else like ``get()``.

        >>> for packet in await stream.get_batch():
        ...     packet.accept()
        """
        most = check_count("get_batch(): max", max)
        self._check_loop()
        packets = self._take_batch(most) if self._ready() or await self._wait() else None
        if not packets:
            raise self._error("get_batch()")
        return packets

    def get_nowait(self) -> Packet:
        """Returns the next packet, without waiting.

        Raises ``asyncio.QueueEmpty`` if there is none. Raises ``ClosedError`` if none will come any
        more, as ``get()`` does. Raises ``RuntimeError`` in a thread other than the loop's.

        >>> try:
        ...     stream.get_nowait().accept()
        ... except asyncio.QueueEmpty:
        ...     print("none waits")
        """
        self._check_loop()
        self._check_here("get_nowait()")
        return self._take_nowait(asyncio.QueueEmpty)

    def __aiter__(self) -> Self:
        self._check_loop()
        return self

    async def __anext__(self) -> Packet:
        if monotonic() <= self._until and not self._full:
            try:
                return self._packets.popleft()  # as `_take` does, whose call would cost as much
            except IndexError:
                pass
        packet = self._take()
        if packet is None and await self._wait():
            packet = self._take(looked=True)
        if packet is None:
            raise StopAsyncIteration
        return packet

    async def aclose(self) -> None:
        """The same as ``close()``.

        >>> await stream.aclose()
        >>> stream.closed
        True
        """
        self.close()

    async def __aenter__(self) -> Self:
        return self._open()

    async def __aexit__(self, *exception: object) -> None:
        self.close()


open_queue = PacketStream
"""A queue as a stream of packets: see PacketStream."""
