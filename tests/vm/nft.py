# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules of nftables in the calling thread's network namespace."""

import itertools
import tempfile

from netns import run

_numbers = itertools.count(1)


def rules(*rules: str, hook: str = "output", family: str = "ip", head: str = "") -> str:
    """Adds a chain with the rules, in a table of its own; `head` is declared before the chain.

    Returns family and name of the table.
    """
    table = f"{family} table{next(_numbers)}"
    chain = "\n".join((f"type filter hook {hook} priority 0;", *rules))
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(f"table {table} {{\n{head}\nchain only {{\n{chain}\n}}\n}}\n")
        file.flush()
        run(f"nft -f {file.name}")
    return table


class Counter:
    """A rule that counts the packets which match at one point of their way."""

    def __init__(self, match: str, *, hook: str = "input", family: str = "ip") -> None:
        rule = f"{match} counter name matches"
        self._table = rules(rule, hook=hook, family=family, head="counter matches { }")

    @property
    def packets(self) -> int:
        words = run(f"nft list counter {self._table} matches").split()
        return int(words[words.index("packets") + 1])
