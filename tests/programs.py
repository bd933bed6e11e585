# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples as programs of their own, in the network namespace of the test."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from netns import TIMEOUT

EXAMPLES = Path(__file__).parent.parent / "examples"
QUEUE = 7


class Program:
    """An example that runs on a queue, and what it has printed."""

    def __init__(
        self, directory: Path, name: str, *arguments: object, under: Sequence[object] = ()
    ) -> None:
        self._output = directory / "output"
        command = [sys.executable, "-W", "always::ResourceWarning", EXAMPLES / name, QUEUE]
        with self._output.open("w") as file:
            self.process = subprocess.Popen(
                [str(word) for word in (*under, *command, *arguments)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + TIMEOUT
        while not done():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.005)

    def wait_for(self, pattern: str, count: int = 1) -> None:
        """Waits until it has printed the pattern as often as that."""
        self.wait_until(lambda: len(re.findall(pattern, self.output)) >= count)

    def end(self, signum: signal.Signals) -> None:
        """The signal ends it cleanly, with nothing printed that tells of a mistake."""
        self.process.send_signal(signum)
        assert self.process.wait(TIMEOUT) == 0, self.output
        for word in ("Error", "Exception", "Traceback", "Warning"):
            assert word not in self.output

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running(
    directory: Path, name: str, *arguments: object, under: Sequence[object] = ()
) -> Iterator[Program]:
    """The example runs for the length of the block, unless it has ended before.

    `under` is a command that runs the command which is appended to it.
    """
    program = Program(directory, name, *arguments, under=under)
    try:
        yield program
    finally:
        program.kill()
