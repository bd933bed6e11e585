# SPDX-License-Identifier: GPL-2.0-or-later
"""New payloads that newer kernels drop, and older ones take. Nothing is reported."""

import socket
from collections.abc import Callable, Iterator

import nft
import pytest
from kernel import KERNEL
from netns import UdpPair, iptables, private_namespace, queue_rule
from queues import Handle, Packet, keeping, receive
from test_payload import checksum

import libnetfilterqueue as nfq

V4, V6 = socket.AF_INET, socket.AF_INET6
NOWHERE_ELSE_SINCE = (7, 1)  # Linux that takes them in the initial user namespace alone
HEADER_SINCE = (7, 2)  # Linux that looks at the IP header
TRANSPORT_SINCE = (7, 3)  # Linux that looks at the header behind it
MARK = 5
DATA = b"data"
MORE = b"more"

Change = Callable[[bytearray], object]


def add(content: bytearray, at: int, number: int) -> None:
    """Changes a number of 16 bits."""
    content[at : at + 2] = (int.from_bytes(content[at : at + 2]) + number).to_bytes(2)


def replace(handle: Handle, packets: list[Packet], udp: UdpPair, change: Change) -> list[bytes]:
    """Sends a datagram whose packet is changed, and returns what arrives."""
    udp.send(DATA)
    packet = receive(handle, packets)
    content = bytearray(packet.payload)
    change(content)
    packet.accept(mark=MARK, payload=content)
    arrived = udp.arrivals()
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0
    return arrived


@pytest.fixture
def packets(handle: Handle) -> list[Packet]:
    """The packets of queue 1, in full, once they are processed."""
    return keeping(handle)


# In a user namespace


@pytest.fixture
def rootless() -> Iterator[None]:
    """The test is in a network namespace as a program without root has it."""
    with private_namespace(user=True):
        yield


def test_in_a_user_namespace(rootless: None, handle: Handle, packets: list[Packet]) -> None:
    """Newer kernels drop a packet with a new payload, also if it is the old one, and no other."""
    queue_rule(1)
    with UdpPair() as udp:
        arrived = replace(handle, packets, udp, lambda content: None)
        assert arrived == ([] if KERNEL >= NOWHERE_ELSE_SINCE else [DATA])
        udp.send(DATA)
        receive(handle, packets).accept(mark=MARK)
        assert udp.arrivals() == [DATA]


# Headers of IP

V4_OPTIONS = b"\x01\x01\x01\x00"  # nothing, nothing, nothing, end
V6_OPTIONS = b"\x00\x00\x01\x04" + bytes(4)  # a header with padding; the kernel sets its first byte
V4_SIZE, V6_SIZE = 24, 48  # with options


@pytest.fixture
def pair(family: int) -> Iterator[UdpPair]:
    """Datagrams with IP options, of either family, that pass through queue 1."""
    queue_rule(1, family=family)
    with UdpPair(family) as pair:
        if family == V4:
            pair.sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, V4_OPTIONS)
        else:
            pair.sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, V6_OPTIONS)
        yield pair


def set_bytes(at: int, value: bytes) -> Change:
    def change(content: bytearray) -> None:
        content[at : at + len(value)] = value

    return change


def lengthen_v4(content: bytearray) -> None:
    add(content, 2, len(MORE))
    add(content, V4_SIZE + 4, len(MORE))
    content += MORE


def lengthen_v6(content: bytearray) -> None:
    add(content, 4, len(MORE))
    add(content, V6_SIZE + 4, len(MORE))
    content += MORE


def leave_length(content: bytearray) -> None:
    content += MORE


def name_less_v4(content: bytearray) -> None:
    add(content, 2, -1)
    add(content, V4_SIZE + 4, -1)


def name_less_v6(content: bytearray) -> None:
    add(content, 4, -1)
    add(content, V6_SIZE + 4, -1)


def remove_options(content: bytearray) -> None:
    content[0] = 0x45
    add(content, 2, -len(V4_OPTIONS))
    del content[20:V4_SIZE]


def remove_extension(content: bytearray) -> None:
    content[6] = socket.IPPROTO_UDP
    add(content, 4, -len(V6_OPTIONS))
    del content[40:V6_SIZE]


def insert_extension(content: bytearray) -> None:
    content[V6_SIZE:V6_SIZE] = content[40:V6_SIZE]
    content[40] = socket.IPPROTO_DSTOPTS
    add(content, 4, len(V6_OPTIONS))


# The change, and what arrives of the data.
TAKEN: dict[str, tuple[int, Change, bytes]] = {
    "nothing": (V4, lambda content: None, DATA),
    "type-of-service": (V4, set_bytes(1, b"\x10"), DATA),
    "time-to-live": (V4, set_bytes(8, b"\x05"), DATA),
    "dont-fragment": (V4, set_bytes(6, b"\x00\x00"), DATA),
    "source": (V4, set_bytes(12, b"\x7f\x00\x00\x02"), DATA),
    "length": (V4, lengthen_v4, DATA + MORE),
    "v6-nothing": (V6, lambda content: None, DATA),
    "v6-flow": (V6, set_bytes(0, b"\x61\x23\x45\x67"), DATA),
    "v6-hop-limit": (V6, set_bytes(7, b"\x05"), DATA),
    "v6-length": (V6, lengthen_v6, DATA + MORE),
}
DROPPED: dict[str, tuple[int, Change, bytes]] = {
    "behind-the-end": (V4, leave_length, DATA),
    "less-than-there-is": (V4, name_less_v4, DATA[:-1]),
    "reserved-bit": (V4, set_bytes(6, b"\x80"), DATA),
    "other-options": (V4, set_bytes(22, b"\x00"), DATA),
    "no-options": (V4, remove_options, DATA),
    "v6-behind-the-end": (V6, leave_length, DATA),
    "v6-less-than-there-is": (V6, name_less_v6, DATA[:-1]),
    "v6-other-extension": (V6, set_bytes(42, bytes(2)), DATA),
    "v6-no-extension": (V6, remove_extension, DATA),
    "v6-another-extension": (V6, insert_extension, DATA),
}


def renewed(change: Change) -> Change:
    """The change, with the checksums that belong to it."""

    def renew(content: bytearray) -> None:
        change(content)
        nfq.update_checksums(content)

    return renew


@pytest.mark.parametrize(("family", "change", "right"), TAKEN.values(), ids=TAKEN)
def test_header_that_is_taken(
    handle: Handle, packets: list[Packet], pair: UdpPair, change: Change, right: bytes
) -> None:
    """All kernels take other values of what routers and senders choose, and the right length."""
    assert replace(handle, packets, pair, renewed(change)) == [right]


@pytest.mark.parametrize(("family", "change", "right"), DROPPED.values(), ids=DROPPED)
def test_header_that_is_dropped(
    handle: Handle, packets: list[Packet], pair: UdpPair, change: Change, right: bytes
) -> None:
    """Newer kernels drop another length than the payload's, and other options or fragments."""
    arrived = replace(handle, packets, pair, renewed(change))
    assert arrived == ([] if KERNEL >= HEADER_SINCE else [right])


# Headers behind it

EXPERIMENTAL = 253
LEAST = {  # bytes
    socket.IPPROTO_ICMP: 8,
    socket.IPPROTO_TCP: 20,
    socket.IPPROTO_UDP: 8,
    socket.IPPROTO_GRE: 4,
    socket.IPPROTO_ESP: 8,
    socket.IPPROTO_AH: 12,
    socket.IPPROTO_ICMPV6: 8,
    socket.IPPROTO_SCTP: 12,
}


def packet_of(protocol: int, rest: bytes) -> Change:
    """The packet becomes one of this protocol."""

    def change(content: bytearray) -> None:
        content[20:] = rest
        content[2:4] = len(content).to_bytes(2)
        content[9] = protocol
        content[10:12] = bytes(2)
        content[10:12] = checksum(bytes(content[:20])).to_bytes(2)

    return change


def passes(handle: Handle, packets: list[Packet], udp: UdpPair, change: Change) -> bool:
    """Whether the packet that a datagram becomes reaches its host, who may not understand it."""
    counter = nft.Counter(f"meta mark {MARK}", hook="prerouting")
    replace(handle, packets, udp, change)
    return counter.packets == 1


@pytest.mark.parametrize("protocol", LEAST)
def test_short_transport_header(
    handle: Handle, packets: list[Packet], udp: UdpPair, protocol: int
) -> None:
    """Newer kernels drop packets without room for the header of their protocol."""
    header = bytes(12) + b"\x50" + bytes(7)  # TCP's says that it has 20 bytes
    header = header[: LEAST[protocol]]
    assert passes(handle, packets, udp, packet_of(protocol, header))
    short = passes(handle, packets, udp, packet_of(protocol, header[:-1]))
    assert short == (KERNEL < TRANSPORT_SINCE)


@pytest.mark.parametrize("words", [4, 6])
def test_length_of_a_tcp_header(
    handle: Handle, packets: list[Packet], udp: UdpPair, words: int
) -> None:
    """Newer kernels drop TCP headers that say less than the least, or more than there is."""
    header = bytes(12) + bytes([words << 4]) + bytes(7)
    passed = passes(handle, packets, udp, packet_of(socket.IPPROTO_TCP, header))
    assert passed == (KERNEL < TRANSPORT_SINCE)


@pytest.mark.parametrize("tracked", [False, True])
def test_other_protocol(handle: Handle, packets: list[Packet], tracked: bool) -> None:
    """Newer kernels drop packets of another protocol than their connection's."""
    if tracked:
        iptables("-A INPUT -m conntrack --ctstate INVALID")  # turns connection tracking on
    queue_rule(1, table="mangle")
    with UdpPair() as udp:
        passed = passes(handle, packets, udp, packet_of(EXPERIMENTAL, b""))
    assert passed == (not tracked or KERNEL < TRANSPORT_SINCE)
