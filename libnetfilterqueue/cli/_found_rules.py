# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of this network namespace that name a queue, as iptables and nft list them."""

import itertools
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from libnetfilterqueue.cli._errors import CommandError
from libnetfilterqueue.cli._text import printable
from libnetfilterqueue.cli._tools import find_tool, run_tool

FAMILIES = {"iptables": "ip", "ip6tables": "ip6"}  # as nft calls them
QUEUES = re.compile(r"\bqueue(?: flags [\w,]+)?(?: to| num)? (\d+(?:-\d+)?)\b")


class FoundRule(NamedTuple):
    """A rule that names a queue."""

    queues: str
    """A number, a range, or "?" where the packet itself decides."""
    command: str
    """The command that adds the rule."""


class Rules(NamedTuple):
    """All rules that name a queue, of the tools that are there."""

    found: list[FoundRule]
    asked: list[str]
    """The tools that listed theirs: iptables, nft."""

    def may_name(self, queue: int) -> bool:
        """Whether a rule sends packets to the queue, or may do so."""
        return any(
            rule.queues == "?" or int(first) <= queue <= int(last or first)
            for rule in self.found
            for first, _, last in [rule.queues.partition("-")]
        )


def find_rules() -> Rules:
    """Asks the tools. Raises CommandError if one is refused the rules, or if there is no tool."""
    listings = dict(iptables_listings())
    nft = find_tool("nft")
    asked = [tool for tool, is_there in (("iptables", listings), ("nft", nft)) if is_there]
    if not asked:
        raise CommandError(
            "there is neither iptables nor nft; on Debian and Ubuntu: apt install nftables"
        )
    found: list[FoundRule] = []
    tables: set[str] = set()
    for (program, _), listing in listings.items():
        found += iptables_rules(program, listing)
        if "(nf_tables)" in listing:
            tables |= {f"{FAMILIES[program]} {name}" for name in table_names(listing)}
    if nft is not None:
        found += nft_rules(run_tool(nft, "list", "ruleset"), tables)
    return Rules(found, asked)


# iptables


def iptables_listings() -> Iterator[tuple[tuple[str, str], str]]:
    """What each tool lists. There are two kinds, which do not know of each other's rules."""
    for program in FAMILIES:
        kinds = [kind for kind in ("-nft", "-legacy") if find_tool(f"{program}{kind}-save")]
        for kind in kinds or [""]:
            path = find_tool(f"{program}{kind}-save")
            if path is not None:
                yield (program, kind), run_tool(path)


def table_names(listing: str) -> list[str]:
    """The tables of a listing."""
    return re.findall(r"^\*(.+)$", listing, re.MULTILINE)


def iptables_rules(program: str, listing: str) -> Iterator[FoundRule]:
    """Those of a listing by iptables-save or ip6tables-save."""
    table = ""
    for line in listing.splitlines():
        if line.startswith("*"):
            table = line[1:]
        words = shlex.split(line) if line.startswith("-A ") else []
        if "NFQUEUE" not in words:
            continue
        options = dict(itertools.pairwise(words))
        if options.get("-j") == "NFQUEUE":
            queues = options.get("--queue-balance") or options.get("--queue-num", "0")
            place = [] if table == "filter" else ["-t", table]
            command = shlex.join([program, *place, *words])
            yield FoundRule(queues.replace(":", "-"), printable(command))


# nft


def nft_rules(listing: str, without: set[str]) -> Iterator[FoundRule]:
    """Those of a ruleset. Tables that iptables has listed are not looked at."""
    table = chain = ""
    for line in map(str.strip, listing.splitlines()):
        kind, _, name = line.removesuffix(" {").partition(" ")
        if line.endswith("{"):
            table, chain = (name, "") if kind == "table" else (table, name)
            continue
        statement = re.sub(r'"[^"]*"', '""', line)  # a comment may say anything
        if table not in without and re.search(r"\bqueue\b", statement):
            queues = QUEUES.search(statement)
            command = f"nft add rule {table} {chain} {shlex.quote(line)}"
            yield FoundRule(queues[1] if queues else "?", printable(command))
