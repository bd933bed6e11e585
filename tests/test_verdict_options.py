# SPDX-License-Identifier: GPL-2.0-or-later
"""What a verdict can change beside mark and payload: the messages that carry it, and its effect.

Bridges and conntrack entries, which this machine's kernel may not offer to queues, are in tests/vm.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from netns import UdpPair, queue_rule
from played_kernel import (
    MSG_VERDICT,
    MSG_VERDICT_BATCH,
    NFQA_CT,
    NFQA_L2HDR,
    NFQA_MARK,
    NFQA_PAYLOAD,
    NFQA_PRIORITY,
    NFQA_VERDICT_HDR,
    NFQA_VLAN,
    PlayedKernel,
    attribute,
    attributes_of,
    packet_message,
    read_attributes,
)
from queues import Handle, Packet, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
NFQA_VLAN_PROTO, NFQA_VLAN_TCI = 1, 2
CTA_MARK, CTA_LABELS = 8, 22
L2_HEADER = bytes(range(14))
MESSAGE = packet_message(1, b"payload", attribute(NFQA_L2HDR, L2_HEADER))


@pytest.fixture
def kernel() -> Iterator[PlayedKernel]:
    with PlayedKernel() as kernel:
        yield kernel


def sent(kernel: PlayedKernel, callback: Callable[[Packet], None]) -> dict[int, bytes]:
    """The attributes of the verdict that the callback gives a packet."""
    kernel.create_queue(1, callback)
    kernel.handle.handle_packet(MESSAGE)
    (message,) = kernel.received()
    assert struct.unpack_from("=H", message, 4) == (MSG_VERDICT,)
    return attributes_of(message)


def test_nothing_named(kernel: PlayedKernel) -> None:
    """An option that is not named is not sent."""
    assert list(sent(kernel, lambda packet: packet.accept())) == [NFQA_VERDICT_HDR]


def test_everything_named(kernel: PlayedKernel) -> None:
    """All options go in one message, numbers in network byte order, the payload last."""

    def callback(packet: Packet) -> None:
        packet.set_verdict(
            nfq.NF_ACCEPT,
            0x01020304,
            payload=b"new",
            priority=0x05060708,
            vlan=(0x88A8, 0xE00A),
            ct_mark=0x090A0B0C,
            ct_labels=bytes(range(16)),
            l2_header=L2_HEADER[::-1],
        )

    attributes = sent(kernel, callback)
    assert attributes.pop(NFQA_VERDICT_HDR) == struct.pack("!II", nfq.NF_ACCEPT, 1)
    assert attributes.pop(NFQA_MARK) == b"\1\2\3\4"
    assert attributes.pop(NFQA_PRIORITY) == b"\5\6\7\x08"
    assert read_attributes(attributes.pop(NFQA_VLAN)) == {
        NFQA_VLAN_PROTO: b"\x88\xa8",
        NFQA_VLAN_TCI: b"\xe0\x0a",
    }
    assert read_attributes(attributes.pop(NFQA_CT)) == {
        CTA_MARK: b"\x09\x0a\x0b\x0c",
        CTA_LABELS: bytes(range(16)),
    }
    assert attributes.pop(NFQA_L2HDR) == L2_HEADER[::-1]
    assert attributes == {NFQA_PAYLOAD: b"new"}


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"priority": 0}, NFQA_PRIORITY),
        ({"vlan": (0, 0)}, NFQA_VLAN),
        ({"vlan": nfq.Vlan(0x8100, 1)}, NFQA_VLAN),
        ({"ct_mark": 0}, NFQA_CT),
        ({"ct_labels": b"\1"}, NFQA_CT),
        ({"l2_header": bytearray(14)}, NFQA_L2HDR),
        ({"mark": 0}, NFQA_MARK),
    ],
)
def test_one_named(kernel: PlayedKernel, options: dict[str, Any], kind: int) -> None:
    """Each option can be sent alone; a zero is sent."""
    attributes = sent(kernel, lambda packet: packet.set_verdict(nfq.NF_DROP, **options))
    assert sorted(attributes) == sorted([NFQA_VERDICT_HDR, kind])


@pytest.mark.parametrize("size", [1, 4, 15, 16])
def test_few_labels(kernel: PlayedKernel, size: int) -> None:
    """Labels that are not given are cleared: 16 bytes are sent in any case."""
    labels = bytes([0xFF]) * size
    attributes = sent(
        kernel, lambda packet: packet.set_verdict(nfq.NF_ACCEPT, ct_labels=memoryview(labels))
    )
    assert read_attributes(attributes[NFQA_CT]) == {CTA_LABELS: labels.ljust(16, b"\0")}


def test_last_one_stands(kernel: PlayedKernel) -> None:
    """The last call replaces everything that earlier ones set."""

    def callback(packet: Packet) -> None:
        packet.set_verdict(nfq.NF_DROP, 1, priority=2, vlan=(3, 4), ct_mark=5)
        packet.set_verdict(nfq.NF_ACCEPT, ct_mark=6)

    attributes = sent(kernel, callback)
    assert read_attributes(attributes.pop(NFQA_CT)) == {CTA_MARK: b"\0\0\0\6"}
    assert attributes == {NFQA_VERDICT_HDR: struct.pack("!II", nfq.NF_ACCEPT, 1)}


def test_kept_packet(kernel: PlayedKernel) -> None:
    """A verdict that is given later carries the same options."""
    packets: list[Packet] = []
    kernel.create_queue(1, packets.append)
    kernel.handle.handle_packet(MESSAGE)
    packets[0].set_verdict(nfq.NF_ACCEPT, priority=1, vlan=(2, 3))
    (message,) = kernel.received()
    assert sorted(attributes_of(message)) == sorted([NFQA_VERDICT_HDR, NFQA_PRIORITY, NFQA_VLAN])


def test_equal_priorities_travel_together(kernel: PlayedKernel) -> None:
    """Verdicts with equal mark and priority become a batch; other options make single ones."""
    options: list[dict[str, Any]] = [
        {"priority": 7},
        {"priority": 7},
        {"priority": 8},
        {"priority": 8, "mark": 9},
        {"priority": 8, "ct_mark": 9},
        {"priority": 8, "ct_mark": 9},
    ]
    kernel.create_queue(
        1, lambda packet: packet.set_verdict(nfq.NF_ACCEPT, **options[packet.id - 1])
    )
    for number in range(1, 7):
        kernel.socket.send(packet_message(number, b"payload"))
    assert kernel.handle.process(timeout=None) == 6
    received = kernel.received()
    kinds = [struct.unpack_from("=H", message, 4)[0] for message in received]
    ids = [verdict.packet_id for verdict in kernel.read(received)]
    assert ids[-1] == 6
    assert all(kind in (MSG_VERDICT, MSG_VERDICT_BATCH) for kind in kinds)
    carried = [attributes_of(message).get(NFQA_PRIORITY) for message in received]
    assert set(carried) == {struct.pack("!I", 7), struct.pack("!I", 8)}
    assert sum(NFQA_CT in attributes_of(message) for message in received) == 2


# What it does


def test_priority(handle: Handle) -> None:
    """The packet goes on with the priority: a later hook sees it."""
    queue_rule(1)
    queue_rule(2, table="mangle", chain="POSTROUTING")
    packets: list[Packet] = []
    handle.create_queue(
        1,
        lambda packet: packet.set_verdict(nfq.NF_ACCEPT, priority=0x00010002 * packet.id),
        mode=COPY,
    )
    handle.create_queue(2, packets.append, mode=COPY)
    with UdpPair() as udp:
        udp.send(b"1", b"2")
        process_until(handle, lambda: len(packets) == 2)
        for packet in packets:
            packet.accept()
        assert udp.arrivals() == [b"1", b"2"]
    assert [packet.priority for packet in packets] == [0x00010002, 0x00020004]


def test_ignored_options(handle: Handle, udp: UdpPair) -> None:
    """The kernel ignores options for bridges and connections on other packets."""
    handle.create_queue(
        1,
        lambda packet: packet.set_verdict(
            nfq.NF_ACCEPT,
            vlan=(0x8100, 1),
            ct_mark=1,
            ct_labels=bytes(16),
            expectation={"expected": {"dst": "127.0.0.1", "proto": 17, "dport": 9}},
        ),
        mode=COPY,
    )
    udp.send(b"data")
    handle.process(timeout=None)
    assert udp.arrivals() == [b"data"]
    handle.process()
    assert handle.stats().verdict_errors == 0


@pytest.mark.parametrize("size", [0, 13, 15])
def test_l2_header_of_another_length(kernel: PlayedKernel, size: int) -> None:
    """A header of another length is refused here: the kernel would lose the packet."""

    def callback(packet: Packet) -> None:
        with pytest.raises(ValueError, match=f"l2_header must be as long .* 14 bytes, not {size}"):
            packet.set_verdict(nfq.NF_ACCEPT, l2_header=bytes(size))
        packet.drop()

    assert list(sent(kernel, callback)) == [NFQA_VERDICT_HDR]


def test_l2_header_where_there_is_none(handle: Handle, udp: UdpPair) -> None:
    """A packet without a link-layer header can't get one."""

    def callback(packet: Packet) -> None:
        packet.accept()
        with pytest.raises(ValueError, match="l2_header must be as long as the packet's, 0 bytes"):
            packet.set_verdict(nfq.NF_ACCEPT, l2_header=bytes(14))

    handle.create_queue(1, callback, mode=COPY)
    udp.send(b"data")
    handle.process(timeout=None)
    assert udp.arrivals() == [b"data"]
