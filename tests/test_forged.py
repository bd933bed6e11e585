# SPDX-License-Identifier: GPL-2.0-or-later
"""Datagrams that don't come from the kernel.

With CAP_NET_ADMIN in the network namespace any program may send to a netlink socket's address;
nothing but the sender's port id tells its datagrams from the kernel's.
"""

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from netns import TIMEOUT, UdpPair, background, without_net_admin
from played_kernel import MSG_CONFIG, MSG_VERDICT, error_message, message, packet_message
from queues import Handle, Queue, accepting, netlink_socket

import libnetfilterqueue as nfq

COPY = nfq.NFQNL_COPY_PACKET
EPERM = 1
NETLINK_NETFILTER = 12

Forge = Callable[[bytes], object]


def address_of(handle: Handle) -> tuple[int, int]:
    """The handle's netlink address: its port id and no groups."""
    with netlink_socket(handle) as sock:
        port, groups = sock.getsockname()
    return port, groups


@pytest.fixture
def forge(handle: Handle) -> Iterator[Forge]:
    """Sends bytes to the handle's address."""
    address = address_of(handle)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        yield lambda data: sock.sendto(data, address)


@pytest.fixture
def seen() -> list[bytes]:
    """The data of the packets that queue 1 dispatched."""
    return []


@pytest.fixture
def queue(handle: Handle, seen: list[bytes]) -> Queue:
    """Queue 1, which accepts all packets."""
    callback = accepting(seen)
    return handle.create_queue(1, callback, mode=COPY)


FORGED = {
    "packet": packet_message(1, bytes(28) + b"forged"),
    "later packet": packet_message(1000, bytes(28) + b"forged"),
    "refusal": error_message(EPERM, message(MSG_VERDICT, struct.pack("!BBH", 0, 0, 1))),
    "garbage": b"\xff" * 64,
    "cut": packet_message()[:20],
    "one byte": b"x",
}


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize("name", FORGED)
def test_ignored(handle: Handle, udp: UdpPair, forge: Forge, seen: list[bytes], name: str) -> None:
    """Forged datagrams are neither dispatched nor counted; packets around them are as ever."""
    before = handle.stats()
    forge(FORGED[name])
    assert handle.process() == 0
    after = handle.stats()
    assert tuple(after)[:3] == tuple(before)[:3]
    assert tuple(after)[4:] == tuple(before)[4:]
    udp.send(b"1")
    forge(FORGED[name])
    udp.send(b"2")
    assert handle.process() == 2
    assert (seen, udp.arrivals()) == ([b"1", b"2"], [b"1", b"2"])
    assert handle.stats().verdict_errors == 0


@pytest.mark.usefixtures("queue")
def test_does_not_end_a_wait(handle: Handle, udp: UdpPair, forge: Forge, seen: list[bytes]) -> None:
    """A wait goes on whatever is forged, until the kernel's packet comes."""
    waits = threading.Event()

    def wait() -> int:
        waits.set()
        return handle.process(timeout=None)

    waiting = background(wait)
    assert waits.wait(TIMEOUT)
    for _ in range(3):
        for data in FORGED.values():
            receives = handle.stats().receives
            forge(data)
            while handle.stats().receives == receives:
                assert not waiting.done()
    udp.send(b"data")
    assert waiting.result(TIMEOUT) == 1
    assert (seen, udp.arrivals()) == ([b"data"], [b"data"])


@pytest.mark.usefixtures("queue")
def test_of_another_process(handle: Handle, seen: list[bytes]) -> None:
    """It makes no difference that another process is the forger."""
    port, _ = address_of(handle)
    program = (
        "import socket, sys\n"
        "sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)\n"
        "sock.sendto(bytes.fromhex(sys.argv[2]), (int(sys.argv[1]), 0))\n"
    )
    arguments = [sys.executable, "-c", program, str(port), FORGED["packet"].hex()]
    subprocess.run(arguments, check=True, timeout=TIMEOUT)
    assert handle.process(timeout=0.01) == 0
    assert handle.stats().receives > 0
    assert seen == []


def test_forged_answers(handle: Handle, udp: UdpPair, forge: Forge, queue: Queue) -> None:
    """What looks like the kernel's refusal of a configuration request fails none."""
    for sequence in range(1000):
        request = message(MSG_CONFIG, struct.pack("!BBH", 0, 0, 1), sequence)
        forge(error_message(EPERM, request))
        if sequence % 100 == 99:
            queue.set_mode(COPY, 29)
    udp.send(b"data")
    assert handle.process() == 1
    assert udp.arrivals() == [b"data"]


@pytest.mark.usefixtures("queue")
def test_seen_by_recvfrom(handle: Handle, udp: UdpPair, forge: Forge) -> None:
    """A loop of one's own can tell: the kernel's address is port 0 and no groups."""
    udp.send(b"data")
    forge(FORGED["packet"])
    with netlink_socket(handle) as sock:
        assert sock.recvfrom(4096)[1] == (0, 0)
        data, (port, groups) = sock.recvfrom(4096)
    assert (data, groups) == (FORGED["packet"], 0)
    assert port != 0


def test_only_the_privileged_forge(forge: Forge) -> None:
    """Without CAP_NET_ADMIN the kernel lets nobody send to another netlink socket."""
    with without_net_admin(), pytest.raises(PermissionError):
        forge(FORGED["packet"])
