# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.aio on asyncio and uvloop: attachments, streams and handlers at their edges."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from available import NEW_LOOPS
from netns import PORT, TIMEOUT, Counter, Namespace, UdpPair, background, queue_rule
from played_kernel import PlayedKernel, packet_message
from queues import Handle, Packet, accept, accepting, data_of, process_until

import libnetfilterqueue as nfq
from libnetfilterqueue import aio

COPY = nfq.NFQNL_COPY_PACKET
Contexts = list[dict[str, Any]]


async def eventually(done: Callable[[], object]) -> None:
    """Waits until something has come true."""
    async with asyncio.timeout(TIMEOUT):
        while not done():  # noqa: ASYNC110 (nobody here knows when that is)
            await asyncio.sleep(0.001)


async def turn() -> None:
    """Lets everything that is due have its turn, however late the loop's timers are."""
    for seconds in [0] * 10 + [0.002] + [0] * 10:
        await asyncio.sleep(seconds)


def accept_all(packets: list[Packet]) -> None:
    for packet in packets:
        packet.accept()


@pytest.fixture
async def contexts() -> Contexts:
    """What the loop's exception handler is told."""
    told: Contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """Neither a task nor a descriptor is left by the test."""
    await turn()
    before = set(os.listdir("/proc/self/fd"))
    yield
    await turn()
    assert set(os.listdir("/proc/self/fd")) <= before  # an earlier test's garbage may go meanwhile
    assert asyncio.all_tasks() - {asyncio.current_task()} == set()


@pytest.fixture
async def stream(udp: UdpPair, nothing_left: None) -> AsyncIterator[aio.PacketStream]:
    """A stream of what `udp` sends."""
    async with aio.open_queue(1) as stream:
        yield stream


# Attachments


async def test_attached_twice(handle: Handle) -> None:
    """A handle has one feed at a time, of this loop or of another one."""
    with aio.attach(handle) as attachment:
        for new_loop in NEW_LOOPS.values():
            with (
                contextlib.closing(new_loop()) as loop,
                pytest.raises(RuntimeError, match="attached already"),
            ):
                aio.attach(handle, loop=loop)
        with pytest.raises(RuntimeError, match="attached already"):
            aio.attach(handle)
        assert not attachment.closed
    assert attachment.closed
    aio.attach(handle).detach()


@pytest.mark.gevent
async def test_attached_to_gevent_too(handle: Handle) -> None:
    """So does one that gevent is to feed."""
    from libnetfilterqueue import green  # noqa: PLC0415 (which imports gevent)

    with aio.attach(handle), pytest.raises(RuntimeError, match="attached already"):
        green.attach(handle)


def test_no_running_loop(handle: Handle) -> None:
    """Without a loop that runs one has to be named; the handle stays as it was."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        aio.attach(handle)
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        aio.attach(handle, loop=loop)
    assert (handle.on_held, handle.on_close, handle.autoflush) == (None, None, True)


async def test_closed_handle(handle: Handle) -> None:
    """A closed handle can't be attached."""
    handle.close()
    with pytest.raises(ValueError, match="closed"):
        aio.attach(handle)


async def test_pause(handle: Handle, udp: UdpPair, nothing_left: None) -> None:
    """While it is paused packets wait in the kernel; verdicts are still sent."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    async with aio.attach(handle) as attachment:
        udp.send(b"1")
        await eventually(lambda: packets)
        attachment.pause()
        attachment.pause()
        udp.send(b"2")
        packets[0].accept()
        await turn()
        assert udp.arrivals() == [b"1"]
        assert len(packets) == 1
        attachment.resume()
        attachment.resume()
        await eventually(lambda: len(packets) == 2)
    attachment.pause()
    attachment.resume()
    attachment.detach()
    udp.send(b"3")
    await turn()
    assert len(packets) == 2


async def test_detach_leaves_it_as_it_was(handle: Handle, udp: UdpPair) -> None:
    """Whoever holds verdicts back by himself goes on with that; what was held is sent."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    handle.autoflush = False
    with aio.attach(handle):
        udp.send(b"1", b"2")
        await eventually(lambda: len(packets) == 2)
        packets[0].accept()
    assert udp.arrivals() == [b"1"]
    assert not handle.autoflush
    packets[1].accept()
    assert udp.arrivals() == []


async def test_detach_sends(handle: Handle, udp: UdpPair) -> None:
    """Verdicts that are held back when it is detached are sent."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    with aio.attach(handle):
        udp.send(b"data")
        await eventually(lambda: packets)
        packets[0].accept()
        assert udp.arrivals() == []
    assert udp.arrivals() == [b"data"]


async def test_one_send_a_turn(handle: Handle, udp: UdpPair) -> None:
    """Verdicts that are given in one turn leave by one system call, whoever gives them."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    with aio.attach(handle):
        udp.send(*[b"data"] * 20)
        await eventually(lambda: len(packets) == 20)
        before = handle.stats().sends
        for packet in packets[:10]:
            packet.accept()
        assert handle.stats().sends == before
        await turn()
        assert handle.stats().sends == before + 1
        await asyncio.to_thread(accept_all, packets[10:])
        await eventually(lambda: handle.stats().verdicts == 20)
        await turn()
        assert len(udp.arrivals()) == 20


async def test_held_before(handle: Handle, udp: UdpPair) -> None:
    """Verdicts that were held back before it was attached do not hold back those given after."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    udp.send(b"1", b"2")
    process_until(handle, lambda: len(packets) == 2)
    handle.autoflush = False
    packets[0].accept()
    with aio.attach(handle):
        assert udp.arrivals() == [b"1"]
        packets[1].accept()
        await turn()
        assert udp.arrivals() == [b"2"]


async def test_detach_that_can_not_send(contexts: Contexts, nothing_left: None) -> None:
    """The handler is told, and everything else is done."""
    packets: list[Packet] = []
    with PlayedKernel() as kernel:
        kernel.create_queue(1, packets.append)
        with aio.attach(kernel.handle) as attachment:
            kernel.socket.send(packet_message())
            await eventually(lambda: packets)
            packets[0].accept()
            with kernel.deaf():
                attachment.detach()
        assert attachment.closed
        kernel.handle.flush()
        assert [sent.packet_id for sent in kernel.verdicts()] == [1]
    assert [type(context["exception"]) for context in contexts] == [BlockingIOError]


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
def test_verdicts_while_no_loop_runs(
    handle: Handle, udp: UdpPair, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """A verdict that is given while the loop stands still does not wait for it."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    with contextlib.closing(new_loop()) as loop, aio.attach(handle, loop=loop):
        udp.send(b"data")
        loop.run_until_complete(eventually(lambda: packets))
        packets[0].accept()
        assert udp.arrivals() == [b"data"]


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
def test_loop_closed_first(
    handle: Handle, udp: UdpPair, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """A loop that is closed first harms nothing: the handle can be used, attached anew, closed."""
    seen: list[bytes] = []
    handle.create_queue(1, accepting(seen), mode=COPY)
    gc.collect()  # what earlier tests have left must not go meanwhile
    before = len(os.listdir("/proc/self/fd"))
    loop = new_loop()
    attachment = aio.attach(handle, loop=loop)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    udp.send(b"1")
    assert handle.process(timeout=TIMEOUT) == 1
    attachment.detach()
    with contextlib.closing(new_loop()) as loop, aio.attach(handle, loop=loop):
        udp.send(b"2")
        loop.run_until_complete(eventually(lambda: len(seen) == 2))
    loop = new_loop()
    aio.attach(handle, loop=loop)
    loop.close()
    handle.close()
    del loop, attachment
    gc.collect()
    assert seen == [b"1", b"2"]
    assert len(os.listdir("/proc/self/fd")) == before - 2  # the handle's own


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
def test_loop_closed_before_its_turn(
    handle: Handle, udp: UdpPair, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """What the loop has not come to when it is closed is done then: verdicts, and detaching."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    with nfq.open() as other, contextlib.closing(new_loop()) as loop:
        attachment = aio.attach(other, loop=loop)
        aio.attach(handle, loop=loop)
        udp.send(b"1", b"2")
        loop.run_until_complete(eventually(lambda: len(packets) == 2))

        def last_turn() -> None:
            loop.stop()
            background(packets[0].accept).result(TIMEOUT)
            background(other.close).result(TIMEOUT)

        loop.call_soon(last_turn)
        loop.run_forever()
        loop.close()
        assert attachment.closed
        assert udp.arrivals() == [b"1"]
        packets[1].accept()
        assert udp.arrivals() == [b"2"]


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
def test_garbage(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Loop, attachment and handle that nobody refers to go together, with the handle's warning."""
    gc.collect()
    gc.collect()  # what earlier tests have left must not go meanwhile
    before = set(os.listdir("/proc/self/fd"))
    loop = new_loop()
    aio.attach(nfq.open(), loop=loop)
    loop.close()
    del loop
    with pytest.warns(ResourceWarning, match="unclosed <libnetfilterqueue"):
        gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before


async def test_closed_by_another_thread(
    handle: Handle, udp: UdpPair, nothing_left: None, contexts: Contexts
) -> None:
    """Closing in another thread detaches, quietly, also under traffic."""
    for _ in range(20):
        with nfq.open() as other:
            other.create_queue(1, accept, mode=COPY)
            attachment = aio.attach(other)
            udp.send(*[b"data"] * 5)
            await asyncio.to_thread(other.close)
            await eventually(lambda: attachment.closed)  # noqa: B023
    assert contexts == []


async def test_report(handle: Handle, udp: UdpPair, contexts: Contexts) -> None:
    """The loop's exception handler is told what was raised, and where."""
    error = KeyError("of the callback")

    def callback(packet: Packet) -> None:
        raise error

    handle.create_queue(1, callback, mode=COPY)
    with aio.attach(handle):
        udp.send(b"data")
        await eventually(lambda: contexts)
    assert contexts[0]["exception"] is error
    assert contexts[0]["netfilter_handle"] is handle
    assert "callback" in contexts[0]["message"]
    assert handle.stats().defaulted == 1


async def test_value_error_after_close(handle: Handle, udp: UdpPair, contexts: Contexts) -> None:
    """A callback's own ValueError is told also if it has closed the handle."""

    def callback(_: Packet) -> None:
        handle.close()
        raise ValueError("of the callback")

    handle.create_queue(1, callback, mode=COPY)
    with aio.attach(handle):
        udp.send(b"data")
        await eventually(lambda: contexts)
    assert [str(context["exception"]) for context in contexts] == ["of the callback"]


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupted(
    handle: Handle,
    udp: UdpPair,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    error: type[BaseException],
) -> None:
    """What ends programs ends the loop's run; when it runs again the feed goes on."""
    seen: list[int] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.id)
        packet.accept()
        if packet.id == 1:
            raise error

    handle.create_queue(1, callback, mode=COPY)
    with contextlib.closing(new_loop()) as loop, aio.attach(handle, loop=loop):
        udp.send(b"1")
        with pytest.raises(error):
            loop.run_forever()
        udp.send(b"2")
        loop.run_until_complete(eventually(lambda: len(seen) == 2))
    assert udp.arrivals() == [b"1", b"2"]


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
def test_two_loops(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Two loops in two threads, with a stream each."""
    numbers = (1, 2)
    for number in numbers:
        queue_rule(number, f"-p udp --sport 9998 -m length --length {28 + number}")
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    ready = threading.Barrier(3)

    async def read(number: int) -> list[bytes]:
        async with aio.open_queue(number, netns=namespace) as stream:
            ready.wait(TIMEOUT)
            seen = []
            for _ in range(40):
                packet = await stream.get()
                seen.append(data_of(packet))
                packet.accept()
        return seen

    def body(number: int) -> list[bytes]:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(read(number))

    reading = [background(body, number) for number in numbers]
    ready.wait(TIMEOUT)
    with UdpPair() as udp:
        udp.send(*[bytes(number) for number in numbers * 40])
        assert [future.result(TIMEOUT) for future in reading] == [
            [bytes(number)] * 40 for number in numbers
        ]
        assert len(udp.arrivals()) == 80
    os.close(namespace)


async def test_timer_under_flood(handle: Handle) -> None:
    """A queue that is never empty leaves a timer of a millisecond its turns."""

    def accept_slowly(packet: Packet) -> None:
        end = time.perf_counter() + 10e-6  # the flood is faster
        while time.perf_counter() < end:
            pass
        packet.accept()

    queue_rule(1)
    Counter("INPUT", f"-p udp --dport {PORT}", target="DROP")
    handle.create_queue(1, accept_slowly, mode=COPY)
    script = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        f"s.bind(('127.0.0.1', 9998)); s.connect(('127.0.0.1', {PORT}));"
        "print('sending', flush=True); data = bytes(64)\nwhile True: s.send(data)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as flood:  # noqa: ASYNC220 (before it)
        assert flood.stdout is not None
        flood.stdout.readline()
        try:
            with aio.attach(handle):
                before = handle.stats().packets
                # A virtual machine may stand still as a whole: once in three times has to do.
                late = min([await lateness() for _ in range(3)])
                packets = handle.stats().packets - before
        finally:
            flood.kill()
    assert late < 0.005
    assert packets > 3000


async def lateness() -> float:
    """By how much a timer of a millisecond is late, at the 99th percentile.

    What other programs took meanwhile doesn't count: it is not the loop that is late then.
    """
    late = []
    for _ in range(200):
        began = own_time()
        await asyncio.sleep(0.001)
        late.append(own_time() - began - 0.001)
    return sorted(late)[197]


def own_time() -> float:
    """A clock in seconds that stands still while this thread waits for a processor."""
    fields = Path("/proc/thread-self/schedstat").read_text().split()
    waited = int(fields[1]) / 1e9
    return time.perf_counter() - waited


def test_import_changes_nothing() -> None:
    """Importing makes no loop, imports no other, and runs no thread."""
    program = (
        "import libnetfilterqueue.aio, asyncio, gc, sys, threading;"
        "assert not {'uvloop', 'gevent', 'trio'} & set(sys.modules);"
        "assert not any(isinstance(each, asyncio.AbstractEventLoop) for each in gc.get_objects());"
        "assert threading.active_count() == 1"
    )
    subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program], check=True, timeout=TIMEOUT
    )


# Streams


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
    """One packet, and a batch of at least one and at most so many."""
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
    """Closing ends iteration, and a waiting get by a ValueError; twice is as good as once."""

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
    """What nobody has fetched when it is closed gets the default; a fetched packet too."""
    async with aio.open_queue(1, default_verdict=default) as stream:
        udp.send(b"1", b"2", b"3")
        packet = await stream.get()
        await turn()
    assert udp.arrivals() == ([b"1", b"2", b"3"] if default else [])
    with pytest.raises(nfq.ClosedError, match="destroyed"):
        packet.accept()
    assert stream.handle.stats().defaulted == 3


async def test_limit(udp: UdpPair, nothing_left: None) -> None:
    """At its limit it leaves packets in the kernel, and reads on below half of it."""
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
    """Leaving `async with` by an exception closes it."""
    with pytest.raises(KeyError):
        async with aio.open_queue(1) as stream:
            raise KeyError
    assert stream.closed


async def test_receive_buffer(nothing_left: None) -> None:
    """Unless a size is named there is room for maxlen packets of 1500 bytes, if allowed."""
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
    """A stream of another network namespace."""
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
    """A queue that can't be bound: the error, and nothing is left."""
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


# Handlers


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
    """It ends, or raises: the packet gets the default at once, whoever still has it."""
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
    """Its handlers are cancelled, wherever they are, and their packets get the default."""
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
    """When the stream is closed it returns, and handlers that run are cancelled."""
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
    """Also while as many handlers run as may."""
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
async def test_serve_is_cancelled_twice(stream: aio.PacketStream, udp: UdpPair, ends: bool) -> None:
    """It waits for its handlers, however often it is cancelled, also while it ends by itself."""
    states: list[str] = []

    async def handler(packet: Packet) -> None:
        try:
            await asyncio.sleep(TIMEOUT)
        finally:
            states.append("ending")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(TIMEOUT)
            await asyncio.sleep(0.001)
            states.append("ended")

    task = await serving(stream, handler)
    udp.send(b"1", b"2")
    await eventually(lambda: stream.handle.stats().packets == 2)
    await turn()
    stream.close() if ends else task.cancel()
    await turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert states == ["ending", "ending", "ended", "ended"]
    assert task.cancelling() == (1 if ends else 2)


async def test_handler_that_is_none(udp: UdpPair, contexts: Contexts) -> None:
    """What fails at the call, or is no coroutine, is told as any exception of a handler."""
    kept: list[Packet] = []

    def handler(packet: Packet) -> None:
        kept.append(packet)
        if packet.id == 2:
            raise KeyError(packet.id)

    async with aio.open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        task = await serving(stream, handler)
        udp.send(b"1", b"2", b"3")
        await eventually(lambda: len(contexts) == 3)
        await turn()
        assert udp.arrivals() == [b"1", b"2", b"3"]
    await task
    assert [type(context["exception"]) for context in contexts] == [TypeError, KeyError, TypeError]


def eager_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    """A task that begins while it is made, where Python (3.12 and newer) has such tasks."""
    if sys.version_info >= (3, 12):
        options["eager_start"] = True
    return asyncio.Task(coroutine, loop=loop, **options)


@pytest.mark.parametrize("waits", [False, True])
async def test_eager_tasks(stream: aio.PacketStream, udp: UdpPair, waits: bool) -> None:
    """A handler may be over before anybody has its task."""

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
    """A handler may end it all."""

    async def handler(packet: Packet) -> None:
        packet.accept()
        stream.close()

    task = await serving(stream, handler)
    udp.send(b"1", b"2")
    await task
    await turn()
    assert udp.arrivals()[:1] == [b"1"]


async def test_concurrency_out_of_range(stream: aio.PacketStream) -> None:
    """At least one."""
    with pytest.raises(ValueError, match="concurrency must be at least 1, not 0"):
        await aio.serve(stream, lambda _: asyncio.sleep(0), concurrency=0)
