# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.aio on asyncio and uvloop: streams at their edges."""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Awaitable, Callable

import pytest
from asynchronous import eventually, turn
from available import NEW_LOOPS
from clocks import Clock
from netns import TIMEOUT, Namespace, UdpPair, queue_rule
from queues import Handle, Packet, accept, data_of

import libnetfilterqueue as nfq
from libnetfilterqueue import aio

COPY = nfq.NFQNL_COPY_PACKET


async def test_async_for(stream: aio.PacketStream, udp: UdpPair) -> None:
    """Packets come in their order; leaving the loop and coming back loses none."""
    udp.send(*[b"%d" % number for number in range(70)])
    seen = []
    async for packet in stream:
        seen.append(data_of(packet))
        packet.accept()
        if len(seen) == 30:
            break
    async for packet in stream:
        seen.append(data_of(packet))
        packet.accept()
        if len(seen) == 70:
            break
    assert seen == [b"%d" % number for number in range(70)]
    await turn()
    assert udp.arrivals() == seen


async def test_get(stream: aio.PacketStream, udp: UdpPair) -> None:
    """get() returns one packet, get_batch() at least one and at most so many."""
    udp.send(*[b"%d" % number for number in range(10)])
    packets = [await stream.get()]
    await turn()
    packets += await stream.get_batch(4)
    assert [packet.id for packet in packets] == [1, 2, 3, 4, 5]
    packets += await stream.get_batch()
    assert [packet.id for packet in packets] == list(range(1, 11))
    waiting = asyncio.create_task(stream.get_batch(5))
    await turn()
    assert not waiting.done()
    udp.send(b"more")
    assert [data_of(packet) for packet in await waiting] == [b"more"]
    with pytest.raises(ValueError, match="max must be at least 1, not 0"):
        await stream.get_batch(0)


async def test_several_readers(stream: aio.PacketStream, udp: UdpPair) -> None:
    """Each packet goes to one of the tasks that read, and none is left waiting."""
    seen: list[int] = []

    async def read() -> None:
        async for packet in stream:
            seen.append(packet.id)
            packet.accept()
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(5)]
    await turn()
    for _ in range(8):
        udp.send(*[b"data"] * 10)
        await turn()
    await eventually(lambda: len(seen) == 80)
    assert sorted(seen) == list(range(1, 81))
    assert len(udp.arrivals()) == 80
    stream.close()
    await asyncio.gather(*readers)


async def test_cancelled_get(stream: aio.PacketStream, udp: UdpPair) -> None:
    """A get that is cancelled takes no packet with it, whenever that happens."""
    for number in range(1, 21):
        waiting = asyncio.create_task(stream.get())
        await asyncio.sleep(0)
        if number % 2:
            udp.send(b"data")
            await asyncio.sleep(0 if number % 3 else 0.001)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await waiting).accept()
    await turn()
    while stream.handle.stats().verdicts < 10:
        (await stream.get()).accept()
    await turn()
    assert stream.handle.stats().packets == 10
    assert len(udp.arrivals()) == 10


async def test_closed_by_another_task(stream: aio.PacketStream, udp: UdpPair) -> None:
    """Closing ends iteration, and a waiting get by a ClosedError; twice is as good as once."""

    async def iterate() -> list[Packet]:
        return [packet async for packet in stream]

    iterating = asyncio.create_task(iterate())
    getting = [asyncio.create_task(stream.get()), asyncio.create_task(stream.get_batch())]
    await turn()
    stream.close()
    stream.close()
    assert await iterating == []
    for task in getting:
        with pytest.raises(nfq.ClosedError, match="the stream is closed"):
            await task
    assert stream.closed
    assert stream.handle.closed
    assert stream.queue.destroyed
    with pytest.raises(nfq.ClosedError, match=r"get\(\): the stream is closed"):
        await stream.get()


@pytest.mark.parametrize("default", [nfq.NF_ACCEPT, nfq.NF_DROP])
async def test_unfetched_packets(udp: UdpPair, nothing_left: None, default: nfq.Verdict) -> None:
    """Packets that nobody has fetched at the close get the default; a fetched one too."""
    async with aio.open_queue(1, default_verdict=default) as stream:
        udp.send(b"1", b"2", b"3")
        packet = await stream.get()
        await turn()
    assert udp.arrivals() == ([b"1", b"2", b"3"] if default else [])
    with pytest.raises(nfq.ClosedError, match="destroyed"):
        packet.accept()
    assert stream.handle.stats().defaulted == 3


async def test_limit(udp: UdpPair, nothing_left: None) -> None:
    """At its limit a stream leaves packets in the kernel, and reads on below half of it."""
    async with aio.open_queue(1, limit=10) as stream:
        for _ in range(10):
            udp.send(*[b"data"] * 8)
            await turn()
        held = stream.handle.stats().packets
        assert 10 <= held <= 10 + 64
        for _ in range(held - 5):
            (await stream.get()).accept()
        await turn()
        assert stream.handle.stats().packets == held
        (await stream.get()).accept()
        await eventually(lambda: stream.handle.stats().packets > held)
        for _ in range(80 - held + 4):
            (await stream.get()).accept()
        await turn()
    assert len(udp.arrivals()) == 80


async def test_handle_closed_under_it(stream: aio.PacketStream, udp: UdpPair) -> None:
    """A stream whose handle is closed, in any thread, is closed."""
    udp.send(b"data")
    await turn()
    await asyncio.to_thread(stream.handle.close)
    await turn()  # the thread may be faster than the loop, which then has not turned
    assert [packet async for packet in stream] == []
    assert stream.closed


async def test_exceptions_close_it(udp: UdpPair, nothing_left: None) -> None:
    """Leaving `async with` by an exception closes the stream."""
    with pytest.raises(KeyError):
        async with aio.open_queue(1) as stream:
            raise KeyError
    assert stream.closed


async def test_receive_buffer(nothing_left: None) -> None:
    """Unless a size is named, the buffer has room for maxlen packets of 1500 bytes, if allowed."""
    async with aio.open_queue(1) as stream:
        default = stream.handle.rcvbuf
    async with aio.open_queue(1, maxlen=1) as stream:
        smallest = stream.handle.rcvbuf
    async with aio.open_queue(1, rcvbuf=10_000) as stream:
        assert stream.handle.rcvbuf == 20_000
    with nfq.open() as handle:
        untouched = handle.rcvbuf
        handle.rcvbuf = 1024 * 2304 // 2
        allowed = handle.rcvbuf
    assert default >= min(allowed, 1024 * 2304)
    assert smallest == untouched


async def test_options(udp: UdpPair, nothing_left: None) -> None:
    """The queue has the mode, range, length and default that were named."""
    async with aio.open_queue(1, range=30, maxlen=2, default_verdict=nfq.NF_ACCEPT) as stream:
        assert stream.queue.number == 1
        assert stream.queue.default_verdict is nfq.NF_ACCEPT
        udp.send(*[bytes(100)] * 5)
        packets = await stream.get_batch()
        assert [len(packet.payload) for packet in packets] == [30, 30]
    async with aio.open_queue(1, mode=nfq.NFQNL_COPY_META) as stream:
        udp.send(b"data")
        assert (await stream.get()).get_payload() == b""


async def test_other_namespace(nothing_left: None) -> None:
    """A stream can be opened in another network namespace."""
    other = Namespace()
    async with aio.open_queue(1, netns=other.path) as stream:
        with other:
            queue_rule(1)
            pair = UdpPair()
        with pair:
            pair.send(b"data")
            (await stream.get()).accept()
            await turn()
            assert pair.arrivals() == [b"data"]
    other.close()


async def test_opening_fails(handle: Handle, nothing_left: None) -> None:
    """If a queue can't be bound, the error is raised and nothing is left."""
    handle.create_queue(1, accept)
    stream = aio.open_queue(1)
    with pytest.raises(PermissionError, match="bound by another handle"):
        await stream.__aenter__()
    assert stream.closed
    with pytest.raises(FileNotFoundError):
        await aio.open_queue(2, netns="/nowhere").__aenter__()
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        aio.open_queue(2, limit=0)


async def test_used_at_the_wrong_time(nothing_left: None) -> None:
    """A stream is opened once, and used while it is open."""
    stream = aio.open_queue(1)
    calls: list[Callable[[], object]] = [lambda: stream.handle, lambda: stream.queue]
    for call in calls:
        with pytest.raises(ValueError, match="not open"):
            call()
    with pytest.raises(ValueError, match="not open"):
        await stream.get()
    assert not stream.closed
    async with stream:
        with pytest.raises(ValueError, match="opened once"):
            await stream.__aenter__()
    with pytest.raises(ValueError, match="opened once"):
        await stream.__aenter__()


Read = Callable[[aio.PacketStream], Awaitable[Packet]]


async def get_batch_of_one(stream: aio.PacketStream) -> Packet:
    return (await stream.get_batch(1))[0]


READS: list[Read] = [aio.PacketStream.get, aio.PacketStream.__anext__, get_batch_of_one]


@pytest.mark.parametrize("read", READS)
async def test_slow_reader(
    stream: aio.PacketStream, udp: UdpPair, clock: Clock, read: Read
) -> None:
    """A verdict that is older than 1 ms is sent when the next packet is asked for."""
    udp.send(*[b"%d" % number for number in range(5)])
    for number in range(5):
        packet = await read(stream)
        assert udp.arrivals() == ([b"%d" % (number - 1)] if number else [])
        packet.accept()
        clock.now += 0.0011
    assert stream.handle.stats().sends == 4


@pytest.mark.parametrize("read", READS)
async def test_quick_reader(
    stream: aio.PacketStream, udp: UdpPair, clock: Clock, read: Read
) -> None:
    """Younger verdicts of one turn are sent together."""
    udp.send(*[b"data"] * 50)
    for _ in range(50):
        (await read(stream)).accept()
        clock.now += 0.000_01
    assert stream.handle.stats().sends == 0
    await turn()
    assert stream.handle.stats().sends == 1
    assert len(udp.arrivals()) == 50


async def test_slow_readers(stream: aio.PacketStream, udp: UdpPair, clock: Clock) -> None:
    """Several readers send each other's verdicts, before another one handles a packet."""
    seen: list[int] = []

    async def read() -> None:
        packet = await stream.get()
        assert len(udp.arrivals()) == (1 if seen else 0)
        seen.append(packet.id)
        packet.accept()
        clock.now += 0.0011

    readers = [asyncio.create_task(read()) for _ in range(5)]
    await turn()
    udp.send(*[b"data"] * 5)
    await asyncio.gather(*readers)
    assert seen == [1, 2, 3, 4, 5]


async def test_readers_take_turns(
    stream: aio.PacketStream, udp: UdpPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet wakes one reader, the one that has waited longest, however many there are."""
    woken: list[asyncio.Event] = []
    readings: list[int] = []

    class Event(asyncio.Event):
        def set(self) -> None:
            woken.append(self)
            super().set()

    async def read(reader: int) -> None:
        (await stream.get()).accept()
        readings.append(reader)

    monkeypatch.setattr(asyncio, "Event", Event)
    readers = [asyncio.create_task(read(number)) for number in range(100)]
    await turn()
    for count in range(1, 51):
        udp.send(b"data")
        await eventually(lambda: len(readings) == count)  # noqa: B023
    assert readings == list(range(50))
    assert len(woken) == 50
    udp.send(*[b"data"] * 50)
    await asyncio.gather(*readers)
    assert readings == list(range(100))
    assert len(set(woken)) == 100


async def test_order_after_waking_in_vain(stream: aio.PacketStream, udp: UdpPair) -> None:
    """A reader that finds nothing, since another was faster, keeps its place."""
    readings: list[str] = []

    async def take_all() -> None:
        (await stream.get()).accept()
        for _ in range(2):  # before anybody else runs
            stream.get_nowait().accept()

    async def read(name: str) -> None:
        (await stream.get()).accept()
        readings.append(name)

    greedy = asyncio.create_task(take_all())
    await turn()
    readers = [asyncio.create_task(read(name)) for name in "abc"]
    await turn()
    udp.send(b"1", b"2", b"3")
    await greedy
    udp.send(b"4", b"5", b"6")
    await asyncio.gather(*readers)
    assert readings == ["a", "b", "c"]


async def test_cancelled_reader_passes_on(
    stream: aio.PacketStream, udp: UdpPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is cancelled when it has been woken leaves the packet to the next one."""
    first = asyncio.create_task(stream.get())
    second = asyncio.create_task(stream.get())
    wake = stream._wake

    def wake_and_cancel() -> None:
        wake()
        first.cancel()

    await turn()
    monkeypatch.setattr(stream, "_wake", wake_and_cancel)
    udp.send(b"data")
    async with asyncio.timeout(TIMEOUT):
        (await second).accept()
    assert first.cancelled()


ACTS: dict[str, Callable[[aio.PacketStream], object]] = {
    "close": lambda stream: stream.close(),
    "close-handle": lambda stream: stream.handle.close(),
    "stop": lambda stream: stream.stop(),
}


def interrupt_soon() -> None:
    """Sends a signal to the main thread when its loop waits."""
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGUSR1)).start()


@pytest.mark.parametrize("act", ACTS)
async def test_ended_by_a_signal_handler(stream: aio.PacketStream, act: str) -> None:
    """A handler of signal.signal's ends iteration and get() at once, and wakes the loop."""
    getting = asyncio.create_task(stream.get())
    signal.signal(signal.SIGUSR1, lambda *_: ACTS[act](stream))
    began = time.monotonic()
    try:
        interrupt_soon()
        async with asyncio.timeout(TIMEOUT):  # which wakes the loop too
            assert [packet async for packet in stream] == []
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert time.monotonic() - began < TIMEOUT / 2
    assert stream.closed == (act != "stop")
    with pytest.raises(nfq.ClosedError, match="stopped" if act == "stop" else "closed"):
        await getting


async def test_verdict_of_a_signal_handler(stream: aio.PacketStream, udp: UdpPair) -> None:
    """A verdict that is given in a handler of signal.signal's is sent at once."""
    udp.send(b"data")
    packet = await stream.get()
    signal.signal(signal.SIGUSR1, lambda *_: packet.accept())
    try:
        interrupt_soon()
        udp.receiver.settimeout(TIMEOUT)
        assert await asyncio.to_thread(udp.receiver.recv, 100) == b"data"
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


@pytest.mark.parametrize("act", ACTS)
async def test_ended_by_another_thread(stream: aio.PacketStream, act: str) -> None:
    """Another thread ends iteration and get() at once, and wakes the loop."""
    reading = asyncio.create_task(anext(stream, None))
    await turn()
    await asyncio.to_thread(ACTS[act], stream)
    async with asyncio.timeout(TIMEOUT):
        assert await reading is None
    assert stream.closed == (act != "stop")


async def test_used_by_another_thread(stream: aio.PacketStream) -> None:
    """Calls that another thread must not make raise RuntimeError."""
    for call in (stream.pause, stream.resume, stream.get_nowait):
        with pytest.raises(RuntimeError, match=rf"^{call.__name__}\(\): .*another thread"):
            await asyncio.to_thread(call)


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
@pytest.mark.parametrize("fetched", [False, True])
def test_read_in_another_loop(
    udp: UdpPair, new_loop: Callable[[], asyncio.AbstractEventLoop], fetched: bool
) -> None:
    """Reading in another loop than the stream's is an error, whether or not packets are there."""

    async def read_first(stream: aio.PacketStream) -> None:
        udp.send(b"1", b"2")
        (await stream.get()).accept()

    async def read(stream: aio.PacketStream) -> None:
        reads: list[Callable[[], Awaitable[object]]] = [
            stream.get,
            stream.get_batch,
            lambda: anext(aiter(stream)),
            lambda: aio.serve(stream, wait_for_ever),
        ]
        for read in reads:
            with pytest.raises(RuntimeError, match="another event loop"):
                await read()
        with pytest.raises(RuntimeError, match="another event loop"):
            stream.get_nowait()

    stream = aio.open_queue(1)
    with contextlib.closing(new_loop()) as loop, contextlib.closing(new_loop()) as other:
        loop.run_until_complete(stream.__aenter__())
        if fetched:
            loop.run_until_complete(read_first(stream))
        other.run_until_complete(read(stream))
        loop.run_until_complete(stream.aclose())


async def wait_for_ever(_packet: Packet) -> None:
    await asyncio.sleep(TIMEOUT)


@pytest.mark.parametrize("aside", [False, True])
async def test_stop(stream: aio.PacketStream, udp: UdpPair, aside: bool) -> None:
    """What has been read is handed out, the rest stays in the kernel; then iteration ends."""
    udp.send(b"1", b"2", b"3")
    if aside:
        stream.queue.set_maxlen(100)  # which finds them before its answer
    else:
        await turn()
    stream.stop()
    stream.stop()
    udp.send(b"4")
    await turn()
    async with asyncio.timeout(TIMEOUT):
        async for packet in stream:
            packet.accept()
    await turn()
    assert udp.arrivals() == [b"1", b"2", b"3"]
    assert not stream.closed
    assert stream.handle.stats().defaulted == 0
    assert queue_status_of(1).waiting == 1
    for call in (stream.get, stream.get_batch):
        with pytest.raises(nfq.ClosedError, match="the stream is stopped"):
            await call()
    with pytest.raises(nfq.ClosedError, match="the stream is stopped"):
        stream.get_nowait()
    stream.resume()
    await turn()
    assert stream.qsize() == 0


def queue_status_of(number: int) -> nfq.QueueStatus:
    (status,) = [status for status in nfq.queue_status() if status.queue == number]
    return status


async def test_stop_before_it_is_opened(udp: UdpPair, nothing_left: None) -> None:
    """A stream that is stopped first reads nothing."""
    stream = aio.open_queue(1)
    stream.stop()
    async with stream:
        udp.send(b"data")
        await turn()
        assert [packet async for packet in stream] == []


async def test_get_nowait(stream: aio.PacketStream, udp: UdpPair) -> None:
    """get_nowait and qsize are those of asyncio's queues."""
    with pytest.raises(asyncio.QueueEmpty):
        stream.get_nowait()
    udp.send(b"1", b"2")
    await eventually(lambda: stream.qsize() == 2)
    assert [data_of(stream.get_nowait()), data_of(stream.get_nowait())] == [b"1", b"2"]
    assert stream.qsize() == 0
    stream.close()
    with pytest.raises(nfq.ClosedError, match=r"get_nowait\(\): the stream is closed"):
        stream.get_nowait()
    with pytest.raises(ValueError, match="not open"):
        aio.open_queue(2).get_nowait()


async def test_pause_a_stream(udp: UdpPair, nothing_left: None) -> None:
    """While a stream is paused packets wait in the kernel, whatever is fetched meanwhile."""
    async with aio.open_queue(1, limit=2) as stream:
        udp.send(b"1", b"2", b"3")
        await eventually(lambda: stream.qsize() == 3)
        stream.pause()
        udp.send(b"4")
        for _ in range(3):
            (await stream.get()).accept()
        await turn()
        assert stream.qsize() == 0
        stream.resume()
        (await stream.get()).accept()
        await turn()
    assert len(udp.arrivals()) == 4
    stream.pause()
    stream.resume()


async def test_aclose(udp: UdpPair, nothing_left: None) -> None:
    """aclose() closes the stream, as contextlib.aclosing wants it."""
    stream = await aio.open_queue(1).__aenter__()
    async with contextlib.aclosing(stream):
        pass
    assert stream.closed
