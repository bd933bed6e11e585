# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the packets of a pcap or pcapng file, or of standard input, by scapy."""

import os
import stat
import sys
from collections.abc import Iterator
from typing import Self

from libnetfilterqueue.cli._captured_packet import CapturedPacket
from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.testing._captures import CaptureError, read_frames

STDIN = "-"  # as a file's name


class CaptureInput:
    """A file, or standard input, which stays open. A context manager that closes it."""

    def __init__(self, option: str, path: str) -> None:
        self._name = f"{option} {path}".lstrip()
        is_stdin = path == STDIN
        source = sys.stdin.fileno() if is_stdin else path
        self._file = open(source, "rb", closefd=not is_stdin)  # noqa: SIM115 (__exit__ closes it)
        about = os.stat(self._file.fileno())
        self.size: int | None = about.st_size if stat.S_ISREG(about.st_mode) else None
        """In bytes, of a file that has one."""
        self.others = 0
        """Frames without an IP packet, as far as they have been read."""

    @property
    def position(self) -> int:
        """How many of the bytes have been read, of a file that has a size."""
        return self._file.tell()

    def packets(self) -> Iterator[CapturedPacket]:
        """The packets. Raises CommandError behind those that can be read if the file is damaged."""
        from scapy.error import Scapy_Exception  # noqa: PLC0415 (takes long, and few need it)

        try:
            for frame in read_frames(self._file):
                packets = list(map(CapturedPacket, frame.packets()))
                self.others += not packets
                yield from packets
        except (CaptureError, Scapy_Exception) as error:
            raise CommandError(f"{self._name}: {error}") from error

    def batches(self, most: int) -> Iterator[list[CapturedPacket]]:
        """The same, so many at once, and fewer at the end or in front of the damage."""
        batch: list[CapturedPacket] = []
        try:
            for packet in self.packets():
                batch.append(packet)
                if len(batch) == most:
                    yield batch
                    batch = []
        except CommandError:
            yield batch
            raise
        yield batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
