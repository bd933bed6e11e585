# SPDX-License-Identifier: GPL-2.0-or-later
"""handle_packet(buffer): any buffer, any number of messages, and no trust in the bytes."""

import errno
import gc
import random
import select
import socket
import struct
import sys
import weakref
from collections.abc import Iterator

import pytest
from buffers import BUFFERS
from netns import UdpPair, iptables, queue_rule
from played_kernel import (
    MSG_CONFIG,
    MSG_PACKET,
    NFQA_CAP_LEN,
    NFQA_HWADDR,
    NFQA_MARK,
    NFQA_SKB_INFO,
    NFQA_TIMESTAMP,
    NFQA_UID,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_NOOP,
    PlayedKernel,
    SentVerdict,
    aligned,
    attribute,
    error_message,
    message,
    packet_message,
)
from queues import Handle, Packet, accept, accepting, data_of, netlink_socket

import libnetfilterqueue as nfq

HEADERS = 31  # a message cut after its packet header attribute can still be answered


@pytest.fixture
def kernel() -> Iterator[PlayedKernel]:
    with PlayedKernel() as kernel:
        yield kernel


def capture(handle: Handle, udp: UdpPair, *data: bytes) -> list[bytes]:
    """The messages of packets with this data, as the kernel sent them."""
    udp.send(*data)
    with netlink_socket(handle) as sock:
        return [sock.recv(1 << 17) for _ in data]


def real_messages() -> list[bytes]:
    """Two messages of the kernel, with as many attributes as there are on both ways."""
    iptables("-t raw -A OUTPUT -p udp -j MARK --set-mark 0x1234")
    queue_rule(1)
    queue_rule(2, chain="PREROUTING")
    with UdpPair() as udp, nfq.open() as handle:
        for number in (1, 2):
            handle.create_queue(
                number, accept, mode=nfq.NFQNL_COPY_PACKET, flags=nfq.NFQA_CFG_F_UID_GID, range=40
            )
        (outgoing,) = capture(handle, udp, b"outgoing, and cut by the range")
        handle.handle_packet(outgoing)
        with netlink_socket(handle) as sock:
            incoming = sock.recv(1 << 17)
        handle.handle_packet(incoming)
        assert udp.recv() == b"outgoing, and cut by the range"
    return [outgoing, incoming]


# Buffers


@pytest.mark.parametrize("kind", BUFFERS)
def test_buffer(handle: Handle, udp: UdpPair, kind: str) -> None:
    """Any buffer in one piece is taken."""
    seen: list[bytes] = []
    callback = accepting(seen)
    handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)
    data = b"01234567890123456789"
    (captured,) = capture(handle, udp, data)
    assert handle.handle_packet(BUFFERS[kind](captured)) == 1
    assert seen == [data]
    assert udp.arrivals() == [data]


def test_scattered_buffer(handle: Handle, udp: UdpPair) -> None:
    """A buffer that is not in one piece is refused, and changes nothing."""
    handle.create_queue(1, accept, mode=nfq.NFQNL_COPY_PACKET)
    (captured,) = capture(handle, udp, b"data")
    doubled = bytes(byte for byte in captured for _ in range(2))
    with pytest.raises(BufferError):
        handle.handle_packet(memoryview(doubled)[::2])
    assert handle.stats().packets == 0
    assert handle.handle_packet(captured) == 1
    assert udp.arrivals() == [b"data"]


@pytest.mark.parametrize("offset", range(8))
def test_any_alignment(kernel: PlayedKernel, offset: int) -> None:
    """Messages may stand at any address."""
    seen: list[tuple[int, int, bytes]] = []
    kernel.create_queue(
        1, lambda packet: seen.append((packet.id, packet.mark, packet.get_payload()))
    )
    mark = attribute(NFQA_MARK, struct.pack("!I", 77))
    data = bytes(offset) + packet_message(5, b"payload", mark)
    assert kernel.handle.handle_packet(memoryview(data)[offset:]) == 1
    assert seen == [(5, 77, b"payload")]


# Several messages


def test_several_messages(handle: Handle, udp: UdpPair) -> None:
    """A buffer may hold several messages; their number is returned, their order kept."""
    seen: list[bytes] = []
    callback = accepting(seen)
    handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)
    data = [b"1", b"22", b"333", b"4444", b"55555"]
    messages = capture(handle, udp, *data)
    assert handle.handle_packet(b"".join(map(aligned, messages))) == 5
    assert seen == data
    assert udp.arrivals() == data


def test_unpadded_end(kernel: PlayedKernel) -> None:
    """The last message may end with or without its padding."""
    kernel.create_queue(1, accept)
    for data in (b"", b"1", b"22", b"333", b"4444"):
        for shape in (bytes, aligned):
            assert kernel.handle.handle_packet(shape(packet_message(1, data))) == 1
            assert len(kernel.verdicts()) == 1


def test_malformed_after_good(kernel: PlayedKernel) -> None:
    """Messages in front of a malformed one are dispatched, then the error is raised."""
    seen: list[int] = []
    kernel.create_queue(1, lambda packet: seen.append(packet.id))
    data = packet_message(1, b"1234") + packet_message(2, b"1234") + b"\xff" * 20
    with pytest.raises(nfq.MalformedMessageError):
        kernel.handle.handle_packet(data)
    assert seen == [1, 2]
    assert [verdict.packet_id for verdict in kernel.verdicts()] == [1, 2] or (
        kernel.handle.stats().verdicts == 2
    )


def test_callback_error_before_malformed(
    kernel: PlayedKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception of a callback before the malformed message is the one to propagate."""

    def callback(packet: Packet) -> None:
        raise KeyError

    unraisable: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_type))
    kernel.create_queue(1, callback)
    with pytest.raises(KeyError):
        kernel.handle.handle_packet(packet_message(1, b"1234") + b"\xff" * 20)
    assert unraisable == [nfq.MalformedMessageError]
    assert len(kernel.verdicts()) == 1


# Messages that a short buffer has cut


@pytest.mark.parametrize("size", [4096, 1000, 200, 100])
def test_short_buffer(handle: Handle, udp: UdpPair, size: int) -> None:
    """A packet whose message was cut still reaches the callback, and its verdict counts."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_PACKET)
    data = random.Random(size).randbytes(60_000)
    udp.send(data)
    with netlink_socket(handle) as sock:
        assert handle.handle_packet(sock.recv(size)) == 1
    (packet,) = packets
    assert packet.truncated
    assert 0 < len(packet.payload) < size
    assert data.startswith(data_of(packet))
    assert packet.original_length == len(data) + 28
    assert handle.stats().truncated == 1
    packet.accept()
    assert udp.arrivals() == [data]


def complete(packet: Packet) -> tuple[object, ...]:
    return (packet.id, packet.hook, packet.hw_protocol, packet.family)


def optional(packet: Packet) -> dict[str, object]:
    names = "mark indev outdev physindev physoutdev hw_addr timestamp uid gid"
    return {name: getattr(packet, name) for name in names.split()}


UNKNOWN: dict[str, object] = {
    **dict.fromkeys(["mark", "indev", "outdev", "physindev", "physoutdev"], 0),
    "hw_addr": b"",
    "timestamp": None,
    "uid": None,
    "gid": None,
}


def test_cut_at_every_length(kernel: PlayedKernel) -> None:
    """A message that is cut anywhere is dispatched with what is there, or refused.

    What was cut off is unknown, never half known; a refused message changes nothing.
    """
    for whole in real_messages():
        check_cuts(kernel, whole)


def check_cuts(kernel: PlayedKernel, whole: bytes) -> None:
    kept: list[Packet] = []
    number = struct.unpack_from("!H", whole, 18)[0]
    queue = kernel.create_queue(number, kept.append)
    handle = kernel.handle
    handle.handle_packet(whole)
    reference = kept.pop()
    reference.accept()
    kernel.received()
    assert reference.truncated  # by the range
    for length in range(len(whole)):
        before = handle.stats()
        if length < HEADERS:
            with pytest.raises(nfq.MalformedMessageError):
                handle.handle_packet(whole[:length])
            assert handle.stats() == before
            assert (kept, kernel.received()) == ([], [])
            continue
        assert handle.handle_packet(whole[:length]) == 1
        packet = kept.pop()
        assert packet.truncated
        assert complete(packet) == complete(reference)
        assert reference.get_payload().startswith(packet.get_payload())
        for name, value in optional(packet).items():
            assert value in (getattr(reference, name), UNKNOWN[name])
        packet.accept()
        assert kernel.verdicts() == [SentVerdict(number, packet.id, nfq.NF_ACCEPT, batch=False)]
    with kernel.answering():
        queue.destroy()
    kernel.received()


# Bytes that are no messages


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        bytes(15),
        bytes(16),
        bytes(100),
        b"\xff" * 100,
        struct.pack("=IHHII", 15, MSG_PACKET, 0, 0, 0),
        struct.pack("=IHHII", 16, MSG_PACKET, 0, 0, 0),
        message(MSG_PACKET, bytes(3)),
        message(MSG_PACKET, bytes(4)),
        message(MSG_PACKET, bytes(4) + struct.pack("=HH", 3, 1)),
        message(MSG_PACKET, bytes(4) + struct.pack("=HH", 0, 1) + bytes(20)),
        message(MSG_PACKET, bytes(4) + struct.pack("=HH", 65535, 1) + bytes(20)),
        message(MSG_PACKET, bytes(4) + attribute(1, bytes(6))),
        message(MSG_PACKET, bytes(4) + attribute(NFQA_MARK, bytes(4))),
        message(NLMSG_ERROR),
        message(NLMSG_ERROR, bytes(3)),
        message(NLMSG_ERROR, struct.pack("=i", 1) + bytes(16)),
        message(NLMSG_ERROR, struct.pack("=i", -4096) + bytes(16)),
        struct.pack("=IHHII", 0xFFFFFFFF, NLMSG_NOOP, 0, 0, 0),
        struct.pack("=IHHII", 0x7FFFFFFF, NLMSG_ERROR, 0, 0, 0) + bytes(20),
    ],
    ids=lambda data: f"{len(data)} bytes {data[:8].hex()}",
)
def test_malformed(kernel: PlayedKernel, data: bytes) -> None:
    """Malformed bytes raise MalformedMessageError, and nothing has changed."""
    seen: list[int] = []
    kernel.create_queue(0, lambda packet: seen.append(packet.id))
    before = kernel.handle.stats()
    with pytest.raises(nfq.MalformedMessageError):
        kernel.handle.handle_packet(data)
    assert kernel.handle.stats() == before
    assert (seen, kernel.received()) == ([], [])
    assert kernel.handle.handle_packet(packet_message(number=0)) == 1
    assert seen == [1]


def test_corrupted_at_every_byte(kernel: PlayedKernel) -> None:
    """With any byte changed, a message is dispatched or refused, and what is dispatched answered.

    The getters answer, and the next good message is dispatched as ever.
    """
    seen: list[Packet] = []

    def callback(packet: Packet) -> None:
        optional(packet)
        assert len(packet.payload) == len(packet.get_payload()) <= 100
        assert isinstance(packet.truncated, bool)
        assert packet.original_length >= 0
        packet.accept()
        seen.append(packet)

    for number in (1, 2):
        kernel.create_queue(number, callback)
    for whole in real_messages():
        for position in range(len(whole)):
            for value in {0, 1, 0x7F, 0x80, 0xFF, whole[position] ^ 1, whole[position] + 1 & 0xFF}:
                data = whole[:position] + bytes([value]) + whole[position + 1 :]
                feed(kernel, seen, data)
        assert feed(kernel, seen, whole) == 1


def feed(kernel: PlayedKernel, seen: list[Packet], data: bytes) -> int:
    """Has the bytes handled; returns how many packets the callbacks got."""
    seen.clear()
    before = kernel.handle.stats()
    try:
        count = kernel.handle.handle_packet(data)
    except nfq.MalformedMessageError:
        count = None
    after = kernel.handle.stats()
    assert after.verdicts - before.verdicts == len(seen)
    assert bool(kernel.verdicts()) == bool(seen)
    if count is not None:
        assert count in (len(seen), len(seen) + after.orphaned - before.orphaned)
    return len(seen)


def test_random_bytes(kernel: PlayedKernel) -> None:
    """Several random changes at once do no harm."""
    seen: list[Packet] = []

    def callback(packet: Packet) -> None:
        optional(packet)
        packet.get_payload()
        packet.accept()
        seen.append(packet)

    for number in (1, 2):
        kernel.create_queue(number, callback)
    chance = random.Random(1)
    messages = real_messages()
    for _ in range(5000):
        data = bytearray(b"".join(map(aligned, chance.choices(messages, k=chance.randint(1, 3)))))
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        feed(kernel, seen, bytes(data[: chance.randint(1, len(data))]))
    assert feed(kernel, seen, messages[0]) == 1


# Messages that are no packets


@pytest.mark.parametrize(
    "data",
    [
        message(NLMSG_NOOP),
        message(NLMSG_DONE, bytes(4)),
        message(4),
        message(15, bytes(4)),
        message(MSG_CONFIG, bytes(4)),
        message(0x301, bytes(4)),
        message(0x401, bytes(20)),
        message(0xFFFF, bytes(100)),
        error_message(0, message(MSG_CONFIG, bytes(4), sequence=4711)),
        error_message(errno.EPERM, message(MSG_CONFIG, bytes(4), sequence=4711)),
        message(NLMSG_NOOP) * 5,
    ],
    ids=lambda data: f"{len(data)} bytes {data[:8].hex()}",
)
def test_no_packets(kernel: PlayedKernel, data: bytes) -> None:
    """Well-formed messages that are not packets are no error, and 0 packets."""
    seen: list[int] = []
    kernel.create_queue(1, lambda packet: seen.append(packet.id))
    assert kernel.handle.handle_packet(data) == 0
    assert (seen, kernel.verdicts()) == ([], [])
    assert kernel.handle.handle_packet(data + packet_message(3) + b"") == 1
    assert seen == [3]


def test_unknown_attributes(kernel: PlayedKernel) -> None:
    """Attributes of a newer kernel are skipped, and flag bits of their types ignored."""
    seen: list[tuple[int, bytes]] = []
    kernel.create_queue(1, lambda packet: seen.append((packet.mark, packet.get_payload())))
    attributes = [
        attribute(99, b"from the future"),
        attribute(0x3FFF, b""),
        attribute(NFQA_MARK | 0x4000, struct.pack("!I", 42)),
        attribute(0, b"odd"),
    ]
    assert kernel.handle.handle_packet(packet_message(1, b"payload", *attributes)) == 1
    assert seen == [(42, b"payload")]


def test_attributes(kernel: PlayedKernel) -> None:
    """Each attribute is read in network byte order and with its own length."""
    packets: list[Packet] = []
    kernel.create_queue(1, packets.append)
    attributes = [
        attribute(NFQA_MARK, struct.pack("!I", 0x01020304)),
        attribute(NFQA_TIMESTAMP, struct.pack("!QQ", 1_700_000_000, 999_999)),
        *(attribute(5 + number, struct.pack("!I", 100 + number)) for number in range(4)),
        attribute(NFQA_HWADDR, struct.pack("!HH8s", 8, 0, b"infiniba")),
        attribute(NFQA_CAP_LEN, struct.pack("!I", 1500)),
        attribute(NFQA_UID, struct.pack("!I", 0xFFFFFFFE)),
        attribute(NFQA_UID + 1, struct.pack("!I", 0)),
    ]
    kernel.handle.handle_packet(packet_message(0xFFFFFFFF, b"payload", *attributes))
    (packet,) = packets
    assert packet.id == 0xFFFFFFFF
    assert packet.mark == 0x01020304
    assert packet.get_timestamp() == (1_700_000_000, 999_999)
    assert packet.timestamp == pytest.approx(1_700_000_000.999999, abs=1e-6)
    devices = (packet.indev, packet.outdev, packet.physindev, packet.physoutdev)
    assert devices == (100, 101, 102, 103)
    assert packet.hw_addr == b"infiniba"
    assert (packet.original_length, packet.truncated) == (1500, True)
    assert (packet.uid, packet.gid) == (0xFFFFFFFE, 0)


@pytest.mark.parametrize("length", [0, 6, 8])
def test_hardware_address_length(kernel: PlayedKernel, length: int) -> None:
    """A hardware address has its own length, not that of the field it comes in."""
    packets: list[Packet] = []
    kernel.create_queue(1, packets.append)
    field = attribute(NFQA_HWADDR, struct.pack("!HH8s", length, 0, b"12345678"))
    kernel.handle.handle_packet(packet_message(1, b"", field))
    assert packets[0].get_packet_hw() == b"12345678"[:length]


@pytest.mark.parametrize("length", [9, 0xFFFF])
def test_hardware_address_too_long(kernel: PlayedKernel, length: int) -> None:
    """An address longer than its field is never read past the field."""
    packets: list[Packet] = []
    kernel.create_queue(1, packets.append)
    field = attribute(NFQA_HWADDR, struct.pack("!HH8s", length, 0, b"12345678"))
    try:
        kernel.handle.handle_packet(packet_message(1, b"", field))
    except nfq.MalformedMessageError:
        return
    assert len(packets[0].get_packet_hw()) <= 8


# The descriptor, and other queues' packets


def test_never_reads_the_descriptor(handle: Handle, udp: UdpPair) -> None:
    """handle_packet neither reads nor waits: other messages stay for the caller's own recv."""
    seen: list[bytes] = []
    callback = accepting(seen)
    handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)
    with netlink_socket(handle) as sock:
        udp.send(b"1", b"2", b"3")
        assert handle.handle_packet(sock.recv(4096)) == 1
        assert seen == [b"1"]
        assert handle.handle_packet(sock.recv(4096)) == 1
        assert handle.handle_packet(sock.recv(4096)) == 1
        assert select.select([sock], [], [], 0)[0] == []
    assert handle.stats().receives == 0
    assert udp.arrivals() == [b"1", b"2", b"3"]


def test_unknown_queue(kernel: PlayedKernel) -> None:
    """A packet for a queue that is not there reaches nobody and is counted."""
    seen: list[int] = []
    kernel.create_queue(1, lambda packet: seen.append(packet.id))
    kernel.handle.handle_packet(packet_message(number=2))
    assert (seen, kernel.verdicts()) == ([], [])
    assert kernel.handle.stats().orphaned == 1


def test_refused_verdict(handle: Handle, udp: UdpPair) -> None:
    """The kernel's later refusal of a verdict is counted, and is neither packet nor error."""
    handle.create_queue(1, accept, mode=nfq.NFQNL_COPY_PACKET)
    (captured,) = capture(handle, udp, b"data")
    assert handle.handle_packet(captured) == 1
    assert handle.handle_packet(captured) == 1  # the kernel has no such packet any more
    with netlink_socket(handle) as sock:
        assert handle.handle_packet(sock.recv(4096, socket.MSG_DONTWAIT)) == 0
    assert handle.stats().verdict_errors == 1
    assert udp.arrivals() == [b"data"]


def test_view_and_buffer_in_a_cycle(kernel: PlayedKernel) -> None:
    """A buffer that holds its own view is garbage when nothing else holds it."""

    class Buffer(bytearray):
        view: memoryview

    views: list[memoryview] = []
    kernel.create_queue(1, lambda packet: views.append(packet.payload))
    buffer = Buffer(packet_message())
    kernel.handle.handle_packet(buffer)
    buffer.view = views.pop()
    gone = weakref.ref(buffer)
    del buffer
    gc.collect()
    assert gone() is None


def test_unknown_skb_info(kernel: PlayedKernel) -> None:
    """Bits that a newer kernel sets are kept."""
    seen: list[nfq.SkbInfo] = []
    kernel.create_queue(1, lambda packet: seen.append(packet.skb_info))
    info = attribute(NFQA_SKB_INFO, struct.pack("!I", 9))
    kernel.handle.handle_packet(packet_message(1, b"", info))
    assert seen == [nfq.SkbInfo(9)]
    assert isinstance(seen[0], nfq.SkbInfo)
