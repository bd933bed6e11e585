# SPDX-License-Identifier: GPL-2.0-or-later
"""Expectations that verdicts attach to connections, and the connections that they let through.

The helpers are the kernel's. The datagrams here are nothing that these understand.
"""

import re
import socket
from collections.abc import Iterator
from typing import Any

import nft
import pytest
from netns import LOOPBACK, QUEUED_PORT, UdpPair, iptables, queue_rule, run
from played_kernel import message, read_attributes
from queues import Handle, Packet, keeping, receive

import libnetfilterqueue as nfq
from libnetfilterqueue.expectations import ExpectFlag, build
from libnetfilterqueue.testing._messages import QUEUE_HEADER

NETLINK_NETFILTER = 12
EXP_GET = 2 << 8 | 1  # IPCTNL_MSG_EXP_GET of NFNL_SUBSYS_CTNETLINK_EXP
REQUEST_DUMP = 0x1 | 0x300
CTA_EXPECT_NAT, CTA_EXPECT_FN = 10, 11
CTA_EXPECT_NAT_DIR, CTA_EXPECT_NAT_TUPLE = 1, 2
CTA_IP_V4_SRC, CTA_PROTO_SRC_PORT = 1, 2

HOST = LOOPBACK[socket.AF_INET]
RELATED_PORT = 7000  # where only connections go that are expected
UDP = int(socket.IPPROTO_UDP)
EXPECTED = {"dst": HOST, "proto": UDP, "dport": RELATED_PORT}
MATCH = f"-p udp --sport {QUEUED_PORT}"


def track() -> None:
    """The kernel tracks connections, and lets none but related ones through to a port."""
    match = f"-A INPUT -p udp --dport {RELATED_PORT}"
    iptables(f"{match} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    iptables(f"{match} -j DROP")


def help_by(helper: str) -> None:
    """The connections of the default rule's datagrams have that helper."""
    track()
    iptables(f"-t raw -A OUTPUT {MATCH} -j CT --helper {helper}")


@pytest.fixture
def helped() -> None:
    help_by("tftp")


@pytest.fixture
def udp() -> Iterator[UdpPair]:
    """Datagrams over loopback that pass through queue 1 when their connection is known."""
    queue_rule(1, table="mangle")
    with UdpPair() as pair:
        yield pair


@pytest.fixture
def packets(handle: Handle) -> list[Packet]:
    """The packets of queue 1, whose flag loads what reads expectations."""
    return keeping(handle, flags=nfq.NFQA_CFG_F_CONNTRACK)


class Related:
    """A socket that waits for the expected connection, and one that begins it."""

    def __init__(self) -> None:
        self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.bind((HOST, RELATED_PORT))
        self.receiver.setblocking(False)

    def passes(self, source: tuple[str, int] = (HOST, 0)) -> bool:
        """Whether a datagram of a new connection arrives: over loopback, at once or not at all."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(source)
            sender.sendto(b"related", (HOST, RELATED_PORT))
        try:
            return self.receiver.recv(100) == b"related"
        except BlockingIOError:
            return False


@pytest.fixture
def related() -> Iterator[Related]:
    related = Related()
    with related.receiver:
        yield related


def attach(
    handle: Handle, packets: list[Packet], udp: UdpPair, expectation: Any, **options: Any
) -> None:
    """A datagram of the connection passes, with an expectation in its verdict."""
    udp.send(b"data")
    receive(handle, packets).set_verdict(nfq.NF_ACCEPT, expectation=expectation, **options)
    assert udp.recv() == b"data"
    handle.process()
    assert handle.stats().verdict_errors == 0


def expectations() -> list[dict[str, str]]:
    """What `conntrack -L expect` prints of each; flags have the name ''."""
    lines = run("conntrack -L expect").splitlines()
    return [
        dict(re.findall(r"([\w-]+)=(\S+)", line)[::-1])
        | {"timeout": line.split()[0], "flags": " ".join(re.findall(r"\b[A-Z]{2,}\b", line))}
        for line in lines
    ]


@pytest.mark.usefixtures("helped")
def test_related_connection(
    handle: Handle, packets: list[Packet], udp: UdpPair, related: Related
) -> None:
    """The connection that is expected is let through, once, and belongs to the first one."""
    counter = nft.Counter(f"udp dport {RELATED_PORT} ct state related")
    assert not related.passes()
    attach(handle, packets, udp, {"expected": EXPECTED})
    (found,) = expectations()
    assert (found["proto"], found["dst"], found["dport"]) == (str(UDP), HOST, str(RELATED_PORT))
    assert (found["mask-src"], found["master-src"], found["helper"]) == ("0.0.0.0", HOST, "tftp")
    assert related.passes()
    assert expectations() == []
    assert not related.passes()
    assert counter.packets == 1


@pytest.mark.usefixtures("helped")
def test_bytes(handle: Handle, packets: list[Packet], udp: UdpPair, related: Related) -> None:
    """The attributes themselves do the same."""
    attach(handle, packets, udp, build({"expected": EXPECTED}))
    assert related.passes()


def test_fields(handle: Handle, packets: list[Packet], udp: UdpPair, related: Related) -> None:
    """The kernel reports source, mask, class, flags and helper as they were given."""
    help_by("sip")
    expectation = {
        "expected": {"src": "127.0.0.8", "sport": 0x1200, **EXPECTED},
        "mask": {"src": "255.255.255.248", "sport": 0xFF00},
        "flags": ExpectFlag.NF_CT_EXPECT_PERMANENT,
        "helper": "sip",
        "class": 1,
        "timeout": 7,
        "zone": 0,
    }
    attach(handle, packets, udp, expectation, ct_mark=5)
    (found,) = expectations()
    assert (found["src"], found["sport"]) == ("127.0.0.8", str(0x1200))
    assert (found["mask-src"], found["class"]) == ("255.255.255.248", "1")
    assert (found["helper"], found["flags"]) == ("sip", "PERMANENT")
    assert 100 < int(found["timeout"]) <= 180  # the helper's
    assert not related.passes(("127.0.0.16", 0x1234))
    assert not related.passes(("127.0.0.9", 0x1300))
    assert related.passes(("127.0.0.9", 0x1234))
    assert related.passes(("127.0.0.10", 0x12FF))
    assert len(expectations()) == 1


def dump() -> bytes:
    """The attributes of the only expectation, as the kernel reports them."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.send(message(EXP_GET, bytes([socket.AF_INET, 0, 0, 0]), flags=REQUEST_DUMP))
        return kernel.recv(1 << 16)[QUEUE_HEADER:]


@pytest.mark.usefixtures("helped")
def test_nat(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """The kernel keeps what translation needs, and the function to be called."""
    iptables("-t nat -A POSTROUTING -p tcp -j MASQUERADE")  # it loads them
    nat = {"dir": 1, "src": "192.168.1.1", "sport": 77}
    expectation = {"expected": EXPECTED, "nat": nat, "fn": "nat-follow-master"}
    attach(handle, packets, udp, expectation)
    found, given = read_attributes(dump()), read_attributes(build(expectation))
    assert found[CTA_EXPECT_FN] == given[CTA_EXPECT_FN]
    source = {}
    for name, attributes in (("found", found), ("given", given)):
        translation = read_attributes(attributes[CTA_EXPECT_NAT])
        addresses, numbers = read_attributes(translation[CTA_EXPECT_NAT_TUPLE]).values()
        source[name] = (
            translation[CTA_EXPECT_NAT_DIR],
            read_attributes(addresses)[CTA_IP_V4_SRC],
            read_attributes(numbers)[CTA_PROTO_SRC_PORT],
        )
    assert source["found"] == source["given"]


@pytest.mark.usefixtures("helped")
def test_inactive(handle: Handle, packets: list[Packet], udp: UdpPair, related: Related) -> None:
    """An expectation that is not active lets nothing through."""
    flags = ExpectFlag.NF_CT_EXPECT_INACTIVE
    attach(handle, packets, udp, {"expected": EXPECTED, "flags": flags})
    (found,) = expectations()
    assert found["flags"] == "INACTIVE"
    assert not related.passes()


@pytest.mark.usefixtures("helped")
def test_unknown_helper(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """A name that no helper has is ignored by new kernels, and the expectation by others."""
    attach(handle, packets, udp, {"expected": EXPECTED, "helper": "none-has-it"})
    assert {found["helper"] for found in expectations()} <= {"tftp"}


def test_connection_without_a_helper(
    handle: Handle, packets: list[Packet], udp: UdpPair, related: Related
) -> None:
    """The kernel ignores the expectation where the connection has no helper."""
    track()
    attach(handle, packets, udp, {"expected": EXPECTED})
    assert expectations() == []
    assert not related.passes()


def test_packet_without_a_connection(
    handle: Handle, packets: list[Packet], related: Related
) -> None:
    """The kernel ignores the expectation of a packet without connection."""
    track()
    queue_rule(1, table="raw")
    with UdpPair() as udp:
        attach(handle, packets, udp, {"expected": EXPECTED})
    assert expectations() == []
    assert not related.passes()


@pytest.mark.usefixtures("helped")
def test_another_family(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """The kernel ignores an expectation of another family than the packet's."""
    attach(handle, packets, udp, {"expected": EXPECTED | {"dst": "::1"}})
    assert expectations() == []
