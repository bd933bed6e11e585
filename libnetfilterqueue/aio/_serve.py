# SPDX-License-Identifier: GPL-2.0-or-later
"""A task for each packet of a stream."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import libnetfilterqueue as nfq
from libnetfilterqueue._stream import settle
from libnetfilterqueue.aio._packets import PacketStream

Packet = nfq.NetfilterQueueData


async def serve(
    stream: PacketStream,
    handler: Callable[[Packet], Coroutine[Any, Any, object]],
    *,
    concurrency: int = 100,
) -> None:
    """Runs `handler(packet)` as a task for each packet, at most `concurrency` at a time.

    A packet whose handler ends without a verdict gets the default at once. What a handler raises
    goes to the loop's exception handler. Returns when the stream is closed; then, and when it is
    cancelled, the handlers that run are cancelled, and their packets have the default verdict.
    Raises ValueError for a concurrency below 1.
    """
    if concurrency < 1:
        raise ValueError(f"serve(): concurrency must be at least 1, not {concurrency}")
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[object]] = set()
    room = asyncio.Event()

    def done(packet: Packet, task: asyncio.Task[object]) -> None:
        tasks.discard(task)
        room.set()
        settle(packet)
        if not task.cancelled() and (error := task.exception()) is not None:
            message = "Exception in the handler of a packet"
            loop.call_exception_handler({"message": message, "exception": error, "task": task})

    try:
        async for packet in stream:
            task = loop.create_task(handler(packet))
            tasks.add(task)
            task.add_done_callback(partial(done, packet))
            del packet  # a packet that is waited for must not keep this one
            while len(tasks) >= concurrency:
                room.clear()
                await room.wait()
    finally:
        for task in tasks:
            task.cancel()
        while tasks:
            await asyncio.wait(tasks)
