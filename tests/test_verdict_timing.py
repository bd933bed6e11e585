# SPDX-License-Identifier: GPL-2.0-or-later
"""When verdicts leave: together at a dispatch's end, or sooner where callbacks take their time."""

import contextlib
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from netns import PORT, TIMEOUT, UdpPair, background, queue_rule
from played_kernel import PlayedKernel, aligned, packet_message
from queues import Handle, Packet, data_of, keeping, netlink_socket, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
DELAY = 0.001  # seconds; how long a verdict may wait for others, whose callbacks are fast


def spin(seconds: float) -> None:
    """What a slow callback does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


class Diary:
    """A callback that accepts everything and notes what has arrived before."""

    def __init__(self, udp: UdpPair, *takes: float) -> None:
        self._udp = udp
        self._takes = iter(takes)  # how long it spins at each packet, in seconds
        self.arrived: list[list[bytes]] = []  # at the beginning of each callback, since the last
        self.given: list[float] = []  # when each verdict was given
        self.ended: list[float] = []  # when each callback ended

    def __call__(self, packet: Packet) -> None:
        self.arrived.append(self._udp.arrivals())
        packet.accept()
        self.given.append(time.monotonic())
        spin(next(self._takes))
        self.ended.append(time.monotonic())

    def had_arrived(self, count: int) -> int:
        """How many packets had arrived at the beginning of a callback."""
        return sum(len(arrived) for arrived in self.arrived[: count + 1])


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_slow_callbacks(handle: Handle, udp: UdpPair) -> None:
    """If each callback takes more than 1 ms, each verdict is sent as its callback returns."""
    diary = Diary(udp, *[2 * DELAY] * 4)
    handle.create_queue(1, diary, mode=COPY)
    udp.send(*numbered(4))
    assert handle.process() == 4
    assert diary.arrived == [[], [b"0"], [b"1"], [b"2"]]
    assert udp.arrivals() == [b"3"]
    assert (handle.stats().sends, handle.stats().verdicts) == (4, 4)


def test_slow_callbacks_of_a_buffer(handle: Handle, udp: UdpPair) -> None:
    """Verdicts of slow callbacks are sent early also in handle_packet."""
    diary = Diary(udp, *[2 * DELAY] * 3)
    handle.create_queue(1, diary, mode=COPY)
    udp.send(*numbered(3))
    with netlink_socket(handle) as sock:
        buffer = b"".join(aligned(sock.recv(4096)) for _ in range(3))
    assert handle.handle_packet(buffer) == 3
    assert diary.arrived == [[], [b"0"], [b"1"]]
    assert udp.arrivals() == [b"2"]


def test_after_a_slow_callback(handle: Handle, udp: UdpPair) -> None:
    """After one slow callback, verdicts that are due are sent before each further one."""
    diary = Diary(udp, 0, 0, 2 * DELAY, 0, 0, 0)
    handle.create_queue(1, diary, mode=COPY)
    udp.send(*numbered(6))
    assert handle.process() == 6
    assert [diary.had_arrived(number) for number in (3, 4, 5)] == [3, 4, 5]
    assert udp.arrivals() == [b"5"]


def test_slow_callback_that_keeps(handle: Handle, udp: UdpPair) -> None:
    """A slow callback lets the verdicts of those before it go, also without one of its own."""
    kept: list[Packet] = []
    looks: list[list[bytes]] = []

    def callback(packet: Packet) -> None:
        looks.append(udp.arrivals())
        if packet.id == 2:
            kept.append(packet)
            spin(2 * DELAY)
        else:
            packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    udp.send(*numbered(3))
    handle.process()
    assert looks[0] + looks[1] + looks[2] == [b"0"]
    assert udp.arrivals() == [b"2"]
    kept[0].accept()
    assert udp.arrivals() == [b"1"]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_none_waits_longer(handle: Handle, udp: UdpPair, share: float) -> None:
    """Verdicts of faster callbacks wait until the oldest is 1 ms old, and no callback longer."""
    count = 40
    diary = Diary(udp, *[share * DELAY] * count)
    handle.create_queue(1, diary, mode=COPY)
    udp.send(*numbered(count))
    assert handle.process() == count
    for number in range(1, count):
        due = [given for given in diary.given[:number] if diary.ended[number - 1] - given > DELAY]
        assert diary.had_arrived(number) >= len(due)
    assert diary.had_arrived(count - 1) > 0
    assert diary.had_arrived(count) + len(udp.arrivals()) == count


def undisturbed(attempt: Callable[[], tuple[float, bool]]) -> bool:
    """What the first attempt says that took less than 1 ms."""
    for _ in range(200):
        seconds, answer = attempt()
        if seconds < DELAY:
            return answer
    raise AssertionError("the machine is too busy to tell")


def test_fast_callbacks(handle: Handle, udp: UdpPair) -> None:
    """If callbacks are fast nothing is sent before the dispatch's end; then all is sent at once."""
    early: list[bytes] = []

    def callback(packet: Packet) -> None:
        packet.accept()
        if data_of(packet) == b"4":
            early.extend(udp.arrivals())

    def attempt() -> tuple[float, bool]:
        early.clear()
        udp.send(*numbered(5))
        before, start = handle.stats().sends, time.monotonic()
        handle.process()
        seconds = time.monotonic() - start
        together = handle.stats().sends == before + 1 and not early
        return seconds, together and udp.arrivals() == numbered(5)

    handle.create_queue(1, callback, mode=COPY)
    assert undisturbed(attempt)


def test_messages_of_slow_callbacks() -> None:
    """Verdicts that are sent early are single, and no later batch repeats them."""
    with PlayedKernel() as kernel:

        def callback(packet: Packet) -> None:
            packet.accept()
            spin(2 * DELAY)

        kernel.create_queue(1, callback)
        for packet_id in (1, 2, 3):
            kernel.socket.send(packet_message(packet_id))
        kernel.handle.process()
        sent = [(verdict.packet_id, verdict.batch) for verdict in kernel.verdicts()]
        assert sent == [(1, False), (2, False), (3, False)]
        assert kernel.handle.stats().sends == 3


# Queues that have been slow


def note_arrivals(
    udp: UdpPair, arrived: list[list[bytes]], *slow: bytes
) -> Callable[[Packet], None]:
    """A callback that accepts packets and then spins at some, noting what had arrived before."""

    def callback(packet: Packet) -> None:
        data = data_of(packet)
        packet.accept()
        if data in slow:
            arrived.append(udp.arrivals())
            spin(3 * DELAY)

    return callback


def test_slow_queue_sends_before_each_callback(handle: Handle, udp: UdpPair) -> None:
    """A verdict waits for its neighbour's slow callback once, and then no more."""
    arrived: list[list[bytes]] = []
    handle.create_queue(1, note_arrivals(udp, arrived, b"slow"))
    for _ in range(3):
        udp.send(b"fast", b"slow")
        assert handle.process() == 2
    # The first time both arrive after the slow callback.
    assert arrived == [[], [b"fast", b"slow", b"fast"], [b"slow", b"fast"]]


def test_held_verdicts_leave_before_the_first_callback(handle: Handle, udp: UdpPair) -> None:
    """On a slow queue held verdicts are sent before the first callback of a dispatch too."""
    arrived: list[list[bytes]] = []
    kept: list[Packet] = []
    slow = note_arrivals(udp, arrived, b"slow")
    queue = handle.create_queue(1, slow)
    udp.send(b"fast", b"slow")
    handle.process()
    queue.callback = kept.append
    udp.send(b"kept")
    process_until(handle, lambda: kept)
    queue.callback = slow
    handle.autoflush = False
    kept[0].accept()
    udp.arrivals()
    udp.send(b"slow")
    handle.process()
    assert arrived[-1] == [b"kept"]


def test_other_queues_are_not_slow(handle: Handle, udp: UdpPair) -> None:
    """A slow queue does not make the handle's other queues slow."""
    arrived: list[list[bytes]] = []
    queue_rule(2, match="-p udp --sport 9997")
    handle.create_queue(1, note_arrivals(udp, arrived, b"slow"))
    seen: list[int] = []

    def callback(packet: Packet) -> None:
        seen.append(handle.stats().sends)
        packet.accept()

    handle.create_queue(2, callback)
    udp.send(b"fast", b"slow")
    handle.process()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 9997))
        sender.connect(("127.0.0.1", PORT))
        for number in range(4):
            sender.send(b"%d" % number)
        before = handle.stats().sends
        assert handle.process() == 4
    assert seen[0] == before


def test_queue_is_fast_again(handle: Handle, udp: UdpPair) -> None:
    """After many quick callbacks verdicts are sent together again."""
    arrived: list[list[bytes]] = []
    handle.create_queue(1, note_arrivals(udp, arrived, b"slow"))
    udp.send(b"fast", b"slow")
    handle.process()
    sends: list[int] = []
    for _ in range(200):
        udp.send(*numbered(4))
        before = handle.stats().sends
        assert handle.process() == 4
        sends.append(handle.stats().sends - before)
        if sends[-1] == 1:
            break
    assert sends[0] >= 4
    assert sends[-1] == 1


class Computer:
    """A thread that computes, and takes its turn whenever it can. How many turns it had."""

    def __init__(self) -> None:
        self.turns = 0
        self._began = threading.Event()
        self._stopped = False
        self._ended = background(self._compute)
        assert self._began.wait(TIMEOUT)

    def _compute(self) -> None:
        while not self._stopped:
            self.turns += 1
            self._began.set()
            time.sleep(0)  # lets go of the GIL, and wants it back at once

    def close(self) -> None:
        self._stopped = True
        self._ended.result(TIMEOUT)


@pytest.fixture
def computer() -> Iterator[Computer]:
    """Such a thread, which gets the GIL, where there is one, only from who gives it up."""
    interval = sys.getswitchinterval()
    with contextlib.closing(Computer()) as computer:
        sys.setswitchinterval(TIMEOUT)
        yield computer
        sys.setswitchinterval(interval)


def test_lone_verdicts_beside_a_thread_that_computes(
    handle: Handle, udp: UdpPair, computer: Computer
) -> None:
    """One verdict is sent with the GIL: such a thread would keep it for 5 ms, for each packet."""
    handle.create_queue(1, Packet.accept, mode=COPY)
    udp.send(*numbered(100))
    with netlink_socket(handle) as sock:
        messages = [sock.recv(1 << 16) for _ in range(100)]
    before = computer.turns
    for message in messages:
        handle.handle_packet(message)
    assert computer.turns == before or sysconfig.get_config_var("Py_GIL_DISABLED")
    assert udp.arrivals() == numbered(100)
    assert handle.stats().sends == 100


def test_batch_verdicts_beside_a_thread_that_computes(
    handle: Handle, udp: UdpPair, computer: Computer
) -> None:
    """One that stands for many is sent without it: the kernel may be at work for milliseconds."""
    packets = keeping(handle)
    turns = 0
    for _ in range(100):  # a busy machine may not give it the turn within that time
        udp.send(*numbered(100))
        process_until(handle, lambda: len(packets) == 100)
        turns = computer.turns
        packets[0].queue.set_verdict_batch(nfq.NF_ACCEPT, packets[-1].id)
        turns = computer.turns - turns
        packets.clear()
        assert udp.arrivals() == numbered(100)
        if turns > 0:
            break
    assert turns > 0
