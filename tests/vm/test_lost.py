# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel itself loses although it is accepted, and the rules that keep it."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import nft
import pytest
from kernel import KERNEL
from netns import PORT, TIMEOUT, Namespace, iptables, run, sysctl, up, veth
from queues import Handle, Packet, accept, process_until
from segments import (
    SCTP,
    V4,
    Route,
    datagrams,
    ethernet,
    pieces,
    queue_of,
    router,
    stream,
    together,
)

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
GSO = nfq.NFQA_CFG_F_GSO
KEPT_SINCE = (6, 12)  # Linux that delivers SCTP, and the segments of a connection's first packet
TRACKING = "-A INPUT -m conntrack --ctstate INVALID"  # turns connection tracking on

# Broadcasts on a bridge

OTHER = 0x88B5  # a type of frames that no rule is about


class Station:
    """Sends and receives frames behind a port of a bridge."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind(("eth0", 3))
        self._socket.settimeout(TIMEOUT)

    def send(self, kind: int, content: bytes) -> None:
        source = bytes.fromhex("020000000001")
        self._socket.send(b"\xff" * 6 + source + kind.to_bytes(2) + content.ljust(50, b"\0"))

    def packets(self) -> list[bytes]:
        """What has come until a frame of another type."""
        frames = iter(lambda: self._socket.recv(100), None)
        result: list[bytes] = []
        for frame in frames:
            if frame[12:14] == OTHER.to_bytes(2):
                return result
            result.append(frame[14:])
        raise AssertionError

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def stations() -> Iterator[list[Station]]:
    """Three on a bridge that shows iptables what it passes on, with connection tracking."""
    iptables(f"{TRACKING} -m physdev --physdev-is-bridged")  # loads br_netfilter too
    sysctl("ipv6/conf/default/disable_ipv6", 1)
    run("ip link add bridge type bridge mcast_snooping 0")
    up("bridge")
    sysctl("bridge/bridge-nf-call-iptables", 1)
    with contextlib.ExitStack() as stack:
        result = []
        for number in range(3):
            namespace = stack.enter_context(contextlib.closing(Namespace()))
            with namespace:
                sysctl("ipv6/conf/default/disable_ipv6", 1)
            veth(f"port{number}", "eth0", namespace)
            run(f"ip link set port{number} master bridge")
            result.append(stack.enter_context(contextlib.closing(Station(namespace))))
        yield result


def broadcast_packet() -> bytes:
    """A datagram to all."""
    addresses = socket.inet_aton("192.0.2.1") + b"\xff" * 4
    packet = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 50, 0, 0, 64, 17, 0) + addresses)
    packet += struct.pack("!HHHH", 68, 67, 30, 0) + b"data of a broadcast..."
    nfq.update_checksums(packet)
    return bytes(packet)


@pytest.mark.parametrize(
    ("rules", "reached"),
    [
        (["-A FORWARD -j ACCEPT"], 2),
        (["-A FORWARD -j NFQUEUE --queue-num 1"], 0),
        (["-A FORWARD -j NFQUEUE --queue-num 1 --queue-bypass"], 0),
        (["-t raw -A PREROUTING -j CT --notrack", "-A FORWARD -j NFQUEUE --queue-num 1"], 2),
        (["-t mangle -A PREROUTING -j NFQUEUE --queue-num 1"], 2),
        (["-t raw -A PREROUTING -j NFQUEUE --queue-num 1"], 2),
    ],
    ids=["no queue", "queue", "bypass", "notrack", "mangle", "raw"],
)
def test_broadcast_on_a_bridge(
    handle: Handle, stations: list[Station], rules: list[str], reached: int
) -> None:
    """What a bridge copies is lost in FORWARD while its connection is new, before the queue."""
    for rule in rules:
        iptables(rule)
    handle.create_queue(1, accept, mode=COPY)
    sender, *others = stations
    packet = broadcast_packet()
    sender.send(0x800, packet)
    while handle.process(timeout=0.2):
        pass
    sender.send(OTHER, b"")
    assert [station.packets() for station in others].count([packet]) == reached
    (queue,) = nfq.queue_status()
    assert (queue.queue_dropped, queue.user_dropped) == (0, 0)
    assert (queue.id_sequence > 0) == ("NFQUEUE" in rules[-1] and reached > 0)


# Segments without NFQA_CFG_F_GSO


@pytest.mark.parametrize(
    ("table", "chain", "flags", "always"),
    [
        ("filter", "OUTPUT", 0, False),
        ("mangle", "POSTROUTING", 0, False),
        ("raw", "OUTPUT", 0, True),
        ("filter", "OUTPUT", GSO, True),
        ("mangle", "POSTROUTING", GSO, True),
    ],
)
def test_segments_of_a_new_connection(table: str, chain: str, flags: int, always: bool) -> None:
    """Before Linux 6.12 the first datagrams that one call sends are lost."""
    data = together(20)
    with ethernet(V4) as route:
        with route.left:
            iptables(TRACKING)
        with queue_of(route, accept, chain, table=table, flags=flags) as handle:
            arrived = datagrams(handle, route, data)
            again = datagrams(handle, route, data)
    kept = always or KERNEL >= KEPT_SINCE
    assert arrived == (pieces(data) if kept else [])
    assert len(again) == (len(pieces(data)) if kept else 0)  # another port: a new connection


def sctp_errors(route: Route) -> int:
    with route.right:
        text = Path("/proc/thread-self/net/sctp/snmp").read_text()
    return int(dict(line.split() for line in text.splitlines())["SctpChecksumErrors"])


@pytest.mark.parametrize("flags", [0, GSO])
def test_sctp(flags: int) -> None:
    """Before Linux 6.12 SCTP's checksum is wrong, unless NFQA_CFG_F_GSO leaves it to the device."""
    data = together(5)
    with ethernet(V4) as route, queue_of(route, accept, flags=flags) as handle:
        if flags or KERNEL >= KEPT_SINCE:
            assert stream(handle, route, data, SCTP) == data
            assert sctp_errors(route) == 0
            return
        with route.left:
            sock = socket.socket(V4, socket.SOCK_STREAM, SCTP)
        with sock:
            sock.setblocking(False)
            sock.connect_ex((route.ends[1], PORT))
            process_until(handle, lambda: sctp_errors(route))


# Routing of a kind of its own


@pytest.mark.parametrize(
    ("rule", "reached"),
    [
        ("-t raw -A PREROUTING -p udp", False),
        ("-t mangle -A PREROUTING -p udp", False),
        ("-t mangle -A PREROUTING -p udp ! -i vrf0", True),
        ("-t mangle -A INPUT -p udp", True),
    ],
)
def test_vrf(rule: str, reached: bool) -> None:
    """A packet passes PREROUTING twice on its way into a VRF; the second time it is lost there."""
    with ethernet(V4) as route:
        with route.right:
            run("ip link add vrf0 type vrf table 10")
            up("vrf0")
            run("ip link set eth0 master vrf0")
            iptables(f"{rule} -j NFQUEUE --queue-num 1")
            handle = nfq.open()
            receiver = socket.socket(V4, socket.SOCK_DGRAM)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"vrf0")
            receiver.bind((route.ends[1], PORT))
        with route.left:
            sender = socket.socket(V4, socket.SOCK_DGRAM)
        with handle, receiver, sender:
            seen: list[str | None] = []

            def callback(packet: Packet) -> None:
                with route.right:
                    seen.append(packet.indev_name())
                packet.accept()

            handle.create_queue(1, callback, mode=COPY)
            sender.sendto(b"data", (route.ends[1], PORT))
            process_until(handle, lambda: seen)
            while handle.process(timeout=0.2):
                pass
            receiver.settimeout(0)
            if reached:
                assert receiver.recv(100) == b"data"
            else:
                assert seen[-1] == "vrf0"
                with pytest.raises(BlockingIOError):
                    receiver.recv(100)


# Flow offload

QUEUE = "ip protocol tcp queue num 1"
OFFLOAD = "ct state established flow add @fast"


@pytest.mark.parametrize(
    ("chains", "offloaded"),
    [
        ([["ct state established"], [QUEUE]], False),
        ([[OFFLOAD], [QUEUE]], True),
        ([[QUEUE, OFFLOAD]], False),  # what is accepted does not return to the chain
    ],
    ids=["not offloaded", "offloaded", "one chain"],
)
def test_flow_offload(
    netns: Namespace, handle: Handle, chains: list[list[str]], offloaded: bool
) -> None:
    """A rule sees the first packets only of a connection that is offloaded."""
    lengths: list[int] = []

    def callback(packet: Packet) -> None:
        lengths.append(packet.original_length - 52)
        packet.accept()

    head = "flowtable fast { hook ingress priority 0; devices = { toleft, toright }; }"
    data = together(300)
    with router(netns) as route:
        nft.rules(*chains[0], hook="forward", head=head)
        for rules in chains[1:]:
            nft.rules(*rules, hook="forward")
        handle.create_queue(1, callback, mode=COPY, flags=GSO)
        assert stream(handle, route, data) == data
    assert (sum(lengths) < len(data) // 2) == offloaded
