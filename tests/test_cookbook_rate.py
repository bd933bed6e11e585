# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/rate-limit.md: packets pass later, in their order, and not faster than they may."""

import signal
import time
from pathlib import Path

from netns import UdpPair
from recipes import recipe

DELAY = 0.05
LENGTH = 1000
RATE = 100_000


def test_pace(tmp_path: Path) -> None:
    """Twenty datagrams take as long as their bytes have to, and one the delay."""
    with recipe("rate-limit", tmp_path, "rate_limit.py", "rate.v4") as program, UdpPair() as udp:
        datagrams = [number.to_bytes(LENGTH) for number in range(20)]
        begun = time.monotonic()
        udp.send(*datagrams)
        assert udp.recv() == datagrams[0]
        assert time.monotonic() - begun >= DELAY + LENGTH / RATE
        assert [udp.recv() for _ in datagrams[1:]] == datagrams[1:]
        assert time.monotonic() - begun >= DELAY + 20 * LENGTH / RATE
        program.end(signal.SIGTERM)
