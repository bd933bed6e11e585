# SPDX-License-Identifier: GPL-2.0-or-later
"""create_queue() on an adopted descriptor takes over a queue that another process has bound."""

import contextlib
import ctypes
import errno
import gc
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from netns import (
    CAP_SYS_ADMIN,
    PORT,
    TIMEOUT,
    Namespace,
    UdpPair,
    background,
    iptables,
    queue_rule,
    short_turns,
    without_capability,
)
from played_kernel import (
    MSG_CONFIG,
    NLM_F_REQUEST,
    PlayedKernel,
    attribute,
    message,
    packet_message,
)
from queues import (
    ROUNDS,
    Handle,
    Packet,
    Queue,
    accept,
    accepting,
    data_of,
    keeping,
    netlink_socket,
    process_until,
)
from readers import Reader
from segments import Route, bridge, router
from statuses import visible

import libnetfilterqueue as nfq
from libnetfilterqueue.testing import FakeKernel

SO_RCVBUFFORCE = 33
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
BPF_RET = 6  # linux/filter.h
NFQA_CFG_CMD, CMD_BIND = 1, 1
PACKET = 3 << 8  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_PACKET


@pytest.fixture
def left(udp: UdpPair) -> Iterator[socket.socket]:
    """The socket of a process that has bound queue 1, and ended. Somebody has kept a copy."""
    with nfq.open() as handle:
        handle.create_queue(1, accept)
        with socket.socket(fileno=handle.detach()) as kept:
            yield kept


def read(kept: socket.socket, count: int) -> None:
    """Reads messages as the process did that ended before it could answer them."""
    while count > 0:
        with contextlib.suppress(OSError):  # messages were lost, which is told first
            count -= struct.unpack_from("=H", kept.recv(65536), 4) == (PACKET,)


@contextlib.contextmanager
def udp_ends(way: Route) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A sender on the left of the way and a receiver on the right."""
    with contextlib.ExitStack() as stack:
        with way.right:
            receiving = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            receiving.bind((way.ends[1], PORT))
            receiving.settimeout(TIMEOUT)
        with way.left:
            sending = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            sending.connect((way.ends[1], PORT))
        yield sending, receiving


def test_default(left: socket.socket, udp: UdpPair) -> None:
    """What the other has read and not answered gets the default verdict, and the rest goes on."""
    udp.send(b"1", b"2", b"3", b"4")
    read(left, 2)
    seen: list[bytes] = []
    with nfq.open(fd=left) as handle:
        handle.create_queue(1, accepting(seen))
        assert handle.process() == 2
        udp.send(b"5")
        assert handle.process() == 1
        assert udp.arrivals() == seen == [b"3", b"4", b"5"]
        stats = handle.stats()
    if visible():
        assert (stats.packets, stats.verdicts, stats.defaulted) == (3, 5, 2)


@pytest.mark.parametrize(
    ("verdict", "arrives"),
    [(nfq.NF_ACCEPT, [b"1", b"2"]), (nfq.NF_DROP, []), (nfq.NF_STOLEN, [])],
)
@pytest.mark.parametrize("named", ["default_verdict", "unanswered"])
def test_verdict(
    left: socket.socket, udp: UdpPair, verdict: int, arrives: list[bytes], named: str
) -> None:
    """The verdict is the one that is named, else the queue's default."""
    udp.send(b"1", b"2")
    read(left, 2)
    with nfq.open(fd=left) as handle:
        options: dict[str, Any] = {named: verdict}
        handle.create_queue(1, accept, **options)
        assert handle.process() == 0
        assert udp.arrivals() == arrives


def test_repeated(left: socket.socket, udp: UdpPair) -> None:
    """With NF_REPEAT a plain rule queues each packet again, behind those that the socket held."""
    udp.send(b"1", b"2", b"3", b"4")
    read(left, 2)
    seen: list[bytes] = []
    with nfq.open(fd=left) as handle:
        handle.create_queue(1, accepting(seen), unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: len(seen) == 4)
        assert udp.arrivals() == seen == [b"3", b"4", b"1", b"2"]
        assert handle.stats().defaulted == 0


def test_repeated_in_a_full_queue(left: socket.socket, udp: UdpPair) -> None:
    """Repeated packets have room beside as many as maxlen, which then is what was asked for."""
    udp.send(*[b"%d" % number for number in range(8)])
    read(left, 4)
    with nfq.open(fd=left) as handle:
        packets: list[Packet] = []
        handle.create_queue(1, packets.append, maxlen=4, unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: len(packets) == 8)
        for packet in packets[3:]:
            packet.accept()
        udp.send(b"fits", b"not")
        process_until(handle, lambda: len(packets) == 9)
        assert handle.process() == 0
        assert sorted(udp.arrivals()) == [b"0", b"1", b"2", b"3", b"7"]


def test_nothing_waits(left: socket.socket, udp: UdpPair) -> None:
    """A queue in which nothing waits is taken over too, whether it ever had a packet or not."""
    for round_ in range(2):
        seen: list[bytes] = []
        with nfq.open(fd=left) as handle:
            handle.create_queue(1, accepting(seen))
            udp.send(b"1")
            assert handle.process() == 1
            assert udp.arrivals() == [b"1"], round_
            assert (handle.stats().defaulted, handle.stats().verdict_errors) == (0, 0)
            os.close(handle.detach())


def test_all_is_as_a_new_queue_has_it(left: socket.socket, udp: UdpPair) -> None:
    """What the earlier process had configured is replaced, what is not named too."""
    with nfq.open(fd=left) as handle:
        handle.create_queue(
            1, accept, mode=nfq.NFQNL_COPY_META, maxlen=2, flags=nfq.NFQA_CFG_F_FAIL_OPEN
        )
        os.close(handle.detach())
    with nfq.open(fd=left) as handle:
        packets = keeping(handle)
        udp.send(*[b"data"] * 5)
        process_until(handle, lambda: len(packets) == 5)
        assert {data_of(packet) for packet in packets} == {b"data"}
        assert udp.arrivals() == []


def test_a_refused_flag_leaves_the_queue(left: socket.socket, udp: UdpPair) -> None:
    """OSError; the queue stays bound and what waits in it waits on."""
    udp.send(b"1")
    with nfq.open(fd=left) as handle:
        with pytest.raises(OSError, match="flag"):
            handle.create_queue(1, accept, flags=1 << 31)
        seen: list[bytes] = []
        handle.create_queue(1, accepting(seen))
        assert handle.process() == 1
        assert udp.arrivals() == [b"1"]


LOCAL = [
    ("raw", "PREROUTING"),
    ("mangle", "PREROUTING"),
    ("mangle", "INPUT"),
    ("filter", "INPUT"),
    ("raw", "OUTPUT"),
    ("mangle", "OUTPUT"),
    ("filter", "OUTPUT"),
    ("mangle", "POSTROUTING"),
]
ROUTED = [("mangle", "FORWARD"), ("filter", "FORWARD")]
# Where the kernel has br_netfilter, packets on a bridge meet the rules of iptables.
BRIDGE_CALLS = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
BRIDGED = [*LOCAL[:2], *ROUTED, LOCAL[-1]] if BRIDGE_CALLS.exists() else []


def leave_three(table: str, chain: str, send: Callable[[bytes], object]) -> socket.socket:
    """Queues three datagrams, and ends a process that has read one, with a verdict for none."""
    queue_rule(1, "-p udp --dport 9999", table=table, chain=chain)
    with nfq.open() as handle:
        packets = keeping(handle)
        for data in (b"1", b"2", b"3"):
            send(data)
        process_until(handle, lambda: handle.process(1) or packets)
        return socket.socket(fileno=handle.detach())


def repeat_three(kept: socket.socket) -> list[bytes]:
    """What the next process sees."""
    seen: list[bytes] = []
    with kept, nfq.open(fd=kept) as handle:
        handle.create_queue(1, accepting(seen), unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: len(seen) == 3)
    return sorted(seen)


@pytest.mark.parametrize(("table", "chain"), LOCAL)
def test_repeated_at_each_hook(table: str, chain: str, netns: Namespace) -> None:
    """Wherever the rule is, a repeated packet comes to it again, and passes once."""
    with UdpPair() as pair:
        assert repeat_three(leave_three(table, chain, pair.send)) == [b"1", b"2", b"3"]
        assert sorted(pair.recv() for _ in range(3)) == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("way", "table", "chain"),
    [*[(router, *hook) for hook in ROUTED], *[(bridge, *hook) for hook in BRIDGED]],
)
def test_repeated_on_the_way(
    way: Callable[[Namespace], AbstractContextManager[Route]],
    table: str,
    chain: str,
    netns: Namespace,
) -> None:
    """The same for packets that are routed, and for those that a bridge passes on."""
    with way(netns) as route, udp_ends(route) as (sending, receiving):
        assert repeat_three(leave_three(table, chain, sending.send)) == [b"1", b"2", b"3"]
        assert sorted(receiving.recv(10) for _ in range(3)) == [b"1", b"2", b"3"]
        receiving.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiving.recv(10)


def test_repeated_in_its_table(netns: Namespace) -> None:
    """The rules of the tables before it are not repeated."""
    iptables("-t raw -A OUTPUT -p udp --dport 9999 -j MARK --xor-mark 1")
    marks: list[int] = []

    def callback(packet: Packet) -> None:
        marks.append(packet.mark)
        packet.accept()

    with contextlib.ExitStack() as stack:
        pair = stack.enter_context(UdpPair())
        kept = stack.enter_context(leave_three("mangle", "OUTPUT", pair.send))
        handle = stack.enter_context(nfq.open(fd=kept))
        handle.create_queue(1, callback, unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: len(marks) == 3)
    assert marks == [1, 1, 1]


def test_no_batch_before(left: socket.socket, udp: UdpPair) -> None:
    """Verdicts after a take-over release nothing but their packets, and travel together."""
    udp.send(*[b"%d" % number for number in range(70)])
    with nfq.open(fd=left) as handle:
        packets: list[Packet] = []
        handle.create_queue(1, packets.append)
        process_until(handle, lambda: len(packets) == 70)
        packets[1].accept()
        packets[69].accept()
        assert udp.arrivals() == [b"1", b"69"]
        before = handle.stats().sends
        with_one = [packet for packet in packets if packet.verdict is None]
        handle.autoflush = False
        for packet in with_one:
            packet.accept()
        handle.flush()
        assert handle.stats().sends - before == 1
        assert len(udp.arrivals()) == 68


# Other numbers


@contextlib.contextmanager
def sender(port: int) -> Iterator[socket.socket]:
    """Sends to where the datagrams of a UdpPair go, from another port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        sock.connect(("127.0.0.1", PORT))
        yield sock


def test_numbers_that_are_still_to_be_created(left: socket.socket, udp: UdpPair) -> None:
    """Their packets are set aside, in whichever way they are read, until the number is created."""
    with nfq.open(fd=left) as handle:
        for number in (2, 3):
            iptables(
                f"-t raw -A OUTPUT -p udp --sport {9000 + number} -j NFQUEUE --queue-num {number}"
            )
            handle.create_queue(number, accept)
        os.close(handle.detach())
    udp.send(b"1")
    with sender(9002) as second, sender(9003) as third:
        second.send(b"2")
        third.send(b"3")
        second.send(b"4")
        with nfq.open(fd=left) as handle:
            if visible():
                assert handle.unclaimed() == [1, 2, 3]
            seen: list[bytes] = []
            handle.create_queue(1, accepting(seen))
            handle.process()
            handle.create_queue(2, accepting(seen))
            assert handle.process() == 2
            third.send(b"5")
            handle.handle_packet(left.recv(65536))
            if visible():
                assert handle.unclaimed() == [3]
            handle.create_queue(3, accepting(seen))
            assert handle.process() == 2
            assert seen == [b"1", b"2", b"4", b"3", b"5"]
            assert udp.arrivals() == seen
            assert (handle.stats().orphaned, handle.stats().defaulted) == (0, 0)
            if visible():
                assert handle.unclaimed() == []


def test_a_number_that_others_have_unbound(left: socket.socket, udp: UdpPair) -> None:
    """What is left of the earlier binding in the socket is not the new one's."""
    udp.send(b"1", b"2")
    with nfq.open(fd=left) as other:
        other.create_queue(1, accept).destroy()  # which reads what waits, and knows it for old
    with nfq.open(fd=left) as handle:
        seen: list[bytes] = []
        handle.create_queue(1, accepting(seen))
        udp.send(b"3")
        process_until(handle, lambda: seen)
        assert udp.arrivals() == seen == [b"3"]


def test_a_number_that_it_binds_again_itself(left: socket.socket, udp: UdpPair) -> None:
    """It does not take over from itself, though it finds the number bound: an answer was lost."""
    iptables("-t raw -A OUTPUT -p udp --sport 9002 -j NFQUEUE --queue-num 2")
    left.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 14)
    seen: list[bytes] = []
    with sender(9002) as second, nfq.open(fd=left) as handle:
        queue = handle.create_queue(1, accept, rcvbuf=0)
        handle.create_queue(2, accept, rcvbuf=0)
        udp.send(b"old")
        queue.destroy()
        before = handle.stats()
        for _ in range(100):
            second.send(b"fills the receive buffer")
        handle.create_queue(1, accepting(seen), rcvbuf=0)
        udp.send(b"new")
        process_until(handle, lambda: seen)
        assert seen == [b"new"]
        assert handle.stats().overruns > before.overruns


# Where the table can't be read


@contextlib.contextmanager
def without_table() -> Iterator[None]:
    """The thread is in another namespace than the socket, and may not enter that."""
    with closing(Namespace()) as namespace, namespace, without_capability(CAP_SYS_ADMIN):
        yield


@pytest.fixture
def elsewhere(left: socket.socket) -> Iterator[socket.socket]:
    with without_table():
        yield left


def test_another_namespace(left: socket.socket, udp: UdpPair, netns: Namespace) -> None:
    """The table that counts is that of the socket's namespace."""
    udp.send(b"1")
    read(left, 1)
    with closing(Namespace()) as namespace, namespace, nfq.open(fd=left) as handle:
        handle.create_queue(1, accept, unanswered=nfq.NF_ACCEPT)
        if visible():
            assert udp.arrivals() == [b"1"]
        assert handle.process() == 0


def test_the_next_packet_tells(elsewhere: socket.socket, udp: UdpPair) -> None:
    """Without the table the packets are settled once a packet was dispatched."""
    udp.send(b"1", b"2")
    read(elsewhere, 2)
    with nfq.open(fd=elsewhere) as handle:
        with pytest.raises(PermissionError, match=r"unclaimed\(\)"):
            handle.unclaimed()
        packets: list[Packet] = []
        handle.create_queue(1, packets.append, unanswered=nfq.NF_ACCEPT)
        assert handle.process() == 0
        assert udp.arrivals() == []
        udp.send(b"3")
        assert handle.process() == 1
        assert udp.arrivals() == [b"1", b"2"]
        packets[0].accept()
        assert udp.arrivals() == [b"3"]


def test_batch_verdict_before_that(elsewhere: socket.socket, udp: UdpPair) -> None:
    """A batch verdict is not for what the others have read, which is not settled yet."""
    udp.send(b"1", b"2")
    read(elsewhere, 2)

    def accept_all(packet: Packet) -> None:
        packet.queue.set_verdict_batch(nfq.NF_ACCEPT, packet.id)

    with nfq.open(fd=elsewhere) as handle:
        handle.create_queue(1, accept_all)
        assert handle.process() == 0
        udp.send(b"3")
        assert handle.process() == 1
        udp.send(b"4", b"5")
        assert handle.process() == 2
        assert udp.arrivals() == [b"3", b"4", b"5"]


def test_a_packet_in_the_socket_tells(elsewhere: socket.socket, udp: UdpPair) -> None:
    """Without the table a packet that was still to be read tells just as well, and at once."""
    udp.send(b"1", b"2", b"3")
    read(elsewhere, 2)
    with nfq.open(fd=elsewhere) as handle:
        handle.create_queue(1, accept, unanswered=nfq.NF_ACCEPT)
        assert udp.arrivals() == [b"1", b"2"]
        assert handle.process() == 1


@pytest.mark.parametrize("first_id", [1, 0xFFFFFFFC, 0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF])
def test_ids_that_wrap(first_id: int) -> None:
    """The same on the fake kernel, whose table can't be read here, wherever the ids wrap."""
    with FakeKernel(first_id=first_id) as kernel:
        before = kernel.open()
        before.create_queue(1, accept)
        with socket.socket(fileno=before.detach()) as kept:
            sent = [kernel.enqueue(b"%d" % number) for number in range(6)]
            read(kept, 3)
            seen: list[bytes] = []

            def take(packet: Packet) -> None:
                seen.append(packet.get_payload())
                packet.accept()

            with nfq.open(fd=kept) as handle:
                handle.create_queue(1, take)
                assert handle.process() == 3
                assert seen == [b"3", b"4", b"5"]
                assert [packet.wait(TIMEOUT).passed for packet in sent] == [False] * 3 + [True] * 3


def count_queues() -> int:
    return sum(type(found) is Queue for found in gc.get_objects())


def take_over_from(kernel: PlayedKernel) -> Queue:
    """Has its handle take over queue 1. The kernel is one whose table can't be read."""
    creating = background(kernel.handle.create_queue, 1, accept)
    kernel.answer(kernel.request(), errno.EBUSY)
    kernel.answer(kernel.request())
    return creating.result(TIMEOUT)


def test_destroyed_while_it_is_settled() -> None:
    """The queue lives until a kernel that takes its time has settled it."""
    with PlayedKernel() as kernel:
        before = count_queues()
        queue = take_over_from(kernel)
        kernel.socket.send(packet_message(5, b"data", number=1))
        processing = background(kernel.handle.process)
        settled = kernel.request()
        destroying = threading.Thread(target=queue.destroy)
        destroying.start()
        kernel.answer(kernel.request())
        destroying.join(TIMEOUT)
        del destroying, queue
        assert count_queues() == before + 1
        kernel.answer(settled)
        assert processing.result(TIMEOUT) == 1
        assert count_queues() == before


def test_verdict_given_before_it_fails() -> None:
    """It is executed: the kernel's queue and the packet stay."""
    packets: list[Packet] = []
    with PlayedKernel() as kernel:
        kernel.handle.autoflush = False
        creating = background(kernel.handle.create_queue, 1, packets.append)
        kernel.answer(kernel.request(), errno.EBUSY)
        configured = kernel.request()
        assert kernel.handle.handle_packet(packet_message(5, b"data", number=1)) == 1
        packets[0].accept()
        kernel.answer(configured, errno.EINVAL)
        with pytest.raises(OSError, match="create_queue"):
            creating.result(TIMEOUT)
        (verdict,) = kernel.verdicts()
        assert (verdict.packet_id, verdict.verdict) == (5, nfq.NF_ACCEPT)


def test_packet_kept_while_it_fails() -> None:
    """It waits for whoever takes the queue over, and its verdict is an error that says so."""
    packets: list[Packet] = []
    with PlayedKernel() as kernel:
        creating = background(kernel.handle.create_queue, 1, packets.append)
        kernel.answer(kernel.request(), errno.EBUSY)
        configured = kernel.request()
        assert kernel.handle.handle_packet(packet_message(5, b"data", number=1)) == 1
        kernel.answer(configured, errno.EINVAL)
        with pytest.raises(OSError, match="create_queue"):
            creating.result(TIMEOUT)
        with pytest.raises(nfq.ClosedError, match="waits for whoever takes it over"):
            packets[0].accept()
        assert (kernel.handle.stats().defaulted, kernel.verdicts()) == (0, [])


def test_a_full_receive_buffer(left: socket.socket, udp: UdpPair) -> None:
    """What found no room is lost as ever; the rest is settled or dispatched."""
    left.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 14)
    udp.send(*[b"%d" % number for number in range(100)])
    read(left, 2)
    seen: list[bytes] = []
    with nfq.open(fd=left) as handle:
        handle.create_queue(1, accepting(seen), rcvbuf=0, unanswered=nfq.NF_ACCEPT)
        count = handle.process()
        assert 0 < count < 98
        assert udp.arrivals() == [b"0", b"1", *seen]


# While others read


def leave_second(left: socket.socket) -> None:
    """Somebody has bound queue 2 on the socket, too, and is gone."""
    iptables("-t raw -A OUTPUT -p udp --sport 9002 -j NFQUEUE --queue-num 2")
    with nfq.open(fd=left) as handle:
        handle.create_queue(2, accept)
        os.close(handle.detach())


def test_in_a_callback(left: socket.socket, udp: UdpPair) -> None:
    """What this process has read and not dispatched yet is not taken for the other's."""
    leave_second(left)
    seen: list[bytes] = []
    with sender(9002) as second, nfq.open(fd=left) as handle:

        def take_over(packet: Packet) -> None:
            handle.create_queue(2, accepting(seen))
            packet.accept()

        second.send(b"lost")
        read(left, 1)
        handle.create_queue(1, take_over)
        udp.send(b"1")
        second.send(b"2")
        second.send(b"3")
        assert handle.process() == 3
        assert seen == [b"2", b"3"]
        assert udp.arrivals() == [b"1", b"2", b"3"]
        assert handle.stats().defaulted == (1 if visible() else 0)


class Blocking:
    """A callback that accepts its packet once the test lets it go on."""

    def __init__(self) -> None:
        self._running: SimpleQueue[threading.Event] = SimpleQueue()

    def __call__(self, packet: Packet) -> None:
        go_on = threading.Event()
        self._running.put(go_on)
        assert go_on.wait(TIMEOUT)
        packet.accept()

    def begun(self) -> threading.Event:
        """What lets the next callback go on, once it has begun."""
        return self._running.get(timeout=TIMEOUT)


def test_calls_that_overlap(left: socket.socket, udp: UdpPair) -> None:
    """It is put off for those that had messages in hand, and for no others, however many follow."""
    leave_second(left)
    callback = Blocking()
    with sender(9002) as second, nfq.open(fd=left) as handle:

        def process_one(data: bytes) -> tuple[Future[int], threading.Event]:
            udp.send(data)
            return background(handle.process, 1), callback.begun()

        second.send(b"left")
        read(left, 1)
        handle.create_queue(1, callback)
        before, end_before = process_one(b"1")
        handle.create_queue(2, accept, unanswered=nfq.NF_ACCEPT)
        if not visible():  # this tells
            second.send(b"tells")
            assert handle.process() == 1
            assert udp.recv() == b"tells"
        after, end_after = process_one(b"2")
        assert udp.arrivals() == []
        end_before.set()
        assert before.result(TIMEOUT) == 1
        assert udp.arrivals() == [b"1", b"left"]
        end_after.set()
        assert after.result(TIMEOUT) == 1
        assert udp.arrivals() == [b"2"]


def test_older_packets_that_are_set_aside(left: socket.socket, udp: UdpPair) -> None:
    """Verdicts on newer packets do not release them, once the queue is settled."""
    leave_second(left)
    packets: list[Packet] = []
    with sender(9002) as second, nfq.open(fd=left) as handle:

        def take_over(packet: Packet) -> None:
            packet.accept()
            handle.create_queue(1, packets.append)
            udp.send(b"new", b"newer")
            handle.process()
            raise KeyboardInterrupt

        udp.send(b"lost")
        read(left, 1)
        handle.create_queue(2, take_over)
        second.send(b"interrupted")
        udp.send(b"old")
        with pytest.raises(KeyboardInterrupt):
            handle.process()
        assert [data_of(packet) for packet in packets] == [b"new", b"newer"]
        handle.autoflush = False
        for packet in packets:
            packet.accept()
        handle.flush()
        assert udp.arrivals() == [b"interrupted", b"new", b"newer"]
        assert handle.process() == 1
        packets[2].accept()
        handle.flush()
        assert udp.arrivals() == [b"old"]
        assert handle.stats().defaulted == (1 if visible() else 0)


def test_while_threads_wait(left: socket.socket, udp: UdpPair) -> None:
    """Threads that wait for packets have nothing in hand."""
    leave_second(left)
    seen: list[bytes] = []

    def wait() -> None:
        with contextlib.suppress(nfq.ClosedError):
            while True:
                handle.process(timeout=None)

    with sender(9002) as second, nfq.open(fd=left) as handle:
        second.send(b"settled")
        read(left, 1)
        handle.create_queue(1, accepting(seen))
        threads = [background(wait) for _ in range(2)]
        udp.send(b"1")
        assert udp.recv() == b"1"
        handle.create_queue(2, accepting(seen), unanswered=nfq.NF_ACCEPT)
        for number in range(20):
            second.send(b"%d" % number)
        arrived = [udp.recv() for _ in range(21)]
        assert sorted(arrived) == sorted([b"settled", *(b"%d" % number for number in range(20))])
        handle.close()
        for thread in threads:
            thread.result(TIMEOUT)


def test_a_refused_flag_leaves_what_others_have_bound_since(left: socket.socket) -> None:
    """A number that was bound here once may be another process's now."""
    with Reader(left) as other, nfq.open(fd=left) as handle:
        handle.create_queue(2, accept).destroy()
        other.bind(2)
        with pytest.raises(OSError, match="flag"):
            handle.create_queue(2, accept, flags=1 << 31)
        with nfq.open() as stranger, pytest.raises(PermissionError):
            stranger.create_queue(2, accept)
        os.close(handle.detach())


def test_the_queue_of_another_handle_of_this_process(handle: Handle, udp: UdpPair) -> None:
    """EBUSY, whichever handle asks; the queue stays its own."""
    seen: list[bytes] = []
    handle.create_queue(1, accepting(seen))
    with nfq.open(fd=handle) as copy:
        with pytest.raises(OSError, match="bound on this descriptor") as raised:
            copy.create_queue(1, accept)
        assert raised.value.errno == errno.EBUSY
        copy.create_queue(2, accept)
    udp.send(b"1")
    process_until(handle, lambda: seen)


@pytest.mark.parametrize("numbers", [(2, 3), (2, 2)], ids=["two numbers", "one number"])
def test_by_two_handles_at_once(numbers: tuple[int, int], netns: Namespace) -> None:
    """Each takes over its number; if both want the same one, exactly one gets it."""

    def take_over(number: int, handle: Handle, barrier: threading.Barrier) -> int:
        barrier.wait(TIMEOUT)
        try:
            handle.create_queue(number, accept)
        except OSError as error:
            assert error.errno == errno.EBUSY  # noqa: PT017 (one of the two has it)
            return 0
        return 1

    for _ in range(ROUNDS):
        with nfq.open() as first:
            for number in set(numbers):
                first.create_queue(number, accept)
            kept = first.detach()
        with nfq.open(fd=kept) as one, nfq.open(fd=kept) as other, short_turns():
            os.close(kept)
            barrier = threading.Barrier(2)
            threads = [
                background(take_over, number, handle, barrier)
                for number, handle in zip(numbers, (one, other), strict=True)
            ]
            assert sum(thread.result(TIMEOUT) for thread in threads) == len(set(numbers))


def test_created_while_another_handle_destroys_it(netns: Namespace) -> None:
    """It is refused or bound; a queue that the other one's unbinding takes away is neither."""

    def create(handle: Handle, barrier: threading.Barrier) -> Queue:
        barrier.wait(TIMEOUT)
        while True:
            with contextlib.suppress(OSError):
                return handle.create_queue(1, accept)

    with nfq.open() as first, nfq.open(fd=first) as one, nfq.open(fd=first) as other:
        for _ in range(ROUNDS):
            barrier = threading.Barrier(2)
            with one.create_queue(1, accept):
                creating = background(create, other, barrier)
                barrier.wait(TIMEOUT)
            with (
                creating.result(TIMEOUT),
                nfq.open() as stranger,
                pytest.raises(PermissionError, match="bound"),
            ):
                stranger.create_queue(1, accept)


def test_shared(left: socket.socket, udp: UdpPair) -> None:
    """What another reader has in hand stays its own, also behind a batch verdict."""
    with Reader(left) as other, nfq.open(fd=left) as handle:
        udp.send(b"1", b"2")
        other.read(2)
        packets: list[Packet] = []
        queue = handle.create_queue(1, packets.append, shared=True)
        udp.send(b"3", b"4")
        assert handle.process() == 2
        queue.set_verdict_batch(nfq.NF_ACCEPT, packets[1].id)
        assert udp.arrivals() == [b"3", b"4"]
        udp.send(b"5")
        other.read(1)
        udp.send(b"6")
        assert handle.process() == 1
        packets[2].accept()
        assert udp.arrivals() == [b"6"]
        other.accept(3)
        assert udp.arrivals() == [b"1", b"2", b"5"]
        os.close(handle.detach())


def test_sharer_that_is_killed(left: socket.socket, udp: UdpPair) -> None:
    """What it had in hand waits for whoever takes the queue over without sharing it."""
    seen: list[bytes] = []
    with Reader(left, shared=True) as other, nfq.open(fd=left) as handle:
        handle.create_queue(1, accepting(seen), shared=True)
        udp.send(b"1", b"2")
        other.read(2)
        other.kill()
        udp.send(b"3")
        assert handle.process() == 1
        assert udp.arrivals() == [b"3"]
        with socket.socket(fileno=handle.detach()) as detached, nfq.open(fd=detached) as alone:
            alone.create_queue(1, accept, unanswered=nfq.NF_ACCEPT)
            udp.send(b"4")  # which tells, where the table can't be read
            assert alone.process() == 1
            assert sorted(udp.arrivals()) == [b"1", b"2", b"4"]


def test_killed(left: socket.socket, udp: UdpPair) -> None:
    """A reader is killed with packets in hand; whoever comes next settles them."""
    with Reader(left) as other:
        udp.send(b"1", b"2", b"3", b"4")
        other.read(3)
        other.accept(1)
        other.kill()
    seen: list[bytes] = []
    with nfq.open(fd=left) as handle:
        handle.create_queue(1, accepting(seen), unanswered=nfq.NF_REPEAT)
        process_until(handle, lambda: len(seen) == 3)
    assert seen == [b"4", b"2", b"3"]
    assert udp.arrivals() == [b"1", b"4", b"2", b"3"]


class Stealing:
    """Another reader that takes each message from the socket as soon as it comes."""

    def __init__(self, kept: socket.socket) -> None:
        self._kept = kept.dup()
        self._kept.setblocking(True)
        self._stop = threading.Event()
        self._reading = background(self._steal)

    def _steal(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(BlockingIOError):
                self._kept.recv(65536, socket.MSG_DONTWAIT)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._reading.result(TIMEOUT)
        self._kept.close()


def test_answers_that_others_read(left: socket.socket) -> None:
    """They are asked for again, while another reader takes what it can get."""
    with short_turns(), Stealing(left):
        for _ in range(ROUNDS):
            with nfq.open(fd=left) as handle:
                handle.create_queue(1, accept, shared=True)
                os.close(handle.detach())


@contextlib.contextmanager
def taking_all(sock: socket.socket) -> Iterator[None]:
    """Another reader takes all that comes before anybody else can: a filter lets nothing in."""
    nothing = ctypes.create_string_buffer(struct.pack("=HBBI", BPF_RET, 0, 0, 0))
    program = struct.pack("@HP", 1, ctypes.addressof(nothing))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    yield
    sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def bind_elsewhere(number: int) -> None:
    """Another socket binds a number, if that is free."""
    with nfq.open() as stranger:
        stranger.create_queue(number, accept)


READS_ANSWERS = r"create_queue\(2\): .* another process or thread reads the kernel's answers"


def test_no_answer(handle: Handle) -> None:
    """TimeoutError, which says why, and the number is free."""
    with netlink_socket(handle) as copy, taking_all(copy):
        with pytest.raises(TimeoutError, match=READS_ANSWERS):
            handle.create_queue(2, accept)
        bind_elsewhere(2)
    handle.create_queue(2, accept)


def test_no_answer_to_other_requests(handle: Handle) -> None:
    """They say the same, and are executed."""
    queue = handle.create_queue(1, accept)
    with netlink_socket(handle) as copy, taking_all(copy):
        with pytest.raises(TimeoutError, match="reads the kernel's answers"):
            queue.set_maxlen(7)
        with pytest.raises(TimeoutError, match="reads the kernel's answers"):
            queue.destroy()
        assert queue.destroyed
        bind_elsewhere(1)


@pytest.mark.parametrize("shared", [False, True])
def test_no_answer_on_an_adopted_socket(left: socket.socket, shared: bool) -> None:
    """The same, if the table has said that the number was free; else it may stay bound."""
    with nfq.open(fd=left) as handle:
        with taking_all(left):
            with pytest.raises(TimeoutError, match=READS_ANSWERS) as raised:
                handle.create_queue(2, accept, shared=shared)
            assert ("may stay bound" in str(raised.value)) == (not visible())
            if visible():
                bind_elsewhere(2)
        handle.create_queue(2, accept)


@pytest.mark.parametrize("number", [1, 2])
def test_no_answer_and_no_table(left: socket.socket, number: int) -> None:
    """What may be another process's queue stays bound, and the error says so."""
    with nfq.open(fd=left) as handle:
        with (
            without_table(),
            taking_all(left),
            pytest.raises(TimeoutError, match=r"answers.*; the number may stay bound$"),
        ):
            handle.create_queue(number, accept)
        with pytest.raises(PermissionError):
            bind_elsewhere(number)
        handle.create_queue(number, accept)


def when_free(number: int) -> None:
    """Returns once nobody has bound a number any more."""
    while True:
        with contextlib.suppress(PermissionError):
            return bind_elsewhere(number)


def test_no_answer_to_a_destruction(left: socket.socket) -> None:
    """It is asked for again, and what another process has bound since is not destroyed too."""
    with nfq.open(fd=left) as handle, socket.socket(fileno=os.dup(left.fileno())) as other:
        queue = handle.create_queue(1, accept, shared=True)
        with taking_all(left):
            destroying = background(queue.destroy)
            when_free(1)
            bind = attribute(NFQA_CFG_CMD, struct.pack("!BBH", CMD_BIND, 0, 0))
            body = struct.pack("!BBH", 0, 0, 1) + bind  # of queue 1
            other.send(message(MSG_CONFIG, body, flags=NLM_F_REQUEST))
            with pytest.raises(TimeoutError):
                destroying.result(TIMEOUT)
        with pytest.raises(PermissionError):
            bind_elsewhere(1)


def test_no_answer_to_a_take_over(left: socket.socket, udp: UdpPair) -> None:
    """The other process's queue stays as it is."""
    udp.send(b"1")
    with nfq.open(fd=left) as handle:
        with taking_all(left), pytest.raises(TimeoutError, match="may stay bound"):
            handle.create_queue(1, accept)
        with pytest.raises(PermissionError):
            bind_elsewhere(1)
        handle.create_queue(1, accept)
        handle.process()
        assert udp.arrivals() == [b"1"]


# Handles that are detached


def test_detach(handle: Handle, udp: UdpPair) -> None:
    """The descriptor is returned, what is recorded is sent, and the queues stay bound."""
    packets = keeping(handle)
    told: list[os.stat_result] = []
    number = handle.fd()
    handle.on_close = lambda: told.append(os.fstat(number))  # the descriptor is open as yet
    udp.send(b"1", b"2", b"3")
    process_until(handle, lambda: len(packets) == 3)
    handle.autoflush = False
    packets[1].accept()
    assert udp.arrivals() == []
    with socket.socket(fileno=handle.detach()) as kept:
        assert kept.fileno() == number
        assert not kept.get_inheritable()
        assert handle.closed
        assert told == [os.fstat(number)]
        assert udp.arrivals() == [b"2"]
        with pytest.raises(nfq.ClosedError, match="whoever takes it over"):
            packets[0].accept()
        with pytest.raises(nfq.ClosedError, match=r"detach\(\)"):
            handle.detach()
        del packets[:]
        assert udp.arrivals() == []
        with nfq.open(fd=kept) as successor:
            successor.create_queue(1, accept, unanswered=nfq.NF_ACCEPT)
            assert udp.arrivals() == [b"1", b"3"]


def test_detach_in_a_callback(handle: Handle, udp: UdpPair) -> None:
    """The verdict that the callback has recorded is sent; one that it gives later can't be."""
    raised: list[str] = []

    def callback(packet: Packet) -> None:
        if data_of(packet) == b"1":
            packet.accept()
            return
        fds.append(handle.detach())
        with pytest.raises(nfq.ClosedError) as closed:
            packet.accept()
        raised.append(str(closed.value))

    fds: list[int] = []
    handle.create_queue(1, callback)
    udp.send(b"1", b"2", b"3")
    assert handle.process() == 2
    assert len(raised) == 1
    with socket.socket(fileno=fds[0]) as kept, nfq.open(fd=kept) as successor:
        assert udp.arrivals() == [b"1"]
        successor.create_queue(1, accept, unanswered=nfq.NF_ACCEPT)
        assert udp.arrivals() == [b"2", b"3"]


def test_detach_wakes(handle: Handle) -> None:
    """A thread that waits in process() gets a ClosedError."""
    handle.create_queue(1, accept)
    waiting = background(handle.process, timeout=None)
    os.close(handle.detach())
    with pytest.raises(nfq.ClosedError):
        waiting.result(TIMEOUT)


def create_some(handle: Handle, numbers: range, begin: threading.Event) -> list[Queue]:
    """Creates queues, until the handle is closed."""
    queues: list[Queue] = []
    begin.wait(TIMEOUT)
    with contextlib.suppress(nfq.ClosedError):
        queues.extend(handle.create_queue(number, accept) for number in numbers)
    return queues


def test_detach_while_others_create_queues() -> None:
    """A queue that another thread creates meanwhile is left bound like the others."""
    with short_turns():
        for _ in range(5 * ROUNDS):
            begin = threading.Event()
            handle = nfq.open()
            handle.create_queue(1, accept)
            parts = (range(10, 60), range(60, 110))
            threads = [background(create_some, handle, numbers, begin) for numbers in parts]
            begin.set()
            os.close(handle.detach())
            queues = [queue for thread in threads for queue in thread.result(TIMEOUT)]
            assert all(queue.destroyed for queue in queues)


def test_detached_by_two_threads() -> None:
    """One gets the descriptor, and the other one a ClosedError."""

    def detach(handle: Handle, barrier: threading.Barrier) -> None:
        barrier.wait(TIMEOUT)
        try:
            os.close(handle.detach())
        except nfq.ClosedError:
            losers.append(handle)

    losers: list[Handle] = []
    with short_turns():
        for _ in range(5 * ROUNDS):
            barrier = threading.Barrier(2)
            handle = nfq.open()
            for number in range(1, 4):
                handle.create_queue(number, accept)
            threads = [background(detach, handle, barrier) for _ in range(2)]
            for thread in threads:
                thread.result(TIMEOUT)
    assert len(losers) == 5 * ROUNDS


def test_handed_on_under_traffic(left: socket.socket, udp: UdpPair) -> None:
    """With NF_REPEAT each datagram arrives once, however often the queue changes hands."""
    udp.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
    sending = background(udp.send, *[b"%d" % number for number in range(2000)])
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        if packet.id % 7 == 0:
            kept.append(packet)
        else:
            packet.accept()

    while not sending.done():
        with nfq.open(fd=left) as handle:
            handle.create_queue(1, callback, unanswered=nfq.NF_REPEAT)
            handle.process(timeout=0.001)
            os.close(handle.detach())
            kept.clear()
    sending.result(TIMEOUT)
    arrived: list[bytes] = []
    with nfq.open(fd=left) as handle:
        handle.create_queue(1, accept, unanswered=nfq.NF_REPEAT)
        while handle.process(timeout=0.1):
            pass
        arrived = udp.arrivals()
    assert sorted(arrived, key=int) == [b"%d" % number for number in range(2000)]
