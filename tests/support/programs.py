# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples and the command line as programs of their own, in the test's network namespace."""

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

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
QUEUE = 7
# -P: the package is the installed one, also in a checkout's directory.
COMMAND = [sys.executable, "-P", "-W", "error", "-m", "libnetfilterqueue"]


class Program:
    """A command that runs, and what it has printed: `errors` are in `output` unless apart.

    `output` is a descriptor for its standard output to go to instead.
    """

    def __init__(
        self,
        directory: Path,
        command: Sequence[object],
        *,
        apart: bool = False,
        output: int | None = None,
    ) -> None:
        self._output = directory / "output"
        self._errors = directory / "errors"
        with self._output.open("w") as file, self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdout=file if output is None else output,
                stderr=errors if apart else subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                process_group=0,  # with the programs that it starts
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def wait_until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + TIMEOUT
        while not done():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.005)

    def wait_for(self, pattern: str, count: int = 1) -> None:
        """Waits until it has printed the pattern as often as that."""
        self.wait_until(lambda: len(re.findall(pattern, self.output)) >= count)

    def end(self, signum: signal.Signals, status: int = 0) -> None:
        """The signal ends it cleanly, with nothing printed that tells of a mistake."""
        self.process.send_signal(signum)
        self.ends(status)

    def ends(self, status: int = 0) -> None:
        """It ends cleanly, with nothing printed that tells of a mistake."""
        assert self.process.wait(TIMEOUT) == status, self.output + self.errors
        for word in ("Error", "Exception", "Traceback", "Warning"):
            assert word not in self.output + self.errors

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of it has ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(
    directory: Path, name: str, *arguments: object, under: Sequence[object] = ()
) -> Iterator[Program]:
    """An example runs on a queue for the length of the block, unless it has ended before.

    `under` is a command that runs the command which is appended to it.
    """
    command = [sys.executable, "-W", "always::ResourceWarning", EXAMPLES / name, QUEUE, *arguments]
    program = Program(directory, [*under, *command])
    try:
        yield program
    finally:
        program.kill()


@contextlib.contextmanager
def command_line(
    directory: Path, *arguments: object, output: int | None = None
) -> Iterator[Program]:
    """`libnetfilterqueue` runs for the length of the block, unless it has ended before."""
    program = Program(directory, [*COMMAND, *arguments], apart=True, output=output)
    try:
        yield program
    finally:
        program.kill()
