# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue completion`, by shtab."""

import argparse

import shtab

from libnetfilterqueue.cli._parser import make_parser


def run(options: argparse.Namespace) -> bool:
    """Prints the script; returns False: nobody waits."""
    parser = make_parser()
    complete_files(parser)
    print(shtab.complete(parser, options.shell))
    return False


def complete_files(parser: argparse.ArgumentParser) -> None:
    """Has shtab complete the names of files where an option takes one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                complete_files(command)
        elif action.metavar == "FILE":
            vars(action)["complete"] = shtab.FILE
