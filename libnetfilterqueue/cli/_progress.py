# SPDX-License-Identifier: GPL-2.0-or-later
"""A progress bar for a file that is read, by rich; only a terminal has one."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from libnetfilterqueue.cli._capture_input import CaptureInput
from libnetfilterqueue.cli._captured_packet import CapturedPacket

if TYPE_CHECKING:
    from libnetfilterqueue.cli._output import Output

STEP = 64  # packets


@contextlib.contextmanager
def progress(file: CaptureInput, terminal: "Output | None") -> Iterator[Iterator[CapturedPacket]]:
    """The packets of the file. A bar shows how far they are read, below the lines on the terminal.

    Without lines there it is on standard error. If that is no terminal either, or nobody knows how
    long the file is, there is no bar.
    """
    size = file.size
    if size is None or not sys.stderr.isatty() or (terminal is None and sys.stdout.isatty()):
        yield file.packets()
        return
    from rich.console import Console  # noqa: PLC0415 (others do without rich)
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=terminal or Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replay", total=size)

        def followed() -> Iterator[CapturedPacket]:
            for number, packet in enumerate(file.packets()):
                if number % STEP == 0:
                    bar.update(task, completed=file.position)
                yield packet

        yield followed()
