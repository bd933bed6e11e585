# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that has been root, and is another user now: there has to be one."""

import re
import subprocess
import sys

from netns import TIMEOUT
from test_privileges import PRIVILEGED

NOBODY = 65534


def test_setuid() -> None:
    """After setuid a program still receives, but its verdicts are refused and reported."""
    done = subprocess.run(
        [sys.executable, PRIVILEGED, "setuid", str(NOBODY)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
    )
    assert re.fullmatch(
        r"\[b'1'\] 1 \['.* packet 2 of queue 1: .*CAP_NET_ADMIN.*'\]\n", done.stdout
    )
