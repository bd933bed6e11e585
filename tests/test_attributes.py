# SPDX-License-Identifier: GPL-2.0-or-later
"""The attributes beyond the seed's, in messages as the kernel builds them.

Those that this machine's kernel may be unable to produce are shown with a kernel that does in
tests/vm.
"""

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from netns import PORT, UdpPair, iptables, queue_rule
from played_kernel import (
    NFQA_CAP_LEN,
    NFQA_CGROUP_CLASSID,
    NFQA_CT,
    NFQA_CT_INFO,
    NFQA_L2HDR,
    NFQA_PRIORITY,
    NFQA_SECCTX,
    NFQA_VLAN,
    PlayedKernel,
    attribute,
    packet_message,
)
from queues import Handle, Packet, process_until

import libnetfilterqueue as nfq

CTA_STATUS, CTA_TIMEOUT, CTA_MARK, CTA_ID, CTA_ZONE, CTA_LABELS = 3, 7, 8, 12, 18, 22
NLA_F_NESTED = 0x8000
NFQA_VLAN_PROTO, NFQA_VLAN_TCI = 1, 2
LABELS = bytes(range(16))


@pytest.fixture
def kernel() -> Iterator[PlayedKernel]:
    with PlayedKernel() as kernel:
        yield kernel


def receive(kernel: PlayedKernel, *attributes: bytes) -> Packet:
    """The packet of a message with these attributes."""
    packets: list[Packet] = []
    kernel.create_queue(1, packets.append)
    assert kernel.handle.handle_packet(packet_message(1, b"payload", *attributes)) == 1
    return packets[0]


def u16(value: int) -> bytes:
    return struct.pack("!H", value)


def u32(value: int) -> bytes:
    return struct.pack("!I", value)


def test_absent(kernel: PlayedKernel) -> None:
    """An attribute that the kernel did not send is 0 or None, as the reference says."""
    packet = receive(kernel)
    assert (packet.priority, packet.cgroup_classid) == (0, 0)
    assert packet.secctx is None
    assert packet.vlan is None
    assert packet.l2_header is None
    assert packet.conntrack is None
    assert packet.ct_info is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("priority", NFQA_PRIORITY),
        ("cgroup_classid", NFQA_CGROUP_CLASSID),
        ("ct_info", NFQA_CT_INFO),
    ],
)
@pytest.mark.parametrize("value", [0, 1, 0x12345678, 0xFFFFFFFF])
def test_number(kernel: PlayedKernel, name: str, kind: int, value: int) -> None:
    """Numbers of 32 bits are big-endian on the wire; a 0 that was sent is one."""
    packet = receive(kernel, attribute(kind, u32(value)))
    assert getattr(packet, name) == value


@pytest.mark.parametrize(
    ("sent", "context"),
    [
        (b"unconfined", b"unconfined"),
        (b"system_u:object_r:unlabeled_t:s0\0", b"system_u:object_r:unlabeled_t:s0"),
        (b"\0", b""),
        (b"", b""),
    ],
)
def test_secctx(kernel: PlayedKernel, sent: bytes, context: bytes) -> None:
    """The security context has no end of a C string, which some security modules send."""
    assert receive(kernel, attribute(NFQA_SECCTX, sent)).secctx == context


def test_l2_header(kernel: PlayedKernel) -> None:
    """The link-layer header comes byte for byte, whatever its length."""
    header = bytes(range(18))
    assert receive(kernel, attribute(NFQA_L2HDR, header)).l2_header == header


def test_vlan(kernel: PlayedKernel) -> None:
    """The VLAN tag is a named tuple of two numbers in host byte order, whichever comes first."""
    tci = attribute(NFQA_VLAN_TCI, u16(0xE00A))
    proto = attribute(NFQA_VLAN_PROTO, u16(0x8100))
    packet = receive(kernel, attribute(NFQA_VLAN | NLA_F_NESTED, tci + proto))
    vlan = packet.vlan
    assert isinstance(vlan, nfq.Vlan)
    assert (vlan.proto, vlan.tci) == (0x8100, 0xE00A)
    assert vlan == (0x8100, 0xE00A)


def test_half_a_vlan(kernel: PlayedKernel) -> None:
    """A number that is missing in the VLAN tag is None."""
    packet = receive(kernel, attribute(NFQA_VLAN, attribute(NFQA_VLAN_TCI, u16(10))))
    assert packet.vlan == (None, 10)


def test_conntrack(kernel: PlayedKernel) -> None:
    """The conntrack entry is a named tuple, and raw bytes; unknown parts are skipped."""
    raw = b"".join(
        [
            attribute(1 | NLA_F_NESTED, attribute(1, bytes(8))),  # CTA_TUPLE_ORIG
            attribute(CTA_ZONE, u16(7)),
            attribute(CTA_ID, u32(0xDEADBEEF)),
            attribute(CTA_STATUS, u32(0x18A)),
            attribute(CTA_TIMEOUT, u32(431_999)),
            attribute(CTA_MARK, u32(0x80000001)),
            attribute(CTA_LABELS, LABELS),
            attribute(200, b"of a kernel to come"),
        ]
    )
    conntrack = receive(kernel, attribute(NFQA_CT | NLA_F_NESTED, raw)).conntrack
    assert isinstance(conntrack, nfq.Conntrack)
    assert conntrack == (0xDEADBEEF, 0x18A, 0x80000001, LABELS, 7, 431_999, raw)
    names = ("id", "status", "mark", "labels", "zone", "timeout", "raw")
    assert tuple(getattr(conntrack, name) for name in names) == conntrack


def test_empty_conntrack(kernel: PlayedKernel) -> None:
    """A field that is missing in the conntrack entry is None."""
    assert receive(kernel, attribute(NFQA_CT, b"")).conntrack == (None,) * 6 + (b"",)


@pytest.mark.parametrize("kind", [NFQA_CT, NFQA_VLAN])
@pytest.mark.parametrize(
    ("nested", "message"),
    [
        (b"\x08", "left over"),
        (struct.pack("=HH", 3, 1), "shorter than its header"),
        (struct.pack("=HHI", 12, 1, 0), "longer than what it is in"),
        (attribute(NFQA_VLAN_TCI, b"1") + attribute(CTA_MARK, b"123"), "too short for its type"),
    ],
)
def test_malformed(kernel: PlayedKernel, kind: int, nested: bytes, message: str) -> None:
    """A nested attribute that breaks its bounds is an error, like any other."""
    kernel.create_queue(1, lambda _: None)
    with pytest.raises(nfq.MalformedMessageError, match=message):
        kernel.handle.handle_packet(packet_message(1, b"payload", attribute(kind, nested)))


def test_short_labels(kernel: PlayedKernel) -> None:
    """Labels of fewer than 128 bits are an error."""
    kernel.create_queue(1, lambda _: None)
    labels = attribute(NFQA_CT, attribute(CTA_LABELS, LABELS[:-1]))
    with pytest.raises(nfq.MalformedMessageError, match="too short for its type"):
        kernel.handle.handle_packet(packet_message(1, b"payload", labels))


def test_overwritten_buffer(kernel: PlayedKernel) -> None:
    """A caller who overwrites the buffer sees that, and never what lies outside of it."""
    raw = attribute(CTA_ID, u32(1)) + attribute(CTA_MARK, u32(2)) + attribute(CTA_ZONE, u16(3))
    buffer = bytearray(packet_message(1, b"payload", attribute(NFQA_CT, raw)))
    at = buffer.index(raw)
    seen: list[Any] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.conntrack)
        struct.pack_into("=H", buffer, at + 8, 0xFFFF)  # the length of CTA_MARK
        seen.append(packet.conntrack)

    kernel.create_queue(1, callback)
    kernel.handle.handle_packet(buffer)
    assert seen[0][:6] == (1, None, 2, None, 3, None)
    assert seen[1][:6] == (1, None, None, None, None, None)


def test_cut_message(kernel: PlayedKernel) -> None:
    """An attribute that a short buffer has cut is unknown."""
    raw = attribute(CTA_ID, u32(1)) + attribute(CTA_MARK, u32(2))
    message = packet_message(
        1, b"payload", attribute(NFQA_CAP_LEN, u32(1500)), attribute(NFQA_CT, raw)
    )
    packets: list[Packet] = []
    kernel.create_queue(1, packets.append)
    kernel.handle.handle_packet(message[: message.index(raw) + len(raw) - 1])
    assert packets[0].conntrack is None
    assert packets[0].truncated
    assert packets[0].original_length == 1500


def test_attributes_are_read_only(kernel: PlayedKernel) -> None:
    """No attribute can be set."""
    packet = receive(kernel)
    for name in ("priority", "secctx", "vlan", "l2_header", "conntrack", "ct_info"):
        with pytest.raises(AttributeError):
            setattr(packet, name, None)


# What this machine's kernel produces


@pytest.fixture
def packets(handle: Handle) -> list[Packet]:
    kept: list[Packet] = []
    handle.create_queue(1, kept.append, mode=nfq.NFQNL_COPY_PACKET)
    return kept


def test_priority_of_a_socket(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """The priority is what the sending socket asks for."""
    udp.sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 6)
    udp.send(b"data")
    process_until(handle, lambda: packets)
    assert packets[0].priority == 6


def test_priority_of_a_rule(handle: Handle, packets: list[Packet]) -> None:
    """The priority is what a rule says, as tc writes a class: major and minor number."""
    iptables(f"-t mangle -A OUTPUT -p udp --dport {PORT} -j CLASSIFY --set-class 1234:5678")
    queue_rule(1, table="mangle", chain="POSTROUTING")
    with UdpPair() as pair:
        pair.send(b"data")
        process_until(handle, lambda: packets)
    assert packets[0].priority == 0x12345678
