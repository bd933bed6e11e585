# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals that come while the main thread waits."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def soon(act: Callable[[], object]) -> Iterator[None]:
    """A signal comes once the block waits, and its handler, signal.signal's, does something."""
    before = signal.signal(signal.SIGUSR1, lambda *_: act())
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGUSR1)).start()
    yield
    signal.signal(signal.SIGUSR1, before)
