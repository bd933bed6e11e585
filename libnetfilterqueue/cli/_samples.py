# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples of the kernel's table of queues, and the rates between them."""

import time
from typing import NamedTuple

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._programs import Program, find_programs

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
    verdicts: float | None = None
    """How many packets left the queue a second, if there are rates."""


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


def verdict_rate(before: Sample, after: Sample, number: int, rates: Rates) -> float:
    """How many packets left the queue a second: those that came to wait, and are gone.

    A program has given them a verdict, or their device went down. Packets that found the queue full
    have no id and are not among `packets`; those that found the buffer full have one.
    """
    grown = after.queues[number].waiting - before.queues[number].waiting
    came = rates.packets - rates.user_dropped
    return max(0.0, came - grown / (after.monotonic - before.monotonic))


def lines(before: Sample | None, now: Sample) -> list[Line]:
    """All queues, with all that is known."""
    programs = find_programs() if now.queues else {}

    def line(number: int, status: nfq.QueueStatus) -> Line:
        rates = rates_between(before, now, number) if before else None
        verdicts = verdict_rate(before, now, number, rates) if before and rates else None
        return Line(status, programs.get(status.portid), rates, verdicts)

    return [line(number, status) for number, status in now.queues.items()]
