# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests do with handles again and again."""

import os
import socket
import time
from collections.abc import Callable

from netns import TIMEOUT

import libnetfilterqueue as nfq

Packet = nfq.NetfilterQueueData
Handle = nfq.NetfilterQueueHandle
Queue = nfq.NetfilterQueueQueueHandle

# How often a test does what may go wrong once in a while. `.ci/run` says 200.
ROUNDS = int(os.environ.get("ROUNDS", "40"))


def accept(packet: Packet) -> None:
    """A callback that lets everything pass."""
    packet.accept()


def process_until(handle: Handle, done: Callable[[], object]) -> None:
    """Processes packets until something has come true."""
    end = time.monotonic() + TIMEOUT
    while not done():
        handle.process(timeout=0.01)
        assert time.monotonic() < end, "the packets that the test waits for did not come"


def keeping(handle: Handle, *, flags: int = 0) -> list[Packet]:
    """The packets of queue 1, in full, once they are processed."""
    packets: list[Packet] = []
    handle.create_queue(1, packets.append, mode=nfq.NFQNL_COPY_PACKET, flags=flags)
    return packets


def receive(handle: Handle, packets: list[Packet]) -> Packet:
    """The next packet of a queue that keeps them there."""
    process_until(handle, lambda: packets)
    return packets.pop(0)


def netlink_socket(handle: Handle) -> socket.socket:
    """A socket on a copy of the handle's descriptor, as a program with a loop of its own has it."""
    return socket.fromfd(handle.fd(), socket.AF_NETLINK, socket.SOCK_RAW)


def data_of(packet: Packet) -> bytes:
    """The data of a UDP datagram over IPv4."""
    return packet.get_payload()[28:]


def accepting(seen: list[bytes]) -> Callable[[Packet], None]:
    """A callback that notes each datagram's data and lets it pass."""

    def callback(packet: Packet) -> None:
        seen.append(data_of(packet))
        packet.accept()

    return callback


class Raising:
    """A callback that accepts packets, and raises at some."""

    def __init__(self, **raises: type[BaseException]) -> None:
        self._raises = {name.strip("n").encode(): error for name, error in raises.items()}
        self.seen: list[bytes] = []

    def __call__(self, packet: Packet) -> None:
        data = data_of(packet)
        self.seen.append(data)
        packet.accept()
        if data in self._raises:
            raise self._raises.pop(data)
