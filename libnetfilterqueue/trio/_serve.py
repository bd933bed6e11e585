# SPDX-License-Identifier: GPL-2.0-or-later
"""A task for each packet of a stream."""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import trio

import libnetfilterqueue as nfq
from libnetfilterqueue._arguments import check_count, check_type, is_coroutine_function
from libnetfilterqueue._backlog import settle
from libnetfilterqueue.trio._packets import PacketStream

Packet = nfq.NetfilterQueueData
Handler = Callable[[Packet], Awaitable[object]]


class Handlers:
    """Tasks of handlers in a nursery, at most so many at once."""

    def __init__(self, stream: PacketStream, handler: Handler, most: int) -> None:
        self._stream = stream
        self._handler = handler
        self._room = most  # how many may still begin
        self._due: deque[Packet] = deque()  # whose tasks have not begun
        self._ended = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()

    async def serve(self) -> None:
        """Runs them until the stream ends; then waits for those that run."""
        stream = self._stream
        stream._check_process("serve()")
        stream._when_closed.add(self._cancel)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    while await stream._wait():
                        self._start(nursery)
                        while not self._room:
                            await self._ended.park()
        finally:
            stream._when_closed.discard(self._cancel)

    def _cancel(self) -> None:
        """Also in a signal handler, which must not do it itself."""
        if self._stream._feed is not None:
            self._stream._feed._call(self._scope.cancel, at_once=False)

    def _start(self, nursery: trio.Nursery) -> None:
        """Starts as many as there are packets and room."""
        packets = self._stream._take_batch(self._room)
        self._stream._hold(None)
        self._due.extend(packets)
        self._room -= len(packets)
        for _ in packets:
            nursery.start_soon(self._run, name=self._handler)

    async def _run(self) -> None:
        """Handles the next packet: trio starts tasks in any order."""
        stream = self._stream
        packet = self._due.popleft()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            stream._look()
            if not stream.closed:
                await self._handler(packet)
        except nfq.ClosedError:
            if not stream.closed:  # else it says no more than that
                raise
        finally:
            settle(packet)
            self._room += 1
            self._ended.unpark()


def serve(
    stream: PacketStream, handler: Handler, *, concurrency: int = 100
) -> Coroutine[Any, Any, None]:
    """Runs ``handler(packet)`` as a task for each packet.

    Args:
        stream: The stream whose packets it handles.
        handler: An asynchronous function, which is called with each packet.
        concurrency: The largest number of handlers that run at a time, at least 1.

    It is a coroutine: await it. The tasks are in a nursery of its own. It returns when the stream
    is closed, or when the stream is stopped and the handlers have ended. If a handler ends without
    a verdict, its packet gets the default at once. An exception of a handler cancels the others,
    and leaves ``serve()`` in an ``ExceptionGroup``. When the stream is closed or ``serve()`` is
    cancelled, the running handlers are cancelled, and no other handler begins. ``serve()`` waits
    for them, and packets without a verdict get the default.

    The call raises ``TypeError`` unless ``handler`` is an asynchronous function, a partial of one,
    or an object whose ``__call__`` is one. It raises ``ValueError`` for a concurrency below 1.
    Awaiting it raises ``RuntimeError`` in a run of trio other than the stream's, and after fork.

    >>> async def handler(packet):
    ...     await trio.sleep(0.01)  # look something up
    ...     packet.accept()
    >>> async with trio.open_nursery() as nursery:
    ...     nursery.start_soon(serve, stream, handler)
    ...     stream.stop()  # say, at a signal
    """
    check_type(isinstance(stream, PacketStream), "serve(): stream must be a PacketStream", stream)
    check_type(
        is_coroutine_function(handler), "serve(): handler must be a coroutine function", handler
    )
    return Handlers(stream, handler, check_count("serve(): concurrency", concurrency)).serve()
