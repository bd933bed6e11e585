# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cookbook/worker-processes.md: four processes share what the rules spread."""

from pathlib import Path

import scenarios


def test_share(tmp_path: Path) -> None:
    """Each of the processes has a share of the packets."""
    scenarios.shared(tmp_path, "workers.v4")
