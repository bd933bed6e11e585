# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenarios that the kernel tests its own side of the queues with, in Python.

They are those of tools/testing/selftests/net/netfilter/nft_queue.sh in the kernel's sources:
packets from all hooks, streams with and without segmentation offload, verdicts out of order and for
packets that aren't there, several queues at once, a program that ends while packets wait.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from flows import balance, send_flows
from netns import (
    LOOPBACK,
    PORT,
    QUEUED_PORT,
    TIMEOUT,
    Namespace,
    UdpPair,
    background,
    queue_rule,
    run,
    sysctl,
    tcp_echo,
    tcp_exchange,
    veth,
)
from played_kernel import MSG_VERDICT, NFQA_VERDICT_HDR, attribute, message
from queues import Handle, Packet, accept, netlink_socket, process_until

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
NETWORKS = {
    int(socket.AF_INET): {"left": "10.1.0.", "right": "10.2.0.", "prefix": "/24"},
    int(socket.AF_INET6): {"left": "fd00:1::", "right": "fd00:2::", "prefix": "/64 nodad"},
}


# A router: this namespace, between two others


def skip_address_detection() -> None:
    """Has devices to come use their IPv6 addresses at once; nobody else has these."""
    sysctl("ipv6/conf/default/accept_dad", 0)


class Router:
    """Our devices `left` and `right`, and a namespace behind each; ours is 1, theirs is 2."""

    def __init__(self, family: int, stack: contextlib.ExitStack) -> None:
        self._family, self._network = family, NETWORKS[family]
        self._namespaces = {side: self._side(side, stack) for side in ("left", "right")}
        name = "ipv4/ip_forward" if family == socket.AF_INET else "ipv6/conf/all/forwarding"
        sysctl(name, 1)

    def _side(self, side: str, stack: contextlib.ExitStack) -> Namespace:
        namespace = stack.enter_context(contextlib.closing(Namespace()))
        skip_address_detection()
        with namespace:
            skip_address_detection()
        prefix = self._network["prefix"]
        veth(side, "eth0", namespace)
        run(f"ip address add {self.address(side, 1)}{prefix} dev {side}")
        with namespace:
            run(f"ip address add {self.address(side, 2)}{prefix} dev eth0")
            option = "-6" if self._family == socket.AF_INET6 else "-4"
            run(f"ip {option} route add default via {self.address(side, 1)}")
        return namespace

    def address(self, side: str, number: int) -> str:
        return f"{self._network[side]}{number}"

    def socket(self, side: str, number: int, kind: socket.SocketKind) -> socket.socket:
        """A socket of that side's neighbour (2), or of our own there (1), bound to `PORT`."""
        with self._namespaces[side] if number == 2 else contextlib.nullcontext():
            sock = socket.socket(self._family, kind)
        sock.settimeout(TIMEOUT)
        sock.bind((self.address(side, number), PORT))
        return sock


@contextlib.contextmanager
def router(family: int) -> Iterator[Router]:
    with contextlib.ExitStack() as stack:
        yield Router(family, stack)


def readable(sock: socket.socket) -> Callable[[], object]:
    return lambda: select.select([sock], [], [], 0)[0]


def ask(handle: Handle, router: Router, side: str, number: int) -> None:
    """The left neighbour asks somebody over UDP and gets an answer."""
    with (
        router.socket("left", 2, socket.SOCK_DGRAM) as asking,
        router.socket(side, number, socket.SOCK_DGRAM) as answering,
    ):
        asking.sendto(b"question", answering.getsockname())
        process_until(handle, readable(answering))
        data, peer = answering.recvfrom(100)
        assert (data, peer[:2]) == (b"question", asking.getsockname()[:2])
        answering.sendto(b"answer", peer)
        process_until(handle, readable(asking))
        assert asking.recv(100) == b"answer"


CHAINS = ["raw PREROUTING", "filter INPUT", "filter FORWARD", "raw OUTPUT", "mangle POSTROUTING"]
MORE_CHAINS = ["mangle PREROUTING", "mangle INPUT", "mangle FORWARD", "mangle OUTPUT"]


@FAMILIES
@pytest.mark.parametrize("more", [[], MORE_CHAINS], ids=["one chain", "two chains"])
def test_every_hook(handle: Handle, family: int, more: list[str]) -> None:
    """Packets that are queued at each hook, and in several chains of it, go on behind each.

    A question that is forwarded, one to ourselves, and their answers.
    """
    for place in CHAINS + more:
        table, chain = place.split()
        queue_rule(1, "-p udp", table=table, chain=chain, family=family)
    hooks: list[nfq.Hook] = []

    def callback(packet: Packet) -> None:
        hooks.append(packet.hook)
        packet.accept()

    handle.create_queue(1, callback, mode=COPY)
    with router(family) as routed:
        ask(handle, routed, "right", 2)
        ask(handle, routed, "left", 1)
    times = 2 if more else 1
    assert Counter(hooks) == {
        nfq.NF_INET_PRE_ROUTING: 3 * times,
        nfq.NF_INET_LOCAL_IN: 1 * times,
        nfq.NF_INET_FORWARD: 2 * times,
        nfq.NF_INET_LOCAL_OUT: 1 * times,
        nfq.NF_INET_POST_ROUTING: 3,
    }
    assert handle.stats().verdict_errors == 0


# Streams


def serve_out_of_order(handle: Handle, kept: list[Packet], done: Callable[[], object]) -> None:
    """Answers what each dispatch brings the last one first."""

    def turn() -> bool:
        while kept:
            kept.pop().accept()
        return bool(done())

    process_until(handle, turn)


def receive_all(listener: socket.socket) -> bytes:
    """What one client sends to the listener until it is done."""
    conversation, _ = listener.accept()
    with conversation:
        conversation.settimeout(TIMEOUT)
        return b"".join(iter(lambda: conversation.recv(1 << 16), b""))


def send_all(sock: socket.socket, host: str, data: bytes) -> None:
    sock.connect((host, PORT))
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("flags", [0, nfq.NFQA_CFG_F_GSO], ids=["segments", "GSO"])
@pytest.mark.parametrize("order", ["in order", "out of order"])
@FAMILIES
def test_forwarded_stream(handle: Handle, family: int, order: str, flags: int) -> None:
    """A TCP stream is forwarded whole, whatever the offload and the order of the verdicts."""
    queue_rule(1, f"-p tcp --dport {PORT}", table="filter", chain="FORWARD", family=family)
    kept: list[Packet] = []
    callback = accept if order == "in order" else kept.append
    handle.rcvbuf = 1 << 20
    handle.create_queue(1, callback, mode=COPY, flags=flags | nfq.NFQA_CFG_F_FAIL_OPEN)
    data = os.urandom(1 << 20)
    with (
        router(family) as routed,
        routed.socket("right", 2, socket.SOCK_STREAM) as listener,
        routed.socket("left", 2, socket.SOCK_STREAM) as client,
    ):
        listener.listen()
        receiving = background(receive_all, listener)
        sending = background(send_all, client, routed.address("right", 2), data)
        serve_out_of_order(handle, kept, receiving.done)
        assert receiving.result(0) == data
        sending.result(TIMEOUT)


def test_requeued_stream(handle: Handle) -> None:
    """A stream goes slowly from one queue to the next: the second sees what the first saw."""
    queue_rule(1, f"-p tcp --dport {PORT}")
    first: list[bytes] = []
    second: list[bytes] = []

    def pass_on(packet: Packet) -> None:
        first.append(packet.get_payload())
        time.sleep(0.005)  # a program that takes its time
        packet.requeue(2)

    def let_pass(packet: Packet) -> None:
        second.append(packet.get_payload())
        packet.accept()

    handle.create_queue(1, pass_on, mode=COPY)
    handle.create_queue(2, let_pass, mode=COPY)
    data = os.urandom(200_000)
    with tcp_echo() as served:
        exchange = background(tcp_exchange, data)
        process_until(handle, served.done)
        assert exchange.result(TIMEOUT) == data
    process_until(handle, lambda: len(second) == len(first))
    assert len(first) >= 5  # a handshake's two, data, and the end
    assert second == first


def swap_words(data: bytes) -> bytes:
    """Swaps neighbouring words of 16 bits, which no checksum notices."""
    words = memoryview(data).cast("H").tolist()
    words[::2], words[1::2] = words[1::2], words[::2]
    return struct.pack(f"={len(words)}H", *words)


@FAMILIES
def test_rewritten_stream(handle: Handle, family: int) -> None:
    """A TCP stream is rewritten on the way, packet by packet."""
    queue_rule(1, f"-p tcp --dport {PORT}", family=family)
    header = 20 if family == socket.AF_INET else 40

    def callback(packet: Packet) -> None:
        payload = packet.get_payload()
        start = header + (payload[header + 12] >> 4) * 4
        assert len(payload[start:]) % 4 == 0
        packet.accept(payload=payload[:start] + swap_words(payload[start:]))

    run("ip link set lo mtu 1500")
    handle.rcvbuf = 1 << 20
    handle.create_queue(1, callback, mode=COPY)
    with tcp_echo(family) as served:
        exchange = background(tcp_exchange, b"QUEU" * 50_000, family)
        process_until(handle, served.done)
        assert exchange.result(TIMEOUT) == b"EUQU" * 50_000


def test_sockets_closed_meanwhile(handle: Handle) -> None:
    """Packets get their verdicts after their sockets are gone, the last one first."""
    kept: list[Packet] = []
    queue_rule(1, f"-p tcp --dport {PORT}")
    handle.create_queue(1, kept.append, mode=COPY)
    server = (LOOPBACK[socket.AF_INET], PORT)
    with socket.create_server(server):
        for _ in range(50):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                assert sock.connect_ex(server) != 0
        assert handle.process() == 50
        serve_out_of_order(handle, kept, lambda: handle.process(timeout=0.05) == 0)
    assert handle.stats().verdict_errors == 0
    with tcp_echo() as served:
        exchange = background(tcp_exchange, b"data")
        serve_out_of_order(handle, kept, served.done)
        assert exchange.result(TIMEOUT) == b"data"


@pytest.mark.parametrize("sent", [1, 5])
def test_first_datagrams_of_a_connection(handle: Handle, sent: int) -> None:
    """Datagrams pass that were queued before connection tracking had confirmed the first one."""
    queue_rule(1, f"-p udp --sport {QUEUED_PORT} -m conntrack --ctstate NEW", table="filter")
    kept: list[Packet] = []
    handle.create_queue(1, kept.append, mode=COPY)
    data = [b"%d" % number for number in range(sent)]
    with UdpPair() as udp:
        udp.send(*data)
        assert handle.process() == sent
        while kept:
            kept.pop().accept()
        assert udp.arrivals() == data[::-1]
    assert handle.process() == 0
    assert handle.stats().verdict_errors == 0


# A flood


BOGUS = 3  # verdicts for packets that aren't there, with each one for a packet that is


def verdict_message(number: int, packet_id: int) -> bytes:
    """A request to accept a packet."""
    header = struct.pack("!II", nfq.NF_ACCEPT, packet_id)
    body = struct.pack("!BBH", 0, 0, number) + attribute(NFQA_VERDICT_HDR, header)
    return message(MSG_VERDICT, body, flags=1)


def serve_stressed(number: int, ready: threading.Barrier, stop: threading.Event) -> nfq.HandleStats:
    """Serves a queue until the event: the last packet first, each among bogus verdicts."""
    kept: list[Packet] = []
    with nfq.open() as handle, netlink_socket(handle) as sock:

        def callback(packet: Packet) -> None:
            kept.append(packet)
            for bogus in range(BOGUS):
                sock.send(verdict_message(number, packet.id + (1 << 30) + bogus))

        handle.create_queue(number, callback, mode=COPY)
        ready.wait(TIMEOUT)
        while not stop.is_set():
            if handle.process(max_packets=16, timeout=0.01) == 0 or len(kept) >= 16:
                while kept:
                    kept.pop().accept()
        return handle.stats()


def test_stress() -> None:
    """Eight queues in parallel: each packet gets its own verdict, each bogus one is refused."""
    balance(0, 7)
    ready, stop = threading.Barrier(9), threading.Event()
    serving = [background(serve_stressed, number, ready, stop) for number in range(8)]
    ready.wait(TIMEOUT)
    try:
        send_flows(10)
    finally:
        stop.set()
        stats = [served.result(TIMEOUT) for served in serving]
    assert sum(each.packets for each in stats) == 640
    assert [each.verdict_errors for each in stats] == [BOGUS * each.packets for each in stats]
    assert all(each.verdicts == each.packets > 0 for each in stats)
    assert {each.overruns for each in stats} == {0}


# A program that ends


PROGRAM = """
import os, sys, libnetfilterqueue as nfq
kept = []
handle = nfq.open()
handle.create_queue(1, kept.append, mode=nfq.NFQNL_COPY_PACKET, default_verdict=nfq.NF_ACCEPT)
print("bound", flush=True)
sys.stdin.readline()
handle.process(max_packets=2)
print("kept", len(kept), flush=True)
sys.stdin.readline()
"""


def end_input(program: subprocess.Popen[bytes]) -> None:
    """Has the program go on to its end."""
    assert program.stdin is not None
    program.stdin.close()


ENDS: dict[str, tuple[str, Callable[[subprocess.Popen[bytes]], None]]] = {
    "killed": ("", lambda program: program.send_signal(signal.SIGKILL)),
    "terminated": ("", lambda program: program.send_signal(signal.SIGTERM)),
    "exited": ("os._exit(0)", end_input),
    "closed": ("os.close(handle.fd()); os._exit(0)", end_input),
}


def expect(program: subprocess.Popen[bytes], line: bytes) -> None:
    assert program.stdout is not None
    assert program.stdout.readline() == line


@pytest.mark.parametrize("end", ENDS)
def test_program_ends(handle: Handle, end: str) -> None:
    """If a program ends without closing, the kernel drops what waits, read or not.

    From then on packets pass by --queue-bypass, and the number can be bound at once.
    """
    queue_rule(1, bypass=True)
    last, finish = ENDS[end]
    command = [sys.executable, "-P", "-c", PROGRAM + last]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program,
        UdpPair() as udp,
    ):
        expect(program, b"bound\n")
        udp.send(b"1", b"2", b"3")
        assert program.stdin is not None
        program.stdin.write(b"go on\n")
        program.stdin.flush()
        expect(program, b"kept 2\n")
        assert udp.arrivals() == []
        finish(program)
        program.wait(TIMEOUT)
        assert udp.arrivals() == []
        udp.send(b"passed by")
        assert udp.arrivals() == [b"passed by"]
        handle.create_queue(1, accept, mode=COPY)
        udp.send(b"queued")
        assert handle.process() == 1
        assert udp.arrivals() == [b"queued"]
