# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.trio: handlers, a task for each packet."""

import functools
import signal
from collections.abc import Callable
from contextvars import ContextVar

import pytest
import trio
import trio.testing
from netns import UdpPair
from nurseries import eventually, in_mock_time, in_trio
from queues import Packet, accept, data_of

import libnetfilterqueue as nfq
from libnetfilterqueue.trio import open_queue, serve

turn = trio.testing.wait_all_tasks_blocked


async def accept_soon(packet: Packet) -> None:
    await trio.lowlevel.checkpoint()
    packet.accept()


@in_trio
async def test_serve(udp: UdpPair) -> None:
    """Handlers run side by side; each gives its own packet a verdict."""
    done = {number: trio.Event() for number in (1, 2, 3, 4, 5)}
    done[5].set()

    async def handler(packet: Packet) -> None:
        await done[packet.id + 1].wait()
        packet.accept()
        done[packet.id].set()

    async with open_queue(1) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(serve, stream, handler)
        udp.send(b"1", b"2", b"3", b"4")
        await eventually(lambda: stream.handle.stats().verdicts == 4)
        await turn()
        assert udp.arrivals() == [b"4", b"3", b"2", b"1"]
        stream.close()


@in_mock_time
async def test_concurrency(udp: UdpPair) -> None:
    """No more handlers run at a time than was asked for; the others' packets wait."""
    running = most = 0

    async def handler(packet: Packet) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(60)
        running -= 1
        packet.accept()
        if packet.id == 20:
            stream.stop()

    async with open_queue(1) as stream:
        udp.send(*[b"data"] * 20)
        began = trio.current_time()
        await serve(stream, handler, concurrency=3)
        assert trio.current_time() - began == pytest.approx(7 * 60)
        assert stream.handle.stats().verdicts == 20
    assert most == 3


@in_trio
async def test_verdicts_travel_together(udp: UdpPair) -> None:
    """Handlers that decide in one turn share a system call."""
    async with open_queue(1) as stream, trio.open_nursery() as nursery:
        udp.send(*[b"data"] * 50)
        nursery.start_soon(serve, stream, accept_soon)
        await eventually(lambda: stream.handle.stats().verdicts == 50)
        await turn()
        assert stream.handle.stats().sends <= 5
        assert len(udp.arrivals()) == 50
        stream.close()


@in_trio
async def test_order(udp: UdpPair) -> None:
    """Handlers begin in the order of their packets, though trio starts tasks in any order."""
    begun: list[int] = []

    async def handler(packet: Packet) -> None:
        begun.append(packet.id)
        packet.accept()
        if len(begun) % 10 == 0:
            served.set()

    async with open_queue(1) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(serve, stream, handler)
        for _ in range(10):
            served = trio.Event()
            udp.send(*[b"data"] * 10)
            await served.wait()
        stream.close()
    assert begun == list(range(1, 101))


@in_trio
async def test_handler_without_a_verdict(udp: UdpPair) -> None:
    """When a handler ends without a verdict, its packet gets the default at once."""
    kept: list[Packet] = []

    async def handler(packet: Packet) -> None:
        kept.append(packet)

    async with open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream, trio.open_nursery() as tasks:
        tasks.start_soon(serve, stream, handler)
        udp.send(b"1")
        await eventually(lambda: kept)
        await turn()
        assert udp.arrivals() == [b"1"]
        assert kept[0].verdict is nfq.NF_ACCEPT
        stream.close()


@in_trio
async def test_handler_raises(udp: UdpPair) -> None:
    """What a handler raises cancels the others and leaves serve(); the packets are settled."""
    begun: list[bytes] = []
    ended: list[bytes] = []

    async def handler(packet: Packet) -> None:
        if packet.id == 3:
            await eventually(lambda: len(begun) == 2)
            raise KeyError(packet.id)
        begun.append(data_of(packet))
        try:
            await trio.sleep_forever()
        finally:
            ended.append(data_of(packet))

    async with open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        udp.send(b"1", b"2", b"3")
        with pytest.RaisesGroup(KeyError):
            await serve(stream, handler)
        assert sorted(ended) == [b"1", b"2"]
        assert not stream.closed
        await turn()
        assert sorted(udp.arrivals()) == [b"1", b"2", b"3"]
        udp.send(b"4")
        (await stream.get()).accept()


@pytest.mark.parametrize("turns", range(6))
@in_trio
async def test_serve_is_cancelled(udp: UdpPair, turns: int) -> None:
    """When serve is cancelled, so are its handlers, and their packets get the default."""
    begun: list[int] = []
    cancelled: list[int] = []

    async def handler(packet: Packet) -> None:
        begun.append(packet.id)
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(packet.id)

    async with open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        udp.send(b"1", b"2", b"3", b"4")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(serve, stream, handler, concurrency=2))
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert not stream.closed
        for _ in range(4 - stream.handle.stats().verdicts):
            (await stream.get()).accept()
        await turn()
        assert len(udp.arrivals()) == 4
    assert len(begun) == len(cancelled) <= 2


@pytest.mark.parametrize("act", ["close", "close-handle", "signal"])
@in_trio
async def test_serve_ends_with_the_stream(udp: UdpPair, act: str) -> None:
    """When the stream is closed its handlers are cancelled, none begins, and serve returns."""
    begun: list[int] = []
    ended: list[int] = []

    async def handler(packet: Packet) -> None:
        begun.append(packet.id)
        try:
            await trio.sleep_forever()
        finally:
            ended.append(packet.id)

    async with open_queue(1) as stream:
        acts: dict[str, Callable[[], object]] = {
            "close": stream.close,
            "close-handle": stream.handle.close,
            "signal": lambda: signal.raise_signal(signal.SIGUSR1),
        }
        before = signal.signal(signal.SIGUSR1, lambda *_: stream.close())
        udp.send(b"1", b"2", b"3")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(serve, stream, handler, concurrency=2))
            await eventually(lambda: len(begun) == 2)
            acts[act]()
        signal.signal(signal.SIGUSR1, before)
    assert sorted(begun) == sorted(ended) == [1, 2]
    assert stream.handle.stats().defaulted == 3


@in_trio
async def test_closed_by_a_handler(udp: UdpPair) -> None:
    """A handler may close the stream; the verdict that another one gives then is no error."""

    async def handler(packet: Packet) -> None:
        if packet.id == 2:
            packet.accept()
            stream.close()
        else:
            with trio.CancelScope(shield=True):
                while not stream.closed:
                    await trio.lowlevel.checkpoint()
                packet.accept()

    async with open_queue(1) as stream:
        udp.send(b"1", b"2")
        await serve(stream, handler)
    assert udp.arrivals() == [b"2"]


@in_mock_time
async def test_stop(udp: UdpPair) -> None:
    """When the stream is stopped, what was read is handled, and serve returns after that."""
    begun: list[int] = []

    async def handler(packet: Packet) -> None:
        begun.append(packet.id)
        await trio.sleep(60)
        packet.accept()

    async with open_queue(1) as stream, trio.open_nursery() as nursery:
        udp.send(b"1", b"2", b"3")
        nursery.start_soon(functools.partial(serve, stream, handler, concurrency=2))
        await eventually(lambda: len(begun) == 2)
        stream.stop()
        udp.send(b"4")
    assert sorted(begun) == [1, 2, 3]
    assert sorted(udp.arrivals()) == [b"1", b"2", b"3"]


@in_trio
async def test_several_servers(udp: UdpPair) -> None:
    """Several calls may serve one stream."""
    seen: list[tuple[int, bytes]] = []

    async def handler(server: int, packet: Packet) -> None:
        seen.append((server, data_of(packet)))
        await accept_soon(packet)

    async with open_queue(1) as stream, trio.open_nursery() as nursery:
        for server in range(2):
            one = functools.partial(handler, server)
            nursery.start_soon(functools.partial(serve, stream, one, concurrency=1))
        for number in range(10):
            udp.send(b"%d" % number)
            await eventually(lambda: len(seen) == number + 1)  # noqa: B023
        stream.stop()
    assert {server for server, _ in seen} == {0, 1}


@in_trio
async def test_context(udp: UdpPair) -> None:
    """Each handler has a context of its own."""
    last: ContextVar[int] = ContextVar("last", default=0)
    seen: list[int] = []

    async def handler(packet: Packet) -> None:
        seen.append(last.get())
        last.set(packet.id)
        packet.accept()
        stream.stop()

    async with open_queue(1) as stream:
        udp.send(b"1", b"2", b"3")
        await serve(stream, handler)
    assert seen == [0, 0, 0]


@in_trio
async def test_arguments(udp: UdpPair) -> None:
    """What is wrong is refused at the call."""
    async with open_queue(1) as stream:
        with pytest.raises(TypeError, match="handler must be a coroutine function"):
            await serve(stream, accept)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="concurrency must be at least 1, not 0"):
            await serve(stream, accept_soon, concurrency=0)
        stream.close()
        await serve(stream, accept_soon)
