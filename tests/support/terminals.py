# SPDX-License-Identifier: GPL-2.0-or-later
"""Terminals, which pyte plays, for programs that draw on them."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import pyte
from netns import TIMEOUT

ROWS, COLUMNS = 8, 60
ON, OFF = b"\x1b[?1049h", b"\x1b[?1049l"  # an alternate screen, and back


class Terminal:
    """A terminal of 60 columns in which a program runs."""

    def __init__(self, *command: str) -> None:
        self._ours, self.its = pty.openpty()
        fcntl.ioctl(self.its, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        self.before = termios.tcgetattr(self.its)
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self.received = b""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=self.its,
            stdout=self.its,
            stderr=self.its,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "COLUMNS": str(COLUMNS),
                "LINES": str(ROWS),
            },
        )

    def press(self, key: bytes) -> None:
        os.write(self._ours, key)

    def wait_until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + TIMEOUT
        while not done():
            assert time.monotonic() < end, (self.text, self.received, self.process.poll())
            if select.select([self._ours], [], [], 0.01)[0]:
                data = os.read(self._ours, 65536)
                self.received += data
                self._stream.feed(data)

    def ends(self, status: int) -> None:
        """It ends with that status, and leaves the terminal as it was."""
        self.wait_until(lambda: self.process.poll() is not None)
        self.wait_until(lambda: OFF in self.received)
        assert self.process.returncode == status
        assert termios.tcgetattr(self.its) == self.before

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self.its)


@contextlib.contextmanager
def terminal(*command: str) -> Iterator[Terminal]:
    """A terminal for the length of the block."""
    with contextlib.closing(Terminal(*command)) as opened:
        yield opened
