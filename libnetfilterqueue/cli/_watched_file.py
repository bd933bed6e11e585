# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows the packets of a capture as those of a queue are shown."""

import itertools
import sys

from libnetfilterqueue.cli._capture import CaptureFile
from libnetfilterqueue.cli._capture_input import CaptureInput
from libnetfilterqueue.cli._display import BATCH, Display
from libnetfilterqueue.cli._record import Record
from libnetfilterqueue.cli._text import counted


def watch_file(path: str, display: Display, capture: CaptureFile | None) -> None:
    """Shows them until the file ends or enough is shown. Raises CommandError for a bad file."""
    packets = 0
    with CaptureInput("--read", path) as file:
        captured = file.packets()
        if capture is not None:
            capture.begin()
        # What comes through a pipe is shown as it comes.
        size = BATCH if file.size is not None else 1
        try:
            while display.room and (batch := list(itertools.islice(captured, size))):
                packets += len(batch)
                display.show([Record(packet, packet.verdict, 0.0, {}) for packet in batch])
        finally:
            print(
                f"{counted(packets, 'packet')}, {counted(display.shown, 'packet')} shown",
                *([f"{counted(file.others, 'frame')} without an IP packet"] if file.others else []),
                sep="\n",
                file=sys.stderr,
            )
