# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `watch`."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from libnetfilterqueue.cli._filters import parse_filter
from libnetfilterqueue.cli._verdicts import parse_verdict
from libnetfilterqueue.cli.grammar._command import STATUSES, Command
from libnetfilterqueue.cli.grammar._types import COUNT, QUEUE, checked

EPILOG = f"""\
It binds the queue and gives each packet the verdict. Then it prints a line with
the time; the verdict; the device on which the packet comes in, ">", and the one
on which it goes out; its addresses and ports; its TCP flags or protocol; the
length of its data; its mark; and the user who has sent it. At the end it prints
a summary on stderr. It needs CAP_NET_ADMIN, and a rule that sends packets to
the queue:

  iptables -A OUTPUT -p udp -j NFQUEUE --queue-num 1

verdicts:
  accept   the packet goes on to the next rule table or hook (NF_ACCEPT)
  drop     the packet is dropped (NF_DROP)
  stop     the packet leaves the hook: other rule tables do not see it (NF_STOP)
  queue:N  the packet goes to queue N (NF_QUEUE)

filters:
  host=ADDRESS[/LENGTH]  from or to the address, or any address of the network
  port=NUMBER            from or to the port, of TCP, UDP or SCTP
  proto=NAME|NUMBER      carried by IP: tcp, udp, icmp, icmpv6, 132, ...
For each key that is given, one of its filters must match. Other packets get the
same verdict, but they are not printed and not written.

examples:
  libnetfilterqueue watch 1
  libnetfilterqueue watch 1 --filter host=10.0.0.0/8 --filter port=53
  libnetfilterqueue watch 1 --verdict queue:2 --count 100 --write queued.pcapng
  libnetfilterqueue watch 1 --write - | tshark -r -
  libnetfilterqueue watch 1 --json | jq 'select(.uid == 1000)'

{STATUSES}"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "queue",
        metavar="QUEUE",
        type=QUEUE,
        help="the queue's number, 0 to 65535",
    )
    parser.add_argument(
        "--verdict",
        metavar="VERDICT",
        type=checked(parse_verdict),
        default="accept",
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
        help="show only packets that match: host=, port=, proto=; may be given several times",
    )
    parser.add_argument(
        "--write",
        metavar="FILE",
        help="also write the packets that are shown to a pcapng file, for tcpdump, tshark and "
        "others; - means standard output, and then no lines are printed",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object per line")


def _verify(options: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    if options.verdict.name == f"queue:{options.queue}":
        error("argument --verdict: the packets would come back to this queue for ever")
    if options.json and options.write == "-":
        error("argument --json: not allowed with --write -, which prints no lines")


COMMAND = Command("watch", "print a line for each packet of a queue", EPILOG, _add_options, _verify)
