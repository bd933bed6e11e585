# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue as an asynchronous stream of packets."""

from collections.abc import Callable
from typing import Self

import trio

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count
from libnetfilterqueue._feed import BATCH
from libnetfilterqueue._stream import Stream
from libnetfilterqueue.trio._attachment import Attachment

Packet = nfq.NetfilterQueueData


class PacketStream(Stream[Attachment]):
    """The packets of a queue: ``async with open_queue(1) as stream`` binds the queue and closes it.

    ``async for packet in stream`` yields packets until the stream is closed or stopped. Each step
    is a checkpoint. Several tasks may read it: each packet goes to one of them, the one that has
    waited longest. The task that waits reads from the kernel. Use it in trio's thread.

    >>> async with open_queue(3) as stream:
    ...     stream.stop()  # say, at a signal
    ...     async for packet in stream:
    ...         packet.accept()
    """

    def _attach(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> Attachment:
        self._turn = trio.StrictFIFOLock()
        return Attachment(handle, fed)

    def _check_trio(self) -> None:
        self._check_open()
        if self._feed is not None and self._feed._token != trio.lowlevel.current_trio_token():
            raise RuntimeError("the stream was opened in another run of trio")

    async def _wait(self) -> bool:
        """A checkpoint, which waits for a packet; False if no more will come."""
        self._check_trio()
        self._look()
        if self._packets or self._is_ended():
            await trio.lowlevel.checkpoint()
        while self._feed is not None and not self._packets and not self._is_ended():
            async with self._turn:
                if not self._packets and not self._is_ended():
                    await self._feed._read()
        return bool(self._packets)

    def _read_now(self, feed: Attachment) -> None:
        """Reads a batch, if there is one, for whoever waits too."""
        if not self._is_ended():
            feed._process()
            feed._nudge()
            feed._raise_failure()

    async def get(self) -> Packet:
        """Waits for the next packet and returns it. It is a checkpoint.

        Raises ``ClosedError`` if the stream is closed, or is stopped and empty, also while it
        waits. Raises ``OSError`` if receiving or sending fails, ``RuntimeError`` outside of the run
        of trio that the stream was opened in.

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
        packets = self._take_batch(most) if await self._wait() else None
        self._hold(None)
        if not packets:
            raise self._error("get_batch()")
        return packets

    def get_nowait(self) -> Packet:
        """Returns the next packet, without waiting.

        Raises ``trio.WouldBlock`` if there is none. Else like ``get()``.

        >>> try:
        ...     stream.get_nowait().accept()
        ... except trio.WouldBlock:
        ...     print("none waits")
        """
        self._check_trio()
        if self._feed is not None and not self._packets and not self._paused:
            self._read_now(self._feed)
        return self._take_nowait(trio.WouldBlock)

    def __aiter__(self) -> Self:
        self._check_trio()
        return self

    async def __anext__(self) -> Packet:
        packet = self._take(looked=True) if await self._wait() else None
        if packet is None:
            raise StopAsyncIteration
        self._hold(0)  # the next step is in another turn
        return packet

    async def aclose(self) -> None:
        """The same as ``close()``, and a checkpoint.

        >>> await stream.aclose()
        >>> stream.closed
        True
        """
        self.close()
        if self._feed is not None:
            self._feed.detach()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self._open()

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


open_queue = PacketStream
"""A queue as a stream of packets: see PacketStream."""
