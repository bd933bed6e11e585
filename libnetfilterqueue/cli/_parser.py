# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's grammar and help."""

import argparse
import sys
from collections.abc import Callable, Sequence

import libnetfilterqueue as nfq
from libnetfilterqueue.cli.grammar import (
    completion,
    demo,
    keep,
    manual,
    metrics,
    replay,
    rules,
    status,
    top,
    watch,
)
from libnetfilterqueue.cli.grammar._command import STATUSES

COMMANDS = [
    module.COMMAND
    for module in (demo, rules, watch, replay, status, top, metrics, keep, completion, manual)
]

WRONG = 2  # argparse's status for a wrong command line
UNKNOWN = 3  # that of plugins of Nagios

MAIN = f"""\
examples:
  libnetfilterqueue demo
  libnetfilterqueue rules --queue 1 --proto udp --dport 53 --bypass
  libnetfilterqueue watch 1 --filter proto=udp --filter port=53
  libnetfilterqueue replay my_filter:decide traffic.pcap
  libnetfilterqueue status --interval 2
  libnetfilterqueue metrics --listen 9469

{STATUSES}"""


def make_parser(
    formatter: Callable[..., argparse.HelpFormatter] = argparse.RawDescriptionHelpFormatter,
) -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="libnetfilterqueue",
        description="Try and watch Linux's NFQUEUE, and keep queues over restarts.",
        epilog=MAIN,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {nfq.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        own = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=command.epilog,
            formatter_class=formatter,
        )
        command.add_options(own)
        own.set_defaults(verify=command.verify, error=own.error)
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with the subcommand's name as `command`."""
    try:
        options = make_parser().parse_args(arguments)
        options.verify(options, options.error)
    except SystemExit as ending:
        if ending.code == WRONG and "--check" in (sys.argv if arguments is None else arguments):
            raise SystemExit(UNKNOWN) from None  # 2 would be CRITICAL
        raise
    return options
