# SPDX-License-Identifier: GPL-2.0-or-later
"""What `libnetfilterqueue watch` tells of packets of all kinds, on the fake kernel."""

import errno
import json
import socket
import time
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
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
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.sctp import SCTP, SCTPChunkCookieAck
from scapy.packet import Packet, Raw
from scapy.utils import RawPcapNgReader

import libnetfilterqueue as nfq
from libnetfilterqueue.cli import main
from libnetfilterqueue.cli._dissect import Dissected, address_text, dissect
from libnetfilterqueue.cli._filters import combine, parse_filter
from libnetfilterqueue.cli._names import flag_names
from libnetfilterqueue.cli._parser import parse
from libnetfilterqueue.cli._watch import bind
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
        (
            IP(**V4) / ICMP(type=3, code=1) / b"data",
            BETWEEN_V4 + "ICMP destination-unreachable host-unreachable, length 12",
        ),
        (IPv6(**V6) / ICMPv6EchoRequest(), BETWEEN_V6 + "ICMPV6 echo-request, length 8"),
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
            BETWEEN_V4 + "ICMP destination-unreachable host-unreachable, length 36",
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
        # AH over IPv4, also in a first fragment; a later one has no headers; one that is cut.
        (
            IP(**V4)
            / AH(nh=socket.IPPROTO_TCP, payloadlen=4, icv=bytes(12))
            / TCP(sport=1, dport=2, flags="S"),
            "IP 192.0.2.1.1 > 198.51.100.2.2: Flags [S], length 0",
        ),
        (
            IP(**V4) / AH(nh=socket.IPPROTO_ESP, payloadlen=1) / bytes(16),
            BETWEEN_V4 + "ESP, length 16",
        ),
        (
            IP(**V4, flags="MF")
            / AH(nh=socket.IPPROTO_UDP, payloadlen=1)
            / UDP(sport=1, dport=2, len=2000)
            / b"data",
            "IP 192.0.2.1.1 > 198.51.100.2.2: UDP, length 4",
        ),
        (IP(**V4, frag=2, proto="ah") / (b"\x11" * 16), BETWEEN_V4 + "AH, length 16"),
        (IP(**V4, proto="ah") / b"\x11\x01", BETWEEN_V4 + "AH, length 2"),
        (IP(**V4, proto="ah") / b"\x11\xff\0\0\0\0\0\0", BETWEEN_V4 + "UDP, length 0"),
        (
            IPv6(**V6)
            / IPv6ExtHdrRouting(addresses=["2001:db8::3"])
            / AH(nh=socket.IPPROTO_DSTOPTS, payloadlen=1)
            / IPv6ExtHdrDestOpt()
            / UDP(sport=1, dport=2)
            / b"data",
            "IP6 2001:db8::1.1 > 2001:db8::2.2: UDP, length 4",
        ),
        # Over IPv4 these are no extension headers.
        (
            IP(**V4, proto=socket.IPPROTO_DSTOPTS) / (b"\x11" * 16),
            BETWEEN_V4 + "DSTOPTS, length 16",
        ),
        # What comes behind can't be read, or is nothing.
        (IP(**V4, proto=108) / bytes(16), BETWEEN_V4 + "COMP, length 16"),
        (IPv6(**V6, nh=108) / bytes(16), BETWEEN_V6 + "COMP, length 16"),
        (IPv6(**V6, nh=socket.IPPROTO_NONE) / bytes(4), BETWEEN_V6 + "NONE, length 4"),
        # UDP-Lite has the checksum's coverage where UDP has a length.
        (
            IP(**V4, proto=socket.IPPROTO_UDPLITE) / UDP(sport=1, dport=2, len=8) / b"data",
            "IP 192.0.2.1.1 > 198.51.100.2.2: UDPLITE, length 4",
        ),
        (
            IP(**V4, proto=33) / b"\0\1\0\2\4\0\0\0\1\0\0\0\0\0\0\0data",
            "IP 192.0.2.1.1 > 198.51.100.2.2: DCCP, length 4",
        ),
        (IP(**V4, proto=33) / b"\0\1\0\2\xff\0\0\0\1\0\0\0", BETWEEN_V4 + "DCCP, length 12"),
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
    """Packets of each protocol are described as far as they can be read."""
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
    """Packets of a bridge need not be IP."""
    ((line,), _) = watch(bytes(28), hw_protocol=ETH_P_ARP, family=socket.AF_BRIDGE)
    assert line.endswith(" accept > ethertype 0x0806, length 28")


def test_attributes(watch: Watch) -> None:
    """A line has the kernel's timestamp in local time, devices, mark and user."""
    packet = IP(**V4) / UDP(sport=1, dport=2) / b"data"
    ((line,), _) = watch(packet, timestamp=NOON, indev=1, outdev=1, mark=0x2A, uid=1000)
    when = datetime.fromtimestamp(NOON).strftime("%H:%M:%S.250000")
    udp = "IP 192.0.2.1.1 > 198.51.100.2.2: UDP, length 4"
    assert line == f"{when} accept lo>lo {udp}, mark 0x2a, uid 1000"


def test_cut_short(watch: Watch) -> None:
    """A packet that the buffer has cut short is shown as such."""
    ((line,), _) = watch(IP(**V4) / UDP(sport=1, dport=2) / b"data", original_length=70000)
    assert line.endswith("UDP, length 4, cut short")
    ((line,), _) = watch(
        IP(**V4) / UDP(sport=1, dport=2) / b"data", original_length=70000, options="--json"
    )
    told = json.loads(line)
    assert (told["length"], told["data_length"], told["truncated"]) == (70000, 4, True)


def test_json(watch: Watch) -> None:
    """In JSON numbers are numbers, and unknown values are null."""
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


def test_json_has_everything(watch: Watch) -> None:
    """JSON has every attribute of a packet: bytes in hexadecimal digits, names as text."""
    packet = IP(**V4) / AH(nh=socket.IPPROTO_UDP, payloadlen=1) / UDP(sport=1, dport=2) / b"data"
    connection = {
        "id": 5,
        "status": 8,
        "mark": 6,
        "labels": bytes(range(16)),
        "zone": 7,
        "timeout": 9,
    }
    ((line,), _) = watch(
        packet,
        options="--json",
        indev=1,
        outdev=1,
        physindev=1,
        physoutdev=1,
        priority=3,
        skb_info=nfq.NFQA_SKB_CSUM_NOTVERIFIED,
        cgroup_classid=4,
        secctx=b"user_u:\xff",
        vlan=(0x8100, 0x2005),
        l2_header=bytes(range(14)),
        conntrack=connection,
        ct_info=1,
    )
    told = json.loads(line)
    attributes = {
        name
        for name, value in vars(nfq.NetfilterQueueData).items()
        if not (name.startswith("_") or callable(value))
    }
    assert len(attributes) > 25
    assert attributes - told.keys() == {"original_length"}  # it is the length
    for name in ("indev", "outdev", "physindev", "physoutdev"):
        assert (told[name], told[f"{name}_index"]) == ("lo", 1)
    assert (told["priority"], told["skb_info"]) == (3, ["NFQA_SKB_CSUM_NOTVERIFIED"])
    assert (told["cgroup_classid"], told["secctx"]) == (4, "user_u:\\xff")
    assert told["vlan"] == {"proto": 0x8100, "tci": 0x2005}
    assert told["l2_header"] == bytes(range(14)).hex()
    raw = bytes.fromhex(told["conntrack"].pop("raw"))
    assert bytes(range(16)) in raw
    assert told["conntrack"] == {**connection, "labels": bytes(range(16)).hex()}
    assert told["ct_info"] == 1
    assert (told["extensions"], told["protocol"]) == (["ah"], "udp")
    assert told["payload"] == bytes(packet).hex()


def test_json_without_what_is_not_there(watch: Watch) -> None:
    """An absent value is null in JSON, or 0 where the kernel uses 0 for none."""
    ((line,), _) = watch(IP(**V4), options="--json")
    told = json.loads(line)
    for name in ("vlan", "l2_header", "secctx", "conntrack", "ct_info", "indev", "hw_addr"):
        assert told[name] is None
    for name in ("priority", "cgroup_classid", "mark", "indev_index", "physoutdev_index"):
        assert told[name] == 0
    assert told["skb_info"] == told["extensions"] == []


@pytest.mark.parametrize(("options", "shown"), [("", " accept > IP "), ("--json", '"hook": 7,')])
def test_numbers_without_a_name(watch: Watch, options: str, shown: str) -> None:
    """Numbers of newer kernels are shown as numbers, and the packet has its verdict."""
    ((line,), (packet,)) = watch(
        IP(**V4), options=options, hook=7, family=200, skb_info=nfq.NFQA_SKB_CSUM_NOTVERIFIED
    )
    assert shown in line
    assert packet.passed
    if options:
        assert json.loads(line)["family"] == 200


def test_flags_without_a_name() -> None:
    """New bits have their values beside the names of the others."""
    flags = nfq.NFQA_SKB_GSO | nfq.SkbInfo(0x50)
    assert flag_names(flags) == ["NFQA_SKB_GSO", 0x10, 0x40]


class PlainKernel:
    """A handle on a kernel that was built without some of the flags."""

    def __init__(self, refused: int, error: int) -> None:
        self._refused = refused
        self._error = error
        self.flags: list[int] = []

    def create_queue(self, *_: object, flags: int, **__: object) -> None:
        self.flags.append(flags)
        if flags & self._refused:
            raise OSError(self._error, "create_queue()")


SECCTX, CONNTRACK = nfq.NFQA_CFG_F_SECCTX, nfq.NFQA_CFG_F_CONNTRACK


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EINVAL])
@pytest.mark.parametrize("refused", [0, SECCTX, CONNTRACK, SECCTX | CONNTRACK])
def test_json_where_flags_are_refused(refused: int, error: int) -> None:
    """If the kernel was built without flags, the rest is shown."""
    kernel: Any = PlainKernel(refused, error)
    options = parse(["watch", "1", "--json"])
    bind(kernel, kernel, options)
    assert kernel.flags[-1] == (SECCTX | CONNTRACK) & ~refused | nfq.NFQA_CFG_F_UID_GID


def test_lines_ask_for_no_more_than_they_tell() -> None:
    """Lines ask the kernel only for what is printed, and try no error away."""
    kernel: Any = PlainKernel(nfq.NFQA_CFG_F_UID_GID, errno.EINVAL)
    with pytest.raises(OSError, match="create_queue"):
        bind(kernel, kernel, parse(["watch", "1"]))
    assert kernel.flags == [nfq.NFQA_CFG_F_UID_GID]
    kernel = PlainKernel(nfq.NFQA_CFG_F_UID_GID, errno.EPERM)
    with pytest.raises(PermissionError, match="create_queue"):
        bind(kernel, kernel, parse(["watch", "1", "--json"]))
    assert len(kernel.flags) == 1


@pytest.mark.parametrize(
    ("attributes", "header"),
    [
        ({"indev": 1, "hw_addr": bytes(range(6))}, "0000 0001 0006 0001020304050000 0800"),
        ({"outdev": 1}, "0004 fffe 0000 0000000000000000 0800"),
    ],
    ids=["in", "out"],
)
def test_link_header(watch: Watch, tmp_path: Path, attributes: dict[str, Any], header: str) -> None:
    """The link header is that of tcpdump's `-i any`: direction, device, sender's address."""
    path = tmp_path / "written.pcapng"
    watch(IP(**V4), options=f"--write {path}", **attributes)
    with RawPcapNgReader(str(path)) as reader:
        packets: list[tuple[bytes, Any]] = list(reader)
    assert [data for data, _ in packets] == [bytes.fromhex(header) + bytes(IP(**V4))]


DNS = IP(**V4) / UDP(sport=5000, dport=53)
HTTP = IP(**V4) / TCP(sport=80, dport=5000)
PING = IPv6(**V6) / ICMPv6EchoRequest()
SIGNED = IP(**V4) / AH(nh=socket.IPPROTO_SCTP, payloadlen=1) / SCTP(sport=7, dport=7)
HOP_BY_HOP = IPv6(**V6) / IPv6ExtHdrHopByHop() / SCTP(sport=7, dport=7)
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
        ("proto=ah", [SIGNED]),
        ("proto=hopopts", [HOP_BY_HOP]),
        ("proto=0", [HOP_BY_HOP]),
        ("port=7", [SIGNED, HOP_BY_HOP]),
        ("host=192.0.2.1", [DNS, HTTP, FRAGMENT, SIGNED]),
        ("host=198.51.100.0/24", [DNS, HTTP, FRAGMENT, SIGNED]),
        ("host=198.51.100.77/24", [DNS, HTTP, FRAGMENT, SIGNED]),
        ("host=2001:db8::/32", [PING, HOP_BY_HOP]),
        ("host=0.0.0.0/0 host=::/0", [DNS, HTTP, PING, FRAGMENT, SIGNED, HOP_BY_HOP]),
        ("src=192.0.2.1", [DNS, HTTP, FRAGMENT, SIGNED]),
        ("dst=192.0.2.1", []),
        ("dst=198.51.100.0/24 src=192.0.2.1", [DNS, HTTP, FRAGMENT, SIGNED]),
        ("src=0.0.0.0/0 src=2001:db8::1", [DNS, HTTP, PING, FRAGMENT, SIGNED, HOP_BY_HOP]),
        ("host=192.0.2.1 proto=udp port=53", [DNS]),
        ("host=192.0.2.2 proto=udp port=53", []),
        ("proto=icmpv6 port=53", []),
    ],
)
def test_filters(filters: str, expected: list[Packet]) -> None:
    """Of filters with the same key one has to match, for each key."""
    matches = combine(parse_filter(text) for text in filters.split())
    everything: list[tuple[int, Packet | bytes]] = [
        (ETH_P_IP, DNS),
        (ETH_P_IP, HTTP),
        (ETH_P_IPV6, PING),
        (ETH_P_IP, FRAGMENT),
        (ETH_P_IP, SIGNED),
        (ETH_P_IPV6, HOP_BY_HOP),
        (ETH_P_IP, b""),
        (ETH_P_ARP, bytes(28)),
    ]

    def is_shown(kind: int, packet: Packet | bytes) -> bool:
        record: Any = SimpleNamespace(fields=dissect(kind, bytes(packet)))
        return matches(record)

    shown = [packet for kind, packet in everything if is_shown(kind, packet)]
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
    """No bytes raise an exception, and the addresses of a whole header are read."""
    fields = dissect(hw_protocol, payload)
    assert (fields.saddr is None) == (fields == Dissected())
    if hw_protocol == ETH_P_IPV6:
        assert (fields.saddr is not None) == (len(payload) >= 40)
    assert (fields.data_length or 0) <= len(payload)


@pytest.mark.parametrize("layers", [1, 2, 3276])
def test_packets_in_packets(layers: int) -> None:
    """Of nested packets the outermost is described, however deep they are."""
    layer = bytes(IP(**V4, proto=4, len=0))
    fields = dissect(ETH_P_IP, layer * layers)
    assert fields.saddr is not None
    assert (address_text(fields.saddr), fields.protocol) == (V4["src"], 4)
    assert fields.data_length == len(layer) * (layers - 1)
