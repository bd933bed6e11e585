# SPDX-License-Identifier: GPL-2.0-or-later
"""Two neighbours on a bridge that the calling thread's network namespace has."""

import contextlib
import socket
import struct
from collections.abc import Iterator

from netns import PORT, TIMEOUT, Namespace, run, sysctl, up, veth
from programs import Program
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_AUXDATA = 8
TP_STATUS_VLAN_VALID = 0x10
TYPE = 12  # where a frame's type is, or the tags before it

Tag = tuple[int, int]


def tagged(frame: bytes, *tags: Tag) -> bytes:
    """The frame with VLAN tags, the outermost first."""
    return frame[:TYPE] + b"".join(struct.pack("!HH", *tag) for tag in tags) + frame[TYPE:]


class Neighbour:
    """Sends and receives Ethernet frames as they are, tags included."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.settimeout(TIMEOUT)
        self._socket.bind(("eth0", ETH_P_ALL))
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def recv(self) -> bytes:
        """The next frame that comes in. Its outer tag, which the kernel has set aside, is back."""
        frame, ancillary, _, (_, _, direction, *_) = self._socket.recvmsg(65536, 100)
        if direction == socket.PACKET_OUTGOING:
            return self.recv()
        ((_, _, data),) = ancillary
        status, tci, protocol = struct.unpack("=I12x2H", data)
        return tagged(frame, (protocol, tci)) if status & TP_STATUS_VLAN_VALID else frame

    def close(self) -> None:
        self._socket.close()


def _without_ipv6() -> None:
    """Devices made from now on send nothing of their own."""
    sysctl("ipv6/conf/default/disable_ipv6", 1)


@contextlib.contextmanager
def neighbours() -> Iterator[tuple[Neighbour, Neighbour]]:
    """One behind the port `left` of the bridge `bridge`, one behind its port `right`."""
    _without_ipv6()
    run("ip link add bridge type bridge mcast_snooping 0")
    up("bridge")
    with contextlib.ExitStack() as stack:
        both = []
        for port in ("left", "right"):
            namespace = stack.enter_context(contextlib.closing(Namespace()))
            with namespace:
                _without_ipv6()
            veth(port, "eth0", namespace)
            run(f"ip link set {port} master bridge")
            both.append(stack.enter_context(contextlib.closing(Neighbour(namespace))))
        yield both[0], both[1]


def datagram(data: bytes) -> bytes:
    """A frame from left to right."""
    ends = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    ip = IP(src="192.0.2.1", dst="192.0.2.2")
    return bytes(ends / ip / UDP(sport=PORT, dport=PORT) / data)


def filtered(program: Program, left: Neighbour, right: Neighbour, way: str) -> None:
    """Only what is allowed passes the bridge; the program sees the ports."""
    for data in (b"fine", b"forbidden", b"fine too"):
        left.send(datagram(data))
    assert right.recv() == datagram(b"fine")
    assert right.recv() == datagram(b"fine too")
    program.wait_for(f"{way}: left > right dropped")
