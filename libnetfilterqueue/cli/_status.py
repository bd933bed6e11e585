# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue status`."""

import argparse
import itertools
import json
import select
import time
from typing import NamedTuple

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._names import name_of
from libnetfilterqueue.cli._programs import Program, find_programs
from libnetfilterqueue.cli._signals import awaitable_signals, is_interrupt

IDS = 1 << 32  # packet ids wrap there


class Rates(NamedTuple):
    """How much there was a second since the sample before."""

    packets: float
    queue_dropped: float
    user_dropped: float


class Line(NamedTuple):
    """A queue in a sample."""

    status: nfq.QueueStatus
    program: Program | None
    rates: Rates | None


class Sample(NamedTuple):
    """The kernel's table at one moment."""

    timestamp: float
    monotonic: float
    queues: dict[int, nfq.QueueStatus]

    @classmethod
    def take(cls) -> "Sample":
        """Reads the table."""
        queues = {status.queue: status for status in sorted(nfq.queue_status())}
        return cls(time.time(), time.monotonic(), queues)


def rates_between(before: Sample, after: Sample, number: int) -> Rates | None:
    """The rates of a queue; None if it was not there before or has been bound anew."""
    old, new = before.queues.get(number), after.queues[number]
    seconds = after.monotonic - before.monotonic
    if old is None or old.portid != new.portid:
        return None
    packets = (new.id_sequence - old.id_sequence) % IDS
    dropped = (new.queue_dropped - old.queue_dropped, new.user_dropped - old.user_dropped)
    if packets >= IDS // 2 or min(dropped) < 0:
        return None
    return Rates(packets / seconds, *(count / seconds for count in dropped))


def lines(before: Sample | None, now: Sample) -> list[Line]:
    """All queues, with all that is known."""
    programs = find_programs() if now.queues else {}
    return [
        Line(
            status,
            programs.get(status.portid),
            rates_between(before, now, number) if before else None,
        )
        for number, status in now.queues.items()
    ]


def as_json(sample: Sample, line: Line) -> str:
    """A JSON object in one line."""
    rates = line.rates
    return json.dumps(
        {
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
