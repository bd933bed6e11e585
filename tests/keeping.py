# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that keeps many packets of the namespace it runs in, and tells what they cost.

    keeping.py WHAT COUNT SIZE MAX_PACKETS

WHAT is packets, views, or both. Prints as JSON the bytes that it has grown by in resident memory
while it kept COUNT packets with SIZE bytes of data, and once they were dropped; and whether the
contents were right.
"""

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from netns import UdpPair, queue_rule
from queues import Handle, Packet

import libnetfilterqueue as nfq

CHUNK = 50  # packets that the receive buffer holds at any time


def resident() -> int:
    """The process's resident memory in bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def data(number: int, size: int) -> bytes:
    """Data that no other packet has."""
    return b"%08d" % number + bytes([number % 251]) * (size - 8)


def keeper(what: str, packets: list[Packet], views: list[memoryview]) -> Callable[[Packet], None]:
    """A callback that keeps what it should."""

    def callback(packet: Packet) -> None:
        if what != "packets":
            views.append(packet.payload)
        if what != "views":
            packets.append(packet)
        else:
            packet.drop()

    return callback


def fill(handle: Handle, udp: UdpPair, numbers: range, size: int, most: int) -> None:
    """Has the handle process packets with the data of these numbers."""
    for first in numbers[::CHUNK]:
        chunk = min(CHUNK, numbers.stop - first)
        udp.send(*[data(number, size) for number in range(first, first + chunk)])
        while chunk > 0:
            chunk -= handle.process(max_packets=most, timeout=None)


def right(packets: list[Packet], views: list[memoryview], size: int) -> bool:
    """Whether everything kept has the data that it came with."""
    return all(
        packet.get_payload()[28:] == data(number, size) for number, packet in enumerate(packets)
    ) and all(view[28:] == data(number, size) for number, view in enumerate(views))


def main(what: str, count: int, size: int, most: int) -> None:
    packets: list[Packet] = []
    views: list[memoryview] = []
    queue_rule(1, chain="PREROUTING")
    with nfq.open() as handle, UdpPair() as udp:
        queue = handle.create_queue(1, nfq.NetfilterQueueData.drop, mode=nfq.NFQNL_COPY_PACKET)
        queue.set_maxlen(count + CHUNK)
        fill(handle, udp, range(1000), size, most)  # what is needed once, is
        queue.destroy()
        queue = handle.create_queue(
            1, keeper(what, packets, views), mode=nfq.NFQNL_COPY_PACKET, maxlen=count + CHUNK
        )
        before = resident()
        fill(handle, udp, range(count), size, most)
        kept = resident() - before
        intact = right(packets, views, size) and len(packets or views) == count
        packets.clear()
        views.clear()
        gc.collect()
        dropped = resident() - before
        errors = handle.stats().verdict_errors
    print(json.dumps({"kept": kept, "dropped": dropped, "intact": intact, "errors": errors}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
