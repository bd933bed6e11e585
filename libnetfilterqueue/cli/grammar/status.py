# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `status`."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from libnetfilterqueue.cli._thresholds import CRITICAL, WARNING, parse_threshold
from libnetfilterqueue.cli.grammar._command import STATUSES, Command
from libnetfilterqueue.cli.grammar._types import COUNT, INTERVAL, QUEUE, checked

EPILOG = f"""\
It prints what the kernel reports about each queue since it was bound: how many
packets wait for their verdict; how many bytes of a packet are copied; how many
packets there were; how many were dropped because the queue was full, or because
the receive buffer of its socket was full; the port id of the socket; and the
program that has it open. With --interval, it also prints how many packets per
second there were since the sample before. The kernel reports this to root only,
and only the queues of one network namespace.

With --check, it looks twice, by default a second apart, and prints one line for
a monitoring system, as plugins of Nagios do. The exit status is 0 for OK, 1 for
WARNING, 2 for CRITICAL, and 3 for UNKNOWN: it could not look, or the command
line is wrong. A value is too high if it is more than its threshold. If no queue
is bound, or one of --queue is not, that is CRITICAL.

thresholds of --check, and what they are if they are not given:
  waiting=NUMBER  packets that wait: 500 for WARNING, 900 for CRITICAL
  drops=NUMBER    packets that are dropped per second: 0 and 100

examples:
  libnetfilterqueue status
  libnetfilterqueue status --interval 2 --count 10
  libnetfilterqueue status --check --queue 1 --critical waiting=1000
  libnetfilterqueue status --json | jq '.queue_dropped + .user_dropped'

{STATUSES}"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval",
        metavar="S",
        type=INTERVAL,
        help="print a sample every S seconds, with rates; fractions are allowed",
    )
    parser.add_argument("--count", metavar="N", type=COUNT, help="end after N samples")
    parser.add_argument(
        "--json", action="store_true", help="print JSON, one object per queue and line"
    )
    parser.add_argument(
        "--check", action="store_true", help="tell a monitoring system whether all is well"
    )
    parser.add_argument(
        "--queue",
        metavar="N",
        type=QUEUE,
        action="append",
        help="check this queue, which has to be bound; may be given several times",
    )
    for letter, name in (("-w", "--warning"), ("-c", "--critical")):
        parser.add_argument(
            letter,
            name,
            metavar="KEY=NUMBER",
            type=checked(parse_threshold),
            action="append",
            help=f"the threshold for {name[2:].upper()}: waiting=, drops=",
        )


def _verify(options: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    if options.count and not options.interval:
        error("argument --count: not allowed without --interval")
    if options.check:
        for name in ("json", "count"):
            if getattr(options, name):
                error(f"argument --{name}: not allowed with --check")
    else:
        for name in ("queue", "warning", "critical"):
            if getattr(options, name):
                error(f"argument --{name}: not allowed without --check")
    options.warning = WARNING._replace(**dict(options.warning or ()))
    options.critical = CRITICAL._replace(**dict(options.critical or ()))


COMMAND = Command(
    "status", "print what the kernel reports about its queues", EPILOG, _add_options, _verify
)
