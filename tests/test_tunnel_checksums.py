# SPDX-License-Identifier: GPL-2.0-or-later
"""update_checksums on packets in packets, and on SCTP, against scapy's."""

import random
import socket
import struct
from collections.abc import Callable

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as Layers
from scapy.packet import Raw

import libnetfilterqueue as nfq

NOT_READY, GSO = nfq.NFQA_SKB_CSUMNOTREADY, nfq.NFQA_SKB_GSO
UNKNOWN = "the checksum that is not ready is of an unknown kind"

OUT4 = IP(src="10.0.0.1", dst="10.0.0.2")
OUT6 = IPv6(src="fd00::1", dst="fd00::2")
IN4 = IP(src="192.0.2.1", dst="192.0.2.2")
IN6 = IPv6(src="fd01::1", dst="fd01::2")
FRAME = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
VNI = VXLAN(vni=5, flags=8)
POLICY = VXLAN(vni=5, flags=0x88, gpflags=8, gpid=9)


def datagram(port: int, chksum: int | None = None) -> Layers:
    return UDP(sport=50_000, dport=port, chksum=chksum)


# What stands in front of an inner packet of either version.
TUNNELS: dict[str, Callable[[Layers], Layers]] = {
    "IPIP": lambda inner: OUT4 / inner,
    "IP in IPv6": lambda inner: OUT6 / inner,
    "GRE": lambda inner: OUT4 / GRE() / inner,
    "GRE with a checksum": lambda inner: OUT4 / GRE(chksum_present=1) / inner,
    "GRE with a key": lambda inner: OUT6 / GRE(key_present=1, key=5) / inner,
    "GRE with all": lambda inner: (
        OUT4
        / GRE(chksum_present=1, key_present=1, key=5, seqnum_present=1, sequence_number=7)
        / inner
    ),
    "GRE of frames": lambda inner: OUT4 / GRE(proto=0x6558, chksum_present=1) / FRAME / inner,
    "VXLAN": lambda inner: OUT4 / datagram(4789) / VNI / FRAME / inner,
    "VXLAN without a checksum": lambda inner: OUT4 / datagram(4789, chksum=0) / VNI / FRAME / inner,
    "VXLAN on Linux's own port": lambda inner: OUT6 / datagram(8472) / VNI / FRAME / inner,
    "VXLAN with a policy": lambda inner: OUT4 / datagram(4789) / POLICY / FRAME / inner,
    "VXLAN of tagged frames": lambda inner: (
        OUT4 / datagram(4789) / VNI / FRAME / Dot1Q(vlan=2) / Dot1Q(vlan=3) / inner
    ),
    "GENEVE": lambda inner: OUT4 / datagram(6081) / GENEVE(vni=5) / FRAME / inner,
    "GENEVE without frames": lambda inner: (
        OUT6 / datagram(6081) / (bytes([0, 0, *ethertype(inner), 0, 0, 5, 0]) + bytes(inner))
    ),
    "GENEVE with options": lambda inner: (
        OUT4
        / datagram(6081)
        / (bytes([3, 0, *ethertype(inner), 0, 0, 5, 0]) + bytes(range(12)) + bytes(inner))
    ),
}
TRANSPORTS = {
    "TCP": TCP(sport=1, dport=2, flags="S"),
    "UDP": datagram(53),
    "SCTP": SCTP(sport=1, dport=2, tag=3) / SCTPChunkData(tsn=1, data=b"some data"),
}


def ethertype(inner: Layers) -> bytes:
    return b"\x08\x00" if isinstance(inner, IP) else b"\x86\xdd"


def spoil(packet: bytes, whole: bytes) -> bytes:
    """The whole packet, with other checksums in the packet that is in it."""
    at = whole.index(packet)
    header = 20 if packet[0] >> 4 == 4 else 40
    protocol = packet[9 if header == 20 else 6]
    place, size = {6: (16, 2), 17: (6, 2), 132: (8, 4)}[protocol]
    places = [(at + header + place, size)] + ([(at + 10, 2)] if header == 20 else [])
    buffer = bytearray(whole)
    for place, size in places:
        buffer[place : place + size] = bytes([0x12, 0x34, 0x56, 0x78][:size])
    return bytes(buffer)


def updated(packet: bytes, skb_info: int = 0) -> bytes:
    buffer = bytearray(packet)
    nfq.update_checksums(buffer, skb_info)
    return bytes(buffer)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("network", [IN4, IN6], ids=["in IPv4", "in IPv6"])
@pytest.mark.parametrize("name", TUNNELS)
def test_inner_packet(name: str, network: Layers, transport: str) -> None:
    """The inner packet's checksums are made, and the tunnel's own over them."""
    inner = network / TRANSPORTS[transport] / Raw(b"odd")
    whole = bytes(TUNNELS[name](inner))
    assert updated(whole) == whole
    assert updated(spoil(bytes(inner), whole)) == whole
    assert updated(spoil(bytes(inner), whole), NOT_READY) == whole


@pytest.mark.parametrize("network", [OUT4, OUT6], ids=["IPv4", "IPv6"])
def test_sctp(network: Layers) -> None:
    """SCTP's CRC32c covers the whole packet, of all lengths."""
    numbers = random.Random(1)
    for size in range(70):
        chunk = SCTPChunkData(tsn=numbers.randrange(1 << 32), data=numbers.randbytes(size))
        packet = bytes(network / SCTP(sport=1, dport=2, tag=numbers.randrange(1 << 32)) / chunk)
        assert updated(spoil(packet, packet)) == packet


def test_known_crc() -> None:
    """The CRC32c of 32 bytes of 0, which RFC 3720 lists, is right."""
    packet = bytearray(bytes(OUT4 / Raw(bytes(32))))
    packet[9] = 132
    nfq.update_checksums(packet)
    assert packet[28:32] == bytes.fromhex("aa36918a")


def test_only_known_ports() -> None:
    """Data on another port that looks like a tunnel's is data, unless a checksum is not ready."""
    inner = IN4 / datagram(53) / b"data"
    whole = bytes(OUT4 / datagram(5000, chksum=0) / bytes(VNI / FRAME / inner))
    spoilt = spoil(bytes(inner), whole)
    assert updated(spoilt) == spoilt
    assert updated(spoilt, NOT_READY) == whole
    assert updated(spoilt, NOT_READY | GSO)[:28] == whole[:28]


@pytest.mark.parametrize("depth", range(1, 6))
def test_nested(depth: int) -> None:
    """Three tunnels in one another are looked through; what is in a fourth stays as it is."""
    inner = IN4 / datagram(53) / b"data"
    whole: Layers = inner
    for _ in range(depth):
        whole = OUT4 / whole
    spoilt = spoil(bytes(inner), bytes(whole))
    assert updated(spoilt) == (bytes(whole) if depth <= 3 else spoilt)


LEFT_ALONE = {
    "ARP": OUT4 / datagram(4789) / VNI / FRAME / Raw(bytes(28)),
    "cut short": OUT4 / datagram(4789) / VNI / FRAME / Raw(bytes(IN4 / UDP())[:-1]),
    "nothing": OUT4 / datagram(4789) / VNI,
    "half a frame": OUT4 / datagram(4789) / VNI / Raw(bytes(13)),
    "no VXLAN": OUT4 / datagram(4789) / Raw(bytes(8) + bytes(FRAME / IN4 / UDP())),
    "GENEVE of another version": (
        OUT4 / datagram(6081) / Raw(b"\x40\0\x08\0" + bytes(4) + bytes(IN4 / UDP()))
    ),
    "GENEVE options cut": OUT4 / datagram(6081) / Raw(b"\x3f\0\x08\0" + bytes(20)),
    "GRE of another version": OUT4 / GRE(version=1, proto=0x800) / IN4 / UDP(),
    "GRE with a route": OUT4 / GRE(routing_present=1, proto=0x800) / IN4 / UDP(),
    "GRE of MPLS": OUT4 / GRE(proto=0x8847) / Raw(bytes(4)) / IN4 / UDP(),
    "IPIP of IPv6": IP(proto=4) / Raw(bytes(IN6 / UDP())),
    "a tunnel's fragment": IP(flags="MF") / IN4 / UDP(),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_left_alone(name: str) -> None:
    """Bytes that are not a packet, or in no known tunnel, are not touched."""
    packet = bytes(LEFT_ALONE[name])
    assert updated(packet) == packet
    spoilt = packet[:-3] + b"end"
    assert updated(spoilt)[28:] == spoilt[28:]


# What the kernel has said


@pytest.mark.parametrize("info", [0, NOT_READY, GSO, GSO | NOT_READY, 0xFFFFFFFF])
@pytest.mark.parametrize("network", [OUT4, OUT6], ids=["IPv4", "IPv6"])
def test_segments(network: Layers, info: int) -> None:
    """UDP that will be cut gets the sum of the pseudo header, all else a complete checksum."""
    packet = bytes(network / datagram(443) / b"data of QUIC")
    at = len(network)
    addresses = packet[12:20] if at == 20 else packet[8:40]
    words = struct.unpack(f"!{len(addresses) // 2}H", addresses)
    start = sum(words) + socket.IPPROTO_UDP + len(packet) - at
    start = (start & 0xFFFF) + (start >> 16)
    right = start if info & GSO else int.from_bytes(packet[at + 6 : at + 8])
    after = updated(packet, info)
    assert after == packet[: at + 6] + right.to_bytes(2) + packet[at + 8 :]
    tcp = bytes(network / TCP(sport=1, dport=2) / b"data")
    assert updated(tcp, info) == tcp


def test_segments_without_a_checksum() -> None:
    """A tunnel without a checksum, also over IPv6, keeps none."""
    inner = FRAME / IN4 / TCP(sport=1, dport=2)
    for network in (OUT4, OUT6):
        packet = bytes(network / datagram(4789, chksum=0) / VNI / inner)
        at = len(network) + 6
        assert packet[at : at + 2] == b"\0\0"
        assert updated(packet, GSO | NOT_READY) == packet


@pytest.mark.parametrize(
    "packet",
    [
        OUT4 / datagram(5000, chksum=0) / b"of an unknown tunnel",
        OUT4 / GRE(proto=0x8847) / Raw(bytes(4)) / IN4 / TCP(),
        OUT4 / Raw(bytes(20)),
        IP(flags="MF", proto=17) / Raw(bytes(20)),
        OUT4 / OUT4 / OUT4 / OUT4 / OUT4 / TCP(),
    ],
)
def test_unknown_kind(packet: Layers) -> None:
    """A checksum that nobody will complete is an error where the kernel has left one open."""
    buffer = bytearray(bytes(packet))
    with pytest.raises(ValueError, match=rf"^update_checksums\(\): {UNKNOWN}$"):
        nfq.update_checksums(buffer, skb_info=NOT_READY)
    assert buffer == bytes(packet)
    nfq.update_checksums(buffer)


@pytest.mark.parametrize("name", TUNNELS)
def test_every_shorter_tunnel(name: str) -> None:
    """A tunnel that is cut anywhere is refused and stays as it was."""
    packet = spoil(bytes(IN4 / UDP()), bytes(TUNNELS[name](IN4 / UDP())))
    for size in range(len(packet)):
        buffer = bytearray(packet[:size])
        with pytest.raises(ValueError, match=r"^update_checksums\(\): "):
            nfq.update_checksums(buffer, NOT_READY)
        assert buffer == packet[:size]


@pytest.mark.parametrize(
    ("protocol", "header"), [(132, bytes(11)), (47, bytes(3)), (47, b"\x80\0\x08\0" + bytes(3))]
)
def test_header_cut_short(protocol: int, header: bytes) -> None:
    """Headers of SCTP and GRE that are cut short are refused."""
    packet = bytes(IP(proto=protocol) / Raw(header))
    buffer = bytearray(packet)
    with pytest.raises(ValueError, match=r"the transport header is cut short$"):
        nfq.update_checksums(buffer)
    assert buffer == packet


# The argument


@pytest.mark.parametrize("info", [-1, 1 << 32, 1 << 64])
def test_info_out_of_range(info: int) -> None:
    """skb_info is a number of 32 bits."""
    with pytest.raises(
        ValueError, match=r"^update_checksums\(\): skb_info must be in 0\.\.4294967"
    ):
        nfq.update_checksums(bytearray(bytes(OUT4 / UDP())), info)


@pytest.mark.parametrize("info", [None, "1", 1.0])
def test_info_of_another_type(info: object) -> None:
    """skb_info is an int."""
    with pytest.raises(TypeError, match=r"^update_checksums\(\): skb_info must be an int"):
        nfq.update_checksums(bytearray(bytes(OUT4 / UDP())), info)  # type: ignore[arg-type]


def test_names() -> None:
    """Both arguments have names."""
    buffer = bytearray(bytes(OUT4 / datagram(443) / b"data"))
    nfq.update_checksums(buffer=buffer, skb_info=nfq.SkbInfo.NFQA_SKB_GSO)
    assert buffer == updated(bytes(buffer), GSO)
