# SPDX-License-Identifier: GPL-2.0-or-later
"""enqueue_capture(): the IP packets of pcap and pcapng files, from every link that carries them."""

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from queues import Handle, Packet
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, CookedLinux, Dot1Q, Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw
from scapy.utils import PcapNgWriter, PcapWriter

import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel
from libnetfilterqueue.testing._links import LINKS as KNOWN_LINKS

pytestmark = pytest.mark.nfqueue(allow_undecided=True, allow_unbound=True)  # none is about verdicts


@pytest.fixture
def handle(nfqueue: FakeKernel) -> Iterator[Handle]:
    """An open handle of the fake kernel."""
    with nfq.open() as handle:
        yield handle


def keeping(handle: Handle) -> list[Packet]:
    """The packets of queue 1, once they are processed."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_PACKET)
    return packets


# Files of scapy's


ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
IPV4 = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=53) / Raw(b"short")
IPV6 = IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP() / Raw(b"data")
FRAMES: dict[str, tuple[int, list[ScapyPacket]]] = {
    "ethernet": (1, [ETHERNET / IPV4, ETHERNET / ARP(), ETHERNET / Dot1Q(vlan=5) / IPV6]),
    "raw": (101, [IPV4, IPV6]),
    "cooked": (113, [CookedLinux(proto=0x800) / IPV4, CookedLinux(proto=0x86DD) / IPV6]),
}


def write(path: Path, kind: str, *, pcapng: bool) -> None:
    """Writes a file, with a second from packet to packet."""
    linktype, packets = FRAMES[kind]
    for number, packet in enumerate(packets):
        packet.time = 1000.5 + number
    if pcapng:
        with PcapNgWriter(str(path)) as file:
            file.linktype = linktype
            file.write(packets)
    else:
        with PcapWriter(str(path), linktype=linktype) as file:
            file.write(packets)


@pytest.mark.parametrize("pcapng", [False, True])
@pytest.mark.parametrize("kind", FRAMES)
def test_capture(
    nfqueue: FakeKernel, handle: Handle, tmp_path: Path, kind: str, pcapng: bool
) -> None:
    """The IP packets of a file come without their headers and padding, at their times."""
    path = tmp_path / "capture"
    write(path, kind, pcapng=pcapng)
    packets = keeping(handle)
    sent = nfqueue.enqueue_capture(path, mark=7)
    handle.process()
    expected = [bytes(IPV4), bytes(IPV6)]
    assert [packet.get_payload() for packet in packets] == expected
    assert [packet.payload for packet in sent] == expected
    arp = kind == "ethernet"
    assert [packet.timestamp for packet in packets] == [1000.5, 1002.5 if arp else 1001.5]
    assert [(packet.mark, packet.truncated) for packet in packets] == [(7, False)] * 2
    assert [packet.family for packet in packets] == [2, 10]


def test_short_capture(nfqueue: FakeKernel, handle: Handle, tmp_path: Path) -> None:
    """Bytes that a capture has cut off count in the original length; padding doesn't."""
    path = str(tmp_path / "capture.pcap")
    frame = bytes(ETHERNET / IPV4)
    with PcapWriter(path, linktype=1) as file:
        file.write_header(None)
        file.write_packet(frame[:40], wirelen=len(frame))
        file.write_packet(frame + bytes(20))
    packets = keeping(handle)
    nfqueue.enqueue_capture(path)
    handle.process()
    assert [packet.get_payload() for packet in packets] == [frame[14:40], frame[14:]]
    assert [packet.original_length for packet in packets] == [len(frame) - 14] * 2


def test_no_capture(nfqueue: FakeKernel, tmp_path: Path) -> None:
    """A file that isn't there is an OSError."""
    with pytest.raises(FileNotFoundError):
        nfqueue.enqueue_capture(tmp_path / "missing")


def test_without_scapy(nfqueue: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scapy only files can't be read, and the error says what to install."""
    monkeypatch.setitem(sys.modules, "scapy.utils", None)
    with pytest.raises(ImportError, match=r"pip install 'libnetfilterqueue\[testing\]'"):
        nfqueue.enqueue_capture("capture.pcap")


# Every link


V4 = bytes(IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=2) / Raw(b"data"))
V6 = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=1, dport=2) / Raw(b"data"))
ADDRESSES = "020000000001 020000000002 "
SNAP = "aaaa03 000000 "
DATA = "0801 0000 " + "02" * 18 + " 0000 "  # of Wi-Fi, to the access point
SUBFRAME = ADDRESSES + "0028 " + SNAP + "0800 "


def frame(headers: str, packet: bytes, trailer: str = "") -> bytes:
    return bytes.fromhex(headers) + packet + bytes.fromhex(trailer)


LINKS: dict[str, tuple[int, bytes]] = {
    "Ethernet": (1, frame(ADDRESSES + "0800", V4)),
    "Ethernet, IPv6": (1, frame(ADDRESSES + "86dd", V6)),
    "Ethernet, the length of its check sequence": (0x50000001, frame(ADDRESSES + "0800", V4)),
    "Ethernet, padding": (1, frame(ADDRESSES + "0800", V4, "00" * 14)),
    "Ethernet, SNAP": (1, frame(ADDRESSES + "0028" + SNAP + "0800", V4)),
    "Ethernet, LLC": (1, frame(ADDRESSES + "0023 060603", V4)),
    "VLAN": (1, frame(ADDRESSES + "8100 0005 0800", V4)),
    "VLANs": (1, frame(ADDRESSES + "88a8 0005 8100 0006 86dd", V6)),
    "VLANs, as they were": (1, frame(ADDRESSES + "9100 0005 8100 0006 0800", V4)),
    "PPPoE": (1, frame(ADDRESSES + "8864 11 00 0001 0022 0021", V4)),
    "PPPoE, IPv6": (1, frame(ADDRESSES + "8864 11 00 0001 0036 0057", V6)),
    "PPPoE in a VLAN": (1, frame(ADDRESSES + "8100 0007 8864 11 00 0001 0022 0021", V4)),
    "MPLS": (1, frame(ADDRESSES + "8847 00010140", V4)),
    "MPLS, labels": (1, frame(ADDRESSES + "8847 00010040 00020140", V6)),
    "MPLS, Ethernet": (1, frame(ADDRESSES + "8847 00010140 00000000" + ADDRESSES + "0800", V4)),
    "provider's backbone": (1, frame(ADDRESSES + "88e7 00000001" + ADDRESSES + "0800", V4)),
    "MACsec": (1, frame(ADDRESSES + "88e5 20 00 00000001 0200000000010001 0800", V4, "00" * 16)),
    "NSH": (1, frame(ADDRESSES + "894f 0fc6 01 01 00000100 " + "00" * 16, V4)),
    "TRILL": (1, frame(ADDRESSES + "22f3 0001 0001 0002" + ADDRESSES + "0800", V4)),
    "VNTag": (1, frame(ADDRESSES + "8926 00000000 0800", V4)),
    "Arista, 64 bits": (1, frame(ADDRESSES + "d28b 0001 0010 0000000000000000 0800", V4)),
    "Arista, 48 bits": (1, frame(ADDRESSES + "d28b 0001 0020 000000000000 0800", V4)),
    "FabricPath": (1, frame(ADDRESSES + "8903 0001" + ADDRESSES + "0800", V4)),
    "PPP": (9, frame("ff03 0021", V4)),
    "PPP, IPv6": (9, frame("ff03 0057", V6)),
    "PPP, no address": (9, frame("0021", V4)),
    "PPP, short": (9, frame("21", V4)),
    "PPP, MPLS": (9, frame("ff03 0281 00010140", V4)),
    "PPP, serial": (50, frame("ff03 0021", V4)),
    "PPP, Cisco's": (50, frame("0f00 0800", V4)),
    "PPP over Ethernet": (51, frame("11 00 0001 0022 0021", V4)),
    "PPP, directed": (204, frame("01 ff03 0021", V4)),
    "Cisco HDLC": (104, frame("0f00 0800", V4)),
    "Cisco HDLC, MPLS": (104, frame("0f00 8847 00010140", V4)),
    "Cisco HDLC, directed": (205, frame("01 0f00 0800", V4)),
    "frame relay": (107, frame("1841 03 cc", V4)),
    "frame relay, IPv6": (107, frame("1841 03 8e", V6)),
    "frame relay, SNAP": (107, frame("1841 03 00 80 000000 0800", V4)),
    "frame relay, Cisco's": (107, frame("1841 0800", V4)),
    "ATM": (100, frame(SNAP + "0800", V4)),
    "ATM, bridged": (100, frame("aaaa03 0080c2 0007 0000" + ADDRESSES + "0800", V4)),
    "SunATM": (123, frame("02 00 0001" + SNAP + "0800", V4)),
    "loopback": (0, frame("02000000", V4)),
    "loopback, big-endian": (0, frame("00000002", V4)),
    "loopback, IPv6 of macOS": (0, frame("1e000000", V6)),
    "loopback, IPv6 of FreeBSD": (0, frame("1c000000", V6)),
    "loopback, IPv6 of NetBSD": (0, frame("18000000", V6)),
    "loopback, OpenBSD": (108, frame("00000002", V4)),
    "loopback, IPv6 of OpenBSD": (108, frame("00000018", V6)),
    "OpenBSD's IPsec": (109, frame("02000000 00000001 00000000", V4)),
    "OpenBSD's packet filter": (117, frame("3d 02 00 00" + "00" * 60, V4)),
    "raw": (101, V4),
    "raw, IPv6": (101, V6),
    "raw, BSD": (12, V4),
    "raw, OpenBSD": (14, V4),
    "IPv4": (228, V4),
    "IPv6": (229, V6),
    "any": (113, frame("0000 0001 0006 0200000000010000 0800", V4)),
    "any, PPP's packets": (113, frame("0000 0200 0000 0000000000000000 0800", V4)),
    "any, VLAN": (113, frame("0000 0001 0006 0200000000010000 8100 0005 86dd", V6)),
    "any, 2": (276, frame("0800 0000 00000001 0001 00 06 0200000000010000", V4)),
    "nflog": (239, frame("02 00 0000 0800 0100 00000100 2400 0900", V4)),
    "nflog, big-endian": (239, frame("0a 00 0000 0008 0001 00000100 0038 0009", V6)),
    "Solaris' loopback": (226, frame("01 02 0004 00000020" + "00" * 16, V4)),
    "Wi-Fi": (105, frame(DATA + SNAP + "0800", V4)),
    "Wi-Fi, IPv6": (105, frame(DATA + SNAP + "86dd", V6)),
    "Wi-Fi, quality of service": (105, frame("88" + DATA[2:] + "0000" + SNAP + "0800", V4)),
    "Wi-Fi, between access points": (105, frame("0803" + DATA[4:] + "02" * 6 + SNAP + "0800", V4)),
    "Wi-Fi, high throughput": (
        105,
        frame("8881" + DATA[4:] + "0000 00000000" + SNAP + "0800", V4),
    ),
    "Wi-Fi, radiotap": (127, frame("0000 0800 00000000" + DATA + SNAP + "0800", V4)),
    "Wi-Fi, radiotap, check sequence": (
        127,
        frame("0000 0900 02000000 10" + DATA + SNAP + "0800", V4, "01020304"),
    ),
    "Wi-Fi, radiotap, padded": (
        127,
        frame(
            "0000 1100 03000000 0000000000000000 20 88" + DATA[2:] + "0000 0000" + SNAP + "0800", V4
        ),
    ),
    "Wi-Fi, radiotap, more": (
        127,
        frame(
            "0000 1900 03000080 00000000 00000000 0000000000000000 00" + DATA + SNAP + "0800", V4
        ),
    ),
    "Wi-Fi, Prism": (119, frame("44000000 90000000" + "00" * 136 + DATA + SNAP + "0800", V4)),
    "Wi-Fi, AVS": (163, frame("80211001 00000040" + "00" * 56 + DATA + SNAP + "0800", V4)),
    "Wi-Fi, AVS for Prism": (
        119,
        frame("80211001 00000040" + "00" * 56 + DATA + SNAP + "0800", V4),
    ),
    "Wi-Fi, PPI": (192, frame("0000 0800 69000000" + DATA + SNAP + "0800", V4)),
    "token ring": (6, frame("1040" + ADDRESSES + SNAP + "0800", V4)),
    "token ring, routed": (
        6,
        frame("1040 020000000001 820000000002 0630 0011 0020" + SNAP + "0800", V4),
    ),
    "FDDI": (10, frame("50" + ADDRESSES + SNAP + "0800", V4)),
    "Fibre Channel": (122, frame("1000020000000001 1000020000000002" + SNAP + "0800", V4)),
    "FireWire": (138, frame("0200000000000001 0200000000000002 0800", V4)),
    "InfiniBand": (242, frame("00" * 40 + "0800 0000", V4)),
    "cable": (143, frame("00 00 0032 0000" + ADDRESSES + "0800", V4)),
    "Juniper": (178, frame("4d4743 00" + ADDRESSES + "0800", V4)),
    "Juniper, extensions": (178, frame("4d4743 80 0006 010101 020101" + ADDRESSES + "0800", V4)),
    "Juniper, no header": (178, frame("4d4743 02 02000000", V4)),
    "Endace": (197, frame("00" * 8 + "02 04 0050 0000 0030 0000" + ADDRESSES + "0800", V4)),
    "exported": (252, frame("000c 0004 69700000 0000 0000", V4)),
    "a switch of Broadcom's": (281, frame(ADDRESSES + "00000000 0800", V4)),
    "a switch of Broadcom's, in front": (282, frame("00000000" + ADDRESSES + "0800", V4)),
    "a switch of Marvell's": (284, frame(ADDRESSES + "00000000 0800", V4)),
    "a switch of Marvell's, with an EtherType": (
        285,
        frame(ADDRESSES + "dada 0000 00000000 0800", V4),
    ),
}


def pcap(path: Path, link: int, *frames: bytes) -> Path:
    """Writes a file of frames, each a second later."""
    records = [
        struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame
        for number, frame in enumerate(frames)
    ]
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    path.write_bytes(header + b"".join(records))
    return path


@pytest.mark.parametrize("name", LINKS)
def test_link(nfqueue: FakeKernel, tmp_path: Path, name: str) -> None:
    """The IP packet of a frame is found behind the headers of its link, whole, without trailers."""
    link, data = LINKS[name]
    (packet,) = nfqueue.enqueue_capture(pcap(tmp_path / "capture.pcap", link, data))
    assert packet.payload == (V6 if V6 in data else V4)


def test_all_links() -> None:
    """Every known link type is tried, except other numbers of those and rare ones."""
    tried = {link & 0xFFFF for link, _ in LINKS.values()}
    assert set(KNOWN_LINKS) - tried == {
        7,
        11,
        13,
        17,
        19,
        106,
        129,
        144,
        166,
        179,
        180,
        181,
        206,
        274,
    }


def test_aggregate(nfqueue: FakeKernel, tmp_path: Path) -> None:
    """A frame of Wi-Fi may have several packets."""
    headers = "8801" + DATA[4:] + "8000"
    data = frame(headers + SUBFRAME, V4, "0000") + frame(SUBFRAME, V4)
    packets = nfqueue.enqueue_capture(pcap(tmp_path / "capture.pcap", 105, data))
    assert [packet.payload for packet in packets] == [V4, V4]


WITHOUT: dict[str, tuple[int, bytes]] = {
    "ARP": (1, bytes(ETHERNET / ARP())),
    "PPPoE, discovery": (1, frame(ADDRESSES + "8863 11 09 0000 0004 0101 0000", b"")),
    "another version": (1, frame(ADDRESSES + "0800", b"\x15" + V4[1:])),
    "encrypted MACsec": (1, frame(ADDRESSES + "88e5 0c 00 00000001 0800", V4)),
    "a beacon": (105, frame("8000" + DATA[4:], V4)),
    "encrypted Wi-Fi": (105, frame("0841" + DATA[4:] + SNAP + "0800", V4)),
    "a fragment of Wi-Fi": (105, frame("0805" + DATA[4:] + SNAP + "0800", V4)),
    "cut short": (1, bytes(13)),
    "empty": (105, b""),
    "PPP's LCP": (9, frame("ff03 c021 01010004", b"")),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_without_packets(nfqueue: FakeKernel, tmp_path: Path, name: str) -> None:
    """A file of frames without any IP packet is an error: it would test nothing."""
    link, data = WITHOUT[name]
    path = pcap(tmp_path / "capture.pcap", link, data, data)
    with pytest.raises(ValueError, match=r"capture.pcap: no IP packet in 2 frames"):
        nfqueue.enqueue_capture(path)


@pytest.mark.parametrize("link", LINKS.values())
def test_cut_frames(link: tuple[int, bytes]) -> None:
    """Frames that are cut anywhere are read without an error."""
    number, data = link
    for size in range(len(data)):
        for packet in KNOWN_LINKS[number & 0xFFFF](data[:size]):
            assert packet == data[size - len(packet) : size]


def test_unknown_link(nfqueue: FakeKernel, tmp_path: Path) -> None:
    """A link type that nobody knows is an error, before anything is sent."""
    with pytest.raises(ValueError, match=r"capture.pcap: link type 147 is not known to carry IP"):
        nfqueue.enqueue_capture(pcap(tmp_path / "capture.pcap", 147, V4))


def test_no_frames(nfqueue: FakeKernel, tmp_path: Path) -> None:
    """A file without frames has no packets."""
    assert nfqueue.enqueue_capture(pcap(tmp_path / "capture.pcap", 1)) == []


INDEPENDENT = """
import sys
from pathlib import Path
import scapy.contrib.mpls, scapy.layers.dot11, scapy.layers.ppp
from libnetfilterqueue.testing import FakeKernel
with FakeKernel() as kernel:
    for path in Path(sys.argv[1]).glob("*.pcap"):
        (packet,) = kernel.enqueue_capture(path)
        path.with_suffix(".packet").write_bytes(packet.payload)
"""


def test_other_imports(tmp_path: Path) -> None:
    """The result doesn't depend on what the program has imported of scapy."""
    names = ["PPPoE", "PPP", "Wi-Fi, radiotap", "MPLS", "MPLS, Ethernet", "Cisco HDLC"]
    for name in names:
        pcap(tmp_path / f"{name}.pcap", *LINKS[name])
    program = tmp_path / "program.py"
    program.write_text(INDEPENDENT)
    subprocess.run([sys.executable, "-W", "error", program, tmp_path], check=True, timeout=50)
    found = {path.stem: path.read_bytes() for path in tmp_path.glob("*.packet")}
    assert found == dict.fromkeys(names, V4)


def block(kind: int, body: bytes) -> bytes:
    """A block of pcapng."""
    body += bytes(-len(body) % 4)
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


SECTION = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(link: int) -> bytes:
    """An interface whose frames are whole, whatever their length."""
    return block(1, struct.pack("<HHI", link, 0, 0))


def enhanced(number: int, data: bytes) -> bytes:
    """A frame of one of the interfaces."""
    return block(6, struct.pack("<IIIII", number, 0, 1_000_000, len(data), len(data)) + data)


def test_sections(nfqueue: FakeKernel, handle: Handle, tmp_path: Path) -> None:
    """Sections of a pcapng file have interfaces of their own, and simple blocks have no time."""
    path = tmp_path / "capture.pcapng"
    ethernet = LINKS["Ethernet"][1]
    path.write_bytes(
        SECTION
        + interface(101)
        + interface(1)
        + enhanced(0, V6)
        + enhanced(1, ethernet)
        + SECTION
        + interface(1)
        + block(3, struct.pack("<I", len(ethernet)) + ethernet)
        + enhanced(0, ethernet)
    )
    packets = keeping(handle)
    nfqueue.enqueue_capture(path)
    handle.process()
    assert [packet.get_payload() for packet in packets] == [V6, V4, V4, V4]
    assert [packet.timestamp for packet in packets] == [1, 1, None, 1]


def test_segments(nfqueue: FakeKernel, tmp_path: Path) -> None:
    """A packet captured before its segmentation has no length, and one of 64 KiB is whole."""
    long = IP(dst="192.0.2.2") / UDP() / Raw(bytes(65507))
    unsegmented = bytearray(V4)
    unsegmented[2:4] = bytes(2)
    frames = [frame(ADDRESSES + "0800", packet) for packet in (bytes(long), bytes(unsegmented))]
    packets = nfqueue.enqueue_capture(pcap(tmp_path / "capture.pcap", 1, *frames))
    assert [packet.payload for packet in packets] == [bytes(long), unsegmented]
