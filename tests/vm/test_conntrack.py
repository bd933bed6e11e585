# SPDX-License-Identifier: GPL-2.0-or-later
"""What connection tracking knows of a packet's connection, and verdicts that change it."""

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import nft
import pytest
from netns import LOOPBACK, PORT, QUEUED_PORT, UdpPair, iptables, queue_rule, sysctl
from programs import command_line
from queues import Handle, Packet, keeping, receive

import libnetfilterqueue as nfq

ESTABLISHED, NEW, ESTABLISHED_REPLY = 0, 2, 3  # enum ip_conntrack_info
SEEN_REPLY, CONFIRMED = 0x2, 0x8  # enum ip_conntrack_status
TIMEOUT = 47  # seconds
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY = 1, 2
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
TYPE_MASK = 0x3FFF


def track() -> None:
    """The kernel tracks the connections of our namespace: a rule asks for it."""
    iptables("-A INPUT -m conntrack --ctstate NEW")
    sysctl("netfilter/nf_conntrack_udp_timeout", TIMEOUT)


def allow_labels() -> None:
    """Connections that are new have room for labels: a rule might set one."""
    nft.rules("udp dport 1 ct label set 0")


@pytest.fixture
def udp() -> Iterator[UdpPair]:
    """Datagrams over loopback that pass through queue 1 when their connection is known."""
    track()
    queue_rule(1, table="mangle")
    with UdpPair() as pair:
        yield pair


@pytest.fixture
def packets(handle: Handle) -> list[Packet]:
    """The packets of queue 1, with what is known of their connections."""
    return keeping(handle, flags=nfq.NFQA_CFG_F_CONNTRACK)


def send(handle: Handle, packets: list[Packet], udp: UdpPair) -> tuple[Packet, nfq.Conntrack]:
    """The next datagram's packet, and its connection."""
    udp.send(b"data")
    packet = receive(handle, packets)
    assert packet.conntrack is not None
    return packet, packet.conntrack


# What is known


def test_new(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """Of the first packet of a connection only the addresses are known."""
    packet, conntrack = send(handle, packets, udp)
    assert packet.ct_info == NEW
    assert isinstance(conntrack.id, int)
    assert (conntrack.status, conntrack.mark, conntrack.labels) == (0, 0, None)
    assert (conntrack.zone, conntrack.timeout) == (None, TIMEOUT)


def attributes(data: bytes) -> dict[int, bytes]:
    """The netlink attributes in there."""
    found = {}
    while data:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & TYPE_MASK] = data[4:length]
        data = data[length + 3 & ~3 :]
    return found


def test_raw(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """What has no name of its own is there as the kernel sent it: who talks to whom, say."""
    _, conntrack = send(handle, packets, udp)
    assert isinstance(conntrack.raw, bytes)
    host = socket.inet_aton(LOOPBACK[socket.AF_INET])
    for kind, ports in (
        (CTA_TUPLE_ORIG, (QUEUED_PORT, PORT)),
        (CTA_TUPLE_REPLY, (PORT, QUEUED_PORT)),
    ):
        both = attributes(attributes(conntrack.raw)[kind])
        assert list(attributes(both[CTA_TUPLE_IP]).values()) == [host, host]
        protocol = [bytes([socket.IPPROTO_UDP]), *(struct.pack("!H", port) for port in ports)]
        assert list(attributes(both[CTA_TUPLE_PROTO]).values()) == protocol


def test_later_packets(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """All of a connection's packets name the same one, as it goes from new to established."""
    queue_rule(1, f"-p udp --dport {QUEUED_PORT}", table="mangle")
    seen = []

    def note() -> None:
        packet = receive(handle, packets)
        assert packet.conntrack is not None
        assert packet.conntrack.timeout in (TIMEOUT, TIMEOUT - 1)
        seen.append((packet.ct_info, packet.conntrack.status))
        ids.add(packet.conntrack.id)
        packet.accept()

    ids: set[int | None] = set()
    sysctl("netfilter/nf_conntrack_udp_timeout_stream", TIMEOUT)
    for _ in range(2):
        udp.send(b"data")
        note()
        udp.recv()
    udp.receiver.sendto(b"answer", udp.sender.getsockname())
    note()
    udp.sender.recv(100)
    udp.send(b"data")
    note()
    assert seen == [
        (NEW, 0),
        (NEW, CONFIRMED),
        (ESTABLISHED_REPLY, CONFIRMED | SEEN_REPLY),
        (ESTABLISHED, CONFIRMED | SEEN_REPLY),
    ]
    assert len(ids) == 1


def test_mark(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """The connection's mark is the one that a rule has set; it is not the packet's."""
    iptables("-t mangle -I OUTPUT -p udp -j CONNMARK --set-mark 0x12345678")
    packet, conntrack = send(handle, packets, udp)
    assert conntrack.mark == 0x12345678
    assert packet.mark == 0


def test_labels(handle: Handle, packets: list[Packet]) -> None:
    """The connection's labels are those that rules have set; label n is bit n."""
    queued = f"udp sport {QUEUED_PORT}"
    nft.rules(*(f"{queued} ct label set {label}" for label in (1, 100)), f"{queued} queue num 1")
    with UdpPair() as udp:
        _, conntrack = send(handle, packets, udp)
    assert conntrack.labels == (1 << 1 | 1 << 100).to_bytes(16, "little")


def test_no_label(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """While no label is set there are none, also where there is room for them."""
    allow_labels()
    _, conntrack = send(handle, packets, udp)
    assert conntrack.labels is None


def test_zone(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """The connection's zone is the one that a rule has put it in."""
    for chain in ("OUTPUT", "PREROUTING"):
        iptables(f"-t raw -A {chain} -p udp -j CT --zone 0x1234")
    _, conntrack = send(handle, packets, udp)
    assert conntrack.zone == 0x1234


# What is not


def check_unknown(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    udp.send(b"data")
    packet = receive(handle, packets)
    assert packet.conntrack is None
    assert packet.ct_info is None
    packet.accept()
    assert udp.arrivals() == [b"data"]


def test_without_the_flag(handle: Handle, udp: UdpPair) -> None:
    """Without the queue's flag nothing is known of the connection."""
    check_unknown(handle, keeping(handle), udp)


def test_before_tracking(handle: Handle, packets: list[Packet]) -> None:
    """Nothing is known of the connection where the rule comes before tracking, in the raw table."""
    track()
    queue_rule(1, table="raw")
    with UdpPair() as udp:
        check_unknown(handle, packets, udp)


def test_without_tracking(handle: Handle, packets: list[Packet]) -> None:
    """Nothing is known of the connection where no rule asks for tracking."""
    queue_rule(1, table="mangle")
    with UdpPair() as udp:
        check_unknown(handle, packets, udp)


def test_not_tracked(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """Nothing is known of a connection that a rule takes out of tracking."""
    iptables("-t raw -A OUTPUT -p udp -j CT --notrack")
    check_unknown(handle, packets, udp)


# Verdicts


@pytest.mark.parametrize("mark", [1, 0x12345678, 0xFFFFFFFF])
@pytest.mark.parametrize("flags", [0, nfq.NFQA_CFG_F_CONNTRACK])
def test_verdict_with_a_mark(handle: Handle, udp: UdpPair, mark: int, flags: int) -> None:
    """A verdict marks the connection, for all who look at it later, with and without the flag."""
    packets = keeping(handle, flags=flags)
    counter = nft.Counter(f"udp dport {PORT} ct mark {mark}")
    udp.send(b"data")
    packet = receive(handle, packets)
    packet.set_verdict(nfq.NF_ACCEPT, ct_mark=mark)
    assert udp.recv() == b"data"
    assert counter.packets == 1


def test_verdicts_with_marks(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """The connection's mark stays until another verdict sets it, to 0 as well."""
    verdicts = [5, None, 7, 0, None]
    seen = []
    for ct_mark in verdicts:
        packet, conntrack = send(handle, packets, udp)
        seen.append(conntrack.mark)
        packet.set_verdict(nfq.NF_ACCEPT, ct_mark=ct_mark)
    assert seen == [0, 5, 5, 7, 0]


LABELS = bytes(range(16))


def test_verdicts_with_labels(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """A verdict sets the connection's labels, in place of those that it had; 0 follows the last."""
    allow_labels()
    verdicts = [LABELS, None, LABELS[::-1], b"\xff" * 16, b"\x01", LABELS[:5], bytes(16), b"\0"]
    expected: bytes | None = None
    for ct_labels in verdicts:
        packet, conntrack = send(handle, packets, udp)
        assert conntrack.labels == expected
        packet.set_verdict(nfq.NF_ACCEPT, ct_labels=ct_labels)
        if ct_labels is not None:
            expected = ct_labels.ljust(16, b"\0") if any(ct_labels) else None
    _, conntrack = send(handle, packets, udp)
    assert conntrack.labels is None


def test_verdict_with_labels_and_a_rule(
    handle: Handle, packets: list[Packet], udp: UdpPair
) -> None:
    """Rules find the labels of a verdict: label n is bit n."""
    allow_labels()
    counters = {label: nft.Counter(f"ct label {label}") for label in (0, 1, 100, 101)}
    udp.send(b"data")
    labels = (1 << 1 | 1 << 100).to_bytes(16, "little")
    receive(handle, packets).set_verdict(nfq.NF_ACCEPT, ct_labels=labels)
    assert udp.recv() == b"data"
    found = {label: counter.packets for label, counter in counters.items()}
    assert found == {0: 0, 1: 1, 100: 1, 101: 0}


def test_verdict_with_mark_and_labels(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """Mark and labels go in one verdict, with the packet's own mark and data."""
    allow_labels()
    counter = nft.Counter("meta mark 3")
    packet, _ = send(handle, packets, udp)
    payload = packet.get_payload()[:-4] + b"DATA"
    packet.set_verdict(nfq.NF_ACCEPT, 3, payload=payload, ct_mark=5, ct_labels=LABELS)
    _, conntrack = send(handle, packets, udp)
    assert (conntrack.mark, conntrack.labels) == (5, LABELS)
    assert counter.packets == 1


def test_verdict_with_labels_where_no_rule_uses_any(
    handle: Handle, packets: list[Packet], udp: UdpPair
) -> None:
    """The connection has no room for labels: the kernel ignores them, and the mark with them."""
    packet, _ = send(handle, packets, udp)
    packet.set_verdict(nfq.NF_ACCEPT, ct_mark=5, ct_labels=LABELS)
    assert udp.arrivals() == [b"data"]
    _, conntrack = send(handle, packets, udp)
    assert (conntrack.mark, conntrack.labels) == (0, None)
    assert handle.stats().verdict_errors == 0


def test_verdict_on_a_packet_without_connection(handle: Handle, packets: list[Packet]) -> None:
    """The kernel ignores what is said of a connection where there is none."""
    track()
    queue_rule(1, table="raw")
    counter = nft.Counter("ct mark 5")
    with UdpPair() as udp:
        udp.send(b"data")
        packet = receive(handle, packets)
        packet.set_verdict(nfq.NF_ACCEPT, ct_mark=5, ct_labels=LABELS)
        assert udp.arrivals() == [b"data"]
    assert counter.packets == 0
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0


def test_watched(tmp_path: Path) -> None:
    """`watch --json` shows the connection."""
    track()
    queue_rule(1, table="mangle")
    with UdpPair() as udp, command_line(tmp_path, "watch", 1, "--json", "--count", 1) as program:
        program.wait_until(lambda: "Queue 1 is bound" in program.errors)
        udp.send(b"data")
        program.ends()
    told = json.loads(program.output)
    assert told["ct_info"] == NEW
    assert told["conntrack"]["status"] & CONFIRMED == 0
    assert len(bytes.fromhex(told["conntrack"]["raw"])) > 50
