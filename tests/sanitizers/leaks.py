# SPDX-License-Identifier: GPL-2.0-or-later
"""Has LeakSanitizer look for no leaks where Python itself leaves some.

At its end it ends those threads that still run where they are, and they free nothing: whether that
is a leak depends on who is faster. The threads in which pytest's workers talk with it are waited
for. A child that was forked has locks of its own in place of its parent's, which nobody frees.
"""

import _thread
import atexit
import ctypes
import os
import sys


def expect_leaks() -> None:
    ctypes.c_int.in_dll(ctypes.PyDLL(None), "leaks_expected").value = 1


def expect_leaks_at_exit() -> None:
    if _thread._count() and "xdist.remote" not in sys.modules:
        expect_leaks()


atexit.register(expect_leaks_at_exit)  # the first one registered is the last one called
os.register_at_fork(after_in_child=expect_leaks)
