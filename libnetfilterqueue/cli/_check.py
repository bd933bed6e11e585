# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue status --check`: the state of the queues, as plugins of Nagios report it.

One line on standard output says the state and why, and has the values behind a bar. The exit status
is the state.
"""

import argparse
import enum
import time
from collections.abc import Iterator
from typing import NoReturn

from libnetfilterqueue.cli._samples import Line, Sample, lines
from libnetfilterqueue.cli._thresholds import Thresholds

SECONDS = 1.0  # between the samples that rates are made of


class State(enum.IntEnum):
    """What a monitoring system knows."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def run_check(options: argparse.Namespace) -> NoReturn:
    """Looks twice, and exits with the state."""
    try:
        before = Sample.take()
        time.sleep(options.interval or SECONDS)
        found = lines(before, Sample.take())
    except OSError as error:
        report(State.UNKNOWN, error.strerror or str(error))
    wanted = options.queue or [line.status.queue for line in found]
    found = [line for line in found if line.status.queue in wanted]
    problems = [
        *missing(wanted, found),
        *(problem for line in found for problem in judge(line, options)),
    ]
    state = max((state for state, _ in problems), default=State.OK)
    values = " ".join(value for line in found for value in performance(line, options))
    report(state, "; ".join(text for _, text in problems) or summary(found), values)


def missing(wanted: list[int], found: list[Line]) -> Iterator[tuple[State, str]]:
    """The queues that should be there; one at least."""
    for number in sorted(set(wanted) - {line.status.queue for line in found}):
        yield State.CRITICAL, f"queue {number} is not bound"
    if not wanted:
        yield State.CRITICAL, "no queue is bound"


def judge(line: Line, options: argparse.Namespace) -> Iterator[tuple[State, str]]:
    """What is wrong with a queue."""
    for key, value in measured(line)._asdict().items():
        for state, limits in ((State.CRITICAL, options.critical), (State.WARNING, options.warning)):
            limit = getattr(limits, key)
            if value > limit:
                yield state, f"queue {line.status.queue}: {key} {value:g} > {limit:g}"
                break


def measured(line: Line) -> Thresholds:
    """The values that there are thresholds for. A queue that is new has dropped nothing yet."""
    rates = line.rates
    drops = rates.queue_dropped + rates.user_dropped if rates else 0.0
    return Thresholds(line.status.waiting, round(drops, 3))


def performance(line: Line, options: argparse.Namespace) -> Iterator[str]:
    """The values, with their thresholds and their least value; `c` stands for a counter."""
    queue = f"queue_{line.status.queue}"
    for key, value in measured(line)._asdict().items():
        limits = (getattr(limits, key) for limits in (options.warning, options.critical))
        yield f"{queue}_{key}={value:g};{';'.join(f'{limit:g}' for limit in limits)};0"
    yield f"{queue}_packets={line.status.id_sequence}c"


def summary(found: list[Line]) -> str:
    """What there is to say if nothing is wrong."""
    waiting = sum(line.status.waiting for line in found)
    return f"{len(found)} bound, {waiting} waiting"


def report(state: State, text: str, values: str = "") -> NoReturn:
    """Prints the line and exits."""
    print(f"QUEUES {state.name} - {text}{f' | {values}' if values else ''}")
    raise SystemExit(state)
