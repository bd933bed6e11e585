# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdicts by their names on the command line.

`watch` can't give NF_REPEAT: without a mark that the rule looks for, the packet would come back for
ever.
"""

from typing import NamedTuple

import libnetfilterqueue as nfq

PLAIN = {"accept": nfq.NF_ACCEPT, "drop": nfq.NF_DROP, "stop": nfq.NF_STOP}
NAMES = {**{int(number): name for name, number in PLAIN.items()}, nfq.NF_REPEAT: "repeat"}


class NamedVerdict(NamedTuple):
    """A verdict and what it is called on the command line."""

    name: str
    number: int


def parse_verdict(text: str) -> NamedVerdict:
    """Reads accept, drop, stop or queue:N. Raises ValueError."""
    kind, _, number = text.partition(":")
    if text in PLAIN:
        return NamedVerdict(text, PLAIN[text])
    if kind == "queue" and number.isdecimal():
        return NamedVerdict(f"queue:{int(number)}", nfq.NF_QUEUE_NR(int(number)))
    raise ValueError(f"{text!r} is not one of accept, drop, stop, queue:N")


def parse_default(text: str) -> NamedVerdict:
    """Reads accept or drop. Raises ValueError."""
    if text not in ("accept", "drop"):
        raise ValueError(f"{text!r} is not one of accept, drop")
    return NamedVerdict(text, PLAIN[text])


def verdict_name(number: int) -> str:
    """What a verdict is called that a program has given."""
    if number & 0xFF == nfq.NF_QUEUE:
        return f"queue:{number >> 16}"
    return NAMES.get(number, str(number))
