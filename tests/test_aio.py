# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.aio on asyncio and uvloop: attachments at their edges."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

import pytest
from asynchronous import Contexts, accept_all, eventually, turn
from available import NEW_LOOPS
from netns import PORT, TIMEOUT, Counter, UdpPair, background, queue_rule
from played_kernel import PlayedKernel, packet_message
from queues import Handle, Packet, Raising, accept, accepting, data_of, process_until

import libnetfilterqueue as nfq
from libnetfilterqueue import aio

COPY = nfq.NFQNL_COPY_PACKET


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
    """A handle that an asyncio loop feeds can't be fed by gevent too."""
    from libnetfilterqueue import green  # noqa: PLC0415 (which imports gevent)

    with aio.attach(handle), pytest.raises(RuntimeError, match="attached already"):
        green.attach(handle)


def test_no_running_loop(handle: Handle) -> None:
    """attach() without a running loop needs one by name; the handle stays as it was."""
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
    """While an attachment is paused packets wait in the kernel; verdicts are still sent."""
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
    """Detaching leaves autoflush as its user has set it, and sends what was held."""
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
    """Verdicts that are held back when the handle is detached are sent."""
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
    """Verdicts that were held back before attaching do not hold back those given after."""
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
    """If detaching can't send, the handler gets the error, and everything else is done."""
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
    assert len(os.listdir("/proc/self/fd")) == before - 3  # the handle's own


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
def test_loop_closed_before_its_turn(
    handle: Handle, udp: UdpPair, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """What a loop has left to do when it is closed is done then: verdicts, and detaching."""
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
    """Loop, attachment and handle without references go together, with the handle's warning."""
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


async def test_context(handle: Handle, udp: UdpPair) -> None:
    """Callbacks run in a copy of the context that attach was called in, whoever resumes it."""
    variable: ContextVar[str] = ContextVar("variable", default="default")
    seen: list[str] = []

    def callback(packet: Packet) -> None:
        seen.append(variable.get())
        packet.accept()

    async def resume() -> None:
        variable.set("of another")
        attachment.pause()
        attachment.resume()

    handle.create_queue(1, callback)
    variable.set("of attach")
    with aio.attach(handle) as attachment:
        variable.set("later")
        udp.send(b"1")
        await eventually(lambda: len(seen) == 1)
        await asyncio.create_task(resume())
        udp.send(b"2")
        await eventually(lambda: len(seen) == 2)
    assert seen == ["of attach"] * 2


async def test_other_thread(handle: Handle, udp: UdpPair) -> None:
    """Attaching and detaching in a thread other than the loop's raise, and change nothing."""
    seen: list[bytes] = []
    loop = asyncio.get_running_loop()
    handle.create_queue(1, accepting(seen))
    with pytest.raises(RuntimeError, match=r"^attach\(\): the loop runs in another thread"):
        await asyncio.to_thread(aio.attach, handle, loop=loop)
    assert (handle.on_held, handle.on_close, handle.autoflush) == (None, None, True)
    await asyncio.to_thread(lambda: loop.call_soon_threadsafe(aio.attach, handle))
    await eventually(lambda: handle.on_close is not None)
    handle.close()
    with nfq.open() as other, aio.attach(other) as attachment:
        other.create_queue(1, accepting(seen))
        for call in (attachment.pause, attachment.resume, attachment.detach):
            with pytest.raises(RuntimeError, match=rf"^{call.__name__}\(\): the loop runs in an"):
                await asyncio.to_thread(call)
        udp.send(b"data")
        await eventually(lambda: seen)


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
def test_detached_while_no_loop_runs(
    handle: Handle, udp: UdpPair, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """While the loop stands still any thread may detach, pause and resume."""
    seen: list[bytes] = []
    handle.create_queue(1, accepting(seen))
    with contextlib.closing(new_loop()) as loop:
        attachment = aio.attach(handle, loop=loop)
        for call in (attachment.pause, attachment.resume, attachment.detach):
            background(call).result(TIMEOUT)
        assert attachment.closed
        assert handle.autoflush
        udp.send(b"data")
        process_until(handle, lambda: seen)


async def test_report(handle: Handle, udp: UdpPair, contexts: Contexts) -> None:
    """The loop's exception handler gets what was raised, and where."""
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
    """A callback's own ValueError is reported also if it has closed the handle."""

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
    """KeyboardInterrupt and SystemExit end the loop's run; when it runs again the feed goes on."""
    callback = Raising(n1=error)
    handle.create_queue(1, callback, mode=COPY)
    with contextlib.closing(new_loop()) as loop, aio.attach(handle, loop=loop):
        udp.send(b"1")
        with pytest.raises(error):
            loop.run_forever()
        udp.send(b"2")
        loop.run_until_complete(eventually(lambda: len(callback.seen) == 2))
    assert udp.arrivals() == [b"1", b"2"]


@pytest.mark.parametrize("new_loop", NEW_LOOPS.values())
def test_two_loops(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Two loops run in two threads, with a stream each."""
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
        "kinds = map(type, gc.get_objects());"
        "assert not any(issubclass(kind, asyncio.AbstractEventLoop) for kind in kinds);"
        "assert threading.active_count() == 1"
    )
    subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program], check=True, timeout=TIMEOUT
    )
