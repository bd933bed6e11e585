# SPDX-License-Identifier: GPL-2.0-or-later
"""Types of options that several commands have."""

import argparse
from collections.abc import Callable
from typing import TypeVar

from libnetfilterqueue.cli._numbers import number_in

T = TypeVar("T")


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Has argparse print what the ValueError says."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def seconds_from(least: float) -> Callable[[str], float]:
    """What reads seconds, up to a day."""

    def parse(text: str) -> float:
        seconds = float(text)
        if not least <= seconds <= 86400:
            raise ValueError(f"{text} is not in the range {least:g}-86400 (seconds)")
        return seconds

    return checked(parse)


COUNT = checked(number_in(1, 2**63 - 1))
QUEUE = checked(number_in(0, 0xFFFF))
INTERVAL = seconds_from(0.01)
