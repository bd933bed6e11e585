# SPDX-License-Identifier: GPL-2.0-or-later
"""A callback or a handler decides on one packet: the test of either in a line."""

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple

import libnetfilterqueue as nfq
from libnetfilterqueue._backlog import settle
from libnetfilterqueue.constants import QueueFlag
from libnetfilterqueue.testing._packets import KernelPacket
from libnetfilterqueue.testing._waiting import runs_hub, runs_trio

Callback = Callable[[nfq.NetfilterQueueData], None]
Handler = Callable[[nfq.NetfilterQueueData], Awaitable[object]]

# What a queue has to ask for, so that a program is told of it.
FLAGS = {
    "uid": QueueFlag.NFQA_CFG_F_UID_GID,
    "gid": QueueFlag.NFQA_CFG_F_UID_GID,
    "secctx": QueueFlag.NFQA_CFG_F_SECCTX,
    "conntrack": QueueFlag.NFQA_CFG_F_CONNTRACK,
    "ct_info": QueueFlag.NFQA_CFG_F_CONNTRACK,
    "skb_info": QueueFlag.NFQA_CFG_F_GSO,
}


def flags_for(attributes: Iterable[str]) -> int:
    """The flags of a queue whose packets come with these attributes."""
    flags = 0
    for name in attributes:
        flags |= FLAGS.get(name, 0)
    return flags


def name_of(function: Any) -> str:
    """What an error calls it."""
    return f"{getattr(function, '__qualname__', function)}()"


class Decision(NamedTuple):
    """What it takes to have one packet decided on."""

    open: Callable[[], nfq.NetfilterQueueHandle]
    send: Callable[[], KernelPacket]
    number: int
    flags: int
    default_verdict: int
    timeout: float
    """Seconds."""

    def by_callback(self, callback: Callback) -> KernelPacket:
        """Has it called, again for as long as it answers NF_REPEAT."""
        with self.open() as handle:
            handle.create_queue(
                self.number, callback, flags=self.flags, default_verdict=self.default_verdict
            )
            packet = self.send()
            end = time.monotonic() + self.timeout
            with self._limiting_greenlets(callback):
                while packet.passed is None and handle.process():
                    if time.monotonic() > end:
                        raise self._too_slow(callback)
        return packet

    async def by_handler(self, handler: Handler) -> KernelPacket:
        """Has it called in the loop that runs."""
        return await (self._in_trio(handler) if runs_trio() else self._in_asyncio(handler))

    def _too_slow(self, function: object) -> TimeoutError:
        return TimeoutError(
            f"decide(): {name_of(function)} has not decided within {self.timeout} seconds"
        )

    @contextlib.contextmanager
    def _limiting_greenlets(self, callback: Callback) -> Iterator[None]:
        """What blocks nothing but its greenlet can be interrupted."""
        if not runs_hub():
            yield
            return
        import gevent  # noqa: PLC0415 (not every program has it)

        with gevent.Timeout(self.timeout, self._too_slow(callback)):
            yield

    async def _in_asyncio(self, handler: Handler) -> KernelPacket:
        import asyncio  # noqa: PLC0415 (trio's programs do without)

        from libnetfilterqueue import aio  # noqa: PLC0415

        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                return await self._decide(aio, handler)
        except TimeoutError as error:
            if limit.expired():
                raise self._too_slow(handler) from error
            raise

    async def _in_trio(self, handler: Handler) -> KernelPacket:
        import trio  # noqa: PLC0415 (asyncio's programs do without)

        from libnetfilterqueue import trio as adapter  # noqa: PLC0415

        with trio.move_on_after(self.timeout):
            return await self._decide(adapter, handler)
        raise self._too_slow(handler)

    async def _decide(self, adapter: Any, handler: Handler) -> KernelPacket:
        stream: Any = adapter.open_queue(
            self.number,
            flags=self.flags,
            default_verdict=self.default_verdict,
            handle=self.open(),
        )
        async with stream:
            packet = self.send()
            while packet.passed is None and packet.number == self.number:
                received: nfq.NetfilterQueueData = await stream.get()
                try:
                    await handler(received)
                finally:
                    settle(received)
                    stream.handle.flush()
        return packet
