# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that keeps many packets of the namespace it runs in, and tells what they cost.

    keeping.py WHAT COUNT SIZE MAX_PACKETS

WHAT is packets, views, or both. Prints as JSON the bytes of memory that it has grown by while it
kept COUNT packets with SIZE bytes of data, and once they were dropped; and whether the contents
were right.
"""

import ctypes
import gc
import json
import os
import sys
import sysconfig
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from netns import TIMEOUT, UdpPair, iptables, queue_rule
from queues import Handle, Packet

import libnetfilterqueue as nfq

CHUNK = 50  # packets that the receive buffer holds at any time
QUEUE_MAX = 50_000  # in one queue; kernels may not let 65,536 wait, whatever its maxlen


def resident(process: int | str = "self") -> int:
    """A process's resident memory in bytes."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Sanitized:
    """What tells of memory under AddressSanitizer, which has memory of its own beside ours."""

    def __init__(self, asan: ctypes.CDLL) -> None:
        scale, offset = ctypes.c_size_t(), ctypes.c_size_t()
        asan["__asan_get_shadow_mapping"](ctypes.byref(scale), ctypes.byref(offset))
        self._shadow = range(offset.value, offset.value + (1 << 47 >> scale.value))
        self.allocated = asan["__sanitizer_get_current_allocated_bytes"]
        self.allocated.restype = ctypes.c_size_t

    def resident(self) -> int:
        """The resident memory in bytes without ASan's notes; what surrounds allocations counts."""
        total = address = 0
        for name, value, *_ in map(str.split, Path("/proc/self/smaps").read_text().splitlines()):
            if "-" in name:
                address = int(name.partition("-")[0], 16)
            elif name == "Rss:" and address not in self._shadow:
                total += int(value) * 1024
        return total


def measures() -> list[Callable[[], int]]:
    """What measures the memory in use in bytes, or more than that.

    It is resident. Under AddressSanitizer that is too much, and where there is no GIL, whose
    allocator gives nothing back for long; and so is what is allocated, of which part may never have
    been touched.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "__asan_init"):
        sanitized = Sanitized(library)
        return [sanitized.resident, sanitized.allocated]
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        tracemalloc.start()
        return [resident, lambda: tracemalloc.get_traced_memory()[0]]
    return [resident]


class Meter:
    """How much more memory is in use than when it was made."""

    def __init__(self) -> None:
        self._before = [(measure, measure()) for measure in measures()]

    def growth(self) -> int:
        """In bytes."""
        return min(measure() - before for measure, before in self._before)


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
            packets = handle.process(max_packets=most, timeout=TIMEOUT)
            assert packets > 0, "the kernel has lost some"
            chunk -= packets


def right(packets: list[Packet], views: list[memoryview], size: int) -> bool:
    """Whether everything kept has the data that it came with."""
    return all(
        packet.get_payload()[28:] == data(number, size) for number, packet in enumerate(packets)
    ) and all(view[28:] == data(number, size) for number, view in enumerate(views))


def create_queue(handle: Handle, number: int, callback: Callable[[Packet], None]) -> None:
    """Creates the queue that all further datagrams pass through."""
    iptables("-t raw -F")
    queue_rule(number, chain="PREROUTING")
    handle.create_queue(number, callback, mode=nfq.NFQNL_COPY_PACKET, maxlen=QUEUE_MAX)


def main(what: str, count: int, size: int, most: int) -> None:
    packets: list[Packet] = []
    views: list[memoryview] = []
    with nfq.open() as handle, UdpPair() as udp:
        create_queue(handle, 1, nfq.NetfilterQueueData.drop)
        fill(handle, udp, range(1000), size, most)  # what is needed once, is
        meter = Meter()
        for number, first in enumerate(range(0, count, QUEUE_MAX), start=2):
            create_queue(handle, number, keeper(what, packets, views))
            fill(handle, udp, range(first, min(count, first + QUEUE_MAX)), size, most)
        kept = meter.growth()
        intact = right(packets, views, size) and len(packets or views) == count
        packets.clear()
        views.clear()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is free in between others goes back, too
        dropped = meter.growth()
        errors = handle.stats().verdict_errors
    print(json.dumps({"kept": kept, "dropped": dropped, "intact": intact, "errors": errors}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
