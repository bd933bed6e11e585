# SPDX-License-Identifier: GPL-2.0-or-later
"""set_verdict_batch: one verdict for all that wait up to an id."""

import struct
from collections.abc import Callable

import pytest
from netns import TIMEOUT, UdpPair, background, down, queue_rule, up, without_net_admin
from played_kernel import (
    MSG_VERDICT_BATCH,
    NFQA_MARK,
    NFQA_PRIORITY,
    NFQA_VERDICT_HDR,
    PlayedKernel,
    attributes_of,
    packet_message,
)
from queues import Handle, Packet, Queue, netlink_socket, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET


def keep(handle: Handle, udp: UdpPair, count: int) -> tuple[Queue, list[Packet]]:
    """A queue, and that many packets which wait in it; their data are their ids."""
    packets: list[Packet] = []
    queue = handle.create_queue(1, packets.append, mode=COPY)
    udp.send(*[b"%d" % number for number in range(1, count + 1)])
    process_until(handle, lambda: len(packets) == count)
    return queue, packets


def test_up_to_an_id(handle: Handle, udp: UdpPair) -> None:
    """Packets up to the id go, in one system call and in their order; the others wait."""
    queue, packets = keep(handle, udp, 5)
    before = handle.stats()
    queue.set_verdict_batch(nfq.NF_ACCEPT, 3)
    assert udp.arrivals() == [b"1", b"2", b"3"]
    after = handle.stats()
    assert (after.verdicts - before.verdicts, after.sends - before.sends) == (3, 1)
    assert [packet.verdict for packet in packets] == [nfq.NF_ACCEPT] * 3 + [None] * 2
    packets[4].accept()
    packets[3].accept()
    assert udp.arrivals() == [b"5", b"4"]


def test_they_count_as_executed(handle: Handle, udp: UdpPair) -> None:
    """A further verdict on a covered packet is a VerdictError; another batch skips it."""
    queue, packets = keep(handle, udp, 3)
    queue.set_verdict_batch(nfq.NF_DROP, 2)
    with pytest.raises(nfq.VerdictError, match=r"drop\(\): packet 2 of queue 1 has had its"):
        packets[1].drop()
    queue.set_verdict_batch(nfq.NF_ACCEPT, 3)
    assert udp.arrivals() == [b"3"]
    verdicts = [packet.verdict for packet in packets]
    assert verdicts == [nfq.NF_DROP, nfq.NF_DROP, nfq.NF_ACCEPT]
    packets.clear()
    handle.process()
    stats = handle.stats()
    assert (stats.verdicts, stats.defaulted, stats.verdict_errors) == (3, 0, 0)


def test_some_answered_before(handle: Handle, udp: UdpPair) -> None:
    """Packets that have had their own verdict keep it."""
    queue, packets = keep(handle, udp, 4)
    packets[1].drop()
    queue.set_verdict_batch(nfq.NF_ACCEPT, 4)
    assert udp.arrivals() == [b"1", b"3", b"4"]
    assert packets[1].verdict is nfq.NF_DROP
    assert handle.stats().verdicts == 4


def test_dropped_packets(handle: Handle, udp: UdpPair) -> None:
    """A packet that is dropped before has the default; one that is dropped after owes nothing."""
    queue, packets = keep(handle, udp, 3)
    del packets[0]
    queue.set_verdict_batch(nfq.NF_ACCEPT, 3)
    packets.clear()
    assert udp.arrivals() == [b"2", b"3"]
    handle.process()
    stats = handle.stats()
    assert (stats.verdicts, stats.defaulted, stats.verdict_errors) == (3, 1, 0)


def test_nothing_waits(handle: Handle, udp: UdpPair) -> None:
    """Nothing is sent where no packet waits up to the id."""
    queue, packets = keep(handle, udp, 2)
    packets[0].accept()
    before = handle.stats().sends
    queue.set_verdict_batch(nfq.NF_ACCEPT, 1)
    queue.set_verdict_batch(nfq.NF_ACCEPT, 0)
    handle.create_queue(2, lambda _: None).set_verdict_batch(nfq.NF_ACCEPT, 100)
    handle.process()
    assert handle.stats().sends == before
    assert handle.stats().verdict_errors == 0
    assert udp.arrivals() == [b"1"]


def test_an_id_to_come(handle: Handle, udp: UdpPair) -> None:
    """Packets that were not dispatched yet get verdicts of their own, whatever the id."""
    queue, packets = keep(handle, udp, 2)
    udp.send(b"3")
    queue.set_verdict_batch(nfq.NF_ACCEPT, 100)
    udp.send(b"4")
    assert udp.arrivals() == [b"1", b"2"]
    process_until(handle, lambda: len(packets) == 4)
    packets[3].accept()
    packets[2].drop()
    assert udp.arrivals() == [b"4"]
    handle.process()
    assert handle.stats().verdict_errors == 0


def test_inside_a_callback(handle: Handle, udp: UdpPair) -> None:
    """In a callback it covers earlier packets and the callback's own; it is sent at once."""
    packets: list[Packet] = []
    arrived: list[bytes] = []

    def callback(packet: Packet) -> None:
        packets.append(packet)
        packet.drop()
        if packet.id == 3:
            packet.queue.set_verdict_batch(nfq.NF_ACCEPT, 3)
            arrived.extend(udp.arrivals())
            with pytest.raises(nfq.VerdictError):
                packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    udp.send(b"1", b"2", b"3", b"4")
    process_until(handle, lambda: len(packets) == 4)
    assert arrived == [b"3"]
    assert udp.arrivals() == []
    assert [packet.verdict for packet in packets] == [0, 0, 1, 0]
    handle.process()
    assert (handle.stats().verdicts, handle.stats().verdict_errors) == (4, 0)


def test_the_verdict_of_a_running_callback(handle: Handle, udp: UdpPair) -> None:
    """What a callback recorded for a packet that a batch verdict covers is void, content too."""

    def callback(packet: Packet) -> None:
        packet.accept(payload=b"never sent")
        background(packet.queue.set_verdict_batch, nfq.NF_ACCEPT, packet.id).result(TIMEOUT)

    handle.create_queue(1, callback, mode=COPY)
    udp.send(b"data")
    handle.process(timeout=None)
    assert udp.arrivals() == [b"data"]


def test_autoflush(handle: Handle, udp: UdpPair) -> None:
    """Without autoflush a batch verdict is held back, in the order that verdicts were given."""
    queue, packets = keep(handle, udp, 4)
    handle.autoflush = False
    packets[3].accept()
    queue.set_verdict_batch(nfq.NF_ACCEPT, 2)
    packets[2].accept()
    assert udp.arrivals() == []
    handle.flush()
    assert udp.arrivals() == [b"4", b"1", b"2", b"3"]


def test_batches_go_on_after_it(handle: Handle, udp: UdpPair) -> None:
    """Once it has answered all that waited, verdicts travel as batch verdicts again."""
    queue, packets = keep(handle, udp, 3)
    queue.set_verdict_batch(nfq.NF_ACCEPT, 3)
    handle.flush()
    before = handle.stats().sends
    packets.clear()
    udp.send(*[b"more"] * 5)
    assert handle.process() == 5
    packets.clear()
    assert handle.stats().sends > before
    assert handle.stats().verdicts == 8


def test_requeue_and_mark(handle: Handle) -> None:
    """The verdict may pass them on; mark and priority go with it."""
    queue_rule(1)
    packets: list[Packet] = []
    passed: list[tuple[int, int]] = []
    queue = handle.create_queue(1, packets.append, mode=COPY)
    handle.create_queue(2, lambda packet: passed.append((packet.mark, packet.priority)), mode=COPY)
    with UdpPair() as udp:
        udp.send(b"1", b"2")
        process_until(handle, lambda: len(packets) == 2)
        queue.set_verdict_batch(nfq.NF_QUEUE_NR(2), 2, 7, priority=8)
        process_until(handle, lambda: len(passed) == 2)
    assert passed == [(7, 8), (7, 8)]
    assert packets[0].verdict == nfq.NF_QUEUE_NR(2)


def test_message() -> None:
    """A batch verdict is one message with what is named, and NF_DROP for NF_STOLEN."""
    with PlayedKernel() as kernel:
        packets: list[Packet] = []
        queue = kernel.create_queue(1, packets.append)
        for number in (0xFFFFFFFE, 0xFFFFFFFF, 0, 1):  # ids wrap
            kernel.handle.handle_packet(packet_message(number))
        queue.set_verdict_batch(nfq.NF_STOLEN, 0, mark=0x01020304, priority=0x05060708)
        (message,) = kernel.received()
        assert struct.unpack_from("=H", message, 4) == (MSG_VERDICT_BATCH,)
        assert attributes_of(message) == {
            NFQA_VERDICT_HDR: struct.pack("!II", nfq.NF_DROP, 0),
            NFQA_MARK: b"\1\2\3\4",
            NFQA_PRIORITY: b"\5\6\7\x08",
        }
        assert [packet.verdict for packet in packets] == [nfq.NF_STOLEN] * 3 + [None]


def test_packets_in_other_hands(handle: Handle, udp: UdpPair) -> None:
    """A packet with such an id that another reader holds has its verdict when it is dispatched."""
    packets: list[Packet] = []
    queue = handle.create_queue(1, packets.append, mode=COPY)
    udp.send(b"1", b"2")
    with netlink_socket(handle) as sock:
        first, second = sock.recv(4096), sock.recv(4096)
    handle.handle_packet(second)
    queue.set_verdict_batch(nfq.NF_ACCEPT, 2)
    assert udp.arrivals() == [b"1", b"2"]
    handle.handle_packet(first)
    assert [packet.id for packet in packets] == [2, 1]
    assert packets[1].verdict is nfq.NF_ACCEPT
    with pytest.raises(nfq.VerdictError):
        packets[1].drop()
    handle.process()
    stats = handle.stats()
    assert (stats.verdicts, stats.defaulted, stats.verdict_errors) == (2, 0, 0)


@pytest.mark.parametrize(
    "before", [Queue.__repr__, lambda queue: queue.set_maxlen(100)], ids=["none", "one"]
)
def test_packets_in_hand_whose_queue_goes(
    handle: Handle, udp: UdpPair, before: Callable[[Queue], None]
) -> None:
    """A packet with such an id that an outer call holds has it, though its queue is destroyed then.

    The default verdict, which others get, would accept it. One may have been set aside before.
    """
    ids: list[int] = []

    def callback(packet: Packet) -> None:
        ids.append(packet.id)
        if packet.id == 2:
            assert handle.process(2) == 2  # the outer call holds the third one
        elif packet.id == 5:
            before(queue)
            queue.set_verdict_batch(nfq.NF_DROP, 3)
            queue.destroy()

    queue = handle.create_queue(1, callback, mode=COPY, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"1", b"2", b"3", b"4", b"5", b"6")
    assert handle.process(1) == 1
    assert handle.process(2) == 1
    assert ids == [1, 2, 4, 5]
    assert udp.arrivals() == [b"1", b"4", b"5", b"6"]


def test_refusal_in_hand(handle: Handle, udp: UdpPair) -> None:
    """No batch verdict releases a packet whose refused verdict is reported in a message in hand."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        if packet.id == 1:
            kept.append(packet)
        elif packet.id == 2:
            queue.set_verdict_batch(nfq.NF_ACCEPT, 2)
        else:
            packet.accept()

    queue = handle.create_queue(1, callback, mode=COPY)
    udp.send(b"1")
    assert handle.process() == 1
    udp.send(b"2")
    with without_net_admin():
        kept[0].drop()
    udp.send(b"3")
    assert handle.process() == 2
    assert udp.arrivals() == [b"2", b"3"]
    assert handle.stats().verdict_errors == 1


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_lost_report_of_a_refusal(handle: Handle, udp: UdpPair, calls: int) -> None:
    """Nor if the report found no room, whoever finds the buffer empty then, and how often."""
    packets: list[Packet] = []
    queue = handle.create_queue(1, packets.append, mode=COPY)
    handle.rcvbuf = 0  # as small as it can be
    udp.send(b"dropped")
    assert handle.process() == 1
    udp.send(*[bytes(300)] * 40)

    def drop() -> None:
        with without_net_admin():
            packets[0].drop()
            for _ in range(calls):
                handle.process()

    background(drop).result(TIMEOUT)
    for _ in range(2 - calls):
        handle.process()
    assert handle.stats().overruns > 0
    assert len(packets) > 1
    queue.set_verdict_batch(nfq.NF_ACCEPT, packets[-1].id)
    handle.process()
    assert udp.arrivals() == [bytes(300)] * (len(packets) - 1)


def test_heard_refusal(handle: Handle, udp: UdpPair) -> None:
    """Once a refusal is dispatched that concerns no other packet, all is as it was before."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        if packet.id <= 2:
            kept.append(packet)
        elif packet.id == 3:
            assert handle.process(1) == 1  # the outer call holds the fourth one
        elif packet.id == 5:
            queue.set_verdict_batch(nfq.NF_DROP, 4)
            queue.destroy()

    queue = handle.create_queue(1, callback, mode=COPY, default_verdict=nfq.NF_ACCEPT)
    udp.send(b"1")
    assert handle.process() == 1
    down("lo")  # at which the kernel drops what waits
    up("lo")
    udp.send(b"2")
    assert handle.process() == 1
    kept[0].accept()
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 1
    kept[1].accept()
    udp.send(b"3", b"4", b"5")
    assert handle.process(2) == 1
    assert udp.arrivals() == [b"2", b"5"]


def test_ids_far_behind_it() -> None:
    """Once ids have come half round, none of them counts as covered."""
    with PlayedKernel() as kernel:
        packets: list[Packet] = []
        queue = kernel.create_queue(1, packets.append)
        kernel.handle.handle_packet(packet_message(1))
        queue.set_verdict_batch(nfq.NF_ACCEPT, 1)
        for number in (0x4000_0000, 0x8000_0000, 0xC000_0000):
            kernel.handle.handle_packet(packet_message(number))
        assert [packet.verdict for packet in packets] == [nfq.NF_ACCEPT, None, None, None]


def test_destroyed_queue(handle: Handle, udp: UdpPair) -> None:
    """A destroyed queue takes none; its packets have had the default."""
    queue, packets = keep(handle, udp, 1)
    queue.destroy()
    with pytest.raises(nfq.ClosedError, match=r"set_verdict_batch\(\): queue 1 is destroyed"):
        queue.set_verdict_batch(nfq.NF_ACCEPT, 1)
    assert packets[0].verdict is nfq.NF_DROP


@pytest.mark.parametrize("threads", [4])
def test_from_many_threads(handle: Handle, threads: int) -> None:
    """Threads that give single and batch verdicts at once: each packet gets exactly one."""
    queue_rule(1, chain="PREROUTING")
    with UdpPair() as udp:
        queue, packets = keep(handle, udp, 200)
        accepted: list[int] = []

        def give(part: list[Packet]) -> None:
            for packet in part:
                try:
                    packet.drop()
                    accepted.append(packet.id)
                except nfq.VerdictError:
                    assert packet.verdict is nfq.NF_ACCEPT

        def give_batches() -> None:
            for up_to in range(10, 201, 10):
                queue.set_verdict_batch(nfq.NF_ACCEPT, up_to)

        futures = [background(give, packets[first::threads]) for first in range(threads)]
        futures.append(background(give_batches))
        for future in futures:
            future.result(TIMEOUT)
        arrived = udp.arrivals()
    dropped = [packet.id for packet in packets if packet.verdict is nfq.NF_DROP]
    assert sorted(accepted) == dropped
    assert len(arrived) == 200 - len(dropped)
    handle.process()
    assert (handle.stats().verdicts, handle.stats().verdict_errors) == (200, 0)
