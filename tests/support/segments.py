# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel cuts into segments, on its way over Ethernet, loopback and through tunnels.

conftest.py makes the fixtures known.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from netns import LOOPBACK, PORT, TIMEOUT, Namespace, background, queue_rule, run, sysctl, up, veth
from queues import Handle, Packet, process_until

import libnetfilterqueue as nfq

Ends = dict[int, tuple[str, str]]

V4, V6 = socket.AF_INET, socket.AF_INET6
SCTP = 132
UDP_SEGMENT = 103
UDP_GRO = 104
REPLACED_SINCE = (6, 11)  # Linux that sends the segments of a UDP packet with another payload
SEGMENT = 1200  # bytes of each datagram of those that are sent together
OUTER: Ends = {V4: ("10.1.0.1", "10.1.0.2"), V6: ("fd01::1", "fd01::2")}
INNER: Ends = {
    V4: ("198.51.100.1", "198.51.100.2"),
    V6: ("fd09::1", "fd09::2"),
}
END = b"the end"
MORE = b"even more"

Change = Callable[[bytearray], None]


@dataclass(frozen=True)
class Route:
    """A way from one namespace to another."""

    left: Namespace
    right: Namespace
    family: int
    ends: tuple[str, str]  # the addresses on the left and on the right
    queued: Namespace  # where the packets leave
    outer_family: int
    outer_host: str  # where they go: in a tunnel not the address on the right


# Ways


def assign(device: str, address: str) -> None:
    """Gives a device an address in a network of its own."""
    length = "/64 nodad" if ":" in address else "/24"
    run(f"ip address add {address}{length} dev {device}")


@contextlib.contextmanager
def ethernet(family: int) -> Iterator[Route]:
    """Two namespaces with a pair of Ethernet devices between them."""
    ends = OUTER[family]
    with contextlib.closing(Namespace()) as left, contextlib.closing(Namespace()) as right:
        with left:
            veth("eth0", "eth0", right)
            assign("eth0", ends[0])
        with right:
            assign("eth0", ends[1])
        yield Route(left, right, family, ends, left, family, ends[1])


@contextlib.contextmanager
def loopback(family: int) -> Iterator[Route]:
    """A namespace's own loopback."""
    with contextlib.closing(Namespace()) as only:
        host = LOOPBACK[family]
        with only:
            run("ip link set lo mtu 1500")
        yield Route(only, only, family, (host, host), only, family, host)


@contextlib.contextmanager
def router(middle: Namespace) -> Iterator[Route]:
    """Two namespaces, and between them the calling thread's, which forwards."""
    with contextlib.closing(Namespace()) as left, contextlib.closing(Namespace()) as right:
        sysctl("ipv4/ip_forward", 1)
        for name, end, number in (("toleft", left, 1), ("toright", right, 2)):
            veth(name, "eth0", end)
            assign(name, f"10.{number}.0.1")
            with end:
                assign("eth0", f"10.{number}.0.2")
                run(f"ip route add default via 10.{number}.0.1")
        ends = ("10.1.0.2", "10.2.0.2")
        yield Route(left, right, V4, ends, middle, V4, ends[1])


@contextlib.contextmanager
def bridge(middle: Namespace) -> Iterator[Route]:
    """Two namespaces, and between them the calling thread's, which has a bridge."""
    with contextlib.closing(Namespace()) as left, contextlib.closing(Namespace()) as right:
        run("ip link add bridge type bridge")
        up("bridge")
        for name, end, address in zip(("toleft", "toright"), (left, right), OUTER[V4], strict=True):
            veth(name, "eth0", end)
            run(f"ip link set {name} master bridge")
            with end:
                assign("eth0", address)
        yield Route(left, right, V4, OUTER[V4], middle, V4, OUTER[V4][1])


@contextlib.contextmanager
def tunnel(link: str, outer: int, inner: int) -> Iterator[Route]:
    """A tunnel between neighbours; `link` is what `ip link add` is told of it."""
    with ethernet(outer) as way:
        ends = ((way.left, *way.ends), (way.right, *way.ends[::-1]))
        for (end, ours, theirs), address in zip(ends, INNER[inner], strict=True):
            with end:
                run(f"ip link add tunnel type {link.format(ours=ours, theirs=theirs)}")
                up("tunnel")
                assign("tunnel", address)
        yield Route(way.left, way.right, inner, INNER[inner], way.left, outer, way.outer_host)


@contextlib.contextmanager
def tunnel_over_loopback(link: str, inner: int) -> Iterator[Route]:
    """A tunnel through a namespace's loopback, both of whose ends are in other namespaces."""
    ours, theirs = OUTER[V4]
    with contextlib.ExitStack() as stack:
        middle, left, right = (
            stack.enter_context(contextlib.closing(Namespace())) for _ in range(3)
        )
        with middle:
            run("ip link set lo mtu 1500")
            run(f"ip address add {ours} dev lo")
            run(f"ip address add {theirs} dev lo")
            # What goes to one of them comes from the other.
            run(f"ip route replace table local local {ours} dev lo src {theirs}")
            run(f"ip route replace table local local {theirs} dev lo src {ours}")
            run(f"ip link add left type {link.format(ours=ours, theirs=theirs)}")
            run(f"ip link add right type {link.format(ours=theirs, theirs=ours)}")
            run(f"ip link set left netns {left.path}")
            run(f"ip link set right netns {right.path}")
        for name, end, address in zip(("left", "right"), (left, right), INNER[inner], strict=True):
            with end:
                up(name)
                assign(name, address)
        yield Route(left, right, inner, INNER[inner], middle, V4, theirs)


@pytest.fixture(params=[V4, V6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    """Both families."""
    family: int = request.param
    return family


@pytest.fixture(params=[ethernet, loopback], ids=["ethernet", "loopback"])
def route(request: pytest.FixtureRequest, family: int) -> Iterator[Route]:
    """Each way from a sender to a receiver."""
    with request.param(family) as route:
        yield route


# Changes


def nothing(content: bytearray) -> None:
    """The packet as it was."""


def renewed(data: bytes | bytearray) -> bytes:
    """Other data of the same length."""
    return bytes(data).replace(b"old!", b"new!")


def renew(content: bytearray) -> None:
    """Data of the same length."""
    content[:] = renewed(content)


def lengthen(route: Route) -> Change:
    """Data of another length in UDP datagrams, also in those of a tunnel."""
    addresses = b"".join(socket.inet_pton(route.family, end) for end in route.ends)

    def change(content: bytearray) -> None:
        if b"old!" in content:
            own = content.index(addresses) - (12 if route.family == V4 else 8)
            content += MORE
            for at in {0, own}:
                lengthen_ip(content, at)

    return change


def lengthen_ip(content: bytearray, at: int) -> None:
    """The lengths in an IP header that begins there, and in a UDP header behind it."""
    six = content[at] >> 4 == 6
    add(content, at + (4 if six else 2))
    header = 40 if six else 20
    if content[at + (6 if six else 9)] == socket.IPPROTO_UDP:
        add(content, at + header + 4)


def add(content: bytearray, at: int) -> None:
    length = int.from_bytes(content[at : at + 2]) + len(MORE)
    content[at : at + 2] = length.to_bytes(2)


# Packets on their way


def together(count: int) -> bytes:
    """Datagrams one behind the other, the last of them a short one."""
    return b"".join(b"old!%04d".ljust(SEGMENT, b".") % number for number in range(count)) + b"last"


def pieces(data: bytes) -> list[bytes]:
    """The datagrams that it is sent as."""
    return [data[at : at + SEGMENT] for at in range(0, len(data), SEGMENT)]


@dataclass
class Rewriter:
    """Hands each packet back as a new payload, changed and with its checksums."""

    change: Change = nothing
    without: int = 0  # what update_checksums is not told of skb_info
    infos: set[int] = field(default_factory=set)

    def __call__(self, packet: Packet) -> None:
        content = bytearray(packet.payload)
        self.infos.add(packet.skb_info)
        self.change(content)
        nfq.update_checksums(content, packet.skb_info & ~self.without)
        packet.accept(payload=content)


@contextlib.contextmanager
def queue_of(
    route: Route,
    callback: Callable[[Packet], None],
    chain: str = "POSTROUTING",
    *,
    table: str = "mangle",
    flags: int = nfq.NFQA_CFG_F_GSO,
) -> Iterator[Handle]:
    """Queues what goes along the route, whole unless `flags` are others."""
    with route.right if chain in ("INPUT", "PREROUTING") else route.queued:
        match = f"-d {route.outer_host}"
        queue_rule(1, match, table=table, chain=chain, family=route.outer_family)
        handle = nfq.open()
    with handle:
        handle.create_queue(1, callback, mode=nfq.NFQNL_COPY_PACKET, flags=flags)
        yield handle


def udp_socket(route: Route, *, gro: bool = False) -> socket.socket:
    """The receiving socket on the right."""
    with route.right:
        sock = socket.socket(route.family, socket.SOCK_DGRAM)
    sock.settimeout(TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, gro)
    sock.bind((route.ends[1], PORT))
    return sock


def send_together(route: Route, data: bytes, segment: int = SEGMENT) -> None:
    """Sends datagrams of a length by one call, and then one that says that they were all."""
    with route.left:
        sock = socket.socket(route.family, socket.SOCK_DGRAM)
    with sock:
        sock.connect((route.ends[1], PORT))
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
        sock.send(data)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
        sock.send(END)


def datagrams(handle: Handle, route: Route, data: bytes, *, gro: bool = False) -> list[bytes]:
    """What arrives of datagrams that are sent by one call."""
    with udp_socket(route, gro=gro) as receiver:
        received = background(lambda: list(iter(lambda: receiver.recv(1 << 16), END)))
        send_together(route, data)
        process_until(handle, received.done)
        return received.result()


def stream(handle: Handle, route: Route, data: bytes, protocol: int = 0) -> bytes:
    """What arrives of data that is sent by TCP, or by SCTP."""
    with route.right:
        listener = socket.socket(route.family, socket.SOCK_STREAM, protocol)
    with listener:
        listener.settimeout(TIMEOUT)
        listener.bind((route.ends[1], 0))
        listener.listen()
        accepted = threading.Event()
        received = background(receive_all, listener, accepted)
        sent = background(send_all, route, listener.getsockname()[1], data, protocol, accepted)
        process_until(handle, lambda: received.done() and sent.done())
        sent.result()
        return received.result()


def receive_all(listener: socket.socket, accepted: threading.Event) -> bytes:
    """What a conversation's other end says, until it has finished."""
    conversation, _ = listener.accept()
    accepted.set()
    with conversation:
        conversation.settimeout(TIMEOUT)
        return b"".join(iter(lambda: conversation.recv(1 << 16), b""))


def send_all(
    route: Route, port: int, data: bytes, protocol: int, accepted: threading.Event
) -> None:
    """Says it all, in pieces that SCTP takes as messages.

    An SCTP conversation that ends before it is accepted is gone, with what was said.
    """
    with route.left:
        sock = socket.socket(route.family, socket.SOCK_STREAM, protocol)
    with sock:
        sock.settimeout(TIMEOUT)
        sock.connect((route.ends[1], port))
        for at in range(0, len(data), 20_000):
            sock.sendall(data[at : at + 20_000])
        assert accepted.wait(TIMEOUT)
