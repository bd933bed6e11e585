# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `manual`."""

from libnetfilterqueue.cli.grammar._command import STATUSES, Command

EPILOG = f"""\
It has the help of all commands. man shows it, and packages install it.

examples:
  libnetfilterqueue manual | man -l -
  libnetfilterqueue manual >~/.local/share/man/man1/libnetfilterqueue.1

{STATUSES}"""

COMMAND = Command("manual", "print the manual page", EPILOG)
