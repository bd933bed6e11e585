# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue as an asynchronous stream of packets."""

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import Self

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count
from libnetfilterqueue._feed import BATCH
from libnetfilterqueue._stream import Stream
from libnetfilterqueue.aio._attachment import Attachment

Packet = nfq.NetfilterQueueData


class PacketStream(Stream[Attachment]):
    """The packets of a queue: `async with open_queue(1) as stream`, which binds and closes it.

    `async for packet in stream` yields packets until the stream is closed. Several tasks may read
    it: each packet goes to one of them. To be used in the loop's thread.

    number, mode, range, maxlen, flags and default_verdict are those of create_queue, netns is that
    of open. rcvbuf is the size of the socket's receive buffer in bytes; None makes it large enough
    for maxlen packets of 1500 bytes, as far as the system allows. With `limit` packets waiting in
    it, give or take a batch, the stream leaves the others in the kernel; it reads on when less than
    half of that are left. A limit below 1 is a ValueError; what open and create_queue raise comes
    when it is opened.
    """

    def _attach(self, handle: nfq.NetfilterQueueHandle, fed: Callable[[], object]) -> Attachment:
        return Attachment(handle, asyncio.get_running_loop(), fed)

    @cached_property
    def _arrived(self) -> asyncio.Event:
        return asyncio.Event()

    def _wake(self) -> None:
        self._arrived.set()

    async def _wait(self) -> bool:
        """Waits for a packet, and lets others have a turn; False if the stream is closed."""
        if self._packets:
            await asyncio.sleep(0)
        while not self._packets:
            if self._closed:
                return False
            self.handle  # noqa: B018 (raises if it is not open)
            self._arrived.clear()
            await self._arrived.wait()
        self._taken = 0
        return True

    async def get(self) -> Packet:
        """The next packet. Raises ClosedError if the stream is closed, also while it waits."""
        if not (self._ready() or await self._wait()):
            raise nfq.ClosedError("get(): the stream is closed")
        return self._take()

    async def get_batch(self, max: int = BATCH) -> list[Packet]:
        """As many packets as there are, at least one and at most `max`; else as get()."""
        most = check_count("get_batch(): max", max)
        if not (self._ready() or await self._wait()):
            raise nfq.ClosedError("get_batch(): the stream is closed")
        return self._take_batch(most)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Packet:
        if not (self._ready() or await self._wait()):
            raise StopAsyncIteration
        return self._take()

    async def __aenter__(self) -> Self:
        return self._open()

    async def __aexit__(self, *exception: object) -> None:
        self.close()


open_queue = PacketStream
"""A queue as a stream of packets: see PacketStream."""
