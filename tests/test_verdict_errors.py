# SPDX-License-Identifier: GPL-2.0-or-later
"""on_verdict_error: what the kernel refuses is told, later, and stops nothing."""

import errno
import gc
import select
import struct
import sys
import weakref

import pytest
from netns import TIMEOUT, UdpPair, background, down, up, without_net_admin
from played_kernel import (
    MSG_VERDICT,
    NLMSG_ERROR,
    PlayedKernel,
    error_message,
    message,
    packet_message,
)
from queues import Handle, Packet, accept, netlink_socket

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
Told = list[tuple[int | None, int, OSError]]


def listen(handle: Handle) -> Told:
    """What the handle's on_verdict_error is told."""
    told: Told = []
    handle.on_verdict_error = lambda number, packet_id, error: told.append(
        (number, packet_id, error)
    )
    return told


def keep(handle: Handle, udp: UdpPair, count: int) -> list[Packet]:
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    udp.send(*[b"data"] * count)
    assert handle.process(timeout=None) == count
    return packets


def flush_packets() -> None:
    """Has the kernel forget what waits on its way through loopback."""
    down("lo")
    up("lo")


def test_flushed_packet(handle: Handle, udp: UdpPair) -> None:
    """A packet that the kernel has dropped meanwhile is ENOENT, with its queue and its id."""
    told = listen(handle)
    packets = keep(handle, udp, 2)
    flush_packets()
    packets[1].accept()
    assert told == []
    assert handle.process() == 0
    assert [(number, packet_id) for number, packet_id, _ in told] == [(1, 2)]
    error = told[0][2]
    assert isinstance(error, FileNotFoundError)
    assert error.errno == errno.ENOENT
    assert "packet 2 of queue 1" in str(error)
    assert "no such packet any more" in str(error)
    assert handle.stats().verdict_errors == 1


def test_batch_verdict(handle: Handle, udp: UdpPair) -> None:
    """A refused batch is reported once, with the id that it went up to."""
    told = listen(handle)
    packets = keep(handle, udp, 3)
    flush_packets()
    packets[0].queue.set_verdict_batch(nfq.NF_ACCEPT, 2)
    handle.process()
    assert [(number, packet_id) for number, packet_id, _ in told] == [(1, 2)]
    assert "batch verdict up to packet 2 of queue 1" in str(told[0][2])


def test_lost_privilege(handle: Handle, udp: UdpPair) -> None:
    """Without CAP_NET_ADMIN the error is EPERM, and says what is needed."""
    told = listen(handle)
    packets = keep(handle, udp, 1)
    with without_net_admin():
        packets[0].accept()
    handle.process()
    assert isinstance(told[0][2], PermissionError)
    assert "CAP_NET_ADMIN" in str(told[0][2])


def test_handle_packet_tells(handle: Handle, udp: UdpPair) -> None:
    """A loop of one's own hands the report in, and on_verdict_error is called."""
    told = listen(handle)
    packets = keep(handle, udp, 1)
    flush_packets()
    packets[0].accept()
    with netlink_socket(handle) as sock:
        assert handle.handle_packet(sock.recv(4096)) == 0
    assert [packet_id for _, packet_id, _ in told] == [1]


def test_configuration_reads_the_report(handle: Handle, udp: UdpPair) -> None:
    """The next process reports what a configuration call has read; select wakes up for it."""
    told = listen(handle)
    packets = keep(handle, udp, 1)
    flush_packets()
    packets[0].accept()
    packets[0].queue.set_maxlen(100)
    assert told == []
    assert handle.stats().verdict_errors == 1
    assert select.select([handle], [], [], TIMEOUT)[0] == [handle]
    assert handle.process() == 0
    assert [packet_id for _, packet_id, _ in told] == [1]


def test_close_tells(handle: Handle, udp: UdpPair) -> None:
    """Reports that closing reads are passed on too."""
    told = listen(handle)
    packets = keep(handle, udp, 1)
    flush_packets()
    packets[0].accept()
    handle.close()
    assert [packet_id for _, packet_id, _ in told] == [1]


def test_many_in_order(handle: Handle, udp: UdpPair) -> None:
    """Each refusal is reported once, in the order of the verdicts; the default verdicts' too."""
    told = listen(handle)
    packets = keep(handle, udp, 20)
    flush_packets()
    for packet in reversed(packets[10:]):
        packet.accept()
    del packets[:10], packet
    while handle.process(timeout=0.01) or len(told) < 20:
        pass
    assert [packet_id for _, packet_id, _ in told[:10]] == list(range(20, 10, -1))
    assert sorted(packet_id for _, packet_id, _ in told[10:]) == list(range(1, 11))
    assert handle.stats().verdict_errors == 20


def test_loop_goes_on(handle: Handle, udp: UdpPair) -> None:
    """No refusal ends a wait, or is taken for a packet."""
    told = listen(handle)
    packets = keep(handle, udp, 1)
    flush_packets()
    packets[0].accept()
    waiting = background(handle.process, timeout=None)
    while not told:
        assert not waiting.done()
    udp.send(b"more")
    assert waiting.result(TIMEOUT) == 1
    packets[1].accept()
    assert udp.arrivals() == [b"more"]


def test_hook_may_do_anything(handle: Handle, udp: UdpPair) -> None:
    """on_verdict_error may process, reconfigure and close the handle."""
    seen: list[object] = []

    def hook(*_: object) -> None:
        seen.append(handle.process())
        packets[0].queue.set_maxlen(10)
        handle.close()

    packets = keep(handle, udp, 2)
    handle.on_verdict_error = hook
    flush_packets()
    for packet in packets:
        packet.accept()
    with pytest.raises(ValueError, match="closed"):
        handle.process(timeout=TIMEOUT)
    assert seen == [0]
    assert handle.closed


def test_hook_that_fails(handle: Handle, udp: UdpPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of on_verdict_error goes to the unraisable hook, and the others are reported."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_type))

    def fail(*_: object) -> None:
        raise KeyError

    packets = keep(handle, udp, 2)
    handle.on_verdict_error = fail
    flush_packets()
    for packet in packets:
        packet.accept()
    handle.process()
    assert unraisable == [KeyError, KeyError]


def test_without_a_hook(handle: Handle, udp: UdpPair) -> None:
    """Refusals without on_verdict_error are counted and not reported later."""
    packets = keep(handle, udp, 2)
    flush_packets()
    packets[0].accept()
    handle.process()
    told = listen(handle)
    handle.process()
    packets[1].accept()
    handle.on_verdict_error = None
    handle.process()
    assert told == []
    assert handle.stats().verdict_errors == 2


def test_capped_report() -> None:
    """A report without an echo names no queue; the packet is known by its sequence number."""
    with PlayedKernel() as kernel:
        told = listen(kernel.handle)
        kernel.create_queue(1, accept)
        refused = message(MSG_VERDICT, b"", 5)
        kernel.handle.handle_packet(error_message(errno.ENOMEM, refused))
    assert [(number, packet_id) for number, packet_id, _ in told] == [(None, 5)]
    assert isinstance(told[0][2], OSError)
    assert told[0][2].errno == errno.ENOMEM


def test_batch_verdict_up_to_id_0() -> None:
    """A refused batch up to id 0 is reported like any other, not taken for a queue's end."""
    with PlayedKernel() as kernel:
        told = listen(kernel.handle)
        packets: list[Packet] = []
        queue = kernel.create_queue(1, packets.append)
        for packet_id in (2**32 - 1, 0):
            kernel.socket.send(packet_message(packet_id))
        assert kernel.handle.process() == 2
        queue.set_verdict_batch(nfq.NF_ACCEPT, 0)
        (sent,) = kernel.received()
        kernel.socket.send(message(NLMSG_ERROR, struct.pack("=i", -errno.EPERM) + sent))
        kernel.handle.process()
        assert [(number, packet_id) for number, packet_id, _ in told] == [(1, 0)]
        assert kernel.handle.stats().verdict_errors == 1


def test_success_is_not_told() -> None:
    """Only refusals are reported: no acknowledgements, and no answers to other messages."""
    with PlayedKernel() as kernel:
        told = listen(kernel.handle)
        kernel.create_queue(1, accept)
        kernel.handle.handle_packet(packet_message(1))
        (verdict,) = kernel.received()
        kernel.handle.handle_packet(error_message(0, verdict))
        kernel.handle.handle_packet(error_message(errno.EPERM, message(0x302, b"", 5)))
    assert told == []


def test_reference_cycle() -> None:
    """on_verdict_error that refers to its handle is released with it, or when that is closed."""

    class Filter:
        def __init__(self) -> None:
            self.handle = nfq.open()
            self.handle.on_verdict_error = self.told

        def told(self, *_: object) -> None: ...

    closed, left_open = Filter(), Filter()
    closed.handle.close()
    gone = weakref.ref(closed)
    del closed
    assert gone() is None
    gone = weakref.ref(left_open)
    del left_open
    with pytest.warns(ResourceWarning, match="unclosed"):
        gc.collect()
    assert gone() is None
