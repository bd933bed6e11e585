# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that `status` prints."""

import re
from datetime import datetime
from pathlib import PurePath

from rich.table import Table
from rich.text import Text

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._names import name_of
from libnetfilterqueue.cli._output import Output
from libnetfilterqueue.cli._samples import Line, Sample

# Python and its options, in front of a file or module.
PYTHON = re.compile(r"^(\S*/)?python[\w.]* (-[bBdEiIOPqsSuvxm]+ )*(?=[^-])")


def show_table(sample: Sample, lines: list[Line]) -> None:
    """Prints the table under its time."""
    console = Output()
    console.print(datetime.fromtimestamp(sample.timestamp).strftime("%H:%M:%S"))
    if not lines:
        console.print("no queue is bound")
        return
    console.print(make_table(lines))


def make_table(lines: list[Line]) -> Table:
    """A row a queue; counters have their rate below."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in (
        "queue",
        "waiting",
        "copied",
        "packets",
        "queue\nfull",
        "buffer\nfull",
        "portid",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("program")  # the one that is cut short where there is no room
    for line in lines:
        table.add_row(*cells(line))
    return table


def cells(line: Line) -> list[str | Text]:
    """What a row consists of."""
    status, rates = line.status, line.rates
    return [
        str(status.queue),
        str(status.waiting),
        copied(status),
        counter(status.id_sequence, rates and rates.packets),
        counter(status.queue_dropped, rates and rates.queue_dropped, "red"),
        counter(status.user_dropped, rates and rates.user_dropped, "red"),
        str(status.portid),
        Text(program_name(line), no_wrap=True, overflow="ellipsis"),
    ]


def program_name(line: Line) -> str:
    """The command line without what there is no room for: paths, and Python in front of a file."""
    if line.program is None:
        return "?"
    command = PYTHON.sub("", line.program.command)
    return " ".join(
        PurePath(word).name if word.startswith("/") or number == 0 else word
        for number, word in enumerate(command.split())
    )


def counter(total: int, rate: float | None, style: str = "") -> Text:
    """A counter, and what came a second; coloured if there was anything."""
    text = str(total) if rate is None else f"{total}\n{rate:.1f}/s"
    return Text(text, style=style if total else "")


def copied(status: nfq.QueueStatus) -> str:
    """How many bytes of a packet it copies, or "meta" or "none", or a number that is neither."""
    if status.copy_mode == nfq.NFQNL_COPY_PACKET:
        return str(status.copy_range)
    return str(name_of(status.copy_mode)).removeprefix("NFQNL_COPY_").lower()
