# SPDX-License-Identifier: GPL-2.0-or-later
"""Every getter and attribute, against what the test knows to be true."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from netns import (
    LOOPBACK,
    PORT,
    TIMEOUT,
    Namespace,
    UdpPair,
    background,
    iptables,
    mac,
    outside,
    queue_rule,
    run,
    sysctl,
    tcp_echo,
    tcp_exchange,
    up,
    veth,
)
from queues import Handle, Packet, data_of, keeping, netlink_socket, process_until, receive

import libnetfilterqueue as nfq

ETH_P_ALL = 3
SO_TIMESTAMP = 29
ETHERTYPE = {int(socket.AF_INET): 0x0800, int(socket.AF_INET6): 0x86DD}
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])


@pytest.fixture
def packets(handle: Handle) -> list[Packet]:
    """The packets of queue 1, in full, once they are processed."""
    return keeping(handle)


@contextlib.contextmanager
def peer(name: str, address: str, bridge: str | None = None) -> Iterator[Namespace]:
    """A neighbour namespace with the address, behind our device `name`; its own is `eth0`.

    Both devices go with the namespace, at some moment after the block.
    """
    with contextlib.closing(Namespace()) as namespace:
        veth(name, "eth0", namespace)
        if bridge:
            run(f"ip link set {name} master {bridge}")
        with namespace:
            run(f"ip address add {address} dev eth0")
        yield namespace


def send_from(namespace: Namespace, host: str, data: bytes = b"data") -> None:
    with namespace, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(data, (host, PORT))


# Where the packet was and which way it goes


@pytest.mark.parametrize(
    ("place", "hook"),
    [
        ("raw PREROUTING", nfq.NF_INET_PRE_ROUTING),
        ("filter INPUT", nfq.NF_INET_LOCAL_IN),
        ("raw OUTPUT", nfq.NF_INET_LOCAL_OUT),
        ("mangle POSTROUTING", nfq.NF_INET_POST_ROUTING),
    ],
)
@FAMILIES
def test_hook_and_device(
    handle: Handle, packets: list[Packet], family: int, place: str, hook: nfq.Hook
) -> None:
    """The hook is the chain's; the device is the one it came through or will go out by."""
    table, chain = place.split()
    queue_rule(1, table=table, chain=chain, family=family)
    with UdpPair(family) as pair:
        pair.send(b"data")
        packet = receive(handle, packets)
    loopback = socket.if_nametoindex("lo")
    assert packet.hook is hook
    incoming = chain in ("PREROUTING", "INPUT")
    assert (packet.indev, packet.outdev) == ((loopback, 0) if incoming else (0, loopback))
    assert (packet.get_indev(), packet.get_outdev()) == (packet.indev, packet.outdev)
    assert (packet.physindev, packet.physoutdev) == (0, 0)
    assert packet.family == family
    assert packet.hw_protocol == ETHERTYPE[family]


def test_forwarded(handle: Handle, packets: list[Packet]) -> None:
    """A forwarded packet has both devices, and the hardware address of whoever sent it to us."""
    queue_rule(1, "-p udp", table="filter", chain="FORWARD")
    sysctl("ipv4/ip_forward", 1)
    with peer("left", "10.1.0.2/24") as left, peer("right", "10.2.0.2/24") as right:
        run("ip address add 10.1.0.1/24 dev left")
        run("ip address add 10.2.0.1/24 dev right")
        with left:
            run("ip route add default via 10.1.0.1")
            sender = mac("eth0")
        with right, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.settimeout(TIMEOUT)
            receiver.bind(("10.2.0.2", PORT))
            send_from(left, "10.2.0.2")
            packet = receive(handle, packets)
            packet.accept()
            assert receiver.recv(100) == b"data"
        left_device, right_device = map(socket.if_nametoindex, ("left", "right"))
    assert packet.hook is nfq.NF_INET_FORWARD
    assert packet.indev == packet.get_indev() == left_device
    assert packet.outdev == packet.get_outdev() == right_device
    assert packet.hw_addr == packet.get_packet_hw() == sender


def test_bridged(handle: Handle, packets: list[Packet]) -> None:
    """A bridged packet has the bridge as its device and the bridge's ports as physical ones."""
    iptables("-A FORWARD -p udp -m physdev --physdev-is-bridged -j NFQUEUE --queue-num 1")
    assert Path("/proc/sys/net/bridge").exists(), "this kernel has no br_netfilter"
    run("ip link add bridge type bridge")
    up("bridge")
    sysctl("bridge/bridge-nf-call-iptables", 1)
    with (
        peer("left", "10.1.0.2/24", bridge="bridge") as left,
        peer("right", "10.1.0.3/24", bridge="bridge"),
    ):
        with left:
            sender = mac("eth0")
        bridge, left_port, right_port = map(socket.if_nametoindex, ("bridge", "left", "right"))
        send_from(left, "10.1.0.3")
        packet = receive(handle, packets)
    assert (packet.indev, packet.outdev) == (bridge, bridge)
    assert packet.physindev == packet.get_physindev() == left_port
    assert packet.physoutdev == packet.get_physoutdev() == right_port
    assert packet.get_packet_hw() == sender


def test_hardware_address(handle: Handle, packets: list[Packet]) -> None:
    """On its way in a packet has the peer's address, six bytes long; on its way out none."""
    queue_rule(1, "-p udp", chain="PREROUTING")
    queue_rule(1, "-p udp", chain="OUTPUT")
    with peer("left", "10.1.0.2/24") as left:
        run("ip address add 10.1.0.1/24 dev left")
        with left:
            sender = mac("eth0")
        send_from(left, "10.1.0.1")
        incoming = receive(handle, packets)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"data", ("10.1.0.2", PORT))
        outgoing = receive(handle, packets)
    assert incoming.get_packet_hw() == incoming.hw_addr == sender
    assert isinstance(incoming.get_packet_hw(), bytes)
    assert outgoing.get_packet_hw() == outgoing.hw_addr == b""


# What it holds


@contextlib.contextmanager
def witness() -> Iterator[list[bytes]]:
    """Collects what goes out over loopback, seen by a packet socket, in a list."""
    seen: list[bytes] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as sock:
        sock.bind(("lo", ETH_P_ALL))
        sock.setblocking(False)
        yield seen
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, (_, _, direction, *_) = sock.recvfrom(1 << 17)
                if direction == socket.PACKET_OUTGOING:
                    seen.append(packet)


@FAMILIES
def test_udp_payload(handle: Handle, packets: list[Packet], family: int) -> None:
    """The payload is the packet, byte for byte: what another witness sees, and what we sent."""
    queue_rule(1, family=family)
    data = bytes(range(256))
    with UdpPair(family) as pair, witness() as seen:
        pair.send(data)
        packet = receive(handle, packets)
        packet.accept()
        assert pair.recv() == data
    assert seen == [packet.get_payload()]
    assert packet.payload.tobytes() == seen[0]
    assert packet.original_length == len(seen[0])
    assert not packet.truncated
    header = 20 if family == socket.AF_INET else 40
    assert packet.get_payload()[0] >> 4 == (4 if family == socket.AF_INET else 6)
    assert socket.inet_pton(family, LOOPBACK[family]) * 2 in packet.get_payload()[:header]
    assert packet.get_payload()[header + 8 :] == data


@FAMILIES
def test_tcp_payload(handle: Handle, family: int) -> None:
    """The payloads of a TCP conversation are its packets, byte for byte."""
    queue_rule(1, f"-p tcp --dport {PORT}", family=family)
    payloads: list[bytes] = []

    def callback(packet: Packet) -> None:
        payloads.append(packet.get_payload())
        packet.accept()

    handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET)
    with witness() as seen, tcp_echo(family) as served:
        exchange = background(tcp_exchange, b"said over TCP" * 100, family)
        process_until(handle, served.done)
        assert exchange.result(TIMEOUT) == b"said over TCP" * 100
    header = 20 if family == socket.AF_INET else 40
    to_server = [packet for packet in seen if packet[header + 2 : header + 4] == PORT.to_bytes(2)]
    assert payloads == to_server[: len(payloads)]
    assert len(payloads) >= 4  # a handshake's two, data, and the end
    assert any(payload.endswith(b"said over TCP") for payload in payloads)


def test_payload_view(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """`payload` is a read-only view of bytes; `get_payload` gives bytes of its own."""
    udp.send(b"data")
    packet = receive(handle, packets)
    assert isinstance(packet.payload, memoryview)
    assert packet.payload.readonly
    assert (packet.payload.format, packet.payload.ndim) == ("B", 1)
    with pytest.raises(TypeError):
        packet.payload[0] = 0
    assert bytes(packet.payload[28:]) == b"data"


def test_packet_is_a_buffer(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """What reads from a buffer reads the payload from the packet; nothing writes there."""
    udp.send(b"data")
    packet = receive(handle, packets)
    assert bytes(packet) == packet.get_payload()
    assert struct.unpack_from("!9xB", packet) == (socket.IPPROTO_UDP,)
    assert memoryview(packet) == packet.payload
    assert memoryview(packet).obj is not packet
    with pytest.raises(TypeError):
        struct.pack_into("!B", packet, 0, 1)
    with pytest.raises(TypeError):
        memoryview(packet)[0] = 0


def test_range(handle: Handle, udp: UdpPair) -> None:
    """Bytes that the range cuts off are missing; the full length and the cut are known."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_PACKET, range=40)
    udp.send(b"0123456789ABCDEF", b"0123456789AB")
    process_until(handle, lambda: len(packets) == 2)
    cut, whole = packets
    assert (data_of(cut), cut.original_length, cut.truncated) == (b"0123456789AB", 44, True)
    assert (data_of(whole), whole.original_length, whole.truncated) == (b"0123456789AB", 40, False)
    for packet in packets:
        packet.accept()
    assert udp.arrivals() == [b"0123456789ABCDEF", b"0123456789AB"]


def test_no_payload(handle: Handle, udp: UdpPair) -> None:
    """Without a payload the packet is empty, and not truncated: the kernel sends no length."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_META)
    udp.send(b"data")
    packet = receive(handle, packets)
    assert packet.get_payload() == b""
    assert packet.payload.tobytes() == b""
    assert (packet.original_length, packet.truncated) == (0, False)


# Whose it is


@pytest.mark.parametrize("mark", [0, 1, 0x12345678, 0xFFFFFFFF])
def test_mark(handle: Handle, packets: list[Packet], mark: int) -> None:
    """The mark is the one that a rule has set."""
    iptables(f"-t raw -A OUTPUT -p udp -j MARK --set-mark {mark:#x}")
    queue_rule(1)
    with UdpPair() as pair:
        pair.send(b"data")
        packet = receive(handle, packets)
    assert packet.get_nfmark() == packet.mark == mark


def send_as(uid: int, gid: int) -> None:
    """Sends a datagram from a child process of another user and group."""
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", 9998))
                sock.sendto(b"data", ("127.0.0.1", PORT))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_uid_and_gid(handle: Handle) -> None:
    """With the flag, user and group of the sending process are known, as the kernel has them."""
    queue_rule(1)
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_PACKET, flags=nfq.NFQA_CFG_F_UID_GID)
    for uid, gid in [(0, 0), (1234, 5678)]:
        if outside("uid", uid) is not None and outside("gid", gid) is not None:
            send_as(uid, gid)
            packet = receive(handle, packets)
            assert packet.get_uid() == packet.uid == outside("uid", uid)
            assert packet.get_gid() == packet.gid == outside("gid", gid)


def test_uid_and_gid_without_the_flag(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """Without the flag user and group are unknown."""
    udp.send(b"data")
    packet = receive(handle, packets)
    assert (packet.get_uid(), packet.get_gid()) == (None, None)
    assert (packet.uid, packet.gid) == (None, None)


def test_uid_and_gid_of_incoming(handle: Handle) -> None:
    """Incoming packets have no known sender."""
    queue_rule(1, chain="PREROUTING")
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_PACKET, flags=nfq.NFQA_CFG_F_UID_GID)
    with UdpPair() as pair:
        pair.send(b"data")
        packet = receive(handle, packets)
    assert (packet.uid, packet.gid) == (None, None)


# When and the how manieth


def test_timestamp(handle: Handle, packets: list[Packet]) -> None:
    """While some socket asks for timestamps, packets coming in have the time they came."""
    queue_rule(1, chain="PREROUTING")
    with UdpPair() as pair:
        pair.receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
        stamp = None
        end = time.monotonic() + TIMEOUT
        while stamp is None:  # the kernel begins with it a little later
            assert time.monotonic() < end, "the kernel gave no timestamp"
            before = time.time()
            pair.send(b"data")
            packet = receive(handle, packets)
            after = time.time()
            stamp = packet.get_timestamp()
    seconds, microseconds = stamp
    assert isinstance(seconds, int)
    assert 0 <= microseconds < 1_000_000
    assert before - 0.001 <= seconds + microseconds / 1e6 <= after + 0.001
    assert packet.timestamp == pytest.approx(seconds + microseconds / 1e6, abs=1e-6)
    assert isinstance(packet.timestamp, float)


def test_no_timestamp(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """Outgoing packets have no timestamp."""
    udp.send(b"data")
    packet = receive(handle, packets)
    assert packet.get_timestamp() is None
    assert packet.timestamp is None


def test_id(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """Ids count from 1; a packet knows its queue."""
    udp.send(*[b"data"] * 5)
    process_until(handle, lambda: len(packets) == 5)
    assert [packet.id for packet in packets] == [1, 2, 3, 4, 5]
    assert {packet.queue.number for packet in packets} == {1}
    assert {packet.queue.handle for packet in packets} == {handle}


def test_skb_info(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """The payload's state is known; a checksum of our own is filled in unless asked otherwise."""
    udp.send(b"data")
    packet = receive(handle, packets)
    assert isinstance(packet.skb_info, nfq.SkbInfo)
    assert not packet.skb_info & nfq.NFQA_SKB_GSO


def test_attributes_are_read_only(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """None of a packet's attributes can be set."""
    udp.send(b"data")
    packet = receive(handle, packets)
    names = (
        "id queue family hook hw_protocol hw_addr mark timestamp indev physindev outdev physoutdev"
        " payload uid gid original_length truncated verdict"
    )
    for name in names.split():
        with pytest.raises(AttributeError):
            setattr(packet, name, getattr(packet, name))


def test_foreign_socket_reads_the_same(handle: Handle, packets: list[Packet], udp: UdpPair) -> None:
    """A packet from handle_packet is what one from process is."""
    udp.send(b"data", b"data")
    with netlink_socket(handle) as sock:
        handle.handle_packet(sock.recv(4096))
    process_until(handle, lambda: len(packets) == 2)
    first, second = packets
    for name in ("family", "hook", "hw_protocol", "outdev", "original_length", "mark"):
        assert getattr(first, name) == getattr(second, name)
    assert (first.id, second.id) == (1, 2)
    assert data_of(first) == data_of(second)
