# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.trio: attachments and streams at their edges."""

import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest
import trio
import trio.testing
from clocks import Clock
from netns import TIMEOUT, Namespace, UdpPair, background
from nurseries import eventually, in_trio
from played_kernel import PlayedKernel, packet_message
from queues import Handle, Packet, Raising, accept, accepting, data_of
from signals import soon

import libnetfilterqueue as nfq
from libnetfilterqueue.trio import Attachment, PacketStream, attach, open_queue

turn = trio.testing.wait_all_tasks_blocked

# Attachments


@in_trio
async def test_attached_twice(handle: Handle) -> None:
    """A handle has one feed at a time."""
    async with trio.open_nursery() as nursery:
        with attach(handle, nursery) as attachment:
            with pytest.raises(RuntimeError, match="attached already"):
                attach(handle, nursery)
            assert not attachment.closed
        assert attachment.closed
        attach(handle, nursery).detach()


def test_attached_outside_of_trio(handle: Handle) -> None:
    """Outside of trio, and in a nursery that is closed, nothing can be attached."""
    nurseries: list[trio.Nursery] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nurseries.append(nursery)
        with pytest.raises(RuntimeError, match="closed"):
            attach(handle, nursery)

    trio.run(main)
    with pytest.raises(RuntimeError):
        attach(handle, nurseries[0])
    assert (handle.on_held, handle.on_close, handle.autoflush) == (None, None, True)


def test_without_trio() -> None:
    """Without trio the import says how to install it."""
    program = (
        "import sys; sys.modules['trio'] = None\n"
        "try: import libnetfilterqueue.trio\n"
        "except ImportError as error: print(error)"
    )
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    assert "pip install trio" in done.stdout


@in_trio
async def test_pause(handle: Handle, udp: UdpPair) -> None:
    """While an attachment is paused packets wait in the kernel; verdicts are still sent."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append)
    async with trio.open_nursery() as nursery:
        attachment = attach(handle, nursery)
        udp.send(b"1")
        await eventually(lambda: packets)
        attachment.pause()
        udp.send(b"2")
        packets[0].accept()
        await turn(0.01)
        assert udp.arrivals() == [b"1"]
        assert len(packets) == 1
        attachment.resume()
        await eventually(lambda: len(packets) == 2)
        attachment.pause()
        attachment.detach()  # which ends the task, and so the nursery
    attachment.resume()


@in_trio
async def test_one_send_a_turn(handle: Handle, udp: UdpPair) -> None:
    """Verdicts that are given in one turn of trio are sent by one system call."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append)
    async with trio.open_nursery() as nursery:
        with attach(handle, nursery):
            udp.send(b"1", b"2", b"3")
            await eventually(lambda: len(packets) == 3)
            before = handle.stats().sends
            for packet in packets:
                packet.accept()
            assert handle.stats().sends == before
            await turn()
            assert handle.stats().sends == before + 1
    assert udp.arrivals() == [b"1", b"2", b"3"]


@in_trio
async def test_context(handle: Handle, udp: UdpPair) -> None:
    """Callbacks are called in a copy of the context of attach()."""
    name: ContextVar[str] = ContextVar("name")
    name.set("ours")
    seen: list[str] = []
    handle.create_queue(1, lambda _: seen.append(name.get()))
    async with trio.open_nursery() as nursery:
        with attach(handle, nursery):
            name.set("later")
            udp.send(b"data")
            await eventually(lambda: seen)
    assert seen == ["ours"]


@in_trio
async def test_callback_raises(handle: Handle, udp: UdpPair) -> None:
    """What a callback raises ends the nursery, and detaches the handle; no packet is lost by it."""
    handle.create_queue(1, Raising(n2=KeyError))
    udp.send(b"1", b"2", b"3")
    with pytest.RaisesGroup(KeyError):
        async with trio.open_nursery() as nursery:
            attachment = attach(handle, nursery)
            await trio.sleep_forever()
    assert attachment.closed
    assert handle.autoflush
    assert udp.arrivals() == [b"1", b"2", b"3"]


@in_trio
async def test_nursery_is_cancelled(handle: Handle, udp: UdpPair) -> None:
    """The handle is detached when its nursery is cancelled, and verdicts that are held are sent."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append)
    async with trio.open_nursery() as nursery:
        attachment = attach(handle, nursery)
        udp.send(b"1")
        await eventually(lambda: packets)
        packets[0].accept()
        nursery.cancel_scope.cancel()
    assert attachment.closed
    assert udp.arrivals() == [b"1"]
    assert (handle.on_held, handle.on_close, handle.autoflush) == (None, None, True)


@pytest.mark.parametrize("paused", [False, True])
@in_trio
async def test_closed_in_a_thread(handle: Handle, paused: bool) -> None:
    """Closing the handle in another thread ends the task, also if it is paused."""
    async with trio.open_nursery() as nursery:
        attachment = attach(handle, nursery)
        if paused:
            attachment.pause()
        await turn()
        await trio.to_thread.run_sync(handle.close)
    assert attachment.closed


@in_trio
async def test_used_in_a_thread(handle: Handle) -> None:
    """Calls that another thread must not make raise RuntimeError."""
    async with trio.open_nursery() as nursery:
        attachment = attach(handle, nursery)
        for call in (Attachment.pause, Attachment.resume, Attachment.detach):
            with pytest.raises(RuntimeError, match=rf"^{call.__name__}\(\): .*another thread"):
                await trio.to_thread.run_sync(call, attachment)
        attachment.detach()


@in_trio
async def test_verdict_of_a_thread(handle: Handle, udp: UdpPair) -> None:
    """A verdict that another thread gives is sent, though trio has nothing to do."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append)
    async with trio.open_nursery() as nursery:
        with attach(handle, nursery):
            udp.send(b"1")
            await eventually(lambda: packets)
            await turn()
            background(packets[0].accept)
            assert await trio.to_thread.run_sync(udp.recv) == b"1"


@in_trio
async def test_no_room_for_a_verdict() -> None:
    """A verdict that can't be sent ends the nursery; it is not lost."""
    packets: list[Packet] = []
    with PlayedKernel() as kernel:
        kernel.create_queue(1, packets.append)
        with kernel.deaf(), pytest.RaisesGroup(BlockingIOError):
            async with trio.open_nursery() as nursery:
                attach(kernel.handle, nursery)
                kernel.socket.send(packet_message())
                await eventually(lambda: packets)
                packets[0].accept()
                await trio.sleep_forever()
        kernel.handle.flush()
        assert [verdict.packet_id for verdict in kernel.verdicts()] == [1]


# Streams


@in_trio
async def test_stream(udp: UdpPair) -> None:
    """Packets come by iteration, one by one, and in batches."""
    async with open_queue(1) as stream:
        udp.send(b"1", b"2", b"3", b"4", b"5")
        seen: list[bytes] = []
        async for packet in stream:
            seen.append(data_of(packet))
            packet.accept()
            if len(seen) == 2:
                break
        packet = await stream.get()
        packet.drop()
        batch = await stream.get_batch()
        assert [data_of(packet) for packet in [packet, *batch]] == [b"3", b"4", b"5"]
        for packet in batch:
            packet.accept()
        await turn()
        assert udp.arrivals() == [b"1", b"2", b"4", b"5"]


Read = Callable[[PacketStream], Awaitable[Packet]]


async def get_batch_of_one(stream: PacketStream) -> Packet:
    return (await stream.get_batch(1))[0]


READS: list[Read] = [PacketStream.get, PacketStream.__anext__, get_batch_of_one]


@pytest.mark.parametrize("read", READS)
@in_trio
async def test_checkpoints(udp: UdpPair, read: Read) -> None:
    """Each step is a checkpoint, whether or not packets wait, and also the last one."""
    async with open_queue(1) as stream:
        udp.send(b"1", b"2")
        for _ in range(2):
            with trio.testing.assert_checkpoints():
                packet = await read(stream)
            packet.accept()
        stream.close()
        with (
            trio.testing.assert_checkpoints(),
            pytest.raises((nfq.ClosedError, StopAsyncIteration)),
        ):
            await read(stream)


@pytest.mark.parametrize("read", READS)
@in_trio
async def test_cancelled(udp: UdpPair, read: Read) -> None:
    """What is cancelled takes no packet with it, whether it waits or one is there."""
    async with open_queue(1) as stream:
        with trio.move_on_after(0.01) as scope:
            await read(stream)
        assert scope.cancelled_caught
        udp.send(b"1", b"2")
        (await stream.get()).accept()
        with trio.CancelScope() as scope:
            scope.cancel()
            await read(stream)
        assert scope.cancelled_caught
        assert stream.qsize() == 1
        (await read(stream)).accept()
        await turn()
        assert udp.arrivals() == [b"1", b"2"]


@in_trio
async def test_cancelled_when_it_comes(udp: UdpPair) -> None:
    """A reader that is cancelled when its packet comes leaves it to the next one."""
    async with open_queue(1) as stream:
        for number in range(20):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.get)
                    for _ in range(number % 4):
                        await trio.lowlevel.checkpoint()
                    udp.send(b"data")
                    scope.cancel()
            packet = await stream.get()
            assert packet.id == number + 1
            packet.accept()


@in_trio
async def test_readers_take_turns(udp: UdpPair) -> None:
    """A packet goes to the reader that has waited longest; none is left waiting."""
    readings: list[int] = []

    async def read(reader: int) -> None:
        (await stream.get()).accept()
        readings.append(reader)

    async with open_queue(1) as stream, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(read, number)
            await turn()
        for count in range(1, 11):
            udp.send(b"data")
            await eventually(lambda: len(readings) == count)  # noqa: B023
        udp.send(*[b"data"] * 10)
    assert readings == list(range(20))


@in_trio
async def test_closed_by_another_task(udp: UdpPair) -> None:
    """Closing ends iteration, and a waiting get by a ClosedError; twice is as good as once."""
    iterated: list[Packet] = []

    async def iterate() -> None:
        iterated.extend([packet async for packet in stream])

    async def get(read: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(nfq.ClosedError, match="the stream is closed"):
            await read()

    async with open_queue(1) as stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(iterate)
            nursery.start_soon(get, stream.get)
            nursery.start_soon(get, stream.get_batch)
            await turn()
            stream.close()
            stream.close()
        assert iterated == []
        assert stream.closed
        assert stream.handle.closed
        assert stream.queue.destroyed
        await get(stream.get)


@pytest.mark.parametrize("default", [nfq.NF_ACCEPT, nfq.NF_DROP])
@in_trio
async def test_unfetched_packets(udp: UdpPair, default: nfq.Verdict) -> None:
    """Packets that nobody has fetched at the close get the default; a fetched one too."""
    async with open_queue(1, default_verdict=default) as stream:
        udp.send(b"1", b"2", b"3")
        packet = await stream.get()
    assert udp.arrivals() == ([b"1", b"2", b"3"] if default else [])
    with pytest.raises(nfq.ClosedError, match="destroyed"):
        packet.accept()
    assert stream.handle.stats().defaulted == 3


@in_trio
async def test_exceptions_close_it(udp: UdpPair) -> None:
    """An exception leaves `async with` as it is, and closes the stream."""
    with pytest.raises(KeyError):
        async with open_queue(1) as stream:
            raise KeyError
    assert stream.closed


@in_trio
async def test_cancelled_inside(udp: UdpPair) -> None:
    """A cancelled scope around `async with` closes the stream."""
    with trio.CancelScope() as scope:
        async with open_queue(1) as stream:
            scope.cancel()
            await stream.get()
    assert scope.cancelled_caught
    assert stream.closed


@in_trio
async def test_limit(udp: UdpPair) -> None:
    """At its limit a stream stops reading, below half of it it goes on."""
    async with open_queue(1, limit=10) as stream:
        udp.send(*[b"data"] * 80)
        for count in range(1, 81):
            (await stream.get()).accept()
            assert stream.handle.stats().packets <= count + 64
        await turn()
    assert len(udp.arrivals()) == 80


@in_trio
async def test_opening_fails(handle: Handle) -> None:
    """If a queue can't be bound, the error is raised and nothing is left."""
    handle.create_queue(1, accept)
    stream = open_queue(1)
    with pytest.raises(PermissionError, match="bound by another handle"):
        await stream.__aenter__()
    assert stream.closed
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        open_queue(2, limit=0)


@in_trio
async def test_used_at_the_wrong_time() -> None:
    """A stream is opened once, and used while it is open."""
    stream = open_queue(1)
    with pytest.raises(ValueError, match="not open"):
        await stream.get()
    with pytest.raises(ValueError, match="not open"):
        stream.get_nowait()
    async with stream:
        with pytest.raises(ValueError, match="opened once"):
            await stream.__aenter__()
    with pytest.raises(ValueError, match="opened once"):
        await stream.__aenter__()


@pytest.mark.parametrize("read", READS)
@in_trio
async def test_slow_reader(udp: UdpPair, clock: Clock, read: Read) -> None:
    """A verdict that is older than 1 ms is sent before anything else happens."""
    async with open_queue(1) as stream:
        udp.send(*[b"%d" % number for number in range(5)])
        for number in range(5):
            packet = await read(stream)
            assert udp.arrivals() == ([b"%d" % (number - 1)] if number else [])
            packet.accept()
            clock.now += 0.0011


@in_trio
async def test_batch_of_verdicts(udp: UdpPair) -> None:
    """Verdicts on a batch travel together."""
    async with open_queue(1) as stream:
        udp.send(*[b"data"] * 50)
        for packet in await stream.get_batch():
            packet.accept()
        await turn()
        assert stream.handle.stats().sends == 1
        assert len(udp.arrivals()) == 50


ACTS: dict[str, Callable[[PacketStream], object]] = {
    "close": lambda stream: stream.close(),
    "close-handle": lambda stream: stream.handle.close(),
    "stop": lambda stream: stream.stop(),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("paused", [False, True])
@in_trio
async def test_ended_by_a_signal_handler(udp: UdpPair, act: str, paused: bool) -> None:
    """A handler of signal.signal's ends iteration at once, and wakes trio."""
    async with open_queue(1) as stream:
        began = time.monotonic()
        if paused:
            stream.pause()
        with soon(lambda: ACTS[act](stream)):
            assert [packet async for packet in stream] == []
        assert time.monotonic() - began < TIMEOUT / 2
        assert stream.closed == (act != "stop")
        with pytest.raises(nfq.ClosedError, match="stopped" if act == "stop" else "closed"):
            await stream.get()


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("paused", [False, True])
@in_trio
async def test_ended_by_another_thread(udp: UdpPair, act: str, paused: bool) -> None:
    """Another thread ends iteration at once, and wakes trio."""
    async with open_queue(1) as stream:
        if paused:
            stream.pause()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, ACTS[act], stream)
            assert [packet async for packet in stream] == []
        assert stream.closed == (act != "stop")


@in_trio
async def test_stream_in_a_thread(udp: UdpPair) -> None:
    """Calls that another thread must not make raise RuntimeError."""
    async with open_queue(1) as stream:
        for call in (stream.pause, stream.resume, stream.get_nowait):
            with pytest.raises(RuntimeError):
                await trio.to_thread.run_sync(call)


def test_another_run(udp: UdpPair) -> None:
    """A stream that is left open belongs to a run that has ended. Any thread may close it."""

    async def read() -> None:
        reads: list[Callable[[], Awaitable[object]]] = [
            stream.get,
            stream.get_batch,
            lambda: anext(aiter(stream)),
        ]
        for read in reads:
            with pytest.raises(RuntimeError, match="another run"):
                await read()

    stream = open_queue(1)
    trio.run(stream.__aenter__)
    trio.run(read)
    background(stream.close).result(TIMEOUT)
    assert stream.closed


@in_trio
async def test_stop(udp: UdpPair) -> None:
    """What has been read is handed out, the rest stays in the kernel; then iteration ends."""
    async with open_queue(1) as stream:
        udp.send(b"1", b"2", b"3")
        (await stream.get()).accept()
        stream.stop()
        stream.stop()
        udp.send(b"4")
        async for packet in stream:
            packet.accept()
        await turn()
        assert udp.arrivals() == [b"1", b"2", b"3"]
        assert not stream.closed
        assert stream.handle.stats().defaulted == 0
        (status,) = nfq.queue_status()
        assert status.waiting == 1
        for call in (stream.get, stream.get_batch):
            with pytest.raises(nfq.ClosedError, match="the stream is stopped"):
                await call()
        with pytest.raises(nfq.ClosedError, match="the stream is stopped"):
            stream.get_nowait()


@in_trio
async def test_stop_before_it_is_opened(udp: UdpPair) -> None:
    """A stream that is stopped first reads nothing."""
    stream = open_queue(1)
    stream.stop()
    async with stream:
        udp.send(b"data")
        assert [packet async for packet in stream] == []


@in_trio
async def test_get_nowait(udp: UdpPair) -> None:
    """get_nowait reads what is there, also for those who wait."""
    async with open_queue(1) as stream:
        with pytest.raises(trio.WouldBlock):
            stream.get_nowait()
        udp.send(b"1", b"2")
        assert data_of(stream.get_nowait()) == b"1"
        assert stream.qsize() == 1
        assert data_of(stream.get_nowait()) == b"2"
        got: list[Packet] = []

        async def get() -> None:
            got.append(await stream.get())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(get)
            await turn()
            udp.send(b"3", b"4")
            assert data_of(stream.get_nowait()) == b"3"
        assert data_of(got[0]) == b"4"
        stream.close()
        with pytest.raises(nfq.ClosedError, match=r"get_nowait\(\): the stream is closed"):
            stream.get_nowait()


@in_trio
async def test_get_nowait_hides_nothing(netns: Namespace) -> None:
    """What reading fails of is raised, though nobody waits."""
    async with open_queue(1) as stream:
        os.close(stream.handle.fd())
        with pytest.raises(OSError, match=r"process\(\): .*: other code has closed"):
            stream.get_nowait()


@in_trio
async def test_pause_a_stream(udp: UdpPair) -> None:
    """While a stream is paused packets wait in the kernel, and so do its readers."""
    async with open_queue(1) as stream:
        stream.pause()
        udp.send(b"1")
        with pytest.raises(trio.WouldBlock):
            stream.get_nowait()
        with trio.move_on_after(0.01) as scope:
            await stream.get()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.get)
            await turn()
            stream.resume()


@in_trio
async def test_attached_beside_a_stream(udp: UdpPair, handle: Handle) -> None:
    """Streams and attachments share trio; each handle has packets of its own."""
    seen: list[bytes] = []
    handle.create_queue(2, accepting(seen))
    async with open_queue(1) as stream, trio.open_nursery() as nursery:
        with attach(handle, nursery):
            udp.send(b"1")
            (await stream.get()).requeue(2)
            await eventually(lambda: seen)
    assert seen == [b"1"]
