# SPDX-License-Identifier: GPL-2.0-or-later
"""A task for each packet of a stream."""

import asyncio
from collections.abc import Awaitable, Callable

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count, check_type
from libnetfilterqueue._stream import settle
from libnetfilterqueue.aio._packets import PacketStream

Packet = nfq.NetfilterQueueData
Handler = Callable[[Packet], Awaitable[object]]


class _Handlers:
    """The tasks of handlers that run, with their packets."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._packets: dict[asyncio.Task[None], Packet] = {}
        self._room = asyncio.Event()

    def start(self, packet: Packet) -> None:
        task = self._loop.create_task(self._run(packet))
        if not task.done():  # an eager one may be
            self._packets[task] = packet

    async def _run(self, packet: Packet) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await self._handler(packet)
        except Exception as error:  # noqa: BLE001 (whatever a handler raises)
            # Without the task: its context, in which the loop would call, has been entered.
            context = {"message": "Exception in the handler of a packet", "exception": error}
            self._loop.call_exception_handler(context)
        finally:
            self._packets.pop(task, None)  # an eager one may not be there yet
            self._room.set()
            settle(packet)

    async def wait_below(self, most: int, stream: PacketStream) -> None:
        """Until fewer run than that, or the stream is closed."""
        while len(self._packets) >= most and not stream.closed:
            self._room.clear()
            await self._room.wait()

    def look(self) -> None:
        """Has who waits look again."""
        self._room.set()

    async def cancel(self) -> None:
        """Ends them all, and waits for that; once more if it is cancelled meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        while pending := [task for task in self._packets if not task.done()]:
            for task in pending:
                task.cancel()
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
        for packet in self._packets.values():  # of those that had not even begun
            settle(packet)
        if cancelled is not None:
            raise cancelled


async def serve(stream: PacketStream, handler: Handler, *, concurrency: int = 100) -> None:
    """Runs `handler(packet)` as a task for each packet, at most `concurrency` at a time.

    A packet whose handler ends without a verdict gets the default at once. What a handler raises
    goes to the loop's exception handler. Returns when the stream is closed; then, and when it is
    cancelled, the handlers that run are cancelled, and their packets have the default verdict once
    they have ended, which it waits for. Raises ValueError for a concurrency below 1.
    """
    check_type(isinstance(stream, PacketStream), "serve(): stream must be a PacketStream", stream)
    check_type(callable(handler), "serve(): handler must be callable", handler)
    most = check_count("serve(): concurrency", concurrency)
    handlers = _Handlers(handler)
    stream._when_closed.add(handlers.look)
    try:
        async for packet in stream:
            handlers.start(packet)
            del packet  # a packet that is waited for must not keep this one
            await handlers.wait_below(most, stream)
    finally:
        stream._when_closed.discard(handlers.look)
        await handlers.cancel()
