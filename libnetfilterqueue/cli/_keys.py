# SPDX-License-Identifier: GPL-2.0-or-later
"""The keys of a terminal, one by one."""

import contextlib
import os
import sys
import termios
import tty
from collections.abc import Iterator


@contextlib.contextmanager
def pressed_keys() -> Iterator[list[int]]:
    """The descriptor to read keys from as they are pressed; none if standard input is no terminal.

    Ctrl-C is still a signal.
    """
    descriptor = sys.stdin.fileno() if sys.stdin is not None else -1
    if not os.isatty(descriptor):
        yield []
        return
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield [descriptor]
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
