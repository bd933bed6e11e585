# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue rules`. It prints commands, and runs none that changes anything."""

import argparse
import sys

from libnetfilterqueue.cli._found_rules import find_rules
from libnetfilterqueue.cli._new_rules import iptables_commands, nft_commands

TOOLS = {"iptables": iptables_commands, "nft": nft_commands}


def run(options: argparse.Namespace) -> bool:
    """Prints the rules for the traffic, or those that are there; returns False: nobody waits."""
    if options.queue is None:
        print_found()
    else:
        print_new(options)
    return False


def print_new(options: argparse.Namespace) -> None:
    """The rules for the traffic, by both tools or by one."""
    tools = [options.tool] if options.tool else list(TOOLS)
    blocks = ["\n".join(TOOLS[tool](options)) for tool in tools]
    if options.tool is None:
        blocks = [f"# {tool}:\n{block}" for tool, block in zip(tools, blocks, strict=True)]
    print("\n\n".join(blocks))


def print_found() -> None:
    """The rules that are there."""
    found, asked = find_rules()
    for tool in TOOLS.keys() - asked:
        print(f"libnetfilterqueue rules: there is no {tool} to list its rules", file=sys.stderr)
    if not found:
        print("no rule names a queue")
        return
    width = max(len("queue"), *(len(rule.queues) for rule in found))
    for queues, command in [("queue", "rule"), *found]:
        print(f"{queues:>{width}}  {command}")
