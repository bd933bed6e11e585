# SPDX-License-Identifier: GPL-2.0-or-later
"""What the soaks share: processes beside their own, and how they end."""

import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec, Self

SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
FLAT = 1 << 20  # bytes that a process may grow by

P = ParamSpec("P")


def enlarge(sock: socket.socket, option: int, forced: int) -> None:
    """Gives a socket a large buffer, as far as the system allows."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, 1 << 28)
    except PermissionError:  # not in a user namespace
        sock.setsockopt(socket.SOL_SOCKET, option, 1 << 28)


class Beside:
    """A child process that calls a function, for no longer than the block lasts."""

    def __init__(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                function(*args, **kwargs)
                status = 0
            except BaseException:  # noqa: BLE001 (the child's end)
                traceback.print_exc(file=sys.stderr)
            finally:
                os._exit(status)

    def ended(self, options: int = os.WNOHANG) -> bool:
        """Whether it has ended."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, options)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status is not None

    def wait(self) -> int:
        """Waits for its end; its exit status, or a signal's number, negative."""
        self.ended(0)
        assert self._status is not None
        return self._status

    def kill(self, signum: int) -> None:
        """Sends it a signal, if it has not ended."""
        if not self.ended():
            os.kill(self.pid, signum)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None:
            self.kill(9)
            self.wait()
        elif self.wait() != 0:
            raise RuntimeError("a process of the soak has failed")


def finish(wrong: list[str]) -> None:
    """Says how it went; exits with 1 if anything was wrong."""
    if wrong:
        sys.exit("soak failed: " + ", ".join(wrong))
    print("soak passed")
