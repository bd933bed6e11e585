# SPDX-License-Identifier: GPL-2.0-or-later
"""The handlers that serve() runs."""

import asyncio
import contextlib
import contextvars
import functools
import sys
import types
from asyncio import Task
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import libnetfilterqueue as nfq
from libnetfilterqueue._backlog import settle
from libnetfilterqueue.aio._packets import PacketStream
from libnetfilterqueue.aio._spare import SpareTasks

Packet = nfq.NetfilterQueueData
Handler = Callable[[Packet], Coroutine[Any, Any, object]]


@types.coroutine
def _pause() -> Generator[None, None, None]:
    yield


class Handlers:
    """The tasks of handlers that run, at most so many at once, with their packets."""

    def __init__(self, stream: PacketStream, handler: Handler, most: int) -> None:
        self._stream = stream
        self._handler = handler
        self._most = most
        self._tasks: dict[Packet, Task[Any]] = {}
        self._room = asyncio.Event()
        self._cancelled = False

    async def serve(self) -> None:
        """Runs them until the stream ends; then waits for those that run."""
        stream = self._stream
        stream._check_process("serve()")
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._spares = SpareTasks(self._loop, self._context, self._room.set)
        self._eager = self._loop.get_task_factory() is None
        stream._when_closed.add(self.cancel)
        try:
            if self._eager and not stream._is_ended():
                stream.queue.callback = self._begin
            await self._start_all()
        except BaseException:
            self.cancel()
            raise
        finally:
            if self._eager:
                with contextlib.suppress(nfq.ClosedError):
                    stream.queue.callback = stream._packets.append
            await self._wait()
            stream._when_closed.discard(self.cancel)

    async def _start_all(self) -> None:
        """Starts those of packets that wait in the stream."""
        stream = self._stream
        while await self._have_room() and (stream._ready() or await stream._wait()):
            if self._are_full():
                stream._wake()  # somebody else, for the packet
            elif (packet := stream._take(looked=True)) is not None:
                self._start(packet)
                del packet  # a packet that is waited for must not keep this one

    def _are_full(self) -> bool:
        """Whether as many run as may."""
        return len(self._tasks) >= self._most

    async def _have_room(self) -> bool:
        """Waits until fewer run than may; False if none may begin any more."""
        while self._are_full() and not self._cancelled:
            self._room.clear()
            await self._room.wait()
        return not self._cancelled

    def _begin(self, packet: Packet) -> None:
        """In the queue's callback: starts the handler, unless somebody has waited before."""
        stream = self._stream
        if stream._packets or len(stream._waiting) > 1 or len(self._tasks) >= self._most:
            stream._packets.append(packet)
            return
        task = self._make_eager_task(packet)
        if task is not None and not task.done():
            self._add(packet, task)

    def _start(self, packet: Packet) -> None:
        """Starts the handler of a packet that has waited in the stream."""
        task = self._make_eager_task(packet) if self._eager else self._make_task(packet)
        if task is not None and not task.done():
            self._add(packet, task)

    def _add(self, packet: Packet, task: Task[Any]) -> None:
        self._tasks[packet] = task
        if self._cancelled:  # by this very handler
            task.cancel()

    def _make_task(self, packet: Packet) -> Task[Any]:
        """A task for the handler of a packet."""
        coroutine = self._run(packet, later=True)
        coroutine.send(None)  # into its `try`, so that it hears of it if it is cancelled soon
        return self._loop.create_task(coroutine)

    if sys.version_info >= (3, 12):

        def _make_eager_task(self, packet: Packet) -> Task[Any] | None:
            """A task that has begun; done if it has ended with that."""
            context = self._context.copy()
            return Task(self._run(packet), loop=self._loop, context=context, eager_start=True)

    else:

        def _make_eager_task(self, packet: Packet) -> Task[Any] | None:
            """A task that has begun; None if it has ended with that."""
            if asyncio.current_task(self._loop) is None:
                return self._spares.begin(self._run(packet))
            return self._make_task(packet)

    async def _run(self, packet: Packet, *, later: bool = False) -> None:
        try:
            if later:  # else this is the queue's callback
                await _pause()
                self._stream._look()
            await self._handler(packet)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            self._report_later(error, packet)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        finally:
            if packet.verdict is None:
                settle(packet)
            if self._tasks and packet in self._tasks:  # not if it ends before it is there
                del self._tasks[packet]
                self._stream._look()
                self._room.set()

    def _report_later(self, error: BaseException, packet: Packet) -> None:
        """When the task is done. Not in its context, which the loop enters for its handler."""
        task = asyncio.current_task()
        assert task is not None
        report = functools.partial(self._report, error, packet)
        task.add_done_callback(report, context=contextvars.copy_context())

    def _report(self, error: BaseException, packet: Packet, task: Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # nobody else has to be told of it
        if isinstance(error, nfq.ClosedError) and self._stream.closed:
            return  # it says no more than that
        context = {
            "message": "Exception in the handler of a packet",
            "exception": error,
            "packet": packet,
            "task": task,
        }
        self._loop.call_exception_handler(context)

    def cancel(self) -> None:
        """Cancels those that run, once; no other begins."""
        if not self._cancelled:
            self._cancelled = True
            self._most = 0
            self._room.set()
            for task in self._tasks.values():
                task.cancel()

    async def _wait(self) -> None:
        """Waits for those that run. Cancelling this cancels them; it waits all the same."""
        cancelled: asyncio.CancelledError | None = None
        while self._tasks or self._spares.end():
            self._room.clear()
            try:
                await self._room.wait()
            except asyncio.CancelledError as error:
                cancelled = error
                self.cancel()
        if cancelled is not None:
            raise cancelled
