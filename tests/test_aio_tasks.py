# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.aio on asyncio and uvloop: the tasks of handlers, which begin at once."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
from asynchronous import Contexts, eventually, turn
from netns import TIMEOUT, UdpPair
from queues import Packet

import libnetfilterqueue as nfq
from libnetfilterqueue import aio

Task = asyncio.Task[Any]
variable: ContextVar[int] = ContextVar("variable", default=0)


def current() -> Task:
    task = asyncio.current_task()
    assert task is not None
    return task


async def serve(
    stream: aio.PacketStream, udp: UdpPair, handler: Callable[[Packet], Any], count: int = 1
) -> None:
    """Serves so many packets, until each has its verdict."""
    serving = asyncio.create_task(aio.serve(stream, handler))
    await asyncio.sleep(0)
    udp.send(*[b"data"] * count)
    await eventually(lambda: stream.handle.stats().verdicts == count)
    await turn()
    stream.close()
    await serving


@pytest.mark.parametrize("waits", [False, True])
async def test_task_of_its_own(stream: aio.PacketStream, udp: UdpPair, waits: bool) -> None:
    """Each handler has a task of its own, the same in all its steps."""
    tasks: list[Task] = []

    async def handler(packet: Packet) -> None:
        tasks.append(current())
        for _ in range(2 if waits else 0):
            await asyncio.sleep(0)
            assert current() is tasks[packet.id - 1]
        packet.accept()

    await serve(stream, udp, handler, 4)
    assert len(set(tasks)) == 4
    assert all(task.done() and not task.cancelled() for task in tasks)
    assert udp.arrivals() == [b"data"] * 4


def rename(task: Task) -> bool:
    found = task.get_name() == "mine"
    task.set_name("mine")
    return found


def change_the_context(_task: Task) -> bool:
    found = variable.get() == 1
    variable.set(1)
    return found


def cancel(task: Task) -> bool:
    found = task.cancelling() > 0
    task.cancel()
    return found


known: "weakref.WeakSet[Task]" = weakref.WeakSet()


def remember(task: Task) -> bool:
    found = task in known
    known.add(task)
    return found


@pytest.mark.parametrize("change", [rename, change_the_context, cancel, remember])
async def test_nothing_is_left(
    stream: aio.PacketStream, udp: UdpPair, change: Callable[[Task], bool]
) -> None:
    """What a handler that does not wait leaves in its task, no other finds there."""
    found: list[bool] = []

    async def handler(packet: Packet) -> None:
        found.append(change(current()))
        packet.accept()

    await serve(stream, udp, handler, 4)
    assert found == [False] * 4
    assert udp.arrivals() == [b"data"] * 4


async def test_done(stream: aio.PacketStream, udp: UdpPair) -> None:
    """A handler hears at once of the end of its task, also if it does not wait."""
    done: list[Task] = []

    async def handler(packet: Packet) -> None:
        current().add_done_callback(done.append)
        packet.accept()

    serving = asyncio.create_task(aio.serve(stream, handler))
    await asyncio.sleep(0)
    udp.send(*[b"data"] * 3)
    await eventually(lambda: len(done) == 3)
    assert len(set(done)) == 3
    stream.close()
    await serving


async def test_cancels_itself(stream: aio.PacketStream, udp: UdpPair) -> None:
    """A handler that has cancelled itself is cancelled where it waits, and so is what it awaits."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    done.set_result(None)
    awaited: list[Awaitable[object]] = [
        asyncio.sleep(0),
        loop.create_future(),
        asyncio.create_task(asyncio.sleep(TIMEOUT)),
        asyncio.gather(asyncio.sleep(TIMEOUT)),
    ]
    messages: list[object] = []

    async def handler(packet: Packet) -> None:
        await done  # which is no reason to wait
        current().cancel("message")
        with pytest.raises(asyncio.CancelledError) as raised:
            await awaited[packet.id - 1]
        messages.extend(raised.value.args)
        assert current().uncancel() == 0
        await asyncio.sleep(0)
        packet.accept()

    await serve(stream, udp, handler, 4)
    assert messages == ["message"] * 4
    assert all(future.done() for future in awaited if asyncio.isfuture(future))
    assert udp.arrivals() == [b"data"] * 4


@pytest.mark.parametrize("turns", range(3))
async def test_cancelled_soon(stream: aio.PacketStream, udp: UdpPair, turns: int) -> None:
    """A handler that is cancelled right after its first step may clean up, and may go on."""
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[None]] = []

    def cancel(task: Task, left: int = turns) -> None:
        if left:
            loop.call_soon(cancel, task, left - 1)
        else:
            task.cancel()

    async def handler(packet: Packet) -> None:
        futures.append(loop.create_future())
        loop.call_soon(cancel, current())
        with pytest.raises(asyncio.CancelledError):
            await futures[-1]
        current().uncancel()  # before 3.11.4 a timeout would not know whose cancellation it sees
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await loop.create_future()
        packet.accept()

    await serve(stream, udp, handler, 3)
    assert all(future.cancelled() for future in futures)
    assert udp.arrivals() == [b"data"] * 3


@pytest.mark.parametrize("waits", [False, True])
async def test_raises_cancelled_error(
    udp: UdpPair, nothing_left: None, contexts: Contexts, waits: bool
) -> None:
    """A handler that raises CancelledError cancels its task, and nobody is told."""
    tasks: list[Task] = []

    async def handler(_packet: Packet) -> None:
        tasks.append(current())
        if waits:
            await asyncio.sleep(0)
        raise asyncio.CancelledError

    async with aio.open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        await serve(stream, udp, handler, 2)
    assert all(task.cancelled() for task in tasks)
    assert contexts == []
    assert udp.arrivals() == [b"data"] * 2


async def test_wrong_awaitable(stream: aio.PacketStream, udp: UdpPair, contexts: Contexts) -> None:
    """What a task can't await is an error in the handler, which may go on."""

    class Wrong:
        def __await__(self) -> Any:
            yield "wrong"

    async def handler(packet: Packet) -> None:
        with pytest.raises(RuntimeError, match="bad yield"):
            await Wrong()
        with pytest.raises(ZeroDivisionError):
            await asyncio.gather(fail())
        packet.accept()

    async def fail() -> None:
        1 / 0  # noqa: B018

    await serve(stream, udp, handler, 2)
    assert contexts == []
    assert udp.arrivals() == [b"data"] * 2


async def test_children(stream: aio.PacketStream, udp: UdpPair) -> None:
    """Handlers may have tasks of their own, and time limits."""

    async def answer() -> int:
        await asyncio.sleep(0)
        return variable.get()

    async def handler(packet: Packet) -> None:
        variable.set(packet.id)
        async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
            task = group.create_task(answer())
        assert task.result() == variable.get() == packet.id
        packet.accept()

    await serve(stream, udp, handler, 4)
    assert udp.arrivals() == [b"data"] * 4


async def test_inside_a_task(stream: aio.PacketStream, udp: UdpPair) -> None:
    """A task that has the packets dispatched is still the current one afterwards."""
    tasks: list[Task] = []

    async def handler(packet: Packet) -> None:
        tasks.append(current())
        packet.accept()

    serving = asyncio.create_task(aio.serve(stream, handler))
    await asyncio.sleep(0)
    me = current()
    udp.send(b"data")
    assert stream.handle.process(timeout=TIMEOUT) == 1
    assert current() is me
    stream.stop()
    await serving
    assert current() is me not in tasks
    assert udp.arrivals() == [b"data"]
