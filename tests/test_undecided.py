# SPDX-License-Identifier: GPL-2.0-or-later
"""A batch verdict releases no packet that waits for its own, or whose own the kernel has refused.

What can hide such a packet: callbacks that process, readers that end by an exception, reports that
nobody has read yet, requests that the kernel refuses.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from netns import LOOPBACK, PORT, TIMEOUT, UdpPair, queue_rule, without_net_admin
from queues import Handle, Packet, netlink_socket

import libnetfilterqueue as nfq


def data(packet: Packet) -> bytes:
    """The datagram's own bytes."""
    return packet.get_payload()[28:]


@pytest.fixture
def other() -> Iterator[socket.socket]:
    """A second sender, whose datagrams pass through queue 2."""
    with other_sender(2, 9991) as sock:
        yield sock


@contextlib.contextmanager
def other_sender(number: int, port: int) -> Iterator[socket.socket]:
    """One whose datagrams to the same receiver pass through another queue."""
    queue_rule(number, f"-p udp --sport {port}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK[socket.AF_INET], port))
        sock.connect((LOOPBACK[socket.AF_INET], PORT))
        yield sock


def test_late_packet_that_is_kept(handle: Handle, udp: UdpPair, other: socket.socket) -> None:
    """A packet that was overtaken and is kept waits for its verdict, whatever newer ones get."""
    kept = []

    def first(packet: Packet) -> None:
        if data(packet) == b"a1":
            other.send(b"b2")
            handle.process()  # before b1, which came with a1
        packet.accept()

    def second(packet: Packet) -> None:
        if data(packet) == b"b1":
            kept.append(packet)
        else:
            packet.accept()

    handle.create_queue(1, first)
    handle.create_queue(2, second)
    udp.send(b"a1")
    other.send(b"b1")
    handle.process()
    for number in range(3, 9, 2):
        udp.send(b"a")
        other.send(b"b%d" % number)
        other.send(b"b%d" % (number + 1))
        handle.process()
    assert b"b1" not in udp.arrivals()
    kept[0].accept()
    assert udp.arrivals() == [b"b1"]
    assert handle.stats().verdict_errors == 0


def test_messages_that_a_reader_has_left(
    handle: Handle, udp: UdpPair, other: socket.socket
) -> None:
    """What a reader leaves when it ends by an exception is older than what another one has."""
    received, interrupt, left = threading.Event(), threading.Event(), threading.Event()

    def first(packet: Packet) -> None:
        if data(packet) == b"a1":
            received.set()
            assert interrupt.wait(TIMEOUT)
            raise KeyboardInterrupt
        interrupt.set()
        assert left.wait(TIMEOUT)
        packet.accept()

    def second(packet: Packet) -> None:
        if data(packet) == b"b1":
            packet.drop()
        else:
            packet.accept()

    def read() -> None:
        with pytest.raises(KeyboardInterrupt):
            handle.process()
        left.set()

    handle.create_queue(1, first)
    handle.create_queue(2, second)
    udp.send(b"a1")
    other.send(b"b1")
    thread = threading.Thread(target=read)
    thread.start()
    assert received.wait(TIMEOUT)
    udp.send(b"a2")
    other.send(b"b2")
    other.send(b"b3")
    handle.process()
    thread.join()
    assert sorted(udp.arrivals()) == [b"a2", b"b2", b"b3"]
    handle.process()
    assert udp.arrivals() == []
    assert handle.stats().verdict_errors == 0


def kept_by(handle: Handle, udp: UdpPair, *payloads: bytes) -> list[Packet]:
    """Packets of a queue that keeps all, except for one that raises."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        if data(packet) == b"raise":
            raise KeyboardInterrupt
        kept.append(packet)

    handle.create_queue(1, callback)
    udp.send(*payloads)
    handle.process()
    return kept


def test_report_that_is_set_aside(handle: Handle, udp: UdpPair) -> None:
    """A report that a reader has left behind counts, though the receive buffer is empty."""
    kept = kept_by(handle, udp, b"1", b"2")
    udp.send(b"raise")
    with without_net_admin():
        kept[0].drop()
    with pytest.raises(KeyboardInterrupt):
        handle.process()
    kept[0].queue.set_verdict_batch(nfq.NF_ACCEPT, kept[1].id)
    assert udp.arrivals() == [b"2"]
    handle.process()
    assert handle.stats().verdict_errors == 1


def test_report_behind_what_is_read(handle: Handle, udp: UdpPair) -> None:
    """Reading that ends before the buffer is empty tells nothing of what is left in it."""
    kept = kept_by(handle, udp, b"1", b"2")
    udp.send(*[bytes(1400)] * 20)
    with without_net_admin():
        kept[0].drop()
    handle.rcvbuf = 0  # so little is looked through
    kept[0].queue.set_verdict_batch(nfq.NF_ACCEPT, kept[1].id)
    assert udp.arrivals() == [b"2"]


def test_report_in_the_hands_of_a_loop(handle: Handle, udp: UdpPair) -> None:
    """A loop of the user's own may have read the report, and not passed it on yet."""
    kept = kept_by(handle, udp, b"1")
    with netlink_socket(handle) as sock:
        with without_net_admin():
            kept[0].drop()
        report = sock.recv(1 << 16)
        handle.process()
        kept[0].queue.callback = Packet.accept
        udp.send(b"2", b"3")
        handle.process()
        assert udp.arrivals() == [b"2", b"3"]
        handle.handle_packet(report)
    assert handle.stats().verdict_errors == 1


def test_drops_of_a_queue_that_is_still_bound(
    handle: Handle, udp: UdpPair, other: socket.socket
) -> None:
    """Lost packets of a queue whose unbinding was refused explain no other queue's holes."""
    third = handle.create_queue(3, Packet.drop, rcvbuf=0)

    def first(packet: Packet) -> None:
        if data(packet) == b"a1":
            before = handle.stats().overruns
            for _ in range(400):
                unbound.send(bytes(200))
            handle.process(1000)
            handle.process()
            assert handle.stats().overruns > before
            udp.send(b"a2")
            other.send(b"b2")
            other.send(b"b3")
            handle.process()
        packet.accept()

    def second(packet: Packet) -> None:
        if data(packet) == b"b1":
            packet.drop()
        else:
            packet.accept()

    with other_sender(3, 9992) as unbound:
        handle.create_queue(1, first, rcvbuf=20_000)
        handle.create_queue(2, second, rcvbuf=0)
        with without_net_admin(), pytest.raises(PermissionError):
            third.destroy()
        handle.process()
        udp.send(b"a1")
        other.send(b"b1")
        handle.process()
        assert sorted(udp.arrivals()) == [b"a1", b"a2", b"b2", b"b3"]
    assert handle.stats().verdict_errors == 0
