# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue number that is destroyed and bound anew at once: nothing of the old binding remains."""

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Callable

import pytest
from netns import TIMEOUT, UdpPair, background, down, queue_rule, short_turns, up
from played_kernel import (
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_NOOP,
    PlayedKernel,
    message,
    packet_message,
)
from queues import ROUNDS, Handle, Packet, accept, accepting, data_of, netlink_socket

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET


class Callback:
    """A callback that does something when it is destroyed."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def __call__(self, packet: Packet) -> None:
        pass

    def __del__(self) -> None:
        self._then()


def hand_in_what_waits(handle: Handle, sock: socket.socket) -> int:
    """A loop of the user's own, until nothing is left to read."""
    packets = 0
    while True:
        try:
            data = sock.recv(1 << 17, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return packets
        packets += handle.handle_packet(data)


@pytest.mark.parametrize("new_first", [False, True])
def test_old_message_handed_in_late(handle: Handle, udp: UdpPair, new_first: bool) -> None:
    """A message read before its queue was destroyed reaches nobody, and holds nothing up."""
    new: list[bytes] = []
    callback = accepting(new)
    queue = handle.create_queue(1, callback, mode=COPY)
    with netlink_socket(handle) as sock:
        udp.send(b"old")
        old = sock.recv(1 << 17)
        queue.destroy()
        handle.create_queue(1, callback, mode=COPY)
        if new_first:
            udp.send(b"new 1", b"new 2")
        assert handle.handle_packet(old) == 0
        if not new_first:
            udp.send(b"new 1", b"new 2")
        assert hand_in_what_waits(handle, sock) == 2
    assert new == [b"new 1", b"new 2"]
    assert udp.arrivals() == new
    assert handle.stats().orphaned == 1


def test_old_message_of_a_packet_that_the_kernel_forgot(handle: Handle, udp: UdpPair) -> None:
    """It reaches nobody, though nothing waited when its queue was destroyed."""
    new: list[bytes] = []
    queue = handle.create_queue(1, accept)
    with netlink_socket(handle) as sock:
        udp.send(b"old")
        old = sock.recv(1 << 17)
        down("lo")
        up("lo")
        queue.destroy()
        handle.create_queue(1, accepting(new))
        udp.send(b"new")
        assert handle.handle_packet(old) == 0
        assert hand_in_what_waits(handle, sock) == 1
    assert new == udp.arrivals() == [b"new"]


def test_number_that_left_nothing(handle: Handle, udp: UdpPair) -> None:
    """A loop of the user's own that has handed in everything needs no care: nothing is doubted."""
    new: list[bytes] = []
    with netlink_socket(handle) as sock:
        for _ in range(3):
            queue = handle.create_queue(1, accepting(new))
            udp.send(b"1", b"2")
            assert hand_in_what_waits(handle, sock) == 2
            queue.destroy()
    assert new == udp.arrivals() == [b"1", b"2"] * 3
    assert handle.stats().orphaned == 0


def test_hardly_any_is_lost_meanwhile(handle: Handle) -> None:
    """Where all that nobody decides on may pass, a number that is bound anew loses next to nothing.

    The kernel has no mode for a new queue until it reads on in the request, and drops what comes.
    """
    queue_rule(1, bypass=True)
    lost = []
    with UdpPair() as udp, short_turns():
        for _ in range(2 * ROUNDS):
            queue = handle.create_queue(1, accept, default_verdict=nfq.NF_ACCEPT)
            udp.send(b"left")
            begun, stop = threading.Event(), threading.Event()
            sending = background(send_until, begun, stop, udp)
            begun.wait(TIMEOUT)
            queue.destroy()
            with handle.create_queue(1, accept, default_verdict=nfq.NF_ACCEPT):
                stop.set()
                sent = sending.result(TIMEOUT)
            lost.append(1 + sent - len(udp.arrivals()))
    # The machine may stand still in just that moment.
    assert len([count for count in lost if count > 2]) <= ROUNDS // 8, lost


def send_until(begun: threading.Event, stop: threading.Event, udp: UdpPair) -> int:
    """Sends datagrams, few enough for any receive buffer; returns how many."""
    begun.set()
    for count in range(100):
        if stop.is_set():
            return count
        udp.send(b"data")
    return 100


def test_old_message_while_another_queue_fills_the_buffer(handle: Handle, udp: UdpPair) -> None:
    """A late old message reaches nobody also when there is hardly room for a marker."""
    queue_rule(2, "-p udp --dport 7777")
    stop = threading.Event()

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not stop.is_set():
                sender.sendto(bytes(1000), ("127.0.0.1", 7777))

    flooding = background(flood)
    handle.create_queue(2, accept, mode=COPY)
    handle.rcvbuf = 16384
    with netlink_socket(handle) as sock:
        for number in range(20):
            queue = handle.create_queue(1, accept, mode=COPY, flags=nfq.NFQA_CFG_F_FAIL_OPEN)
            udp.send(b"%d" % number)
            assert udp.arrives(b"%d" % number, lambda: hand_in(handle, sock))
            udp.send(b"left")
            queue.destroy()
    stop.set()
    handle.close()  # what waits goes on, and makes room for what the flood still sends
    flooding.result(TIMEOUT)


def hand_in(handle: Handle, sock: socket.socket) -> None:
    """One turn of a loop of the user's own that knows of lost messages."""
    try:
        handle.handle_packet(sock.recv(1 << 17, socket.MSG_DONTWAIT))
    except BlockingIOError:
        pass
    except OSError as error:
        assert "No buffer space" in str(error)  # noqa: PT017


def test_callback_whose_end_closes_the_handle(handle: Handle, udp: UdpPair) -> None:
    """Waiting packets have had the default verdict before the callback is released."""
    queue = handle.create_queue(1, Callback(handle.close), mode=COPY, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"data")
    queue.destroy()
    assert handle.closed
    assert udp.arrivals() == [b"data"]


def test_callback_whose_end_binds_the_number(handle: Handle) -> None:
    """The number is free by the time that the callback is released."""
    created: list[nfq.NetfilterQueueQueueHandle] = []
    queue = handle.create_queue(1, Callback(lambda: created.append(handle.create_queue(1, accept))))
    queue.destroy()
    assert not created[0].destroyed


def test_number_is_free_once_its_queue_is_destroyed(handle: Handle) -> None:
    """The number is free for another thread that sees `destroyed` before `destroy` returns."""
    for _ in range(2 * ROUNDS):
        queue = handle.create_queue(1, accept, mode=COPY)

        def follow(queue: nfq.NetfilterQueueQueueHandle = queue) -> None:
            while not queue.destroyed:
                pass
            handle.create_queue(1, accept, mode=COPY).destroy()

        following = background(follow)
        queue.destroy()
        following.result(TIMEOUT)


def test_unsent_verdict_of_a_destroyed_queue() -> None:
    """A verdict that could not be sent is not sent to the number's next binding."""
    with PlayedKernel() as kernel:
        kept: list[Packet] = []
        queue = kernel.create_queue(1, kept.append)
        kernel.handle.handle_packet(packet_message(7))
        with socket.socket(fileno=os.dup(kernel.handle.fd())) as filler:
            with contextlib.suppress(BlockingIOError):
                while True:
                    filler.send(message(99), socket.MSG_DONTWAIT)
            with pytest.raises(OSError, match="sending verdicts"):
                kept.pop().accept()
            with pytest.raises(OSError, match=r"destroy\(\) of queue 1"):
                queue.destroy()
        kernel.received()
        kernel.create_queue(1, Packet.drop)
        kernel.handle.handle_packet(packet_message(1))
        assert [verdict.packet_id for verdict in kernel.verdicts()] == [1]


def test_bound_anew_while_it_is_destroyed() -> None:
    """A number is bound again once its destruction is over: no verdict of the new one is lost."""
    kept: list[Packet] = []
    with PlayedKernel() as kernel:
        queue = kernel.create_queue(1, accept)
        kernel.handle.autoflush = False
        destroying = background(queue.destroy)
        unbinding = kernel.request()
        creating = background(kernel.handle.create_queue, 1, kept.append)
        assert not select.select([kernel.socket], [], [], 0.1)[0]
        kernel.answer(unbinding)
        destroying.result(TIMEOUT)
        with kernel.answering():
            creating.result(TIMEOUT)
        kernel.received()
        kernel.socket.send(packet_message(1))
        assert kernel.handle.process(timeout=TIMEOUT) == 1
        kept[0].accept()
        kernel.handle.flush()
        assert [verdict.packet_id for verdict in kernel.verdicts()] == [1]
        assert kernel.handle.stats().defaulted == 0


# Several loops of the user's own


def read_all(sock: socket.socket) -> list[bytes]:
    """What waits in the socket, message by message."""
    messages: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(sock.recv(1 << 17, socket.MSG_DONTWAIT))
    return messages


def leave_all(queue: nfq.NetfilterQueueQueueHandle) -> None:
    """The packets wait when the queue is destroyed."""


def answer_all(queue: nfq.NetfilterQueueQueueHandle) -> None:
    """Nothing waits any more, though a reader still holds a message."""
    queue.set_verdict_batch(nfq.NF_ACCEPT, 3)


@pytest.mark.parametrize("finish", [leave_all, answer_all])
@pytest.mark.parametrize("late", [0, 1])
def test_old_message_that_was_overtaken(
    handle: Handle, udp: UdpPair, finish: Callable[[object], None], late: int
) -> None:
    """A message of the old binding that another reader overtook is not the new binding's packet."""
    kept: list[Packet] = []
    new: list[bytes] = []
    queue = handle.create_queue(1, kept.append)
    with netlink_socket(handle) as sock:
        udp.send(b"old 1", b"old 2", b"old 3")
        messages = read_all(sock)
        held = messages.pop(late)
        for data in messages:
            assert handle.handle_packet(data) == 1
        finish(queue)
        queue.destroy()
        udp.arrivals()
        handle.create_queue(1, accepting(new))
        udp.send(b"new 1", b"new 2", b"new 3")
        assert handle.handle_packet(held) == 0
        assert udp.arrivals() == []
        for data in read_all(sock):
            handle.handle_packet(data)
    assert new == [b"new 1", b"new 2", b"new 3"]
    assert udp.arrivals() == new


def test_marker_of_another_process(handle: Handle, udp: UdpPair) -> None:
    """It does not say that the messages behind it are the new binding's."""
    new: list[bytes] = []
    callback = accepting(new)
    queue = handle.create_queue(1, callback)
    with netlink_socket(handle) as sock:
        udp.send(b"old 1")
        old = [sock.recv(1 << 17)]
        flags = NLM_F_REQUEST | NLM_F_ACK
        sock.send(struct.pack("=IHHII", 16, NLMSG_NOOP, flags, 1 << 30, 1))
        old.append(sock.recv(1 << 17))
        udp.send(b"old 2")
        old.append(sock.recv(1 << 17))
        queue.destroy()
        handle.create_queue(1, callback)
        udp.send(b"new 1", b"new 2")
        assert [handle.handle_packet(data) for data in old] == [0, 0, 0]
        assert hand_in_what_waits(handle, sock) == 2
    assert new == [b"new 1", b"new 2"]
    assert udp.arrivals() == new


def test_new_messages_that_overtake_the_marker(handle: Handle, udp: UdpPair) -> None:
    """A packet that can't be told from the old binding's has no callback, and does not wait on.

    It gets the default once a newer one shows that its id is the new binding's.
    """
    new: list[bytes] = []
    queue = handle.create_queue(1, accept)
    with netlink_socket(handle) as sock:
        udp.send(b"old 1")
        sock.recv(1 << 17)  # by a reader that never hands it in
        queue.destroy()
        handle.create_queue(1, accepting(new), default_verdict=nfq.NF_ACCEPT)
        udp.send(b"new 1", b"new 2", b"new 3")
        marker, *messages = read_all(sock)
        for data in messages:
            assert handle.handle_packet(data) == 0
        assert udp.arrivals() == []
        handle.handle_packet(marker)
        udp.send(b"new 4")
        assert handle.process(timeout=TIMEOUT) == 1
    assert new == [b"new 4"]
    assert sorted(udp.arrivals()) == [b"new 1", b"new 2", b"new 3", b"new 4"]
    assert handle.stats().defaulted == 3


def test_what_the_old_binding_had_is_new(handle: Handle, udp: UdpPair) -> None:
    """Ids that the old binding had received are the new one's, whatever overtakes the marker."""
    old: list[bytes] = []
    new: list[bytes] = []
    queue = handle.create_queue(1, accepting(old))
    with netlink_socket(handle) as sock:
        udp.send(b"old 1", b"old 2", b"old 3", b"left")
        messages = read_all(sock)
        for data in messages[:3]:
            handle.handle_packet(data)
        queue.destroy()
        udp.arrivals()
        handle.create_queue(1, accepting(new))
        udp.send(b"new 1", b"new 2", b"new 3")
        marker, *messages = read_all(sock)
        for data in (*reversed(messages), marker):
            handle.handle_packet(data)
    assert old == [b"old 1", b"old 2", b"old 3"]
    assert new == [b"new 3", b"new 2", b"new 1"]
    assert sorted(udp.arrivals()) == sorted(new)


def test_old_message_after_its_namesake(handle: Handle, udp: UdpPair) -> None:
    """Once the new binding has had a packet, an old one's message with its id decides nothing."""
    new: list[Packet] = []
    queue = handle.create_queue(1, accept)
    with netlink_socket(handle) as sock:
        udp.send(b"old 1")
        held = sock.recv(1 << 17)
        queue.destroy()
        handle.create_queue(1, new.append)
        udp.send(b"new 1")
        for data in read_all(sock):
            handle.handle_packet(data)
        assert [packet.id for packet in new] == [1]
        assert handle.handle_packet(held) == 0
        assert len(new) == 1
        new[0].accept()
    assert udp.arrivals() == [b"new 1"]


def test_doubtful_message_and_its_namesake(handle: Handle, udp: UdpPair) -> None:
    """A packet of the new binding that is kept gets no default for an old message with its id."""
    kept: list[Packet] = []
    queue = handle.create_queue(1, accept)
    with netlink_socket(handle) as sock:
        udp.send(b"old 1", b"old 2")
        held = read_all(sock)
        queue.destroy()
        handle.create_queue(1, kept.append, default_verdict=nfq.NF_ACCEPT)
        udp.arrivals()
        udp.send(b"new 1", b"new 2")
        assert handle.handle_packet(held[0]) == 0  # before process() has read the marker
        assert handle.process(timeout=TIMEOUT) == 2
        assert handle.handle_packet(held[1]) == 0
        udp.send(b"new 3")
        assert handle.process(timeout=TIMEOUT) == 1
    assert [packet.id for packet in kept] == [1, 2, 3]
    assert udp.arrivals() == []
    for packet in kept:
        packet.accept()
    assert udp.arrivals() == [b"new 1", b"new 2", b"new 3"]
    assert handle.stats().verdict_errors == 0


def test_doubtful_message_whose_namesake_is_in_hand(handle: Handle, udp: UdpPair) -> None:
    """A call that has received it comes to it, however many packets others receive meanwhile."""
    began, go_on = threading.Event(), threading.Event()
    new: list[bytes] = []

    def callback(packet: Packet) -> None:
        new.append(data_of(packet))
        if new == [b"new 1"]:
            began.set()
            assert go_on.wait(TIMEOUT)
        packet.accept()

    queue = handle.create_queue(1, accept)
    with netlink_socket(handle) as sock:
        udp.send(b"old 1", b"old 2")
        held = read_all(sock)
        queue.destroy()
        handle.create_queue(1, callback)
        assert handle.handle_packet(held[1]) == 0
        udp.send(b"new 1", b"new 2")
        processing = background(handle.process, timeout=TIMEOUT)
        assert began.wait(TIMEOUT)
        for number in (3, 4, 5):
            udp.send(b"new %d" % number)
            assert handle.process(timeout=TIMEOUT) == 1
        go_on.set()
        assert processing.result(TIMEOUT) == 2
    assert new == [b"new 1", b"new 3", b"new 4", b"new 5", b"new 2"]
    assert sorted(udp.arrivals()) == sorted(new)
    assert handle.stats().verdict_errors == 0
