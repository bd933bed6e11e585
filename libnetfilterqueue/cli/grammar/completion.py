# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of `completion`."""

import argparse

from libnetfilterqueue.cli.grammar._command import STATUSES, Command

EPILOG = f"""\
The shell that reads the script completes commands, options and their values.

examples, for one user:
  libnetfilterqueue completion bash \\
    >~/.local/share/bash-completion/completions/libnetfilterqueue
  libnetfilterqueue completion fish \\
    >~/.config/fish/completions/libnetfilterqueue.fish
  libnetfilterqueue completion zsh >~/.zfunc/_libnetfilterqueue
In zsh ~/.zfunc has to be in fpath before compinit is called.

{STATUSES}"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish"
    )


COMMAND = Command("completion", "print a script that completes commands", EPILOG, _add_options)
