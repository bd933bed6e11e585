# SPDX-License-Identifier: GPL-2.0-or-later
"""Colours the lines of packets, by rich. It takes 140 us per line, and only a terminal needs it."""

import re

from rich.text import Text

from libnetfilterqueue.cli._record import Record

# Those of the terminal's own colours that can be read on black and on white.
STYLES = {"accept": "green", "drop": "red"}
OTHER_STYLE = "magenta"
VERDICT_AT = len("00:00:00.000000 ")
ENDS = re.compile(r" IP6? (\S+) > (\S+): ")


def coloured(record: Record, line: str) -> Text:
    """The verdict in its colour, and where the packet comes from and goes to."""
    text = Text(line)
    style = STYLES.get(record.verdict, OTHER_STYLE)
    text.stylize(style, VERDICT_AT, VERDICT_AT + len(record.verdict))
    ends = ENDS.search(line, VERDICT_AT)
    if ends is not None:
        for number in (1, 2):
            text.stylize("bold", *ends.span(number))
    return text
