# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/bridge.md: what a bridge passes on is filtered, by br_netfilter."""

import signal
from pathlib import Path

from bridge import filtered, neighbours
from netns import sysctl
from recipes import recipe


def test_br_netfilter(tmp_path: Path) -> None:
    """A bridge passes on what is allowed, by the rules for IP."""
    with neighbours() as (left, right):
        sysctl("bridge/bridge-nf-call-iptables", 1)
        with recipe("bridge", tmp_path, "bridge_filter.py", "bridge.v4") as program:
            filtered(program, left, right, "IP")
            program.end(signal.SIGTERM)
