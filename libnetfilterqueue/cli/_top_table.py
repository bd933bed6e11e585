# SPDX-License-Identifier: GPL-2.0-or-later
"""What `top` shows; 60 columns are enough, and on more there is more of the programs."""

from datetime import datetime

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libnetfilterqueue.cli._samples import Line, Sample
from libnetfilterqueue.cli._table import program_name

BAR = 8  # columns
HEADINGS = ("queue", "waiting", "of {}", "packets/s", "verdicts/s", "drops/s", "dropped")
SHORT = {"packets/s": "pkts/s", "verdicts/s": "verd/s"}  # unless the terminal is WIDE
WIDE = 72


def make_screen(sample: Sample, lines: list[Line], maxlen: int, width: int) -> Group:
    """All of it, under a line with the time."""
    when = datetime.fromtimestamp(sample.timestamp).strftime("%H:%M:%S")
    heading = Text(f"{when}  {len(lines)} bound  (q ends)", style="dim", no_wrap=True)
    return Group(heading, Text(), make_table(lines, maxlen, wide=width >= WIDE))


def make_table(lines: list[Line], maxlen: int, *, wide: bool) -> Table:
    """A row a queue."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in HEADINGS:
        text = heading if wide else SHORT.get(heading, heading)
        table.add_column(text.format(maxlen), justify="right", no_wrap=True)
    table.columns[2].justify = "left"
    table.add_column(cut_short("program"))
    for line in lines:
        table.add_row(*cells(line, maxlen))
    return table


def cells(line: Line, maxlen: int) -> list[RenderableType]:
    """What a row consists of. There are no rates before a second sample."""
    status, rates = line.status, line.rates
    dropped = status.queue_dropped + status.user_dropped
    return [
        str(status.queue),
        str(status.waiting),
        Bar(maxlen, 0, min(status.waiting, maxlen), width=BAR, color=color(status.waiting, maxlen)),
        short(rates.packets) if rates else "-",
        "-" if line.verdicts is None else short(line.verdicts),
        alarming(rates.queue_dropped + rates.user_dropped) if rates else "-",
        alarming(dropped),
        cut_short(program_name(line)),
    ]


def cut_short(text: str) -> Text:
    """The text of the last column, as far as there is room for it."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def color(waiting: int, maxlen: int) -> str:
    """Of a bar: the fuller the queue, the worse."""
    if waiting * 10 >= maxlen * 9:
        return "red"
    return "yellow" if waiting * 2 >= maxlen else "green"


def alarming(number: float) -> Text:
    """A number that should be 0."""
    return Text(short(number), style="red" if number else "")


def short(number: float) -> str:
    """The number in six columns at most; k, M and G stand for thousands."""
    for unit in ("", "k", "M"):
        if number < 999.95:
            return f"{number:.1f}{unit}" if unit or number % 1 else f"{number:.0f}"
        number /= 1000
    return f"{number:.1f}G"
