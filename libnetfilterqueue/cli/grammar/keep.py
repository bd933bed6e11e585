# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `keep`."""

import argparse

from libnetfilterqueue.cli.grammar._command import Command
from libnetfilterqueue.cli.grammar._types import seconds_from

EPILOG = """\
It starts the program and holds the descriptors that the program hands over by
the protocol of sd_notify(3), as libnetfilterqueue.keeping.open() does. When the
program ends, whether it was killed, has crashed, or is replaced, its queues
stay bound, and packets wait. The next start gets the descriptors, and takes the
queues over. It is meant for containers, and for other places without systemd.

signals:
  SIGTERM, SIGINT, SIGQUIT  go to the program, which is not started again
  SIGHUP                    ends the program by SIGTERM, and starts it at once
  SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH  go to the program

It ends with the program's exit status, or 128 and the signal's number. A
program that ends within 10 seconds is started again after the time of
--backoff, and after twice the time each further time in a row, up to 60
seconds.

examples:
  libnetfilterqueue keep -- python filter.py
  libnetfilterqueue keep --restart always --backoff 0.5 -- python filter.py
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--restart",
        choices=("always", "on-failure", "no"),
        default="on-failure",
        help="when to start the program again: always, when it fails (the default), or never",
    )
    parser.add_argument(
        "--backoff",
        metavar="SECONDS",
        type=seconds_from(0),
        default=1.0,
        help="how long to wait before a program that ends soon is started again (1)",
    )
    parser.add_argument(
        "program", metavar="PROGRAM", nargs="+", help="the program and its arguments, behind --"
    )


COMMAND = Command(
    "keep", "keep a program's queues when it ends, and restart it", EPILOG, _add_options
)
