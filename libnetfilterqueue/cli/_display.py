# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows packets: prints those that are wanted, and writes them to a file. Many at once."""

import argparse
import sys
from collections.abc import Callable, Iterable

from libnetfilterqueue.cli._capture import STDOUT, CaptureFile
from libnetfilterqueue.cli._filters import combine
from libnetfilterqueue.cli._record import Record

Print = Callable[[list[Record]], None]

BATCH = 64  # packets that are read before the first of them is printed


class Display:
    """What the options ask for: filters, how many, the form, and the file."""

    def __init__(self, options: argparse.Namespace, capture: CaptureFile | None) -> None:
        self._count: int | None = options.count
        self._matches = combine(options.filter)
        self._capture = capture
        self._print = printer(options)
        self.shown = 0

    def show(self, records: Iterable[Record]) -> None:
        """Prints a batch by one write. Its packets are in the file when that is done."""
        wanted = [record for record in records if self._matches(record)][: self.room]
        self.shown += len(wanted)
        if wanted and self._capture is not None:
            self._capture.write(wanted)
        if wanted:
            self._print(wanted)

    @property
    def room(self) -> int:
        """How many packets may be read: none that would have to be shown beyond --count."""
        return BATCH if self._count is None else min(BATCH, self._count - self.shown)


def printer(options: argparse.Namespace) -> Print:
    """What prints packets as the options say."""
    if options.write == STDOUT:
        return lambda _: None
    if options.json:
        return lambda records: print_lines(record.json() for record in records)
    text = with_bytes if options.bytes else Record.line
    if not sys.stdout.isatty():
        return lambda records: print_lines(map(text, records))
    from libnetfilterqueue.cli._coloured import print_coloured  # noqa: PLC0415 (needs rich)

    return lambda records: print_coloured((record, text(record)) for record in records)


def print_lines(lines: Iterable[str]) -> None:
    """Prints them by one write."""
    sys.stdout.write("".join([f"{line}\n" for line in lines]))
    sys.stdout.flush()


def with_bytes(record: Record) -> str:
    """A line for people, and the bytes of the packet below it."""
    return f"{record.line()}\n{record.dump()}"
