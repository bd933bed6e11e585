# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that sends datagrams of all sizes as fast as it can.

    sender.py HOST SOURCE_PORT PORT FILE

The file is what it shares with the test that started it.
"""

import ctypes
import mmap
import socket
import struct
import sys
import time
from pathlib import Path

SIZES = (4, 100, 1400, 9000, 30_000, 65_507)
SEND, PAUSE, END = range(3)


class Shared(ctypes.Structure):
    """What is in the file."""

    _fields_ = (
        ("command", ctypes.c_uint64),  # what the sender is told to do
        ("state", ctypes.c_uint64),  # what it does
        ("sent", ctypes.c_uint64),  # how many datagrams it has sent
        ("generation", ctypes.c_uint64),  # what they are stamped with
    )
    command: int
    state: int
    sent: int
    generation: int


def share(path: Path) -> Shared:
    """Maps the file, which has to be there, into memory."""
    with path.open("r+b") as file:
        return Shared.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(Shared)))


def datagram(generation: int, number: int) -> bytes:
    """The datagram of this number, with its generation in its first four bytes."""
    return struct.pack("!I", generation) + bytes(SIZES[number % len(SIZES)] - 4)


def main(host: str, source: str, destination: str, path: str) -> None:
    shared = share(Path(path))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, int(source)))
        sock.connect((host, int(destination)))
        while shared.command != END:
            if shared.command == PAUSE:
                shared.state = PAUSE
                time.sleep(0.0001)
                continue
            shared.state = SEND
            sock.send(datagram(shared.generation, shared.sent))
            shared.sent += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
