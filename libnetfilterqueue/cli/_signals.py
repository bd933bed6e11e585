# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes Ctrl-C and SIGTERM something that a program can wait for."""

import contextlib
import signal
import socket
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def awaitable_signals() -> Iterator[socket.socket]:
    """A socket to which Python writes the number of a signal, a byte, when one has come.

    The second one does what it did before: it ends a program that can't get to look. To be used in
    the main thread.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    with reader, writer:
        wakeup_fd = signal.set_wakeup_fd(writer.fileno())
        before = {signum: signal.getsignal(signum) for signum in SIGNALS}

        def restore(*_: object) -> None:
            for signum, handler in before.items():
                signal.signal(signum, handler)

        for signum in SIGNALS:
            signal.signal(signum, restore)
        try:
            yield reader
        finally:
            restore()
            signal.set_wakeup_fd(wakeup_fd)


def is_interrupt(signals: socket.socket) -> bool:
    """Whether the signal that has come is Ctrl-C's."""
    return signals.recv(1)[0] == signal.SIGINT
