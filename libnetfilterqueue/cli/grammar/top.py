# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `top`."""

import argparse

from libnetfilterqueue.cli._numbers import number_in
from libnetfilterqueue.cli.grammar._command import STATUSES, Command
from libnetfilterqueue.cli.grammar._types import INTERVAL, checked

EPILOG = f"""\
It fills the terminal with a table of the queues: how many packets wait for
their verdict, also as a bar; how many there were per second; how many got their
verdict per second; how many the kernel has dropped per second, and since the
queue was bound; and the program that has it open. The kernel does not report
how many packets may wait: --maxlen says how many fill the bar. q and Ctrl-C end
it. Other keys show at once what is new. The kernel reports this to root only,
and only the queues of one network namespace.

examples:
  libnetfilterqueue top
  libnetfilterqueue top --interval 0.2 --maxlen 4096

{STATUSES}"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval",
        metavar="S",
        type=INTERVAL,
        default=1.0,
        help="read the table every S seconds (1); fractions are allowed",
    )
    parser.add_argument(
        "--maxlen",
        metavar="N",
        type=checked(number_in(1, 2**32 - 1)),
        default=1024,
        help="how many packets fill a bar (1024, the kernel's own maxlen of a queue)",
    )


COMMAND = Command("top", "show the queues live on the whole terminal", EPILOG, _add_options)
