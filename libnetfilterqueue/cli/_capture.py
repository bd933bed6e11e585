# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes packets to pcapng files by dpkt, as tcpdump does with `-i any`."""

import os
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO, Self

from dpkt.pcapng import (  # type: ignore[import-untyped]
    DLT_LINUX_SLL,
    PCAPNG_OPT_COMMENT,
    PCAPNG_OPT_IF_NAME,
    EnhancedPacketBlockLE,
    InterfaceDescriptionBlockLE,
    PcapngOptionLE,
    SectionHeaderBlockLE,
)
from dpkt.sll import SLL  # type: ignore[import-untyped]

from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.cli._record import Record

PCAPNG_OPT_EPB_FLAGS = 2
INBOUND, OUTBOUND = 1, 2  # bits of that option
TO_US, FROM_US = 0, 4  # SLL's packet types
ARPHRD_ETHER, ARPHRD_NONE = 1, 0xFFFE
SNAPLEN = 0  # no limit

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
        self._file.write(bytes(SectionHeaderBlockLE()))
        self._interface(None)

    def write(self, record: Record) -> None:
        """Writes a packet with its device, its direction, and the verdict as its comment."""
        microseconds = round(record.timestamp * 1e6)
        comes_in = record.packet.indev != 0
        comment = f"{record.verdict}, mark {record.packet.mark:#x}, uid {record.packet.uid}"
        block = EnhancedPacketBlockLE(
            iface_id=self._interface(record.indev or record.outdev),
            ts_high=microseconds >> 32,
            ts_low=microseconds & 0xFFFFFFFF,
            pkt_data=bytes(frame(record)),
            opts=options(
                (PCAPNG_OPT_COMMENT, comment.encode()),
                (PCAPNG_OPT_EPB_FLAGS, struct.pack("<I", INBOUND if comes_in else OUTBOUND)),
            ),
        )
        self._file.write(bytes(block))
        self._file.flush()  # others may be reading

    def _interface(self, name: str | None) -> int:
        if name not in self._interfaces:
            self._interfaces[name] = len(self._interfaces)
            named = [(PCAPNG_OPT_IF_NAME, os.fsencode(name))] if name else []
            self._file.write(
                bytes(
                    InterfaceDescriptionBlockLE(
                        linktype=DLT_LINUX_SLL, snaplen=SNAPLEN, opts=options(*named)
                    )
                )
            )
        return self._interfaces[name]

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


def options(*pairs: tuple[int, bytes]) -> list[Any]:
    """The options of a block, with their end."""
    return [*(PcapngOptionLE(code=code, data=data) for code, data in pairs), PcapngOptionLE()]


def frame(record: Record) -> Any:
    """The packet with a header that tells its direction, protocol and sender."""
    packet = record.packet
    return SLL(
        type=TO_US if packet.indev else FROM_US,
        hrd=ARPHRD_ETHER if len(packet.hw_addr) == 6 else ARPHRD_NONE,
        hlen=len(packet.hw_addr),
        hdr=packet.hw_addr,
        ethtype=packet.hw_protocol,
        data=record.payload,
    )
