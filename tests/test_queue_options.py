# SPDX-License-Identifier: GPL-2.0-or-later
"""Options of sockets and queues: set, cleared, and seen to work on real packets."""

import contextlib
import errno
import itertools
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flows import FLOWS, balance, flow_of, send_flows, sender
from netns import (
    PORT,
    TIMEOUT,
    Namespace,
    UdpPair,
    background,
    queue_rule,
    run,
    tcp_echo,
    tcp_exchange,
    veth,
    without_net_admin,
)
from played_kernel import MSG_CONFIG, PlayedKernel
from queues import Handle, Packet, Queue, accept, accepting, netlink_socket, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
SOL_NETLINK, NETLINK_NO_ENOBUFS = 270, 5
SO_NO_CHECK = 11
SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103
SMALL = 4096  # a receive buffer for a few packets
INT_MAX = (1 << 31) - 1


def numbered(count: int, size: int = 4) -> list[bytes]:
    """Data of so many datagrams."""
    return [b"%04d" % number + bytes(size - 4) for number in range(count)]


def drain(handle: Handle) -> int:
    """Processes all that waits; returns how many packets that were."""
    return sum(iter(handle.process, 0))


# The socket's options


def reported(handle: Handle) -> int:
    """The size of the receive buffer, as a copy of the descriptor has it."""
    with netlink_socket(handle) as sock:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def limit() -> int:
    """How large a receive buffer may become without privilege, as the kernel reports it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, INT_MAX // 2)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def unlimited() -> bool:
    """Whether we may go past that: root outside of user namespaces may."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SMALL)
        except PermissionError:
            return False
        return True


def test_rcvbuf(handle: Handle) -> None:
    """The kernel doubles what is set, and reports that."""
    assert handle.rcvbuf == reported(handle)
    handle.rcvbuf = 100_000
    assert handle.rcvbuf == reported(handle) == 200_000


def test_rcvbuf_past_the_limit(handle: Handle) -> None:
    """rcvbuf exceeds the system's limit where that is allowed, else it is cut to it."""
    most = limit()
    handle.rcvbuf = most
    assert handle.rcvbuf == (2 * most if unlimited() else most)
    handle.rcvbuf = SMALL
    with without_net_admin():
        handle.rcvbuf = most
    assert handle.rcvbuf == most


def test_rcvbuf_extremes(handle: Handle) -> None:
    """A size that doubles beyond an int becomes the largest; 0 becomes the smallest."""
    handle.rcvbuf = INT_MAX
    assert handle.rcvbuf == (INT_MAX - 1 if unlimited() else limit())
    handle.rcvbuf = INT_MAX // 2 + 1
    assert handle.rcvbuf == (INT_MAX - 1 if unlimited() else limit())
    handle.rcvbuf = 0
    assert 0 < handle.rcvbuf < SMALL


def test_no_enobufs(handle: Handle) -> None:
    """no_enobufs is off, and then what was set last; any object has a truth."""
    values: list[Any] = [True, False, 1, 0, "yes", ""]
    assert handle.no_enobufs is False
    for value in values:
        handle.no_enobufs = value
        assert handle.no_enobufs is bool(value)
        with netlink_socket(handle) as sock:
            assert sock.getsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS) == bool(value)


@pytest.mark.parametrize("quiet", [False, True])
def test_flood_of_a_small_buffer(handle: Handle, udp: UdpPair, quiet: bool) -> None:
    """With no_enobufs the kernel doesn't report the packets that had no room; without, it does."""
    seen: list[bytes] = []
    handle.create_queue(1, accepting(seen), mode=COPY)
    handle.rcvbuf = SMALL
    handle.no_enobufs = quiet
    sent = numbered(20, 800)
    udp.send(*sent)
    assert 0 < drain(handle) < 20
    assert handle.stats().overruns == (0 if quiet else 1)
    assert udp.arrivals() == seen == sent[: len(seen)]


def test_configuration_with_a_full_quiet_buffer(handle: Handle, udp: UdpPair) -> None:
    """With no_enobufs and a full buffer a lost answer is noticed all the same."""
    seen: list[bytes] = []
    queue = handle.create_queue(1, accepting(seen), mode=COPY)
    handle.rcvbuf = SMALL
    handle.no_enobufs = True
    sent = numbered(20, 800)
    for _ in range(3):
        udp.send(*sent)
        queue.set_maxlen(100)
        udp.send(*sent)
        handle.create_queue(2, accept, mode=COPY).destroy()
    drain(handle)
    assert udp.arrivals() == seen
    assert len(seen) > 6
    assert (handle.stats().overruns, handle.stats().verdict_errors) == (0, 0)


def test_options_of_no_netlink_socket() -> None:
    """A socket pair has a receive buffer, but nothing that reports ENOBUFS: OSError says why."""
    with PlayedKernel() as kernel:
        kernel.handle.rcvbuf = 100_000
        assert kernel.handle.rcvbuf == 200_000
        with pytest.raises(OSError, match=r"no_enobufs: .*: the descriptor is not a netlink"):
            assert kernel.handle.no_enobufs
        with pytest.raises(OSError, match=r"no_enobufs: .*: the descriptor is not a netlink"):
            kernel.handle.no_enobufs = True


@pytest.mark.parametrize("name", ["rcvbuf", "no_enobufs"])
def test_socket_options_of_a_closed_handle(handle: Handle, name: str) -> None:
    """A closed handle has no socket options; those of an open one can't be deleted."""
    with pytest.raises(TypeError, match=f"{name} can't be deleted"):
        delattr(handle, name)
    handle.close()
    with pytest.raises(nfq.ClosedError, match=f"{name}: the handle is closed"):
        getattr(handle, name)
    with pytest.raises(nfq.ClosedError, match=f"{name}: the handle is closed"):
        setattr(handle, name, 1)


def test_socket_options_while_closing() -> None:
    """Where another thread closes the handle, an option is of its descriptor or of none."""

    def use(handle: Handle) -> None:
        with contextlib.suppress(ValueError):
            while True:
                handle.rcvbuf = 100_000
                assert handle.rcvbuf == 200_000
                handle.no_enobufs = not handle.no_enobufs

    for _ in range(50):
        handle = nfq.open()
        using = background(use, handle)
        handle.close()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
            before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            using.result(TIMEOUT)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before


# Flags: set with the queue or later, and cleared

Create = Callable[..., Queue]


def create_with(handle: Handle, callback: Callable[[Packet], None], **options: Any) -> Queue:
    """Queue 1 with these options from the beginning."""
    return handle.create_queue(1, callback, mode=COPY, **options)


def create_then_set(
    handle: Handle, callback: Callable[[Packet], None], flags: int, **options: Any
) -> Queue:
    """Queue 1 with flags that it gets later."""
    queue = handle.create_queue(1, callback, mode=COPY, **options)
    queue.set_flags(flags, flags)
    return queue


FLAGGED = pytest.mark.parametrize("create", [create_with, create_then_set])


@FLAGGED
@pytest.mark.parametrize("flag", list(nfq.QueueFlag))
def test_flag(handle: Handle, udp: UdpPair, create: Create, flag: nfq.QueueFlag) -> None:
    """Each flag can be set and cleared, and packets go on passing.

    A kernel without conntrack's netlink interface refuses CONNTRACK, one without security marks
    SECCTX, with EOPNOTSUPP; then nothing was changed.
    """
    try:
        queue = create(handle, accept, flags=flag)
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP  # noqa: PT017
        assert flag in (nfq.NFQA_CFG_F_CONNTRACK, nfq.NFQA_CFG_F_SECCTX)
        with contextlib.suppress(OSError):  # bound it is only where set_flags was refused
            create_with(handle, accept)
    else:
        for value in (0, flag, flag, 0):
            udp.send(b"data")
            assert handle.process() == 1
            queue.set_flags(flag, value)
    udp.send(b"data")
    assert handle.process() == 1
    assert set(udp.arrivals()) == {b"data"}


def test_flags_outside_the_mask(handle: Handle, udp: UdpPair) -> None:
    """set_flags leaves alone what its mask doesn't name."""
    known: list[bool] = []

    def callback(packet: Packet) -> None:
        known.append(packet.uid is not None)
        packet.accept()

    queue = create_with(handle, callback, flags=nfq.NFQA_CFG_F_UID_GID, maxlen=1)
    queue.set_flags(nfq.NFQA_CFG_F_FAIL_OPEN, nfq.NFQA_CFG_F_FAIL_OPEN | nfq.NFQA_CFG_F_UID_GID)
    udp.send(b"1", b"2")
    handle.process()
    queue.set_flags(nfq.NFQA_CFG_F_UID_GID, 0)
    udp.send(b"3", b"4")
    handle.process()
    assert known == [True, False]
    assert udp.arrivals() == [b"2", b"1", b"4", b"3"]


def check_open(handle: Handle, udp: UdpPair, sent: list[bytes]) -> None:
    """Those that are too many pass at once, the others when they have their verdict."""
    udp.send(*sent)
    passed = udp.arrivals()
    waiting = drain(handle)
    assert 0 < waiting < len(sent)
    assert passed == sent[waiting:]
    assert udp.arrivals() == sent[:waiting]


def check_shut(handle: Handle, udp: UdpPair, sent: list[bytes]) -> None:
    """Those that are too many are dropped."""
    udp.send(*sent)
    assert udp.arrivals() == []
    waiting = drain(handle)
    assert 0 < waiting < len(sent)
    assert udp.arrivals() == sent[:waiting]


@FLAGGED
@pytest.mark.parametrize(("maxlen", "rcvbuf"), [(5, None), (1000, SMALL)], ids=["queue", "buffer"])
def test_fail_open(
    handle: Handle, udp: UdpPair, create: Create, maxlen: int, rcvbuf: int | None
) -> None:
    """With FAIL_OPEN packets that find the queue or the buffer full pass, else they are dropped."""
    queue = create(handle, accept, flags=nfq.NFQA_CFG_F_FAIL_OPEN, maxlen=maxlen)
    if rcvbuf is not None:
        handle.rcvbuf = rcvbuf
    sent = numbered(20, 800)
    check_open(handle, udp, sent)
    queue.set_flags(nfq.NFQA_CFG_F_FAIL_OPEN, 0)
    check_shut(handle, udp, sent)
    queue.set_flags(nfq.NFQA_CFG_F_FAIL_OPEN, nfq.NFQA_CFG_F_FAIL_OPEN)
    check_open(handle, udp, sent)
    assert handle.stats().overruns == (0 if rcvbuf is None else 3)


@FLAGGED
def test_uid_gid(handle: Handle, udp: UdpPair, create: Create) -> None:
    """With UID_GID user and group are known, once it is cleared they aren't."""
    known: list[tuple[bool, bool]] = []

    def callback(packet: Packet) -> None:
        known.append((packet.uid is not None, packet.get_gid() is not None))
        packet.accept()

    flag = nfq.NFQA_CFG_F_UID_GID
    queue = create(handle, callback, flags=flag)
    for value in (0, flag, 0):
        udp.send(b"data")
        handle.process()
        queue.set_flags(flag, value)
    assert known == [(True, True), (False, False), (True, True)]


class Seen:
    """A callback that notes what the offloads made of a packet, and lets it pass."""

    def __init__(self) -> None:
        self._packets: list[tuple[nfq.SkbInfo, int]] = []

    def __call__(self, packet: Packet) -> None:
        assert not packet.truncated
        self._packets.append((packet.skb_info, packet.original_length))
        packet.accept()

    def take(self) -> list[tuple[nfq.SkbInfo, int]]:
        """What it has noted since the last time."""
        packets, self._packets = self._packets, []
        return packets


OFFLOADED = nfq.NFQA_SKB_GSO | nfq.NFQA_SKB_CSUMNOTREADY


@FLAGGED
def test_gso(handle: Handle, udp: UdpPair, create: Create) -> None:
    """With GSO a train of segments comes as one packet, else the kernel cuts it up first."""
    seen = Seen()
    queue = create(handle, seen, flags=nfq.NFQA_CFG_F_GSO)
    run("ip link set lo mtu 1500")
    handle.rcvbuf = 100_000
    udp.sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1400)
    whole, cut = [(OFFLOADED, 46 * 1400 + 28)], [(0, 1428)] * 46
    for value, expected in [(0, whole), (nfq.NFQA_CFG_F_GSO, cut), (0, whole)]:
        udp.send(bytes(46 * 1400))
        drain(handle)
        assert seen.take() == expected
        assert udp.arrivals() == [bytes(1400)] * 46
        queue.set_flags(nfq.NFQA_CFG_F_GSO, value)


@pytest.mark.parametrize("flags", [0, nfq.NFQA_CFG_F_GSO])
def test_gso_of_tcp(handle: Handle, flags: int) -> None:
    """A TCP stream comes in packets of up to 64 KiB with GSO, in the MTU's segments without."""
    queue_rule(1, f"-p tcp --dport {PORT}")
    run("ip link set lo mtu 1500")
    seen = Seen()
    handle.rcvbuf = 1 << 20
    create_with(handle, seen, flags=flags | nfq.NFQA_CFG_F_FAIL_OPEN)
    data = os.urandom(1 << 20)
    with tcp_echo() as served:
        exchange = background(tcp_exchange, data)
        process_until(handle, served.done)
        assert exchange.result(TIMEOUT) == data
    packets = seen.take()
    longest = max(length for _, length in packets)
    if flags:
        assert 8 * 1500 < longest <= 65535
        assert all(info & nfq.NFQA_SKB_CSUMNOTREADY for info, _ in packets)
        assert all(bool(info & nfq.NFQA_SKB_GSO) == (length > 1500) for info, length in packets)
    else:
        assert longest <= 1500
        assert {info for info, _ in packets} == {0}


NOT_READY, NOT_VERIFIED = nfq.NFQA_SKB_CSUMNOTREADY, nfq.NFQA_SKB_CSUM_NOTVERIFIED


@pytest.mark.parametrize(
    ("chain", "no_check", "flags", "info"),
    [
        ("OUTPUT", 0, 0, 0),
        ("OUTPUT", 0, nfq.NFQA_CFG_F_GSO, NOT_READY),
        ("OUTPUT", 1, nfq.NFQA_CFG_F_GSO, 0),
        ("PREROUTING", 0, 0, 0),
        ("PREROUTING", 0, nfq.NFQA_CFG_F_GSO, NOT_READY),
        ("PREROUTING", 1, 0, NOT_VERIFIED),
        ("PREROUTING", 1, nfq.NFQA_CFG_F_GSO, NOT_VERIFIED),
    ],
)
def test_skb_info(handle: Handle, chain: str, no_check: int, flags: int, info: int) -> None:
    """GSO also keeps the kernel from filling in a checksum that a device was to fill in.

    NOTVERIFIED is about packets coming in, or forwarded: nobody has checked theirs. That a packet
    is loopback's own and has none yet counts as checked.
    """
    queue_rule(1, chain=chain)
    seen = Seen()
    create_with(handle, seen, flags=flags)
    with UdpPair() as udp:
        udp.sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, no_check)
        udp.send(b"data")
        process_until(handle, lambda: handle.stats().packets)
        assert udp.arrivals() == [b"data"]
    assert seen.take() == [(info, 32)]


def test_checksum_filled_in_on_the_way(handle: Handle, udp: UdpPair) -> None:
    """A queue without GSO fills the checksum in on the way out: coming in, it is not verified."""
    queue_rule(1, chain="PREROUTING")
    seen = Seen()
    create_with(handle, seen)
    udp.send(b"data")
    process_until(handle, lambda: handle.stats().packets == 2)
    assert seen.take() == [(0, 32), (NOT_VERIFIED, 32)]


def test_checksum_not_verified_over_veth(handle: Handle) -> None:
    """The checksum of a packet from a neighbour who has computed it is not verified either."""
    queue_rule(1, "-p udp", chain="PREROUTING")
    seen = Seen()
    create_with(handle, seen)
    with contextlib.closing(Namespace()) as neighbour:
        veth("left", "eth0", neighbour)
        run("ip address add 10.1.0.1/24 dev left")
        with neighbour, socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as sock:
            run("ip address add 10.1.0.2/24 dev eth0")
            sock.sendto(struct.pack("!HHHH4s", PORT, PORT, 12, 0, b"data"), ("10.1.0.1", PORT))
        process_until(handle, lambda: handle.stats().packets)
    assert seen.take() == [(NOT_VERIFIED, 32)]


# Everything at once


def attributes(config: bytes) -> dict[int, bytes]:
    """The attributes of a configuration message, by their kind."""
    found: dict[int, bytes] = {}
    position = 20
    while position < len(config):
        length, kind = struct.unpack_from("=HH", config, position)
        found[kind] = config[position + 4 : position + length]
        position += length + -length % 4
    return found


def test_one_request() -> None:
    """Everything that create_queue's keywords name is sent with the binding, in one message."""
    flags = nfq.NFQA_CFG_F_FAIL_OPEN | nfq.NFQA_CFG_F_GSO
    with PlayedKernel() as kernel:
        with kernel.answering():
            kernel.handle.create_queue(7, accept, mode=COPY, range=100, maxlen=5, flags=flags)
        requests = kernel.received()
    assert [struct.unpack_from("=H", request, 4)[0] for request in requests] == [MSG_CONFIG]
    assert struct.unpack_from("!H", requests[0], 18) == (7,)
    assert attributes(requests[0]) == {
        1: struct.pack("!BBH", 1, 0, 0),  # NFQA_CFG_CMD: bind
        2: struct.pack("!IB", 100, COPY),  # NFQA_CFG_PARAMS
        3: struct.pack("!I", 5),  # NFQA_CFG_QUEUE_MAXLEN
        4: struct.pack("!I", flags),  # NFQA_CFG_MASK
        5: struct.pack("!I", flags),  # NFQA_CFG_FLAGS
    }


def test_everything_at_once(handle: Handle, udp: UdpPair) -> None:
    """All keywords of create_queue together work."""
    packets: list[Packet] = []
    flags = nfq.NFQA_CFG_F_FAIL_OPEN | nfq.NFQA_CFG_F_UID_GID
    handle.create_queue(
        1, packets.append, mode=COPY, range=30, maxlen=2, flags=flags, default_verdict=nfq.NF_ACCEPT
    )
    udp.send(b"1...", b"2...", b"3...")
    assert udp.arrivals() == [b"3..."]
    assert handle.process() == 2
    assert [packet.get_payload()[28:] for packet in packets] == [b"1.", b"2."]
    assert all(packet.uid is not None for packet in packets)
    packets.clear()
    assert sorted(udp.arrivals()) == [b"1...", b"2..."]


# How many wait, and how much of them is copied


def dropped_by_the_queue(number: int) -> int | None:
    """How many packets found the queue full; None where the kernel hides it."""
    try:
        lines = Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text().splitlines()
    except PermissionError:
        return None
    return {int(line.split()[0]): int(line.split()[5]) for line in lines}[number]


@pytest.mark.parametrize("maxlen", [0, 1, 5, 100, None])
def test_maxlen(handle: Handle, maxlen: int | None) -> None:
    """At most maxlen packets wait, 1024 by default; the kernel drops and counts the rest."""
    queue_rule(1, chain="PREROUTING")
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=COPY, maxlen=maxlen)
    length = 1024 if maxlen is None else maxlen
    sent = numbered(length + 10)
    with UdpPair() as udp:
        for first in range(0, len(sent), 50):
            udp.send(*sent[first : first + 50])
            drain(handle)
        assert udp.arrivals() == []
        drain(handle)
        assert [packet.get_payload()[28:] for packet in packets] == sent[:length]
        assert dropped_by_the_queue(1) in (10, None)
        for packet in packets[:100]:
            packet.accept()
        assert udp.arrivals() == sent[: min(length, 100)]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("copy_range", "length"), [(0xFFFF, 32), (0, 32), (0xFFFFFFFF, 32), (1, 1), (32, 32), (31, 31)]
)
def test_copy_range(
    handle: Handle, udp: UdpPair, later: bool, copy_range: int, length: int
) -> None:
    """The range is how many bytes of a packet are copied; 0 is as many as the kernel can."""
    packets: list[Packet] = []
    if later:
        handle.create_queue(1, packets.append).set_mode(COPY, copy_range)
    else:
        handle.create_queue(1, packets.append, mode=COPY, range=copy_range)
    udp.send(b"data")
    assert handle.process() == 1
    assert len(packets[0].payload) == length
    assert packets[0].truncated == (length < 32)
    assert packets[0].original_length == 32
    packets[0].accept()
    assert udp.arrivals() == [b"data"]


# Several queues


def test_eight_queues_on_one_handle(handle: Handle, udp: UdpPair) -> None:
    """Each packet comes to the callback of its own queue, in the order it was sent."""
    ports = range(9001, 9009)
    seen: dict[int, list[bytes]] = {}
    with contextlib.ExitStack() as stack:
        senders = []
        for number, port in enumerate(ports, start=10):
            queue_rule(number, f"-p udp --sport {port}")
            handle.create_queue(number, accepting(seen.setdefault(number, [])), mode=COPY)
            senders.append(stack.enter_context(sender(port=port)))
        for turn in range(5):
            for port, sock in zip(ports, senders, strict=True):
                sock.send(b"%d %d" % (port, turn))
        assert drain(handle) == 40
    for number, port in enumerate(ports, start=10):
        assert seen[number] == [b"%d %d" % (port, turn) for turn in range(5)]
    assert len(udp.arrivals()) == 40


BALANCED = range(1, 5)
ROUNDS = 5


def test_balance_over_threads() -> None:
    """Handles in several threads share the flows: each gets its own ones whole, nothing is lost."""
    stop = threading.Event()
    flows: dict[int, list[str]] = {number: [] for number in BALANCED}

    def serve(handle: Handle) -> None:
        while not stop.is_set():
            handle.process(timeout=0.01)

    def callback(packet: Packet) -> None:
        flows[packet.queue.number].append(flow_of(packet))
        packet.accept()

    balance(1, 4)
    with contextlib.ExitStack() as stack:
        handles = [stack.enter_context(nfq.open()) for _ in BALANCED]
        for number, handle in zip(BALANCED, handles, strict=True):
            handle.create_queue(number, callback, mode=COPY)
        serving = [background(serve, handle) for handle in handles]
        send_flows(ROUNDS)
        stop.set()
        for served in serving:
            served.result(TIMEOUT)
    assert all(flows.values())
    assert sorted(itertools.chain(*flows.values())) == sorted(FLOWS * ROUNDS)
    assert sum(len(set(own)) for own in flows.values()) == len(FLOWS)


def serve_in_child(number: int, report: int, end: int) -> None:
    """Serves the queue until the pipe `end` closes, and then reports how many packets that were."""
    with nfq.open() as handle:
        handle.create_queue(number, accept, mode=COPY)
        os.write(report, b"ready\n")
        os.set_blocking(end, False)
        while True:
            handle.process(timeout=0.01)
            with contextlib.suppress(BlockingIOError):
                os.read(end, 1)
                break
        os.write(report, b"%d\n" % handle.stats().packets)


def fork_server(number: int, report: int, end: tuple[int, int]) -> int:
    """Starts a child of fork that serves the queue; returns its process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(end[1])
            serve_in_child(number, report, end[0])
            status = 0
        finally:
            os._exit(status)
    return child


def test_balance_over_processes() -> None:
    """Handles in several processes share the flows, and nothing is lost."""
    balance(1, 4)
    end = os.pipe()
    reading, writing = os.pipe()
    children = [fork_server(number, writing, end) for number in BALANCED]
    os.close(writing)
    with open(reading) as reports:
        assert [reports.readline() for _ in children] == ["ready\n"] * 4
        send_flows(ROUNDS)
        os.close(end[1])
        served = [int(line) for line in reports]
    os.close(end[0])
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert sum(served) == len(FLOWS) * ROUNDS
    assert all(served)


def test_cpu_fanout(handle: Handle) -> None:
    """With --queue-cpu-fanout the processor that sends picks the queue."""
    balance(1, 4, "--queue-cpu-fanout")
    numbers: list[int] = []
    for number in BALANCED:
        handle.create_queue(number, lambda packet: numbers.append(packet.queue.number), mode=COPY)
    processors = os.sched_getaffinity(0)
    try:
        with sender() as sock:
            for processor in processors:
                os.sched_setaffinity(0, {processor})
                sock.send(b"data")
                assert handle.process() == 1
                assert numbers.pop() == 1 + processor % 4
    finally:
        os.sched_setaffinity(0, processors)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("bypass", [False, True])
def test_nobody_listens(handle: Handle, family: int, bypass: bool) -> None:
    """While nobody listens packets are dropped, or pass where the rule says --queue-bypass.

    A queue that has no mode yet counts as somebody, and takes none.
    """
    queue_rule(1, bypass=bypass, family=family)
    alone = [b"alone"] if bypass else []
    with UdpPair(family) as udp:
        udp.send(b"alone")
        assert udp.arrivals() == alone
        queue = handle.create_queue(1, accept, mode=None)
        udp.send(b"silent")
        assert udp.arrivals() == []
        queue.set_mode(COPY, 0xFFFF)
        udp.send(b"queued")
        assert udp.arrivals() == []
        assert handle.process() == 1
        assert udp.arrivals() == [b"queued"]
        queue.destroy()
        udp.send(b"alone")
        assert udp.arrivals() == alone
