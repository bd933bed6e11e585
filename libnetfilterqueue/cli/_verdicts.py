# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdicts that `watch` can give.

NF_REPEAT is not one of them: without a mark that the rule looks for, the packet would come back for
ever.
"""

from typing import NamedTuple

import libnetfilterqueue as nfq

PLAIN = {"accept": nfq.NF_ACCEPT, "drop": nfq.NF_DROP, "stop": nfq.NF_STOP}


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
