# SPDX-License-Identifier: GPL-2.0-or-later
"""nftables' `queue` statement, with all that it can say."""

import contextlib
import os
import random
import socket

import nft
import pytest
from flows import FLOWS, flow_of, send_flows, sender
from netns import PORT, QUEUED_PORT, TIMEOUT, UdpPair, background
from queues import Handle, Packet, accept, accepting, keeping, process_until, receive

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
QUEUED = f"udp sport {QUEUED_PORT}"  # what a `UdpPair` sends
PENDING = 6000
CHUNK = 100  # datagrams that any receive buffer holds


@pytest.mark.parametrize(
    ("hook", "number"),
    [
        ("prerouting", nfq.NF_INET_PRE_ROUTING),
        ("input", nfq.NF_INET_LOCAL_IN),
        ("output", nfq.NF_INET_LOCAL_OUT),
        ("postrouting", nfq.NF_INET_POST_ROUTING),
    ],
)
@pytest.mark.parametrize(
    ("table", "family"),
    [
        ("ip", socket.AF_INET),
        ("ip6", socket.AF_INET6),
        ("inet", socket.AF_INET),
        ("inet", socket.AF_INET6),
    ],
)
def test_everywhere(handle: Handle, table: str, family: int, hook: str, number: nfq.Hook) -> None:
    """Packets come from each hook, with the family that they have, not that of the table."""
    nft.rules(f"{QUEUED} queue num 1", family=table, hook=hook)
    packets = keeping(handle)
    with UdpPair(family) as udp:
        udp.send(b"data")
        packet = receive(handle, packets)
        assert (packet.family, packet.hook) == (family, number)
        packet.accept()
        assert udp.recv() == b"data"


@pytest.mark.parametrize(("flags", "alone"), [("", []), ("flags bypass", [b"alone"])])
def test_bypass(handle: Handle, flags: str, alone: list[bytes]) -> None:
    """While nobody listens packets are dropped; with `bypass` they pass."""
    nft.rules(f"{QUEUED} queue {flags} to 1")
    with UdpPair() as udp:
        udp.send(b"alone")
        assert udp.arrivals() == alone
        seen: list[bytes] = []
        queue = handle.create_queue(1, accepting(seen), mode=COPY)
        udp.send(b"seen")
        process_until(handle, lambda: seen)
        assert seen == udp.arrivals() == [b"seen"]
        queue.destroy()
        udp.send(b"alone")
        assert udp.arrivals() == alone


@pytest.mark.parametrize("maxlen", [1, 3])
def test_fail_open(handle: Handle, maxlen: int) -> None:
    """Packets that find the queue full are dropped; with FAIL_OPEN they pass."""
    nft.rules(f"{QUEUED} queue num 1")
    queue = handle.create_queue(1, accept, mode=COPY, maxlen=maxlen, flags=nfq.NFQA_CFG_F_FAIL_OPEN)
    sent = [b"%d" % number for number in range(5)]
    with UdpPair() as udp:
        udp.send(*sent)
        assert udp.arrivals() == sent[maxlen:]
        assert handle.process() == maxlen
        assert udp.arrivals() == sent[:maxlen]
        queue.set_flags(nfq.NFQA_CFG_F_FAIL_OPEN, 0)
        udp.send(*sent)
        assert udp.arrivals() == []
        assert handle.process() == maxlen
        assert udp.arrivals() == sent[:maxlen]


def test_range(handle: Handle) -> None:
    """A range of queues shares the flows: each gets its own ones whole."""
    nft.rules(f"udp dport {PORT} queue to 1-4")
    queues: dict[str, set[int]] = {flow: set() for flow in FLOWS}

    def callback(packet: Packet) -> None:
        queues[flow_of(packet)].add(packet.queue.number)
        packet.accept()

    for number in range(1, 5):
        handle.create_queue(number, callback, mode=COPY)
    sending = background(send_flows, 3)
    process_until(handle, sending.done)
    sending.result(TIMEOUT)
    assert {len(numbers) for numbers in queues.values()} == {1}
    assert set.union(*queues.values()) == {1, 2, 3, 4}


def test_fanout(handle: Handle) -> None:
    """With `fanout` the processor that sends picks the queue."""
    nft.rules(f"udp dport {PORT} queue flags fanout to 1-4")
    numbers: list[int] = []
    for number in range(1, 5):
        handle.create_queue(number, lambda packet: numbers.append(packet.queue.number), mode=COPY)
    processors = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(sender())
        stack.callback(os.sched_setaffinity, 0, processors)
        for processor in processors:
            os.sched_setaffinity(0, {processor})
            sock.send(b"data")
            process_until(handle, lambda: numbers)
            assert numbers.pop() == 1 + processor % 4


def test_map(handle: Handle) -> None:
    """An expression picks the queue, here a map of source ports."""
    nft.rules(f"udp dport {PORT} queue to udp sport map {{ 5001 : 1, 5002 : 65535 }}")
    numbers: list[int] = []
    for number in (1, 65535):
        handle.create_queue(number, lambda packet: numbers.append(packet.queue.number), mode=COPY)
    for port, number in ((5001, 1), (5002, 65535), (5001, 1)):
        with sender(port=port) as sock:
            sock.send(b"data")
        process_until(handle, lambda: numbers)
        assert numbers.pop() == number


def test_repeat(handle: Handle) -> None:
    """NF_REPEAT sends the packet through the chain again, with its new mark."""
    nft.rules("meta mark 5 accept", f"{QUEUED} queue num 1")
    packets = keeping(handle)
    counter = nft.Counter("meta mark 5")
    with UdpPair() as udp:
        udp.send(b"data")
        receive(handle, packets).repeat()
        receive(handle, packets).repeat(mark=5)
        assert udp.recv() == b"data"
    assert counter.packets == 1


def test_requeue(handle: Handle) -> None:
    """A packet can be passed on to a queue that the rule does not name."""
    nft.rules(f"{QUEUED} queue num 1")
    seen: list[bytes] = []
    handle.create_queue(1, lambda packet: packet.requeue(2), mode=COPY)
    handle.create_queue(2, accepting(seen), mode=COPY)
    with UdpPair() as udp:
        udp.send(b"data")
        process_until(handle, lambda: seen)
        assert udp.recv() == b"data"


def test_many_pending(handle: Handle) -> None:
    """Thousands of packets wait, and get their verdicts in no order."""
    nft.rules(f"{QUEUED} queue num 1", hook="prerouting")
    passed = nft.Counter(f"{QUEUED} meta mark 5")
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_META, maxlen=PENDING)
    with UdpPair() as udp:
        for count in range(CHUNK, PENDING + 1, CHUNK):
            udp.send(*[b"data"] * CHUNK)
            process_until(handle, lambda: len(packets) == count)  # noqa: B023
        assert handle.stats().verdicts == 0
        random.Random(1).shuffle(packets)
        for packet in packets:
            packet.accept(mark=5)
        assert passed.packets == PENDING
        assert handle.process() == 0
    assert handle.stats().verdict_errors == 0
