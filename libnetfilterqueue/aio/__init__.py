# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets in asyncio, and so in uvloop and in whatever runs an asyncio loop.

attach() has the running loop feed a handle, open_queue() is a queue as an asynchronous stream of
packets, serve() runs a task for each. The loop is the caller's: it is neither created, nor run,
nor stopped here.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Self

import libnetfilterqueue as nfq
from libnetfilterqueue._stream import BATCH, Feed, Stream, settle

__all__ = ["Attachment", "PacketStream", "attach", "open_queue", "serve"]

Packet = nfq.NetfilterQueueData


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Attachment(Feed):
    """A handle that an asyncio loop feeds; made by attach().

    A context manager, plain and asynchronous, that detaches it. To be used in the loop's thread.
    """

    def __init__(
        self,
        handle: nfq.NetfilterQueueHandle,
        loop: asyncio.AbstractEventLoop,
        fed: Callable[[], object],
    ) -> None:
        self._loop = loop
        super().__init__(handle, fed)

    def _watch(self) -> None:
        self._loop.add_reader(self._descriptor, self._process)

    def _unwatch(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.remove_reader(self._descriptor)

    def _call(self, function: Callable[[], object], *, at_once: bool) -> None:
        here = _running_loop() is self._loop
        if here and not at_once:
            self._loop.call_soon(function)
        elif here or not self._loop.is_running():
            function()
        else:
            try:
                self._loop.call_soon_threadsafe(function)
            except RuntimeError:  # it was closed this moment
                function()

    def _report(self, error: BaseException) -> None:
        context = {
            "message": "Exception in a callback of a netfilter queue",
            "exception": error,
            "netfilter_handle": self._handle,
        }
        self._loop.call_exception_handler(context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.detach()


def attach(
    handle: nfq.NetfilterQueueHandle, *, loop: asyncio.AbstractEventLoop | None = None
) -> Attachment:
    """Has the running loop, or `loop`, feed the handle from now on.

    The callbacks of its queues are called in the loop, at most 64 a turn. What they raise goes to
    the loop's exception handler, and the feed goes on. Verdicts given in one turn are sent together
    at its end. Closing the handle, in any thread, detaches it.

    To be called in the loop's thread, or while it does not run. Raises RuntimeError if the handle
    is attached already or no loop runs, ValueError if it is closed.
    """
    return Attachment(handle, loop or asyncio.get_running_loop(), lambda: None)


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
        self._arrived = asyncio.Event()
        return Attachment(handle, asyncio.get_running_loop(), fed)

    def _wake(self) -> None:
        if self._handle is not None:
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
        """The next packet. Raises ValueError if the stream is closed, also while it waits."""
        if not (self._ready() or await self._wait()):
            raise ValueError("get(): the stream is closed")
        return self._take()

    async def get_batch(self, max: int = BATCH) -> list[Packet]:
        """As many packets as there are, at least one and at most `max`; else as get()."""
        if max < 1:
            raise ValueError(f"get_batch(): max must be at least 1, not {max}")
        if not (self._ready() or await self._wait()):
            raise ValueError("get_batch(): the stream is closed")
        return self._take_batch(max)

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
