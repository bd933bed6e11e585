# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets that a bridge passes on: their tags, their headers, and verdicts on them."""

import socket
from collections.abc import Iterator

import nft
import pytest
from bridge import Neighbour, Tag, neighbours, tagged
from kernel import KERNEL
from netns import TIMEOUT, UdpPair, run
from queues import Handle, Packet, keeping, process_until, receive

import libnetfilterqueue as nfq

UNTAGGING_SINCE = (6, 2)  # Linux that takes zeros for no tag
PORTS_SINCE = (6, 12)  # Linux that looks whether a packet's ports are still there
PAYLOADS_UNTIL = (7, 2)  # Linux that takes none any more
VLAN = 0x8100  # 802.1Q
SERVICE_VLAN = 0x88A8  # 802.1ad
EXPERIMENTAL = 0x88B5
ADDRESSES = bytes.fromhex("020000000002 020000000001")
HEADER = ADDRESSES + EXPERIMENTAL.to_bytes(2)
FRAME = HEADER + b"data"
TAGS = [
    (VLAN, 0x0005),
    (VLAN, 0x6005),  # with a priority
    (VLAN, 0xFFFF),
    (VLAN, 0x6000),  # with nothing but a priority
    (VLAN, 0),
    (SERVICE_VLAN, 0x2007),
]


@pytest.fixture
def both() -> Iterator[tuple[Neighbour, Neighbour]]:
    """A sender and a receiver. What the bridge forwards passes through queue 1."""
    with neighbours() as both:
        nft.rules("queue num 1", hook="forward", family="bridge")
        yield both


@pytest.fixture
def packets(handle: Handle) -> list[Packet]:
    """The packets of queue 1, in full, once they are processed."""
    return keeping(handle)


@pytest.mark.parametrize(
    ("hook", "number"),
    [
        ("prerouting", nfq.NF_INET_PRE_ROUTING),
        ("forward", nfq.NF_INET_FORWARD),
        ("postrouting", nfq.NF_INET_POST_ROUTING),
    ],
)
def test_where(handle: Handle, packets: list[Packet], hook: str, number: nfq.Hook) -> None:
    """A packet on a bridge is of its family, and has the bridge and its ports as devices."""
    with neighbours() as (left, right):
        nft.rules("queue num 1", hook=hook, family="bridge")
        left.send(FRAME)
        packet = receive(handle, packets)
        packet.accept()
        assert right.recv() == FRAME
        came, goes = hook != "postrouting", hook != "prerouting"
        bridge, *ports = map(socket.if_nametoindex, ("bridge", "left", "right"))
        assert packet.family == socket.AF_BRIDGE
        assert packet.hook is number
        assert packet.hw_protocol == EXPERIMENTAL
        assert (packet.indev, packet.outdev) == (came * bridge, goes * bridge)
        assert (packet.physindev, packet.physoutdev) == (came * ports[0], goes * ports[1])
        assert packet.hw_addr == (FRAME[6:12] if came else b"")


# Tags


def test_untagged(handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour]) -> None:
    """A frame without a tag has none; its header is what stands before the payload."""
    left, right = both
    left.send(FRAME)
    packet = receive(handle, packets)
    assert packet.vlan is None
    assert packet.l2_header == HEADER
    assert packet.get_payload() == b"data"
    packet.accept()
    assert right.recv() == FRAME


@pytest.mark.parametrize("tag", TAGS)
def test_tagged(
    handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour], tag: Tag
) -> None:
    """The tag is known, in the host's byte order; it is in neither the header nor the payload."""
    left, right = both
    left.send(tagged(FRAME, tag))
    packet = receive(handle, packets)
    assert packet.vlan is not None
    assert (packet.vlan.proto, packet.vlan.tci) == packet.vlan == tag
    assert packet.l2_header == HEADER
    assert packet.hw_protocol == EXPERIMENTAL
    assert packet.get_payload() == b"data"
    packet.accept()
    assert right.recv() == tagged(FRAME, tag)


@pytest.mark.parametrize("outer", [VLAN, SERVICE_VLAN])
def test_tagged_twice(
    handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour], outer: int
) -> None:
    """Of two tags the inner one is the header's type, and the rest of it begins the payload."""
    left, right = both
    frame = tagged(FRAME, (outer, 0x2007), (VLAN, 0x6005))
    left.send(frame)
    packet = receive(handle, packets)
    assert packet.vlan == (outer, 0x2007)
    assert packet.l2_header == ADDRESSES + VLAN.to_bytes(2)
    assert packet.hw_protocol == VLAN
    assert packet.get_payload() == b"\x60\x05" + EXPERIMENTAL.to_bytes(2) + b"data"
    packet.accept()
    assert right.recv() == frame


def test_not_on_a_bridge(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """Packets that are not on a bridge have neither a tag nor a header."""
    udp.send(b"data")
    packet = receive(handle, packets)
    assert packet.vlan is None
    assert packet.l2_header is None


# Verdicts


@pytest.mark.parametrize("before", [[], [(VLAN, 5)], [(SERVICE_VLAN, 5), (VLAN, 6)]])
def test_verdict_with_a_tag(
    handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour], before: list[Tag]
) -> None:
    """A verdict puts a tag on a frame, in place of the outer one that it had."""
    left, right = both
    for tag in TAGS:
        left.send(tagged(FRAME, *before))
        receive(handle, packets).set_verdict(nfq.NF_ACCEPT, vlan=tag)
        assert right.recv() == tagged(FRAME, tag, *before[1:])


@pytest.mark.parametrize("before", [[], [(VLAN, 5)]])
def test_verdict_with_zeros_for_a_tag(
    handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour], before: list[Tag]
) -> None:
    """Zeros take the tag off; older kernels take them for a tag of the type 0."""
    left, right = both
    left.send(tagged(FRAME, *before))
    receive(handle, packets).set_verdict(nfq.NF_ACCEPT, vlan=(0, 0))
    assert right.recv() == (FRAME if KERNEL >= UNTAGGING_SINCE else tagged(FRAME, (0, 0)))


def test_verdict_with_the_packets_own_tag(
    handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour]
) -> None:
    """A packet's own tag can be given back in a verdict."""
    left, right = both
    left.send(tagged(FRAME, (VLAN, 0x6005)))
    packet = receive(handle, packets)
    packet.set_verdict(nfq.NF_ACCEPT, vlan=packet.vlan)
    assert right.recv() == tagged(FRAME, (VLAN, 0x6005))


def test_verdict_with_a_tag_elsewhere(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """A packet that is not on a bridge gets no tag, but its verdict."""
    udp.send(b"data")
    receive(handle, packets).set_verdict(nfq.NF_ACCEPT, vlan=(VLAN, 5))
    assert udp.arrivals() == [b"data"]
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0


def test_verdict_with_a_payload(
    handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour]
) -> None:
    """A new payload leaves header and tag as they are; newer kernels drop the packet instead."""
    left, right = both
    left.send(tagged(FRAME, (VLAN, 5)))
    left.send(FRAME)
    receive(handle, packets).accept(payload=b"something longer")
    receive(handle, packets).accept()
    if KERNEL < PAYLOADS_UNTIL:
        assert right.recv() == tagged(HEADER + b"something longer", (VLAN, 5))
    assert right.recv() == FRAME
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0


def test_port_taken_off_the_bridge(
    handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour]
) -> None:
    """Newer kernels drop what waits on its way to a port that has left; nothing is reported."""
    left, right = both
    left.send(FRAME)
    packet = receive(handle, packets)
    run("ip link set right nomaster")
    packet.accept()
    run("ip link set right master bridge")
    left.send(HEADER + b"next")
    receive(handle, packets).accept()
    if KERNEL < PORTS_SINCE:
        assert right.recv() == FRAME
    assert right.recv() == HEADER + b"next"
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0


OTHER_HEADER = bytes.fromhex("02aaaaaaaaaa 02bbbbbbbbbb 88b6")


@pytest.mark.parametrize("tags", [[], [(VLAN, 5)]])
def test_verdict_with_a_header(
    handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour], tags: list[Tag]
) -> None:
    """A verdict gives a frame another header; its tag stays."""
    left, right = both
    left.send(tagged(FRAME, *tags))
    receive(handle, packets).set_verdict(nfq.NF_ACCEPT, l2_header=OTHER_HEADER)
    assert right.recv() == tagged(OTHER_HEADER + b"data", *tags)


def test_verdict_with_everything(
    handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour]
) -> None:
    """A header, a tag, a mark and a priority travel in one verdict."""
    left, right = both
    match = "meta mark 0x12345678 meta priority 1:2 vlan id 5"
    counter = nft.Counter(match, hook="postrouting", family="bridge")
    left.send(FRAME)
    receive(handle, packets).set_verdict(
        nfq.NF_ACCEPT,
        mark=0x12345678,
        priority=0x10002,
        vlan=(VLAN, 5),
        l2_header=OTHER_HEADER,
    )
    assert right.recv() == tagged(OTHER_HEADER + b"data", (VLAN, 5))
    assert counter.packets == 1


@pytest.mark.parametrize("header", [b"", HEADER[:-1], HEADER + b"x"])
def test_verdict_with_a_header_of_another_length(
    handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour], header: bytes
) -> None:
    """A header of another length is refused before it is sent: the kernel would lose the packet."""
    left, right = both
    left.send(FRAME)
    packet = receive(handle, packets)
    with pytest.raises(ValueError, match="l2_header"):
        packet.set_verdict(nfq.NF_ACCEPT, l2_header=header)
    packet.accept()
    assert right.recv() == FRAME


def test_drop(handle: Handle, packets: list[Packet], both: tuple[Neighbour, Neighbour]) -> None:
    """A dropped frame does not arrive; the next one does."""
    left, right = both
    left.send(HEADER + b"first")
    left.send(HEADER + b"second")
    receive(handle, packets).drop()
    receive(handle, packets).accept()
    assert right.recv() == HEADER + b"second"


# Taking over


@pytest.mark.parametrize("hook", ["prerouting", "forward", "postrouting"])
def test_repeated(handle: Handle, packets: list[Packet], hook: str) -> None:
    """A packet that an ended program had read comes to its rule again, and passes once."""
    frames = [HEADER + b"%d" % number for number in range(3)]
    seen: list[bytes] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.get_payload())
        packet.accept()

    with neighbours() as (left, right):
        nft.rules("queue num 1", hook=hook, family="bridge")
        for frame in frames:
            left.send(frame)
        assert handle.process(1, TIMEOUT) == 1
        with socket.socket(fileno=handle.detach()) as kept, nfq.open(fd=kept) as successor:
            successor.create_queue(1, callback, unanswered=nfq.NF_REPEAT)
            process_until(successor, lambda: len(seen) == 3)
            assert len(packets) == 1
        assert sorted(seen) == [b"0", b"1", b"2"]
        assert sorted(right.recv() for _ in range(3)) == frames
