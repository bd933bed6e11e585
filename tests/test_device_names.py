# SPDX-License-Identifier: GPL-2.0-or-later
"""indev_name() and its siblings: names as they are now."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from netns import PORT, TIMEOUT, Namespace, UdpPair, down, queue_rule, run, sysctl, up, veth
from played_kernel import NFQA_IFINDEX_INDEV, PlayedKernel, attribute, packet_message
from queues import Handle, Packet, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
NAMES = ("indev_name", "physindev_name", "outdev_name", "physoutdev_name")


def names(packet: Packet) -> tuple[str | None, ...]:
    return tuple(getattr(packet, name)() for name in NAMES)


@pytest.fixture
def neighbour() -> Iterator[Namespace]:
    """A namespace behind our device `left`."""
    with contextlib.closing(Namespace()) as namespace:
        veth("left", "eth0", namespace)
        run("ip address add 10.1.0.1/24 dev left")
        with namespace:
            run("ip address add 10.1.0.2/24 dev eth0")
        yield namespace


def receive(handle: Handle, neighbour: Namespace) -> Packet:
    """A packet that came in by `left`, kept."""
    packets: list[Packet] = []
    queue_rule(1, "-p udp", chain="PREROUTING")
    handle.create_queue(1, packets.append, mode=COPY)
    with neighbour, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"data", ("10.1.0.1", PORT))
    process_until(handle, lambda: packets)
    return packets[0]


def becomes(packet: Packet, name: str | None) -> bool:
    """Whether the name is that one, within a moment."""
    end = time.monotonic() + TIMEOUT
    while packet.indev_name() != name:
        assert time.monotonic() < end
    return time.monotonic() < end - TIMEOUT / 2


def test_outgoing(handle: Handle, udp: UdpPair) -> None:
    """An outgoing packet has one device; the other's name is None."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    udp.send(b"data")
    process_until(handle, lambda: packets)
    assert names(packets[0]) == (None, None, "lo", None)


def test_incoming(handle: Handle, neighbour: Namespace) -> None:
    """An incoming packet has one device; the other's name is None."""
    assert names(receive(handle, neighbour)) == ("left", None, None, None)


def test_bridged(handle: Handle) -> None:
    """On a bridge both devices are the bridge, and both ports have their names."""
    # First of all: it loads br_netfilter, which the rest needs.
    queue_rule(1, "-p udp -m physdev --physdev-is-bridged", table="filter", chain="FORWARD")
    run("ip link add bridge type bridge")
    up("bridge")
    sysctl("bridge/bridge-nf-call-iptables", 1)
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    with contextlib.ExitStack() as stack:
        namespaces = []
        for number, name in enumerate(("left", "right"), 1):
            namespace = stack.enter_context(contextlib.closing(Namespace()))
            veth(name, "eth0", namespace)
            run(f"ip link set {name} master bridge")
            with namespace:
                run(f"ip address add 10.1.0.{number}/24 dev eth0")
            namespaces.append(namespace)
        with namespaces[0], socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"data", ("10.1.0.2", PORT))
        process_until(handle, lambda: packets)
        assert names(packets[0]) == ("bridge", "left", "bridge", "right")


def test_renamed(handle: Handle, neighbour: Namespace) -> None:
    """A device that is renamed has its new name at once, packets that waited included."""
    packet = receive(handle, neighbour)
    assert packet.indev_name() == "left"
    down("left")
    run("ip link set left name sinister")
    assert becomes(packet, "sinister")


def test_removed(handle: Handle, neighbour: Namespace) -> None:
    """A device that is gone has no name; a new one of the same name is another."""
    packet = receive(handle, neighbour)
    assert packet.indev_name() == "left"
    run("ip link delete left")
    assert becomes(packet, None)
    run("ip link add left type veth peer name right")
    assert packet.indev_name() is None


def test_many_devices() -> None:
    """More devices than answers are kept: each has its own name."""
    count = 20
    for number in range(count):
        run(f"ip link add dev{number} type veth peer name peer{number}")
    with PlayedKernel() as kernel:
        packets: list[Packet] = []
        kernel.create_queue(1, packets.append)
        for number in range(count):
            index = socket.if_nametoindex(f"dev{number}")
            indev = attribute(NFQA_IFINDEX_INDEV, index.to_bytes(4))
            kernel.handle.handle_packet(packet_message(number + 1, b"payload", indev))
        for _ in range(3):
            assert [packet.indev_name() for packet in packets] == [
                f"dev{number}" for number in range(count)
            ]


def test_answers_are_used_again(handle: Handle, udp: UdpPair) -> None:
    """Packets in quick succession share one answer, the very same str."""
    seen: list[str | None] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.outdev_name())
        packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    udp.send(*[b"data"] * 64)
    process_until(handle, lambda: len(seen) == 64)
    assert set(seen) == {"lo"}
    assert len({id(name) for name in seen}) < 16


def test_index_that_is_none() -> None:
    """Whatever number a message carries, there is a name or None."""
    with PlayedKernel() as kernel:
        packets: list[Packet] = []
        kernel.create_queue(1, packets.append)
        for index in (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            indev = attribute(NFQA_IFINDEX_INDEV, index.to_bytes(4))
            kernel.handle.handle_packet(packet_message(1, b"payload", indev))
        assert [packet.indev_name() for packet in packets] == [None] * 4


@pytest.mark.parametrize("name", NAMES)
def test_closed_handle(handle: Handle, udp: UdpPair, name: str) -> None:
    """A closed handle has no names; indexes and the rest stay."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    udp.send(b"data")
    process_until(handle, lambda: packets)
    handle.close()
    assert packets[0].outdev == socket.if_nametoindex("lo")
    with pytest.raises(nfq.ClosedError, match=rf"^{name}\(\): the handle is closed"):
        getattr(packets[0], name)()
