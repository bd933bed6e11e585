# SPDX-License-Identifier: GPL-2.0-or-later
"""The exception of the subcommands."""


class CommandError(Exception):
    """A subcommand can't go on; its message is for the user."""
