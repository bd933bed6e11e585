# SPDX-License-Identifier: GPL-2.0-or-later
"""`libnetfilterqueue keep`: keeps a program's descriptors, and starts it again when it ends."""

import argparse
import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NoReturn

from libnetfilterqueue.cli._signals import heard_signals
from libnetfilterqueue.keeping._keeper import Keeper

FIRST = 3  # SD_LISTEN_FDS_START
ROOM = 1000  # descriptors that can be kept: it only has to be more than a program has
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)  # the program is not started again
OF_TERMINAL = (signal.SIGINT, signal.SIGQUIT)  # come to the program by themselves
REPLACING = signal.SIGHUP
HANDLED = (
    *ENDING,
    REPLACING,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGALRM,
    signal.SIGCHLD,
)
PASSED = {"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"}  # to keep itself
BACKOFF_MOST = 60.0  # seconds between two starts
STEADY = 10.0  # seconds after which a program counts as one that runs
NOT_STARTED = 127  # what shells say of a program that is not there


def exit_status(status: int) -> int:
    """The exit status that a shell has for a wait status."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def pass_on(keeper: Keeper) -> dict[str, str]:
    """In the child: puts the descriptors where the program looks for them; its environment."""
    names = [stored.name for stored in keeper.stored]
    beyond = FIRST + len(names)
    copies = [fcntl.fcntl(stored.descriptor, fcntl.F_DUPFD, beyond) for stored in keeper.stored]
    for at, copy in enumerate(copies):
        os.dup2(copy, FIRST + at)
        os.close(copy)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in PASSED},
        "NOTIFY_SOCKET": keeper.address,
        "FDSTORE": str(ROOM),
        "SYSTEMD_EXEC_PID": str(os.getpid()),
    }
    if names:
        environment["LISTEN_PID"] = str(os.getpid())
        environment["LISTEN_FDS"] = str(len(names))
        environment["LISTEN_FDNAMES"] = ":".join(names)
    return environment


def become(command: Sequence[str], keeper: Keeper, failed: int) -> None:
    """In the child: becomes the program, or says why not, and ends."""
    try:
        for signum in (*HANDLED, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores the last two
            signal.signal(signum, signal.SIG_DFL)
        failed = fcntl.fcntl(failed, fcntl.F_DUPFD_CLOEXEC, FIRST + len(keeper.stored))
        os.execvpe(command[0], list(command), pass_on(keeper))
    except OSError as error:
        os.write(failed, str(error.errno).encode())
    finally:
        os._exit(1)


def start(command: Sequence[str], keeper: Keeper) -> int:
    """Starts the program and returns its process id. Raises OSError if there is no such program."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        become(command, keeper, writing)
    os.close(writing)
    with open(reading, "rb") as answer:
        failure = answer.read()
    if failure:
        os.waitpid(pid, 0)
        raise OSError(int(failure), os.strerror(int(failure)), command[0])
    return pid


class Program:
    """The program that is kept running."""

    def __init__(self, options: argparse.Namespace, keeper: Keeper, signals: socket.socket) -> None:
        self._options = options
        self._keeper = keeper
        self._signals = signals
        self._pid = 0
        self._status = 0  # how it ended, as a shell has it
        self._hurried = 0  # how often in a row it ended soon
        self._ending = False
        self._replacing = False

    def run(self) -> int:
        """Runs it until it is to end, and returns its exit status."""
        self._pid = start(self._options.program, self._keeper)
        while True:
            started = time.monotonic()
            self._attend(lambda: self._pid == 0, None)
            if not self._is_wanted():
                return self._status
            self._hurried = self._hurried + 1 if time.monotonic() - started < STEADY else 0
            self._pause()
            if self._ending:
                return self._status
            self._start_again()

    def _is_wanted(self) -> bool:
        """Whether it is to be started again."""
        restart = self._options.restart
        wanted = restart == "always" or (restart == "on-failure" and self._status != 0)
        return not self._ending and (self._replacing or wanted)

    def _pause(self) -> None:
        """Waits longer and longer if it ends soon again and again."""
        if not self._replacing and self._hurried:
            seconds = self._options.backoff * 2.0 ** min(self._hurried - 1, 16)
            self._attend(lambda: self._ending or self._replacing, min(seconds, BACKOFF_MOST))
        self._replacing = False

    def _start_again(self) -> None:
        """A program that is not there now may come back: it is being installed."""
        try:
            self._pid = start(self._options.program, self._keeper)
        except OSError as error:
            print(f"libnetfilterqueue keep: {error.filename}: {error.strerror}", file=sys.stderr)
            self._status = NOT_STARTED

    def _attend(self, done: Callable[[], bool], seconds: float | None) -> None:
        """Hears the program and signals, until something is so, or for that long."""
        end = None if seconds is None else time.monotonic() + seconds
        while not done():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            ready, _, _ = select.select(
                [self._keeper.fileno(), self._signals.fileno()], [], [], left
            )
            if self._keeper.fileno() in ready:
                self._keeper.listen()
            if self._signals.fileno() in ready:
                for signum in self._signals.recv(64):
                    self._take(signal.Signals(signum))

    def _take(self, signum: signal.Signals) -> None:
        """A signal has come."""
        if signum == signal.SIGCHLD:
            self._reap()
            return
        self._ending |= signum in ENDING
        self._replacing |= signum == REPLACING
        if self._pid and not (signum in OF_TERMINAL and is_foreground()):
            os.kill(self._pid, signal.SIGTERM if signum == REPLACING else signum)

    def _reap(self) -> None:
        """Children have ended. As the first process of a container we have others' too."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._pid:
                    self._keeper.listen()  # what it has sent before it ended
                    self._status = exit_status(ended[1])
                    self._pid = 0


def is_foreground() -> bool:
    """Whether Ctrl-C at the terminal reaches the program too."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def run(options: argparse.Namespace) -> NoReturn:
    """Runs it; exits with the program's status."""
    with closing(Keeper()) as keeper, heard_signals(HANDLED) as signals:
        status = Program(options, keeper, signals).run()
    sys.exit(status)
