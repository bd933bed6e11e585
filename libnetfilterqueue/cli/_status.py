# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue status`."""

import argparse
import itertools
import json
import select

from libnetfilterqueue.cli._check import run_check
from libnetfilterqueue.cli._names import name_of
from libnetfilterqueue.cli._samples import Line, Sample, lines
from libnetfilterqueue.cli._signals import awaitable_signals, is_interrupt

VERSION = 1  # of the objects; the next one is for a name that goes or means something else


def as_json(sample: Sample, line: Line) -> str:
    """A JSON object in one line."""
    rates = line.rates
    return json.dumps(
        {
            "version": VERSION,
            "timestamp": sample.timestamp,
            **line.status._asdict(),
            "copy_mode": name_of(line.status.copy_mode),
            "pid": line.program and line.program.pid,
            "program": line.program and line.program.command,
            "packets_per_second": rates and round(rates.packets, 3),
            "queue_dropped_per_second": rates and round(rates.queue_dropped, 3),
            "user_dropped_per_second": rates and round(rates.user_dropped, 3),
        }
    )


def run(options: argparse.Namespace) -> bool:
    """Runs it; returns whether it was interrupted."""
    if options.check:
        run_check(options)
    if options.json:
        show = show_json
    else:
        from libnetfilterqueue.cli._table import show_table as show  # noqa: PLC0415 (needs rich)
    with awaitable_signals() as signals:
        before = None
        for number in itertools.count(1):
            sample = Sample.take()
            show(sample, lines(before, sample))
            if options.interval is None or number == options.count:
                break
            before = sample
            if select.select([signals], [], [], options.interval)[0]:
                return is_interrupt(signals)
    return False


def show_json(sample: Sample, lines: list[Line]) -> None:
    """Prints a line a queue."""
    for line in lines:
        print(as_json(sample, line), flush=True)
