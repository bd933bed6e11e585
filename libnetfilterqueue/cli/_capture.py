# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes packets to pcapng files, as tcpdump does with `-i any`.

struct makes a packet's block in 4 us. dpkt 1.9.8, of 2022, takes 19. scapy 2.8 takes 4 too, but by
private methods, which differ from one version to the next.
"""

import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Self

from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.cli._record import Record

SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6  # kinds of blocks
COMMENT, FLAGS, NAME = 1, 2, 2  # options: of all, of packets, of interfaces
INBOUND, OUTBOUND = 1, 2  # bits of the flags
LINKTYPE_LINUX_SLL = 113
NO_LIMIT = 0
SECTION_HEADER = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)  # byte order, version, any length

BLOCK = struct.Struct("<II")
PACKET_HEADER = struct.Struct("<IIIII")  # interface, time, length in the file and on the wire
OPTION = struct.Struct("<HH")
SLL = struct.Struct("!HHH8sH")
TO_US, FROM_US = 0, 4  # its packet types
ARPHRD_ETHER, ARPHRD_NONE = 1, 0xFFFE

STDOUT = "-"  # as a file's name


class CaptureFile:
    """A file, or standard output, that packets are written to. A context manager that closes it.

    It is opened first, and begun when nothing else can go wrong: until then it keeps what it had.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = open_output(path)
        self._interfaces: dict[str | None, int] = {}

    def begin(self) -> None:
        """Writes what tools can read even if no packet follows."""
        if self._path != STDOUT and Path(self._path).is_file():  # no pipe
            self._file.truncate(0)
        self._file.write(block(SECTION, SECTION_HEADER) + self._describe(None))

    def write(self, records: Iterable[Record]) -> None:
        """Writes packets with their device, direction, and the verdict as their comment."""
        self._file.write(b"".join(map(self._packet, records)))
        self._file.flush()  # others may be reading

    def _packet(self, record: Record) -> bytes:
        packet, payload, name = record.packet, record.payload, record.indev or record.outdev
        comes_in = packet.indev != 0 or record.indev is not None
        described = b"" if name in self._interfaces else self._describe(name)
        hw_addr = packet.hw_addr
        header = SLL.pack(
            TO_US if comes_in else FROM_US,
            ARPHRD_ETHER if len(hw_addr) == 6 else ARPHRD_NONE,
            len(hw_addr),
            hw_addr,
            packet.hw_protocol,
        )
        microseconds = round(record.timestamp * 1e6)
        missing = max(packet.original_length - len(payload), 0)
        size = SLL.size + len(payload)
        comment = f"{record.verdict}, mark {packet.mark:#x}, uid {packet.uid}"
        return described + block(
            PACKET,
            PACKET_HEADER.pack(
                self._interfaces[name],
                microseconds >> 32,
                microseconds & 0xFFFFFFFF,
                size,
                size + missing,
            )
            + header
            + padded(payload)
            + option(COMMENT, comment.encode())
            + (RECEIVED if comes_in else SENT),
        )

    def _describe(self, name: str | None) -> bytes:
        """The block of a device, whose number is how many came before."""
        self._interfaces[name] = len(self._interfaces)
        body = struct.pack("<HHI", LINKTYPE_LINUX_SLL, 0, NO_LIMIT)
        return block(INTERFACE, body + (option(NAME, os.fsencode(name)) + END if name else b""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def open_output(path: str) -> BinaryIO:
    """The file, or standard output, which stays open. Raises CommandError for a terminal."""
    if path != STDOUT:
        return Path(path).open("ab")
    if sys.stdout.isatty():
        raise CommandError(
            "--write -: standard output is a terminal; send the capture to a program"
        )
    return open(sys.stdout.fileno(), "wb", closefd=False)


def padded(data: bytes) -> bytes:
    """The data up to a multiple of four bytes."""
    return data + bytes(-len(data) % 4)


def block(kind: int, body: bytes) -> bytes:
    """A block, whose length stands at both ends."""
    size = len(body) + 12
    return BLOCK.pack(kind, size) + body + size.to_bytes(4, "little")


def option(code: int, value: bytes) -> bytes:
    """An option of a block."""
    return OPTION.pack(code, len(value)) + padded(value)


END = bytes(OPTION.size)  # of options
RECEIVED, SENT = (option(FLAGS, flags.to_bytes(4, "little")) + END for flags in (INBOUND, OUTBOUND))
