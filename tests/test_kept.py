# SPDX-License-Identifier: GPL-2.0-or-later
"""Many packets kept: that they stay right, and that each gets its own verdict.

What they cost is in test_kept_cost.py.
"""

import random
from collections.abc import Callable, Iterator

import pytest
from netns import TIMEOUT, UdpPair, background, queue_rule
from queues import Handle, Packet, accept, data_of

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
PENDING = 30_000
CHUNK = 100  # datagrams that the receiver's buffer surely holds


# That they stay right


def test_view_outlives_everything_else(handle: Handle, udp: UdpPair) -> None:
    """A live view keeps its bytes while thousands of packets are received by the same handle."""
    views: list[memoryview] = []

    def callback(packet: Packet) -> None:
        if packet.id % 500 == 1:
            views.append(packet.payload)
        packet.drop()

    handle.create_queue(1, callback, mode=COPY)
    for number in range(0, 5000, CHUNK):
        udp.send(*[b"%05d" % (number + i) * 20 for i in range(CHUNK)])
        while handle.process():
            pass
        taken = [bytes(view[28:]) for view in views]
        assert taken == [b"%05d" % first * 20 for first in range(0, number + CHUNK, 500)]


# That each gets its own verdict


@pytest.fixture
def incoming() -> Iterator[UdpPair]:
    """Datagrams that are queued on their way in, where no send buffer limits their number."""
    queue_rule(1, chain="PREROUTING")
    with UdpPair() as pair:
        yield pair


def keep(handle: Handle, udp: UdpPair, count: int) -> list[Packet]:
    """So many packets that wait for their verdicts."""
    kept: list[Packet] = []
    handle.create_queue(1, kept.append, mode=COPY, maxlen=2 * count)
    for first in range(0, count, CHUNK):
        udp.send(*[b"%d" % number for number in range(first, first + CHUNK)])
        while len(kept) < first + CHUNK:
            assert handle.process(timeout=TIMEOUT) > 0
    return kept


def accept_all(packets: list[Packet]) -> None:
    for packet in packets:
        accept(packet)


def in_order(packets: list[Packet]) -> None:
    pass


ORDERS: dict[str, Callable[[list[Packet]], None]] = {
    "in order": in_order,
    "in reverse": list.reverse,
    "at random": random.Random(4).shuffle,
}


@pytest.mark.parametrize("order", ORDERS)
def test_answered_by_another_thread(handle: Handle, incoming: UdpPair, order: str) -> None:
    """Tens of thousands wait, and each arrives when another thread gives it its verdict."""
    kept = keep(handle, incoming, PENDING)
    ORDERS[order](kept)
    for first in range(0, PENDING, CHUNK):
        chunk = kept[first : first + CHUNK]
        background(accept_all, chunk).result(TIMEOUT)
        assert incoming.arrivals() == [data_of(packet) for packet in chunk]
    assert handle.process() == 0
    assert (handle.stats().verdicts, handle.stats().verdict_errors) == (PENDING, 0)


def test_answered_by_several_threads(handle: Handle, incoming: UdpPair) -> None:
    """Tens of thousands wait, and each arrives when several threads give verdicts at once."""
    count = 6000
    kept = keep(handle, incoming, count)
    random.Random(4).shuffle(kept)
    for first in range(0, count, CHUNK):
        chunk = kept[first : first + CHUNK]
        threads = [background(accept_all, chunk[part::4]) for part in range(4)]
        for thread in threads:
            thread.result(TIMEOUT)
        assert sorted(incoming.arrivals()) == sorted(data_of(packet) for packet in chunk)
    assert handle.process() == 0
    assert (handle.stats().verdicts, handle.stats().verdict_errors) == (count, 0)


def test_answered_while_more_come(handle: Handle, incoming: UdpPair) -> None:
    """Another thread answers kept packets while process() keeps some and accepts others."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        if packet.id % 3:
            packet.accept()
        else:
            kept.append(packet)

    handle.create_queue(1, callback, mode=COPY)
    waiting: list[Packet] = []
    for first in range(0, 30 * CHUNK, CHUNK):
        sent = [b"%d" % number for number in range(first, first + CHUNK)]
        expected = [data for data in sent if (int(data) + 1) % 3]
        expected += [data_of(packet) for packet in waiting]
        answering = background(accept_all, waiting)
        incoming.send(*sent)
        while handle.process():
            pass
        answering.result(TIMEOUT)
        assert sorted(incoming.arrivals()) == sorted(expected)
        waiting, kept[:] = list(kept), []
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0
