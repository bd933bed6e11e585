# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue number that is destroyed and bound anew at once: nothing of the old binding remains."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable

import pytest
from netns import TIMEOUT, UdpPair, background, queue_rule
from played_kernel import PlayedKernel, message, packet_message
from queues import Handle, Packet, accept, accepting, netlink_socket

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


def test_old_message_while_another_queue_fills_the_buffer(handle: Handle, udp: UdpPair) -> None:
    """The same when there is hardly ever room for a marker."""
    queue_rule(2, "-p udp --dport 7777")
    stop = threading.Event()

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not stop.is_set():
                sender.sendto(bytes(1000), ("127.0.0.1", 7777))

    flooding = background(flood)
    handle.create_queue(2, accept, mode=COPY)
    with netlink_socket(handle) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        for number in range(20):
            queue = handle.create_queue(1, accept, mode=COPY, flags=nfq.NFQA_CFG_F_FAIL_OPEN)
            udp.send(b"%d" % number)
            assert udp.arrives(b"%d" % number, lambda: hand_in(handle, sock))
            udp.send(b"left")
            queue.destroy()
    stop.set()
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
    """What waits has had the default verdict before the callback is let go."""
    queue = handle.create_queue(1, Callback(handle.close), mode=COPY, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"data")
    queue.destroy()
    assert handle.closed
    assert udp.arrivals() == [b"data"]


def test_callback_whose_end_binds_the_number(handle: Handle) -> None:
    """The number is free by then."""
    created: list[nfq.NetfilterQueueQueueHandle] = []
    queue = handle.create_queue(1, Callback(lambda: created.append(handle.create_queue(1, accept))))
    queue.destroy()
    assert not created[0].destroyed


def test_number_is_free_once_its_queue_is_destroyed(handle: Handle) -> None:
    """Also for another thread, which sees `destroyed` while `destroy` has not returned yet."""
    for _ in range(300):
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
