# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals that come while the main thread waits, or between any two lines that it executes."""

import contextlib
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def soon(act: Callable[[], object]) -> Iterator[None]:
    """A signal comes once the block waits, and its handler, signal.signal's, does something."""
    before = signal.signal(signal.SIGUSR1, lambda *_: act())
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGUSR1)).start()
    yield
    signal.signal(signal.SIGUSR1, before)


def interrupted(line: int, call: Callable[[], object], act: Callable[[], object]) -> bool:
    """Calls something. A signal comes before so many lines of it, and its handler does something.

    Returns whether there were so many.
    """
    lines = itertools.count()
    came = False

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal came
        if event == "line" and next(lines) == line:
            sys.settrace(None)
            came = True
            signal.raise_signal(signal.SIGUSR1)
        return trace

    before = signal.signal(signal.SIGUSR1, lambda *_: act())
    tracing = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(tracing)
        signal.signal(signal.SIGUSR1, before)
    return came
