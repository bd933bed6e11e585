# SPDX-License-Identifier: GPL-2.0-or-later
"""process(): what it reads, how long it waits, what ends its waiting, and what it counts."""

import _thread
import contextlib
import functools
import itertools
import os
import random
import signal
import socket
import sys
import threading
import time
from types import FrameType

import pytest
from netns import TIMEOUT, UdpPair, background, queue_rule
from played_kernel import PlayedKernel, error_message, message, packet_message
from queues import Handle, Packet, accept, accepting, data_of, netlink_socket, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET


# Counts


def test_returns_the_number_of_packets(handle: Handle, udp: UdpPair) -> None:
    """process reads what waits and returns the number of packets; 0 is none."""
    handle.create_queue(1, accept, mode=COPY)
    assert handle.process() == 0
    udp.send(b"1")
    assert handle.process() == 1
    udp.send(b"2", b"3", b"4")
    assert handle.process() == 3
    assert handle.process() == 0
    assert udp.arrivals() == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("most", [1, 2, 3, 64])
def test_max_packets(handle: Handle, udp: UdpPair, most: int) -> None:
    """process dispatches at most max_packets; the rest waits for the next call."""
    seen: list[bytes] = []
    callback = accepting(seen)
    handle.create_queue(1, callback, mode=COPY)
    data = [str(number).encode() for number in range(7)]
    udp.send(*data)
    counts = []
    while count := handle.process(max_packets=most):
        counts.append(count)
    assert max(counts) <= most
    assert (sum(counts), seen) == (7, data)
    assert udp.arrivals() == data


def test_default_is_64(handle: Handle, udp: UdpPair) -> None:
    """By default 64 packets are the most, and timeout 0 doesn't wait."""
    handle.create_queue(1, accept, mode=COPY)
    for number in range(100):
        udp.send(b"%d" % number)
    assert handle.process() == 64
    assert handle.process() == 36


def test_statistics(handle: Handle, udp: UdpPair) -> None:
    """The counters count what happened since open."""
    assert tuple(handle.stats()) == (0,) * 9
    handle.create_queue(1, accept, mode=COPY)
    before = handle.stats()
    assert (before.packets, before.verdicts, before.sends, before.defaulted) == (0, 0, 0, 0)
    udp.send(b"1", b"2", b"3")
    handle.process()
    after = handle.stats()
    assert (after.packets, after.verdicts) == (3, 3)
    assert 1 <= after.sends <= 3
    assert after.receives > before.receives
    names = "packets verdicts sends receives overruns truncated orphaned verdict_errors defaulted"
    assert tuple(getattr(after, name) for name in names.split()) == after
    assert isinstance(after, nfq.HandleStats)


# Waiting


def test_timeout(handle: Handle) -> None:
    """Without a packet process returns 0 once the time is over, and not earlier."""
    for timeout in (0, 0.0, 0.05, 0.2):
        start = time.monotonic()
        assert handle.process(timeout=timeout) == 0
        assert timeout <= time.monotonic() - start < timeout + 20  # it is not in milliseconds


def test_waits_for_a_packet(handle: Handle, udp: UdpPair) -> None:
    """A packet that another thread sends ends the wait, which lets that thread run."""
    handle.create_queue(1, accept, mode=COPY)
    for timeout in (None, TIMEOUT, 3):
        ready = threading.Event()

        def send(ready: threading.Event = ready) -> None:
            assert ready.wait(TIMEOUT)
            udp.send(b"data")

        sent = background(send)
        ready.set()
        assert handle.process(timeout=timeout) == 1
        sent.result(TIMEOUT)
        assert udp.arrivals() == [b"data"]


class InterruptError(Exception):
    """What the signal handler raises."""


def signal_until_called(calls: list[int], count: int = 1) -> None:
    """Sends signals to the main thread until their handler has been called as often as that.

    One that comes when the wait is about to begin does not end it.
    """
    end = time.monotonic() + TIMEOUT
    while len(calls) < count and time.monotonic() < end:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.01)


@pytest.mark.parametrize("restarts", [False, True])
def test_signal_handler_raises(handle: Handle, restarts: bool) -> None:
    """An exception of a signal handler ends the wait, whether or not it restarts system calls."""
    calls: list[int] = []
    begin = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if not calls:
            calls.append(number)
            raise InterruptError

    def wait() -> None:
        begin.set()
        handle.process(timeout=None)

    def signal_once() -> None:
        begin.wait(TIMEOUT)
        signal_until_called(calls)

    old = signal.signal(signal.SIGUSR1, handler)
    signal.siginterrupt(signal.SIGUSR1, not restarts)
    try:
        signalling = background(signal_once)
        with pytest.raises(InterruptError):
            wait()
        signalling.result(TIMEOUT)
    finally:
        signal.signal(signal.SIGUSR1, old)


class Late:
    """A number of seconds; a signal comes when C code asks for it, as just before a wait."""

    _seconds = itertools.chain(
        itertools.starmap(_thread.interrupt_main, [(signal.SIGUSR1,)]), [TIMEOUT]
    )
    __float__ = staticmethod(functools.partial(next, filter(None, _seconds)))


def test_signal_before_the_wait(handle: Handle) -> None:
    """The handler of a signal that came just before the wait runs before it."""

    def handler(_signum: int, _frame: FrameType | None) -> None:
        raise InterruptError

    began = time.monotonic()
    old = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(InterruptError):
            handle.process(timeout=Late())
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert time.monotonic() - began < TIMEOUT / 2


def test_signal_handler_returns(handle: Handle, udp: UdpPair) -> None:
    """A signal handler that returns doesn't end the wait, but the packet that it sent does."""
    calls: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        calls.append(number)
        if len(calls) == 4:
            udp.send(b"data")

    def signal_often() -> None:
        for count in range(1, 5):
            signal_until_called(calls, count)

    handle.create_queue(1, accept, mode=COPY)
    old = signal.signal(signal.SIGUSR1, handler)
    try:
        signalling = background(signal_often)
        assert handle.process(timeout=None) == 1
        signalling.result(TIMEOUT)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert len(calls) >= 4


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_closed_by_another_thread(timeout: float | None) -> None:
    """Closing wakes a thread that waits, with ValueError."""
    for _ in range(20):
        handle = nfq.open()
        handle.create_queue(1, accept)
        waiting = background(handle.process, timeout=timeout)
        handle.close()
        with pytest.raises(ValueError, match="closed"):
            waiting.result(TIMEOUT / 2)


def test_several_waiters_are_woken() -> None:
    """Closing wakes all threads that wait."""
    handle = nfq.open()
    waiting = [background(handle.process, timeout=None) for _ in range(4)]
    handle.close()
    for waiter in waiting:
        with pytest.raises(ValueError, match="closed"):
            waiter.result(TIMEOUT)


# What comes in


@pytest.mark.parametrize("blocking", [True, False])
def test_blocking_mode_does_not_matter(handle: Handle, udp: UdpPair, blocking: bool) -> None:
    """process waits as its timeout says, whatever the descriptor's mode; and leaves the mode so."""
    os.set_blocking(handle.fd(), blocking)
    handle.create_queue(1, accept, mode=COPY)
    assert handle.process(timeout=0) == 0
    assert handle.process(timeout=0.01) == 0
    udp.send(b"data")
    assert handle.process(timeout=None) == 1
    assert os.get_blocking(handle.fd()) == blocking
    assert udp.arrivals() == [b"data"]


def test_refused_verdicts_are_no_packets(handle: Handle, udp: UdpPair) -> None:
    """The kernel's refusals of verdicts are counted; they neither end a wait nor are packets."""
    handle.create_queue(1, accept, mode=COPY)
    udp.send(b"data")
    with netlink_socket(handle) as sock:
        message = sock.recv(4096)
    assert handle.handle_packet(message) == 1
    assert handle.handle_packet(message) == 1  # the kernel has no such packet any more
    start = time.monotonic()
    assert handle.process(timeout=0.05) == 0
    assert time.monotonic() - start >= 0.05
    assert handle.stats().verdict_errors == 1
    assert udp.arrivals() == [b"data"]


def test_other_messages_are_no_packets() -> None:
    """Messages that are not packets don't count."""
    seen: list[int] = []
    with PlayedKernel() as kernel:
        kernel.create_queue(1, lambda packet: seen.append(packet.id))
        kernel.socket.send(error_message(0, message(0x302, bytes(4), sequence=4711)))
        kernel.socket.send(message(1))
        assert kernel.handle.process(timeout=0.01) == 0
        kernel.socket.send(packet_message(7))
        assert kernel.handle.process(timeout=None) == 1
    assert seen == [7]


@pytest.mark.parametrize(
    ("family", "size"), [(socket.AF_INET, 65507), (socket.AF_INET6, 65536 - 48)]
)
def test_largest_packets(handle: Handle, family: int, size: int) -> None:
    """The largest packets come through; the kernel's own limit cuts their last bytes off."""
    queue_rule(1, family=family)
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    header = 28 if family == socket.AF_INET else 48
    data = [random.Random(number).randbytes(size) for number in range(3)]
    with UdpPair(family) as pair:
        for sent in data:
            pair.send(sent)
            process_until(handle, lambda: packets)
            packet = packets.pop()
            assert packet.original_length == size + header
            assert len(packet.payload) == 65531
            assert packet.truncated
            assert sent.startswith(packet.get_payload()[header:])
            packet.accept()
            assert pair.recv() == sent
    assert handle.stats().truncated == 3


def test_just_not_truncated(handle: Handle, udp: UdpPair) -> None:
    """A packet of 65,531 bytes is whole."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    data = random.Random(0).randbytes(65531 - 28)
    udp.send(data)
    handle.process(timeout=None)
    assert data_of(packets[0]) == data
    assert not packets[0].truncated
    packets[0].accept()
    assert udp.arrivals() == [data]


def test_overrun(handle: Handle) -> None:
    """A full receive buffer is counted, and processing goes on with what is there."""
    queue_rule(1, chain="PREROUTING")
    seen: list[bytes] = []
    callback = accepting(seen)
    handle.create_queue(1, callback, mode=COPY)
    with netlink_socket(handle) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    with UdpPair() as udp:
        sent = [b"%04d" % number * 200 for number in range(100)]
        udp.send(*sent)
        while handle.process(timeout=0.01):
            pass
        assert handle.stats().overruns >= 1
        assert 0 < len(seen) < 100
        assert seen == sent[: len(seen)]
        udp.send(b"after")
        process_until(handle, lambda: seen[-1] == b"after")
        assert udp.arrivals() == seen
    assert handle.stats().verdict_errors == 0


def test_overrun_of_own_recv(handle: Handle) -> None:
    """A loop of one's own sees the overrun as ENOBUFS from its own recv, as in the seed."""
    queue_rule(1, chain="PREROUTING")
    handle.create_queue(1, accept, mode=COPY)
    with netlink_socket(handle) as sock, UdpPair() as udp:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        udp.send(*[bytes(800)] * 100)
        with pytest.raises(OSError, match="No buffer space"):
            sock.recv(4096)
        assert handle.handle_packet(sock.recv(4096)) == 1
    assert handle.stats().overruns == 0


# Threads


def test_two_handles_in_two_threads(udp: UdpPair) -> None:
    """Each handle has its own packets; they can be processed in parallel."""
    queue_rule(2, "-p udp --sport 9997")

    def serve(handle: Handle, count: int) -> int:
        return sum(handle.process(timeout=TIMEOUT) for _ in range(count))

    with nfq.open() as first, nfq.open() as second:
        first.create_queue(1, accept, mode=COPY)
        second.create_queue(2, accept, mode=COPY)
        served = [background(serve, handle, 1) for handle in (first, second)]
        udp.send(b"1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 9997))
            sock.sendto(b"2", ("127.0.0.1", 9999))
        assert [future.result(TIMEOUT) for future in served] == [1, 1]
    assert sorted(udp.arrivals()) == [b"1", b"2"]


def test_one_handle_in_several_threads(handle: Handle) -> None:
    """Several threads may process one handle: each packet is dispatched once."""
    queue_rule(1, chain="PREROUTING")
    seen: list[bytes] = []
    all_seen = threading.Event()

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        packet.accept()
        if len(seen) == 300:
            all_seen.set()

    def serve() -> int:
        count = 0
        while not all_seen.is_set():
            count += handle.process(max_packets=4, timeout=0.01)
        return count

    handle.create_queue(1, callback, mode=COPY)
    serving = [background(serve) for _ in range(4)]
    sent = [b"%d" % number for number in range(300)]
    with UdpPair() as udp:
        for first in range(0, 300, 20):
            udp.send(*sent[first : first + 20])
            assert sorted(udp.recv() for _ in range(20)) == sorted(sent[first : first + 20])
        assert sum(future.result(TIMEOUT) for future in serving) == 300
        assert sorted(seen) == sorted(sent)


def test_set_aside_behind_orphans(handle: Handle, udp: UdpPair) -> None:
    """A packet set aside behind more than a batch of orphans is dispatched all the same."""
    queue_rule(2, "-p udp --dport 7777")
    queue = handle.create_queue(1, accept, mode=COPY)
    seen: list[int] = []
    handle.create_queue(2, lambda packet: seen.append(packet.id), mode=COPY)
    udp.send(*[b"old"] * 70)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"data", ("127.0.0.1", 7777))
    queue.destroy()
    assert handle.process() == 1
    assert seen == [1]


def test_adopting_a_stream() -> None:
    """Only sockets that keep datagrams apart can be adopted."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs, pytest.raises(ValueError, match=r"open\(\): fd \d+ is not a datagram"):
        nfq.open(fd=ours)


def test_the_end_of_a_pair() -> None:
    """If the other end of a pair is seen to close, reading and sending raise an error."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, nfq.open(fd=ours) as handle:
        theirs.close()
        for timeout in (0, 0.01, None):
            with pytest.raises(
                ConnectionResetError, match="the other end of the descriptor is closed"
            ):
                handle.process(timeout=timeout)
        with pytest.raises(ConnectionError):
            handle.create_queue(1, accept)
        with pytest.raises(ConnectionError):
            handle.rcvbuf = 4096


@pytest.mark.parametrize("most", [1, 64])
@pytest.mark.parametrize("closed", [False, True])
def test_an_empty_datagram(most: int, closed: bool) -> None:
    """An empty datagram is not taken for the end: what stands behind it is dispatched."""
    seen: list[int] = []
    kernel = PlayedKernel(socket.SOCK_SEQPACKET)
    kernel.create_queue(1, lambda packet: seen.append(packet.id))
    kernel.socket.send(b"")
    kernel.socket.send(packet_message(1))
    if closed:
        kernel.socket.close()
        with pytest.raises(BrokenPipeError):  # the verdict has nowhere to go
            kernel.handle.process(most, TIMEOUT)
        kernel.handle.close()
    else:
        assert kernel.handle.process(most, TIMEOUT) == 1
        kernel.close()
    assert seen == [1]


def test_a_full_pair() -> None:
    """Where the other end reads all, a full pair is waited for."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2304)
    sizes = []

    def read() -> None:
        while said := theirs.recv(100):
            sizes.append(int.from_bytes(said[16:20], sys.byteorder))

    reading = background(read)
    with ours, nfq.open(fd=ours) as handle:
        for size in range(2000, 2100):
            handle.rcvbuf = size
            assert handle.rcvbuf == 2 * size
        ours.close()
    reading.result(TIMEOUT)
    theirs.close()
    assert sizes == [*range(4000, 4200, 2)]


# Many at once


def test_more_than_a_batch(handle: Handle) -> None:
    """More packets than one system call reads are read by several, in order."""
    queue_rule(1, chain="PREROUTING")
    seen: list[bytes] = []
    callback = accepting(seen)
    handle.create_queue(1, callback, mode=COPY)
    sent = [b"%d" % number for number in range(200)]
    with UdpPair() as udp:
        udp.send(*sent)
        before = handle.stats().receives
        assert handle.process(max_packets=150) == 150
        assert handle.stats().receives - before == 3
        assert handle.process(max_packets=1000) == 50
        assert udp.arrivals() == seen == sent


def test_refusals_do_not_end_a_wait(handle: Handle, udp: UdpPair) -> None:
    """A wait goes on while only refusals come, more than a batch of them, until a packet does."""
    handle.create_queue(1, accept, mode=COPY)
    udp.send(b"1")
    with netlink_socket(handle) as sock:
        message = sock.recv(4096)

    def refuse_then_send() -> None:
        for count in range(100):
            handle.handle_packet(message)  # all but the first are refused
            end = time.monotonic() + TIMEOUT
            while handle.stats().verdict_errors < count and time.monotonic() < end:
                time.sleep(0.0001)
        udp.send(b"2")

    sending = background(refuse_then_send)
    assert handle.process(timeout=None) == 1
    sending.result(TIMEOUT)
    assert handle.stats().verdict_errors == 99
    assert udp.arrivals() == [b"1", b"2"]


def test_overruns_do_not_end_a_wait(handle: Handle) -> None:
    """Lost messages end no wait: each overrun is counted once, and what came is dispatched."""
    queue_rule(1, chain="PREROUTING")
    handle.create_queue(1, accept, rcvbuf=100_000)
    with UdpPair() as udp:
        for overruns in (1, 2, 3):
            udp.send(*[bytes(30_000)] * 50)
            count = handle.process(timeout=None)
            assert 0 < count < 50
            assert handle.stats().overruns == overruns
            assert len(udp.arrivals()) == count
            assert handle.process() == 0


def flood(end: float) -> None:
    """Sends until then, more than anybody can read."""
    data = bytes(1400)
    with UdpPair() as udp:
        while time.monotonic() < end:
            for _ in range(1000):
                udp.sender.send(data)


def drop_until_closed(handle: Handle, timeout: float | None) -> None:
    with contextlib.suppress(nfq.ClosedError):
        while True:
            handle.process(timeout=timeout)


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [None, 0.05])
def test_goes_on_after_overruns(handle: Handle, timeout: float | None) -> None:
    """A buffer that overruns again and again takes messages again.

    It does not if an overrun that came within a system call that receives is the last that is heard
    of: one of some hundred thousand.
    """
    queue_rule(1)
    handle.create_queue(1, Packet.drop, mode=COPY, rcvbuf=2304)
    reading = background(drop_until_closed, handle, timeout)
    child = os.fork()
    if child == 0:
        flood(time.monotonic() + 5)
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    before = handle.stats()
    assert before.overruns > 0
    end = time.monotonic() + TIMEOUT
    with UdpPair() as udp:
        while handle.stats().packets <= before.packets + 10:
            assert time.monotonic() < end, "nothing comes any more"
            udp.send(b"after")
            time.sleep(0.001)
    handle.close()
    reading.result(TIMEOUT)


# Short waits


@pytest.mark.parametrize("timeout", [5e-324, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7])
def test_timeout_below_the_clocks_grain(handle: Handle, udp: UdpPair, timeout: float) -> None:
    """With the shortest timeout what is there already is read."""
    handle.create_queue(1, accept)
    assert handle.process(timeout=0.001) == 0  # so that the next one would wait first
    udp.send(b"1", b"2")
    assert handle.process(timeout=timeout) == 2
    assert udp.arrivals() == [b"1", b"2"]


# Handles that are closed meanwhile


@pytest.mark.parametrize("count", [1, 2, 64, 65, 130])
@pytest.mark.parametrize("most", [1, 64, 1000])
def test_callback_that_closes(count: int, most: int) -> None:
    """The call returns how many packets were dispatched, whatever else waited."""
    queue_rule(1, chain="PREROUTING")
    with nfq.open() as handle, UdpPair() as udp:

        def callback(packet: Packet) -> None:
            packet.accept()
            handle.close()

        handle.create_queue(1, callback)
        udp.send(*[b"data"] * count)
        assert handle.process(most) == 1
        with pytest.raises(nfq.ClosedError):
            handle.process()


def test_callback_that_closes_what_was_set_aside(udp: UdpPair) -> None:
    """The number is right also if a callback closes while packets were set aside."""
    with nfq.open() as handle:

        def callback(packet: Packet) -> None:
            packet.accept()
            handle.close()

        queue = handle.create_queue(1, callback)
        udp.send(b"1", b"2")
        queue.set_maxlen(100)
        udp.send(b"3")
        assert handle.process() == 1
