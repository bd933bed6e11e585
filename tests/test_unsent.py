# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts that can't leave: no packet gets another one's, and all that is behind them goes on."""

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from netns import TIMEOUT, UdpPair, background, without_net_admin
from played_kernel import PlayedKernel, packet_message
from queues import Handle, Packet, accept, data_of, keeping, netlink_socket, process_until

import libnetfilterqueue as nfq

LARGE = b"T" * 9000
PATIENCE = 2.3  # seconds after which a handle no longer waits for room in a pair
Told = list[tuple[int | None, int, int | None]]


@pytest.fixture
def told(handle: Handle) -> Told:
    """What on_verdict_error is told: queue, id and errno."""
    told: Told = []
    handle.on_verdict_error = lambda number, packet_id, error: told.append(
        (number, packet_id, error.errno)
    )
    return told


@pytest.fixture
def small_sends(handle: Handle) -> None:
    """The handle's socket sends datagrams of a few kilobytes only, as the kernel's least buffer."""
    with netlink_socket(handle) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


def by_content(packet: Packet) -> None:
    """Drops what says so, replaces large packets by themselves, and accepts the rest."""
    data = data_of(packet)
    if data == b"drop":
        packet.drop()
    elif data == LARGE:
        packet.accept(payload=packet.get_payload())
    else:
        packet.accept()


# Too large for the socket


@pytest.mark.usefixtures("small_sends")
@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize("default", [nfq.NF_DROP, nfq.NF_ACCEPT])
def test_too_large(handle: Handle, udp: UdpPair, told: Told, at: int, default: nfq.Verdict) -> None:
    """Only the packet whose verdict is too large gets the default; batches that follow spare it."""
    sent = [b"one", b"drop", b"two"]
    sent.insert(at, LARGE)
    handle.create_queue(1, by_content, default_verdict=default)
    udp.send(*sent)
    assert handle.process() == 4
    passed = [data for data in sent if data != b"drop" and (data != LARGE or default)]
    assert udp.arrivals() == passed
    assert told == [(1, at + 1, errno.EMSGSIZE)]
    udp.send(b"three", b"four")
    assert handle.process() == 2
    assert udp.arrivals() == [b"three", b"four"]
    stats = handle.stats()
    assert (stats.verdict_errors, stats.defaulted, stats.verdicts) == (1, 1, 6)


@pytest.mark.usefixtures("small_sends")
def test_too_large_error_names_the_reason(handle: Handle, udp: UdpPair) -> None:
    """The error that on_verdict_error gets says what does not fit where."""
    errors: list[OSError] = []
    handle.on_verdict_error = lambda *arguments: errors.append(arguments[2])
    handle.create_queue(1, by_content)
    udp.send(LARGE)
    handle.process()
    (error,) = errors
    assert "packet 1 of queue 1" in str(error)
    assert "SO_SNDBUF" in str(error)


@pytest.mark.usefixtures("small_sends")
def test_too_large_for_a_kept_packet(handle: Handle, udp: UdpPair, told: Told) -> None:
    """A kept packet's verdict that is too large is reported at once; the others get their own."""
    packets = keeping(handle)
    udp.send(b"drop", LARGE, b"one")
    assert handle.process() == 3
    for packet in packets:
        by_content(packet)
    assert told == [(1, 2, errno.EMSGSIZE)]
    assert udp.arrivals() == [b"one"]


@pytest.mark.usefixtures("small_sends")
def test_too_large_while_its_queue_is_destroyed(handle: Handle, udp: UdpPair, told: Told) -> None:
    """A verdict that is recorded when its queue is destroyed gets the queue's own default."""

    def callback(packet: Packet) -> None:
        by_content(packet)
        packet.queue.destroy()

    handle.create_queue(1, callback, default_verdict=nfq.NF_ACCEPT)
    udp.send(LARGE)
    assert handle.process() == 1
    assert told == [(1, 1, errno.EMSGSIZE)]
    assert udp.arrivals() == [LARGE]


@pytest.mark.usefixtures("small_sends")
@pytest.mark.parametrize("in_callback", [False, True])
def test_too_large_while_its_handle_is_detached(
    handle: Handle, udp: UdpPair, in_callback: bool
) -> None:
    """The same where the queue is left to another process."""
    left: list[int] = []
    packets: list[Packet] = []

    def callback(packet: Packet) -> None:
        if in_callback:
            by_content(packet)
            left.append(handle.detach())
        else:
            packets.append(packet)

    handle.create_queue(1, callback, default_verdict=nfq.NF_ACCEPT)
    udp.send(LARGE)
    assert handle.process() == 1
    if not in_callback:
        handle.autoflush = False
        by_content(packets[0])
        left.append(handle.detach())
    os.close(left[0])
    assert udp.arrivals() == [LARGE]


@pytest.mark.usefixtures("small_sends")
@pytest.mark.parametrize("leaves", [False, True])
def test_told_between_two_callbacks(handle: Handle, udp: UdpPair, leaves: bool) -> None:
    """If on_verdict_error raises or destroys the queue, no further callback is called."""
    seen: list[int] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.id)
        time.sleep(0.002)  # the next verdict does not wait for it
        by_content(packet)

    def listener(*_: object) -> None:
        if leaves:
            raise KeyboardInterrupt
        queue.destroy()

    handle.on_verdict_error = listener
    queue = handle.create_queue(1, callback)
    udp.send(LARGE, b"one")
    if leaves:
        with pytest.raises(KeyboardInterrupt):
            handle.process()
        assert seen == [1]
        assert handle.process() == 1
        assert seen == [1, 2]
        assert udp.arrivals() == [b"one"]
    else:
        assert handle.process() == 1
        assert seen == [1]


@pytest.mark.usefixtures("small_sends")
def test_many_too_large(handle: Handle, udp: UdpPair, told: Told) -> None:
    """Several verdicts that are too large are replaced one by one, each reported."""
    handle.create_queue(1, by_content)
    udp.send(LARGE, b"one", LARGE, LARGE, b"two")
    assert handle.process() == 5
    assert udp.arrivals() == [b"one", b"two"]
    assert told == [(1, packet_id, errno.EMSGSIZE) for packet_id in (1, 3, 4)]


# What is left for later


def test_process_sends_before_it_waits() -> None:
    """Verdicts that a full peer did not take are tried again by the next process()."""
    with PlayedKernel() as kernel:
        kernel.create_queue(1, accept)
        kernel.socket.send(packet_message(1))
        with kernel.deaf(), pytest.raises(BlockingIOError):
            kernel.handle.process()
        assert kernel.verdicts() == []
        assert kernel.handle.process() == 0
        assert [verdict.packet_id for verdict in kernel.verdicts()] == [1]


@contextlib.contextmanager
def waiting_unsent(kernel: PlayedKernel) -> Iterator[Future[int]]:
    """A process() that waits for ever while the peer takes no verdict, and one is to be sent."""
    kernel.create_queue(1, accept)
    kernel.socket.send(packet_message(1))
    with kernel.deaf():
        with pytest.raises(BlockingIOError):
            kernel.handle.process()
        yield background(kernel.handle.process, timeout=None)


def test_waiting_process_sends() -> None:
    """A process() that waits for ever tries again and again until the peer takes it."""
    with PlayedKernel() as kernel:
        with waiting_unsent(kernel) as waiting:
            pass
        end = time.monotonic() + TIMEOUT
        while not (verdicts := kernel.verdicts()):
            assert time.monotonic() < end
        assert [verdict.packet_id for verdict in verdicts] == [1]
        kernel.socket.send(packet_message(2))
        assert waiting.result(TIMEOUT) == 1


def test_process_that_waits_already_sends() -> None:
    """A process() that waits already tries again when another thread's verdict finds no room."""
    packets: list[Packet] = []
    with PlayedKernel() as kernel:
        kernel.create_queue(1, packets.append)
        kernel.socket.send(packet_message(1))
        assert kernel.handle.process() == 1
        waiting = background(kernel.handle.process, timeout=None)
        time.sleep(0.1)
        with kernel.deaf(), pytest.raises(BlockingIOError):
            packets[0].accept()
        assert select.select([kernel.socket], [], [], TIMEOUT)[0]
        assert [verdict.packet_id for verdict in kernel.verdicts()] == [1]
        kernel.socket.send(packet_message(2))
        assert waiting.result(TIMEOUT) == 1


def test_close_wakes_who_tries_again() -> None:
    """A process() that waits for ever ends when the handle is closed with a verdict unsent."""
    with PlayedKernel() as kernel, waiting_unsent(kernel) as waiting:
        time.sleep(0.05)
        kernel.handle.close()
        with pytest.raises(nfq.ClosedError):
            waiting.result(TIMEOUT)


def test_order_after_a_failure() -> None:
    """Unsent verdicts go in front of later ones, each with its own verdict."""
    with PlayedKernel() as kernel:
        given = iter([nfq.NF_DROP, nfq.NF_ACCEPT, nfq.NF_ACCEPT, nfq.NF_DROP])
        kernel.create_queue(1, lambda packet: packet.set_verdict(next(given)))
        for packet_id in (1, 2):
            kernel.socket.send(packet_message(packet_id))
        with kernel.deaf(), pytest.raises(BlockingIOError):
            kernel.handle.process()
        for packet_id in (3, 4):
            kernel.socket.send(packet_message(packet_id))
        kernel.handle.process()
        sent = [(verdict.packet_id, verdict.verdict) for verdict in kernel.verdicts()]
        assert sent == [(1, 0), (2, 1), (3, 1), (4, 0)]


def test_destroyed_before_it_left() -> None:
    """Verdicts that can't leave before their queue goes become the default, each reported."""
    with PlayedKernel() as kernel:
        told: Told = []
        kernel.handle.on_verdict_error = lambda number, packet_id, error: told.append(
            (number, packet_id, error.errno)
        )
        queue = kernel.create_queue(1, lambda packet: packet.accept(mark=packet.id))
        for packet_id in (1, 2, 3):
            kernel.socket.send(packet_message(packet_id))
        with kernel.deaf():
            with pytest.raises(BlockingIOError):
                kernel.handle.process()
            with pytest.raises(BlockingIOError):
                queue.destroy()
        assert kernel.verdicts() == []
        assert kernel.handle.process() == 0
        assert told == [(1, packet_id, errno.EAGAIN) for packet_id in (1, 2, 3)]
        assert kernel.handle.stats().defaulted == 3


@pytest.mark.slow
def test_too_large_while_two_queues_are_destroyed() -> None:
    """A verdict that becomes too large while its queue is destroyed gets that queue's default."""
    packets: list[Packet] = []
    with PlayedKernel(socket.SOCK_SEQPACKET) as kernel:
        queue = kernel.create_queue(1, packets.append, nfq.NF_ACCEPT)
        other = kernel.create_queue(2, packets.append, nfq.NF_DROP)
        kernel.socket.send(packet_message(1))
        assert kernel.handle.process() == 1
        kernel.handle.autoflush = False
        packets[0].accept(payload=LARGE)
        with kernel.deaf():
            destroying = background(queue.destroy)
            time.sleep(PATIENCE)
        unbinding = kernel.request()
        with socket.socket(fileno=os.dup(kernel.handle.fd())) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        with kernel.answering():
            other.destroy()
        kernel.answer(unbinding)
        with pytest.raises(BlockingIOError):
            destroying.result(TIMEOUT)
        verdicts = [verdict for verdict in kernel.verdicts() if not verdict.batch]
        assert [(verdict.number, verdict.verdict) for verdict in verdicts] == [(1, nfq.NF_ACCEPT)]


# A capability that is lost, and comes back


def dropping_first(packet: Packet) -> None:
    packet.set_verdict(nfq.NF_DROP if packet.id == 1 else nfq.NF_ACCEPT)


def test_capability_comes_back_before_the_report_is_read(handle: Handle, udp: UdpPair) -> None:
    """A drop that was refused is not overruled by a batch, though its report is still unread."""
    handle.create_queue(1, dropping_first)
    udp.send(b"no", b"2", b"3", b"4")
    with without_net_admin():
        assert handle.process(1) == 1
    assert handle.process() == 3
    assert udp.arrivals() == [b"2", b"3", b"4"]
    udp.send(b"5", b"6")
    assert handle.process() == 2
    assert udp.arrivals() == [b"5", b"6"]
    assert handle.stats().verdict_errors == 1


def test_several_refused_together(handle: Handle, udp: UdpPair) -> None:
    """Several refused verdicts that one datagram carried are not overruled by a batch."""
    handle.create_queue(1, dropping_first)
    udp.send(b"no", b"2", b"3", b"4")
    with without_net_admin():
        assert handle.process(2) == 2
    assert handle.process() == 2
    assert sorted(udp.arrivals()) == [b"3", b"4"]


def test_batch_that_is_asked_for_spares_the_refused(handle: Handle, udp: UdpPair) -> None:
    """set_verdict_batch() gives its verdict to what waits here, and not to a refused packet."""
    packets: list[Packet] = []

    def callback(packet: Packet) -> None:
        if packet.id == 1:
            packet.drop()
        else:
            packets.append(packet)

    queue = handle.create_queue(1, callback)
    udp.send(b"no", b"2", b"3")
    with without_net_admin():
        assert handle.process() == 3
    queue.set_verdict_batch(nfq.NF_ACCEPT, 3, mark=7)
    assert [packet.verdict for packet in packets] == [nfq.NF_ACCEPT] * 2
    assert udp.arrivals() == [b"2", b"3"]
    with pytest.raises(nfq.VerdictError):
        packets[0].drop()
    process_until(handle, lambda: handle.stats().verdict_errors)


def test_thread_without_the_capability(handle: Handle, udp: UdpPair) -> None:
    """A thread whose verdict is refused does not have its packet released by another's batch."""
    packets = keeping(handle)
    udp.send(b"no", b"2", b"3")
    assert handle.process() == 3

    def body() -> None:
        with without_net_admin():
            packets[0].drop()

    background(body).result(TIMEOUT)
    handle.autoflush = False
    packets[1].accept()
    packets[2].accept()
    handle.flush()
    assert udp.arrivals() == [b"2", b"3"]


# Destructors


def test_destructor_leaves_what_is_held(handle: Handle, udp: UdpPair) -> None:
    """Dropping a packet sends its own default, and none of the verdicts that are held."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"1", b"2", b"3")
    process_until(handle, lambda: len(packets) == 3)
    handle.autoflush = False
    last = packets.pop()
    for packet in packets:
        packet.accept()
    sends = handle.stats().sends
    del last
    assert udp.arrivals() == [b"3"]
    assert handle.stats().sends == sends + 1
    handle.flush()
    assert udp.arrivals() == [b"1", b"2"]


def test_destructor_that_finds_no_room() -> None:
    """A default that a destructor can't send leaves with the next flush."""
    with PlayedKernel() as kernel:
        packets: list[Packet] = []
        kernel.create_queue(1, packets.append)
        for packet_id in (1, 2):
            kernel.socket.send(packet_message(packet_id))
        kernel.handle.process()
        kernel.handle.autoflush = False
        packets[0].accept()
        with kernel.deaf():
            del packets[1]
        kernel.handle.flush()
        sent = [(verdict.packet_id, verdict.verdict) for verdict in kernel.verdicts()]
        assert sent == [(1, 1), (2, 0)]


# Batch verdicts that are asked for


def test_first_batch_counts(handle: Handle, udp: UdpPair) -> None:
    """A packet that comes late shows the first of the batch verdicts that covered it."""
    packets: list[Packet] = []
    queue = handle.create_queue(1, packets.append)
    with netlink_socket(handle) as sock:
        udp.send(*[b"%d" % number for number in range(1, 7)])
        messages = [sock.recv(1 << 17) for _ in range(6)]
    for at in (1, 3, 5):
        handle.handle_packet(messages[at])
    for verdict, up_to in ((nfq.NF_DROP, 2), (nfq.NF_ACCEPT, 4), (nfq.NF_DROP, 6)):
        queue.set_verdict_batch(verdict, up_to)
    for at in (0, 2, 4):
        handle.handle_packet(messages[at])
    shown = {packet.id: packet.verdict for packet in packets}
    assert shown == {1: 0, 2: 0, 3: 1, 4: 1, 5: 0, 6: 0}
    assert sorted(udp.arrivals()) == [b"3", b"4"]


def batch_time(kept: int, covered: int) -> float:
    """The processor's time for batch verdicts over so many packets, while more of them are kept."""
    with PlayedKernel() as kernel:
        packets: list[Packet] = []
        queue = kernel.create_queue(1, packets.append)
        for packet_id in range(1, kept + 1):
            kernel.handle.handle_packet(packet_message(packet_id))
        kernel.handle.autoflush = False
        before = time.thread_time()
        for packet_id in range(1, covered + 1):
            queue.set_verdict_batch(nfq.NF_ACCEPT, packet_id)
        used = time.thread_time() - before
        assert [packet.verdict for packet in packets[covered - 1 : covered + 1]] == [1, None]
        kernel.received()
    return used


def test_batch_costs_what_it_covers() -> None:
    """A batch verdict over one packet costs the same however many more are kept."""
    few = min(batch_time(600, 500) for _ in range(3))
    many = min(batch_time(20_600, 500) for _ in range(3))
    assert many < 10 * few  # it was 100 times as much when all of them were looked at


def test_batch_over_packets_kept_out_of_order(handle: Handle, udp: UdpPair) -> None:
    """A batch verdict covers the ids up to its own, in whatever order they were kept."""
    packets: list[Packet] = []

    def callback(packet: Packet) -> None:
        if packet.id == 1:  # its callback ends after all others'
            udp.send(b"2", b"3", b"4", b"5")
            process_until(handle, lambda: len(packets) == 4)
        packets.append(packet)

    queue = handle.create_queue(1, callback)
    udp.send(b"1")
    process_until(handle, lambda: len(packets) == 5)
    assert [packet.id for packet in packets] == [2, 3, 4, 5, 1]
    queue.set_verdict_batch(nfq.NF_ACCEPT, 3)
    assert sorted(udp.arrivals()) == [b"1", b"2", b"3"]
    for packet in packets:
        if packet.id > 3:
            packet.accept()
    assert udp.arrivals() == [b"4", b"5"]
