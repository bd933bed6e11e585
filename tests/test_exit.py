# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that end, orderly or not, and children of fork, while packets wait: no crash, no word.

What was bound is free afterwards, and the kernel has dropped what waited; a parent's queue is as it
was. The ways are those of exiting.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from exiting import WAYS
from queues import ROUNDS

PROGRAM = Path(__file__).with_name("exiting.py")


@pytest.mark.parametrize("way", WAYS)
def test_exit(way: str) -> None:
    """Children end in this way, one after the other, as they should, and print nothing."""
    done = subprocess.run(
        # From 3.12 on Python warns of fork beside threads.
        [sys.executable, "-W", "ignore::DeprecationWarning", PROGRAM, way, str(ROUNDS)],
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
