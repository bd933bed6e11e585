# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets whose content is replaced."""

import socket
import struct
import sys

import pytest
from netns import PORT, QUEUED_PORT, TIMEOUT, UdpPair, queue_rule
from queues import Handle, Packet

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
LOCALHOST = socket.inet_aton("127.0.0.1")


def checksum(data: bytes) -> int:
    """The Internet checksum of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(data: bytes, port: int = PORT) -> bytes:
    """An IPv4 packet with a UDP datagram, which has no checksum of its own."""
    udp = struct.pack("!HHHH", QUEUED_PORT, port, 8 + len(data), 0) + data
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, LOCALHOST, LOCALHOST
    )
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + udp


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1000, 60_000])
def test_content_is_replaced(handle: Handle, udp: UdpPair, size: int) -> None:
    """A new payload may be shorter, as long and longer than the old one, and of every padding."""
    data = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    handle.create_queue(1, lambda packet: packet.accept(payload=datagram(data)), mode=COPY)
    udp.send(b"data")
    handle.process()
    assert udp.arrivals() == [data]


def test_last_one_stands(handle: Handle, udp: UdpPair) -> None:
    """The last call replaces everything that earlier ones set, the content too."""

    def callback(packet: Packet) -> None:
        packet.set_verdict(nfq.NF_ACCEPT, payload=datagram(b"first"))
        if packet.id == 1:
            packet.accept()
        else:
            packet.accept(payload=datagram(b"last"))

    handle.create_queue(1, callback, mode=COPY)
    udp.send(b"data", b"data")
    handle.process()
    assert udp.arrivals() == [b"data", b"last"]


def test_kept_packets(handle: Handle, udp: UdpPair) -> None:
    """A kept packet's content can be replaced too; one by one, and in any order."""
    kept: list[Packet] = []
    handle.create_queue(1, kept.append, mode=COPY)
    udp.send(b"1", b"2")
    handle.process()
    for packet in reversed(kept):
        packet.accept(payload=datagram(b"new %d" % packet.id))
    assert udp.arrivals() == [b"new 2", b"new 1"]


def test_buffers_that_change(handle: Handle, udp: UdpPair) -> None:
    """Anything but bytes is copied at the call."""

    def callback(packet: Packet) -> None:
        content = bytearray(datagram(b"then"))
        packet.accept(payload=memoryview(content))
        content[28:] = b"late"

    handle.create_queue(1, callback, mode=COPY)
    udp.send(b"data")
    handle.process()
    assert udp.arrivals() == [b"then"]


def test_more_than_the_send_buffer_takes(handle: Handle) -> None:
    """A batch of large rewrites is sent in parts; the verdicts between them are not lost."""
    queue_rule(1)
    ports = range(PORT, PORT + 12)
    receivers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in ports]
    contents = [bytes([number]) * 60_000 for number in range(12)]

    def callback(packet: Packet) -> None:
        if packet.id % 3:
            packet.accept(payload=datagram(contents[packet.id - 1], ports[packet.id - 1]))
        else:
            packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", QUEUED_PORT))
        for receiver, port in zip(receivers, ports, strict=True):
            receiver.bind(("127.0.0.1", port))
            receiver.settimeout(TIMEOUT)
            sender.sendto(b"data", ("127.0.0.1", port))
    assert handle.process() == 12
    for number, receiver in enumerate(receivers, 1):
        with receiver:
            assert receiver.recv(65536) == (contents[number - 1] if number % 3 else b"data")
    assert handle.stats().sends > 1
    assert handle.stats().verdict_errors == 0


@pytest.mark.parametrize("size", [0, 65532])
def test_size(handle: Handle, udp: UdpPair, size: int) -> None:
    """A payload has 1 to 65531 bytes; otherwise nothing changes."""

    def callback(packet: Packet) -> None:
        packet.accept()
        with pytest.raises(ValueError, match=rf"payload must have 1\.\.65531 bytes, not {size}"):
            packet.accept(payload=bytes(size))

    handle.create_queue(1, callback, mode=COPY)
    udp.send(b"data")
    handle.process()
    assert udp.arrivals() == [b"data"]


@pytest.mark.parametrize("value", ["text", 5, [1, 2]])
def test_type(handle: Handle, udp: UdpPair, value: object) -> None:
    """A payload is a bytes-like object."""

    def callback(packet: Packet) -> None:
        packet.accept()
        with pytest.raises(TypeError, match=r"set_verdict\(\): payload must be a bytes-like"):
            packet.set_verdict(nfq.NF_ACCEPT, payload=value)  # type: ignore[arg-type]

    handle.create_queue(1, callback, mode=COPY)
    udp.send(b"data")
    handle.process()
    assert udp.arrivals() == [b"data"]


def test_truncated_packet(handle: Handle, udp: UdpPair) -> None:
    """A new payload for a truncated packet is refused: the kernel would cut the packet to it."""

    def callback(packet: Packet) -> None:
        assert packet.truncated
        packet.accept()
        with pytest.raises(ValueError, match="truncated"):
            packet.accept(payload=datagram(b"data"))

    handle.create_queue(1, callback, mode=COPY, range=40)
    udp.send(bytes(100))
    handle.process()
    assert udp.arrivals() == [bytes(100)]


def test_sent_content_is_let_go(handle: Handle, udp: UdpPair) -> None:
    """A payload is released once it is sent or replaced, or its queue is gone."""
    content = datagram(b"some content that is not interned")
    before = sys.getrefcount(content)
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        packet.accept(payload=content)
        if packet.id == 2:
            packet.accept()
        if packet.id == 3:
            packet.queue.destroy()
            packet.accept(payload=content)
            kept.append(packet)

    handle.create_queue(1, callback, mode=COPY)
    udp.send(b"1", b"2", b"3")
    handle.process()
    with pytest.raises(nfq.VerdictError):
        kept.pop().accept(payload=content)
    assert sys.getrefcount(content) == before


def test_held_content_is_let_go(handle: Handle, udp: UdpPair) -> None:
    """Verdicts that are held back hold their payloads until the handle is closed."""
    content = datagram(b"some content that is not interned")
    before = sys.getrefcount(content)
    kept: list[Packet] = []
    handle.create_queue(1, kept.append, mode=COPY)
    udp.send(b"1")
    handle.process()
    handle.autoflush = False
    kept.pop().accept(payload=content)
    assert sys.getrefcount(content) == before + 1
    handle.close()
    assert sys.getrefcount(content) == before
