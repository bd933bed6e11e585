# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.aio on asyncio and uvloop: handlers, a task for each packet."""

import asyncio
import contextlib
import functools
import gc
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from asynchronous import Contexts, eventually, turn
from available import NEW_LOOPS
from clocks import Clock
from netns import TIMEOUT, UdpPair
from queues import Packet, accept, data_of

import libnetfilterqueue as nfq
from libnetfilterqueue import aio

COPY = nfq.NFQNL_COPY_PACKET


async def serving(
    stream: aio.PacketStream, handler: Callable[[Packet], Any], **options: int
) -> asyncio.Task[None]:
    """A task that serves the stream."""
    task = asyncio.create_task(aio.serve(stream, handler, **options))
    await asyncio.sleep(0)
    return task


async def test_serve(stream: aio.PacketStream, udp: UdpPair) -> None:
    """Handlers run side by side; each gives its own packet a verdict."""

    done = {number: asyncio.Event() for number in (1, 2, 3, 4, 5)}
    done[5].set()

    async def handler(packet: Packet) -> None:
        await done[packet.id + 1].wait()
        packet.accept()
        done[packet.id].set()

    task = await serving(stream, handler)
    udp.send(b"1", b"2", b"3", b"4")
    await eventually(lambda: stream.handle.stats().verdicts == 4)
    await turn()
    assert udp.arrivals() == [b"4", b"3", b"2", b"1"]
    stream.close()
    await task


async def test_concurrency(stream: aio.PacketStream, udp: UdpPair) -> None:
    """No more handlers run at a time than was asked for; the others' packets wait."""
    running = most = 0

    async def handler(packet: Packet) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        packet.accept()

    task = await serving(stream, handler, concurrency=3)
    udp.send(*[b"data"] * 20)
    await eventually(lambda: stream.handle.stats().verdicts == 20)
    assert most == 3
    stream.close()
    await task


async def test_handler_without_a_verdict(udp: UdpPair, contexts: Contexts) -> None:
    """A handler without a verdict ends, or raises: the packet gets the default at once."""
    kept: list[Packet] = []

    async def handler(packet: Packet) -> None:
        kept.append(packet)
        if packet.id == 2:
            raise KeyError(packet.id)
        if packet.id == 3:
            packet.drop()
            raise KeyError(packet.id)

    async with aio.open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        task = await serving(stream, handler)
        udp.send(b"1", b"2", b"3")
        await eventually(lambda: stream.handle.stats().verdicts == 3)
        await turn()
        assert udp.arrivals() == [b"1", b"2"]
        assert [packet.verdict for packet in kept] == [nfq.NF_ACCEPT, nfq.NF_ACCEPT, nfq.NF_DROP]
    await task
    assert [context["exception"].args for context in contexts] == [(2,), (3,)]


@pytest.mark.parametrize("turns", range(6))
async def test_serve_is_cancelled(udp: UdpPair, nothing_left: None, turns: int) -> None:
    """When serve is cancelled, so are its handlers, and their packets get the default."""
    cancelled: list[int] = []

    async def handler(packet: Packet) -> None:
        try:
            await asyncio.sleep(TIMEOUT)
        except asyncio.CancelledError:
            cancelled.append(packet.id)
            raise

    async with aio.open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        task = await serving(stream, handler, concurrency=2)
        udp.send(b"1", b"2", b"3", b"4")
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        fetched = len(cancelled)
        assert not stream.closed
        rest = 4 - stream.handle.stats().verdicts
        for _ in range(rest):
            (await stream.get()).accept()
        await turn()
        assert len(udp.arrivals()) == 4
    assert fetched <= 2


async def test_serve_ends_with_the_stream(
    stream: aio.PacketStream, udp: UdpPair, contexts: Contexts
) -> None:
    """serve returns when the stream is closed, and handlers that run are cancelled."""
    started: list[int] = []

    async def handler(packet: Packet) -> None:
        started.append(packet.id)
        await asyncio.sleep(TIMEOUT)

    task = await serving(stream, handler)
    udp.send(b"1", b"2")
    await eventually(lambda: len(started) == 2)
    stream.close()
    await task
    assert contexts == []
    assert udp.arrivals() == []


@pytest.mark.parametrize("packets", [1, 2, 5])
async def test_full_serve_ends_with_the_stream(
    stream: aio.PacketStream, udp: UdpPair, packets: int
) -> None:
    """serve returns with the stream also while as many handlers run as may."""
    started: list[int] = []

    async def handler(packet: Packet) -> None:
        started.append(packet.id)
        await asyncio.sleep(TIMEOUT)

    task = await serving(stream, handler, concurrency=2)
    udp.send(*[b"data"] * packets)
    await eventually(lambda: len(started) == min(packets, 2))
    await turn()
    stream.close()
    async with asyncio.timeout(TIMEOUT / 2):
        await task


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("begun", [False, True])
async def test_cancelled_once(
    stream: aio.PacketStream, udp: UdpPair, contexts: Contexts, begun: bool, ends: bool
) -> None:
    """However often serve is cancelled, its handlers are once: they can clean up; serve waits."""
    states: list[str] = []

    async def handler(packet: Packet) -> None:
        try:
            states.append("begun")
            await asyncio.sleep(TIMEOUT)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            states.append("cleaned up")
            raise

    task = await serving(stream, handler)
    udp.send(b"1", b"2")
    await eventually(lambda: stream.handle.stats().packets == 2)
    if begun:
        await eventually(lambda: len(states) == 2)
    stream.close() if ends else task.cancel()
    for _ in range(3):
        await asyncio.sleep(0.001)
        if states:
            task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert states.count("cleaned up") == states.count("begun")
    assert contexts == []


@pytest.mark.parametrize("ends", [False, True])
async def test_cancelling_is_counted(stream: aio.PacketStream, udp: UdpPair, ends: bool) -> None:
    """serve is cancelled at its end, as often as somebody has asked for that."""
    handling = asyncio.Event()

    async def handler(_packet: Packet) -> None:
        try:
            handling.set()
            await asyncio.sleep(TIMEOUT)
        finally:
            await asyncio.sleep(0.01)

    task = await serving(stream, handler)
    udp.send(b"1")
    await handling.wait()
    stream.close() if ends else task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == (1 if ends else 2)


async def handle(packet: Packet) -> None:
    packet.accept()


class CallableObject:
    """An object whose calls are coroutines."""

    async def __call__(self, packet: Packet) -> None:
        packet.accept()

    async def method(self, packet: Packet) -> None:
        packet.accept()


async def handle_more(_more: str, packet: Packet) -> None:
    packet.accept()


COROUTINES: dict[str, Callable[[Packet], Any]] = {
    "function": handle,
    "partial": functools.partial(functools.partial(handle_more), "more"),
    "partial of an object": functools.partial(CallableObject()),
    "object": CallableObject(),
    "method": CallableObject().method,
}
OTHERS: dict[str, Any] = {
    "plain function": accept,
    "function that returns an awaitable": lambda packet: handle_more("more", packet),
    "method of C": Packet.accept,
    "partial": functools.partial(accept),
    "class": CallableObject,
    "nothing callable": 1,
}


@pytest.mark.parametrize("kind", COROUTINES)
async def test_coroutine_functions(stream: aio.PacketStream, udp: UdpPair, kind: str) -> None:
    """Whatever makes a coroutine when it is called can be a handler."""
    task = await serving(stream, COROUTINES[kind])
    udp.send(b"data")
    await eventually(lambda: stream.handle.stats().verdicts == 1)
    await turn()
    assert udp.arrivals() == [b"data"]
    stream.close()
    await task


@pytest.mark.parametrize("kind", OTHERS)
async def test_no_coroutine_function(stream: aio.PacketStream, kind: str) -> None:
    """A handler that makes no coroutine is a TypeError at the call, before anything is awaited."""
    with pytest.raises(TypeError, match=r"serve\(\): handler must be a coroutine function"):
        aio.serve(stream, OTHERS[kind])  # type: ignore[unused-coroutine]


def eager_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    """A task that begins while it is made, where Python (3.12 and newer) has such tasks."""
    if sys.version_info >= (3, 12):
        options["eager_start"] = True
    return asyncio.Task(coroutine, loop=loop, **options)


@pytest.mark.parametrize("waits", [False, True])
async def test_eager_tasks(stream: aio.PacketStream, udp: UdpPair, waits: bool) -> None:
    """A handler may end before anybody has its task."""

    async def handler(packet: Packet) -> None:
        if waits:
            await asyncio.sleep(0)
        packet.accept()

    asyncio.get_running_loop().set_task_factory(eager_task)
    task = await serving(stream, handler, concurrency=2)
    udp.send(*[b"data"] * 10)
    await eventually(lambda: stream.handle.stats().verdicts == 10)
    stream.close()
    await task
    asyncio.get_running_loop().set_task_factory(None)


async def test_handler_closes_the_stream(stream: aio.PacketStream, udp: UdpPair) -> None:
    """A handler may close the stream."""

    async def handler(packet: Packet) -> None:
        packet.accept()
        stream.close()

    task = await serving(stream, handler)
    udp.send(b"1", b"2")
    await task
    await turn()
    assert udp.arrivals()[:1] == [b"1"]


async def test_concurrency_out_of_range(stream: aio.PacketStream) -> None:
    """A concurrency below 1 is a ValueError."""
    with pytest.raises(ValueError, match="concurrency must be at least 1, not 0"):
        await aio.serve(stream, handle, concurrency=0)


@pytest.mark.parametrize("early", [False, True])
async def test_slow_handlers(
    stream: aio.PacketStream, udp: UdpPair, clock: Clock, early: bool
) -> None:
    """A verdict that is older than 1 ms is sent before the next handler runs."""
    began: list[int] = []

    async def handler(packet: Packet) -> None:
        await asyncio.sleep(0)  # all have begun, then
        assert len(udp.arrivals()) == (1 if began else 0)
        began.append(packet.id)
        if early:
            packet.accept()
        clock.now += 0.0011
        if not early:
            packet.accept()

    task = await serving(stream, handler)
    udp.send(*[b"data"] * 5)
    await eventually(lambda: len(began) == 5)
    await turn()
    assert len(udp.arrivals()) == 1
    stream.close()
    await task


@pytest.mark.parametrize("waits", [False, True])
async def test_slow_beginnings(
    stream: aio.PacketStream, udp: UdpPair, clock: Clock, waits: bool
) -> None:
    """Verdicts of handlers that decide before they wait are sent, however slow they are."""
    arrived: list[bytes] = []
    began: list[int] = []

    async def handler(packet: Packet) -> None:
        arrived.extend(udp.arrivals())
        began.append(packet.id)
        packet.accept()
        clock.now += 0.0011
        if waits:
            await asyncio.sleep(0)

    task = await serving(stream, handler)
    udp.send(*[b"data"] * 5)
    await eventually(lambda: len(began) == 5)
    await turn()
    assert len(arrived + udp.arrivals()) == 5
    stream.close()
    await task


@pytest.mark.parametrize("turns", range(5))
async def test_none_begins_after_the_close(
    stream: aio.PacketStream, udp: UdpPair, contexts: Contexts, turns: int
) -> None:
    """Once the stream is closed no handler begins, and nothing is reported."""
    late: list[int] = []
    closing: list[int] = []

    async def handler(packet: Packet) -> None:
        if stream.closed:
            late.append(packet.id)
        for _ in range(packet.id % 3):
            await asyncio.sleep(0)
        packet.accept()

    task = await serving(stream, handler)
    udp.send(*[b"data"] * 60)

    def close_later(left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(close_later, left - 1)
        else:
            closing.append(stream.handle.stats().packets)
            stream.close()

    close_later(turns)
    await task
    await turn()
    assert late == []
    assert contexts == []


class OwnError(BaseException):
    """No Exception."""


@pytest.mark.parametrize("error", [KeyError, OwnError, asyncio.InvalidStateError])
@pytest.mark.parametrize("waits", [False, True])
async def test_report(
    stream: aio.PacketStream,
    udp: UdpPair,
    contexts: Contexts,
    error: type[BaseException],
    waits: bool,
) -> None:
    """The exception handler gets at once what was raised, for which packet, in which task."""
    tasks: list[asyncio.Task[Any] | None] = []
    raised = error("of the handler")

    async def handler(packet: Packet) -> None:
        tasks.append(asyncio.current_task())
        if waits:
            await asyncio.sleep(0)
        raise raised

    task = await serving(stream, handler)
    udp.send(b"data")
    await eventually(lambda: contexts)
    (context,) = contexts
    assert context["exception"] is raised
    assert data_of(context["packet"]) == b"data"
    assert [context["task"]] == tasks
    assert "handler" in context["message"]
    assert not task.done()
    stream.close()
    await task
    gc.collect()
    assert len(contexts) == 1


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("waits", [False, True])
def test_interrupted(
    udp: UdpPair,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    error: type[BaseException],
    waits: bool,
) -> None:
    """KeyboardInterrupt and SystemExit leave the loop, and the exception handler gets them once."""
    contexts: Contexts = []

    async def handler(packet: Packet) -> None:
        if waits:
            await asyncio.sleep(0)
        if data_of(packet) == b"1":
            raise error
        packet.accept()

    async def main() -> None:
        async with aio.open_queue(1) as stream:
            udp.send(b"1")
            await aio.serve(stream, handler)

    with contextlib.closing(new_loop()) as loop:
        loop.set_exception_handler(lambda _, context: contexts.append(context))
        task = loop.create_task(main())
        with pytest.raises(error):
            loop.run_until_complete(task)
        udp.send(b"2")
        loop.run_until_complete(eventually(lambda: udp.arrivals() == [b"2"]))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    del loop
    gc.collect()
    assert [type(context["exception"]) for context in contexts] == [error]


async def test_context(stream: aio.PacketStream, udp: UdpPair) -> None:
    """Each handler has a copy of the context that serve runs in."""
    variable: ContextVar[str] = ContextVar("variable", default="default")
    seen: list[str] = []

    async def handler(packet: Packet) -> None:
        seen.append(variable.get())
        variable.set(f"of packet {packet.id}")
        packet.accept()

    variable.set("of serve")
    task = await serving(stream, handler)
    variable.set("later")
    udp.send(b"1", b"2")
    await eventually(lambda: len(seen) == 2)
    udp.send(b"3")
    await eventually(lambda: len(seen) == 3)
    assert seen == ["of serve"] * 3
    stream.close()
    await task


@pytest.mark.parametrize("end", ["return", "close", "cancel"])
async def test_stop(udp: UdpPair, nothing_left: None, end: str) -> None:
    """After stop() handlers end as they like, and what was read is handled; then serve returns."""
    release = asyncio.Event()
    ended: list[str] = []

    async def handler(packet: Packet) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(ended.append, "cancelled")
            await release.wait()
            stack.pop_all()
        packet.accept()
        ended.append("accepted")

    async with aio.open_queue(1) as stream:
        task = await serving(stream, handler, concurrency=2)
        udp.send(b"1", b"2", b"3")
        await eventually(lambda: stream.handle.stats().packets == 3)
        stream.stop()
        udp.send(b"4")
        await turn()
        assert not task.done()
        if end == "return":
            release.set()
        else:
            task.cancel() if end == "cancel" else stream.close()
        async with asyncio.timeout(TIMEOUT):
            await asyncio.wait([task])
        await turn()
        assert udp.arrivals() == ([b"1", b"2", b"3"] if end == "return" else [])
    assert ended == (["accepted"] * 3 if end == "return" else ["cancelled"] * 2)


async def test_task_cancelled_by_others(udp: UdpPair, nothing_left: None) -> None:
    """Cancelling all tasks from outside harms none but their packets."""

    async def handler(packet: Packet) -> None:
        await asyncio.sleep(TIMEOUT)

    async with aio.open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        task = await serving(stream, handler, concurrency=2)
        for turns in range(4):
            udp.send(b"1", b"2")
            await eventually(lambda: stream.handle.stats().packets == 2 * turns + 2)  # noqa: B023
            for _ in range(turns):
                await asyncio.sleep(0)
            for each in asyncio.all_tasks() - {task, asyncio.current_task()}:
                each.cancel()
            await eventually(lambda: len(udp.arrivals()) or False)
        stream.close()
        await task


async def test_eager(stream: aio.PacketStream, udp: UdpPair) -> None:
    """A handler begins in the queue's callback, and so may change its verdict there."""

    async def handler(packet: Packet) -> None:
        packet.accept()
        packet.drop()  # which only a callback may

    contexts: Contexts = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    task = await serving(stream, handler)
    udp.send(*[b"data"] * 5)
    await eventually(lambda: stream.handle.stats().verdicts == 5)
    await turn()
    assert contexts == []
    stream.close()
    await task


async def test_task_factory(stream: aio.PacketStream, udp: UdpPair) -> None:
    """A task factory makes the task of each handler, which begins in it."""
    made: list[asyncio.Task[Any]] = []
    begun: list[asyncio.Task[Any] | None] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        made.append(asyncio.Task(coroutine, loop=loop, **options))
        return made[-1]

    async def handler(packet: Packet) -> None:
        begun.append(asyncio.current_task())
        packet.accept()

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    task = await serving(stream, handler)
    udp.send(*[b"data"] * 3)
    await eventually(lambda: len(begun) == 3)
    loop.set_task_factory(None)
    assert begun == made[1:]
    stream.close()
    await task


async def test_eager_concurrency(stream: aio.PacketStream, udp: UdpPair) -> None:
    """Handlers that begin in the callback count as any, and another reader has its turn."""
    begun: list[int] = []

    async def handler(packet: Packet) -> None:
        begun.append(packet.id)
        await asyncio.sleep(0.001)
        packet.accept()

    task = await serving(stream, handler, concurrency=1)
    udp.send(*[b"data"] * 6)
    await eventually(lambda: begun)
    assert stream.handle.stats().packets == 6
    await eventually(lambda: len(begun) == 6)
    assert begun == [1, 2, 3, 4, 5, 6]
    await turn()
    reading = asyncio.create_task(stream.get())
    await turn()
    udp.send(b"7", b"8")
    async with asyncio.timeout(TIMEOUT):
        (await reading).accept()
    await eventually(lambda: len(begun) == 7)
    stream.close()
    await task
