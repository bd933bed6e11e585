# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue manual`, by argparse-manpage."""

import argparse
import functools

from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]

from libnetfilterqueue.cli._parser import COMMANDS, MAIN, make_parser
from libnetfilterqueue.cli.grammar._command import STATUSES, Command

# In a line of any length, which man breaks where the terminal ends.
Formatter = functools.partial(argparse.RawDescriptionHelpFormatter, width=10_000)


def run(_: argparse.Namespace) -> bool:
    """Prints the page; returns False: nobody waits."""
    print(make_manual())
    return False


def make_manual() -> str:
    """The whole page, in the language of man."""
    parser = make_parser(Formatter)
    parser.epilog = None  # argparse-manpage would fill its lines
    page = Manpage(parser)
    page.manual = "User Commands"
    page.description = in_a_line(parser.description or "")
    for heading, text in [
        *((f"more about {command.name}", without_statuses(command)) for command in COMMANDS),
        ("examples and exit statuses", MAIN),
    ]:
        page.add_section(heading, ">", f".nf\n{page.mf.format_text(text)}\n.fi")
    return str(page)


def in_a_line(sentence: str) -> str:
    """As whatis shows it behind a program's name."""
    return f"{sentence[0].lower()}{sentence[1:].removesuffix('.')}"


def without_statuses(command: Command) -> str:
    """The help of a command, but for what is so of most of them."""
    return command.epilog.replace(STATUSES, "").rstrip()
