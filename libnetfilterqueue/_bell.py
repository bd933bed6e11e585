# SPDX-License-Identifier: GPL-2.0-or-later
"""Wakes a thread that waits for descriptors."""

import contextlib
import os


class Bell:
    """A descriptor that is readable once somebody has rung. It is closed when nobody has it.

    Any thread and any signal handler may ring.
    """

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._descriptor

    def ring(self) -> None:
        os.eventfd_write(self._descriptor, 1)

    def hush(self) -> None:
        """Makes it silent until somebody rings again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)

    def __del__(self) -> None:
        os.close(self._descriptor)
