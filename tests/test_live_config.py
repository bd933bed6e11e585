# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration of a live queue: nothing lost, nothing stuck, nothing at the wrong callback.

All queues here let pass what they can't take (FAIL_OPEN), what nobody listens to (a bypassing
rule), and what they are destroyed with (NF_ACCEPT as the default verdict). So whatever was sent
has to pass in the end: a packet that doesn't was lost, or is stuck.
"""

import contextlib
import ctypes
import errno
import functools
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from netns import (
    LOOPBACK,
    PORT,
    QUEUED_PORT,
    TIMEOUT,
    Counter,
    background,
    plain_environment,
    queue_rule,
)
from queues import Handle, Packet, Queue, netlink_socket
from sender import END, PAUSE, SEND, SIZES, Shared, datagram, share

import libnetfilterqueue as nfq

HOST = LOOPBACK[socket.AF_INET]
STREAM_PORT = QUEUED_PORT - 1
COPY = nfq.NFQNL_COPY_PACKET
FULL, LARGE = 4096, 1 << 18  # receive buffers: one full with the first packets, and one of use


class Traffic:
    """Datagrams of all sizes through queue 1, each stamped with the generation it was sent in."""

    def __init__(self, path: Path) -> None:
        for port in (QUEUED_PORT, STREAM_PORT):
            queue_rule(1, f"-p udp --sport {port}", chain="PREROUTING", bypass=True)
        self._passed = Counter("INPUT", f"-p udp --dport {PORT}", target="DROP")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(TIMEOUT)
        self._socket.bind((HOST, QUEUED_PORT))
        self._socket.connect((HOST, PORT))
        path.write_bytes(bytes(ctypes.sizeof(Shared)))
        self._path, self._shared = path, share(path)
        self._sent = 0  # by ourselves

    @property
    def generation(self) -> int:
        return self._shared.generation

    @generation.setter
    def generation(self, generation: int) -> None:
        self._shared.generation = generation

    @property
    def sent(self) -> int:
        return self._sent + self._shared.sent

    def send(self, count: int) -> None:
        for _ in range(count):
            self._socket.send(datagram(self.generation, self._sent))
            self._sent += 1
        self._wait_until_received()

    def _wait_until_received(self) -> None:
        """The kernel may put receiving off; afterwards all have met the queue's rule."""
        wait_until(lambda: ip_packets_received() == self.sent)

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """Another program sends as fast as it can for the length of the block."""
        arguments = map(str, (HOST, STREAM_PORT, PORT, self._path))
        program = Path(__file__).parent / "support" / "sender.py"
        command = [sys.executable, "-SE", str(program), *arguments]
        with subprocess.Popen(command, env=plain_environment()) as sender:
            try:
                wait_until(lambda: self._shared.sent > 0)
                yield
                self._shared.command = END
                assert sender.wait(TIMEOUT) == 0
            finally:
                sender.kill()
        self._wait_until_received()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The stream pauses for the length of the block."""
        self._shared.command = PAUSE
        wait_until(lambda: self._shared.state == PAUSE)
        self._wait_until_received()
        yield
        self._shared.command = SEND
        wait_until(lambda: self._shared.state == SEND)

    def all_passed(self) -> bool:
        return self._passed.packets == self.sent

    def close(self) -> None:
        self._socket.close()


def wait_until(done: Callable[[], object]) -> None:
    """Waits a short time until something has come true."""
    end = time.monotonic() + TIMEOUT
    while not done():
        assert time.monotonic() < end
        os.sched_yield()


def ip_packets_received() -> int:
    """How many IPv4 packets have come in in this namespace."""
    names, values = (
        line.split()
        for line in Path("/proc/net/snmp").read_text().splitlines()
        if line.startswith("Ip:")
    )
    return int(values[names.index("InReceives")])


class Recorder:
    """A callback that lets everything pass and notes what must not happen."""

    def __init__(self, generation: int = 0) -> None:
        self.generation = generation
        self.seen = 0
        self.wrong: list[str] = []
        self.then: Callable[[], object] = lambda: None  # what else to do in the callback
        self._configuring: int | None = None  # the thread that is in a configuration call

    def __call__(self, packet: Packet) -> None:
        self.seen += 1
        if self._configuring == threading.get_ident():
            self.wrong.append("called from inside a configuration call")
        stamp = packet.payload[28:32]
        if len(stamp) == 4 and struct.unpack("!I", stamp) != (self.generation,):
            self.wrong.append(f"a packet of {stamp.hex()} came to {self.generation}")
        packet.accept()
        self.then()

    def configure(self, call: Callable[[], object]) -> None:
        """Makes a configuration call."""
        self._configuring = threading.get_ident()
        call()
        self._configuring = None

    def create(self, handle: Handle) -> Queue:
        """Creates queue 1 for this callback, one which never loses anything."""
        queues: list[Queue] = []
        options: dict[str, Any] = {"mode": COPY, "maxlen": 1024, "flags": nfq.NFQA_CFG_F_FAIL_OPEN}
        self.configure(
            lambda: queues.append(
                handle.create_queue(1, self, default_verdict=nfq.NF_ACCEPT, **options)
            )
        )
        return queues[0]


class Reader:
    """A second thread with a loop of its own: recv and, two messages later, handle_packet."""

    def __init__(self, handle: Handle) -> None:
        self._handle, self._socket = handle, netlink_socket(handle)
        self._socket.setblocking(os.get_blocking(handle.fd()))
        self._stop = threading.Event()
        self._running = background(self._run)

    def _run(self) -> None:
        held: list[bytes] = []
        while not self._stop.is_set():
            try:
                held.append(self._socket.recv(1 << 17))
            except BlockingIOError:
                select.select([self._socket], [], [], 0.01)
            except OSError as error:
                assert error.errno == errno.ENOBUFS  # noqa: PT017
            if len(held) > 2:
                self._handle.handle_packet(held.pop(0))
        for message in held:
            self._handle.handle_packet(message)

    def stop(self, traffic: Traffic) -> None:
        """Ends the thread, with packets that wake it from its recv."""
        self._stop.set()
        end = time.monotonic() + TIMEOUT
        while not self._running.done():
            traffic.send(1)
            time.sleep(0.001)
            assert time.monotonic() < end, "the loop doesn't end"
        self._running.result(0)
        self._socket.close()


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[Traffic]:
    traffic = Traffic(tmp_path / "shared")
    yield traffic
    traffic.close()


@pytest.fixture(params=[True, False], ids=["blocking", "nonblocking"])
def live(request: pytest.FixtureRequest, handle: Handle) -> Handle:
    """A handle whose descriptor blocks, or doesn't."""
    os.set_blocking(handle.fd(), request.param)
    handle.rcvbuf = LARGE
    return handle


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


def drain(handle: Handle, traffic: Traffic, *recorders: Recorder) -> None:
    """Dispatches what waits until everything sent has passed; checks what callbacks noted.

    What the receive buffer had no room for has passed as well. That is read last: until then the
    kernel sends no packets any more.
    """
    end = time.monotonic() + TIMEOUT
    passed = False
    while handle.process(timeout=0.005) or not passed:
        passed = traffic.all_passed()
        assert time.monotonic() < end, "packets were lost, or are stuck"
    assert [wrong for recorder in recorders for wrong in recorder.wrong] == []
    assert handle.stats().verdict_errors == 0


def check_new_traffic(
    handle: Handle, traffic: Traffic, recorder: Recorder, dispatch: Callable[[], object]
) -> None:
    """New packets come to the callback, one by one, and pass."""
    for _ in SIZES:
        before = recorder.seen
        traffic.send(1)
        end = time.monotonic() + TIMEOUT
        while recorder.seen == before:
            dispatch()
            assert time.monotonic() < end, "a new packet doesn't reach the callback"
    drain(handle, traffic, recorder)


def processing(handle: Handle) -> Callable[[], object]:
    return lambda: handle.process(timeout=0.005)


# Settings, while packets stream in

ENOUGH = 2000  # packets that are sent meanwhile


def test_settings(live: Handle, traffic: Traffic) -> None:
    """Settings change while packets stream in and the same thread processes them."""
    recorder = Recorder()
    queue = recorder.create(live)
    with traffic.stream():
        while traffic.sent < ENOUGH or recorder.seen < 100:
            for call in settings(queue):
                recorder.configure(call)
                live.process(max_packets=8)
    drain(live, traffic, recorder)
    check_new_traffic(live, traffic, recorder, processing(live))


def test_settings_without_reading(live: Handle, traffic: Traffic) -> None:
    """Settings change while nobody reads and the receive buffer is always full."""
    recorder = Recorder()
    live.rcvbuf = FULL
    queue = recorder.create(live)
    with traffic.stream():
        while traffic.sent < ENOUGH:
            for call in settings(queue):
                recorder.configure(call)
    drain(live, traffic, recorder)
    check_new_traffic(live, traffic, recorder, processing(live))


def test_settings_in_a_callback(live: Handle, traffic: Traffic) -> None:
    """Settings change from inside the callback, while packets stream in."""
    recorder = Recorder()
    queue = recorder.create(live)
    calls = [call for _ in range(5) for call in settings(queue)]

    def configure() -> None:
        if calls:
            recorder.configure(calls.pop(0))

    recorder.then = configure
    with traffic.stream():
        while calls or traffic.sent < ENOUGH:
            assert live.process(timeout=TIMEOUT) > 0
    drain(live, traffic, recorder)
    check_new_traffic(live, traffic, recorder, processing(live))


def test_settings_beside_a_reader(live: Handle, traffic: Traffic) -> None:
    """Settings change while another thread reads, and may read the kernel's answers."""
    recorder = Recorder()
    queue = recorder.create(live)
    reader = Reader(live)
    with traffic.stream():
        while traffic.sent < ENOUGH or recorder.seen < 100:
            for call in settings(queue):
                recorder.configure(call)
    reader.stop(traffic)
    drain(live, traffic, recorder)
    check_new_traffic(live, traffic, recorder, processing(live))


SIZED = pytest.mark.parametrize("size", [FULL, LARGE], ids=["full", "large"])


@SIZED
def test_other_queues(live: Handle, traffic: Traffic, size: int) -> None:
    """Other queues are created and destroyed while packets stream in for one."""
    recorder = Recorder()
    live.rcvbuf = size
    recorder.create(live)
    with traffic.stream():
        for number in range(2, 22):
            queue = live.create_queue(number, recorder, mode=COPY)
            recorder.configure(queue.destroy)
            assert live.process(max_packets=number % 3 + 1, timeout=TIMEOUT) > 0
    drain(live, traffic, recorder)
    check_new_traffic(live, traffic, recorder, processing(live))


# Destroying and creating, while packets stream in


def churn(
    handle: Handle, traffic: Traffic, between: Callable[[int, Recorder], object]
) -> list[Recorder]:
    """Creates and destroys queue 1 in turn, generation by generation.

    The stream pauses while the queue is created: the kernel drops what comes before the mode is
    set. It flows while the queue is destroyed.
    """
    recorders: list[Recorder] = []
    for generation in range(1, 21):
        recorder = Recorder(generation)
        recorders.append(recorder)
        with traffic.paused():
            traffic.generation = generation
            queue = recorder.create(handle)
        between(generation, recorder)
        recorder.configure(queue.destroy)
    return recorders


def last_generation(handle: Handle, traffic: Traffic) -> Recorder:
    """The last one, which stays."""
    traffic.generation = 1000
    recorder = Recorder(traffic.generation)
    recorder.create(handle)
    return recorder


@SIZED
def test_create_and_destroy(live: Handle, traffic: Traffic, size: int) -> None:
    """Each generation's packets reach its own callback or get its default verdict."""
    live.rcvbuf = size

    def process(generation: int, recorder: Recorder) -> None:
        for most in range(1, generation % 4 + 1):
            assert live.process(most, timeout=TIMEOUT) > 0

    with traffic.stream():
        recorders = churn(live, traffic, process)
    last = last_generation(live, traffic)
    drain(live, traffic, *recorders, last)
    assert sum(recorder.seen for recorder in recorders) > 0
    check_new_traffic(live, traffic, last, processing(live))


@SIZED
def test_create_and_destroy_beside_a_reader(live: Handle, traffic: Traffic, size: int) -> None:
    """Queues are created and destroyed while another thread reads and hands over what it read."""
    live.rcvbuf = size
    reader = Reader(live)

    def wait(generation: int, recorder: Recorder) -> None:
        wait_until(lambda: recorder.seen >= generation % 4)

    with traffic.stream():
        recorders = churn(live, traffic, wait)
        with traffic.paused():
            last = last_generation(live, traffic)
        wait_until(lambda: last.seen > 10)
    reader.stop(traffic)
    drain(live, traffic, *recorders, last)


def test_create_and_destroy_in_a_callback(live: Handle, traffic: Traffic) -> None:
    """A callback destroys its queue and creates the next one of its number."""
    recorders = [Recorder(generation) for generation in range(20)]
    queues: list[Queue] = []

    def replace() -> None:
        traffic.generation = len(queues)
        if traffic.generation < len(recorders):
            recorders[traffic.generation - 1].configure(queues[-1].destroy)
            queues.append(recorders[traffic.generation].create(live))
            traffic.send(4)

    for recorder in recorders[:-1]:
        recorder.then = replace
    queues.append(recorders[0].create(live))
    traffic.send(4)
    while len(queues) < len(recorders):
        assert live.process(timeout=TIMEOUT) > 0
    drain(live, traffic, *recorders)
    assert [recorder.seen for recorder in recorders[:-1]] == [1] * 19


# Step by step


@pytest.mark.parametrize("configured", [False, True])
def test_message_of_an_old_binding(live: Handle, traffic: Traffic, configured: bool) -> None:
    """A message that was read before its queue was destroyed never reaches the next queue."""
    old, new = Recorder(1), Recorder(2)
    queue = old.create(live)
    with netlink_socket(live) as sock:
        traffic.generation = 1
        traffic.send(1)
        message = sock.recv(1 << 17)
        queue.destroy()
        assert traffic.all_passed()  # by its default verdict
        queue = live.create_queue(1, new, default_verdict=nfq.NF_ACCEPT)
        queue.set_mode(COPY, 0xFFFF)
        if configured:
            queue.set_maxlen(100)
            queue.set_flags(nfq.NFQA_CFG_F_UID_GID, nfq.NFQA_CFG_F_UID_GID)
        live.handle_packet(message)
        assert (old.seen, new.seen) == (0, 0)
        assert live.stats().orphaned == 1
        traffic.generation = 2
        sock.settimeout(TIMEOUT)
        check_new_traffic(live, traffic, new, lambda: live.handle_packet(sock.recv(1 << 17)))
    assert old.seen == 0


def test_set_aside(live: Handle, traffic: Traffic) -> None:
    """Packets before the kernel's answer are set aside, announced, and dispatched first."""
    recorder = Recorder()
    order: list[int] = []

    def callback(packet: Packet) -> None:
        order.append(packet.id)
        recorder(packet)

    queue = live.create_queue(1, callback, mode=COPY)
    for _ in range(3):
        traffic.send(2)
        recorder.configure(lambda: queue.set_maxlen(1000))
        assert select.select([live], [], [], 0)[0] == [live]
        assert recorder.seen == 0
    traffic.send(1)
    while recorder.seen < 7:
        assert live.process(timeout=TIMEOUT) > 0
    assert order == [1, 2, 3, 4, 5, 6, 7]
    drain(live, traffic, recorder)
    assert live.process() == 0
    assert select.select([live], [], [], 0)[0] == []


def test_set_aside_for_a_loop_of_ones_own(live: Handle, traffic: Traffic) -> None:
    """The seed's loop gets what was set aside with the next message that it reads."""
    recorder = Recorder()
    queue = recorder.create(live)
    with netlink_socket(live) as sock:
        sock.settimeout(TIMEOUT)
        traffic.send(3)
        recorder.configure(lambda: queue.set_maxlen(1000))
        count = 0
        while count < 3:
            count += live.handle_packet(sock.recv(1 << 17))
    assert (count, recorder.seen) == (3, 3)
    drain(live, traffic, recorder)


def test_settings_with_a_full_buffer(live: Handle, traffic: Traffic) -> None:
    """Settings change when the receive buffer has no room for the kernel's answer."""
    recorder = Recorder()
    live.rcvbuf = FULL
    queue = recorder.create(live)
    for call in settings(queue):
        traffic.send(20)
        recorder.configure(call)
    drain(live, traffic, recorder)
    assert recorder.seen < traffic.sent  # some were too many for the buffer
    check_new_traffic(live, traffic, recorder, processing(live))


def test_create_and_destroy_with_a_full_buffer(live: Handle, traffic: Traffic) -> None:
    """Queues are created and destroyed when the receive buffer is full."""
    live.rcvbuf = FULL
    recorders = []
    for generation in range(1, 21):
        recorder = Recorder(generation)
        recorders.append(recorder)
        traffic.generation = generation
        queue = recorder.create(live)
        traffic.send(20)
        recorder.configure(queue.destroy)
        traffic.send(1)  # nobody listens
    last = last_generation(live, traffic)
    drain(live, traffic, *recorders, last)
    check_new_traffic(live, traffic, last, processing(live))
