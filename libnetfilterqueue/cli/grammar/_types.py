# SPDX-License-Identifier: GPL-2.0-or-later
"""Types of options that several commands have."""

import argparse
import contextlib
import os
from collections.abc import Callable
from typing import NoReturn, TypeVar

from libnetfilterqueue.cli._numbers import number_in, real_number

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
        seconds = real_number(text)
        if not least <= seconds <= 86400:
            raise ValueError(f"{text} is not in the range {least:g}-86400 (seconds)")
        return seconds

    return checked(parse)


COUNT = checked(number_in(1, 2**63 - 1))
QUEUE = checked(number_in(0, 0xFFFF))
INTERVAL = seconds_from(0.01)


def add_forms(parser: argparse.ArgumentParser) -> None:
    """The forms in which packets are printed."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, one object per line")
    form.add_argument(
        "-x",
        dest="bytes",
        action="store_true",
        help="print the bytes of each packet below its line",
    )


def verify_forms(options: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    """Nothing is printed with --write -."""
    for name, value in (("--json", options.json), ("-x", options.bytes)):
        if value and options.write == "-":
            error(f"argument {name}: not allowed with --write -, which prints no lines")


def verify_files(read: str | None, write: str | None, error: Callable[[str], NoReturn]) -> None:
    """What is read is not written."""
    with contextlib.suppress(FileNotFoundError):
        if read is not None and write is not None and os.path.samefile(read, write):
            error("argument --write: that is the file that is read")
