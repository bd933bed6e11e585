# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows packets: prints those that are wanted, and writes them to a file. Many at once."""

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from libnetfilterqueue.cli._capture import STDOUT, CaptureFile
from libnetfilterqueue.cli._filters import combine
from libnetfilterqueue.cli._record import Record

if TYPE_CHECKING:
    from libnetfilterqueue.cli._output import Output

Print = Callable[[list[Record]], None]

BATCH = 64  # packets that are read before the first of them is printed


class Display:
    """What the options ask for: filters, how many, the form, and the file."""

    def __init__(self, options: argparse.Namespace, capture: CaptureFile | None) -> None:
        self._count: int | None = options.count
        self._matches = combine(options.filter)
        self._capture = capture
        self._print = printer(options, terminal_for(options))
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


def terminal_for(options: argparse.Namespace) -> "Output | None":
    """The terminal that lines go to, if they are for people; only that needs rich."""
    if options.json or options.write == STDOUT or not sys.stdout.isatty():
        return None
    from libnetfilterqueue.cli._output import Output  # noqa: PLC0415

    return Output()


def printer(options: argparse.Namespace, terminal: "Output | None") -> Print:
    """What prints packets as the options say."""
    if options.write == STDOUT:
        return lambda _: None
    if options.json:
        return lambda records: print_lines(record.json() for record in records)
    text = with_bytes if options.bytes else Record.line
    if terminal is None:
        return lambda records: print_lines(map(text, records))
    from libnetfilterqueue.cli._coloured import coloured  # noqa: PLC0415

    return lambda records: terminal.print(
        *(coloured(record, text(record)) for record in records), sep="\n", soft_wrap=True
    )


def print_lines(lines: Iterable[str]) -> None:
    """Prints them by one write."""
    sys.stdout.write("".join([f"{line}\n" for line in lines]))
    sys.stdout.flush()


def with_bytes(record: Record) -> str:
    """A line for people, and the bytes of the packet below it."""
    return f"{record.line()}\n{record.dump()}"
