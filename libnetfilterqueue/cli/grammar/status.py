# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `status`."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from libnetfilterqueue.cli.grammar._command import STATUSES, Command
from libnetfilterqueue.cli.grammar._types import COUNT, INTERVAL

EPILOG = f"""\
It prints what the kernel reports about each queue since it was bound: how many
packets wait for their verdict; how many bytes of a packet are copied; how many
packets there were; how many were dropped because the queue was full, or because
the receive buffer of its socket was full; the port id of the socket; and the
program that has it open. With --interval, it also prints how many packets per
second there were since the sample before. The kernel reports this to root only,
and only the queues of one network namespace.

examples:
  libnetfilterqueue status
  libnetfilterqueue status --interval 2 --count 10
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


def _check(options: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    if options.count and not options.interval:
        error("argument --count: not allowed without --interval")


COMMAND = Command(
    "status", "print what the kernel reports about its queues", EPILOG, _add_options, _check
)
