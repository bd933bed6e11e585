# SPDX-License-Identifier: GPL-2.0-or-later
"""Closing, destroying, dropping and outliving: an exception or nothing, never a crash."""

import contextlib
import gc
import operator
import select
import socket
import weakref
from collections.abc import Callable

import pytest
from netns import TIMEOUT, UdpPair, queue_rule
from queues import Handle, Packet, Queue, accept, data_of, netlink_socket, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET


def facts(packet: Packet) -> tuple[object, ...]:
    """All that a packet's getters say."""
    return (
        *(packet.id, packet.queue, packet.family, packet.hook, packet.hw_protocol),
        *(packet.get_packet_hw(), packet.get_nfmark(), packet.get_timestamp()),
        *(packet.get_indev(), packet.get_physindev(), packet.get_outdev()),
        *(packet.get_physoutdev(), packet.get_payload(), packet.get_uid(), packet.get_gid()),
        *(packet.hw_addr, packet.mark, packet.timestamp, packet.indev, packet.physindev),
        *(packet.outdev, packet.physoutdev, packet.payload.tobytes(), packet.uid, packet.gid),
        *(packet.original_length, packet.truncated, packet.skb_info),
    )


# After the end


def test_closed_handle(handle: Handle) -> None:
    """A closed handle says so, and refuses everything but to be closed again."""
    queue = handle.create_queue(1, accept)
    assert not handle.closed
    handle.close()
    handle.close()
    assert handle.closed
    calls: list[Callable[[], object]] = [
        lambda: handle.bind_pf(socket.AF_INET),
        lambda: handle.unbind_pf(socket.AF_INET),
        lambda: handle.create_queue(1, accept),
        lambda: handle.handle_packet(b"anything"),
        handle.process,
        handle.fd,
        handle.fileno,
        lambda: queue.set_mode(COPY, 0xFFFF),
        lambda: queue.set_flags(0, 0),
        lambda: queue.set_maxlen(1),
        lambda: queue.set_verdict_batch(nfq.NF_DROP, 1),
    ]
    for call in calls:
        with pytest.raises(nfq.ClosedError, match=r"closed|destroyed"):
            call()
    assert queue.destroyed
    queue.destroy()


def test_destroyed_queue(handle: Handle) -> None:
    """A destroyed queue refuses everything but to be destroyed again, and knows what it was."""
    queue = handle.create_queue(1, accept)
    assert not queue.destroyed
    queue.destroy()
    queue.destroy()
    assert queue.destroyed
    assert (queue.number, queue.handle) == (1, handle)
    calls: list[Callable[[], object]] = [
        lambda: queue.set_mode(COPY, 0xFFFF),
        lambda: queue.set_flags(0, 0),
        lambda: queue.set_maxlen(1),
    ]
    for call in calls:
        with pytest.raises(nfq.ClosedError, match="destroyed"):
            call()


def test_with(udp: UdpPair) -> None:
    """`with` gives handle and queue, and closes and destroys them, also after an exception."""
    with nfq.open() as handle, handle.create_queue(1, accept, mode=COPY) as queue:
        udp.send(b"data")
        assert handle.process(timeout=None) == 1
    assert handle.closed
    assert queue.destroyed
    with pytest.raises(KeyError), nfq.open() as handle:  # noqa: PT012
        with pytest.raises(IndexError), handle.create_queue(1, accept) as queue:
            raise IndexError
        assert queue.destroyed
        assert not handle.closed
        raise KeyError
    assert handle.closed


@pytest.mark.parametrize("end", ["destroy", "close"])
def test_packet_outlives(handle: Handle, udp: UdpPair, end: str) -> None:
    """A packet outlives queue and handle: its getters stay right, a verdict is refused."""
    kept: list[Packet] = []
    queue = handle.create_queue(1, kept.append, mode=COPY)
    udp.send(b"data")
    handle.process(timeout=None)
    packet = kept.pop()
    view = packet.payload
    before = facts(packet)
    queue.destroy() if end == "destroy" else handle.close()
    for verdict in (nfq.NF_ACCEPT, nfq.NF_DROP):
        with pytest.raises(nfq.ClosedError, match=r"destroyed|closed"):
            packet.set_verdict(verdict)
    assert facts(packet) == before
    assert packet.queue is queue
    del queue
    handle.close()
    del handle
    gc.collect()
    assert facts(packet) == before
    del packet
    gc.collect()
    assert view[28:].tobytes() == b"data"
    assert udp.arrivals() == []


def test_packet_keeps_queue_and_handle(udp: UdpPair) -> None:
    """While a packet is there, its queue and handle are, and can be reached from it."""
    kept: list[Packet] = []
    handle = nfq.open()
    handle.create_queue(1, kept.append, mode=COPY)
    udp.send(b"data")
    handle.process(timeout=None)
    del handle
    gc.collect()
    kept[0].accept()
    assert udp.arrivals() == [b"data"]
    kept[0].queue.handle.close()


# Destroying with packets waiting


@pytest.mark.parametrize(("default", "passes"), [(nfq.NF_DROP, False), (nfq.NF_ACCEPT, True)])
@pytest.mark.parametrize("end", ["destroy", "close"])
def test_waiting_packets_get_the_default(
    handle: Handle, udp: UdpPair, default: nfq.Verdict, passes: bool, end: str
) -> None:
    """Kept packets and those not yet read get the default verdict when their queue goes."""
    kept: list[Packet] = []
    queue = handle.create_queue(1, kept.append, mode=COPY, default_verdict=default)
    udp.send(b"kept")
    handle.process(timeout=None)
    udp.send(b"unread")
    queue.destroy() if end == "destroy" else handle.close()
    assert udp.arrivals() == ([b"kept", b"unread"] if passes else [])
    with pytest.raises(nfq.ClosedError, match=r"destroyed|closed"):
        kept[0].accept()


def test_verdicts_before_the_default(handle: Handle, udp: UdpPair) -> None:
    """The default is only for those that have no verdict yet."""
    kept: list[Packet] = []
    queue = handle.create_queue(1, kept.append, mode=COPY, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"1", b"2", b"3")
    handle.process(timeout=None)
    kept[0].drop()
    kept[1].accept()
    queue.destroy()
    assert udp.arrivals() == [b"2", b"3"]


def test_number_at_once_again(handle: Handle, udp: UdpPair) -> None:
    """A number can be bound again at once; the old binding's packets have no part in it."""
    old: list[Packet] = []
    new: list[Packet] = []
    queue = handle.create_queue(1, old.append, mode=COPY)
    udp.send(b"1", b"2")
    handle.process(timeout=None)
    udp.send(b"3")
    queue.destroy()
    second = handle.create_queue(1, new.append, mode=COPY)
    assert second is not queue
    udp.send(b"4")
    handle.process(timeout=None)
    with pytest.raises(nfq.ClosedError, match="destroyed"):
        old[0].accept()  # has the id that the new packet has, too
    assert udp.arrivals() == []
    assert [(packet.id, data_of(packet)) for packet in new] == [(1, b"4")]
    old.clear()
    assert udp.arrivals() == []
    new[0].accept()
    assert udp.arrivals() == [b"4"]


def test_another_copy_of_the_descriptor(handle: Handle, udp: UdpPair) -> None:
    """Closing unbinds even where another copy of the descriptor lives on."""
    handle.create_queue(1, accept, mode=COPY, default_verdict=nfq.NF_ACCEPT)
    with netlink_socket(handle), nfq.open() as other:
        udp.send(b"1")
        handle.close()
        assert udp.arrivals() == [b"1"]
        other.create_queue(1, accept, mode=COPY)
        udp.send(b"2")
        assert other.process(timeout=None) == 1
        assert udp.arrivals() == [b"2"]


# Views and the caller's buffer


def received(handle: Handle, udp: UdpPair, data: bytes = b"data") -> bytearray:
    """The message of a packet with this data."""
    udp.send(data)
    with netlink_socket(handle) as sock:
        return bytearray(sock.recv(4096))


def test_kept_packet_copies_itself_out(handle: Handle, udp: UdpPair) -> None:
    """A kept packet never changes, whatever happens to the buffer that it came in."""
    kept: list[Packet] = []
    inside: list[tuple[object, ...]] = []

    def callback(packet: Packet) -> None:
        inside.append(facts(packet))
        kept.append(packet)

    handle.create_queue(1, callback, mode=COPY)
    buffer = received(handle, udp)
    assert handle.handle_packet(buffer) == 1
    for byte in (0x00, 0xFF, 0x5A):
        buffer[:] = bytes([byte]) * len(buffer)
        assert facts(kept[0]) == inside[0]
    buffer.clear()  # nor is it held
    assert facts(kept[0]) == inside[0]
    assert data_of(kept[0]) == b"data"
    kept[0].accept()
    assert udp.arrivals() == [b"data"]


@pytest.mark.parametrize("view", [operator.attrgetter("payload"), memoryview])
def test_view_aliases_the_buffer(
    handle: Handle, udp: UdpPair, view: Callable[[Packet], memoryview]
) -> None:
    """A view looks into the caller's buffer and holds it, for as long as it lives."""
    views: list[memoryview] = []
    handle.create_queue(1, lambda packet: views.append(view(packet)), mode=COPY)
    buffer = received(handle, udp)
    handle.handle_packet(buffer)
    assert views[0][28:].tobytes() == b"data"
    buffer[-4:] = b"DATA"
    assert views[0][28:].tobytes() == b"DATA"
    with pytest.raises(BufferError):
        buffer.append(0)
    views.clear()
    gc.collect()
    buffer.append(0)


def test_part_of_a_view_holds_the_buffer(handle: Handle, udp: UdpPair) -> None:
    """A part of a view holds the buffer too."""
    views: list[memoryview] = []
    handle.create_queue(1, lambda packet: views.append(packet.payload[28:30]), mode=COPY)
    buffer = received(handle, udp)
    handle.handle_packet(buffer)
    with pytest.raises(BufferError):
        buffer.clear()
    assert views.pop().tobytes() == b"da"
    gc.collect()
    buffer.clear()


def test_buffer_is_free_afterwards(handle: Handle, udp: UdpPair) -> None:
    """Without views the buffer is the caller's again when the call returns."""
    handle.create_queue(1, accept, mode=COPY)
    buffer = received(handle, udp)
    handle.handle_packet(buffer)
    buffer.clear()


def test_view_in_callback_is_no_copy(handle: Handle, udp: UdpPair) -> None:
    """The payload is not copied on its way to the callback, only for the packet that is kept."""
    buffer = bytearray()
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        buffer[-4:] = b"DATA"
        assert packet.payload[28:].tobytes() == b"DATA"
        assert packet.get_payload()[28:] == b"DATA"
        kept.append(packet)

    handle.create_queue(1, callback, mode=COPY)
    buffer += received(handle, udp)
    handle.handle_packet(buffer)
    buffer[-4:] = b"data"
    assert data_of(kept[0]) == b"DATA"
    assert kept[0].payload[28:].tobytes() == b"DATA"


def test_views_of_processed_packets_stay(handle: Handle, udp: UdpPair) -> None:
    """With process, views and packets stay valid whatever is received meanwhile."""
    views: list[memoryview] = []
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        views.append(packet.payload)
        if packet.id % 2:
            kept.append(packet)
        packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    sent = [bytes([number]) * 900 for number in range(200)]
    for first in range(0, 200, 20):
        udp.send(*sent[first : first + 20])
        while len(views) < first + 20:
            assert handle.process(timeout=TIMEOUT)
        assert udp.arrivals() == sent[first : first + 20]
    assert [view[28:].tobytes() for view in views] == sent
    assert [data_of(packet) for packet in kept] == sent[::2]


# What callbacks may do


def three_packets(
    handle: Handle, udp: UdpPair, callback: Callable[[Packet], None], default: nfq.Verdict
) -> Queue:
    """Queue 1 with three packets waiting."""
    queue = handle.create_queue(1, callback, mode=COPY, default_verdict=default)
    udp.send(b"1", b"2", b"3")
    return queue


@pytest.mark.parametrize("end", ["destroy", "close"])
@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_callback_ends_its_queue(handle: Handle, udp: UdpPair, end: str, when: str) -> None:
    """A callback may destroy its queue or close its handle: its verdict before that is executed.

    Afterwards set_verdict is too late, but no error; all other packets get the default.
    """
    seen: list[bytes] = []

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        if when == "before":
            packet.drop()
        packet.queue.destroy() if end == "destroy" else handle.close()
        if when == "after":
            packet.drop()

    queue = three_packets(handle, udp, callback, nfq.NF_ACCEPT)
    handle.process(timeout=None)
    assert seen == [b"1"]
    assert queue.destroyed
    assert handle.closed == (end == "close")
    assert udp.arrivals() == ([b"2", b"3"] if when == "before" else [b"1", b"2", b"3"])


def test_callback_destroys_after_earlier_ones(handle: Handle, udp: UdpPair) -> None:
    """Verdicts of the same dispatch that are recorded already are executed first."""

    def callback(packet: Packet) -> None:
        packet.drop()
        if packet.id == 2:
            packet.queue.destroy()

    three_packets(handle, udp, callback, nfq.NF_ACCEPT)
    handle.process(timeout=None)
    assert udp.arrivals() == [b"3"]


def test_callback_creates_queues(handle: Handle, udp: UdpPair) -> None:
    """A callback may create queues, also of the number that it has just destroyed."""
    seen: list[bytes] = []

    def second(packet: Packet) -> None:
        seen.append(data_of(packet))
        packet.accept()

    def first(packet: Packet) -> None:
        packet.queue.destroy()
        handle.create_queue(1, second, mode=COPY)
        handle.create_queue(2, second, mode=COPY)

    three_packets(handle, udp, first, nfq.NF_DROP)
    handle.process(timeout=None)
    queue_rule(2, "-p udp --sport 9997")
    udp.send(b"4")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 9997))
        other.sendto(b"5", ("127.0.0.1", 9999))
    process_until(handle, lambda: len(seen) == 2)
    assert seen == [b"4", b"5"]
    assert udp.arrivals() == [b"4", b"5"]


def test_callback_reconfigures(handle: Handle, udp: UdpPair) -> None:
    """A callback may reconfigure its queue; packets that come from then on are affected."""
    lengths: list[int] = []

    def callback(packet: Packet) -> None:
        lengths.append(len(packet.payload))
        packet.accept()
        queue.set_mode(COPY, 30)
        queue.set_flags(nfq.NFQA_CFG_F_UID_GID, nfq.NFQA_CFG_F_UID_GID)
        queue.set_maxlen(500)

    queue = three_packets(handle, udp, callback, nfq.NF_DROP)
    process_until(handle, lambda: len(lengths) == 3)
    udp.send(b"4")
    udp.send(b"0123456789")
    process_until(handle, lambda: len(lengths) == 5)
    assert lengths == [29, 29, 29, 29, 30]
    assert udp.arrivals() == [b"1", b"2", b"3", b"4", b"0123456789"]


@pytest.mark.parametrize("way", ["process", "handle_packet"])
def test_callback_dispatches(handle: Handle, udp: UdpPair, way: str) -> None:
    """A callback may read and dispatch further packets."""
    seen: list[bytes] = []
    sock = netlink_socket(handle)

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        packet.accept()
        if len(seen) < 3:
            if way == "process":
                assert handle.process(max_packets=1, timeout=None) == 1
            else:
                assert handle.handle_packet(sock.recv(4096)) == 1
        seen.append(data_of(packet))

    with sock:
        three_packets(handle, udp, callback, nfq.NF_DROP)
        assert handle.process(max_packets=1, timeout=None) == 1
    assert seen == [b"1", b"2", b"3", b"3", b"2", b"1"]
    assert sorted(udp.arrivals()) == [b"1", b"2", b"3"]


def test_nested_exception(handle: Handle, udp: UdpPair) -> None:
    """An exception of the inner dispatch comes out of it, in the callback."""

    def callback(packet: Packet) -> None:
        if packet.id == 2:
            raise KeyError
        with pytest.raises(KeyError):
            handle.process(max_packets=1, timeout=None)
        packet.accept()

    three_packets(handle, udp, callback, nfq.NF_ACCEPT)
    assert handle.process(max_packets=1, timeout=None) == 1
    assert sorted(udp.arrivals()) == [b"1", b"2"]


# Dropping


def test_dropped_open_handle(udp: UdpPair) -> None:
    """An open handle that is dropped warns and is closed, its queues with it."""
    handles = [nfq.open()]
    handles[0].create_queue(1, accept, mode=COPY, default_verdict=nfq.NF_ACCEPT)
    gc.collect()
    udp.send(b"data")
    handles.clear()
    with pytest.warns(ResourceWarning, match="unclosed"):
        gc.collect()
    assert udp.arrivals() == [b"data"]
    with nfq.open() as other:
        other.create_queue(1, accept)


def test_dropped_closed_handle() -> None:
    """A closed handle that is dropped goes silently."""
    handle = nfq.open()
    handle.create_queue(1, accept)
    handle.close()
    del handle
    gc.collect()


def test_dropped_queue_stays(handle: Handle, udp: UdpPair) -> None:
    """The handle owns its queues: nobody else has to hold them."""
    handle.create_queue(1, accept, mode=COPY)
    gc.collect()
    udp.send(b"data")
    assert handle.process(timeout=None) == 1
    assert udp.arrivals() == [b"data"]


class Cycle:
    """A callback that refers to everything that refers to it."""

    def __init__(self, handle: Handle) -> None:
        self.kept: list[Packet] = []
        self.handle = handle
        self.queue = handle.create_queue(1, self.callback, mode=COPY)

    def callback(self, packet: Packet) -> None:
        self.kept.append(packet)


@pytest.mark.parametrize("close", [False, True])
def test_cycles_are_collected(udp: UdpPair, close: bool) -> None:
    """Handle, queue, callback and packets that refer to each other go together."""
    cycle = Cycle(nfq.open())
    gone = weakref.ref(cycle)
    udp.send(b"data")
    cycle.handle.process(timeout=None)
    if close:
        cycle.handle.close()
    del cycle
    with contextlib.nullcontext() if close else pytest.warns(ResourceWarning, match="unclosed"):
        gc.collect()
    assert gone() is None
    with nfq.open() as other:
        other.create_queue(1, accept)


def test_destroyed_queue_lets_its_callback_go(handle: Handle) -> None:
    """A destroyed queue doesn't hold on to its callback."""

    def callback(packet: Packet) -> None:
        pass

    queue = handle.create_queue(1, callback)
    gone = weakref.ref(callback)
    queue.destroy()
    del callback
    gc.collect()
    assert gone() is None


def test_descriptor_is_closed(handle: Handle) -> None:
    """Closing closes the descriptor."""
    descriptor = handle.fd()
    handle.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        select.select([descriptor], [], [], 0)
