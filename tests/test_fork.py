# SPDX-License-Identifier: GPL-2.0-or-later
"""A child of fork has its parent's handles closed, and the parent's queues are unharmed."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable

import pytest
from netns import LOOPBACK, PORT, QUEUED_PORT, UdpPair, queue_rule
from queues import Handle, Packet, accept, data_of, netlink_socket

import libnetfilterqueue as nfq
from libnetfilterqueue import _ext, aio


def in_child(function: Callable[[], None]) -> int:
    """Runs the function in a child of fork; returns its exit status, 0 if nothing was raised."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:  # noqa: BLE001 (the child must not go on as a second pytest)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kept_packets(handle: Handle, udp: UdpPair, *data: bytes) -> list[Packet]:
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_PACKET)
    udp.send(*data)
    assert handle.process() == len(data)
    return packets


def test_every_call_in_the_child(handle: Handle, udp: UdpPair) -> None:
    """Any call but close raises RuntimeError, and names itself."""
    (packet,) = kept_packets(handle, udp, b"data")
    queue = packet.queue
    calls: dict[str, Callable[[], object]] = {
        "bind_pf": lambda: handle.bind_pf(2),
        "unbind_pf": lambda: handle.unbind_pf(2),
        "create_queue": lambda: handle.create_queue(2, print),
        "handle_packet": lambda: handle.handle_packet(b""),
        "process": handle.process,
        "fd": handle.fd,
        "fileno": handle.fileno,
        "stats": handle.stats,
        "set_mode": lambda: queue.set_mode(2, 0),
        "set_flags": lambda: queue.set_flags(1, 1),
        "set_maxlen": lambda: queue.set_maxlen(1),
        "set_verdict_batch": lambda: queue.set_verdict_batch(1, 1),
        "destroy": queue.destroy,
        "__enter__": queue.__enter__,
        "set_verdict": lambda: packet.set_verdict(nfq.NF_DROP),
        "accept": packet.accept,
        "indev_name": packet.indev_name,
        "outdev_name": packet.outdev_name,
    }

    def child() -> None:
        for name, call in calls.items():
            with pytest.raises(RuntimeError, match=rf"^{name}\(.*\): .*after fork"):
                call()
        assert data_of(packet) == b"data"
        for name in ("rcvbuf", "no_enobufs"):
            with pytest.raises(RuntimeError, match=rf"^{name}: .*after fork"):
                getattr(handle, name)
            with pytest.raises(RuntimeError, match=rf"^{name}: .*after fork"):
                setattr(handle, name, 1)
        assert (handle.closed, queue.destroyed) == (True, True)
        assert (queue.number, packet.queue is queue, queue.handle is handle) == (1, True, True)
        handle.close()
        assert handle.closed

    assert in_child(child) == 0
    packet.accept()
    assert udp.arrivals() == [b"data"]


def test_child_that_closes(handle: Handle, udp: UdpPair) -> None:
    """Closing in the child leaves queue and packets to the parent; so does dropping them."""
    packets = kept_packets(handle, udp, b"1", b"2")

    def child() -> None:
        packets.clear()
        handle.close()

    assert in_child(child) == 0
    for packet in packets:
        packet.accept()
    udp.send(b"3")
    assert handle.process() == 1
    packets.pop().accept()
    assert udp.arrivals() == [b"1", b"2", b"3"]
    assert handle.stats().verdict_errors == 0


def test_callback_that_forks(handle: Handle, udp: UdpPair) -> None:
    """The child's process() raises once the callback is over; its verdict is the parent's alone."""
    children: list[int] = []

    def callback(packet: Packet) -> None:
        packet.accept()
        if not children:
            children.append(os.fork())

    handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)
    udp.send(b"1", b"2", b"3")
    try:
        dispatched = handle.process()
    except RuntimeError:
        os._exit(0 if children == [0] else 1)
    if children == [0]:
        os._exit(2)
    assert dispatched == 3
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert udp.arrivals() == [b"1", b"2", b"3"]
    handle.process()
    assert handle.stats().verdict_errors == 0


def freed_memory() -> list[bytearray]:
    """Takes again what was freed last, whatever its size up to that of a small packet."""
    return [bytearray(size) for size in range(8, 512, 8) for _ in range(16)]


def test_callback_that_forks_and_keeps(handle: Handle, udp: UdpPair) -> None:
    """What the child releases in the callback is not written to once the callback is over."""
    kept: list[Packet] = []
    children: list[int] = []
    blocks: list[bytearray] = []

    def callback(packet: Packet) -> None:
        if kept:
            children.append(os.fork())
        if children == [0]:
            kept.clear()
            blocks.extend(freed_memory())
        kept.append(packet)

    handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)
    udp.send(b"1", b"2")
    try:
        assert handle.process() == 2
    except RuntimeError:
        os._exit(any(map(any, blocks)))
    if children == [0]:
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    for packet in kept:
        packet.accept()
    assert udp.arrivals() == [b"1", b"2"]


@pytest.mark.parametrize("queues", [1, 2])
def test_listener_that_forks_at_the_close(handle: Handle, udp: UdpPair, queues: int) -> None:
    """A child that on_close forks may release its packets. It closes, and touches no more."""
    kept: list[Packet] = []
    children: list[int] = []
    blocks: list[bytearray] = []
    unbound: list[int] = []

    def listener() -> None:
        children.append(os.fork())
        if children == [0]:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)  # what was freed has been an endless list
            kept.clear()
            blocks.extend(freed_memory())

    for number in range(1, 1 + queues):
        handle.create_queue(number, kept.append, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"1", b"2", b"3")
    assert handle.process() == 3
    handle.on_close = listener
    _ext._keep(handle, False, False, bytearray(2), lambda: unbound.append(os.getpid()))
    handle.close(unbind=True)
    if children == [0]:
        os._exit(any(map(any, blocks)) or not handle.closed or bool(unbound))
    assert unbound == [os.getpid()]
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert udp.arrivals() == [b"1", b"2", b"3"]


def test_listener_that_forks_at_the_detachment(handle: Handle, udp: UdpPair) -> None:
    """A child that on_close forks does not keep the socket that its parent detaches."""
    kept: list[Packet] = []
    children: list[int] = []
    descriptor = handle.fileno()

    handle.create_queue(1, kept.append)
    udp.send(b"1")
    assert handle.process() == 1
    handle.on_close = lambda: children.append(os.fork())
    try:
        detached = handle.detach()
    except RuntimeError:
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            os._exit(1)
        os._exit(0 if children == [0] else 2)
    if children == [0]:
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    with nfq.open(fd=detached) as heir:
        os.close(detached)
        queue = heir.create_queue(1, kept.append)
        assert queue.number == 1


def test_listener_that_forks_between_callbacks(handle: Handle, udp: UdpPair) -> None:
    """A child that on_verdict_error forks calls no callback of the parent's."""
    parent = os.getpid()
    statuses: list[int] = []

    def listener(*_: object) -> None:
        child = os.fork()
        if child != 0:
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    def callback(packet: Packet) -> None:
        if os.getpid() != parent:
            os._exit(1)
        time.sleep(0.002)  # the next verdict does not wait for it
        packet.accept(payload=packet.get_payload())

    with netlink_socket(handle) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    handle.on_verdict_error = listener
    handle.create_queue(1, callback)
    udp.send(b"T" * 9000, b"2")
    try:
        packets = handle.process()
    except RuntimeError:
        os._exit(0 if os.getpid() != parent else 1)
    assert packets == 2
    assert statuses == [0]
    assert udp.arrivals() == [b"2"]


def test_signal_handler_that_forks(handle: Handle) -> None:
    """In the child, process() raises instead of waiting on."""
    children: list[int] = []
    signal.signal(signal.SIGALRM, lambda *_: children.append(os.fork()))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        dispatched = handle.process(timeout=0.2)
    except RuntimeError:
        os._exit(0 if children == [0] else 1)
    if children == [0]:
        os._exit(2)
    assert dispatched == 0
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


def test_handle_of_the_child(handle: Handle, udp: UdpPair) -> None:
    """A handle that the child opens is the child's: it works there, and not in its own children."""
    kept_packets(handle, udp, b"1")
    queue_rule(2, f"-p udp --sport {QUEUED_PORT - 1}")

    def grandchild(own: Handle) -> None:
        for inherited in (handle, own):
            with pytest.raises(RuntimeError, match="after fork"):
                inherited.process()
        with nfq.open() as another:
            assert another.process() == 0

    def child() -> None:
        with nfq.open() as own, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            own.create_queue(2, accept, mode=nfq.NFQNL_COPY_PACKET)
            sender.bind((LOOPBACK[socket.AF_INET], QUEUED_PORT - 1))
            sender.sendto(b"2", (LOOPBACK[socket.AF_INET], PORT))
            assert own.process() == 1
            assert in_child(lambda: grandchild(own)) == 0
        with pytest.raises(RuntimeError, match="after fork"):
            handle.process()

    assert in_child(child) == 0
    assert udp.arrivals() == [b"2"]


def test_stream_in_the_child(udp: UdpPair) -> None:
    """A stream is closed in the child, with what it has read, and goes on in the parent."""

    async def read(stream: aio.PacketStream) -> Packet:
        return await stream.get()

    stream = aio.open_queue(1)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(stream.__aenter__())
        udp.send(b"1", b"2", b"3")
        loop.run_until_complete(read(stream)).accept()
        assert stream.qsize() == 2

        def child() -> None:
            assert stream.closed
            with pytest.raises(nfq.ClosedError, match="the stream is closed"):
                stream.get_nowait()
            stream.close()

        assert in_child(child) == 0
        assert not stream.closed
        for _ in range(2):
            loop.run_until_complete(read(stream)).accept()
        assert udp.arrivals() == [b"1", b"2", b"3"]
        stream.close()


def test_refusals_are_told_by_the_parent(handle: Handle, udp: UdpPair) -> None:
    """A child that leaves its callback by an exception does not report the parent's refusals."""
    told: list[int] = []
    parent = os.getpid()
    statuses: list[int] = []

    def callback(packet: Packet) -> None:
        packet.accept()
        child = os.fork()
        if child == 0:
            raise SystemExit
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    handle.on_verdict_error = lambda _queue, packet_id, _error: told.append(packet_id)
    handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)
    verdict = struct.pack("=IHHII", 32, 0x301, 1, 7, 0)
    verdict += struct.pack(">BBH", 0, 0, 1) + struct.pack("=HH", 12, 2) + struct.pack(">II", 1, 7)
    refusal = struct.pack("=IHHIIi", 52, 2, 0, 7, 0, -errno.ENOENT) + verdict
    udp.send(b"data")
    with netlink_socket(handle) as sock:
        message = sock.recv(4096)
    try:
        handle.handle_packet(refusal + message)
    except SystemExit:
        assert os.getpid() != parent
        os._exit(len(told))
    assert (statuses, told) == ([0], [7])
    assert udp.arrivals() == [b"data"]
