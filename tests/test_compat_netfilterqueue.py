# SPDX-License-Identifier: GPL-2.0-or-later
"""libnetfilterqueue.compat.netfilterqueue: what NetfilterQueue 1.1 documents, on real packets."""

import asyncio
import contextlib
import errno
import gc
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from netns import (
    LOOPBACK,
    PORT,
    TIMEOUT,
    Counter,
    Namespace,
    UdpPair,
    background,
    iptables,
    mac,
    private_namespace,
    queue_rule,
    run,
    veth,
    without_net_admin,
)
from test_process import InterruptError, signal_until_called

import libnetfilterqueue as nfq
from libnetfilterqueue.compat import netfilterqueue
from libnetfilterqueue.compat.netfilterqueue import (
    COPY_META,
    COPY_NONE,
    COPY_PACKET,
    PROTOCOLS,
    VERSION,
    NetfilterQueue,
    Packet,
)
from libnetfilterqueue.testing import FakeKernel

SOCK_LEN = 100_000  # every system allows it
NETLINK_NETFILTER = 12
SO_TIMESTAMP = 29


class NoticedError(Exception):
    """What callbacks raise."""


@contextlib.contextmanager
def bound(
    callback: Callable[[Packet], object], number: int = 1, **options: int
) -> Iterator[NetfilterQueue]:
    """A queue that calls the callback."""
    queue = NetfilterQueue()
    queue.bind(number, callback, **{"sock_len": SOCK_LEN, **options})
    try:
        yield queue
    finally:
        queue.unbind()


def data_of(packet: Packet) -> bytes:
    """The data of a UDP datagram over IPv4."""
    return packet.get_payload()[28:]


def replace(packet: Packet, data: bytes) -> None:
    """Puts other data of the same length in a UDP datagram over IPv4."""
    content = bytearray(packet.get_payload())
    content[28:] = data
    nfq.update_checksums(content)
    packet.set_payload(bytes(content))


def socket_of(queue: NetfilterQueue) -> socket.socket:
    """A socket on a copy of the queue's descriptor, as the documentation makes it."""
    return socket.fromfd(queue.get_fd(), socket.AF_NETLINK, socket.SOCK_RAW)


def drain_socket(queue: NetfilterQueue) -> None:
    """Does by ``run_socket()`` what ``run(False)`` does."""
    with socket_of(queue) as sock:
        sock.setblocking(False)
        try:
            queue.run_socket(sock)
        finally:
            sock.setblocking(True)


def drain(queue: NetfilterQueue) -> None:
    queue.run(block=False)


def run_until(queue: NetfilterQueue, done: Callable[[], object]) -> None:
    """Drains the queue until something has come true."""
    end = time.monotonic() + TIMEOUT
    while not done():
        select.select([queue.get_fd()], [], [], 0.1)
        queue.run(False)
        assert time.monotonic() < end, "the packets that the test waits for did not come"


DRAINS = pytest.mark.parametrize("drain", [drain, drain_socket])
Drain = Callable[[NetfilterQueue], None]


# What a program imports


def test_names() -> None:
    """The module has the names and the constants of version 1.1, and brings no others by *."""
    assert (COPY_NONE, COPY_META, COPY_PACKET) == (0, 1, 2)
    assert VERSION == (1, 1, 0)
    assert netfilterqueue.__version__ == "1.1.0"
    assert {0: "HOPOPT", 6: "TCP", 17: "UDP", 58: "IPv6-ICMP", 140: "Shim6"}.items() <= (
        PROTOCOLS.items()
    )
    assert list(PROTOCOLS) == [*range(141), 255]
    names = {"COPY_META", "COPY_NONE", "COPY_PACKET", "NetfilterQueue", "PROTOCOLS", "Packet"}
    assert set(netfilterqueue.__all__) == names


# Verdicts


@DRAINS
def test_accept_and_drop(udp: UdpPair, drain: Drain) -> None:
    """A queue is drained; what is accepted passes."""

    def callback(packet: Packet) -> None:
        if b"forbidden" in packet.get_payload():
            packet.drop()
        else:
            packet.accept()

    with bound(callback) as queue:
        udp.send(b"1", b"forbidden", b"2")
        drain(queue)
        assert udp.arrivals() == [b"1", b"2"]
        drain(queue)
        udp.send(b"3")
        drain(queue)
    assert udp.arrivals() == [b"3"]


def test_verdict_is_executed_at_once(udp: UdpPair) -> None:
    """A packet that is accepted arrives while its callback still runs, also in another order."""
    kept: list[Packet] = []
    arrived: list[bytes] = []

    def callback(packet: Packet) -> None:
        kept.append(packet)
        if len(kept) == 3:
            for late in reversed(kept):
                late.accept()
                arrived.append(udp.recv())

    with bound(callback) as queue:
        udp.send(b"1", b"2", b"3")
        queue.run(False)
    assert arrived == [b"3", b"2", b"1"]


def test_mark_and_payload_are_staged(udp: UdpPair) -> None:
    """A new mark and payload are read back at once, and leave with the verdict."""
    counter = Counter("OUTPUT", "-m mark --mark 0xffffffff")
    seen: list[tuple[int, int, int, bytes]] = []

    def callback(packet: Packet) -> None:
        packet.set_mark(5)
        packet.set_mark(0xFFFFFFFF)
        replace(packet, b"new")
        seen.append((packet.mark, packet.get_mark(), packet.get_payload_len(), data_of(packet)))
        packet.accept()

    with bound(callback) as queue:
        udp.send(b"old")
        queue.run(False)
    assert seen == [(0, 0xFFFFFFFF, 31, b"new")]
    assert udp.arrivals() == [b"new"]
    assert counter.packets == 1


def test_empty_payload_is_none(udp: UdpPair) -> None:
    """An empty payload replaces nothing."""

    def callback(packet: Packet) -> None:
        packet.set_payload(b"")
        assert data_of(packet) == b"data"
        packet.accept()

    with bound(callback) as queue:
        udp.send(b"data")
        queue.run(False)
    assert udp.arrivals() == [b"data"]


def test_wrong_marks_and_payloads(udp: UdpPair) -> None:
    """What can't be a mark or a payload is refused at once, and the packet stays as it was."""

    def callback(packet: Packet) -> None:
        for mark in (-1, 1 << 32):
            with pytest.raises(OverflowError):
                packet.set_mark(mark)
        with pytest.raises(TypeError):
            packet.set_payload("text")  # type: ignore[arg-type]
        assert packet.get_mark() == 0
        packet.accept()

    with bound(callback) as queue:
        udp.send(b"data")
        queue.run(False)
    assert udp.arrivals() == [b"data"]


def test_repeat(udp: UdpPair) -> None:
    """A repeated packet comes back with what was set."""
    seen: list[tuple[int, bytes]] = []

    def callback(packet: Packet) -> None:
        seen.append((packet.mark, data_of(packet)))
        if packet.mark < 2:
            packet.set_mark(packet.mark + 1)
            replace(packet, b"new")
            packet.repeat()
        else:
            packet.accept()

    with bound(callback) as queue:
        udp.send(b"old")
        queue.run(False)
    assert seen == [(0, b"old"), (1, b"new"), (2, b"new")]
    assert udp.arrivals() == [b"new"]


def test_second_verdict(udp: UdpPair) -> None:
    """A packet has one verdict, also if its queue is unbound meanwhile."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        kept.append(packet)
        packet.accept()
        with pytest.raises(RuntimeError, match="Verdict already given"):
            packet.drop()

    with bound(callback) as queue:
        udp.send(b"data")
        queue.run(False)
        for verdict in (Packet.accept, Packet.drop, Packet.repeat):
            with pytest.raises(RuntimeError, match="Verdict already given"):
                verdict(kept[0])
    with pytest.raises(RuntimeError, match="Verdict already given"):
        kept[0].accept()
    assert udp.arrivals() == [b"data"]


def test_forgotten_packet_makes_room(udp: UdpPair) -> None:
    """A packet that nobody can answer is dropped, so that the queue does not fill up."""
    seen: list[bytes] = []

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        if seen[-1] == b"last":
            packet.accept()

    with bound(callback, max_len=1) as queue:
        for data in (b"1", b"2", b"last"):
            udp.send(data)
            queue.run(False)
    assert seen == [b"1", b"2", b"last"]
    assert udp.arrivals() == [b"last"]


# What a packet tells


def test_payload_after_the_callback(udp: UdpPair) -> None:
    """A payload is there during the callback, and later only if it was retained."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        if data_of(packet) == b"retained":
            packet.retain()
        kept.append(packet)

    with bound(callback) as queue:
        udp.send(b"retained", b"not")
        queue.run(False)
        retained, other = kept
        assert data_of(retained) == b"retained"
        assert str(retained) == "UDP packet, 36 bytes"
        for call in (other.get_payload, other.retain):
            with pytest.raises(RuntimeError, match="Payload data is no longer available"):
                call()
        assert other.get_payload_len() == 31
        assert str(other) == "31 byte packet, contents unretained"
        replace(retained, b"changed!")
        assert data_of(retained) == b"changed!"
        retained.accept()
        other.set_payload(retained.get_payload())
        assert data_of(other) == b"changed!"
        other.accept()
    assert udp.arrivals() == [b"changed!", b"changed!"]


def test_retained_is_what_was_set(udp: UdpPair) -> None:
    """retain() keeps a payload that was set."""

    def callback(packet: Packet) -> None:
        replace(packet, b"new!")
        packet.retain()
        packet.set_payload(b"")
        kept.append(packet)

    kept: list[Packet] = []
    with bound(callback) as queue:
        udp.send(b"data")
        queue.run(False)
        assert data_of(kept[0]) == b"new!"
        kept[0].accept()
    assert udp.arrivals() == [b"data"]


def test_no_payload(udp: UdpPair) -> None:
    """With COPY_META there is no payload, but one may be set."""

    def callback(packet: Packet) -> None:
        for call in (packet.get_payload, packet.retain):
            with pytest.raises(RuntimeError, match="Packet has no payload"):
                call()
        assert packet.get_payload_len() == 0
        assert str(packet) == "0 byte packet, contents unretained"
        if contents:
            packet.set_payload(contents[0])
        packet.accept()

    contents: list[bytes] = []
    with bound(callback, mode=COPY_META) as queue:
        udp.send(b"one")
        queue.run(False)
        queue.unbind()
        queue.bind(1, lambda packet: contents.append(packet.get_payload()), sock_len=SOCK_LEN)
        udp.send(b"two")
        queue.run(False)
        queue.unbind()
        queue.bind(1, callback, mode=COPY_META, sock_len=SOCK_LEN)
        udp.send(b"3")
        queue.run(False)
    assert udp.arrivals() == [b"one", b"two"]


def test_attributes(udp: UdpPair) -> None:
    """The numbers are ints, which can't be set; an outgoing packet has no sender's address."""
    iptables("-t raw -I OUTPUT -p udp --sport 9998 -j MARK --set-mark 7")

    def callback(packet: Packet) -> None:
        seen.append((packet.id, packet.hook, packet.hw_protocol, packet.mark))
        assert {type(number) for number in seen[-1]} == {int}
        assert (packet.indev, packet.outdev) == (0, socket.if_nametoindex("lo"))
        assert (packet.physindev, packet.physoutdev) == (0, 0)
        assert (packet.get_hw(), packet.get_timestamp()) == (None, 0.0)
        with pytest.raises(AttributeError):
            packet.mark = 5  # type: ignore[misc]
        packet.accept()

    seen: list[tuple[int, int, int, int]] = []
    with bound(callback) as queue:
        udp.send(b"1", b"2")
        queue.run(False)
    assert seen == [(1, 3, 0x0800, 7), (2, 3, 0x0800, 7)]


def test_hardware_address() -> None:
    """The sender's address is padded to eight bytes; a packet that comes in has a device."""
    queue_rule(1, "-p udp", chain="PREROUTING")
    seen: list[tuple[bytes | None, int, int, int]] = []

    def callback(packet: Packet) -> None:
        seen.append((packet.get_hw(), packet.hook, packet.indev, packet.outdev))
        packet.accept()

    with contextlib.closing(Namespace()) as neighbour, bound(callback) as queue:
        veth("left", "eth0", neighbour)
        run("ip address add 10.1.0.1/24 dev left")
        with neighbour:
            run("ip address add 10.1.0.2/24 dev eth0")
            address = mac("eth0")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"data", ("10.1.0.1", PORT))
        run_until(queue, lambda: seen)
        assert seen == [(address + b"\0\0", 0, socket.if_nametoindex("left"), 0)]


def test_timestamp() -> None:
    """While some socket asks for timestamps, a packet that comes in has the time when it came."""
    queue_rule(1, chain="PREROUTING")
    stamps: list[float] = []

    def callback(packet: Packet) -> None:
        stamps.append(packet.get_timestamp())

    with UdpPair() as pair, bound(callback) as queue:
        pair.receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
        end = time.monotonic() + TIMEOUT
        while not any(stamps):  # the kernel begins with it a little later
            assert time.monotonic() < end, "the kernel gave no timestamp"
            before = time.time()
            pair.send(b"data")
            queue.run(False)
            after = time.time()
    assert before - 0.001 <= stamps[-1] <= after + 0.001


@pytest.mark.parametrize(
    ("family", "protocol", "name"),
    [
        (socket.AF_INET, socket.IPPROTO_UDP, "UDP packet, 32 bytes"),
        (socket.AF_INET, socket.IPPROTO_ICMP, "ICMP packet, 32 bytes"),
        (socket.AF_INET, 200, "Unknown protocol packet, 32 bytes"),
        (socket.AF_INET6, socket.IPPROTO_UDP, "UDP packet, 52 bytes"),
        (socket.AF_INET6, 200, "Unknown protocol packet, 52 bytes"),
    ],
)
def test_text(family: int, protocol: int, name: str) -> None:
    """A packet's text says its protocol and its length."""
    queue_rule(1, f"-p {protocol}", family=family)
    texts: list[str] = []
    with (
        bound(lambda packet: texts.append(str(packet))) as queue,
        socket.socket(family, socket.SOCK_RAW, protocol) as sock,
    ):
        sock.sendto(bytes(12), (LOOPBACK[family], 0))
        queue.run(False)
    assert texts == [name]


def test_text_of_a_short_packet(udp: UdpPair) -> None:
    """A packet that is cut before its protocol has a text too."""
    texts: list[str] = []
    with bound(lambda packet: texts.append(str(packet)), range=5) as queue:
        udp.send(b"data")
        queue.run(False)
    assert texts == ["Unknown protocol packet, 5 bytes"]


# Truncation


@DRAINS
def test_whole_packets(udp: UdpPair, drain: Drain) -> None:
    """Loopback's packets, which are larger than Ethernet's, come whole and can be changed."""

    def callback(packet: Packet) -> None:
        replace(packet, data_of(packet).upper())
        packet.accept()

    with bound(callback, sock_len=1_000_000) as queue:
        udp.send(b"x" * 65000)
        drain(queue)
    assert udp.arrivals() == [b"X" * 65000]


def test_range(udp: UdpPair) -> None:
    """Range cuts packets: they can be accepted as they are, and dropped, but not changed."""

    def callback(packet: Packet) -> None:
        assert (packet.get_payload_len(), len(packet.get_payload())) == (30, 30)
        if data_of(packet) == b"no":
            packet.set_payload(packet.get_payload())
            for verdict in (packet.accept, packet.repeat):
                with pytest.raises(ValueError, match="truncated"):
                    verdict()
            packet.drop()
        else:
            packet.accept()

    with bound(callback, range=30) as queue:
        udp.send(b"yes, it passes", b"no, it does not", b"this one passes")
        queue.run(False)
    assert udp.arrivals() == [b"yes, it passes", b"this one passes"]


# Exceptions


@DRAINS
def test_callback_raises(udp: UdpPair, drain: Drain) -> None:
    """An exception ends run() at once; its packet can still be answered, the others wait."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        if data_of(packet) == b"bad" and not kept:
            kept.append(packet)
            raise NoticedError
        packet.accept()

    with bound(callback) as queue:
        udp.send(b"1", b"bad", b"2")
        with pytest.raises(NoticedError):
            drain(queue)
        assert udp.arrivals() == [b"1"]
        with pytest.raises(RuntimeError, match="Payload data is no longer available"):
            kept[0].get_payload()
        kept[0].accept()
        assert udp.arrivals() == [b"bad"]
        with pytest.raises(RuntimeError, match="Verdict already given"):
            kept[0].drop()
        with socket_of(queue) as sock:  # whoever waits for the descriptor is told of the others
            sock.settimeout(TIMEOUT)
            assert sock.recv(1, socket.MSG_PEEK)
            sock.settimeout(None)
        drain(queue)
    assert udp.arrivals() == [b"2"]


def test_callback_raises_in_a_blocking_run(udp: UdpPair) -> None:
    """run() goes on with the next packet when it is called again."""
    seen: list[bytes] = []

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        packet.accept()
        if seen[-1] in (b"1", b"3"):
            raise NoticedError

    with bound(callback) as queue:
        udp.send(b"1", b"2", b"3", b"4")
        for passed in ([b"1"], [b"2", b"3"]):
            with pytest.raises(NoticedError):
                queue.run()
            assert udp.arrivals() == passed
        queue.run(False)
    assert udp.arrivals() == [b"4"]


def test_signal_handler_raises(udp: UdpPair) -> None:
    """run() waits until a signal handler raises, as that of Ctrl-C does."""
    calls: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        if not calls:
            calls.append(number)
            raise InterruptError

    def callback(packet: Packet) -> None:
        packet.accept()
        begin.set()

    def signal_once() -> None:
        begin.wait(TIMEOUT)
        signal_until_called(calls)

    begin = threading.Event()
    old = signal.signal(signal.SIGUSR1, handler)
    try:
        with bound(callback) as queue:
            udp.send(b"1")
            signalling = background(signal_once)
            with pytest.raises(InterruptError):
                queue.run()
            signalling.result(TIMEOUT)
            udp.send(b"2")
            queue.run(False)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert udp.arrivals() == [b"1", b"2"]


# Loops


def test_run_waits_for_packets(udp: UdpPair) -> None:
    """run() serves packets as they come, and lets other threads run meanwhile."""

    def callback(packet: Packet) -> None:
        last = data_of(packet) == b"last"
        packet.accept()
        if last:
            raise NoticedError

    with bound(callback) as queue:
        running = background(queue.run)
        for data in (b"1", b"2", b"last"):
            udp.send(data)
            assert udp.recv() == data
        assert isinstance(running.exception(TIMEOUT), NoticedError)


def test_run_on_a_descriptor_that_does_not_block(udp: UdpPair) -> None:
    """run() returns after the last packet if the descriptor does not block."""
    with bound(Packet.accept) as queue:
        os.set_blocking(queue.get_fd(), False)
        queue.run()
        udp.send(b"1", b"2")
        queue.run()
    assert udp.arrivals() == [b"1", b"2"]


def test_socket_with_a_timeout(udp: UdpPair) -> None:
    """run_socket() raises the socket's timeout once no packet comes."""
    with bound(Packet.accept) as queue, socket_of(queue) as sock:
        sock.settimeout(0.01)
        udp.send(b"1", b"2")
        with pytest.raises(TimeoutError):
            queue.run_socket(sock)
        assert udp.arrivals() == [b"1", b"2"]


def test_closed_socket() -> None:
    """run_socket() raises the socket's errors."""
    with bound(Packet.accept) as queue:
        sock = socket_of(queue)
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            queue.run_socket(sock)


@DRAINS
def test_overrun(udp: UdpPair, drain: Drain) -> None:
    """When packets were lost, the loop goes on with those that were not."""
    seen: list[bytes] = []
    with bound(lambda packet: seen.append(data_of(packet)), sock_len=2304) as queue:
        for number in range(50):
            udp.send(bytes([number]))
        drain(queue)
        assert 0 < len(seen) < 50
        udp.send(b"last")
        drain(queue)
    assert seen[-1] == b"last"


async def test_reader_of_a_loop(udp: UdpPair) -> None:
    """An event loop that watches the descriptor calls run(False)."""
    done = asyncio.Event()

    def callback(packet: Packet) -> None:
        packet.accept()
        if packet.id == 3:
            done.set()

    loop = asyncio.get_running_loop()
    with bound(callback) as queue:
        loop.add_reader(queue.get_fd(), queue.run, False)
        try:
            udp.send(b"1", b"2", b"3")
            async with asyncio.timeout(TIMEOUT):
                await done.wait()
        finally:
            loop.remove_reader(queue.get_fd())
    assert udp.arrivals() == [b"1", b"2", b"3"]


def test_answers_from_another_thread(udp: UdpPair) -> None:
    """A kept packet may be answered by any thread, while run() waits."""
    kept: list[Packet] = []

    def callback(packet: Packet) -> None:
        if kept:
            raise NoticedError
        kept.append(packet)

    with bound(callback) as queue:
        running = background(queue.run)
        udp.send(b"data")
        end = time.monotonic() + TIMEOUT
        while not kept:
            time.sleep(0.001)
            assert time.monotonic() < end
        kept[0].accept()
        assert udp.recv() == b"data"
        udp.send(b"end")
        with pytest.raises(NoticedError):
            running.result(TIMEOUT)


# Binding


def test_bound_twice() -> None:
    """An object has one queue at a time, and a number one reader."""
    with bound(Packet.accept) as queue:
        with pytest.raises(RuntimeError, match="A queue is already bound"):
            queue.bind(2, Packet.accept, sock_len=SOCK_LEN)
        other = NetfilterQueue()
        with pytest.raises(OSError, match="Failed to create queue 1") as raised:
            other.bind(1, Packet.accept, sock_len=SOCK_LEN)
        assert raised.value.errno == errno.EPERM
        other.bind(2, Packet.accept, sock_len=SOCK_LEN)
        other.unbind()


@pytest.mark.parametrize(
    "options", [{"mode": 3}, {"range": 1 << 32}, {"max_len": -1}, {"sock_len": -1}]
)
def test_wrong_options(options: dict[str, int]) -> None:
    """A value out of range is refused, and nothing stays bound."""
    queue = NetfilterQueue()
    with pytest.raises(ValueError, match="must be in"):
        queue.bind(1, Packet.accept, **{"sock_len": SOCK_LEN, **options})
    for number in (-1, 65536):
        with pytest.raises(ValueError, match="must be in"):
            queue.bind(number, Packet.accept, sock_len=SOCK_LEN)
    queue.bind(1, Packet.accept, sock_len=SOCK_LEN)


def test_unbind(udp: UdpPair) -> None:
    """Unbinding drops what waits; a packet can't be answered then, not even when bound again."""
    kept: list[Packet] = []
    with bound(kept.append) as queue:
        udp.send(b"1")
        queue.run(False)
        udp.send(b"2")
        queue.unbind()
        queue.unbind()
        with pytest.raises(RuntimeError, match="Parent queue has already been unbound"):
            kept[0].accept()
        queue.bind(1, Packet.accept, sock_len=SOCK_LEN)
        with pytest.raises(RuntimeError, match="Parent queue has already been unbound"):
            kept[0].accept()
        udp.send(b"3")
        queue.run(False)
    assert udp.arrivals() == [b"3"]


def test_unbound_in_the_callback(udp: UdpPair) -> None:
    """A callback that unbinds its queue is called no more."""
    seen: list[bytes] = []

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        packet.accept()
        queue.unbind()
        raise NoticedError

    with bound(callback) as queue:
        udp.send(b"1", b"2")
        with pytest.raises(NoticedError):
            queue.run()
        queue.run(False)
    assert seen == udp.arrivals() == [b"1"]


def test_max_len(udp: UdpPair) -> None:
    """The kernel drops packets for which the queue has no room."""
    kept: list[Packet] = []
    with bound(kept.append, max_len=2) as queue:
        udp.send(b"1", b"2", b"3")
        queue.run(False)
        for packet in kept:
            packet.accept()
    assert udp.arrivals() == [b"1", b"2"]


def test_none_copied(udp: UdpPair) -> None:
    """With COPY_NONE no packet comes."""
    seen: list[Packet] = []
    with bound(seen.append, mode=COPY_NONE) as queue:
        udp.send(b"data")
        queue.run(False)
    assert seen == []


def test_size_of_the_receive_buffer() -> None:
    """The receive buffer has the size that was asked for, or else there is a warning."""
    with bound(Packet.accept) as queue, socket_of(queue) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * SOCK_LEN
        queue.unbind()
        with pytest.warns(RuntimeWarning, match="rcvbuf limit is") as warnings:
            queue.bind(1, Packet.accept, sock_len=1 << 30)
        assert warnings[0].filename == __file__
        queue.unbind()
        with pytest.raises(RuntimeWarning):  # as an error it leaves nothing bound
            queue.bind(1, Packet.accept, sock_len=1 << 30)
        queue.bind(1, Packet.accept, sock_len=SOCK_LEN)


def test_collected(udp: UdpPair) -> None:
    """A queue goes with the last reference to it and to its packets."""
    kept: list[Packet] = []
    queue = NetfilterQueue()
    queue.bind(1, kept.append, sock_len=SOCK_LEN)
    udp.send(b"data")
    queue.run(False)
    del queue
    gc.collect()
    kept[0].accept()
    assert udp.arrivals() == [b"data"]
    kept.clear()
    gc.collect()
    with bound(Packet.accept):
        pass


def test_subclass(udp: UdpPair) -> None:
    """A class of the program's own needs no call of ours to be set up."""

    class Filter(NetfilterQueue):
        def __init__(self, number: int = 1) -> None:
            self.seen: list[int] = []
            self.bind(number, self.decide, sock_len=SOCK_LEN)

        def decide(self, packet: Packet) -> None:
            self.seen.append(packet.id)
            packet.accept()

    queue = Filter()
    udp.send(b"1", b"2")
    queue.run(False)
    queue.unbind()
    assert queue.seen == [1, 2]
    assert udp.arrivals() == [b"1", b"2"]


def test_on_the_fake_kernel(nfqueue: FakeKernel) -> None:
    """Programs can be tested without root, too."""
    texts: list[str] = []

    def callback(packet: Packet) -> None:
        texts.append(str(packet))
        packet.set_mark(4)
        packet.accept()

    with bound(callback) as queue:
        packet = nfqueue.enqueue(bytes.fromhex("450000140000000040110000") + bytes(8))
        queue.run(False)
    assert (packet.passed, packet.mark, texts) == (True, 4, ["UDP packet, 20 bytes"])


# Opening


def test_socket_of_another_namespace(udp: UdpPair) -> None:
    """A socket that was opened in another namespace has that one's packets."""
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock,
        private_namespace(),
    ):
        queue = NetfilterQueue(sockfd=sock.fileno())
        queue.bind(1, Packet.accept, sock_len=SOCK_LEN)
    udp.send(b"data")
    queue.run(False)
    assert udp.arrivals() == [b"data"]
    queue.unbind()


def test_wrong_descriptors() -> None:
    """What is no socket is refused, as is a call without privileges."""
    with pytest.raises(OSError, match="dup2 failed"):
        NetfilterQueue(sockfd=1000)
    with (
        open("/dev/null", "rb") as file,
        pytest.raises(OSError, match="Failed to open NFQueue"),
    ):
        NetfilterQueue(sockfd=file.fileno())
    with without_net_admin(), pytest.raises(PermissionError, match="Failed to open NFQueue"):
        NetfilterQueue(af=socket.AF_INET6)
    NetfilterQueue(af=socket.AF_INET6)
