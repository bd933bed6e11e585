# SPDX-License-Identifier: GPL-2.0-or-later
"""One suite on every loop: what holds whoever feeds the handle.

test_patched.py runs it once more, in a process in which gevent has patched everything.
"""

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator

import pytest
from flood import Flood
from loops import LOOPS, Loop
from netns import (
    TIMEOUT,
    UdpPair,
    background,
    down,
    queue_rule,
    tcp_echo,
    tcp_exchange,
    up,
)
from queues import Handle, Packet, accept, accepting

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
SMALL = 20_000  # bytes: a receive buffer with room for some twenty packets
MANY = 80  # more than a batch, and no more than any receive buffer holds


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    with contextlib.closing(LOOPS[request.param]()) as loop:
        yield loop
        assert not loop.errors


def take_errors(loop: Loop) -> list[BaseException]:
    """What the loop's handler got."""
    errors = list(loop.errors)
    loop.errors.clear()
    return errors


def gather(udp: UdpPair, arrived: list[bytes]) -> list[bytes]:
    """Adds what has arrived since the last look, and returns all of it."""
    arrived += udp.arrivals()
    return arrived


def settled(handle: Handle) -> Callable[[], bool]:
    """Whether no packet has come for twenty looks."""
    counts: list[int] = []

    def look() -> bool:
        counts.append(handle.stats().packets)
        return counts[-20:] == counts[-1:] * 20

    return look


def test_verdicts(loop: Loop, handle: Handle, udp: UdpPair) -> None:
    """Packets come one by one and many at a time, and their verdicts are executed."""
    seen: list[bytes] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.get_payload()[28:])
        packet.set_verdict(nfq.NF_ACCEPT if packet.id % 2 else nfq.NF_DROP)

    handle.create_queue(1, callback, mode=COPY)
    with loop.feed(handle):
        for number in range(10):
            udp.send(b"%d" % number)
            loop.until(lambda: len(seen) == number + 1)  # noqa: B023
        udp.send(*[b"many"] * MANY)
        loop.until(lambda: len(seen) == 10 + MANY)
    assert seen == [b"%d" % number for number in range(10)] + [b"many"] * MANY
    assert len(udp.arrivals()) == (10 + MANY) // 2
    assert handle.stats().verdict_errors == 0


def test_tcp(loop: Loop, handle: Handle) -> None:
    """A conversation passes, each packet of it."""
    queue_rule(1, "-p tcp")
    handle.create_queue(1, accept, mode=COPY)
    with loop.feed(handle), tcp_echo() as served:
        exchange = background(tcp_exchange, b"said" * 50_000)
        loop.until(lambda: exchange.done() and served.done())
        assert exchange.result(TIMEOUT) == b"said" * 50_000
    assert handle.stats().packets > 10


def test_kept_packets(loop: Loop, handle: Handle, udp: UdpPair) -> None:
    """Verdicts given later, from the loop's thread and from another one, are executed."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    with loop.feed(handle):
        udp.send(b"1", b"2", b"3", b"4")
        loop.until(lambda: len(packets) == 4)
        packets[3].accept()
        background(packets[1].accept).result(TIMEOUT)
        arrived: list[bytes] = []
        loop.until(lambda: len(gather(udp, arrived)) == 2)
        packets[0].accept()
        packets[2].drop()
        loop.until(lambda: len(gather(udp, arrived)) == 3)
    assert sorted(arrived) == [b"1", b"2", b"4"]


def test_dropped_packets(loop: Loop, handle: Handle, udp: UdpPair) -> None:
    """Packets that nobody gives a verdict get the default, at once."""
    handle.create_queue(1, lambda _: None, mode=COPY, default_verdict=nfq.NF_ACCEPT)
    with loop.feed(handle):
        udp.send(b"1", b"2")
        loop.until(lambda: handle.stats().defaulted == 2)
        assert udp.arrivals() == [b"1", b"2"]


def test_exceptions(loop: Loop, handle: Handle, udp: UdpPair) -> None:
    """A callback's exception goes to the loop's handler; its packet and the feed are unharmed."""
    seen: list[int] = []

    def callback(packet: Packet) -> None:
        seen.append(packet.id)
        packet.accept()
        if packet.id in (2, 5):
            raise KeyError(packet.id)

    handle.create_queue(1, callback, mode=COPY)
    with loop.feed(handle):
        udp.send(b"1", b"2", b"3")
        loop.until(lambda: len(seen) == 3)
        udp.send(b"4", b"5", b"6")
        loop.until(lambda: len(seen) == 6)
    assert udp.arrivals() == [b"%d" % number for number in range(1, 7)]
    assert [error.args for error in take_errors(loop)] == [(2,), (5,)]


def test_several_handles(loop: Loop, handle: Handle) -> None:
    """A loop feeds several handles, each with its queues."""
    seen: dict[int, list[bytes]] = {number: [] for number in range(1, 5)}
    with nfq.open() as other, loop.feed(handle), loop.feed(other), UdpPair() as udp:
        for number, data in seen.items():
            owner = handle if number % 2 else other
            owner.create_queue(number, accepting(data), mode=COPY)
            queue_rule(number, f"-p udp --sport 9998 -m length --length {28 + number}")
        udp.send(*[bytes(number) for number in seen])
        loop.until(lambda: all(seen.values()))
        assert sorted(udp.arrivals()) == [bytes(number) for number in seen]
    assert seen == {number: [bytes(number)] for number in seen}


def test_configuration(loop: Loop, handle: Handle, udp: UdpPair) -> None:
    """A callback may reconfigure and destroy its queue, and create others."""
    ranges: list[int] = []

    def callback(packet: Packet) -> None:
        ranges.append(len(packet.payload))
        packet.accept()
        packet.queue.set_mode(COPY, 20 + packet.id)
        if packet.id == 3:
            packet.queue.destroy()
            handle.create_queue(1, accepting(later), mode=COPY)

    later: list[bytes] = []
    handle.create_queue(1, callback, mode=COPY, range=20)
    with loop.feed(handle):
        for number in range(1, 4):
            udp.send(bytes(100))
            loop.until(lambda: len(ranges) == number)  # noqa: B023
        udp.send(b"later")
        loop.until(lambda: later)
    assert ranges == [20, 21, 22]
    assert udp.arrivals() == [bytes(100)] * 3 + [b"later"]


def test_packets_set_aside(loop: Loop, handle: Handle, udp: UdpPair) -> None:
    """Packets that a configuration call has set aside come without any further one."""
    seen: list[bytes] = []
    queue = handle.create_queue(1, accepting(seen), mode=COPY)
    with loop.feed(handle):
        udp.send(*[b"data"] * MANY)
        queue.set_maxlen(5000)
        loop.until(lambda: len(seen) == MANY)
    assert len(udp.arrivals()) == MANY


def test_refusals(loop: Loop, handle: Handle, udp: UdpPair) -> None:
    """Verdicts that the kernel refuses are reported, and nothing stops."""
    packets: list[Packet] = []
    told: list[int] = []
    handle.on_verdict_error = lambda _, packet_id, __: told.append(packet_id)
    handle.create_queue(1, packets.append, mode=COPY)
    with loop.feed(handle):
        udp.send(b"1", b"2")
        loop.until(lambda: len(packets) == 2)
        down("lo")
        up("lo")
        packets[0].accept()
        packets[1].drop()  # equal verdicts might share a message, and its refusal
        loop.until(lambda: len(told) == 2)
        udp.send(b"3")
        loop.until(lambda: len(packets) == 3)
        packets[2].accept()
        arrived: list[bytes] = []
        loop.until(lambda: gather(udp, arrived))
    assert sorted(told) == [1, 2]
    assert arrived == [b"3"]


def test_closed_in_a_callback(loop: Loop, handle: Handle, udp: UdpPair) -> None:
    """A callback may close the handle: its verdict is executed, the others get the default."""

    def callback(packet: Packet) -> None:
        packet.accept()
        if packet.id == 2:
            handle.close()

    handle.create_queue(1, callback, mode=COPY)
    with loop.feed(handle):
        udp.send(b"1", b"2", b"3")
        loop.until(lambda: handle.closed)
        loop.until(lambda: True)
    assert udp.arrivals() == [b"1", b"2"]


def test_flood(loop: Loop, handle: Handle) -> None:
    """In a flood with a small receive buffer, every packet that came in has its verdict."""
    flood = Flood()
    handle.rcvbuf = SMALL
    handle.create_queue(1, accept, mode=COPY)
    with loop.feed(handle):
        with flood.running():
            loop.until(lambda: handle.stats().packets > 3000 and handle.stats().overruns > 0)
        loop.until(settled(handle))
    stats = handle.stats()
    assert flood.passed == stats.verdicts == stats.packets
    assert stats.verdict_errors == 0
    flood.check_counters("buffer")


def slow(packet: Packet) -> None:
    """A callback that takes several times as long as the next packet."""
    time.sleep(0.0002)
    packet.accept()


@pytest.mark.parametrize("full", ["queue", "buffer"])
@pytest.mark.parametrize("fail_open", [False, True], ids=["shut", "open"])
def test_slow_callback(loop: Loop, handle: Handle, full: str, fail_open: bool) -> None:
    """With a slow callback, all packets that it got have verdicts, the others are counted.

    With FAIL_OPEN nothing is lost.
    """
    flood = Flood(burst=10)
    flags = nfq.NFQA_CFG_F_FAIL_OPEN if fail_open else 0
    if full == "buffer":
        handle.rcvbuf = SMALL
    handle.create_queue(1, slow, mode=COPY, maxlen=10 if full == "queue" else 1024, flags=flags)
    with loop.feed(handle):
        with flood.running():
            loop.until(lambda: handle.stats().packets > 300)
        loop.until(settled(handle))
    stats = handle.stats()
    assert flood.sent > stats.packets == stats.verdicts
    assert (stats.verdict_errors, stats.defaulted, stats.orphaned) == (0, 0, 0)
    assert (stats.overruns > 0) == (full == "buffer")
    assert flood.passed == (flood.sent if fail_open else stats.packets)
    flood.check_counters(full)


def test_nothing_is_left(loop: Loop, handle: Handle, udp: UdpPair) -> None:
    """Feeding and leaving leave no descriptor behind, and the handle as it was."""
    handle.create_queue(1, accept, mode=COPY)
    with loop.feed(handle):
        loop.until(lambda: True)
    gc.collect()  # another test may have left a descriptor in a cycle
    gc.collect()  # what earlier tests have left must not go meanwhile
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with loop.feed(handle):
            udp.send(b"data")
            packets = handle.stats().packets
            loop.until(lambda: handle.stats().packets > packets)  # noqa: B023
    loop.until(lambda: True)
    assert set(os.listdir("/proc/self/fd")) == before
    assert handle.autoflush
    assert handle.on_held is None
    assert handle.on_close is None
    udp.send(b"data")
    assert handle.process(timeout=TIMEOUT) == 1
