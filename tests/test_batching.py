# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts travel together, equal ones as one batch verdict, and never more than were given.

A batch verdict is for all packets of a queue up to an id. Wherever it would be for one that has no
verdict yet, that packet would arrive too early: that it doesn't is what the tests on the real
kernel show. What the messages look like a test sees that plays the kernel.
"""

import asyncio
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from netns import (
    PORT,
    TIMEOUT,
    UdpPair,
    background,
    down,
    iptables,
    queue_rule,
    up,
    without_net_admin,
)
from played_kernel import (
    NLMSG_NOOP,
    PlayedKernel,
    SentVerdict,
    message,
    packet_message,
)
from queues import Handle, Packet, accept, data_of, netlink_socket, process_until
from statuses import visible

import libnetfilterqueue as nfq
from libnetfilterqueue import aio

COPY = nfq.NFQNL_COPY_PACKET
OTHER_PORT = 9997  # where datagrams come from that pass through queue 2

Callback = Callable[[Packet], None]


# What is sent


class Plan(NamedTuple):
    """Packets of queue 1 in the order of their receiving, what they get, and what is then sent.

    Verdicts: A accepts, M accepts with mark 5, N with mark 6, D drops, - gives none, K keeps the
    packet, ! raises an exception.
    """

    ids: list[int]
    gives: str
    sent: list[tuple[int, str, bool]]


PLANS = {
    "one": Plan([1], "A", [(1, "A", False)]),
    "run": Plan([1, 2, 3, 4], "AAAA", [(4, "A", True)]),
    "dropped": Plan([1, 2, 3], "DDD", [(3, "D", True)]),
    "marked": Plan([1, 2, 3], "MMM", [(3, "A", True)]),
    "defaults": Plan([1, 2, 3], "---", [(3, "D", True)]),
    "verdicts differ": Plan(
        [1, 2, 3, 4, 5], "AADDA", [(2, "A", True), (4, "D", True), (5, "A", False)]
    ),
    "marks differ": Plan([1, 2, 3, 4], "MMNN", [(2, "A", True), (4, "A", True)]),
    "with and without mark": Plan([1, 2, 3], "AMA", [(n, "A", False) for n in (1, 2, 3)]),
    "default between": Plan([1, 2, 3], "A-A", [(1, "A", False), (2, "D", False), (3, "A", False)]),
    "exception between": Plan(
        [1, 2, 3, 4], "AA!A", [(2, "A", True), (3, "D", False), (4, "A", False)]
    ),
    "kept first": Plan([1, 2, 3], "KAA", [(2, "A", False), (3, "A", False)]),
    "kept between": Plan([1, 2, 3, 4], "AKAA", [(1, "A", False), (3, "A", False), (4, "A", False)]),
    "kept last": Plan([1, 2, 3], "AAK", [(2, "A", True)]),
    "missing": Plan([1, 2, 4, 5], "AAAA", [(2, "A", True), (4, "A", False), (5, "A", False)]),
    "missing first": Plan([2, 3], "AA", [(2, "A", False), (3, "A", False)]),
    "late": Plan([2, 1, 3], "AAA", [(n, "A", False) for n in (2, 1, 3)]),
    "twice": Plan([1, 1, 2], "AAA", [(1, "A", False), (1, "A", False), (2, "A", False)]),
    "wrapping": Plan(
        [0xFFFFFFFE, 0xFFFFFFFF, 0, 1], "AAAA", [(n % 2**32, "A", False) for n in range(-2, 2)]
    ),
}


class GivenError(Exception):
    """What a callback of a plan raises."""


def raise_given(packet: Packet) -> None:
    raise GivenError(packet.id)


def giver(gives: str, kept: list[Packet]) -> Callback:
    """A callback that gives these verdicts, one after the other."""
    acts: dict[str, Callback] = {
        "A": lambda packet: packet.accept(),
        "M": lambda packet: packet.accept(5),
        "N": lambda packet: packet.accept(6),
        "D": lambda packet: packet.drop(),
        "-": lambda packet: None,
        "K": kept.append,
        "!": raise_given,
    }
    given = (acts[letter] for letter in gives)

    def callback(packet: Packet) -> None:
        next(given)(packet)

    return callback


def process_all(handle: Handle, raises: bool = False) -> None:
    """Processes what waits."""
    if raises:
        with pytest.raises(GivenError):
            handle.process()
    else:
        handle.process()


@pytest.mark.parametrize("name", PLANS)
def test_messages(name: str) -> None:
    """Runs of equal verdicts become one message where that is safe; all are sent together."""
    ids, gives, sent = PLANS[name]
    kept: list[Packet] = []
    verdicts = {"A": nfq.NF_ACCEPT, "D": nfq.NF_DROP}
    with PlayedKernel() as kernel:
        kernel.create_queue(1, giver(gives, kept))
        for packet_id in ids:
            kernel.socket.send(packet_message(packet_id))
        process_all(kernel.handle, raises="!" in gives)
        assert [verdict[:4] for verdict in kernel.verdicts()] == [
            (1, packet_id, verdicts[verdict], batch) for packet_id, verdict, batch in sent
        ]
        assert kernel.handle.stats().verdicts == len(ids) - len(kept)


def fast_enough(attempt: Callable[[], bool]) -> None:
    """Tries until it was not interrupted for so long that the 1 ms rule came in between."""
    assert any(attempt() for _ in range(50))


def test_64_packets_one_message(udp: UdpPair, handle: Handle) -> None:
    """64 packets cost one receiving and one sending system call, and all arrive."""
    handle.create_queue(1, accept, mode=COPY)
    data = [b"%d" % number for number in range(64)]

    def attempt() -> bool:
        before = handle.stats()
        udp.send(*data)
        assert handle.process() == 64
        after = handle.stats()
        assert after.verdicts - before.verdicts == 64
        assert after.receives - before.receives == 1
        assert udp.arrivals() == data
        return after.sends - before.sends == 1

    fast_enough(attempt)


def test_64_single_verdicts_one_message(udp: UdpPair, handle: Handle) -> None:
    """Verdicts that no batch can stand for are sent together all the same."""
    keeper = Keeper(b"kept")
    handle.create_queue(1, keeper, mode=COPY)
    udp.send(b"kept")
    handle.process()
    data = [b"%d" % number for number in range(64)]

    def attempt() -> bool:
        before = handle.stats().sends
        udp.send(*data)
        assert handle.process() == 64
        assert udp.arrivals() == data
        return handle.stats().sends - before == 1

    fast_enough(attempt)


def test_after_a_kept_packet(handle: Handle) -> None:
    """Once a kept packet has its verdict, there are batches again."""
    kept: list[Packet] = []
    with PlayedKernel() as kernel:
        kernel.create_queue(1, giver("AKAAAA", kept))
        for first in (1, 4):
            for packet_id in range(first, first + 3):
                kernel.socket.send(packet_message(packet_id))
            kernel.handle.process()
            while kept:
                kernel.verdicts()
                kept.pop().accept()
                assert kernel.verdicts() == [SentVerdict(1, 2, nfq.NF_ACCEPT, batch=False)]
        assert kernel.verdicts() == [SentVerdict(1, 6, nfq.NF_ACCEPT, batch=True)]


@pytest.mark.parametrize(
    ("numbers", "sent"),
    [
        ("1122", [(1, 2, True), (2, 2, True)]),
        ("1212", [(1, 1, False), (2, 1, False), (1, 2, False), (2, 2, False)]),
        ("11211", [(1, 2, True), (2, 1, False), (1, 4, True)]),
    ],
)
def test_messages_of_several_queues(numbers: str, sent: list[tuple[int, int, bool]]) -> None:
    """Each queue has its own runs, and their order among the queues stays."""
    with PlayedKernel() as kernel:
        ids = {"1": 0, "2": 0}
        for number in ids:
            kernel.create_queue(int(number), accept)
        for number in numbers:
            ids[number] += 1
            kernel.socket.send(packet_message(ids[number], number=int(number)))
        kernel.handle.process()
        assert kernel.verdicts() == [
            SentVerdict(number, packet_id, nfq.NF_ACCEPT, batch)
            for number, packet_id, batch in sent
        ]


# On the real kernel


class Keeper:
    """A callback that keeps packets with this data and accepts all others."""

    def __init__(self, *keep: bytes) -> None:
        self._keep = keep
        self.kept: dict[bytes, Packet] = {}

    def __call__(self, packet: Packet) -> None:
        if data_of(packet) in self._keep:
            self.kept[data_of(packet)] = packet
        else:
            packet.accept()


def send_through_queue_2(*payloads: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", OTHER_PORT))
        for payload in payloads:
            sock.sendto(payload, ("127.0.0.1", PORT))


DATA = [b"1", b"2", b"3", b"4", b"5"]


def without(*payloads: bytes) -> list[bytes]:
    return [payload for payload in DATA if payload not in payloads]


@pytest.mark.parametrize("keep", DATA)
@pytest.mark.parametrize("most", [1, 2, 64])
def test_kept(handle: Handle, udp: UdpPair, keep: bytes, most: int) -> None:
    """A kept packet stays until it gets its own verdict, wherever in a batch it came."""
    keeper = Keeper(keep)
    handle.create_queue(1, keeper, mode=COPY)
    udp.send(*DATA)
    while handle.process(max_packets=most):
        pass
    assert udp.arrivals() == without(keep)
    udp.send(b"6", b"7")
    handle.process()
    assert udp.arrivals() == [b"6", b"7"]
    keeper.kept[keep].accept()
    assert udp.arrivals() == [keep]
    assert handle.stats().verdict_errors == 0


def test_dropped_reference_between(handle: Handle, udp: UdpPair) -> None:
    """The default verdict of a packet that was kept and forgotten is for that packet alone."""
    keeper = Keeper(b"2", b"4")
    handle.create_queue(1, keeper, mode=COPY)
    udp.send(*DATA)
    handle.process()
    del keeper.kept[b"2"]
    udp.send(b"6", b"7")
    handle.process()
    assert udp.arrivals() == [b"1", b"3", b"5", b"6", b"7"]
    keeper.kept[b"4"].accept()
    assert udp.arrivals() == [b"4"]
    assert (handle.stats().defaulted, handle.stats().verdict_errors) == (1, 0)


@pytest.mark.parametrize("before", [0, 2])
def test_in_the_users_hands(handle: Handle, udp: UdpPair, before: int) -> None:
    """A message that the user's own recv has taken stays a packet without a verdict."""
    handle.create_queue(1, accept, mode=COPY)
    with netlink_socket(handle) as sock:
        udp.send(*DATA)
        if before:
            handle.process(max_packets=before)
        first, second = sock.recv(4096), sock.recv(4096)
        handle.process()
        assert udp.arrivals() == without(*DATA[before : before + 2])
        for data, taken in ((DATA[before + 1], second), (DATA[before], first)):
            udp.send(b"6", b"7")
            handle.process()
            assert udp.arrivals() == [b"6", b"7"]
            assert handle.handle_packet(taken) == 1
            assert udp.arrivals() == [data]
    assert handle.stats().verdict_errors == 0


def test_taken_before_the_descriptor_was_asked_for(handle: Handle, udp: UdpPair) -> None:
    """Batches before somebody else reads don't make later ones safe."""
    handle.create_queue(1, accept, mode=COPY)
    udp.send(*DATA)
    handle.process()
    assert udp.arrivals() == DATA
    udp.send(*DATA)
    with netlink_socket(handle) as sock:
        taken = sock.recv(4096)
    handle.process()
    assert udp.arrivals() == without(b"1")
    handle.handle_packet(taken)
    assert udp.arrivals() == [b"1"]


class Holding:
    """A dispatch that has received "go" of queue 2 and then 1, 2 and 3 of queue 1, none of which it
    has dispatched while the given function runs, which makes 4 and 5 follow."""

    def __init__(self, handle: Handle, udp: UdpPair, meanwhile: Callable[[], None]) -> None:
        queue_rule(2, f"-p udp --sport {OTHER_PORT}")
        self.queue = handle.create_queue(1, accept, mode=COPY)
        handle.create_queue(2, self._go, mode=COPY)
        self._meanwhile = meanwhile
        send_through_queue_2(b"go")
        udp.send(b"1", b"2", b"3")

    def _go(self, packet: Packet) -> None:
        self._meanwhile()
        packet.drop()


def check_holding(handle: Handle, udp: UdpPair, early: list[list[bytes]]) -> None:
    """Only the packets that were dispatched meanwhile arrived meanwhile."""
    assert early == [[b"4", b"5"]]
    assert udp.arrivals() == [b"1", b"2", b"3"]
    udp.send(*DATA)
    assert handle.process() == 5
    assert udp.arrivals() == DATA
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0


def test_in_an_outer_dispatchs_hands(handle: Handle, udp: UdpPair) -> None:
    """A nested process() does not release what the outer one has received."""
    early: list[list[bytes]] = []

    def meanwhile() -> None:
        udp.send(b"4", b"5")
        assert handle.process() == 2
        early.append(udp.arrivals())

    Holding(handle, udp, meanwhile)
    handle.process()
    check_holding(handle, udp, early)
    assert batches_return(handle, udp, 10)


def test_in_another_threads_hands(handle: Handle, udp: UdpPair) -> None:
    """A process() in another thread does not release what this one has received."""
    holds, done = threading.Event(), threading.Event()

    def meanwhile() -> None:
        holds.set()
        assert done.wait(TIMEOUT)

    Holding(handle, udp, meanwhile)
    holding = background(handle.process)
    assert holds.wait(TIMEOUT)
    udp.send(b"4", b"5")
    assert handle.process() == 2
    early = [udp.arrivals()]
    done.set()
    assert holding.result(TIMEOUT) == 4
    check_holding(handle, udp, early)
    assert batches_return(handle, udp, 10)


@pytest.mark.parametrize("nested", ["process", "handle_packet"])
def test_set_aside_meanwhile(handle: Handle, udp: UdpPair, nested: str) -> None:
    """Dispatching what was set aside meanwhile does not release what the outer dispatch holds."""
    early: list[list[bytes]] = []

    def meanwhile() -> None:
        udp.send(b"4", b"5")
        holding.queue.set_mode(COPY, 0xFFFF)
        if nested == "process":
            assert handle.process() == 2
        else:
            assert handle.handle_packet(message(NLMSG_NOOP)) == 2
        early.append(udp.arrivals())

    holding = Holding(handle, udp, meanwhile)
    handle.process()
    check_holding(handle, udp, early)


def test_one_set_aside_and_more_read(handle: Handle, udp: UdpPair) -> None:
    """A packet that was set aside, with others behind it, releases none that a dispatch holds."""
    early: list[list[bytes]] = []

    def meanwhile() -> None:
        udp.send(b"4")
        holding.queue.set_mode(COPY, 0xFFFF)
        assert handle.handle_packet(message(NLMSG_NOOP)) == 1
        udp.send(b"5", b"6")
        assert handle.process() == 2
        early.append(udp.arrivals())

    holding = Holding(handle, udp, meanwhile)
    handle.process()
    assert early == [[b"4", b"5", b"6"]]
    assert udp.arrivals() == [b"1", b"2", b"3"]


def test_half_of_what_an_outer_dispatch_holds(handle: Handle, udp: UdpPair) -> None:
    """An outer dispatch that has dispatched a part of its packets still holds the rest."""
    queue_rule(2, f"-p udp --sport {OTHER_PORT}")
    early: list[list[bytes]] = []

    def nest(packet: Packet) -> None:
        first = len(early) * 2 + 3
        udp.send(b"%d" % first, b"%d" % (first + 1))
        assert handle.process() == 2
        early.append(udp.arrivals())
        packet.drop()

    handle.create_queue(1, accept, mode=COPY)
    handle.create_queue(2, nest, mode=COPY)
    for number in (b"1", b"2"):
        send_through_queue_2(b"go")
        udp.send(number)
    handle.process()
    assert b"2" not in early[0] + early[1]
    assert udp.arrivals()[-1] == b"2"
    assert handle.stats().verdict_errors == 0


def test_set_aside_by_another_thread(handle: Handle, udp: UdpPair) -> None:
    """Newer packets do not release what another thread's configuration call has set aside.

    If it were, its own verdict would be refused later. Which thread is first is chance, often.
    """
    queue = handle.create_queue(1, accept, mode=COPY)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            handle.process(timeout=0.01)

    serving = background(serve)
    for _ in range(1000):
        udp.send(b"1")
        queue.set_mode(COPY, 0xFFFF)
        udp.send(b"2", b"3")
        assert sorted(udp.recv() for _ in range(3)) == [b"1", b"2", b"3"]
    stop.set()
    serving.result(TIMEOUT)
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0


def test_refused_drop(handle: Handle, udp: UdpPair) -> None:
    """A packet whose verdict the kernel refused doesn't get a later one's by a batch.

    Without the capability verdicts are refused; a program may have it again later.
    """
    handle.create_queue(1, giver("DAA", []), mode=COPY)
    udp.send(b"1")
    with without_net_admin():
        assert handle.process() == 1
    udp.send(b"2", b"3")
    assert handle.process() == 2
    assert udp.arrivals() == [b"2", b"3"]
    assert handle.stats().verdict_errors == 1


# Kept packets


ORDERS = {
    "in order": ([1, 2, 3, 4], [(4, True)]),
    "first two": ([1, 2], [(2, True)]),
    "one left out": ([1, 3, 4], [(1, False), (3, False), (4, False)]),
    "backwards": ([4, 3, 2, 1], [(4, False), (3, False), (2, False), (1, False)]),
    "late one in the middle": ([1, 3, 2, 4], [(1, False), (3, False), (2, False), (4, False)]),
}


@pytest.mark.parametrize("order", ORDERS)
def test_kept_packets_in_order(order: str) -> None:
    """Kept packets that are answered in their order share a batch verdict, and only those."""
    ids, sent = ORDERS[order]
    with PlayedKernel() as kernel:
        packets: list[Packet] = []
        kernel.create_queue(1, packets.append)
        for number in range(1, 5):
            kernel.handle.handle_packet(packet_message(number))
        kernel.handle.autoflush = False
        for number in ids:
            packets[number - 1].accept()
        kernel.handle.flush()
        assert [(verdict.packet_id, verdict.batch) for verdict in kernel.verdicts()] == sent


def test_kept_packets_answered_in_order(handle: Handle, udp: UdpPair) -> None:
    """Each kept packet's verdict is executed when it is given, and none before."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY)
    udp.send(*[b"%d" % number for number in range(1, 9)])
    process_until(handle, lambda: len(packets) == 8)
    handle.autoflush = False
    for first, last in ((0, 3), (3, 4), (4, 8)):
        for packet in packets[first:last]:
            packet.accept()
        handle.flush()
        assert udp.arrivals() == [b"%d" % number for number in range(first + 1, last + 1)]
    handle.process()
    assert handle.stats().verdict_errors == 0


# Lost messages


def overflow(handle: Handle, udp: UdpPair) -> list[bytes]:
    """Sends more than the receive buffer takes, processes what came through, and returns it."""
    handle.rcvbuf = 100_000  # whatever the default of this system is
    before = handle.stats().overruns
    udp.send(*[b"%03d" % number + bytes(30_000) for number in range(100)])
    while handle.process(timeout=0.01):
        pass
    assert handle.stats().overruns > before
    return [data[:3] for data in udp.arrivals()]


def refusals(handle: Handle, udp: UdpPair, count: int) -> int:
    """How many refusals the verdicts cause of so many packets that the kernel has forgotten.

    It reports one for each message: so many messages they were.
    """
    before = handle.stats().verdict_errors
    udp.send(*[b"forgotten"] * count)
    down("lo")
    assert handle.process() == count
    up("lo")
    assert handle.process() == 0
    return handle.stats().verdict_errors - before


@pytest.fixture
def incoming() -> Iterator[UdpPair]:
    """Datagrams that are queued on their way in, where no send buffer limits their number."""
    queue_rule(1, chain="PREROUTING")
    with UdpPair() as pair:
        yield pair


def test_batches_without_losses(handle: Handle, incoming: UdpPair) -> None:
    """Runs of verdicts are batches, on the real kernel too."""
    handle.create_queue(1, accept, mode=COPY)
    assert [refusals(handle, incoming, 10), refusals(handle, incoming, 1)] == [1, 1]


def test_kept_packet_without_losses(handle: Handle, incoming: UdpPair) -> None:
    """While one packet is kept the others have verdicts of their own."""
    keeper = Keeper(b"kept")
    handle.create_queue(1, keeper, mode=COPY)
    incoming.send(b"kept")
    handle.process()
    assert refusals(handle, incoming, 10) == 10


def test_losses_while_alone(handle: Handle, incoming: UdpPair) -> None:
    """Nobody else can have what the receive buffer did not take: batches are still safe."""
    handle.create_queue(1, accept, mode=COPY)
    assert 0 < len(overflow(handle, incoming)) < 100
    assert refusals(handle, incoming, 10) == 1
    incoming.send(*DATA)
    handle.process()
    assert incoming.arrivals() == DATA


def test_losses_with_another_reader(handle: Handle, incoming: UdpPair) -> None:
    """Once others may read, a missing id may be in their hands: verdicts are single."""
    handle.create_queue(1, accept, mode=COPY)
    with netlink_socket(handle) as sock:
        incoming.send(b"taken")
        taken = sock.recv(4096)
        assert b"tak" not in overflow(handle, incoming)
        incoming.send(*DATA)
        handle.process()
        assert incoming.arrivals() == DATA
        assert handle.handle_packet(taken) == 1
        assert incoming.arrivals() == [b"taken"]
        assert refusals(handle, incoming, 10) == 10


def test_taken_among_losses(handle: Handle, incoming: UdpPair) -> None:
    """A packet that another reader took in the middle of a flood waits for its own verdict."""
    handle.create_queue(1, accept, mode=COPY)
    with netlink_socket(handle) as sock:
        overflow(handle, incoming)
        incoming.send(*DATA)
        handle.process(max_packets=2)
        taken = sock.recv(4096)
        assert 0 < len(overflow(handle, incoming)) < 100
        incoming.send(b"after")
        handle.process()
        assert incoming.arrivals() == [b"after"]
        assert handle.handle_packet(taken) == 1
        assert incoming.arrivals() == [b"3"]


def test_kept_among_losses(handle: Handle, incoming: UdpPair) -> None:
    """A packet that was kept before messages got lost stays until it gets its own verdict."""
    keeper = Keeper(b"kept")
    handle.create_queue(1, keeper, mode=COPY)
    incoming.send(*DATA, b"kept")
    handle.process()
    assert incoming.arrivals() == DATA
    assert 0 < len(overflow(handle, incoming)) < 100
    incoming.send(*DATA)
    handle.process()
    assert incoming.arrivals() == DATA
    keeper.kept[b"kept"].accept()
    assert incoming.arrivals() == [b"kept"]


def wait_in_select(handle: Handle) -> None:
    select.select([handle], [], [], 0)


def ask_for_the_descriptor(handle: Handle) -> None:
    handle.fd()


def read_by_asyncio(handle: Handle) -> None:
    async def body() -> None:
        with aio.attach(handle):
            await asyncio.sleep(0)

    asyncio.run(body())


EXPOSING = [wait_in_select, ask_for_the_descriptor, read_by_asyncio]


def batches_return(handle: Handle, udp: UdpPair, most: int) -> bool:
    """Whether runs of verdicts are batches again, after a few packets more."""
    return any(refusals(handle, udp, most) == 1 for _ in range(10))


@pytest.mark.parametrize("expose", EXPOSING)
@pytest.mark.parametrize("most", [10, 64])
def test_losses_on_a_descriptor_that_others_know(
    handle: Handle, incoming: UdpPair, expose: Callable[[Handle], None], most: int
) -> None:
    """Batches come back after an overrun though the descriptor was asked for."""
    expose(handle)
    handle.create_queue(1, accept)
    assert refusals(handle, incoming, most) == 1
    for _ in range(2):
        assert 0 < len(overflow(handle, incoming)) < 100
        assert batches_return(handle, incoming, most) == (visible() or expose is read_by_asyncio)


def test_losses_of_two_queues(handle: Handle, incoming: UdpPair) -> None:
    """Batches of a queue come back though another one has lost messages too, and shows no gap."""
    queue_rule(2, match=f"-p udp --sport {OTHER_PORT}", chain="PREROUTING")
    wait_in_select(handle)
    for number in (1, 2):
        handle.create_queue(number, accept, rcvbuf=100_000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", OTHER_PORT))
        sender.connect(("127.0.0.1", PORT))
        for _ in range(100):
            sender.send(bytes(30_000))
    assert 0 < len(overflow(handle, incoming)) < 100
    assert batches_return(handle, incoming, 10) == visible()


def test_reports_among_losses(handle: Handle, incoming: UdpPair) -> None:
    """What another thread has received waits for its own verdict, whatever else found no room.

    Reports of refused verdicts are dropped like packets: here far more of them than are missing.
    """
    inside, go = threading.Event(), threading.Event()

    class Waiting:
        def __del__(self) -> None:
            inside.set()
            go.wait(TIMEOUT)

    def callback(packet: Packet) -> object:
        data = data_of(packet)
        if data == b"kept":
            kept.append(packet)
        elif data.startswith(b"held"):
            packet.drop()
            return Waiting() if data == b"held 0" else None
        else:
            packet.accept()
        return None

    kept: list[Packet] = []
    handle.autoflush = False
    wait_in_select(handle)
    handle.create_queue(1, callback, rcvbuf=1 << 20)  # type: ignore[arg-type]
    incoming.send(*[b"kept"] * 200)
    process_until(handle, lambda: len(kept) == 200)
    incoming.send(*[b"held %d" % number for number in range(10)])
    other = background(handle.process, 64)
    assert inside.wait(TIMEOUT)
    down("lo")  # the kernel forgets them all; what is held may as well be new
    up("lo")
    handle.rcvbuf = 2304
    incoming.send(*[b"filling"] * 60)
    for packet in reversed(kept):
        packet.accept()
    handle.flush()
    handle.rcvbuf = 1 << 20
    while handle.process(timeout=0.01):
        pass
    assert refusals(handle, incoming, 10) == 10
    go.set()
    assert other.result(TIMEOUT) == 10
    kept.clear()


def test_taken_before_losses(handle: Handle, incoming: UdpPair) -> None:
    """A packet that another reader took is not mistaken for one of those that were lost."""
    wait_in_select(handle)
    handle.create_queue(1, accept)
    with netlink_socket(handle) as sock:
        incoming.send(b"taken")
        taken = sock.recv(4096)
        for _ in range(3):
            assert 0 < len(overflow(handle, incoming)) < 100
        for _ in range(3):
            incoming.send(*DATA)
            handle.process()
            assert incoming.arrivals() == DATA
        assert handle.handle_packet(taken) == 1
        assert incoming.arrivals() == [b"taken"]


# What differs


@pytest.mark.parametrize(
    ("gives", "arrivals"),
    [
        ("AADDA", [b"1", b"2", b"5"]),
        ("DADAD", [b"2", b"4"]),
        ("MMANN", [b"3", b"4", b"5"]),
        ("NMNMN", [b"1", b"3", b"5"]),
        ("A--AA", [b"1", b"4", b"5"]),
        ("AA!AA", [b"1", b"2", b"4", b"5"]),
        ("K!AAA", [b"3", b"4", b"5"]),
        ("-----", []),
    ],
)
def test_each_its_own(handle: Handle, udp: UdpPair, gives: str, arrivals: list[bytes]) -> None:
    """Each packet gets its own verdict and mark. A rule drops those marked 5."""
    iptables("-t filter -A OUTPUT -m mark --mark 5 -j DROP")
    kept: list[Packet] = []
    handle.create_queue(1, giver(gives, kept), mode=COPY)
    udp.send(*DATA)
    process_all(handle, raises="!" in gives)
    assert udp.arrivals() == arrivals
    for packet in kept:
        packet.accept()
        assert udp.arrivals() == [data_of(packet)]
    assert handle.stats().verdict_errors == 0
    assert handle.stats().defaulted == gives.count("-") + gives.count("!")


def test_default_accepts_between(handle: Handle, udp: UdpPair) -> None:
    """Default verdicts join a run of the same ones, but never for a packet that is kept."""
    kept: list[Packet] = []
    handle.create_queue(1, giver("A-K-A", kept), mode=COPY, default_verdict=nfq.NF_ACCEPT)
    udp.send(*DATA)
    handle.process()
    assert udp.arrivals() == without(b"3")
    kept.clear()
    assert udp.arrivals() == [b"3"]


def test_queues_interleaved(handle: Handle, udp: UdpPair) -> None:
    """A packet kept in one queue is not released by batches of another, nor holds them up."""
    queue_rule(2, f"-p udp --sport {OTHER_PORT}")
    keeper = Keeper(b"B")
    handle.create_queue(1, accept, mode=COPY)
    handle.create_queue(2, keeper, mode=COPY)
    for one, two in ((b"1", b"A"), (b"2", b"B"), (b"3", b"C")):
        udp.send(one)
        send_through_queue_2(two)
    assert handle.process() == 6
    assert udp.arrivals() == [b"1", b"A", b"2", b"3", b"C"]
    keeper.kept[b"B"].accept()
    assert udp.arrivals() == [b"B"]


@pytest.mark.parametrize("default", [nfq.NF_DROP, nfq.NF_ACCEPT])
def test_destroyed_between(handle: Handle, udp: UdpPair, default: nfq.Verdict) -> None:
    """Destroying in the middle: what was given before stands, the rest gets the default."""

    def callback(packet: Packet) -> None:
        packet.accept() if packet.id in (1, 3) else packet.drop()
        if packet.id == 3:
            packet.queue.destroy()

    handle.create_queue(1, callback, mode=COPY, default_verdict=default)
    udp.send(*DATA)
    assert handle.process() == 3
    rest = [b"4", b"5"] if default == nfq.NF_ACCEPT else []
    assert udp.arrivals() == [b"1", b"3", *rest]


def test_bound_anew_between(handle: Handle, udp: UdpPair) -> None:
    """A new binding's batches start again: a packet that it keeps is not released by old ids."""
    keeper = Keeper(b"new 1")

    def callback(packet: Packet) -> None:
        packet.accept()
        if packet.id == 3:
            packet.queue.destroy()
            handle.create_queue(1, keeper, mode=COPY)
            udp.send(b"new 1", b"new 2")

    handle.create_queue(1, callback, mode=COPY)
    udp.send(*DATA)
    process_until(handle, lambda: keeper.kept)
    assert handle.process() == 0
    assert udp.arrivals() == [b"1", b"2", b"3", b"new 2"]
    keeper.kept[b"new 1"].accept()
    assert udp.arrivals() == [b"new 1"]
