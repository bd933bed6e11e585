# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers on the command line."""

from collections.abc import Callable
from typing import NamedTuple

MARK_MAX = 0xFFFFFFFF


class Span(NamedTuple):
    """Numbers from the first to the last, or one."""

    first: int
    last: int

    def text(self, between: str) -> str:
        """As the tools write it, each with a sign of its own between the two."""
        return f"{self.first}{between}{self.last}" if self.last > self.first else f"{self.first}"


def number_in(least: int, most: int) -> Callable[[str], int]:
    """What reads a number of that range. It raises ValueError."""

    def parse(text: str) -> int:
        if not text.isdecimal():
            raise ValueError(f"{text!r} is not a number in the range {least}-{most}")
        if not least <= int(text) <= most:
            raise ValueError(f"{text} is not in the range {least}-{most}")
        return int(text)

    return parse


def span_in(least: int, most: int) -> Callable[[str], Span]:
    """What reads a number, or FIRST-LAST, of that range. It raises ValueError."""
    number = number_in(least, most)

    def parse(text: str) -> Span:
        first, dash, last = text.partition("-")
        span = Span(number(first), number(last if dash else first))
        if span.last < span.first:
            raise ValueError(f"{text!r} ends before it begins")
        return span

    return parse


USER = number_in(0, 2**32 - 2)


def real_number(text: str) -> float:
    """Reads a number, such as 5 or 0.5. Raises ValueError."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def mark_number(text: str) -> int:
    """Reads a packet's mark, such as 5 or 0x5. Raises ValueError."""
    try:
        mark = int(text, 0)
    except ValueError:
        raise ValueError(f"{text!r} is not a number, such as 5 or 0x5") from None
    if not 0 <= mark <= MARK_MAX:
        raise ValueError(f"{text} is not in the range 0-{MARK_MAX:#x}")
    return mark
