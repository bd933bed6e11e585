# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `watch`."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from libnetfilterqueue.cli._filters import parse_filter
from libnetfilterqueue.cli._verdicts import parse_verdict
from libnetfilterqueue.cli.grammar._command import STATUSES, Command
from libnetfilterqueue.cli.grammar._types import (
    COUNT,
    QUEUE,
    add_forms,
    checked,
    verify_files,
    verify_forms,
)

EPILOG = f"""\
It binds the queue and gives each packet the verdict. Then it prints a line with
the time; the verdict; the device on which the packet comes in, ">", and the one
on which it goes out; its addresses and ports; its TCP flags or protocol; the
length of its data; its mark; the user who has sent it; and what its data say:
DNS, the name of a TLS server, the first line of HTTP. At the end it prints a
summary on stderr. It needs CAP_NET_ADMIN, and a rule that sends packets to the
queue:

  iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1

With --read it shows the packets of a file in the same way. Verdict, mark and
user are known of files that it has written itself.

verdicts:
  accept   the packet goes on to the next rule table or hook (NF_ACCEPT)
  drop     the packet is dropped (NF_DROP)
  stop     the packet leaves the hook: other rule tables do not see it (NF_STOP)
  queue:N  the packet goes to queue N (NF_QUEUE)

filters:
  host=ADDRESS[/LENGTH]  from or to the address, or any address of the network
  src=, dst=             the same, only from it or only to it
  port=NUMBER            from or to the port, of TCP, UDP or SCTP
  proto=NAME|NUMBER      carried by IP: tcp, udp, icmp, icmpv6, 132, ...
  mark=NUMBER[/MASK]     with the mark, of which only the bits of MASK count
  uid=NAME|NUMBER        sent by the user
  device=NAME            comes in or goes out on the device
  not KEY=VALUE          not this one; in quotes for the shell: 'not port=22'
For each key that is given, one of its filters must match. Other packets get the
same verdict, but they are not printed and not written.

examples:
  libnetfilterqueue watch 1
  libnetfilterqueue watch 1 --filter src=10.0.0.0/8 --filter 'not port=53'
  libnetfilterqueue watch 1 --verdict queue:2 --count 100 --write queued.pcapng
  libnetfilterqueue watch 1 --write - | tshark -r -
  libnetfilterqueue watch 1 --json | jq 'select(.uid == 1000)'
  libnetfilterqueue watch --read queued.pcapng -x --filter mark=0x10/0xf0

{STATUSES}"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "queue",
        metavar="QUEUE",
        type=QUEUE,
        nargs="?",
        help="the queue's number, 0 to 65535; needed unless --read is given",
    )
    parser.add_argument(
        "--read",
        metavar="FILE",
        help="show the packets of a pcap or pcapng file instead; - means standard input",
    )
    parser.add_argument(
        "--verdict",
        metavar="VERDICT",
        type=checked(parse_verdict),
        help="the verdict for all packets: accept (the default), drop, stop, queue:N",
    )
    parser.add_argument(
        "--fail-open",
        action="store_true",
        help="when the queue is full, the kernel lets packets pass, unseen, instead of "
        "dropping them (NFQA_CFG_F_FAIL_OPEN)",
    )
    parser.add_argument(
        "--count", metavar="N", type=COUNT, help="end when N packets have been shown"
    )
    parser.add_argument(
        "--filter",
        metavar="KEY=VALUE",
        type=checked(parse_filter),
        action="append",
        default=[],
        help="show only packets that match, as below; may be given several times",
    )
    parser.add_argument(
        "--write",
        metavar="FILE",
        help="also write the packets that are shown to a pcapng file, for tcpdump, tshark and "
        "others; - means standard output, and then no lines are printed",
    )
    add_forms(parser)


def _verify(options: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    if options.read is not None:
        _verify_reading(options, error)
        verify_files(options.read, options.write, error)
    elif options.queue is None:
        error("the following arguments are required: QUEUE, or --read FILE")
    options.verdict = options.verdict or parse_verdict("accept")
    if options.verdict.name == f"queue:{options.queue}":
        error("argument --verdict: the packets would come back to this queue for ever")
    verify_forms(options, error)


def _verify_reading(options: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    for name, value in (
        ("QUEUE", options.queue is not None),
        ("--verdict", options.verdict),
        ("--fail-open", options.fail_open),
    ):
        if value:
            error(f"argument {name}: not allowed with --read, which binds no queue")


COMMAND = Command("watch", "print a line for each packet of a queue", EPILOG, _add_options, _verify)
