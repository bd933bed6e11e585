# SPDX-License-Identifier: GPL-2.0-or-later
"""The thresholds of `status --check`: `waiting=500`, `drops=0`."""

import math
from typing import NamedTuple

from libnetfilterqueue.cli._numbers import real_number


class Thresholds(NamedTuple):
    """How much may be: more is too much."""

    waiting: float
    """Packets that wait for their verdict."""
    drops: float
    """Packets that the kernel drops a second."""


WARNING = Thresholds(500, 0)  # the kernel's own limit is 1024 packets, unless a program changes it
CRITICAL = Thresholds(900, 100)


def parse_threshold(text: str) -> tuple[str, float]:
    """Reads KEY=NUMBER. Raises ValueError."""
    key, _, value = text.partition("=")
    if key not in Thresholds._fields:
        raise ValueError(f"{key!r} is not one of {', '.join(Thresholds._fields)}")
    number = real_number(value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{value} is not a number from 0 on")
    return key, number
