# SPDX-License-Identifier: GPL-2.0-or-later
"""What `libnetfilterqueue watch` tells of packets of all kinds, on the fake kernel."""

import json
import socket
import time
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netns import TIMEOUT, background
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.sctp import SCTP, SCTPChunkCookieAck
from scapy.packet import Packet, Raw
from scapy.utils import RawPcapNgReader

from libnetfilterqueue.cli import main
from libnetfilterqueue.cli._dissect import Dissected, dissect
from libnetfilterqueue.cli._filters import combine, parse_filter
from libnetfilterqueue.testing import FakeKernel, KernelPacket

V4: dict[str, Any] = {"src": "192.0.2.1", "dst": "198.51.100.2"}
V6: dict[str, Any] = {"src": "2001:db8::1", "dst": "2001:db8::2"}
BETWEEN_V4 = "IP 192.0.2.1 > 198.51.100.2: "
BETWEEN_V6 = "IP6 2001:db8::1 > 2001:db8::2: "
ETH_P_IP, ETH_P_IPV6, ETH_P_ARP = 0x800, 0x86DD, 0x806
NOON = 1_000_000_000.25


class Watched(NamedTuple):
    """What it has printed, and the packets as the kernel has them."""

    lines: list[str]
    packets: list[KernelPacket]


class Watch:
    """Runs `watch 1` with some options on packets that come."""

    def __init__(self, kernel: FakeKernel, capsys: pytest.CaptureFixture[str]) -> None:
        self._kernel = kernel
        self._capsys = capsys

    def __call__(self, *packets: Packet | bytes, options: str = "", **attributes: Any) -> Watched:
        def enqueue() -> list[KernelPacket]:
            self._kernel.listening(1).wait(TIMEOUT)
            return self._kernel.enqueue_all(packets, **attributes)

        enqueuing: Future[list[KernelPacket]] = background(enqueue)
        assert main(["watch", "1", "--count", str(len(packets)), *options.split()]) == 0
        return Watched(self._capsys.readouterr().out.splitlines(), enqueuing.result(TIMEOUT))


@pytest.fixture
def watch(nfqueue: FakeKernel, capsys: pytest.CaptureFixture[str]) -> Watch:
    return Watch(nfqueue, capsys)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (
            IP(**V4) / TCP(sport=1234, dport=80, flags="S"),
            "IP 192.0.2.1.1234 > 198.51.100.2.80: Flags [S], length 0",
        ),
        (
            IP(**V4) / TCP(sport=80, dport=1234, flags="SA", options=[("MSS", 1460)]) / b"data",
            "IP 192.0.2.1.80 > 198.51.100.2.1234: Flags [S.], length 4",
        ),
        (
            IPv6(**V6) / TCP(sport=80, dport=1234, flags=0) / b"data",
            "IP6 2001:db8::1.80 > 2001:db8::2.1234: Flags [none], length 4",
        ),
        (
            IPv6(**V6) / UDP(sport=53, dport=53) / b"data",
            "IP6 2001:db8::1.53 > 2001:db8::2.53: UDP, length 4",
        ),
        (
            IP(**V4) / SCTP(sport=5, dport=6) / SCTPChunkCookieAck(),
            "IP 192.0.2.1.5 > 198.51.100.2.6: SCTP, length 4",
        ),
        (IP(**V4) / ICMP(type=3, code=1) / b"data", BETWEEN_V4 + "ICMP type 3 code 1, length 12"),
        (IPv6(**V6) / ICMPv6EchoRequest(), BETWEEN_V6 + "ICMPV6 type 128 code 0, length 8"),
        (IP(**V4, proto=200) / b"data", BETWEEN_V4 + "200, length 4"),
        (IP(**V4, proto="gre") / b"data", BETWEEN_V4 + "GRE, length 4"),
        (IP(**V4) / ESP(data=bytes(16)), BETWEEN_V4 + "ESP, length 24"),
        (IPv6(**V6) / ESP(data=bytes(16)), BETWEEN_V6 + "ESP, length 24"),
        # A header that is cut, within a packet that is not.
        (IP(**V4, proto="tcp") / b"data", BETWEEN_V4 + "TCP, length 4"),
        (IP(**V4, frag=2, proto="udp") / bytes(16), BETWEEN_V4 + "UDP, length 16"),
        # A chunk that is cut.
        (
            IP(**V4, proto="sctp") / SCTP(sport=5, dport=6) / b"\0",
            "IP 192.0.2.1.5 > 198.51.100.2.6: SCTP, length 1",
        ),
        # Lengths that lie, of a chunk and in a packet that an error quotes.
        (
            IP(**V4) / SCTP(sport=5, dport=6) / SCTPChunkCookieAck(len=60000),
            "IP 192.0.2.1.5 > 198.51.100.2.6: SCTP, length 4",
        ),
        (
            IP(**V4) / ICMP(type=3, code=1) / IP(**V4, len=20) / bytes(8),
            BETWEEN_V4 + "ICMP type 3 code 1, length 36",
        ),
        (
            IPv6(**V6) / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2) / b"data",
            "IP6 2001:db8::1.1 > 2001:db8::2.2: UDP, length 4",
        ),
        (
            IPv6(**V6) / IPv6ExtHdrFragment(offset=2, nh=socket.IPPROTO_UDP) / Raw(bytes(16)),
            BETWEEN_V6 + "UDP, length 16",
        ),
        (
            IPv6(**V6)
            / IPv6ExtHdrHopByHop()
            / IPv6ExtHdrFragment(offset=2, nh=socket.IPPROTO_UDP)
            / Raw(bytes(16)),
            BETWEEN_V6 + "UDP, length 16",
        ),
        (
            IPv6(**V6)
            / IPv6ExtHdrFragment(m=1)
            / IPv6ExtHdrDestOpt()
            / UDP(sport=1, dport=2, len=2000)
            / b"data",
            "IP6 2001:db8::1.1 > 2001:db8::2.2: UDP, length 4",
        ),
        (
            IPv6(**V6)
            / IPv6ExtHdrFragment(offset=2, nh=socket.IPPROTO_DSTOPTS)
            / Raw(b"\x11" * 16),
            BETWEEN_V6 + "DSTOPTS, length 16",
        ),
        (
            IPv6(**V6) / AH(nh=socket.IPPROTO_UDP, payloadlen=1) / UDP(sport=1, dport=2) / b"data",
            "IP6 2001:db8::1.1 > 2001:db8::2.2: UDP, length 4",
        ),
        # What a bridge passes may be padded; 0 is that of jumbograms.
        (
            IPv6(**V6, plen=12) / UDP(sport=1, dport=2) / (b"data" + bytes(10)),
            "IP6 2001:db8::1.1 > 2001:db8::2.2: UDP, length 4",
        ),
        (
            IPv6(**V6, plen=0) / UDP(sport=1, dport=2) / b"data",
            "IP6 2001:db8::1.1 > 2001:db8::2.2: UDP, length 4",
        ),
        # Extension headers that are cut, or say that they are longer than the packet.
        (IPv6(**V6, nh=socket.IPPROTO_DSTOPTS) / b"\x11", BETWEEN_V6 + "DSTOPTS, length 1"),
        (
            IPv6(**V6, nh=socket.IPPROTO_DSTOPTS) / b"\x11\xff\0\0\0\0\0\0",
            BETWEEN_V6 + "UDP, length 0",
        ),
        (b"\x45", "malformed IP, length 1"),
    ],
)
def test_protocols(watch: Watch, packet: Packet | bytes, expected: str) -> None:
    """Each is described as far as it can be read."""
    ((line,), (queued,)) = watch(packet)
    assert line.endswith(f" accept > {expected}")
    assert queued.passed


def test_written_time(watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture file has the microsecond that the line shows, whose clock is finer."""
    path = tmp_path / "written.pcapng"
    now = 1_795_841_657 + 6 * 2**-22  # 1.43 us: times a million, a float says 1.5
    monkeypatch.setattr(time, "time", lambda: now)
    ((line,), _) = watch(IP(**V4), options=f"--write {path}")
    with RawPcapNgReader(str(path)) as reader:
        packets: list[tuple[bytes, Any]] = list(reader)
    ((_, meta),) = packets
    written = (meta.tshigh << 32 | meta.tslow) % 1_000_000
    assert line.split()[0].endswith(f".{written:06}")
    assert written == 1


def test_no_ip(watch: Watch) -> None:
    """What a bridge passes need not be IP."""
    ((line,), _) = watch(bytes(28), hw_protocol=ETH_P_ARP, family=socket.AF_BRIDGE)
    assert line.endswith(" accept > ethertype 0x0806, length 28")


def test_attributes(watch: Watch) -> None:
    """The kernel's timestamp, in local time; devices; mark; user."""
    packet = IP(**V4) / UDP(sport=1, dport=2) / b"data"
    ((line,), _) = watch(packet, timestamp=NOON, indev=1, outdev=1, mark=0x2A, uid=1000)
    when = datetime.fromtimestamp(NOON).strftime("%H:%M:%S.250000")
    udp = "IP 192.0.2.1.1 > 198.51.100.2.2: UDP, length 4"
    assert line == f"{when} accept lo>lo {udp}, mark 0x2a, uid 1000"


def test_cut_short(watch: Watch) -> None:
    """A packet of which the kernel had no room for all."""
    ((line,), _) = watch(IP(**V4) / UDP(sport=1, dport=2) / b"data", original_length=70000)
    assert line.endswith("UDP, length 4, cut short")
    ((line,), _) = watch(
        IP(**V4) / UDP(sport=1, dport=2) / b"data", original_length=70000, options="--json"
    )
    told = json.loads(line)
    assert (told["length"], told["data_length"], told["truncated"]) == (70000, 4, True)


def test_json(watch: Watch) -> None:
    """Numbers are numbers, and what is not there is null."""
    packets: list[Packet | bytes] = [
        IPv6(**V6) / TCP(sport=1, dport=2, flags="PA") / b"data",
        IPv6(**V6) / ICMPv6EchoRequest(),
        b"",
    ]
    lines, _ = watch(
        *packets,
        options="--json --verdict drop",
        timestamp=NOON,
        hw_addr=bytes(range(6)),
        hw_protocol=ETH_P_IPV6,
        indev=1,
        physindev=1,
    )
    tcp, icmp, nothing = map(json.loads, lines)
    assert (tcp["timestamp"], tcp["indev"], tcp["outdev"]) == (NOON, "lo", None)
    assert (tcp["hw_addr"], tcp["hw_protocol"]) == ("00:01:02:03:04:05", ETH_P_IPV6)
    assert (tcp["physindev"], tcp["physoutdev"]) == ("lo", None)
    assert (tcp["verdict"], tcp["uid"], tcp["gid"]) == ("drop", None, None)
    assert (tcp["saddr"], tcp["daddr"], tcp["protocol"]) == ("2001:db8::1", "2001:db8::2", "tcp")
    assert (tcp["sport"], tcp["dport"], tcp["flags"], tcp["data_length"]) == (1, 2, "P.", 4)
    assert (icmp["protocol"], icmp["icmp_type"], icmp["icmp_code"]) == ("icmpv6", 128, 0)
    assert icmp["sport"] is icmp["dport"] is icmp["flags"] is None
    for name in ("saddr", "daddr", "protocol", "sport", "dport", "data_length"):
        assert nothing[name] is None


@pytest.mark.parametrize(
    ("attributes", "header"),
    [
        ({"indev": 1, "hw_addr": bytes(range(6))}, "0000 0001 0006 0001020304050000 0800"),
        ({"outdev": 1}, "0004 fffe 0000 0000000000000000 0800"),
    ],
    ids=["in", "out"],
)
def test_link_header(watch: Watch, tmp_path: Path, attributes: dict[str, Any], header: str) -> None:
    """That of tcpdump's `-i any`: direction, kind of device, and the sender's address."""
    path = tmp_path / "written.pcapng"
    watch(IP(**V4), options=f"--write {path}", **attributes)
    with RawPcapNgReader(str(path)) as reader:
        packets: list[tuple[bytes, Any]] = list(reader)
    assert [data for data, _ in packets] == [bytes.fromhex(header) + bytes(IP(**V4))]


DNS = IP(**V4) / UDP(sport=5000, dport=53)
HTTP = IP(**V4) / TCP(sport=80, dport=5000)
PING = IPv6(**V6) / ICMPv6EchoRequest()
FRAGMENT = IP(**V4, frag=2, proto="udp") / b"\x00\x35\x00\x35"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("port=53", [DNS]),
        ("port=5000", [DNS, HTTP]),
        ("port=53 port=80", [DNS, HTTP]),
        ("proto=udp", [DNS, FRAGMENT]),
        ("proto=17", [DNS, FRAGMENT]),
        ("proto=udp proto=tcp", [DNS, HTTP, FRAGMENT]),
        ("proto=icmpv6", [PING]),
        ("host=192.0.2.1", [DNS, HTTP, FRAGMENT]),
        ("host=198.51.100.0/24", [DNS, HTTP, FRAGMENT]),
        ("host=198.51.100.77/24", [DNS, HTTP, FRAGMENT]),
        ("host=2001:db8::/32", [PING]),
        ("host=0.0.0.0/0 host=::/0", [DNS, HTTP, PING, FRAGMENT]),
        ("host=192.0.2.1 proto=udp port=53", [DNS]),
        ("host=192.0.2.2 proto=udp port=53", []),
        ("proto=icmpv6 port=53", []),
    ],
)
def test_filters(filters: str, expected: list[Packet]) -> None:
    """One of those with the same key, for each key."""
    matches = combine(parse_filter(text) for text in filters.split())
    everything: list[tuple[int, Packet | bytes]] = [
        (ETH_P_IP, DNS),
        (ETH_P_IP, HTTP),
        (ETH_P_IPV6, PING),
        (ETH_P_IP, FRAGMENT),
        (ETH_P_IP, b""),
        (ETH_P_ARP, bytes(28)),
    ]
    shown = [packet for kind, packet in everything if matches(dissect(kind, bytes(packet)))]
    assert shown == expected


PAYLOADS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda header, rest: header + rest,
        st.sampled_from([bytes(IP(**V4, proto=number)) for number in range(256)]),
        st.binary(max_size=200),
    ),
    st.builds(
        lambda header, rest: header + rest,
        st.sampled_from([bytes(IPv6(**V6, nh=number, plen=200)) for number in range(256)]),
        st.binary(max_size=200),
    ),
)


@given(st.sampled_from([ETH_P_IP, ETH_P_IPV6]), PAYLOADS)
def test_any_bytes(hw_protocol: int, payload: bytes) -> None:
    """Nothing is raised, and whatever follows them, a whole header's addresses are read."""
    fields = dissect(hw_protocol, payload)
    assert (fields.saddr is None) == (fields == Dissected())
    if hw_protocol == ETH_P_IPV6:
        assert (fields.saddr is not None) == (len(payload) >= 40)
    assert (fields.data_length or 0) <= len(payload)


@pytest.mark.parametrize("layers", [1, 2, 3276])
def test_packets_in_packets(layers: int) -> None:
    """However deep, it is the outermost that is described."""
    layer = bytes(IP(**V4, proto=4, len=0))
    fields = dissect(ETH_P_IP, layer * layers)
    assert (str(fields.saddr), fields.protocol) == (V4["src"], 4)
    assert fields.data_length == len(layer) * (layers - 1)
