# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration of a live queue: nothing lost, nothing stuck, nothing at the wrong callback.

All queues here let pass what they can't take (FAIL_OPEN), what nobody listens to (a bypassing
rule), and what they are destroyed with (NF_ACCEPT as the default verdict). So whatever was sent
has to pass in the end: a packet that doesn't was lost, or is stuck.
"""

import functools
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest
from netns import LOOPBACK, PORT, QUEUED_PORT, TIMEOUT, Counter, background, queue_rule
from queues import Handle, Packet, Queue, netlink_socket

import libnetfilterqueue as nfq

SIZES = (1, 100, 1400, 9000, 30_000, 65_507)
WINDOW = 300  # packets on their way at most; more than a default receive buffer of large ones
COPY = nfq.NFQNL_COPY_PACKET


class Traffic:
    """Datagrams through queue 1, of all sizes, each with the generation it was sent in."""

    def __init__(self) -> None:
        queue_rule(1, chain="PREROUTING", bypass=True)
        self._passed = Counter("INPUT", f"-p udp --sport {QUEUED_PORT}", target="DROP")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(TIMEOUT)
        self._socket.bind((LOOPBACK[socket.AF_INET], QUEUED_PORT))
        self._socket.connect((LOOPBACK[socket.AF_INET], PORT))
        self.sent = 0

    def send(self, count: int = 1, generation: int = 0, sizes: tuple[int, ...] = SIZES) -> None:
        stamp = struct.pack("!I", generation)
        for _ in range(count):
            size = sizes[self.sent % len(sizes)]
            self._socket.send(stamp + bytes(max(size - len(stamp), 0)))
            self.sent += 1

    def all_passed(self) -> bool:
        return self._passed.packets == self.sent

    def close(self) -> None:
        self._socket.close()


class Recorder:
    """A callback that lets everything pass and notes what must not happen."""

    def __init__(self, generation: int = 0) -> None:
        self.generation = generation
        self.seen = 0
        self.wrong: list[str] = []
        self.configuring: int | None = None  # the thread that is in a configuration call
        self.then: Callable[[], object] = lambda: None  # what else to do in the callback

    def __call__(self, packet: Packet) -> None:
        self.seen += 1
        if self.configuring == threading.get_ident():
            self.wrong.append("called from inside a configuration call")
        stamp = packet.payload[28:32]
        if len(stamp) == 4 and struct.unpack("!I", stamp) != (self.generation,):
            self.wrong.append(f"generation {stamp.hex()} came to {self.generation}")
        packet.accept()
        self.then()

    def configure(self, call: Callable[[], object]) -> None:
        """Makes a configuration call."""
        self.configuring = threading.get_ident()
        call()
        self.configuring = None


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    traffic = Traffic()
    yield traffic
    traffic.close()


def create(handle: Handle, callback: Callable[[Packet], object]) -> Queue:
    """Queue 1, which never loses anything."""
    return handle.create_queue(
        1,
        callback,
        mode=COPY,
        maxlen=1024,
        flags=nfq.NFQA_CFG_F_FAIL_OPEN,
        default_verdict=nfq.NF_ACCEPT,
    )


def settings(queue: Queue) -> Iterator[Callable[[], object]]:
    """Configuration calls, ending with what the queue was created with."""
    for flag in (nfq.NFQA_CFG_F_UID_GID, nfq.NFQA_CFG_F_GSO):
        yield lambda: queue.set_mode(nfq.NFQNL_COPY_META, 0)
        yield functools.partial(queue.set_flags, flag, flag)
        yield lambda: queue.set_mode(COPY, 100)
        yield lambda: queue.set_maxlen(10)
        yield functools.partial(queue.set_flags, flag, 0)
        yield lambda: queue.set_maxlen(1024)
        yield lambda: queue.set_mode(COPY, 0xFFFF)


def drain(handle: Handle, traffic: Traffic, recorders: list[Recorder]) -> None:
    """Dispatches what waits until everything sent has passed; checks what callbacks noted."""
    end = time.monotonic() + TIMEOUT
    while not traffic.all_passed():
        handle.process(timeout=0.005)
        assert time.monotonic() < end, "packets were lost, or are stuck"
    assert [wrong for recorder in recorders for wrong in recorder.wrong] == []
    assert handle.stats().verdict_errors == 0


def check_new_traffic(handle: Handle, traffic: Traffic, recorder: Recorder) -> None:
    """New packets come to the callback, and pass."""
    for _ in SIZES:
        before = recorder.seen
        traffic.send(1, recorder.generation)
        end = time.monotonic() + TIMEOUT
        while recorder.seen == before:
            handle.process(timeout=0.005)
            assert time.monotonic() < end, "new packets don't reach the callback"
    drain(handle, traffic, [recorder])


class Stream:
    """Traffic from a thread, which never runs further ahead of the callback than WINDOW."""

    def __init__(self, traffic: Traffic, recorder: Recorder) -> None:
        self.gate = threading.Lock()  # held, it keeps the stream back
        self._stop = threading.Event()
        self._traffic, self._recorder = traffic, recorder
        self._running = background(self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._traffic.sent - self._recorder.seen < WINDOW:
                with self.gate:
                    self._traffic.send()
            else:
                time.sleep(0.0005)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._running.result(TIMEOUT)


class Reader:
    """A second thread with a loop of its own: recv and handle_packet."""

    def __init__(self, handle: Handle) -> None:
        self._handle, self._socket = handle, netlink_socket(handle)
        self._stop = threading.Event()
        self._running = background(self._run)

    def _run(self) -> None:
        blocking = os.get_blocking(self._handle.fd())
        self._socket.setblocking(blocking)
        while not self._stop.is_set():
            try:
                self._handle.handle_packet(self._socket.recv(1 << 17))
            except BlockingIOError:
                time.sleep(0.0005)
            except OSError as error:
                assert "No buffer space" in str(error)  # noqa: PT017

    def stop(self, traffic: Traffic, generation: int = 0) -> None:
        """Ends the thread, with packets that wake it from its recv."""
        self._stop.set()
        end = time.monotonic() + TIMEOUT
        while not self._running.done():
            traffic.send(1, generation)
            time.sleep(0.0005)
            assert time.monotonic() < end, "the loop doesn't end"
        self._running.result(0)
        self._socket.close()


BLOCKING = pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "nonblocking"])


# Settings


@BLOCKING
def test_settings_in_a_stream(handle: Handle, traffic: Traffic, blocking: bool) -> None:
    """Settings while packets stream in and the same thread processes them."""
    recorder = Recorder()
    queue = create(handle, recorder)
    os.set_blocking(handle.fd(), blocking)
    with Stream(traffic, recorder):
        for _ in range(5):
            for call in settings(queue):
                recorder.configure(call)
                handle.process(max_packets=8)
    drain(handle, traffic, [recorder])
    assert recorder.seen > 0
    check_new_traffic(handle, traffic, recorder)


@BLOCKING
def test_settings_in_a_callback(handle: Handle, traffic: Traffic, blocking: bool) -> None:
    """Settings from inside the callback, while packets stream in."""
    recorder = Recorder()
    queue = create(handle, recorder)
    os.set_blocking(handle.fd(), blocking)
    calls = [call for _ in range(5) for call in settings(queue)]

    def configure() -> None:
        if calls:
            recorder.configure(calls.pop(0))

    recorder.then = configure
    end = time.monotonic() + TIMEOUT
    with Stream(traffic, recorder):
        while calls:
            handle.process(timeout=0.005)
            assert time.monotonic() < end
    drain(handle, traffic, [recorder])
    check_new_traffic(handle, traffic, recorder)


@BLOCKING
def test_settings_beside_a_reader(handle: Handle, traffic: Traffic, blocking: bool) -> None:
    """Settings while another thread reads the descriptor, and so may read the kernel's answers."""
    recorder = Recorder()
    queue = create(handle, recorder)
    os.set_blocking(handle.fd(), blocking)
    reader = Reader(handle)
    with Stream(traffic, recorder):
        for _ in range(5):
            for call in settings(queue):
                recorder.configure(call)
    reader.stop(traffic)
    drain(handle, traffic, [recorder])
    check_new_traffic(handle, traffic, recorder)


@BLOCKING
def test_settings_with_a_full_buffer(handle: Handle, traffic: Traffic, blocking: bool) -> None:
    """Settings when the receive buffer is full and there is no room for the kernel's answer."""
    recorder = Recorder()
    queue = create(handle, recorder)
    os.set_blocking(handle.fd(), blocking)
    with netlink_socket(handle) as sock:
        sock.setblocking(blocking)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for call in settings(queue):
        traffic.send(20)
        recorder.configure(call)
    drain(handle, traffic, [recorder])
    assert recorder.seen < traffic.sent  # some were too many for the buffer
    check_new_traffic(handle, traffic, recorder)


# Destroying and creating


def churn(
    handle: Handle, traffic: Traffic, read: Callable[[int], object], rounds: int = 30
) -> list[Recorder]:
    """Creates, uses and destroys queue 1 in turn; generation by generation."""
    recorders = []
    for generation in range(1, rounds + 1):
        recorder = Recorder(generation)
        recorders.append(recorder)
        recorder.configuring = threading.get_ident()
        queue = create(handle, recorder)
        recorder.configuring = None
        traffic.send(generation % 8, generation)
        read(generation)
        recorder.configure(queue.destroy)
        seen = recorder.seen
        traffic.send(1, generation)  # nobody listens
        assert recorder.seen == seen
    return recorders


@BLOCKING
def test_create_and_destroy(handle: Handle, traffic: Traffic, blocking: bool) -> None:
    """Each generation's packets reach its own callback or get its default verdict."""
    os.set_blocking(handle.fd(), blocking)
    recorders = churn(handle, traffic, lambda generation: handle.process(generation % 5 + 1))
    drain(handle, traffic, recorders)
    assert sum(recorder.seen for recorder in recorders) > 0


@BLOCKING
def test_create_and_destroy_beside_a_reader(
    handle: Handle, traffic: Traffic, blocking: bool
) -> None:
    """The same while another thread reads the descriptor and hands over what it read."""
    os.set_blocking(handle.fd(), blocking)
    reader = Reader(handle)
    recorders = churn(handle, traffic, lambda generation: os.sched_yield())
    last = Recorder(generation=1000)
    create(handle, last)
    reader.stop(traffic, 1000)
    drain(handle, traffic, [*recorders, last])
    check_new_traffic(handle, traffic, last)


@BLOCKING
def test_create_and_destroy_in_a_stream(handle: Handle, traffic: Traffic, blocking: bool) -> None:
    """The same while another thread sends, also at the moment when the queue is destroyed.

    It pauses while the queue is created: the kernel drops what comes before the mode is set.
    """
    os.set_blocking(handle.fd(), blocking)
    recorder = Recorder()
    with Stream(traffic, recorder) as stream:
        for round_ in range(30):
            with stream.gate:
                recorder.seen = traffic.sent  # what nobody listened to has passed
                queue = create(handle, recorder)
            handle.process(max_packets=round_ % 7 + 1, timeout=0.005)
            recorder.configure(queue.destroy)
    drain(handle, traffic, [recorder])


def test_create_and_destroy_with_a_full_buffer(handle: Handle, traffic: Traffic) -> None:
    """The same when the receive buffer is full."""
    with netlink_socket(handle) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    recorders = churn(handle, traffic, lambda generation: traffic.send(20, generation), rounds=20)
    last = Recorder(generation=1000)
    create(handle, last)
    drain(handle, traffic, recorders)
    check_new_traffic(handle, traffic, last)


def test_create_beside_a_full_buffer(handle: Handle, traffic: Traffic) -> None:
    """Other queues can be created and destroyed while one has filled the buffer."""
    recorder = Recorder()
    create(handle, recorder)
    with netlink_socket(handle) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(10):
        traffic.send(20)
        other = handle.create_queue(2, recorder, mode=COPY)
        traffic.send(20)
        recorder.configure(other.destroy)
    drain(handle, traffic, [recorder])
    check_new_traffic(handle, traffic, recorder)


def test_destroy_in_a_callback(handle: Handle, traffic: Traffic) -> None:
    """A callback destroys its queue and creates the next one of its number."""
    recorders = [Recorder(generation) for generation in range(20)]
    queues: list[Queue] = []

    def replace() -> None:
        generation = len(queues)
        if generation < len(recorders):
            recorders[generation - 1].configure(queues[-1].destroy)
            queues.append(create(handle, recorders[generation]))
            traffic.send(4, generation)

    for recorder in recorders:
        recorder.then = replace
    queues.append(create(handle, recorders[0]))
    traffic.send(4, 0)
    end = time.monotonic() + TIMEOUT
    while len(queues) < len(recorders):
        assert handle.process(timeout=TIMEOUT) > 0
        assert time.monotonic() < end
    drain(handle, traffic, recorders)
    assert [recorder.seen for recorder in recorders] == [1] * 19 + [4]


# One after the other, without any chance


@pytest.mark.parametrize("settings_between", [False, True])
def test_message_of_an_old_binding(
    handle: Handle, traffic: Traffic, settings_between: bool
) -> None:
    """A message that was read before its queue was destroyed never reaches the next queue."""
    old, new = Recorder(1), Recorder(2)
    queue = create(handle, old)
    with netlink_socket(handle) as sock:
        traffic.send(1, 1)
        message = sock.recv(1 << 17)
        queue.destroy()
        assert traffic.all_passed()  # by its default verdict
        queue = handle.create_queue(1, new, default_verdict=nfq.NF_ACCEPT)
        queue.set_mode(COPY, 0xFFFF)
        if settings_between:
            queue.set_maxlen(100)
            queue.set_flags(nfq.NFQA_CFG_F_UID_GID, nfq.NFQA_CFG_F_UID_GID)
        handle.handle_packet(message)
        assert (old.seen, new.seen) == (0, 0)
        assert handle.stats().orphaned == 1
        traffic.send(3, 2)
        sock.settimeout(TIMEOUT)
        while new.seen < 3:
            handle.handle_packet(sock.recv(1 << 17))
    assert new.wrong == []
    drain(handle, traffic, [old, new])


def test_packets_wait_for_the_next_dispatch(handle: Handle, traffic: Traffic) -> None:
    """What arrives before the kernel's answer is set aside, announced, and dispatched first."""
    recorder = Recorder()
    order: list[int] = []

    def callback(packet: Packet) -> None:
        order.append(packet.id)
        recorder(packet)

    queue = create(handle, callback)
    for _ in range(3):
        traffic.send(2, 0)
        recorder.configure(lambda: queue.set_maxlen(1000))
        assert select.select([handle], [], [], 0)[0] == [handle]
        assert recorder.seen == 0
    traffic.send(1, 0)
    while recorder.seen < 7:
        assert handle.process(timeout=TIMEOUT) > 0
    assert order == [1, 2, 3, 4, 5, 6, 7]
    drain(handle, traffic, [recorder])
    assert handle.process() == 0
    assert select.select([handle], [], [], 0)[0] == []


def test_packets_set_aside_and_a_loop_of_ones_own(handle: Handle, traffic: Traffic) -> None:
    """The seed's loop, too, gets what was set aside, by the next message that it reads."""
    recorder = Recorder()
    queue = create(handle, recorder)
    with netlink_socket(handle) as sock:
        sock.settimeout(TIMEOUT)
        traffic.send(3, 0)
        recorder.configure(lambda: queue.set_maxlen(1000))
        count = 0
        while count < 3:
            count += handle.handle_packet(sock.recv(1 << 17))
    assert (count, recorder.seen) == (3, 3)
    drain(handle, traffic, [recorder])
