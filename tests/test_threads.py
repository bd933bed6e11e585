# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads that share a handle, a packet, a buffer or a first moment.

With a GIL they take turns; in free-threaded Python they run at the same time, and under
ThreadSanitizer each access without a lock is found.
"""

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from netns import TIMEOUT, UdpPair, background, queue_rule
from queues import Handle, Packet, accept, data_of, netlink_socket, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
THREADS = 4
PACKETS = 400
CHUNK = 50  # datagrams that any receive buffer holds


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """With a GIL threads take turns so often that they meet."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(*functions: Callable[[], object]) -> None:
    """Calls the functions in threads, all at the same moment."""
    barrier = threading.Barrier(len(functions))

    def start(function: Callable[[], object]) -> object:
        barrier.wait(60)
        return function()

    futures: list[Future[object]] = [background(start, function) for function in functions]
    for future in futures:
        future.result(TIMEOUT)


def send_and_receive(udp: UdpPair) -> None:
    """Sends numbers, never more at a time than buffers hold; all of them arrive."""
    for first in range(0, PACKETS, CHUNK):
        sent = {b"%d" % number for number in range(first, first + CHUNK)}
        udp.send(*sent)
        assert {udp.recv() for _ in sent} == sent


def feed_process(handle: Handle) -> None:
    """Dispatches from buffers of the handle's own."""
    process_until(handle, lambda: handle.stats().packets == PACKETS)


def feed_buffer(handle: Handle) -> None:
    """Dispatches from a buffer that is used again, and so may be looked into no more."""
    buffer = bytearray(4096)
    with netlink_socket(handle) as sock:
        while handle.stats().packets < PACKETS:
            size = sock.recv_into(buffer)
            handle.handle_packet(memoryview(buffer)[:size])
            buffer[:] = bytes(len(buffer))


def look(packet: Packet) -> None:
    """Reads everything that a packet says, and gives it its verdict."""
    data = data_of(packet)
    assert len(packet.payload) == 28 + len(data)
    assert (packet.hook, packet.hw_protocol, packet.truncated) == (
        nfq.NF_INET_LOCAL_OUT,
        0x800,
        False,
    )
    assert (packet.indev, packet.outdev_name()) == (0, "lo")
    assert packet.original_length == 28 + len(data)
    assert (packet.timestamp, packet.vlan, packet.conntrack, packet.secctx) == (None,) * 4
    assert str(packet.id) in repr(packet)
    packet.accept()
    assert packet.verdict is nfq.NF_ACCEPT


def look_into_view(packet: Packet) -> None:
    """Reads the payload without a copy too, which whoever fed the buffer must not overwrite."""
    view = packet.payload
    assert view[28:] == data_of(packet)
    look(packet)


@pytest.mark.parametrize(
    ("feed", "look"),
    [(feed_process, look_into_view), (feed_buffer, look)],
    ids=["process", "buffer"],
)
def test_read_while_callback_ends(
    feed: Callable[[Handle], None],
    look: Callable[[Packet], None],
    handle: Handle,
    udp: UdpPair,
) -> None:
    """A packet that the callback hands to other threads reads right while it is being kept."""
    packets: queue.SimpleQueue[Packet | None] = queue.SimpleQueue()
    seen: list[bytes] = []

    def read() -> None:
        for packet in iter(packets.get, None):
            seen.append(data_of(packet))
            look(packet)
            del packet

    def dispatch() -> None:
        feed(handle)
        for _ in range(THREADS - 1):
            packets.put(None)

    handle.create_queue(1, packets.put, mode=COPY)
    together(dispatch, lambda: send_and_receive(udp), *[read] * (THREADS - 1))
    assert sorted(seen, key=int) == [b"%d" % number for number in range(PACKETS)]
    assert handle.stats().verdict_errors == 0


def test_one_handle_processed_by_many(handle: Handle, udp: UdpPair) -> None:
    """Threads that process the same handle share its packets: each comes once, and passes."""
    seen: list[bytes] = []

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        packet.accept()

    def process() -> None:
        while handle.stats().packets < PACKETS:
            handle.process(max_packets=7, timeout=0.01)

    handle.create_queue(1, callback, mode=COPY)
    together(lambda: send_and_receive(udp), *[process] * THREADS)
    assert sorted(seen, key=int) == [b"%d" % number for number in range(PACKETS)]
    assert (handle.stats().verdicts, handle.stats().orphaned) == (PACKETS, 0)


def test_dropped_while_its_thread_waits(handle: Handle, udp: UdpPair) -> None:
    """The last reference goes in a thread, while the one that dispatched waits: it is settled."""
    packets: queue.SimpleQueue[Packet] = queue.SimpleQueue()
    bound = handle.create_queue(1, packets.put, mode=COPY, default_verdict=nfq.NF_ACCEPT)

    def process() -> None:
        while True:
            handle.process(timeout=None)

    processing = background(process)
    for number in range(CHUNK):
        udp.send(b"%d" % number)
        packet = packets.get(timeout=TIMEOUT)
        assert packet.queue is bound
        del packet
        assert udp.recv() == b"%d" % number
    assert handle.stats().defaulted == CHUNK
    handle.close()
    with pytest.raises(ValueError, match="closed"):
        processing.result(TIMEOUT)


def test_buffer_released_while_its_thread_waits(handle: Handle, udp: UdpPair) -> None:
    """A caller's buffer is free when handle_packet returns, whichever thread held the packet."""
    packets: queue.SimpleQueue[Packet | None] = queue.SimpleQueue()
    handle.create_queue(1, packets.put, mode=COPY)

    def answer() -> None:
        for packet in iter(packets.get, None):
            packet.accept()

    answering = background(answer)
    with netlink_socket(handle) as sock:
        for _ in range(CHUNK):
            udp.send(b"data")
            buffer = bytearray(sock.recv(4096))
            handle.handle_packet(buffer)
            buffer.clear()  # BufferError while somebody looks into it
            assert udp.recv() == b"data"
    packets.put(None)
    answering.result(TIMEOUT)


def test_views_of_one_buffer(handle: Handle, udp: UdpPair) -> None:
    """Many threads make views of the packet whose callback runs, at the same moment."""
    wanted = b"what all look at"
    views: list[memoryview] = []

    def callback(packet: Packet) -> None:
        together(*[lambda: views.append(packet.payload)] * THREADS)
        packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    with netlink_socket(handle) as sock:
        for _ in range(CHUNK):
            udp.send(wanted)
            handle.handle_packet(bytearray(sock.recv(4096)))
            assert udp.recv() == wanted
    assert len(views) == CHUNK * THREADS
    assert {bytes(view[28:]) for view in views} == {wanted}


def test_verdict_given_by_many(handle: Handle, udp: UdpPair) -> None:
    """Of threads that give the same packet its verdict at the same moment, one succeeds."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    given: list[int] = []

    def give(number: int) -> None:
        try:
            packets[0].accept(mark=number)
        except nfq.VerdictError:
            return
        given.append(number)

    for count in range(1, CHUNK + 1):
        udp.send(b"data")
        process_until(handle, lambda: packets)
        together(*[lambda number=number: give(number) for number in range(THREADS)])
        assert len(given) == count
        assert udp.recv() == b"data"
        packets.clear()
    assert (handle.stats().verdicts, handle.stats().verdict_errors) == (CHUNK, 0)


def test_hooks_change_while_they_are_called(handle: Handle, udp: UdpPair) -> None:
    """on_held is set and taken away by one thread while others' verdicts call it."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    handle.autoflush = False
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            handle.on_held = lambda: None
            handle.on_verdict_error = lambda *_: None
            handle.on_held = None
            handle.on_verdict_error = None

    def give() -> None:
        while packets:
            try:
                packet = packets.pop()
            except IndexError:
                return
            packet.accept()
            handle.flush()

    changing = background(change)
    for _ in range(PACKETS // CHUNK):
        udp.send(*[b"data"] * CHUNK)
        process_until(handle, lambda: len(packets) == CHUNK)
        together(*[give] * THREADS)
        assert udp.arrivals() == [b"data"] * CHUNK
    done.set()
    changing.result(TIMEOUT)
    assert handle.stats().verdict_errors == 0


def test_a_handle_a_thread() -> None:
    """Threads with handles of their own don't get into each other's way."""
    handles = [nfq.open() for _ in range(THREADS)]

    def work(number: int) -> None:
        with handles[number] as handle:
            for _ in range(CHUNK):
                with handle.create_queue(number, accept, mode=COPY, flags=nfq.NFQA_CFG_F_GSO):
                    assert handle.process() == 0
                    assert handle.stats().packets == 0

    together(*[lambda number=number: work(number) for number in range(THREADS)])
    assert all(handle.closed for handle in handles)


FIRST_MOMENTS = """
import threading
import libnetfilterqueue as nfq

THREADS = 8
barrier = threading.Barrier(THREADS)
results = []

def body():
    barrier.wait(60)
    handle = nfq.open()
    barrier.wait(60)
    stats = handle.stats()
    with handle.create_queue(threading.get_native_id() % 60000, print) as queue:
        barrier.wait(60)
        verdict = queue.default_verdict
    results.append((type(stats), verdict))
    handle.close()

threads = [threading.Thread(target=body) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert results == [(nfq.HandleStats, nfq.NF_DROP)] * THREADS, results
assert all(verdict is nfq.NF_DROP for _, verdict in results)
"""


def test_first_moments() -> None:
    """Objects that are made on demand are made once, though many threads ask together."""
    command = [sys.executable, "-P", "-W", "error", "-c", FIRST_MOMENTS]
    for _ in range(5):
        subprocess.run(command, check=True, timeout=TIMEOUT)


CHILD_CLOSES = """
import os
import threading
import libnetfilterqueue as nfq

THREADS = 4

def close(handle, barrier):
    barrier.wait(60)
    handle.close()

for _ in range(60):
    with nfq.open() as handle:
        queues = [handle.create_queue(n, lambda packet: None) for n in range(40)]
        child = os.fork()
        if child == 0:
            barrier = threading.Barrier(THREADS)
            threads = [
                threading.Thread(target=close, args=(handle, barrier)) for _ in range(THREADS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            os._exit(0 if handle.closed else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_child_closed_by_many() -> None:
    """Threads of a forked child that close the handle at the same moment close it once."""
    command = [sys.executable, "-P", "-W", "error", "-c", CHILD_CLOSES]
    subprocess.run(command, check=True, timeout=TIMEOUT)


def test_devices_named_by_many(handle: Handle, udp: UdpPair) -> None:
    """Threads that ask for the name of the same device get it."""
    packets: list[Packet] = []
    queue_rule(1)
    handle.create_queue(1, packets.append, mode=COPY)
    udp.send(b"data")
    process_until(handle, lambda: packets)

    def name() -> None:
        for _ in range(PACKETS):
            assert packets[0].outdev_name() == "lo"

    together(*[name] * THREADS)
