# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes signals something that a program can wait for."""

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def _written(
    signals: Sequence[signal.Signals],
) -> Iterator[tuple[socket.socket, Callable[..., None]]]:
    """A socket to which Python writes the number of a signal, a byte, when one has come.

    With it comes a function that has the signals do what they did before. To be used in the main
    thread.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    with reader, writer:
        wakeup_fd = signal.set_wakeup_fd(writer.fileno())
        before = {signum: signal.getsignal(signum) for signum in signals}

        def restore(*_: object) -> None:
            for signum, handler in before.items():
                signal.signal(signum, handler)

        try:
            yield reader, restore
        finally:
            restore()
            signal.set_wakeup_fd(wakeup_fd)


@contextlib.contextmanager
def awaitable_signals() -> Iterator[socket.socket]:
    """The socket for Ctrl-C and SIGTERM.

    The second one does what it did before: it ends a program that can't get to look.
    """
    with _written(SIGNALS) as (reader, restore):
        for signum in SIGNALS:
            signal.signal(signum, restore)
        yield reader


@contextlib.contextmanager
def heard_signals(signals: Sequence[signal.Signals]) -> Iterator[socket.socket]:
    """The socket for these signals, however often they come."""
    with _written(signals) as (reader, _):
        for signum in signals:
            signal.signal(signum, lambda *_: None)
        yield reader


def is_interrupt(signals: socket.socket) -> bool:
    """Whether the signal that has come is Ctrl-C's."""
    return signals.recv(1)[0] == signal.SIGINT
