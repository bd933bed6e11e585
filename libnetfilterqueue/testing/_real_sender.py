# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends whole IP packets in a namespace."""

import _socket  # gevent leaves it as it is
import contextlib
import socket
import struct

from libnetfilterqueue.constants import Hook
from libnetfilterqueue.testing._real_namespace import LOOPBACK, Namespace
from libnetfilterqueue.testing._real_rules import CHAINS
from libnetfilterqueue.testing._skb import Skb

IPV4_HEADER, IPV6_HEADER = 20, 40
HW_PROTOCOLS = {int(socket.AF_INET): 0x0800, int(socket.AF_INET6): 0x86DD}
# What a packet has before it meets its rule, and a test can choose.
CHOSEN = {"mark", "priority", "hook"}


def destination(packet: bytes) -> tuple[int, str]:
    """Family and address. Raises ValueError for what is no whole IP packet."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= IPV4_HEADER:
        (length,) = struct.unpack_from("!H", packet, 2)
        if length == len(packet) and packet[0] & 15 >= IPV4_HEADER // 4:
            return socket.AF_INET, socket.inet_ntop(socket.AF_INET, packet[16:20])
    if version == 6 and len(packet) >= IPV6_HEADER:
        (length,) = struct.unpack_from("!H", packet, 4)
        if length == len(packet) - IPV6_HEADER:
            return socket.AF_INET6, socket.inet_ntop(socket.AF_INET6, packet[24:40])
    raise ValueError(
        f"enqueue(): the real kernel queues whole IP packets, and this is none: {packet[:32]!r}"
    )


def check(skb: Skb) -> None:
    """Raises ValueError for what the kernel gives a packet itself, unless it is just that."""
    family, _ = destination(skb.payload)
    own = {"outdev": LOOPBACK, "family": family, "hw_protocol": HW_PROTOCOLS[family]}
    for name, value in skb.attributes.items():
        if name not in CHOSEN and own.get(name) != value:
            raise ValueError(
                f"enqueue(): the real kernel gives packets their {name} itself; "
                "the fake kernel takes any"
            )
    if skb.hook not in CHAINS:
        names = " or ".join(Hook(hook).name for hook in CHAINS)
        raise ValueError(f"enqueue(): on the real kernel hook must be {names}")


class Sender:
    """Raw sockets. What waits in a queue keeps room of a socket's, so there may be several."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._sockets: list[_socket.socket] = []
        self._families: list[int] = []
        self._add(socket.AF_INET)  # to learn at once whether that is allowed

    def send(self, skb: Skb) -> None:
        """Sends a packet: it has met its rule, and all others, once this returns.

        Raises OSError if the kernel can't send it at all.
        """
        family, address = destination(skb.payload)
        for own, sock in zip(self._families, self._sockets, strict=True):
            if own == family and self._try(sock, skb, address):
                return
        if not self._try(self._add(family), skb, address):
            raise BlockingIOError("enqueue(): the kernel has no room for the packet")

    def _add(self, family: int) -> _socket.socket:
        sock = self._namespace.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._families.insert(0, family)
        self._sockets.insert(0, sock)
        if family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        return sock

    @staticmethod
    def _try(sock: _socket.socket, skb: Skb, address: str) -> bool:
        """Whether the socket has room."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, skb.mark)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, skb.priority)
        try:
            with contextlib.suppress(PermissionError):  # it was dropped
                sock.sendto(skb.payload, socket.MSG_DONTWAIT, (address, 0))
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Closes the sockets."""
        for sock in self._sockets:
            sock.close()
