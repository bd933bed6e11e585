# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers on the command line."""

from collections.abc import Callable


def number_in(least: int, most: int) -> Callable[[str], int]:
    """What reads a number of that range. It raises ValueError."""

    def parse(text: str) -> int:
        if not text.isdecimal():
            raise ValueError(f"{text!r} is not a number in the range {least}-{most}")
        if not least <= int(text) <= most:
            raise ValueError(f"{text} is not in the range {least}-{most}")
        return int(text)

    return parse
