# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/worker-processes.md: four processes share what the rules spread."""

import re
import signal
from pathlib import Path

from flows import FLOWS, send_flows, sender
from recipes import recipe


def test_share(tmp_path: Path) -> None:
    """All packets but the forbidden one pass, and each process has had some."""
    with recipe("worker-processes", tmp_path, "worker_processes.py", "workers.v4") as program:
        program.wait_for(r"Queue \d is bound", 4)
        with sender() as sock:
            sock.send(b"forbidden")
        send_flows(2)  # nothing else arrives
        program.end(signal.SIGTERM)
    shares = dict(re.findall(r"Queue (\d): (\d+) packets", program.output))
    assert sorted(shares) == ["0", "1", "2", "3"]
    assert all(map(int, shares.values()))
    assert sum(map(int, shares.values())) == 2 * len(FLOWS) + 1
