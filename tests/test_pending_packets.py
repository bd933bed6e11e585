# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets that wait: who may answer them, in what order, and what makes the kernel forget them.

That they stay right and what they cost is in test_kept.py; what destroying their queue and closing
their handle do to them is in test_lifetime.py.
"""

import contextlib
import random
import socket
import time
from collections.abc import Callable

import pytest
from netns import (
    PORT,
    QUEUED_PORT,
    TIMEOUT,
    Counter,
    Namespace,
    UdpPair,
    down,
    iptables,
    queue_rule,
    run,
    up,
    veth,
)
from queues import Handle, Packet, accept, data_of, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
PENDING = 30_000
CHUNK = 100  # datagrams that any receive buffer holds
OURS, THEIRS = "10.1.0.1", "10.1.0.2"


def keep(handle: Handle, udp: UdpPair, *data: bytes) -> list[Packet]:
    """Packets that wait for their verdicts."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY, maxlen=2 * PENDING)
    for first in range(0, len(data), CHUNK):
        udp.send(*data[first : first + CHUNK])
        process_until(handle, lambda: len(packets) == min(first + CHUNK, len(data)))  # noqa: B023
    return packets


# Who answers, in what order


@pytest.mark.parametrize("autoflush", [True, False])
def test_all_answered_at_once(handle: Handle, autoflush: bool) -> None:
    """Tens of thousands of verdicts in no order, given without a pause: each packet passes."""
    queue_rule(1, chain="PREROUTING")
    passed = Counter("INPUT", f"-p udp --dport {PORT}", target="DROP")
    with UdpPair() as udp:
        packets = keep(handle, udp, *[b"data"] * PENDING)
    random.Random(6).shuffle(packets)
    handle.autoflush = autoflush
    before = handle.stats().sends
    for packet in packets:
        packet.accept()
    if not autoflush:
        assert handle.stats().sends < before + PENDING / CHUNK
        handle.flush()
        assert handle.stats().sends < before + PENDING / CHUNK
    assert passed.packets == PENDING
    assert handle.process() == 0
    assert (handle.stats().verdicts, handle.stats().verdict_errors) == (PENDING, 0)


def test_each_its_own_verdict(handle: Handle, udp: UdpPair) -> None:
    """Packets are accepted, dropped, and requeued in no order, held back and sent together."""
    sent = [b"%d" % number for number in range(CHUNK)]
    packets = keep(handle, udp, *sent)
    handle.create_queue(2, accept, mode=COPY)
    handle.autoflush = False
    random.Random(6).shuffle(packets)
    verdicts: list[Callable[[Packet], None]] = [accept, Packet.drop, lambda kept: kept.requeue(2)]
    for packet in packets:
        verdicts[int(data_of(packet)) % 3](packet)
    assert udp.arrivals() == []
    handle.flush()
    order = [data_of(packet) for packet in packets]
    assert udp.arrivals() == [data for data in order if int(data) % 3 == 0]
    assert handle.process() == len(sent[2::3])
    assert udp.arrivals() == [data for data in order if int(data) % 3 == 2]
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0


# What the rules do to them


def check_alive(handle: Handle, udp: UdpPair, packet: Packet) -> None:
    """The packet still waits in the kernel."""
    packet.accept()
    assert udp.arrivals() == [data_of(packet)]
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0


def check_forgotten(handle: Handle, udp: UdpPair | None, *packets: Packet) -> None:
    """The kernel has none of them: verdicts are no error here, are counted later, and the queue
    works on."""
    before = handle.stats().verdict_errors
    for packet in packets:
        packet.accept()
        assert packet.verdict == nfq.NF_ACCEPT
    assert handle.process() == 0
    assert handle.stats().verdict_errors == before + len(packets)
    if udp is not None:
        assert udp.arrivals() == []
        queue_rule(1)
        udp.send(b"after")
        assert handle.process() == 1


def test_rule_deleted(handle: Handle, udp: UdpPair) -> None:
    """Deleting the rule, or all rules, does nothing to packets that wait."""
    packets = keep(handle, udp, b"1", b"2")
    iptables(f"-t raw -D OUTPUT -p udp --sport {QUEUED_PORT} -j NFQUEUE --queue-num 1")
    check_alive(handle, udp, packets[0])
    iptables("-t raw -F")
    check_alive(handle, udp, packets[1])


def test_chain_deleted(handle: Handle, udp: UdpPair) -> None:
    """Deleting the chain takes its hook away, and the kernel drops all that waits."""
    packets = keep(handle, udp, b"1", b"2")
    iptables("-t raw -F OUTPUT")
    iptables("-t raw -X OUTPUT")
    check_forgotten(handle, udp, *packets)


def test_unrelated_chain_deleted(handle: Handle, udp: UdpPair) -> None:
    """Deleting any chain of the namespace drops all: the kernel can't tell what waits where.

    Adding one, as any program that brings its own firewall rules does, harms nothing.
    """
    packets = keep(handle, udp, b"1", b"2")
    iptables("-t mangle -A FORWARD -p icmp -j ACCEPT")
    check_alive(handle, udp, packets[0])
    iptables("-t mangle -F FORWARD")
    iptables("-t mangle -X FORWARD")
    check_forgotten(handle, udp, packets[1])


def test_chain_of_another_namespace_deleted(handle: Handle, udp: UdpPair) -> None:
    """What happens to the rules of another namespace harms nothing here."""
    packets = keep(handle, udp, b"1")
    with contextlib.closing(Namespace()) as other, other:
        queue_rule(1)
        iptables("-t raw -F OUTPUT")
        iptables("-t raw -X OUTPUT")
    check_alive(handle, udp, packets[0])


# What devices and namespaces do to them


def test_device_down(handle: Handle, udp: UdpPair) -> None:
    """When a device goes down the kernel drops what waits on its way through it."""
    packets = keep(handle, udp, b"1", b"2")
    down("lo")
    up("lo")
    check_forgotten(handle, udp, *packets)


def test_other_device_down(handle: Handle, udp: UdpPair) -> None:
    """When another device goes down nothing is dropped."""
    packets = keep(handle, udp, b"1")
    with contextlib.closing(Namespace()) as namespace:
        veth("other", "eth0", namespace)
        down("other")
        run("ip link delete other")
    check_alive(handle, udp, packets[0])


def wait_until(done: Callable[[], object]) -> None:
    """Waits a short time until something has come true."""
    end = time.monotonic() + TIMEOUT
    while not done():
        assert time.monotonic() < end
        time.sleep(0.001)


def neighbour() -> Namespace:
    """A namespace behind our device `left`, with its own `eth0`."""
    namespace = Namespace()
    veth("left", "eth0", namespace)
    run(f"ip address add {OURS}/24 dev left")
    with namespace:
        run(f"ip address add {THEIRS}/24 dev eth0")
    return namespace


def send(host: str, *data: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in data:
            sock.sendto(datagram, (host, PORT))


@pytest.mark.parametrize("way", ["in", "out"])
def test_neighbour_gone(handle: Handle, way: str) -> None:
    """When a neighbour's namespace goes, so do its devices, ours at the other end, and what waits.

    So it is when a container stops.
    """
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    queue_rule(1, f"-p udp --dport {PORT}", chain="PREROUTING" if way == "in" else "OUTPUT")
    with contextlib.closing(neighbour()) as namespace:
        if way == "in":
            with namespace:
                send(OURS, b"1", b"2")
        else:
            send(THEIRS, b"1", b"2")
        process_until(handle, lambda: len(packets) == 2)
    wait_until(lambda: "left" not in [name for _, name in socket.if_nameindex()])
    check_forgotten(handle, None, *packets)


def test_own_namespace_left() -> None:
    """The handle keeps its namespace there when nothing else is in it, and packets alive.

    Closing the handle is its end.
    """
    packets: list[Packet] = []
    namespace = neighbour()
    with namespace:
        queue_rule(1, f"-p udp --dport {PORT}")
        handle = nfq.open()
        handle.create_queue(1, packets.append, mode=COPY)
        send(OURS, b"1", b"2")
    namespace.close()
    with handle, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((OURS, PORT))
        receiver.settimeout(TIMEOUT)
        assert handle.process() == 2
        packets[0].accept()
        assert receiver.recv(100) == b"1"
        assert handle.stats().verdict_errors == 0
    wait_until(lambda: "left" not in [name for _, name in socket.if_nameindex()])
    with pytest.raises(nfq.ClosedError, match="destroyed"):
        packets[1].accept()
