# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.green: attachments, streams and handlers at their edges.

test_patched.py runs these once more, in a process in which gevent has patched everything.
"""

import contextlib
import functools
import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import gevent
import gevent.event
import gevent.local
import gevent.monkey
import gevent.os
import gevent.queue
import pytest
from clocks import Clock
from greenlet import greenlet
from netns import TIMEOUT, Namespace, UdpPair, queue_rule
from queues import Handle, Packet, Raising, accept, accepting, data_of

import libnetfilterqueue as nfq
from libnetfilterqueue import green

COPY = nfq.NFQNL_COPY_PACKET


def eventually(done: Callable[[], object]) -> None:
    """Waits until something has come true."""
    with gevent.Timeout(TIMEOUT):
        while not done():
            gevent.sleep(0.001)


def turn() -> None:
    """Lets everything that is due have its turn.

    The loop looks at the descriptors before each timer that is over, however late that is.
    """
    for _ in range(10):
        gevent.sleep(0.0003)


def greenlets() -> list[greenlet]:
    """All greenlets that have begun and not ended."""
    gc.collect()
    return [each for each in gc.get_objects() if issubclass(type(each), greenlet) and each]


def in_thread(function: Callable[[], object]) -> None:
    """Calls the function in a real thread, while the hub runs."""
    gevent.get_hub().threadpool.apply(function)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What the hub's handler is told."""
    told: list[BaseException] = []
    monkeypatch.setattr(
        gevent.get_hub(), "handle_error", lambda _, __, error, ___: told.append(error)
    )
    return told


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No descriptor is left by the test."""
    in_thread(lambda: None)  # the thread pool has what it needs
    turn()
    before = set(os.listdir("/proc/self/fd"))
    yield
    turn()
    assert set(os.listdir("/proc/self/fd")) <= before  # an earlier test's garbage may go meanwhile


@pytest.fixture
def stream(udp: UdpPair, nothing_left: None) -> Iterator[green.PacketStream]:
    """A stream of what `udp` sends."""
    with green.open_queue(1) as stream:
        yield stream


# Attachments


def test_attached_twice(handle: Handle) -> None:
    """A handle has one feed at a time."""
    with green.attach(handle) as attachment:
        with pytest.raises(RuntimeError, match="attached already"):
            green.attach(handle)
        assert not attachment.closed
    assert attachment.closed
    green.attach(handle).detach()


def test_closed_handle(handle: Handle) -> None:
    """A closed handle can't be attached."""
    handle.close()
    with pytest.raises(ValueError, match="closed"):
        green.attach(handle)


def test_pause(handle: Handle, udp: UdpPair, nothing_left: None) -> None:
    """While an attachment is paused packets wait in the kernel; verdicts are still sent."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    with green.attach(handle) as attachment:
        udp.send(b"1")
        eventually(lambda: packets)
        attachment.pause()
        attachment.pause()
        udp.send(b"2")
        packets[0].accept()
        turn()
        assert udp.arrivals() == [b"1"]
        assert len(packets) == 1
        attachment.resume()
        attachment.resume()
        eventually(lambda: len(packets) == 2)
    attachment.pause()
    attachment.resume()
    attachment.detach()
    udp.send(b"3")
    turn()
    assert len(packets) == 2


def test_one_send_a_turn(handle: Handle, udp: UdpPair) -> None:
    """Verdicts that are given in one turn are sent by one system call."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    with green.attach(handle):
        udp.send(*[b"data"] * 20)
        eventually(lambda: len(packets) == 20)
        before = handle.stats().sends
        for packet in packets[:10]:
            packet.accept()
        assert handle.stats().sends == before
        turn()
        assert handle.stats().sends == before + 1
        in_thread(lambda: [each.accept() for each in packets[10:]])  # type: ignore[func-returns-value]
        turn()
        assert len(udp.arrivals()) == 20


def test_callback_that_waits(handle: Handle, udp: UdpPair) -> None:
    """A callback may wait for other greenlets; meanwhile they run, and nothing else is fed."""
    release = gevent.event.Event()
    seen: list[int] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.id)
        release.wait()
        gevent.sleep(0.001)
        assert gevent.spawn(lambda: "value").get() == "value"
        packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    with green.attach(handle):
        udp.send(b"1", b"2")
        eventually(lambda: seen)
        turn()
        assert seen == [1]
        assert udp.arrivals() == []
        release.set()
        eventually(lambda: len(seen) == 2)
        udp.send(b"3")
        eventually(lambda: len(seen) == 3)
        turn()
        assert udp.arrivals() == [b"1", b"2", b"3"]


def test_verdicts_while_a_callback_waits(handle: Handle, udp: UdpPair) -> None:
    """Each time that a callback waits, earlier verdicts are sent before."""
    release = gevent.event.Event()
    seen: list[int] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.id)
        packet.accept()
        if packet.id in (2, 4):
            gevent.sleep(0)
            release.wait()

    handle.create_queue(1, callback, mode=COPY)
    with green.attach(handle):
        udp.send(b"1", b"2", b"3", b"4", b"5")
        eventually(lambda: len(seen) == 2)
        assert udp.arrivals() == [b"1"]
        release.set()
        release.clear()
        eventually(lambda: len(seen) == 4)
        assert udp.arrivals() == [b"2", b"3"]
        release.set()
        turn()
    assert udp.arrivals() == [b"4", b"5"]


def test_killed(handle: Handle, udp: UdpPair) -> None:
    """Killing all greenlets does not end the feed."""
    seen: list[bytes] = []
    handle.create_queue(1, accepting(seen), mode=COPY)
    turn()  # there is a hub, which is not to be killed
    before = set(greenlets())
    with green.attach(handle):
        for number in range(1, 4):
            udp.send(b"data")
            eventually(lambda: len(seen) == number)  # noqa: B023
            gevent.killall(list(set(greenlets()) - before))
    turn()
    assert set(greenlets()) <= before


@pytest.mark.parametrize("act", ["detach", "pause", "kill"])
def test_before_a_batch_begins(
    handle: Handle, udp: UdpPair, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """The feed goes on if its greenlet is killed; detached or paused it does nothing."""
    seen: list[bytes] = []
    handle.create_queue(1, accepting(seen), mode=COPY)
    spawn_raw = gevent.spawn_raw
    attachment = green.attach(handle)

    def spawn(function: Callable[[], object]) -> greenlet:
        monkeypatch.undo()
        batch = spawn_raw(function)
        batch.throw(gevent.GreenletExit) if act == "kill" else getattr(attachment, act)()
        return batch

    with attachment:
        monkeypatch.setattr(gevent, "spawn_raw", spawn)
        udp.send(b"1")
        turn()
        assert seen == ([b"1"] if act == "kill" else [])
        attachment.resume()
        turn()
        assert seen == ([] if act == "detach" else [b"1"])


@pytest.mark.parametrize("act", ["close", "detach", "pause"])
def test_while_a_callback_waits(handle: Handle, udp: UdpPair, nothing_left: None, act: str) -> None:
    """Closing, detaching and pausing while a callback waits: it goes on, and nothing after it."""
    release = gevent.event.Event()
    seen: list[int] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.id)
        release.wait()
        packet.accept()

    with nfq.open() as other:
        other.create_queue(1, callback, mode=COPY)
        attachment = green.attach(other)
        udp.send(b"1")
        eventually(lambda: seen)
        other.close() if act == "close" else getattr(attachment, act)()
        udp.send(b"2")
        release.set()
        turn()
        assert seen == [1]
        assert udp.arrivals() == ([] if act == "close" else [b"1"])
        if act == "pause":
            attachment.resume()
            eventually(lambda: len(seen) == 2)


@pytest.mark.parametrize("error", [KeyError, gevent.Timeout, gevent.GreenletExit])
def test_callback_that_raises(
    handle: Handle, udp: UdpPair, errors: list[BaseException], error: type[BaseException]
) -> None:
    """The hub's handler gets any exception of a callback, and the feed goes on."""
    callback = Raising(n1=error)
    handle.create_queue(1, callback, mode=COPY)
    with green.attach(handle):
        udp.send(b"1", b"2")
        eventually(lambda: len(callback.seen) == 2)
        udp.send(b"3")
        eventually(lambda: len(callback.seen) == 3)
    assert [type(each) for each in errors] == [error]
    assert udp.arrivals() == [b"1", b"2", b"3"]


def test_timeout_in_a_callback(handle: Handle, udp: UdpPair) -> None:
    """A callback may set a gevent.Timeout for itself."""
    outcomes: list[str] = []

    def callback(packet: Packet) -> None:
        with contextlib.suppress(gevent.Timeout), gevent.Timeout(0.005):
            gevent.sleep(TIMEOUT)
        outcomes.append("over")
        packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    with green.attach(handle):
        udp.send(b"data")
        eventually(lambda: outcomes)
        turn()
    assert udp.arrivals() == [b"data"]


def test_interrupted(handle: Handle, udp: UdpPair) -> None:
    """KeyboardInterrupt in a callback reaches the main greenlet; then the feed goes on."""
    callback = Raising(n1=KeyboardInterrupt)
    handle.create_queue(1, callback, mode=COPY)
    with green.attach(handle):
        udp.send(b"1")
        with pytest.raises(KeyboardInterrupt):
            eventually(lambda: False)
        udp.send(b"2")
        eventually(lambda: len(callback.seen) == 2)
    assert udp.arrivals() == [b"1", b"2"]


def test_closed_by_another_thread(
    udp: UdpPair, nothing_left: None, errors: list[BaseException]
) -> None:
    """Closing in another thread detaches, quietly, also under traffic."""
    for _ in range(20):
        with nfq.open() as other:
            other.create_queue(1, accept, mode=COPY)
            attachment = green.attach(other)
            udp.send(*[b"data"] * 5)
            in_thread(other.close)
            eventually(lambda: attachment.closed)  # noqa: B023
    assert errors == []


def test_hub_of_another_thread(udp: UdpPair) -> None:
    """Another thread's hub feeds a handle of its own; reattaching it here works."""
    seen: list[bytes] = []
    with nfq.open() as handle:
        handle.create_queue(1, accepting(seen), mode=COPY)

        def body() -> None:
            with green.attach(handle):
                udp.send(b"1")
                eventually(lambda: seen)
            gevent.get_hub().destroy()

        in_thread(body)
        with green.attach(handle):
            udp.send(b"2")
            eventually(lambda: len(seen) == 2)
    assert seen == [b"1", b"2"]


@pytest.mark.parametrize("act", ["verdict", "close", "detach"])
def test_hub_destroyed_first(udp: UdpPair, nothing_left: None, act: str) -> None:
    """A hub that is destroyed first harms nothing: what it can't do any more is done at once."""
    packets: list[Packet] = []
    attachments: list[green.Attachment] = []

    def body() -> None:
        attachments.append(green.attach(handle))
        udp.send(b"1", b"2")
        eventually(lambda: len(packets) == 2)
        gevent.get_hub().destroy()

    with nfq.open() as handle:
        handle.create_queue(1, packets.append, mode=COPY)
        in_thread(body)
        if act == "verdict":
            packets[1].accept()
            assert udp.arrivals() == [b"2"]
        if act == "detach":
            attachments[0].detach()
            assert handle.autoflush
    assert attachments[0].closed


def test_main_hub_destroyed_first() -> None:
    """A main thread's hub that is destroyed first harms nothing; the next hub takes its loop."""
    program = (
        "import gevent, socket, libnetfilterqueue as nfq; from libnetfilterqueue import green\n"
        "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "with nfq.open(fd=theirs.fileno()) as handle, green.attach(handle) as attachment:\n"
        "    ours.send(bytes([16, 0, 0, 0, 1, 0, 0, 0]) + bytes(8))\n"  # no operation
        "    gevent.sleep(0.01)\n"
        "    gevent.get_hub().destroy()\n"
        "ours.close(), theirs.close()"
    )
    command = [sys.executable, "-P", "-W", "error", "-c", program]
    subprocess.run(command, check=True, timeout=TIMEOUT)


def test_fork(udp: UdpPair) -> None:
    """A child whose hub runs on leaves the packets to the parent, and its streams end."""
    with green.open_queue(1) as stream:
        gevent.sleep(0)
        reading, writing = os.pipe()
        child = gevent.os.fork_gevent()
        if child == 0:
            try:
                gevent.get_hub().handle_error = lambda *_: os._exit(2)  # type: ignore[method-assign]
                os.read(reading, 1)
                os._exit(0 if list(stream) == [] else 3)
            finally:
                os._exit(1)
        udp.send(b"data")
        os.write(writing, b"1")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        os.close(reading)
        os.close(writing)
        stream.get().accept()
        turn()
        assert udp.arrivals() == [b"data"]


def test_garbage(nothing_left: None) -> None:
    """A closed handle and its attachment are released."""
    handle = nfq.open()
    attachment = green.attach(handle)
    gone = weakref.ref(attachment)
    handle.close()
    del handle, attachment
    turn()
    gc.collect()
    assert gone() is None


def test_import_changes_nothing() -> None:
    """Importing patches nothing, makes no hub, and imports no other loop."""
    program = (
        "import libnetfilterqueue.green, sys, gevent.monkey, gevent._hub_local as local;"
        "assert not gevent.monkey.saved;"
        "assert local.get_hub_if_exists() is None;"
        "assert not {'asyncio', 'uvloop', 'trio'} & set(sys.modules)"
    )
    command = [sys.executable, "-P", "-W", "error", "-c", program]
    subprocess.run(command, check=True, timeout=TIMEOUT)


PATCHED = """
from gevent import monkey
monkey.patch_all()
import gevent
import libnetfilterqueue as nfq
with nfq.open_queue(1) as packets:
    others = [gevent.spawn(list, packets) for _ in range(2)]
    gevent.spawn(print, "ready", flush=True)
    packets.get().accept()
    packets.stop()
    gevent.joinall(others, raise_error=True)
"""


def test_stream_without_a_loop_where_all_is_patched(udp: UdpPair) -> None:
    """Greenlets that read nfq.open_queue's stream block no other, if the library is patched."""
    command = [sys.executable, "-P", "-W", "error", "-c", PATCHED]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        udp.send(*[b"data"] * 3)
        assert udp.recv() == b"data"
        assert program.wait(TIMEOUT) == 0


def test_without_gevent() -> None:
    """Without gevent the import says how to install it."""
    program = (
        "import sys; sys.modules['gevent'] = None\n"
        "try: import libnetfilterqueue.green\n"
        "except ImportError as error: print(error)"
    )
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    assert "pip install gevent" in done.stdout


def test_context(handle: Handle, udp: UdpPair) -> None:
    """Callbacks run in a copy of the context that attach was called in, whoever resumes it."""
    variable: ContextVar[str] = ContextVar("variable", default="default")
    seen: list[str] = []

    def callback(packet: Packet) -> None:
        seen.append(variable.get())
        packet.accept()

    def resume() -> None:
        variable.set("of another")
        attachment.pause()
        attachment.resume()

    handle.create_queue(1, callback)
    variable.set("of attach")
    with green.attach(handle) as attachment:
        variable.set("later")
        udp.send(b"1")
        eventually(lambda: len(seen) == 1)
        gevent.spawn(resume).join()
        udp.send(b"2")
        eventually(lambda: len(seen) == 2)
    assert seen == ["of attach"] * 2


# Streams


def test_for(stream: green.PacketStream, udp: UdpPair) -> None:
    """Packets come in their order; leaving the loop and coming back loses none."""
    udp.send(*[b"%d" % number for number in range(70)])
    seen = []
    for count in (30, 70):
        for packet in stream:
            seen.append(data_of(packet))
            packet.accept()
            if len(seen) == count:
                break
    assert seen == [b"%d" % number for number in range(70)]
    turn()
    assert udp.arrivals() == seen


def test_get(stream: green.PacketStream, udp: UdpPair) -> None:
    """get() returns one packet, get_batch() at least one and at most so many."""
    udp.send(*[b"%d" % number for number in range(10)])
    packets = [stream.get()]
    turn()
    packets += stream.get_batch(4)
    assert [packet.id for packet in packets] == [1, 2, 3, 4, 5]
    packets += stream.get_batch()
    assert [packet.id for packet in packets] == list(range(1, 11))
    waiting = gevent.spawn(stream.get_batch, 5)
    turn()
    assert not waiting.ready()
    udp.send(b"more")
    assert [data_of(packet) for packet in waiting.get(timeout=TIMEOUT)] == [b"more"]
    with pytest.raises(ValueError, match="max must be at least 1, not 0"):
        stream.get_batch(0)


def test_several_readers(stream: green.PacketStream, udp: UdpPair) -> None:
    """Each packet goes to one of the greenlets that read, and none is left waiting."""
    seen: list[int] = []

    def read() -> None:
        for packet in stream:
            seen.append(packet.id)
            packet.accept()
            gevent.sleep(0)

    readers = [gevent.spawn(read) for _ in range(5)]
    turn()
    for _ in range(8):
        udp.send(*[b"data"] * 10)
        turn()
    eventually(lambda: len(seen) == 80)
    assert sorted(seen) == list(range(1, 81))
    assert len(udp.arrivals()) == 80
    stream.close()
    gevent.joinall(readers, timeout=TIMEOUT, raise_error=True)


def test_killed_and_timed_out(stream: green.PacketStream, udp: UdpPair) -> None:
    """A get that is killed, or whose time is over, takes no packet with it."""
    for number in range(1, 21):
        waiting = gevent.spawn(stream.get)
        gevent.sleep(0)
        if number % 2:
            udp.send(b"data")
            gevent.sleep(0 if number % 3 else 0.001)
        waiting.kill()
        if isinstance(waiting.value, Packet):
            waiting.value.accept()
    turn()
    while stream.handle.stats().verdicts < 10:
        stream.get().accept()
    turn()
    assert stream.handle.stats().packets == 10
    assert len(udp.arrivals()) == 10


def test_closed_by_another_greenlet(stream: green.PacketStream) -> None:
    """Closing ends iteration, and a waiting get by a ClosedError; twice is as good as once."""
    iterating = gevent.spawn(list, stream)
    getting: list[gevent.Greenlet[..., Any]] = [
        gevent.spawn(stream.get),
        gevent.spawn(stream.get_batch),
    ]
    turn()
    stream.close()
    stream.close()
    assert iterating.get(timeout=TIMEOUT) == []
    for each in getting:
        each.join(timeout=TIMEOUT)
        assert isinstance(each.exception, nfq.ClosedError)
        assert "the stream is closed" in str(each.exception)
    assert stream.closed
    assert stream.handle.closed
    with pytest.raises(nfq.ClosedError, match=r"get\(\): the stream is closed"):
        stream.get()


@pytest.mark.parametrize("default", [nfq.NF_ACCEPT, nfq.NF_DROP])
def test_unfetched_packets(udp: UdpPair, nothing_left: None, default: nfq.Verdict) -> None:
    """Packets that nobody has fetched at the close get the default; a fetched one too."""
    with green.open_queue(1, default_verdict=default) as stream:
        udp.send(b"1", b"2", b"3")
        packet = stream.get()
        turn()
    assert udp.arrivals() == ([b"1", b"2", b"3"] if default else [])
    with pytest.raises(nfq.ClosedError, match="destroyed"):
        packet.accept()
    assert stream.handle.stats().defaulted == 3


def test_limit(udp: UdpPair, nothing_left: None) -> None:
    """At its limit a stream leaves packets in the kernel, and reads on below half of it."""
    with green.open_queue(1, limit=10) as stream:
        for _ in range(10):
            udp.send(*[b"data"] * 8)
            turn()
        held = stream.handle.stats().packets
        assert 10 <= held <= 10 + 64
        for _ in range(held - 5):
            stream.get().accept()
        turn()
        assert stream.handle.stats().packets == held
        for _ in range(80 - held + 5):
            stream.get().accept()
        turn()
    assert len(udp.arrivals()) == 80


def test_handle_closed_under_it(stream: green.PacketStream, udp: UdpPair) -> None:
    """A stream whose handle is closed, in any thread, is closed."""
    udp.send(b"data")
    turn()
    in_thread(stream.handle.close)
    assert list(stream) == []
    assert stream.closed


def test_opening_fails(handle: Handle, nothing_left: None) -> None:
    """If a queue can't be bound, the error is raised and nothing is left."""
    handle.create_queue(1, accept)
    stream = green.open_queue(1)
    with pytest.raises(PermissionError, match="bound by another handle"):
        stream.__enter__()
    assert stream.closed
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        green.open_queue(2, limit=0)
    with pytest.raises(ValueError, match="not open"):
        green.open_queue(2).get()


def test_other_namespace(nothing_left: None) -> None:
    """A stream can be opened in another network namespace."""
    other = Namespace()
    with green.open_queue(1, netns=other.path) as stream:
        with other:
            queue_rule(1)
            pair = UdpPair()
        with pair:
            pair.send(b"data")
            stream.get().accept()
            turn()
            assert pair.arrivals() == [b"data"]
    other.close()


@pytest.mark.parametrize("read", [green.PacketStream.get, green.PacketStream.__next__])
def test_slow_reader(
    stream: green.PacketStream,
    udp: UdpPair,
    clock: Clock,
    read: Callable[[green.PacketStream], Packet],
) -> None:
    """A verdict that is older than 1 ms is sent when the next packet is asked for."""
    udp.send(*[b"%d" % number for number in range(5)])
    for number in range(5):
        packet = read(stream)
        assert udp.arrivals() == ([b"%d" % (number - 1)] if number else [])
        packet.accept()
        clock.now += 0.0011


def test_quick_reader(stream: green.PacketStream, udp: UdpPair, clock: Clock) -> None:
    """Younger verdicts of one turn are sent together."""
    udp.send(*[b"data"] * 50)
    for _ in range(50):
        stream.get().accept()
        clock.now += 0.000_01
    assert stream.handle.stats().sends == 0
    turn()
    assert stream.handle.stats().sends == 1
    assert len(udp.arrivals()) == 50


def test_readers_take_turns(
    stream: green.PacketStream, udp: UdpPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet wakes one reader, the one that has waited longest, however many there are."""
    woken: list[gevent.event.Event] = []
    readings: list[int] = []

    class Event(gevent.event.Event):
        def set(self) -> None:
            woken.append(self)
            super().set()

    def read(reader: int) -> None:
        stream.get().accept()
        readings.append(reader)

    monkeypatch.setattr(gevent.event, "Event", Event)
    readers = [gevent.spawn(read, number) for number in range(100)]
    turn()
    for count in range(1, 51):
        udp.send(b"data")
        eventually(lambda: len(readings) == count)  # noqa: B023
    assert readings == list(range(50))
    assert len(woken) == 50
    udp.send(*[b"data"] * 50)
    gevent.joinall(readers, timeout=TIMEOUT, raise_error=True)
    assert readings == list(range(100))


def test_killed_reader_passes_on(
    stream: green.PacketStream, udp: UdpPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is killed when it has been woken leaves the packet to the next one."""
    first = gevent.spawn(stream.get)
    second = gevent.spawn(stream.get)
    turn()
    wake = stream._wake

    def kill_and_wake() -> None:
        first.kill(block=False)  # which comes first
        wake()

    monkeypatch.setattr(stream, "_wake", kill_and_wake)
    udp.send(b"data")
    second.get(timeout=TIMEOUT).accept()
    assert isinstance(first.value, gevent.GreenletExit)


ACTS: dict[str, Callable[[green.PacketStream], object]] = {
    "close": lambda stream: stream.close(),
    "close-handle": lambda stream: stream.handle.close(),
    "stop": lambda stream: stream.stop(),
}


def interrupt_soon() -> None:
    """Sends a signal to the main thread when its hub waits; nothing else wakes that."""
    sleep = gevent.monkey.get_original("time", "sleep")
    main = gevent.get_hub().thread_ident

    def interrupt() -> None:
        sleep(0.02)
        signal.pthread_kill(main, signal.SIGUSR1)

    gevent.monkey.get_original("_thread", "start_new_thread")(interrupt, ())


@pytest.mark.parametrize("act", ACTS)
def test_ended_by_a_signal_handler(stream: green.PacketStream, act: str) -> None:
    """A handler of signal.signal's ends iteration and get() at once, and wakes the hub."""
    getting = gevent.spawn(stream.get)
    signal.signal(signal.SIGUSR1, lambda *_: ACTS[act](stream))
    began = time.monotonic()
    try:
        interrupt_soon()
        with gevent.Timeout(TIMEOUT):
            assert list(stream) == []
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert time.monotonic() - began < TIMEOUT / 2
    assert stream.closed == (act != "stop")
    with pytest.raises(nfq.ClosedError, match="stopped" if act == "stop" else "closed"):
        getting.get(timeout=TIMEOUT)


@pytest.mark.parametrize("act", ACTS)
def test_ended_by_another_thread(stream: green.PacketStream, act: str) -> None:
    """Another thread ends iteration and get() at once, and wakes the hub."""
    reading = gevent.spawn(list, stream)
    turn()
    in_thread(lambda: ACTS[act](stream))
    assert reading.get(timeout=TIMEOUT) == []
    assert stream.closed == (act != "stop")


def test_used_by_another_thread(stream: green.PacketStream, handle: Handle) -> None:
    """Calls that another thread must not make raise RuntimeError."""
    with green.attach(handle) as attachment:
        calls: list[Callable[[], object]] = [
            *(stream.pause, stream.resume),
            *(stream.get, stream.get_batch, stream.get_nowait, stream.__iter__),
            *(attachment.pause, attachment.resume, attachment.detach),
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="another thread"):
                in_thread(call)


@pytest.mark.parametrize("aside", [False, True])
def test_stop(stream: green.PacketStream, udp: UdpPair, aside: bool) -> None:
    """What has been read is handed out, the rest stays in the kernel; then iteration ends."""
    udp.send(b"1", b"2", b"3")
    if aside:
        stream.queue.set_maxlen(100)  # which finds them before its answer
    else:
        turn()
    stream.stop()
    stream.stop()
    udp.send(b"4")
    turn()
    for packet in stream:
        packet.accept()
    turn()
    assert udp.arrivals() == [b"1", b"2", b"3"]
    assert not stream.closed
    assert stream.handle.stats().defaulted == 0
    for call in (stream.get, stream.get_batch, stream.get_nowait):
        with pytest.raises(nfq.ClosedError, match="the stream is stopped"):
            call()


def test_get_nowait(stream: green.PacketStream, udp: UdpPair) -> None:
    """get_nowait and qsize are those of gevent's queues."""
    with pytest.raises(gevent.queue.Empty):
        stream.get_nowait()
    udp.send(b"1", b"2")
    eventually(lambda: stream.qsize() == 2)
    assert [data_of(stream.get_nowait()), data_of(stream.get_nowait())] == [b"1", b"2"]
    assert stream.qsize() == 0
    stream.close()
    with pytest.raises(nfq.ClosedError, match=r"get_nowait\(\): the stream is closed"):
        stream.get_nowait()


def test_pause_a_stream(stream: green.PacketStream, udp: UdpPair) -> None:
    """While a stream is paused packets wait in the kernel."""
    stream.pause()
    udp.send(b"1")
    turn()
    assert stream.qsize() == 0
    stream.resume()
    stream.get().accept()
    turn()
    assert udp.arrivals() == [b"1"]


# Handlers


def serving(
    stream: green.PacketStream, handler: Callable[[Packet], object], **options: Any
) -> "gevent.Greenlet[..., None]":
    """A greenlet that serves the stream."""
    server = gevent.spawn(green.serve, stream, handler, **options)
    gevent.sleep(0)
    return server


def test_serve(stream: green.PacketStream, udp: UdpPair) -> None:
    """Handlers run side by side; each gives its own packet a verdict."""

    done = {number: gevent.event.Event() for number in (1, 2, 3, 4, 5)}
    done[5].set()

    def handler(packet: Packet) -> None:
        done[packet.id + 1].wait()
        packet.accept()
        done[packet.id].set()

    server = serving(stream, handler)
    udp.send(b"1", b"2", b"3", b"4")
    eventually(lambda: stream.handle.stats().verdicts == 4)
    turn()
    assert udp.arrivals() == [b"4", b"3", b"2", b"1"]
    stream.close()
    server.get(timeout=TIMEOUT)


def test_concurrency(stream: green.PacketStream, udp: UdpPair) -> None:
    """No more handlers run at a time than was asked for; the others' packets wait."""
    running = most = 0

    def handler(packet: Packet) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        gevent.sleep(0.001)
        running -= 1
        packet.accept()

    server = serving(stream, handler, concurrency=3)
    udp.send(*[b"data"] * 20)
    eventually(lambda: stream.handle.stats().verdicts == 20)
    assert most == 3
    stream.close()
    server.get(timeout=TIMEOUT)
    with pytest.raises(ValueError, match="concurrency must be at least 1, not 0"):
        green.serve(stream, handler, concurrency=0)


def test_handler_without_a_verdict(udp: UdpPair, errors: list[BaseException]) -> None:
    """A handler without a verdict ends, or raises: the packet gets the default at once."""
    kept: list[Packet] = []

    def handler(packet: Packet) -> None:
        kept.append(packet)
        if packet.id == 2:
            raise KeyError(packet.id)
        if packet.id == 3:
            packet.drop()
            raise KeyError(packet.id)

    with green.open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        server = serving(stream, handler)
        udp.send(b"1", b"2", b"3")
        eventually(lambda: stream.handle.stats().verdicts == 3)
        turn()
        assert udp.arrivals() == [b"1", b"2"]
        assert [packet.verdict for packet in kept] == [nfq.NF_ACCEPT, nfq.NF_ACCEPT, nfq.NF_DROP]
    server.get(timeout=TIMEOUT)
    assert [error.args for error in errors] == [(2,), (3,)]


@pytest.mark.parametrize("turns", range(6))
def test_serve_is_killed(udp: UdpPair, nothing_left: None, turns: int) -> None:
    """When serve is killed, so are its handlers, and their packets get the default."""

    def handler(packet: Packet) -> None:
        gevent.sleep(TIMEOUT)
        packet.drop()

    with green.open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        server = serving(stream, handler, concurrency=2)
        udp.send(b"1", b"2", b"3", b"4")
        for _ in range(turns):
            gevent.sleep(0)
        server.kill()
        assert not stream.closed
        turn()
        for _ in range(4 - stream.handle.stats().verdicts):
            stream.get().accept()
        turn()
        assert len(udp.arrivals()) == 4


@pytest.mark.parametrize("packets", [1, 2, 5])
def test_full_serve_ends_with_the_stream(
    stream: green.PacketStream, udp: UdpPair, packets: int
) -> None:
    """serve returns with the stream also while as many handlers run as may."""
    started: list[int] = []

    def handler(packet: Packet) -> None:
        started.append(packet.id)
        gevent.sleep(TIMEOUT)

    server = serving(stream, handler, concurrency=2)
    udp.send(*[b"data"] * packets)
    eventually(lambda: len(started) == min(packets, 2))
    turn()
    stream.close()
    server.get(timeout=TIMEOUT / 2)


def test_serve_fetches_no_more_than_it_runs(udp: UdpPair, nothing_left: None) -> None:
    """With as many handlers as may run the others' packets are in the stream, for whoever reads."""
    started: list[int] = []

    def handler(packet: Packet) -> None:
        started.append(packet.id)
        gevent.sleep(TIMEOUT)

    with green.open_queue(1, default_verdict=nfq.NF_ACCEPT) as stream:
        udp.send(b"1", b"2")
        server = serving(stream, handler, concurrency=1)
        eventually(lambda: started == [1])
        server.kill()
        turn()
        assert udp.arrivals() == [b"1"]
        stream.get().accept()
        turn()
        assert udp.arrivals() == [b"2"]


def test_serve_ends_with_the_stream(stream: green.PacketStream, udp: UdpPair) -> None:
    """serve returns when the stream is closed, and handlers that run are killed."""
    started: list[int] = []
    ended: list[int] = []

    def handler(packet: Packet) -> None:
        started.append(packet.id)
        with contextlib.ExitStack() as stack:
            stack.callback(ended.append, packet.id)
            gevent.sleep(TIMEOUT)

    server = serving(stream, handler)
    udp.send(b"1", b"2")
    eventually(lambda: len(started) == 2)
    stream.close()
    server.get(timeout=TIMEOUT)
    assert sorted(ended) == [1, 2]
    assert udp.arrivals() == []


def test_idle_handlers(stream: green.PacketStream, udp: UdpPair) -> None:
    """After many at a time few greenlets wait for the next packet, which wakes them all."""
    before = len(greenlets())

    def handler(packet: Packet) -> None:
        gevent.sleep(0.001)
        packet.accept()

    serving(stream, handler)
    udp.send(*[b"data"] * 50)
    eventually(lambda: stream.handle.stats().verdicts == 50)
    turn()
    assert len(greenlets()) - before <= 5


def test_waiting_handlers_are_killed(stream: green.PacketStream, udp: UdpPair) -> None:
    """Others take the place of greenlets that somebody kills while they wait for a packet."""
    serve = serving(stream, Packet.accept)
    for count in range(1, 4):
        udp.send(b"data")
        eventually(lambda: stream.handle.stats().verdicts == count)  # noqa: B023
        turn()
        others = [each for each in greenlets() if isinstance(each, gevent.Greenlet)]
        gevent.killall([each for each in others if each is not serve])
    assert not serve.dead


def test_slow_handlers(stream: green.PacketStream, udp: UdpPair, clock: Clock) -> None:
    """A verdict that is older than 1 ms is sent before the next handler runs."""
    arrived: list[int] = []

    def handler(packet: Packet) -> None:
        gevent.sleep(0)
        arrived.append(len(udp.arrivals()))
        packet.accept()
        clock.now += 0.0011

    serving(stream, handler)
    udp.send(*[b"data"] * 5)
    eventually(lambda: len(arrived) == 5)
    turn()
    assert arrived == [0, 1, 1, 1, 1]


def handled(stream: green.PacketStream, udp: UdpPair, count: int) -> None:
    """Sends a datagram and waits until so many packets have a verdict."""
    udp.send(b"data")
    eventually(lambda: stream.handle.stats().verdicts == count)


@pytest.mark.parametrize("waits", [False, True])
def test_contexts(stream: green.PacketStream, udp: UdpPair, waits: bool) -> None:
    """Each handler has a copy of the context that serve was called in."""
    variable: ContextVar[str] = ContextVar("variable", default="default")
    seen: list[str] = []

    def handler(packet: Packet) -> None:
        seen.append(variable.get())
        variable.set(f"of packet {packet.id}")
        if waits:
            gevent.sleep(0)
        assert variable.get() == f"of packet {packet.id}"
        packet.accept()

    def serve() -> None:
        variable.set("of serve")
        green.serve(stream, handler)

    gevent.spawn(serve)
    for count in range(1, 5):
        handled(stream, udp, count)
    assert seen == ["of serve"] * 4


@pytest.mark.parametrize("waits", [False, True])
def test_left_timeout(
    stream: green.PacketStream, udp: UdpPair, errors: list[BaseException], waits: bool
) -> None:
    """A gevent.Timeout that a handler has left running reaches no handler after it."""
    outcomes: list[str] = []

    def handler(packet: Packet) -> None:
        if packet.id % 2:
            gevent.Timeout.start_new(0.01)
            if waits:
                gevent.sleep(0)
        else:
            gevent.sleep(0.05)
        packet.accept()
        outcomes.append("accepted")

    serving(stream, handler, concurrency=1)
    udp.send(*[b"data"] * 6)
    eventually(lambda: stream.handle.stats().verdicts == 6)
    assert outcomes == ["accepted"] * 6
    assert errors == []


@pytest.mark.parametrize("waits", [False, True])
def test_greenlet_locals(
    stream: green.PacketStream, udp: UdpPair, errors: list[BaseException], waits: bool
) -> None:
    """What a handler keeps in its greenlet, no handler after it finds."""
    local = gevent.local.local()
    seen: list[object] = []

    def handler(packet: Packet) -> None:
        current: Any = gevent.getcurrent()
        seen.append((getattr(local, "colour", None), getattr(current, "colour", None)))
        if packet.id % 2:
            local.colour = packet.id
        else:
            current.colour = packet.id
        if waits:
            gevent.sleep(0)
        packet.accept()

    serving(stream, handler, concurrency=1)
    udp.send(*[b"data"] * 6)
    eventually(lambda: stream.handle.stats().verdicts == 6)
    assert seen == [(None, None)] * 6
    assert errors == []


@pytest.mark.parametrize("waits", [False, True])
def test_left_link(
    stream: green.PacketStream, udp: UdpPair, errors: list[BaseException], waits: bool
) -> None:
    """What a handler has linked to its greenlet's end hears of that with the handler's."""
    ended: list[int] = []
    handled: list[int] = []

    def handler(packet: Packet) -> None:
        if packet.id == 3:  # its greenlet has had others before
            current: Any = gevent.getcurrent()
            current.link(lambda _: ended.extend(handled))
            del current
        if waits:
            gevent.sleep(0)
        packet.accept()
        handled.append(packet.id)

    serving(stream, handler, concurrency=1)
    udp.send(*[b"data"] * 6)
    eventually(lambda: stream.handle.stats().verdicts == 6)
    assert ended == [1, 2, 3]
    assert errors == []


@pytest.mark.parametrize("waits", [False, True])
def test_greenlets_are_used_again(stream: green.PacketStream, udp: UdpPair, waits: bool) -> None:
    """Handlers that leave nothing behind share their greenlets."""
    used: set[int] = set()
    kept: list[object] = []

    def handler(packet: Packet) -> None:
        current = weakref.ref(gevent.getcurrent())
        used.add(id(current()))
        del current
        if waits:
            with gevent.Timeout(TIMEOUT):
                gevent.sleep(0)
        packet.accept()

    serving(stream, handler)
    for count in range(1, 31):
        handled(stream, udp, count)
    assert len(used) <= 5
    assert kept == []


@pytest.mark.parametrize("end", ["return", "close", "kill"])
def test_stopped_serve(udp: UdpPair, nothing_left: None, end: str) -> None:
    """After stop() handlers end as they like, and what was read is handled; then serve returns."""
    release = gevent.event.Event()
    ended: list[str] = []

    def handler(packet: Packet) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(ended.append, "killed")
            release.wait()
            stack.pop_all()
        packet.accept()
        ended.append("accepted")

    with green.open_queue(1) as stream:
        server = serving(stream, handler, concurrency=2)
        udp.send(b"1", b"2", b"3")
        eventually(lambda: stream.qsize() == 1)
        stream.stop()
        turn()
        assert not server.dead
        if end == "return":
            release.set()
        else:
            server.kill(block=False) if end == "kill" else stream.close()
        server.join(timeout=TIMEOUT)
        assert server.dead
        turn()
        assert sorted(udp.arrivals()) == ([b"1", b"2", b"3"] if end == "return" else [])
    assert ended == (["accepted"] * 3 if end == "return" else ["killed"] * 2)


@pytest.mark.parametrize("end", ["close", "kill"])
def test_handlers_clean_up(
    stream: green.PacketStream, udp: UdpPair, errors: list[BaseException], end: str
) -> None:
    """However often serve is killed, its handlers are once, and it waits for them."""
    states: list[str] = []

    def handler(packet: Packet) -> None:
        try:
            states.append("begun")
            gevent.sleep(TIMEOUT)
        finally:
            gevent.sleep(0.01)
            states.append("cleaned up")

    server = serving(stream, handler)
    udp.send(b"1", b"2")
    eventually(lambda: len(states) == 2)
    stream.close() if end == "close" else server.kill(block=False)
    for _ in range(3):
        gevent.sleep(0.001)
        server.kill(block=False)
    server.join(timeout=TIMEOUT)
    assert states == ["begun"] * 2 + ["cleaned up"] * 2
    assert errors == []


@pytest.mark.parametrize("turns", range(4))
def test_none_begins_after_the_close(
    stream: green.PacketStream, udp: UdpPair, errors: list[BaseException], turns: int
) -> None:
    """Once the stream is closed no handler begins, and nothing is reported."""
    late: list[int] = []

    def handler(packet: Packet) -> None:
        if stream.closed:
            late.append(packet.id)
        for _ in range(packet.id % 3):
            gevent.sleep(0)
        packet.accept()

    server = serving(stream, handler)
    udp.send(*[b"data"] * 60)
    for _ in range(turns):
        gevent.sleep(0)
    stream.close()
    server.get(timeout=TIMEOUT)
    turn()
    assert late == []
    assert errors == []


class OwnError(BaseException):
    """No Exception."""


@pytest.mark.parametrize("error", [KeyError, OwnError, gevent.Timeout])
def test_exceptions_of_handlers(
    stream: green.PacketStream,
    udp: UdpPair,
    errors: list[BaseException],
    error: type[BaseException],
) -> None:
    """The hub's handler gets each exception, whatever it is, and serve goes on."""

    def handler(packet: Packet) -> None:
        if packet.id == 1:
            raise error
        packet.accept()

    server = serving(stream, handler)
    handled(stream, udp, 1)
    handled(stream, udp, 2)
    assert [type(each) for each in errors] == [error]
    assert not server.dead


async def coroutine_function(_packet: Packet) -> None:
    """No handler for greenlets."""


def test_handler_that_is_none(stream: green.PacketStream) -> None:
    """A handler that can't be called, or only makes a coroutine, is a TypeError at the call."""
    handlers: list[Any] = [1, coroutine_function, functools.partial(coroutine_function)]
    for handler in handlers:
        with pytest.raises(TypeError, match=r"serve\(\): handler must"):
            green.serve(stream, handler)
