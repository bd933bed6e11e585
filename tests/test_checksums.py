# SPDX-License-Identifier: GPL-2.0-or-later
"""update_checksums, against the kernel's own packets, scapy's, and each rule by itself."""

import array
import contextlib
import errno
import mmap
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from netns import (
    LOOPBACK,
    PORT,
    TIMEOUT,
    Namespace,
    UdpPair,
    background,
    queue_rule,
    run,
    tcp_echo,
    tcp_exchange,
    veth,
    write,
)
from queues import Handle, Packet, process_until
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR, IPOption_RR, IPOption_SSRR
from scapy.layers.inet6 import (
    HAO,
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    PadN,
    RouterAlert,
)
from scapy.packet import Packet as Layers
from scapy.packet import Raw

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
V4, V6 = socket.AF_INET, socket.AF_INET6
FAMILIES = pytest.mark.parametrize("family", [V4, V6])

UDPLITE = 136
UDPLITE_SEND_CSCOV = 10
ICMP4, ICMP6 = 1, 58
HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION = 0, 43, 44, 51, 60
CHECKSUM_AT = {socket.IPPROTO_TCP: 16, socket.IPPROTO_UDP: 6, UDPLITE: 6, ICMP4: 2, ICMP6: 2}

Receiver = tuple[Namespace, str]
Options = Mapping[tuple[int, int], bytes | int]

SPOILT = b"\x12\x34"


def checksum_places(packet: bytes) -> list[int]:
    """Where a valid packet has its checksums: the IPv4 header's, the transport's."""
    places = []
    if packet[0] >> 4 == 4:
        places.append(10)
        protocol, at = packet[9], (packet[0] & 15) * 4
        if int.from_bytes(packet[6:8]) & 0x3FFF:
            return places
    else:
        protocol, at = packet[6], 40
        while protocol in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION):
            if protocol == FRAGMENT and int.from_bytes(packet[at + 2 : at + 4]) & 0xFFF9:
                return places
            size = 8 if protocol == FRAGMENT else packet[at + 1] * 8 + 8
            protocol, at = packet[at], at + size
    place = at + CHECKSUM_AT[protocol]
    if protocol != socket.IPPROTO_UDP or packet[place : place + 2] != b"\0\0":
        places.append(place)
    return places


def restored(packet: bytes) -> bytes:
    """The packet, its checksums first spoilt, then corrected."""
    buffer = bytearray(packet)
    for place in checksum_places(packet):
        buffer[place : place + 2] = SPOILT
    nfq.update_checksums(buffer)
    return bytes(buffer)


def one_zero(packet: bytes) -> bytes:
    """The packet with 0 where a checksum has its other form, which some kernels give TCP too."""
    buffer = bytearray(packet)
    for place in checksum_places(packet):
        if buffer[place : place + 2] == b"\xff\xff":
            buffer[place : place + 2] = b"\0\0"
    return bytes(buffer)


# Packets that the kernel has made


@pytest.fixture
def sent(handle: Handle) -> Iterator[list[bytes]]:
    """The content of all that passes queue 1; all of it is looked at when the test is over."""
    contents: list[bytes] = []

    def callback(packet: Packet) -> None:
        assert not packet.skb_info & nfq.NFQA_SKB_CSUMNOTREADY
        contents.append(packet.get_payload())
        packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    yield contents
    assert contents
    for content in contents:
        assert one_zero(restored(content)) == one_zero(content)


def send_udp(family: int, *sizes: int, protocol: int = 0, options: Options) -> None:
    """Sends datagrams to a port where nobody listens, from a socket with these options."""
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as sock:
        for (level, name), value in options.items():
            sock.setsockopt(level, name, value)
        for size in sizes:
            sock.sendto(bytes(range(256)) * (size // 256) + bytes(size % 256), address(family))


def address(family: int) -> tuple[str, int]:
    return LOOPBACK[family], PORT


@FAMILIES
def test_kernel_udp_and_icmp_errors(handle: Handle, sent: list[bytes], family: int) -> None:
    """Datagrams of several lengths, and the errors for them, get the kernel's checksums."""
    queue_rule(1, "", family=family)
    send_udp(family, 0, 1, 2, 3, 1001, 60_001, options={})
    process_until(handle, lambda: len(sent) >= 7)
    protocol = [content[9 if family == V4 else 6] for content in sent]
    assert protocol.count(socket.IPPROTO_UDP) == 6
    assert ICMP4 in protocol or ICMP6 in protocol


@FAMILIES
def test_kernel_tcp(handle: Handle, sent: list[bytes], family: int) -> None:
    """A TCP conversation gets the kernel's checksums, with handshake options and odd lengths."""
    queue_rule(1, "-p tcp", family=family)
    with tcp_echo(family) as served:
        exchange = background(tcp_exchange, b"odd" * 33_333, family)
        process_until(handle, served.done)
        assert exchange.result(TIMEOUT) == b"odd" * 33_333
    header = 20 if family == V4 else 40
    assert any(content[header + 12] >> 4 > 5 for content in sent)
    assert any(len(content) % 2 for content in sent)


@FAMILIES
def test_kernel_ping(handle: Handle, sent: list[bytes], family: int) -> None:
    """Echo requests and their answers get the kernel's checksums."""
    queue_rule(1, "", family=family)
    write("/proc/sys/net/ipv4/ping_group_range", "0 0")
    protocol, request = (ICMP4, 8) if family == V4 else (ICMP6, 128)
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as sock:
        for data in (b"", b"odd", b"even"):
            sock.sendto(struct.pack("!BBHHH", request, 0, 0, 0, 1) + data, address(family))
    process_until(handle, lambda: len(sent) == 6)


def kernel_has_udplite() -> bool:
    """Not every kernel does: the newest have lost it."""
    try:
        socket.socket(V4, socket.SOCK_DGRAM, UDPLITE).close()
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        return False
    return True


@FAMILIES
@pytest.mark.parametrize("coverage", [0, 8, 10, 11, 22])
def test_udplite(handle: Handle, family: int, coverage: int) -> None:
    """UDP-Lite's checksum covers what the sender says, as the kernel's does."""
    datagrams = [udplite(family, coverage, b"partly covered")]
    queue_rule(1, "", family=family)
    handle.create_queue(1, lambda packet: datagrams.append(packet.get_payload()), mode=COPY)
    if kernel_has_udplite():
        option: Options = {(UDPLITE, UDPLITE_SEND_CSCOV): coverage}
        send_udp(family, 14, protocol=UDPLITE, options=option)
        process_until(handle, lambda: len(datagrams) == 2)
    for datagram in datagrams:
        assert restored(datagram) == datagram


def test_kernel_ipv4_options(handle: Handle, sent: list[bytes]) -> None:
    """A longer IPv4 header gets the kernel's checksum."""
    queue_rule(1, "")
    record_route = bytes([7, 11, 4]) + bytes(8) + b"\0"
    send_udp(V4, 5, options={(socket.IPPROTO_IP, socket.IP_OPTIONS): record_route})
    process_until(handle, lambda: sent)
    assert sent[0][0] == 0x45 + len(record_route) // 4


def test_kernel_source_route(handle: Handle, sent: list[bytes]) -> None:
    """TCP's checksum is made for the end of the route that the sender has chosen."""
    queue_rule(1, "-p tcp")
    route = bytes([131, 7, 4]) + socket.inet_aton("127.0.0.2") + b"\0"
    with socket.socket(V4, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, route)
        sock.setblocking(False)
        assert sock.connect_ex(("127.0.0.1", PORT)) == errno.EINPROGRESS
        process_until(handle, lambda: sent)
    assert sent[0][16:20] == socket.inet_aton("127.0.0.2")


OPTIONS_HEADER = bytes([0, 0, 1, 4, 0, 0, 0, 0])
EXTENSIONS: dict[str, dict[int, bytes]] = {
    "hop-by-hop": {socket.IPV6_HOPOPTS: OPTIONS_HEADER},
    "destination": {socket.IPV6_DSTOPTS: OPTIONS_HEADER},
    "routing": {socket.IPV6_RTHDR: b"segments"},
    "all": {
        socket.IPV6_HOPOPTS: OPTIONS_HEADER,
        socket.IPV6_DSTOPTS: OPTIONS_HEADER,
        socket.IPV6_RTHDR: b"segments",
    },
}


@pytest.mark.parametrize("name", EXTENSIONS)
@pytest.mark.parametrize("size", [4, 5])
def test_kernel_extension_headers(handle: Handle, sent: list[bytes], name: str, size: int) -> None:
    """Behind options and a segment route the checksum is that for the final destination."""
    run("ip address add fd00::1/128 dev lo")
    queue_rule(1, "-p udp", family=V6)
    segments = bytes([0, 4, 4, 1, 1, 0, 0, 0]) + bytes(16) + socket.inet_pton(V6, "fd00::1")
    options: Options = {
        (socket.IPPROTO_IPV6, option): segments if value == b"segments" else value
        for option, value in EXTENSIONS[name].items()
    }
    send_udp(V6, size, options=options)
    process_until(handle, lambda: sent)
    assert sent[0][6] != socket.IPPROTO_UDP


@FAMILIES
def test_kernel_fragments(handle: Handle, sent: list[bytes], family: int) -> None:
    """A datagram's fragments, and the datagram before it was cut, get the kernel's checksums."""
    run("ip link set lo mtu 1500")
    queue_rule(1, "-p udp", family=family)
    queue_rule(1, "", chain="PREROUTING", family=family)
    send_udp(family, 4001, options={})
    process_until(handle, lambda: len(sent) >= 4)
    whole, *fragments = sent[:4]
    assert len(checksum_places(whole)) == (2 if family == V4 else 1)
    assert [len(checksum_places(one)) for one in fragments] == [1 if family == V4 else 0] * 3


# Packets that scapy has made


def random_ipv4(numbers: random.Random) -> Layers:
    routers = [f"192.0.2.{numbers.randrange(256)}" for _ in range(numbers.randrange(1, 4))]
    options = numbers.choice(
        [
            [],
            [],
            [IPOption_RR(routers=routers)],
            [IPOption_LSRR(pointer=4, routers=routers)],
            [IPOption_SSRR(pointer=4, routers=routers)],
        ]
    )
    return IP(
        src=socket.inet_ntoa(numbers.randbytes(4)),
        dst=socket.inet_ntoa(numbers.randbytes(4)),
        id=numbers.randrange(65536),
        tos=numbers.randrange(256),
        ttl=numbers.randrange(256),
        options=options,
    )


def random_ipv6(numbers: random.Random) -> Layers:
    def any_address() -> str:
        return socket.inet_ntop(V6, numbers.randbytes(16))

    addresses = [any_address() for _ in range(numbers.randrange(1, 4))]
    count = len(addresses)
    packet = IPv6(src=any_address(), dst=any_address(), fl=numbers.randrange(1 << 20))
    extensions = [
        IPv6ExtHdrHopByHop(options=[RouterAlert(), PadN(optdata=b"\0" * 3)]),
        IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * numbers.randrange(30))]),
        IPv6ExtHdrDestOpt(options=[HAO(hoa=any_address())]),
        IPv6ExtHdrRouting(type=0, addresses=addresses, segleft=numbers.choice([0, count])),
        IPv6ExtHdrRouting(type=2, addresses=addresses[:1], segleft=1),
        IPv6ExtHdrSegmentRouting(addresses=addresses, segleft=numbers.randrange(count + 1)),
        IPv6ExtHdrFragment(id=numbers.randrange(1 << 32)),
    ]
    for extension in numbers.sample(extensions, numbers.randrange(3)):
        packet /= extension
    return packet


def random_transport(numbers: random.Random, family: int) -> Layers:
    sport, dport = numbers.randrange(65536), numbers.randrange(65536)
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (numbers.randrange(1 << 32), 0))]
    icmp: list[Layers] = [ICMP(type=8, id=sport, seq=1), ICMP(type=3, code=1), ICMP()]
    if family == V6:
        icmp = [ICMPv6EchoRequest(id=sport, seq=1), ICMPv6DestUnreach(code=4)]
    return numbers.choice(
        [
            UDP(sport=sport, dport=dport),
            TCP(
                sport=sport, dport=dport, seq=numbers.randrange(1 << 32), flags="S", options=options
            ),
            TCP(sport=sport, dport=dport, ack=numbers.randrange(1 << 32), flags="PA"),
            *icmp,
        ]
    )


@pytest.mark.parametrize("seed", range(8))
@FAMILIES
def test_scapy(family: int, seed: int) -> None:
    """Random headers, options, extension headers, transports and lengths get scapy's checksums."""
    numbers = random.Random(seed)
    for _ in range(40):
        network = random_ipv4(numbers) if family == V4 else random_ipv6(numbers)
        data = numbers.randbytes(numbers.choice([0, 1, 2, 3, 7, 100, 1001]))
        packet = bytes(network / random_transport(numbers, family) / Raw(data))
        assert restored(packet) == packet, packet.hex()


# Packets made by hand


def ipv4(protocol: int, content: bytes, *, options: bytes = b"", fragment: int = 0) -> bytes:
    """An IPv4 packet whose header has no checksum yet."""
    size = 20 + len(options)
    start = struct.pack(
        "!BBHHHBBH", 0x40 + size // 4, 0, size + len(content), 1, fragment, 64, protocol, 0
    )
    return start + socket.inet_aton("127.0.0.1") * 2 + options + content


def ipv6(protocol: int, content: bytes) -> bytes:
    start = struct.pack("!IHBB", 6 << 28, len(content), protocol, 64)
    return start + socket.inet_pton(V6, "::1") * 2 + content


def ip(family: int, protocol: int, content: bytes) -> bytes:
    return ipv4(protocol, content) if family == V4 else ipv6(protocol, content)


def udp(data: bytes, *, length: int | None = None, checksum: int = 0x1234) -> bytes:
    length = 8 + len(data) if length is None else length
    return struct.pack("!HHHH", 1000, PORT, length, checksum) + data


def tcp(data: bytes, *, offset: int = 5) -> bytes:
    return struct.pack("!HHIIBBHHH", 1000, PORT, 1, 2, offset << 4, 24, 512, 0x1234, 0) + data


def extension(next_header: int, size: int = 8) -> bytes:
    """An extension header that holds nothing but padding."""
    return bytes([next_header, size // 8 - 1, 1, size - 4]) + bytes(size - 4)


def routing(next_header: int, kind: int, left: int, addresses: int) -> bytes:
    route = b"".join(socket.inet_pton(V6, f"fd00::{number}") for number in range(addresses))
    return bytes([next_header, addresses * 2, kind, left, 0, 0, 0, 0]) + route


def total(data: bytes | bytearray) -> int:
    """The sum that checksums are the complement of."""
    result = 0
    for at, byte in enumerate(data):
        result += byte << 8 if at % 2 == 0 else byte
        result = (result & 0xFFFF) + (result >> 16)
    return result


def transport_total(packet: bytes | bytearray, at: int, size: int, length: int) -> int:
    """The sum over a pseudo header and what a checksum covers: 0xffff if it is right."""
    four = packet[0] >> 4 == 4
    addresses = packet[12:20] if four else packet[8:40]
    pseudo = addresses + struct.pack("!II", length, packet[9 if four else 6])
    return total(pseudo + packet[at : at + size])


def udplite(family: int, coverage: int, data: bytes) -> bytes:
    """A UDP-Lite datagram with its checksums."""
    header = 20 if family == V4 else 40
    packet = bytearray(ip(family, UDPLITE, struct.pack("!HHHH", 1, 2, coverage, 0) + data))
    length = 8 + len(data)
    right = ~transport_total(packet, header, coverage or length, length) & 0xFFFF
    packet[header + 6 : header + 8] = right.to_bytes(2)
    if family == V4:
        packet[10:12] = (~total(packet[:20]) & 0xFFFF).to_bytes(2)
    return bytes(packet)


def updated(packet: bytes | bytearray) -> bytes:
    buffer = bytearray(packet)
    nfq.update_checksums(buffer)
    return bytes(buffer)


def test_udp_without_a_checksum() -> None:
    """UDP over IPv4 without a checksum stays without."""
    packet = updated(ipv4(17, udp(b"data", checksum=0)))
    assert packet[26:28] == b"\0\0"
    assert total(packet[:20]) == 0xFFFF


def test_udp_without_a_checksum_over_ipv6() -> None:
    """UDP over IPv6 may not lack a checksum: it gets one."""
    packet = updated(ipv6(17, udp(b"data", checksum=0)))
    assert packet[46:48] != b"\0\0"
    assert transport_total(packet, 40, 12, 12) == 0xFFFF


@FAMILIES
@pytest.mark.parametrize(
    ("protocol", "zero"), [(17, b"\xff\xff"), (UDPLITE, b"\xff\xff"), (6, b"\0\0")]
)
def test_sum_of_zero(family: int, protocol: int, zero: bytes) -> None:
    """A sum of zero is sent by UDP and UDP-Lite as 0xffff, by TCP as it is."""
    header = 20 if family == V4 else 40
    content = tcp(b"\0\0") if protocol == 6 else udp(b"\0\0")
    place = header + CHECKSUM_AT[protocol]
    buffer = bytearray(ip(family, protocol, content))
    nfq.update_checksums(buffer)
    buffer[-2:] = buffer[place : place + 2]  # what was missing to the sum
    nfq.update_checksums(buffer)
    assert buffer[place : place + 2] == zero


@FAMILIES
def test_padding(family: int) -> None:
    """Bytes behind the packet, such as Ethernet's padding, are not counted and stay."""
    packet = ip(family, 17, udp(b"odd"))
    assert updated(packet + b"\xab" * 15) == updated(packet) + b"\xab" * 15


@FAMILIES
def test_udp_shorter_than_its_packet(family: int) -> None:
    """A UDP datagram ends where its own length says."""
    header = 20 if family == V4 else 40
    packet = updated(ip(family, 17, udp(b"odd", length=11)[:11] + b"more"))
    assert transport_total(packet, header, 11, 11) == 0xFFFF


@pytest.mark.parametrize("fragment", [0x2000, 0x2001, 0x0001, 0x1FFF])
def test_ipv4_fragment(fragment: int) -> None:
    """Only the header's checksum of an IPv4 fragment is corrected; the rest may be anything."""
    packet = ipv4(17, b"any", fragment=fragment)
    assert updated(packet)[20:] == packet[20:]
    assert total(updated(packet)[:20]) == 0xFFFF


def test_ipv4_not_a_fragment() -> None:
    """The flag that forbids fragmentation makes no fragment."""
    packet = updated(ipv4(17, udp(b"data"), fragment=0x4000))
    assert transport_total(packet, 20, 12, 12) == 0xFFFF


@pytest.mark.parametrize(("fields", "whole"), [(0, True), (6, True), (1, False), (8, False)])
def test_ipv6_fragment(fields: int, whole: bool) -> None:
    """A part of a datagram stays as it is; the only fragment of one is corrected."""
    packet = ipv6(FRAGMENT, struct.pack("!BBHI", 17, 0, fields, 1) + udp(b"data"))
    assert (updated(packet) != packet) is whole


@FAMILIES
@pytest.mark.parametrize("protocol", [2, 4, 41, 47, 50, 59, 135, 139, 140, 255])
def test_other_protocols(family: int, protocol: int) -> None:
    """Of unknown protocols only the IPv4 header's checksum is corrected."""
    packet = ip(family, protocol, bytes(range(30)))
    after = updated(packet)
    assert after[20:] == packet[20:]
    if family == V4:
        assert total(after[:20]) == 0xFFFF


@pytest.mark.parametrize(("family", "protocol"), [(V4, ICMP6), (V6, ICMP4)])
def test_icmp_of_the_other_family(family: int, protocol: int) -> None:
    """ICMP of the other family has no meaning there and stays."""
    packet = ip(family, protocol, bytes(range(16)))
    assert updated(packet)[20:] == packet[20:]


@pytest.mark.parametrize("size", [8, 16, 256])
def test_long_extension_headers(size: int) -> None:
    """Many extension headers, short and long, are walked."""
    chain = extension(DESTINATION, size) + extension(DESTINATION, size) + extension(17, size)
    packet = updated(ipv6(HOP_BY_HOP, chain + udp(b"odd")))
    pseudo = packet[8:40] + struct.pack("!II", 11, 17)
    assert total(pseudo + packet[-11:]) == 0xFFFF


@FAMILIES
def test_authentication_header(family: int) -> None:
    """A datagram behind AH is corrected; AH's length counts in fours."""
    header = struct.pack("!BBHII", 17, 4, 0, 1, 1) + bytes(12)
    packet = updated(ip(family, AH, header + udp(b"data")))
    pseudo = (packet[12:20] if family == V4 else packet[8:40]) + struct.pack("!II", 12, 17)
    assert total(pseudo + packet[-12:]) == 0xFFFF


@pytest.mark.parametrize(
    ("kind", "left", "addresses", "final"),
    [
        (0, 2, 3, "fd00::2"),
        (2, 1, 1, "fd00::"),
        (4, 2, 3, "fd00::"),
        (4, 3, 3, "fd00::"),
        (0, 0, 3, "::1"),
        (4, 0, 3, "::1"),
        (99, 0, 0, "::1"),
    ],
)
def test_routing_header(kind: int, left: int, addresses: int, final: str) -> None:
    """The final destination of a routing header counts, while there is a way to go."""
    packet = updated(ipv6(ROUTING, routing(17, kind, left, addresses) + udp(b"data")))
    pseudo = packet[8:24] + socket.inet_pton(V6, final) + struct.pack("!II", 12, 17)
    assert total(pseudo + packet[-12:]) == 0xFFFF


@FAMILIES
def test_length_of_zero(family: int) -> None:
    """The kernel's TCP packets of more than 64 KiB have a length of 0: they end with the buffer."""
    packet = bytearray(ip(family, 6, tcp(b"")) + bytes(range(256)) * 300)
    struct.pack_into("!H", packet, 2 if family == V4 else 4, 0)
    header = 20 if family == V4 else 40
    length = len(packet) - header
    assert transport_total(updated(packet), header, length, length) == 0xFFFF


@pytest.mark.parametrize("protocol", [6, 17])
def test_jumbogram(protocol: int) -> None:
    """A jumbogram's length is in an option, and a UDP header's is 0."""
    content = (tcp(b"") if protocol == 6 else udp(b"", length=0)) + bytes(range(256)) * 300
    option = struct.pack("!BBBBI", protocol, 0, 0xC2, 4, 8 + len(content))
    packet = bytearray(ipv6(HOP_BY_HOP, option))
    struct.pack_into("!H", packet, 4, 0)
    packet = bytearray(updated(bytes(packet) + content + b"padding"))
    assert packet[-7:] == b"padding"
    pseudo = packet[8:40] + struct.pack("!II", len(content), protocol)
    assert total(pseudo + packet[48:-7]) == 0xFFFF


@pytest.mark.parametrize(
    ("options", "final"),
    [
        (b"\1" + bytes([7, 3, 4]), "127.0.0.2"),
        (b"\1\1" + bytes([7, 2]), "127.0.0.2"),
        (b"\1" + bytes([7, 1, 4]), "127.0.0.1"),
        (b"\1" + bytes([7, 99, 4]), "127.0.0.1"),
        (b"\1" + bytes([0, 2, 4]), "127.0.0.1"),
    ],
)
def test_source_route_behind_options(options: bytes, final: str) -> None:
    """Options in front of a source route are skipped; an invalid one leads nowhere."""
    options += bytes([131, 7, 4]) + socket.inet_aton("127.0.0.2") + b"\0"
    content = udp(b"data")
    packet = bytearray(ipv4(17, content))
    packet[20:20] = options
    struct.pack_into("!B", packet, 0, 0x48)
    struct.pack_into("!H", packet, 2, len(packet))
    fixed = updated(bytes(packet))
    pseudo = fixed[12:16] + socket.inet_aton(final) + struct.pack("!HH", 17, len(content))
    assert total(pseudo + fixed[32:]) == 0xFFFF


# What is refused


def patched(packet: bytes, at: int, value: bytes) -> bytes:
    return packet[:at] + value + packet[at + len(value) :]


UDP4, UDP6 = ipv4(17, udp(b"data")), ipv6(17, udp(b"data"))
REFUSED = {
    "empty": (b"", "the packet is neither IPv4 nor IPv6"),
    "version 0": (bytes(40), "the packet is neither IPv4 nor IPv6"),
    "version 5": (b"\x50" + bytes(40), "the packet is neither IPv4 nor IPv6"),
    "Ethernet": (b"\x02\0\0\0\0\1" + UDP4, "the packet is neither IPv4 nor IPv6"),
    "19 bytes": (UDP4[:19], "the packet is shorter than an IPv4 header"),
    "39 bytes": (UDP6[:39], "the packet is shorter than an IPv6 header"),
    "IHL 4": (patched(UDP4, 0, b"\x44"), "the IPv4 header's own length is below 20 bytes"),
    "IHL past the end": (patched(UDP4, 0, b"\x4f"), "the IPv4 packet is cut short"),
    "IPv4 cut": (UDP4[:-1], "the IPv4 packet is cut short"),
    "IPv6 cut": (UDP6[:-1], "the IPv6 packet is cut short"),
    "IPv4 length 19": (patched(UDP4, 2, b"\0\x13"), "the IPv4 packet is shorter than its header"),
    "IPv4 length 0": (patched(UDP4, 2, b"\0\0"), "the length of a packet that is not TCP is 0"),
    "IPv6 length 0": (patched(UDP6, 4, b"\0\0"), "the length of a packet that is not TCP is 0"),
    "UDP header cut": (ipv4(17, udp(b"")[:7]), "the transport header is cut short"),
    "UDP-Lite header cut": (ipv6(UDPLITE, bytes(7)), "the transport header is cut short"),
    "TCP header cut": (ipv6(6, tcp(b"")[:19]), "the transport header is cut short"),
    "ICMP header cut": (ipv4(ICMP4, bytes(7)), "the transport header is cut short"),
    "ICMPv6 header cut": (ipv6(ICMP6, bytes(7)), "the transport header is cut short"),
    "no transport": (ipv6(17, b""), "the length of a packet that is not TCP is 0"),
    "TCP offset 4": (ipv4(6, tcp(b"", offset=4)), "the TCP header's own length is below 20 bytes"),
    "TCP options cut": (ipv4(6, tcp(b"123", offset=6)), "the TCP header is cut short"),
    "UDP length 7": (ipv4(17, udp(b"", length=7)), "the UDP datagram is shorter than its header"),
    "UDP length 0": (ipv4(17, udp(b"", length=0)), "the UDP datagram is shorter than its header"),
    "UDP cut": (ipv4(17, udp(b"", length=9)), "the UDP datagram is cut short"),
    "UDP cut over IPv6": (ipv6(17, udp(b"", length=9)), "the UDP datagram is cut short"),
    "UDP cut, no checksum": (
        ipv4(17, udp(b"", length=9, checksum=0)),
        "the UDP datagram is cut short",
    ),
    "coverage 1": (ipv4(UDPLITE, udp(b"", length=1)), "the UDP-Lite checksum does not cover its"),
    "coverage 7": (ipv6(UDPLITE, udp(b"", length=7)), "the UDP-Lite checksum does not cover its"),
    "coverage 9 of 8": (ipv4(UDPLITE, udp(b"", length=9)), "covers more than the datagram"),
    "extension header of 7": (ipv6(HOP_BY_HOP, bytes(7)), "an extension header is cut short"),
    "extension header cut": (
        ipv6(DESTINATION, extension(17, 24)[:16]),
        "an extension header is cut short",
    ),
    "second extension header cut": (
        ipv6(HOP_BY_HOP, extension(DESTINATION)),
        "an extension header is cut short",
    ),
    "AH cut": (ipv4(AH, struct.pack("!BBHII", 17, 9, 0, 1, 1)), "an extension header is cut short"),
    "unknown routing": (
        ipv6(ROUTING, routing(17, 99, 1, 1) + udp(b"")),
        "a routing header of an unknown type has segments left",
    ),
    "too many segments": (
        ipv6(ROUTING, routing(17, 0, 2, 1) + udp(b"")),
        "a routing header has more segments left than addresses",
    ),
    "jumbo option of 3": (
        patched(ipv6(HOP_BY_HOP, bytes([6, 0, 0xC2, 3, 0, 0, 0, 0]) + tcp(b"")), 4, b"\0\0"),
        "the jumbo payload option is not 4 bytes long",
    ),
    "jumbogram cut": (
        patched(ipv6(HOP_BY_HOP, bytes([6, 0, 0xC2, 4, 0, 1, 0, 0]) + tcp(b"")), 4, b"\0\0"),
        "the IPv6 packet is cut short",
    ),
    "jumbogram of 7": (
        patched(ipv6(HOP_BY_HOP, bytes([6, 0, 0xC2, 4, 0, 0, 0, 7]) + tcp(b"")), 4, b"\0\0"),
        "the IPv6 packet is shorter than its headers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """A bad packet is refused with the reason, and the buffer is as it was."""
    packet, message = REFUSED[name]
    buffer = bytearray(packet)
    with pytest.raises(ValueError, match=rf"^update_checksums\(\): .*{message}"):
        nfq.update_checksums(buffer)
    assert buffer == packet


@pytest.mark.parametrize(
    "packet", [ipv4(6, tcp(b"odd")), ipv6(HOP_BY_HOP, extension(6) + tcp(b""))]
)
def test_every_shorter_packet(packet: bytes) -> None:
    """A packet that is cut anywhere is refused and stays as it was."""
    for size in range(len(packet)):
        buffer = bytearray(packet[:size])
        with pytest.raises(ValueError, match=r"^update_checksums\(\): "):
            nfq.update_checksums(buffer)
        assert buffer == packet[:size]


# Buffers


@pytest.mark.parametrize("kind", [bytearray, lambda data: array.array("B", data)])
@pytest.mark.parametrize("offset", range(9))
def test_buffers(kind: Callable[[bytes], bytearray], offset: int) -> None:
    """Any writable buffer is taken, at any address; nothing around it changes."""
    packet = ipv4(17, udp(b"some odd data"))
    buffer = kind(b"x" * offset + packet + b"y")
    nfq.update_checksums(memoryview(buffer)[offset:-1])
    assert bytes(buffer) == b"x" * offset + updated(packet) + b"y"


def test_mmap() -> None:
    """Mapped memory is taken."""
    packet = ipv4(17, udp(b"data"))
    with mmap.mmap(-1, len(packet)) as buffer:
        buffer[:] = packet
        nfq.update_checksums(buffer)
        assert buffer[:] == updated(packet)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (UDP4, "bytes"),
        (memoryview(UDP4), "memoryview"),
        (memoryview(bytearray(UDP4 * 2))[::2], "memoryview"),
        ("text", "str"),
        (5, "int"),
        (None, "NoneType"),
    ],
)
def test_other_types(value: object, kind: str) -> None:
    """A buffer of another kind is a TypeError, as for the standard library's functions."""
    message = rf"update_checksums\(\): buffer must be a writable, .* object, not {kind}$"
    with pytest.raises(TypeError, match=message):
        nfq.update_checksums(value)  # type: ignore[arg-type]


def test_released_view() -> None:
    """A released view raises its own error."""
    view = memoryview(bytearray(UDP4))
    view.release()
    with pytest.raises(ValueError, match="released"):
        nfq.update_checksums(view)


def test_buffer_is_let_go() -> None:
    """The buffer can be resized afterwards, also when it was refused."""
    buffer = bytearray(UDP4)
    nfq.update_checksums(buffer)
    del buffer[-1]
    with pytest.raises(ValueError, match="cut short"):
        nfq.update_checksums(buffer)
    buffer.clear()


# Packets that are rewritten


def bad_checksums(file: str, name: str) -> int:
    """How many packets the kernel has refused in the calling thread's namespace."""
    lines = [
        line.split() for line in Path(f"/proc/thread-self/net/{file}").read_text().splitlines()
    ]
    if file == "snmp6":
        return int(dict(line for line in lines if len(line) == 2)[name])
    titles, values = (line for line in lines if line[0] == f"{name}:")
    return int(values[titles.index("InCsumErrors")])


@FAMILIES
def test_rewritten_udp(handle: Handle, family: int) -> None:
    """Changed UDP data arrives with corrected checksums; without, the receiver refuses it."""

    def callback(packet: Packet) -> None:
        content = bytearray(packet.payload)
        content[-4:] = b"new!"
        if packet.id == 2:
            nfq.update_checksums(content)
        packet.accept(payload=content)

    queue_rule(1, family=family)
    handle.create_queue(1, callback, mode=COPY)
    where = ("snmp", "Udp") if family == V4 else ("snmp6", "Udp6InCsumErrors")
    with UdpPair(family) as pair:
        pair.send(b"1 old!", b"2 old!")
        process_until(handle, lambda: handle.stats().verdicts == 2)
        assert pair.arrivals() == [b"2 new!"]
    assert bad_checksums(*where) == 1


@contextlib.contextmanager
def neighbour(family: int) -> Iterator[tuple[Namespace, str]]:
    """A namespace behind a pair of Ethernet devices, and its address."""
    ours, theirs = ("10.0.0.1", "10.0.0.2") if family == V4 else ("fd00::1", "fd00::2")
    size = "/24" if family == V4 else "/64 nodad"
    with contextlib.closing(Namespace()) as namespace:
        veth("left", "right", namespace)
        run(f"ip address add {ours}{size} dev left")
        with namespace:
            run(f"ip address add {theirs}{size} dev right")
        yield namespace, theirs


@pytest.fixture(params=["loopback", "ethernet"])
def receiver(request: pytest.FixtureRequest, netns: Namespace, family: int) -> Iterator[Receiver]:
    """The namespace where packets are received, and its address."""
    if request.param == "loopback":
        run("ip link set lo mtu 1500")
        yield netns, LOOPBACK[family]
    else:
        with neighbour(family) as there:
            yield there


def receive_all(listener: socket.socket) -> bytes:
    listener.settimeout(TIMEOUT)
    conversation, _ = listener.accept()
    with conversation:
        conversation.settimeout(TIMEOUT)
        return b"".join(iter(lambda: conversation.recv(1 << 20), b""))


def send_all(host: str, data: bytes) -> None:
    with socket.create_connection((host, PORT), TIMEOUT) as sock:
        sock.sendall(data)


def transmitted(handle: Handle, receiver: Receiver, family: int, data: bytes) -> bytes:
    """What arrives of data that is sent by TCP."""
    namespace, host = receiver
    with namespace:
        listener = socket.create_server((host, PORT), family=family)
    with listener:
        received = background(receive_all, listener)
        sent = background(send_all, host, data)
        process_until(handle, lambda: received.done() and sent.done())
        sent.result(TIMEOUT)
        return received.result(TIMEOUT)


@FAMILIES
def test_rewritten_tcp(handle: Handle, receiver: Receiver, family: int) -> None:
    """TCP data without corrected checksums is refused, and arrives when it is sent again."""
    wrong = 0

    def callback(packet: Packet) -> None:
        nonlocal wrong
        content = bytearray(packet.payload)
        if content.endswith(b"old data"):
            content[-8:] = b"new data"
            if wrong:
                nfq.update_checksums(content)
            wrong += 1
            packet.accept(payload=content)
        else:
            packet.accept()

    queue_rule(1, f"-p tcp --dport {PORT}", family=family)
    handle.create_queue(1, callback, mode=COPY)
    assert transmitted(handle, receiver, family, b"old data") == b"new data"
    with receiver[0]:
        assert bad_checksums("snmp", "Tcp") == 1


@pytest.mark.parametrize("chain", ["OUTPUT", "POSTROUTING", "INPUT"])
@FAMILIES
def test_rewritten_segments(receiver: Receiver, family: int, chain: str) -> None:
    """Large packets that are or will be cut into segments get the complete checksum like others."""
    infos: list[nfq.SkbInfo] = []

    def callback(packet: Packet) -> None:
        if packet.truncated:
            packet.accept()  # the kernel takes no payload for what the range has cut
            return
        content = bytearray(packet.payload)
        infos.append(packet.skb_info)
        nfq.update_checksums(content)
        packet.accept(payload=content)

    data = os.urandom(1 << 20)
    with segments_queue(callback, receiver, family, chain) as handle:
        assert transmitted(handle, receiver, family, data) == data
    assert any(nfq.NFQA_SKB_GSO | nfq.NFQA_SKB_CSUMNOTREADY in info for info in infos)
    with receiver[0]:
        assert bad_checksums("snmp", "Tcp") == 0


@pytest.mark.parametrize(
    ("chain", "size", "refused"),
    [("OUTPUT", 100, 1), ("INPUT", 100, 1), ("INPUT", 50_000, 1), ("OUTPUT", 50_000, 0)],
)
@FAMILIES
def test_unchanged_copy(
    receiver: Receiver, family: int, chain: str, size: int, refused: int
) -> None:
    """Where the checksum is not ready a copy of the packet is refused until it is filled in.

    Only before it cuts up a large packet the kernel makes the checksums of the parts anew.
    """
    state = nfq.NFQA_SKB_CSUMNOTREADY
    if size > 1500:
        state |= nfq.NFQA_SKB_GSO
    copied: list[int] = []

    def callback(packet: Packet) -> None:
        if packet.original_length < 100:
            packet.accept()
            return
        content = bytearray(packet.payload)
        if packet.skb_info == state and not copied:
            copied.append(packet.id)
        else:
            nfq.update_checksums(content)
        packet.accept(payload=content)

    with segments_queue(callback, receiver, family, chain) as handle:
        assert transmitted(handle, receiver, family, bytes(size)) == bytes(size)
    assert copied
    with receiver[0]:
        assert bad_checksums("snmp", "Tcp") == refused


@contextlib.contextmanager
def segments_queue(
    callback: Callable[[Packet], None], receiver: Receiver, family: int, chain: str
) -> Iterator[Handle]:
    """Queues what goes to the receiver, large packets in one piece, on its side or on ours."""
    namespace = receiver[0] if chain == "INPUT" else contextlib.nullcontext()
    with namespace:
        queue_rule(1, f"-p tcp --dport {PORT}", table="mangle", chain=chain, family=family)
        handle = nfq.open()
    with handle:
        handle.create_queue(1, callback, mode=COPY, flags=nfq.NFQA_CFG_F_GSO)
        yield handle
