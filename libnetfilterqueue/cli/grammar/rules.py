# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `rules`."""

import argparse
import ipaddress
import re
from collections.abc import Callable
from typing import NoReturn

from libnetfilterqueue.cli._new_rules import HOOKS, demanded_families
from libnetfilterqueue.cli._numbers import USER, mark_number, span_in
from libnetfilterqueue.cli._protocols import protocol_name, protocol_number
from libnetfilterqueue.cli.grammar._command import STATUSES, Command
from libnetfilterqueue.cli.grammar._types import checked

EPILOG = f"""\
With --queue it prints commands that send traffic to the queue, for iptables and
for nft. It runs none of them, and changes nothing. All conditions have to be
true of a packet. While no program listens on the queue, the kernel drops the
packets, or with --bypass lets them pass. iptables removes a rule when -D stands
in the place of -A. nft's rules are in a table of their own, "nfqueue": delete
that to remove them.

Without --queue it prints the rules of this network namespace that name a queue.
It asks iptables-save, ip6tables-save and nft, which only root may do.

examples:
  libnetfilterqueue rules
  libnetfilterqueue rules --queue 1 --proto udp --dport 53 --bypass
  libnetfilterqueue rules --queue 1 --proto tcp --dport 80 --hook input --in lo
  libnetfilterqueue rules --queue 1-4 --fanout --hook input --src 192.0.2.0/24
  libnetfilterqueue rules --queue 1 --proto icmp --hook input --tool nft

{STATUSES}"""

WITH_PORTS = ("tcp", "udp", "sctp")
NAMED = (*WITH_PORTS, "icmp", "icmpv6")  # by these names both tools know them
HOOKS_OF = {  # where the kernel knows it of a packet
    "in": ("prerouting", "input", "forward"),
    "out": ("forward", "output", "postrouting"),
    "uid": ("output", "postrouting"),
}


def _protocol(text: str) -> str:
    number = protocol_number(text)
    if number == 0:
        raise ValueError(f"{text} is not in the range 1-255")  # 0 is all to iptables
    name = protocol_name(number)
    return name if name in NAMED else str(number)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _device(text: str) -> str:
    if not re.fullmatch(r"[\w.:@-]{1,15}", text, re.ASCII):
        raise ValueError(f"{text!r} is not the name of a device")
    return text


def _add_options(parser: argparse.ArgumentParser) -> None:
    def add(name: str, metavar: str, parse: Callable[[str], object], text: str) -> None:
        parser.add_argument(f"--{name}", metavar=metavar, type=checked(parse), help=text)

    span = span_in(0, 0xFFFF)
    add("queue", "N[-M]", span, "the queue, or several that share the flows")
    parser.add_argument(
        "--hook",
        metavar="HOOK",
        choices=HOOKS,
        help=f"where packets are queued: {', '.join(HOOKS)}; output if not given",
    )
    add("proto", "NAME|NUMBER", _protocol, "carried by IP: tcp, udp, sctp, icmp, icmpv6, 50, ...")
    add("sport", "PORT[-PORT]", span, "from the port, of tcp, udp or sctp")
    add("dport", "PORT[-PORT]", span, "to the port, of tcp, udp or sctp")
    add("src", "ADDRESS[/LENGTH]", _network, "from the address, or any address of the network")
    add("dst", "ADDRESS[/LENGTH]", _network, "to the address, or any address of the network")
    add("in", "DEVICE", _device, f"received by the device; at {', '.join(HOOKS_OF['in'])}")
    add("out", "DEVICE", _device, f"to be sent by the device; at {', '.join(HOOKS_OF['out'])}")
    add("mark", "NUMBER", mark_number, "with the mark, such as 5 or 0x5")
    add("uid", "NUMBER", USER, f"sent by the user; at {', '.join(HOOKS_OF['uid'])}")
    parser.add_argument(
        "--bypass", action="store_true", help="let packets pass while no program listens"
    )
    parser.add_argument(
        "--fanout",
        action="store_true",
        help="of several queues, the processor that handles a packet chooses, not the flow",
    )
    parser.add_argument(
        "--tool", choices=("iptables", "nft"), help="print the commands of this tool only"
    )


def _verify(options: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    given = {name: value for name, value in vars(options).items() if value not in (None, False)}
    if options.queue is None:
        for name in given.keys() - {"command", "verify", "error"}:
            error(f"argument --{name}: not allowed without --queue")
        return
    options.hook = options.hook or "output"
    for name, hooks in HOOKS_OF.items():
        if name in given and options.hook not in hooks:
            error(f"argument --{name}: not known at {options.hook}; it is at {', '.join(hooks)}")
    for name in ("sport", "dport"):
        if name in given and options.proto not in WITH_PORTS:
            error(f"argument --{name}: needs --proto tcp, udp or sctp")
    if options.fanout and options.queue.first == options.queue.last:
        error("argument --fanout: needs several queues, as in --queue 1-4")
    demanded = demanded_families(options)
    if len(set(demanded.values())) > 1:
        first, *_, last = demanded
        error(f"argument {last}: not of the same family as {first}")


COMMAND = Command(
    "rules", "print the rules that send traffic to a queue", EPILOG, _add_options, _verify
)
