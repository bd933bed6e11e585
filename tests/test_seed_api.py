# SPDX-License-Identifier: GPL-2.0-or-later
"""Every name of the seed's README works as it is documented there."""

import os
import select
import socket

import pytest
from netns import Counter, UdpPair, queue_rule
from queues import Handle, Packet, accept, accepting, data_of

import libnetfilterqueue as nfq

METHODS: dict[type[object], str] = {
    nfq.NetfilterQueueHandle: "bind_pf unbind_pf create_queue handle_packet fd close",
    nfq.NetfilterQueueQueueHandle: "set_mode set_flags set_maxlen destroy",
    nfq.NetfilterQueueData: (
        "get_packet_hw get_nfmark get_timestamp get_indev get_physindev get_outdev"
        " get_physoutdev get_payload get_uid get_gid set_verdict"
    ),
}


@pytest.mark.parametrize("cls", METHODS)
def test_names(cls: type[object]) -> None:
    """All methods of the seed are there, and have docstrings."""
    for name in METHODS[cls].split():
        assert callable(getattr(cls, name))
        assert getattr(cls, name).__doc__


def test_usage(udp: UdpPair) -> None:
    """The calls of the usage example, in its order, carry a packet through."""
    received: list[bytes] = []

    def callback(data: Packet) -> None:
        received.append(data.get_payload())
        data.set_verdict(nfq.NF_ACCEPT, mark=None)

    handle = nfq.open()
    handle.unbind_pf(socket.AF_INET)
    handle.unbind_pf(socket.AF_INET6)
    handle.bind_pf(socket.AF_INET)
    handle.bind_pf(socket.AF_INET6)
    queue = handle.create_queue(1, callback)
    queue.set_mode(nfq.NFQNL_COPY_PACKET, 0xFFFF)
    sock = socket.fromfd(handle.fd(), socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        udp.send(b"one", b"two")
        for _ in range(2):
            handle.handle_packet(sock.recv(4096))
    finally:
        sock.close()
    queue.destroy()
    handle.close()
    assert udp.arrivals() == [b"one", b"two"]
    assert [payload[28:] for payload in received] == [b"one", b"two"]


def test_getters(handle: Handle, udp: UdpPair) -> None:
    """The ten getters are right on a packet on its way out over loopback."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_PACKET)
    udp.send(b"data")
    handle.process(timeout=None)
    (packet,) = packets
    assert packet.get_payload()[28:] == b"data"
    assert isinstance(packet.get_payload(), bytes)
    assert packet.get_outdev() == socket.if_nametoindex("lo")
    assert packet.get_indev() == packet.get_physindev() == packet.get_physoutdev() == 0
    assert packet.get_packet_hw() == b""
    assert packet.get_nfmark() == 0
    assert packet.get_timestamp() is None
    assert packet.get_uid() is None
    assert packet.get_gid() is None


def test_descriptor(handle: Handle, udp: UdpPair) -> None:
    """The descriptor is one, blocking, not inherited, and readable when a packet waits."""
    assert handle.fd() == handle.fileno()
    assert os.get_blocking(handle.fd())
    assert not os.get_inheritable(handle.fd())
    handle.create_queue(1, accept, mode=nfq.NFQNL_COPY_PACKET)
    assert select.select([handle], [], [], 0)[0] == []
    udp.send(b"data")
    assert select.select([handle], [], [], 0)[0] == [handle]
    assert handle.process() == 1
    assert select.select([handle], [], [], 0)[0] == []


def test_set_mode(handle: Handle, udp: UdpPair) -> None:
    """META sends no payload, PACKET as much of it as the range says."""
    payloads: list[bytes] = []

    def callback(packet: Packet) -> None:
        payloads.append(packet.get_payload())
        packet.accept()

    queue = handle.create_queue(1, callback)
    for mode, copy_range in [
        (nfq.NFQNL_COPY_META, 0xFFFF),
        (nfq.NFQNL_COPY_PACKET, 30),
        (nfq.NFQNL_COPY_PACKET, 0xFFFF),
        (nfq.NFQNL_COPY_PACKET, 0),  # to the kernel, 0 is as much as there is
    ]:
        queue.set_mode(mode, copy_range)
        udp.send(b"0123456789")
        handle.process(timeout=None)
    assert [len(payload) for payload in payloads] == [0, 30, 38, 38]
    assert len(udp.arrivals()) == 4


def test_set_maxlen(handle: Handle, udp: UdpPair) -> None:
    """Packets that come while the queue is full are dropped."""
    queue = handle.create_queue(1, accept, mode=nfq.NFQNL_COPY_PACKET)
    queue.set_maxlen(2)
    udp.send(b"1", b"2", b"3")
    assert handle.process(timeout=None) == 2
    udp.send(b"4")
    assert handle.process(timeout=None) == 1
    assert udp.arrivals() == [b"1", b"2", b"4"]


def test_set_flags(handle: Handle, udp: UdpPair) -> None:
    """The mask chooses the bits that change; with FAIL_OPEN a full queue lets packets pass."""
    seen: list[bytes] = []
    callback = accepting(seen)
    queue = handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET, maxlen=1)
    queue.set_flags(nfq.NFQA_CFG_F_FAIL_OPEN, nfq.NFQA_CFG_F_FAIL_OPEN)
    queue.set_flags(nfq.NFQA_CFG_F_GSO, 0)  # the other bit stays
    udp.send(b"1", b"2")
    assert udp.arrivals() == [b"2"]
    handle.process(timeout=None)
    assert (seen, udp.arrivals()) == ([b"1"], [b"1"])
    queue.set_flags(nfq.NFQA_CFG_F_FAIL_OPEN, 0)
    udp.send(b"3", b"4")
    handle.process(timeout=None)
    assert udp.arrivals() == [b"3"]


def test_destroy_frees_the_number(handle: Handle, udp: UdpPair) -> None:
    """A destroyed queue's number can be bound by another handle."""
    handle.create_queue(1, accept).destroy()
    with nfq.open() as other:
        other.create_queue(1, accept, mode=nfq.NFQNL_COPY_PACKET)
        udp.send(b"data")
        assert other.process(timeout=None) == 1
    assert udp.arrivals() == [b"data"]


@pytest.mark.parametrize(("mark", "counts"), [(None, (1, 0)), (0x2A, (0, 1)), (0, (0, 0))])
def test_set_verdict_mark(
    handle: Handle, udp: UdpPair, mark: int | None, counts: tuple[int, int]
) -> None:
    """A later rule sees the mark of the verdict; without one the packet keeps its own."""
    udp.sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x11)
    old = Counter("POSTROUTING", "-p udp -m mark --mark 0x11", table="mangle")
    new = Counter("POSTROUTING", "-p udp -m mark --mark 0x2a", table="mangle")

    def callback(packet: Packet) -> None:
        assert packet.get_nfmark() == 0x11
        packet.set_verdict(nfq.NF_ACCEPT, mark)

    handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)
    udp.send(b"data")
    handle.process(timeout=None)
    assert udp.recv() == b"data"
    assert (old.packets, new.packets) == counts


def test_constants_may_be_plain_integers(handle: Handle, udp: UdpPair) -> None:
    """Modes, flags and verdicts are taken as integers too."""
    queue = handle.create_queue(1, lambda packet: packet.set_verdict(1, 7), mode=2, flags=1)
    queue.set_mode(2, 65535)
    queue.set_flags(1, 0)
    udp.send(b"data")
    assert handle.process(timeout=None) == 1
    assert udp.arrivals() == [b"data"]


def test_several_queues(handle: Handle, udp: UdpPair) -> None:
    """Each queue's packets reach its own callback."""
    queue_rule(2, "-p udp --sport 9997")
    seen: list[tuple[int, bytes]] = []
    for number in (1, 2):

        def callback(packet: Packet, number: int = number) -> None:
            assert packet.queue.number == number
            seen.append((number, data_of(packet)))

        handle.create_queue(number, callback, mode=nfq.NFQNL_COPY_PACKET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
        second.bind(("127.0.0.1", 9997))
        for data in (b"1", b"2"):
            udp.send(data)
            second.sendto(data, ("127.0.0.1", 9999))
    handle.process()
    assert seen == [(1, b"1"), (2, b"1"), (1, b"2"), (2, b"2")]
