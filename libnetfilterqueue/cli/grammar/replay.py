# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `replay`."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from libnetfilterqueue.cli._load import parse_function
from libnetfilterqueue.cli._verdicts import parse_default
from libnetfilterqueue.cli.grammar._command import STATUSES, Command
from libnetfilterqueue.cli.grammar._types import add_forms, checked, verify_files, verify_forms

EPILOG = f"""\
It sends the IP packets of the file through queue 1 of a fake kernel, and has a
callback or a handler decide on them: a function, or an asynchronous one, which
runs in asyncio. It needs no privileges and no rules, and no packet goes to the
network. It prints a line for each packet, as watch does, with the verdict and
the packet as that has left it, and a summary on stderr. "by default" are
packets that nobody has decided on. The module is imported, also from the
working directory. Handlers have up to 100 packets at the same time.

examples:
  libnetfilterqueue replay my_filter:decide traffic.pcap
  libnetfilterqueue replay my_filter:decide traffic.pcap --write passed.pcapng
  libnetfilterqueue replay my_filter:decide traffic.pcap --json | jq .verdict

{STATUSES}"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "function",
        metavar="MODULE:CALLABLE",
        type=checked(parse_function),
        help="the callback or handler, as Python imports it",
    )
    parser.add_argument("file", metavar="FILE", help="a pcap or pcapng file; - is standard input")
    parser.add_argument(
        "--default",
        metavar="VERDICT",
        type=checked(parse_default),
        default="drop",
        help="the queue's default verdict: drop (the default), accept",
    )
    parser.add_argument(
        "--write",
        metavar="FILE",
        help="write the packets that have passed to a pcapng file, with the content that they were "
        "given; - means standard output, and then no lines are printed",
    )
    add_forms(parser)


def _verify(options: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    verify_forms(options, error)
    verify_files(options.file, options.write, error)


COMMAND = Command(
    "replay", "run a callback over a capture, without a kernel", EPILOG, _add_options, _verify
)
