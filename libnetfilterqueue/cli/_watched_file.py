# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows the packets of a capture as those of a queue are shown."""

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
        if capture is not None:
            capture.begin()
        # What comes through a pipe is shown as it comes.
        size = BATCH if file.size is not None else 1
        try:
            for batch in file.batches(size):
                packets += len(batch)
                display.show([Record(packet, packet.verdict, 0.0) for packet in batch])
                if not display.room:
                    break
        finally:
            lines = [counted(packets, "packet"), f"{counted(display.shown, 'packet')} shown"]
            if file.others:
                lines.append(f"{counted(file.others, 'frame')} without an IP packet")
            print(*lines, sep="\n", file=sys.stderr)
