# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command is to the parser, and the statuses that most of them end with."""

import argparse
from collections.abc import Callable
from typing import NamedTuple, NoReturn

STATUSES = """\
exit status:
  0    done; also when SIGTERM ends a command, or nobody reads the output
  1    failed; a line on stderr says why
  2    the command line is wrong
  130  interrupted by Ctrl-C
"""


def no_options(_: argparse.ArgumentParser) -> None:
    """A command that has none."""


def fits(_: argparse.Namespace, __: Callable[[str], NoReturn]) -> None:
    """Options that may be combined as one likes."""


class Command(NamedTuple):
    """A command of `libnetfilterqueue`."""

    name: str
    summary: str
    """What it does, for the list of commands."""
    epilog: str
    """Its help behind the options, with examples."""
    add_options: Callable[[argparse.ArgumentParser], None] = no_options
    verify: Callable[[argparse.Namespace, Callable[[str], NoReturn]], None] = fits
    """Calls its second argument with a message if options do not go together."""
