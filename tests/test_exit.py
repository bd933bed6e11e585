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
from netns import TIMEOUT, abruptly, private_namespace
from queues import ROUNDS

PROGRAM = str(Path(__file__).parent / "support" / "exiting.py")
PROGRAMS = 2  # at a time


def start(way: str, rounds: int) -> "subprocess.Popen[str]":
    """Starts the program in a namespace of its own."""
    # From 3.12 on Python warns of fork beside threads, and a debug build of what is left open.
    python = [sys.executable, "-W", "ignore::DeprecationWarning", "-W", "ignore::ResourceWarning"]
    command = [*abruptly(), *python, PROGRAM, way, str(rounds)]
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    with private_namespace():
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


@pytest.mark.parametrize("way", WAYS)
def test_exit(way: str) -> None:
    """Children end in this way, one after the other, as they should, and print nothing."""
    programs = [start(way, ROUNDS // PROGRAMS) for _ in range(PROGRAMS)]
    for program in programs:
        output, _ = program.communicate(timeout=4 * TIMEOUT)
        assert (program.returncode, output) == (0, "")
