# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's grammar and help."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import libnetfilterqueue as nfq
from libnetfilterqueue.cli._filters import parse_filter
from libnetfilterqueue.cli._numbers import number_in
from libnetfilterqueue.cli._verdicts import parse_verdict

T = TypeVar("T")

STATUSES = """\
exit status:
  0    done; also when SIGTERM ends watch or status, or nobody reads the output
  1    failed; a line on stderr says why
  2    the command line is wrong
  130  interrupted by Ctrl-C
"""

MAIN = f"""\
examples:
  libnetfilterqueue demo
  libnetfilterqueue watch 1 --filter proto=udp --filter port=53
  libnetfilterqueue status --interval 2

{STATUSES}"""

DEMO = f"""\
It works in a network namespace of its own: the rules of this machine stay as
they are. Without root it needs user namespaces. It needs iptables and
ip6tables.

example:
  libnetfilterqueue demo

{STATUSES}"""

WATCH = f"""\
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

STATUS = f"""\
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

KEEP = """\
It starts the program and holds the descriptors that the program hands over by
the protocol of sd_notify(3), as libnetfilterqueue.keeping.open() does. When the
program ends, whether it was killed, has crashed, or is replaced, its queues stay
bound, and packets wait. The next start gets the descriptors, and takes the
queues over. It is meant for containers, and for other places without systemd.

signals:
  SIGTERM, SIGINT, SIGQUIT  go to the program, which is not started again
  SIGHUP                    ends the program by SIGTERM, and starts it at once
  SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH  go to the program

It ends with the program's exit status, or 128 and the signal's number. A program
that ends within 10 seconds is started again after the time of --backoff, and
after twice the time each further time in a row, up to 60 seconds.

examples:
  libnetfilterqueue keep -- python filter.py
  libnetfilterqueue keep --restart always --backoff 0.5 -- python filter.py
"""


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Has argparse print what the ValueError says."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.01 <= seconds <= 86400:
        raise ValueError(f"{text} is not in the range 0.01-86400 (seconds)")
    return seconds


def _backoff(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86400:
        raise ValueError(f"{text} is not in the range 0-86400 (seconds)")
    return seconds


COUNT = checked(number_in(1, 2**63 - 1))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with the subcommand's name as `command`."""
    parser = argparse.ArgumentParser(
        prog="libnetfilterqueue",
        description="Try and watch Linux's NFQUEUE, and keep queues over restarts.",
        epilog=MAIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {nfq.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add(commands, "demo", "show real packets passing through a queue", DEMO)
    watch = _add(commands, "watch", "print a line for each packet of a queue", WATCH)
    _add_watch_options(watch)
    status = _add(commands, "status", "print what the kernel reports about its queues", STATUS)
    _add_status_options(status)
    keep = _add(commands, "keep", "keep a program's queues when it ends, and restart it", KEEP)
    _add_keep_options(keep)
    options = parser.parse_args(arguments)
    if options.command == "watch" and options.verdict.name == f"queue:{options.queue}":
        watch.error("argument --verdict: the packets would come back to this queue for ever")
    if options.command == "watch" and options.json and options.write == "-":
        watch.error("argument --json: not allowed with --write -, which prints no lines")
    if options.command == "status" and options.count and not options.interval:
        status.error("argument --count: not allowed without --interval")
    return options


def _add(commands: Any, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _add_watch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "queue",
        metavar="QUEUE",
        type=checked(number_in(0, 0xFFFF)),
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


def _add_status_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval",
        metavar="S",
        type=checked(_seconds),
        help="print a sample every S seconds, with rates; fractions are allowed",
    )
    parser.add_argument("--count", metavar="N", type=COUNT, help="end after N samples")
    parser.add_argument(
        "--json", action="store_true", help="print JSON, one object per queue and line"
    )


def _add_keep_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--restart",
        choices=("always", "on-failure", "no"),
        default="on-failure",
        help="when to start the program again: always, when it fails (the default), or never",
    )
    parser.add_argument(
        "--backoff",
        metavar="SECONDS",
        type=checked(_backoff),
        default=1.0,
        help="how long to wait before a program that ends soon is started again (1)",
    )
    parser.add_argument(
        "program", metavar="PROGRAM", nargs="+", help="the program and its arguments, behind --"
    )
