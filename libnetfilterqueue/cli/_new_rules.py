# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of iptables and nft that send traffic to a queue, as commands for a shell."""

import argparse
import shlex
from collections.abc import Iterator
from typing import NamedTuple

HOOKS = {  # the table of iptables and the priority of nft at each
    "prerouting": "mangle",
    "input": "filter",
    "forward": "filter",
    "output": "filter",
    "postrouting": "mangle",
}
IPTABLES = {"ip": "iptables", "ip6": "ip6tables"}  # by nft's words for the families
OF_ONE_FAMILY = {"icmp": "ip", "icmpv6": "ip6"}


class Match(NamedTuple):
    """A condition, as both have it."""

    iptables: str
    nft: str


def demanded_families(options: argparse.Namespace) -> dict[str, str]:
    """The options that fit one family only, and that family."""
    demanded = {
        f"--{name}": "ip" if network.version == 4 else "ip6"
        for name, network in (("src", options.src), ("dst", options.dst))
        if network is not None
    }
    if options.proto in OF_ONE_FAMILY:
        demanded["--proto"] = OF_ONE_FAMILY[options.proto]
    return demanded


def families(options: argparse.Namespace) -> list[str]:
    """Those that the traffic may have."""
    return list(dict.fromkeys(demanded_families(options).values())) or list(IPTABLES)


def matches(options: argparse.Namespace, family: str) -> Iterator[Match]:
    """What has to be so of a packet of that family."""
    given = vars(options)
    for letter, device in (("i", given["in"]), ("o", given["out"])):
        if device is not None:
            yield Match(f"-{letter} {device}", f'{letter}ifname "{device}"')
    for side, network in (("src", options.src), ("dst", options.dst)):
        if network is not None:
            address = network if network.num_addresses > 1 else network.network_address
            yield Match(f"-{side[0]} {address}", f"{family} {side[0]}addr {address}")
    if options.proto is not None:
        yield transport(options)
    if options.mark is not None:
        yield Match(f"-m mark --mark {options.mark:#x}", f"meta mark {options.mark:#x}")
    if options.uid is not None:
        yield Match(f"-m owner --uid-owner {options.uid}", f"meta skuid {options.uid}")


def transport(options: argparse.Namespace) -> Match:
    """The protocol, and the ports if there are any."""
    proto = options.proto
    ports = {side: getattr(options, side) for side in ("sport", "dport") if getattr(options, side)}
    iptables = [f"-p {proto}", *(f"--{side} {span.text(':')}" for side, span in ports.items())]
    nft = [f"{proto} {side} {span.text('-')}" for side, span in ports.items()]
    return Match(" ".join(iptables), " ".join(nft) or f"meta l4proto {proto}")


def iptables_commands(options: argparse.Namespace) -> list[str]:
    """A command for each family."""
    table = HOOKS[options.hook]
    chain = "" if table == "filter" else f"-t {table} "
    chain += f"-A {options.hook.upper()}"
    balance = "num" if options.queue.first == options.queue.last else "balance"
    target = f"-j NFQUEUE --queue-{balance} {options.queue.text(':')}"
    target += " --queue-bypass" if options.bypass else ""
    target += " --queue-cpu-fanout" if options.fanout else ""
    return [
        " ".join([IPTABLES[family], chain, *(m.iptables for m in matches(options, family)), target])
        for family in families(options)
    ]


def nft_commands(options: argparse.Namespace) -> list[str]:
    """A table and a chain of their own, and the rule in them."""
    family, *others = families(options)
    flags = ",".join(flag for flag in ("bypass", "fanout") if getattr(options, flag))
    queue = f"queue flags {flags} to" if flags else "queue to"
    rule = [*(m.nft for m in matches(options, family)), queue, options.queue.text("-")]
    base = f"{{ type filter hook {options.hook} priority {HOOKS[options.hook]}; }}"
    table = f"{'inet' if others else family} nfqueue"
    return [
        f"nft add table {table}",
        f"nft add chain {table} {options.hook} {shlex.quote(base)}",
        f"nft add rule {table} {options.hook} {shlex.quote(' '.join(rule))}",
    ]
