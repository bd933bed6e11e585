# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects of all kinds that have bytes in one piece."""

import array
import mmap
from collections.abc import Callable
from typing import TypeAlias

from played_kernel import aligned

Buffer: TypeAlias = "bytes | bytearray | memoryview | array.array[int] | mmap.mmap"


def as_mmap(data: bytes) -> mmap.mmap:
    area = mmap.mmap(-1, len(data))
    area[:] = data
    return area


def as_rows(data: bytes) -> memoryview:
    padded = aligned(data)
    return memoryview(padded).cast("B", (4, len(padded) // 4))


BUFFERS: dict[str, Callable[[bytes], Buffer]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "slice": lambda data: memoryview(b"before" + data + b"after")[6:-5],
    "odd offset": lambda data: memoryview(b"x" + data)[1:],
    "array": lambda data: array.array("B", data),
    "array of int": lambda data: array.array("i", aligned(data)),
    "mmap": as_mmap,
    "two dimensions": as_rows,
}
