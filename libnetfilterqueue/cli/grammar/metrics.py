# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `metrics`."""

import argparse

from libnetfilterqueue.cli._address import parse_address
from libnetfilterqueue.cli.grammar._command import STATUSES, Command
from libnetfilterqueue.cli.grammar._types import checked

EPILOG = f"""\
It prints what the kernel reports about each queue as OpenMetrics: how many
packets wait for their verdict, how many there were, and how many were dropped
because the queue or the receive buffer of its socket was full. With --listen,
it answers Prometheus at the path /metrics, until Ctrl-C or SIGTERM ends it. It
asks for no password. The kernel reports this to root only, and only the queues
of one network namespace.

examples:
  libnetfilterqueue metrics
  libnetfilterqueue metrics >new.prom && mv new.prom /var/lib/node_exporter/
  libnetfilterqueue metrics --listen 127.0.0.1:9469
  libnetfilterqueue metrics --listen [::]:9469

{STATUSES}"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        type=checked(parse_address),
        help="answer requests of HTTP there; HOST is 127.0.0.1 if it is not given",
    )


COMMAND = Command("metrics", "print metrics of the queues, or serve them", EPILOG, _add_options)
